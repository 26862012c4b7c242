"""Every reason to reject a picture that can be found before a call is paid.

``preflight`` is total: any bytes give an Image or a Rejected, never an exception. The format is what the
content is, not what the file is called. A picture is really decoded, as far as that can fail: a service bills
a truncated one all the same.

Memory and time are bounded: dimensions and scans are counted before a pixel is decoded, JPEG is decoded at an
eighth of its size, and of the large pictures one is decoded at a time.
"""

import hashlib
import math
import re
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from io import BytesIO
from typing import TypeVar

from PIL import Image as Pillow
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from airflow_provider_jdocr.core.endpoints import Endpoint

_T = TypeVar("_T")

MAX_PIXELS = 40_000_000
"""A4 at 600 dpi has 35 million. More in a file of a few megabytes is a bomb, or of no use to a reader."""

MAX_SCANS = 50
"""A progressive JPEG has about ten. Each scan costs a walk over all pixels and may be 14 bytes long."""

_LARGE_PIXELS = 2_000_000
_large_decode = threading.Lock()


@dataclass(frozen=True, slots=True)
class Image:
    """A picture worth a call. Width and height are the file's, before any rotation that it asks for."""

    sha256: str
    content: bytes = field(repr=False)
    format: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """A picture that no call was spent on: a stable code, the rule it breaks and the way out."""

    sha256: str | None
    code: str
    message: str


class _RejectedError(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


def preflight(content: bytes, endpoint: Endpoint) -> Image | Rejected:
    """The picture if this endpoint can be expected to read it, or the reason why it is not sent."""
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        form = _accepted_format(content, endpoint)
        width, height = _decoded_size(content, form, endpoint)
    except _RejectedError as reason:
        return Rejected(sha256, reason.code, reason.message)
    return Image(sha256, content, form, width, height)


def greyscale(image: Image, *, most_pixels: int) -> Pillow.Image | None:
    """The accepted picture in grey, on white where it is transparent, shrunk to at most so many pixels; None
    where a decoder can make no grey of it.
    """
    shrink = math.sqrt(min(1.0, most_pixels / (image.width * image.height)))
    size = (max(1, int(image.width * shrink)), max(1, int(image.height * shrink)))
    try:
        with _turn_for(image.width * image.height):
            grey = _attempt(image.content, image.format, lambda: _grey(image, size))
    except _RejectedError:
        return None
    return grey if grey.width <= size[0] else grey.resize(size, Pillow.Resampling.BILINEAR)


def _grey(image: Image, size: tuple[int, int]) -> Pillow.Image:
    with _IMAGE_FILES[image.format](BytesIO(image.content)) as picture:
        picture.draft("L", size)
        picture.load()
        if picture.mode == "I;16":  # the upper halves; Pillow cuts what is above 255
            return Pillow.frombytes("L", picture.size, picture.tobytes()[1::2])
        if picture.has_transparency_data:
            return _on_white(picture)
        return picture if picture.mode == "L" else picture.convert("L")


def _on_white(picture: Pillow.Image) -> Pillow.Image:
    grey, opaque = picture.convert("RGBA").convert("LA").split()
    white = Pillow.new("L", picture.size, "white")
    white.paste(grey, mask=opaque)
    return white


def too_large(size: int, endpoint: Endpoint) -> Rejected | None:
    """Why a file of this many bytes need not even be read; None where it has to be."""
    if size < endpoint.max_bytes:
        return None
    return Rejected(
        None,
        "TOO_LARGE",
        f"The file has {size} bytes; {endpoint.name} wants fewer than {endpoint.max_bytes}. "
        "Scan it at 300 dpi or save it as JPEG.",
    )


def format_of(content: bytes) -> str | None:
    """``jpeg``, ``png`` or ``bmp`` by the first bytes; None for everything else."""
    if content.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    # Two letters are not enough: a text may begin with them.
    if content.startswith(b"BM") and int.from_bytes(content[14:18], "little") in _BMP_HEADERS:
        return "bmp"
    return None


_BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})

_IMAGE_FILES: dict[str, Callable[[BytesIO], ImageFile]] = {
    "jpeg": JpegImageFile,
    "png": PngImageFile,
    "bmp": BmpImageFile,
}

_EXPORT = "Export it again as JPEG or PNG."
_SCAN_AGAIN = "Scan or export it again."


def _accepted_format(content: bytes, endpoint: Endpoint) -> str:
    if not content:
        raise _RejectedError("EMPTY", f"The file has no bytes. {_SCAN_AGAIN}")
    form = format_of(content)
    accepted = ", ".join(sorted(endpoint.formats))
    if form not in endpoint.formats:
        raise _RejectedError(
            "FORMAT_NOT_ACCEPTED",
            f"The content is {form or _other_kind(content)}, whatever its name says; {endpoint.name} accepts "
            f"{accepted}. {_EXPORT}",
        )
    if rejected := too_large(len(content), endpoint):
        raise _RejectedError(rejected.code, rejected.message)
    return form


def _decoded_size(content: bytes, form: str, endpoint: Endpoint) -> tuple[int, int]:
    """Width and height of a picture that decodes from its first to its last pixel."""
    with _attempt(content, form, lambda: _IMAGE_FILES[form](BytesIO(content))) as picture:
        width, height = picture.size
    _check_size(width, height, endpoint)
    walk = _walk_jpeg(content) if form == "jpeg" else None
    if walk:
        _check_scans(walk.scans)
    deciding = _deciding(content, walk) if walk else content
    with _turn_for(width * height):
        _attempt(content, form, lambda: _decode(deciding, form))
    if not (walk.has_end if walk else _has_its_end(content, form)):
        raise _truncated(form)
    return width, height


def _turn_for(pixels: int) -> AbstractContextManager[object]:
    return _large_decode if pixels > _LARGE_PIXELS else nullcontext()


def _check_size(width: int, height: int, endpoint: Endpoint) -> None:
    if width * height > MAX_PIXELS:
        raise _RejectedError(
            "DECOMPRESSION_BOMB",
            f"The picture claims {width} x {height} pixels, more than {MAX_PIXELS} in all. "
            "Scan it at 300 dpi.",
        )
    if min(width, height) < endpoint.min_side_pixels:
        raise _RejectedError(
            "TOO_SMALL",
            f"The picture has {width} x {height} pixels; below {endpoint.min_side_pixels} on the shorter "
            "side no invoice can be read. Scan it at 300 dpi.",
        )


def _check_scans(scans: int) -> None:
    if scans > MAX_SCANS:
        raise _RejectedError(
            "DECOMPRESSION_BOMB",
            f"The JPEG is drawn in {scans} scans, more than {MAX_SCANS}. {_SCAN_AGAIN}",
        )


def _decode(content: bytes, form: str) -> None:
    if form == "png":
        # Reads every chunk and its checksum; a decoder of pixels alone overlooks both.
        with PngImageFile(BytesIO(content)) as chunks:
            chunks.verify()
    with _IMAGE_FILES[form](BytesIO(content)) as picture:
        if form == "jpeg":
            picture.draft("L", (max(1, picture.width // 8), max(1, picture.height // 8)))
        picture.load()


def _attempt(content: bytes, form: str, decode: Callable[[], _T]) -> _T:
    try:
        return decode()
    except Exception as error:  # a decoder fed with broken bytes raises whatever it likes
        if not _has_its_end(content, form):
            raise _truncated(form) from error
        raise _RejectedError(
            "UNDECODABLE", f"The content begins like {form} and cannot be decoded. {_SCAN_AGAIN}"
        ) from error


def _truncated(form: str) -> _RejectedError:
    return _RejectedError(
        "TRUNCATED", f"The {form} ends before its end: the file was cut. Copy or scan it again."
    )


_PNG_END = b"IEND\xaeB`\x82"


@dataclass(frozen=True, slots=True)
class _Walk:
    """The segments of a JPEG: how many scans it has, whether its end comes after them, and where the data of
    a scan begins that is baseline, the only one, and followed by the end; 0: of none.
    """

    scans: int
    has_end: bool
    only_scan_at: int


def _walk_jpeg(content: bytes) -> _Walk:
    """Segments are skipped by their lengths, as decoders do: anything may stand in a thumbnail."""
    scans, place, data_at = 0, 0, 0
    is_baseline, is_simple = False, True
    while marker := _MARKER.search(content, place):
        code, place = marker[1], marker.end()
        if code == _END:
            plain = is_baseline and is_simple and scans == 1
            return _Walk(scans, True, data_at if plain else 0)
        is_simple = is_simple and not scans
        if code == _SCAN:
            scans, data_at = scans + 1, place
        elif code not in _ALONE:
            is_baseline = is_baseline or code in _BASELINE
            place += int.from_bytes(content[place : place + 2], "big")
    return _Walk(scans, False, 0)


def _deciding(content: bytes, walk: _Walk) -> bytes:
    """As much of a JPEG as decides whether it can be decoded.

    Where the data of a scan is wrong, libjpeg makes the best of it; what it gives up over is tables and
    markers. So where one baseline scan runs to the end, it is enough to decode some of it: a tenth of the
    time for the same verdict.
    """
    cut = walk.only_scan_at + _DECIDING_BYTES
    if not walk.only_scan_at or cut >= len(content):
        return content
    return content[:cut] + b"\xff" + _END


# Those that begin a segment, stand alone, or are the end: no escaped FF of the data, no restart, no padding.
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
_END, _SCAN = b"\xd9", b"\xda"
_ALONE = frozenset({b"\x01", b"\xd8"})
_BASELINE = frozenset({b"\xc0", b"\xc1"})
_DECIDING_BYTES = 4096


def _has_its_end(content: bytes, form: str) -> bool:
    """Whether the end of the format is there. Pillow can be told to forgive a missing one; this cannot."""
    if form == "jpeg":
        return _walk_jpeg(content).has_end
    if form == "png":
        return content.find(_PNG_END, content.find(b"IDAT")) > 0
    return len(content) >= int.from_bytes(content[2:6], "little")


_KINDS_BY_START: tuple[tuple[bytes, str], ...] = (
    (b"%PDF-", "a PDF"),
    (b"II*\x00", "a TIFF"),
    (b"MM\x00*", "a TIFF"),
    (b"II+\x00", "a TIFF"),
    (b"GIF8", "a GIF"),
    (b"PK\x03\x04", "a ZIP archive (OFD is one)"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (b"8BPS", "a Photoshop file"),
    (b"<", "XML or HTML"),
)
_KINDS_BY_BRAND: dict[bytes, str] = {
    b"heic": "HEIC",
    b"heix": "HEIC",
    b"hevc": "HEIC",
    b"mif1": "HEIC",
    b"msf1": "HEIC",
    b"avif": "AVIF",
}


def _other_kind(content: bytes) -> str:
    """A name for what a file is instead, so that the author knows what to convert."""
    start = content[:1024].lstrip(b"\xef\xbb\xbf \t\r\n")
    for magic, kind in _KINDS_BY_START:
        if content.startswith(magic) or start.startswith(magic):
            return kind
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WebP"
    if content[4:8] == b"ftyp":
        return _KINDS_BY_BRAND.get(content[8:12], "a video or an unknown picture")
    return "text" if _looks_like_text(content[:1024]) else "of no known picture format"


def _looks_like_text(start: bytes) -> bool:
    # The last character may be cut.
    text = start.decode("utf-8", "ignore")
    return len(text.encode()) >= len(start) - 3 and all(c.isprintable() or c in "\t\r\n" for c in text)
