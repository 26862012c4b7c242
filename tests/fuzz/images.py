"""A file, whatever it is: worth a call or rejected, within bounds of memory and time; and the same at the
service that is asked to read it.

Declared: ``preflight`` gives an ``Image`` or a ``Rejected`` with a code of its table, and never accepts a
picture that was cut; ``read_codes`` gives the codes of whatever is accepted; ``open_picture`` gives a picture
or a reason; an engine gives a reading or raises ``Unreadable``.
"""

from __future__ import annotations

import base64
import hashlib
import io
import random
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, get_args

from PIL import Image as Pillow
from PIL import PngImagePlugin

from airflow_provider_jdocr.core.endpoints import ENDPOINTS, Endpoint
from airflow_provider_jdocr.core.preflight import MAX_PIXELS, Image, preflight
from airflow_provider_jdocr.core.qr import read_codes
from airflow_provider_jdocr.server.app import Engine
from airflow_provider_jdocr.server.pictures import ENCODINGS, Picture, Reason, open_picture
from airflow_provider_jdocr.server.recognise import OcrEngine, StubEngine, Unreadable
from tests.fuzz import mutate
from tests.fuzz.run import Breach, Outcome

CODES = frozenset(
    {
        *("EMPTY", "FORMAT_NOT_ACCEPTED", "TOO_LARGE", "DECOMPRESSION_BOMB", "TOO_SMALL", "TRUNCATED"),
        "UNDECODABLE",
    }
)
_PNG = b"\x89PNG\r\n\x1a\n"
_WORDS = (
    *(b"\xff\xd8", b"\xff\xd9", b"\xff\xda", b"\xff\xc0", b"\xff\xc2", b"\xff\xc4", b"\xff\xdb", b"\xff\xe1"),
    *(b"IHDR", b"IDAT", b"IEND\xaeB`\x82", b"PLTE", b"tRNS", b"zTXt", b"iCCP", b"eXIf", b"acTL", b"fdAT"),
    *(b"Exif\0\0", b"II*\0", b"MM\0*", b"MPF\0", b"BM", b"GIF89a", b"RIFF", b"%PDF-1.4", b"\0" * 64),
)
_SIZES = (0, 1, 2, 99, 100, 101, 255, 256, 6_000, 32_767, 65_500, 65_535, 2**24, 2**31 - 1, 2**31, 2**32 - 1)

Given = tuple[str, bytes, bool]
"""Endpoint, content, and whether the content is a sound picture that was cut."""


class Images:
    """Bytes of a file → worth a call or not."""

    name = "images"
    seconds = 20.0
    megabytes = 450

    def seeds(self) -> list[Given]:
        return [(endpoint, content, False) for content in _specimens() for endpoint in ENDPOINTS]

    def new(self, rng: random.Random, seeds: Sequence[Given]) -> Given:
        endpoint, content, _ = rng.choice(seeds)
        if rng.random() < 0.02:
            endpoint = rng.choice(tuple(ENDPOINTS))
        if rng.random() < 0.02:
            bomb = rng.choice(_BOMBS)
            return endpoint, bomb(rng), False
        if rng.random() < 0.1 and (end := _end_of_sound(content)):
            return endpoint, content[: rng.randrange(end)], True
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            content = _changed(rng, content)
        return endpoint, content, False

    def judge(self, given: Given) -> Outcome:
        name, content, cut = given
        endpoint = ENDPOINTS[name]
        found = preflight(content, endpoint)
        if isinstance(found, Image):
            _check_accepted(found, content, endpoint, cut=cut)
            codes = read_codes(found)
            return Outcome(f"accepted {found.format}", (_kind_of(found), len(codes)))
        if found.code not in CODES or "\0" in found.message or len(found.message) > 400:
            raise Breach(f"no rejection of the table: {found}")
        return Outcome(found.code, _without_numbers(found.message))


class Pictures(Images):
    """The same bytes as the body of a call → what the local service does with them, up to the OCR itself."""

    name = "pictures"
    seconds = 30.0
    megabytes = 1_500

    def __init__(self) -> None:
        self._engines = (StubEngine(), _Blind(readers=1, keep=0))

    def judge(self, given: Given) -> Outcome:
        name, content, _ = given
        # Drawn from the content, so that an input is judged the same whenever it is.
        encoding = ENCODINGS[zlib.crc32(content) % len(ENCODINGS)]
        text = base64.b64encode(content)
        bodies = {"base64": text, "data_uri": b"data:image/png;base64," + text}
        opened = open_picture(bodies.get(encoding, content), encoding, ENDPOINTS[name])
        if not isinstance(opened, Picture):
            if opened not in get_args(Reason):
                raise Breach(f"no reason of the table: {opened}")
            return Outcome(opened, encoding)
        if opened.content != content:
            raise Breach(f"as {encoding} the content is another")
        kinds = [_read(engine, opened) for engine in self._engines]
        return Outcome(" and ".join(kinds), (encoding, opened.format))


def _read(engine: Engine, opened: Picture) -> str:
    with _as_in_production():
        try:
            reading = engine.read(opened.content)
        except Unreadable:
            return f"{engine.name}: unreadable"
    if reading.width < 1 or reading.height < 1:
        raise Breach(f"a picture of {reading.width} x {reading.height}")
    return f"{engine.name}: {reading.type}"


class _Nothing:
    """What the OCR saw on a picture without a text."""

    boxes = None


class _Blind(OcrEngine):
    """The engine without its models: a picture is opened, turned and prepared, and nothing is seen on it."""

    @contextmanager
    def _reader(self) -> Iterator[Any]:
        yield lambda pixels: _Nothing()


@contextmanager
def _as_in_production() -> Iterator[None]:
    """Pillow warns of odd metadata; the service shows that in its log and goes on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _check_accepted(found: Image, content: bytes, endpoint: Endpoint, *, cut: bool) -> None:
    if cut:
        raise Breach("a picture that was cut is accepted")
    sound = (
        found.content is content
        and found.sha256 == hashlib.sha256(content).hexdigest()
        and found.format in endpoint.formats
        and len(content) < endpoint.max_bytes
        and found.width * found.height <= MAX_PIXELS
        and min(found.width, found.height) >= endpoint.min_side_pixels
    )
    if not sound:
        raise Breach(f"accepted against the endpoint's limits: {found}")


def _kind_of(found: Image) -> tuple[str, frozenset[str]]:
    """What makes one accepted picture different from another: its mode and what stands beside its pixels."""
    with _as_in_production(), Pillow.open(io.BytesIO(found.content)) as picture:
        return picture.mode, frozenset(map(str, list(picture.info)[:12]))


def _without_numbers(message: str) -> str:
    return "".join("#" if one.isdigit() else one for one in message)


# ── sound pictures of every kind ──


def _specimens() -> list[bytes]:
    """Small pictures in every mode and dress that comes to mind, those that no endpoint takes as well."""
    noise = Pillow.effect_noise((128, 104), 60)
    colour = Pillow.merge("RGB", (noise, noise.rotate(90, expand=False), noise.rotate(180)))
    exif = Pillow.Exif()
    exif[0x0112], exif[0x010E] = 6, "发票"
    info = PngImagePlugin.PngInfo()
    info.add_text("jdocr-truth", '{"type": "vat_roll_invoice", "fields": {"vat_invoice_haoma": "1"}}')
    info.add_itxt("comment", "票" * 50, zip=True)
    frames: dict[str, Any] = {"save_all": True, "append_images": [colour.rotate(10)]}
    made = [
        *(_saved(noise.convert(mode), "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
        _saved(colour, "PNG", pnginfo=info, exif=exif, dpi=(300, 300)),
        _saved(colour.quantize(4), "PNG", transparency=0),
        _saved(colour, "PNG", **frames),
        *(_saved(noise.convert(mode), "JPEG", quality=60) for mode in ("L", "RGB", "CMYK")),
        _saved(colour, "JPEG", progressive=True, exif=exif, icc_profile=b"\0" * 200),
        _saved(colour, "JPEG", restart_marker_rows=1, comment=b'jdocr-truth={"type":"other"}', subsampling=2),
        _saved(colour, "MPO", **frames),
        *(_saved(noise.convert(mode), "BMP") for mode in ("1", "L", "P", "RGB", "RGBA")),
        _upside_down(_saved(colour, "BMP")),
        *(_saved(colour, form) for form in ("TIFF", "WEBP", "GIF", "PDF", "ICO", "PPM", "JPEG2000", "TGA")),
        _saved(colour, "GIF", **frames),
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 64,
        b"PK\x03\x04" + b"\0" * 64,
        "发票在抽屉里".encode(),
    ]
    polyglots = [made[10] + made[4], made[4] + made[10], made[10][:-2] + b"%PDF-1.4" + made[4]]
    return [*made, *polyglots]


def _saved(picture: Pillow.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def _upside_down(bmp: bytes) -> bytes:
    """A BMP that is written from the top: its height is negative."""
    return bmp[:22] + struct.pack("<i", -struct.unpack("<i", bmp[22:26])[0]) + bmp[26:]


def _end_of_sound(content: bytes) -> int | None:
    """Where a sound PNG or JPEG ends, so that less of it is a cut one; None for what is not sound."""
    end = {_PNG: b"IEND\xaeB`\x82", b"\xff\xd8\xff": b"\xff\xd9"}.get(content[:8])
    end = end or (b"\xff\xd9" if content[:3] == b"\xff\xd8\xff" else None)
    if end is None or not content.endswith(end) or content.count(end) > 1:
        return None
    # The last byte of a JPEG's data may be padding, without which all pixels are there.
    try:
        with Pillow.open(io.BytesIO(content)) as picture:
            picture.load()
            return len(content) if getattr(picture, "n_frames", 1) == 1 else None
    except Exception:  # noqa: BLE001 - not sound then
        return None


# ── accidents ──


def _changed(rng: random.Random, content: bytes) -> bytes:
    structural = rng.random() < 0.6
    if structural and content.startswith(_PNG):
        return _changed_png(rng, content)
    if structural and content.startswith(b"\xff\xd8"):
        return _changed_jpeg(rng, content)
    if structural and content.startswith(b"BM"):
        return _changed_bmp(rng, content)
    if rng.random() < 0.02:
        return rng.choice((_PNG, b"\xff\xd8\xff", b"BM")) + mutate.some_bytes(rng, 2_000)
    return mutate.mutated_bytes(rng, content, _WORDS)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at + 8 <= len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        found.append((png[at + 4 : at + 8], png[at + 8 : at + 8 + size]))
        at += 12 + size
    return found


def _changed_png(rng: random.Random, png: bytes) -> bytes:
    """One chunk changed, with its checksum put right, so that the decoder sees it."""
    chunks = _chunks(png) or [(b"IHDR", b"")]
    at = rng.randrange(len(chunks))
    name, data = chunks[at]
    match rng.randrange(8):
        case 0 if chunks[0][0] == b"IHDR":
            header = bytearray(chunks[0][1].ljust(13, b"\0"))
            place = rng.choice((0, 4, 8, 9, 10, 11, 12))
            if place < 8:
                header[place : place + 4] = struct.pack(">I", rng.choice(_SIZES))
            else:
                header[place] = rng.randrange(20)
            chunks[0] = (b"IHDR", bytes(header))
        case 1 if name == b"IDAT":
            chunks[at] = (name, _repacked(rng, data))
        case 2:
            chunks.insert(at, rng.choice(chunks))
        case 3:
            del chunks[at]
        case 4:
            rng.shuffle(chunks)
        case 5:
            kind = rng.choice(
                (b"zTXt", b"iTXt", b"tEXt", b"iCCP", b"eXIf", b"PLTE", b"tRNS", b"acTL", b"fcTL", b"prIv")
            )
            packed = b"key\0\0" + zlib.compress(b"x" * rng.choice((10, 10_000, 2_000_000)))
            chunks.insert(
                rng.randint(1, len(chunks)), (kind, rng.choice((packed, mutate.some_bytes(rng, 300))))
            )
        case _:
            chunks[at] = (name, mutate.mutated_bytes(rng, data, _WORDS))
    return _PNG + b"".join(chunk(name, data) for name, data in chunks)


def _repacked(rng: random.Random, data: bytes) -> bytes:
    """The same packed pixels with an accident inside, or more or fewer of them."""
    try:
        plain = zlib.decompress(data)
    except zlib.error:
        return data
    return zlib.compress(mutate.mutated_bytes(rng, plain, _WORDS), rng.choice((0, 1, 9)))


def _segments(jpeg: bytes) -> tuple[list[bytes], bytes]:
    """The segments before the first scan, and all from there on."""
    found, at = [], 2
    while jpeg[at : at + 1] == b"\xff" and jpeg[at + 1 : at + 2] != b"\xda" and at + 4 <= len(jpeg):
        size = 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        found.append(jpeg[at : at + size])
        at += size
    return found, jpeg[at:]


def _changed_jpeg(rng: random.Random, jpeg: bytes) -> bytes:
    segments, rest = _segments(jpeg)
    if not segments:
        return mutate.mutated_bytes(rng, jpeg, _WORDS)
    at = rng.randrange(len(segments))
    match rng.randrange(8):
        case 0 | 1:
            segments = [_resized(rng, one) if b"\xc0" <= one[1:2] <= b"\xc2" else one for one in segments]
        case 2:
            segments.insert(at, rng.choice(segments))
        case 3:
            del segments[at]
        case 4:
            rng.shuffle(segments)
        case 5:
            inside = mutate.mutated_bytes(rng, segments[at][4:], _WORDS)[:65_000]
            segments[at] = segments[at][:2] + (len(inside) + 2).to_bytes(2, "big") + inside
        case 6:
            kind = bytes([0xFF, rng.choice((0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE, 0xDD, 0xCC, 0xC4, 0xDB))])
            inside = rng.choice((b"Exif\0\0", b"MPF\0", b"ICC_PROFILE\0\x01\x02", b"")) + mutate.some_bytes(
                rng, 400
            )
            segments.insert(at, kind + (len(inside) + 2).to_bytes(2, "big") + inside)
        case _:
            rest = mutate.mutated_bytes(rng, rest, _WORDS)
    return b"\xff\xd8" + b"".join(segments) + rest


def _resized(rng: random.Random, frame: bytes) -> bytes:
    here = bytearray(frame)
    if rng.random() < 0.7:
        at = rng.choice((5, 7))
        here[at : at + 2] = (rng.choice(_SIZES) & 0xFFFF).to_bytes(2, "big")
    else:
        here[rng.randrange(4, len(here))] = rng.randrange(256)
    return bytes(here)


def _changed_bmp(rng: random.Random, bmp: bytes) -> bytes:
    at, width = rng.choice(
        ((2, 4), (10, 4), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2), (30, 4), (34, 4), (46, 4))
    )
    number = rng.choice((*_SIZES, *mutate.NUMBERS, 4, 8, 16, 24, 32, 12, 40, 56, 108, 124))
    number = -number if rng.random() < 0.2 else number
    return bmp[:at] + (number & ((1 << 8 * width) - 1)).to_bytes(width, "little") + bmp[at + width :]


# ── bombs: small files that want to be large pictures ──


def _white_png(rng: random.Random) -> bytes:
    """Grey rows of zeros: a few kilobytes for as many pixels as a picture may have, or for more."""
    width = rng.choice((100, 1_000, 6_000, 20_000))
    height = rng.choice((100, 1_000, 2_000, 6_600))
    bits, kind = rng.choice(((1, 0), (8, 0), (16, 0), (8, 2), (16, 2), (8, 6), (16, 6), (8, 3)))
    channels = {0: 1, 2: 3, 3: 1, 6: 4}[kind]
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, rng.choice((0, 0, 1)))
    rows = zlib.compress(bytes(min(height * (1 + width * channels * bits // 8), 60_000_000)), 1)
    palette = chunk(b"PLTE", b"\0" * 768) if kind == 3 else b""
    return _PNG + chunk(b"IHDR", header) + palette + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _many_chunks(rng: random.Random) -> bytes:
    png = _saved(Pillow.new("L", (100, 100)), "PNG")
    one = chunk(rng.choice((b"IDAT", b"tEXt", b"fcTL", b"prIv")), b"")
    return png[:33] + one * rng.choice((1_000, 50_000)) + png[33:]


def _many_texts(rng: random.Random) -> bytes:
    """Packed texts of a megabyte each, of a kilobyte in the file."""
    png = _saved(Pillow.new("L", (100, 100)), "PNG")
    one = chunk(b"zTXt", b"k\0\0" + zlib.compress(b"x" * 1_000_000, 9))
    return png[:33] + one * rng.choice((10, 60, 100, 1_000)) + png[33:]


def _many_scans(rng: random.Random) -> bytes:
    """A progressive JPEG whose last scan is repeated: each one goes over all pixels."""
    side = rng.choice((200, 1_000, 3_000))
    jpeg = _saved(Pillow.new("L", (side, side), 200), "JPEG", progressive=True)
    last = jpeg.rindex(b"\xff\xda")
    hidden = rng.choice((b"", b"\xff", b"\xff\xfe\x00\x04\xff\xd9", b"\xff\xfe\x00\x04\xff\xda", b"\xff\xd0"))
    return jpeg[:last] + (hidden + jpeg[last:-2]) * rng.choice((10, 100, 1_000)) + jpeg[-2:]


def _many_segments(rng: random.Random) -> bytes:
    jpeg = _saved(Pillow.new("L", (100, 100)), "JPEG")
    kind = rng.choice((0xFE, 0xE0, 0xE1, 0xED, 0xEF, 0xDB, 0xFF))
    return jpeg[:2] + bytes((0xFF, kind, 0, 2)) * rng.choice((1_000, 500_000)) + jpeg[2:]


def _claims_a_lot(rng: random.Random) -> bytes:
    """A header of any size before a few bytes of picture."""
    width, height = rng.choice(_SIZES), rng.choice(_SIZES)
    header = struct.pack(">IIBBBBB", width, height, 8, rng.choice((0, 2, 6)), 0, 0, 0)
    png = _PNG + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    bmp = (
        b"BM"
        + struct.pack(
            "<IIIIiiHHIIIIII",
            200,
            0,
            54,
            40,
            width & 0x7FFFFFFF,
            -(height & 0x7FFFFFFF),
            1,
            rng.choice((1, 4, 8, 16, 24, 32)),
            rng.choice((0, 1, 2, 3)),
            0,
            0,
            0,
            0,
            0,
        )
        + bytes(146)
    )
    return rng.choice((png, bmp))


_BOMBS: tuple[Callable[[random.Random], bytes], ...] = (
    _white_png,
    _many_chunks,
    _many_texts,
    _many_scans,
    _many_segments,
    _claims_a_lot,
    _claims_a_lot,
    _claims_a_lot,
)
