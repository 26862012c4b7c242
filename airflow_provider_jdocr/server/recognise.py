"""Engines that answer what is on a picture: one that reads it, one that only knows it.

Both have `name` and `read(picture) -> Reading`, may be called from several threads, and raise
`Unreadable` for bytes that are no picture. `OcrEngine` reads with rapidocr, whose models come inside its
wheel, and the rules of `layout`; it never corrects a value. `StubEngine` answers the truth that a drawn
specimen carries in its metadata.
"""

import hashlib
import io
import json
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from airflow_provider_jdocr.server.layout import read_layout
from airflow_provider_jdocr.server.page import anchors
from airflow_provider_jdocr.server.words import ReadField, Word, upright

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

__all__ = ["OcrEngine", "ReadField", "Reading", "StubEngine", "Unreadable"]

MOST_PIXELS = 60_000_000
# The longer side, in pixels, of what text is looked for on: smaller is enlarged, larger only costs time.
LEAST_SIDE, MOST_SIDE = 1120, 1280
TRUTH_KEY = "jdocr-truth"


class Unreadable(Exception):  # noqa: N818 - said of the picture, as the service says it
    """The bytes are no picture that can be decoded."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What an engine saw; a type of "other" means that no invoice was found.

    Positions are in the upright picture, `width` by `height`, after turning it clockwise by `angle` degrees.
    """

    type: str
    fields: tuple[ReadField, ...]
    width: int
    height: int
    angle: int
    engine: str


class OcrEngine:
    """Reads as many pictures at a time as it has readers; further calls wait.

    A reader keeps one core busy and holds about half a gigabyte. Two readers on a core each get more done
    than one on both, above all beside other processes. Models are loaded when a reader is first needed, or
    by `warm`. Readings are kept where that is wanted, by the bytes of the picture.
    """

    name = "ocr"

    def __init__(self, readers: int = 1, keep: int = 0) -> None:
        """`keep` is how many readings are kept."""
        self._readers = readers
        # The last one back is the first to go out again, so that no more are loaded than are busy at once.
        self._idle: queue.LifoQueue[Any] = queue.LifoQueue()
        for _ in range(self._readers):
            self._idle.put(None)
        self._lock = threading.Lock()
        self._keep = keep
        self._kept: dict[str, Reading] = {}

    def warm(self) -> None:
        """Loads every reader and runs it once, so that no picture waits for it."""
        blank = np.full((320, 480, 3), 255, dtype=np.uint8)
        with ExitStack() as stack:
            for reader in [stack.enter_context(self._reader()) for _ in range(self._readers)]:
                reader(blank)

    def read(self, picture: bytes) -> Reading:
        digest = hashlib.sha256(picture).hexdigest()
        reading = self._kept.get(digest) or self._read(picture)
        with self._lock:
            self._kept[digest] = reading
            while len(self._kept) > self._keep:
                del self._kept[next(iter(self._kept))]
        return reading

    def _read(self, picture: bytes) -> Reading:
        angle, pixels, words = self._upright(_pixels(_opened(picture)))
        height, width = pixels.shape[:2]
        kind, fields = read_layout(words, width, height)
        if kind != "other":
            fields = (*fields, _stamp(pixels, words), *_qr_code(pixels))
        return Reading(kind, fields, width, height, angle, self.name)

    @contextmanager
    def _reader(self) -> Iterator[Any]:
        reader = self._idle.get()
        try:
            reader = reader or _loaded()
            yield reader
        finally:
            self._idle.put(reader)

    def _words(self, pixels: "Pixels") -> list[Word]:
        seen, scale = self._seen(pixels)
        if seen.boxes is None:
            return []
        boxes = [tuple(float(value) / scale for point in box for value in point) for box in seen.boxes]
        red = _pressed(pixels, boxes)
        return upright(zip(seen.txts, (float(score) for score in seen.scores), boxes, red, strict=True))

    def _seen(self, pixels: "Pixels") -> tuple[Any, float]:
        """What the OCR saw, and by how much the picture was enlarged for it."""
        import cv2

        scale = max(1.0, LEAST_SIDE / max(pixels.shape[:2]))
        if scale > 1:
            pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC).astype(
                np.uint8
            )
        with self._reader() as reader:
            return reader(pixels), scale

    def _upright(self, pixels: "Pixels") -> tuple[int, "Pixels", list[Word]]:
        """The picture as it came, or turned if only then an invoice is seen. An upright one is read once."""
        words = self._words(pixels)
        best = (0, pixels, words)
        if anchors(words) >= 3 or not words:
            return best
        tall = sum(word.height > 1.5 * (word.right - word.left) for word in words) > len(words) / 2
        for angle in (90, 270) if tall else (180,):
            turned = np.ascontiguousarray(np.rot90(pixels, -angle // 90))
            words = self._words(turned)
            if anchors(words) >= 3:
                return angle, turned, words
        return best


def _loaded() -> Any:
    # Imported late: the stub and the command line's help need no models.
    from rapidocr import RapidOCR

    return RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.use_cls": False,
            # Short words need not be padded as far as the default does: a fifth less work.
            "Rec.rec_img_shape": [3, 48, 160],
            "Rec.rec_batch_num": 3,
            # Text is looked for on a smaller copy, a third less work; it is read from the picture itself.
            "Det.limit_type": "max",
            "Det.limit_side_len": MOST_SIDE,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )


def _opened(picture: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(picture))
        if image.width * image.height > MOST_PIXELS:
            raise Unreadable(f"{image.width} x {image.height} pixels are more than this engine reads")
        image.load()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Unreadable("the bytes cannot be decoded as a picture") from error
    return image


def _pixels(image: Image.Image) -> "Pixels":
    """Blue, green, red, as rapidocr expects; what is transparent becomes white paper."""
    image = _as_held(image)
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        image = Image.new("RGBA", clear.size, "white")
        image.alpha_composite(clear)
    return np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])


def _as_held(image: Image.Image) -> Image.Image:
    """Turned as its EXIF data say; where those are broken, as it lies."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001  the reader of EXIF raises whatever it likes, and the pixels are sound
        return image


# --- seals and codes: what the colour and the pattern tell ---


def _red(pixels: "Pixels") -> "NDArray[np.bool_]":
    """Where the ink of a seal is: red, and neither brown nor orange as the labels are."""
    blue, green, red = (pixels[:, :, channel].astype(np.int16) for channel in range(3))
    low, high = np.minimum(blue, green), np.maximum(blue, green)
    return (red - high > 50) & ((high - low) * 10 < (red - low) * 3)


def _pressed(pixels: "Pixels", boxes: Sequence[Sequence[float]]) -> list[bool]:
    """For each box whether its text belongs to a seal. A form printed in red has no such text."""
    red, ink = _red(pixels), pixels.min(axis=2) < 170
    flags = [_mostly_red(red, ink, box) for box in boxes]
    return flags if sum(flags) * 4 < len(flags) else [False] * len(flags)


def _mostly_red(red: "NDArray[np.bool_]", ink: "NDArray[np.bool_]", box: Sequence[float]) -> bool:
    xs, ys = [int(x) for x in box[0::2]], [int(y) for y in box[1::2]]
    area = slice(max(min(ys), 0), max(ys) + 1), slice(max(min(xs), 0), max(xs) + 1)
    inked = int(ink[area].sum())
    return inked > 0 and int((red[area] & ink[area]).sum()) > 0.6 * inked


def _stamp(pixels: "Pixels", words: Iterable[Word]) -> ReadField:
    """Whether the seller's seal is there: a red ring in the lower half, or its words where all is grey."""
    height, width = pixels.shape[:2]
    for left, top, wide, high in _red_blobs(pixels):
        if 0.07 < wide / width < 0.35 and 0.05 < high / height < 0.4 and top + high / 2 > 0.55 * height:
            right, bottom = left + wide, top + high
            return ReadField("exist_stample", "1", 0.9, (left, top, right, top, right, bottom, left, bottom))
    for word in words:
        if "专用章" in word.plain and word.y > height / 2:
            return ReadField("exist_stample", "1", word.score, tuple(round(value) for value in word.corners))
    return ReadField("exist_stample", "0", 0.5, ())


def _red_blobs(pixels: "Pixels", step: int = 4) -> list[tuple[int, int, int, int]]:
    """Left, top, width and height of each connected piece of red, on a coarse grid."""
    import cv2

    red = _red(pixels)
    rows, columns = red.shape[0] // step, red.shape[1] // step
    coarse = red[: rows * step, : columns * step].reshape(rows, step, columns, step).any(axis=(1, 3))
    thick = cv2.dilate(np.asarray(coarse, dtype=np.uint8), np.ones((3, 3), dtype=np.uint8))
    _, _, stats, _ = cv2.connectedComponentsWithStats(thick)
    return [(int(x) * step, int(y) * step, int(w) * step, int(h) * step) for x, y, w, h, _ in stats[1:]]


def _qr_code(pixels: "Pixels") -> list[ReadField]:
    """The code at the top left, when OpenCV's decoder gets it: it misses many."""
    import cv2

    height, width = pixels.shape[:2]
    corner = np.ascontiguousarray(pixels[: height // 3, : width // 3])
    try:
        text, points, _ = cv2.QRCodeDetector().detectAndDecode(corner)
    except (cv2.error, UnicodeDecodeError):
        return []
    if not text or points is None:
        return []
    return [
        ReadField(
            "vat_invoice_qr_code", text, 1.0, tuple(round(float(value)) for value in points.reshape(-1))
        )
    ]


# --- the stub ---


class StubEngine:
    """Answers the truth that a drawn specimen carries; a picture without any is no invoice to it."""

    name = "stub"

    def read(self, picture: bytes) -> Reading:
        image = _header(picture)
        truth = _embedded(image)
        fields = tuple(ReadField(key, text, 1.0, ()) for key, text in truth.get("fields", {}).items())
        return Reading(truth.get("type", "other"), fields, image.width, image.height, 0, self.name)


def _header(picture: bytes) -> Image.Image:
    """The picture's metadata; the pixels are not decoded."""
    try:
        return Image.open(io.BytesIO(picture))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Unreadable("the bytes cannot be decoded as a picture") from error


def _embedded(image: Image.Image) -> dict[str, Any]:
    text = image.info.get(TRUTH_KEY)
    comment = image.info.get("comment", b"")
    if text is None and isinstance(comment, bytes) and comment.startswith(f"{TRUTH_KEY}=".encode()):
        text = comment.decode("utf-8", "replace").partition("=")[2]
    try:
        truth = json.loads(text) if isinstance(text, str) else {}
    except (ValueError, RecursionError):
        return {}
    return truth if _is_truth(truth) else {}


def _is_truth(value: Any) -> bool:
    """Whether it is a type and texts by key; whoever draws a picture may have written anything."""
    fields = value.get("fields", {}) if isinstance(value, dict) else None
    return (
        isinstance(fields, dict)
        and isinstance(value.get("type", ""), str)
        and all(isinstance(text, str) for text in fields.values())
    )
