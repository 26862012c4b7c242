"""Preflight rejects what no call should be paid for, and accepts nothing that does not decode to its end."""

import hashlib
import io
import random
import struct
import time
import tracemalloc
import zlib
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from PIL import ImageFile

from airflow_provider_jdocr.core.endpoints import ENDPOINTS, Endpoint
from airflow_provider_jdocr.core.preflight import MAX_PIXELS, Image, Rejected, format_of, preflight

_OCR = ENDPOINTS["ocr_invoice"]
_INTSIG = ENDPOINTS["intsig_invoice"]


def _picture(form: str, size: tuple[int, int] = (320, 200), mode: str = "RGB", **options: Any) -> bytes:
    """A picture with something in it, so that a cut takes pixels away."""
    drawn = Pillow.effect_noise(size, 80).convert(mode)
    out = io.BytesIO()
    drawn.save(out, form, **options)
    return out.getvalue()


_JPEG = _picture("JPEG", quality=60)
_PROGRESSIVE = _picture("JPEG", quality=60, progressive=True)
_PNG = _picture("PNG")
_BMP = _picture("BMP")


def _rejected(content: bytes, endpoint: Endpoint = _OCR) -> Rejected:
    found = preflight(content, endpoint)
    assert isinstance(found, Rejected), found
    return found


def _png_of(width: int, height: int, rows: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows, 9))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("content", "form"),
    [
        pytest.param(_JPEG, "jpeg", id="jpeg-with-jfif-header"),
        pytest.param(_PROGRESSIVE, "jpeg", id="progressive"),
        pytest.param(_picture("JPEG", mode="L"), "jpeg", id="grey"),
        pytest.param(_picture("JPEG", mode="CMYK"), "jpeg", id="cmyk"),
        pytest.param(_PNG, "png", id="png"),
        pytest.param(_picture("PNG", mode="RGBA"), "png", id="png-with-alpha"),
        pytest.param(_picture("PNG", mode="1"), "png", id="png-of-one-bit"),
        pytest.param(_BMP, "bmp", id="bmp"),
        pytest.param(_JPEG + b"MotionPhoto\xff\xda" + b"\0" * 512, "jpeg", id="jpeg-with-more-behind-it"),
    ],
)
def test_a_sound_picture_passes_with_its_size_and_the_hash_of_its_file(content: bytes, form: str) -> None:
    found = preflight(content, _INTSIG)
    assert found == Image(hashlib.sha256(content).hexdigest(), content, form, 320, 200)


def test_a_picture_does_not_show_its_bytes() -> None:
    assert "content" not in repr(preflight(_JPEG, _OCR))


def test_an_empty_file_is_rejected() -> None:
    assert _rejected(b"").code == "EMPTY"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "a PDF"),
        (b"\n\n%PDF-1.4", "a PDF"),
        (_picture("TIFF"), "a TIFF"),
        (b"MM\x00*\x00\x00\x00\x08", "a TIFF"),
        (_picture("GIF", mode="L"), "a GIF"),
        (_picture("WEBP"), "WebP"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00", "HEIC"),
        (b"\x00\x00\x00\x18ftypavif\x00\x00\x00\x00", "AVIF"),
        (b"\x00\x00\x00\x18ftypisom\x00\x00\x00\x00", "a video or an unknown picture"),
        (b"PK\x03\x04\x14\x00", "a ZIP archive (OFD is one)"),
        (b"<?xml version='1.0'?>", "XML or HTML"),
        ("发票 invoice.jpg\n".encode(), "text"),
        (b"BMW is a maker of cars and no picture.", "text"),
        (b"\x00\x01\x02\x03\xff\xfe", "of no known picture format"),
    ],
)
def test_another_format_is_named_with_what_is_accepted_and_the_way_out(content: bytes, kind: str) -> None:
    found = _rejected(content)
    assert found.code == "FORMAT_NOT_ACCEPTED"
    assert f"is {kind}," in found.message
    assert "jpeg, png" in found.message
    assert "Export it again" in found.message


def test_what_one_endpoint_accepts_another_may_refuse() -> None:
    assert isinstance(preflight(_BMP, _INTSIG), Image)
    found = _rejected(_BMP, _OCR)
    assert found.code == "FORMAT_NOT_ACCEPTED"
    assert "bmp" in found.message


@pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=lambda endpoint: endpoint.name)
def test_a_file_must_have_fewer_bytes_than_the_limit(endpoint: Endpoint) -> None:
    exact = replace(endpoint, max_bytes=len(_JPEG))
    assert _rejected(_JPEG, exact).code == "TOO_LARGE"
    assert str(len(_JPEG)) in _rejected(_JPEG, exact).message
    assert isinstance(preflight(_JPEG, replace(endpoint, max_bytes=len(_JPEG) + 1)), Image)


@pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=lambda endpoint: endpoint.name)
def test_the_shorter_side_must_have_the_least_pixels(endpoint: Endpoint) -> None:
    least = endpoint.min_side_pixels
    assert _rejected(_picture("PNG", (least * 3, least - 1)), endpoint).code == "TOO_SMALL"
    assert _rejected(_picture("PNG", (least - 1, least * 3)), endpoint).code == "TOO_SMALL"
    assert isinstance(preflight(_picture("PNG", (least, least)), endpoint), Image)


@pytest.mark.parametrize(
    "content", [_JPEG, _PROGRESSIVE, _PNG, _BMP], ids=["jpeg", "progressive", "png", "bmp"]
)
def test_a_file_cut_anywhere_is_rejected(content: bytes) -> None:
    cuts = {len(content) - 1, len(content) - 2, *range(200, len(content), max(1, len(content) // 60))}
    codes = {cut: _rejected(content[:cut], _INTSIG).code for cut in cuts}
    assert set(codes.values()) == {"TRUNCATED"}, codes


def test_a_cut_file_is_rejected_even_where_pillow_was_told_to_forgive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The switch is global: another library in the same process may have set it."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for content in (_JPEG, _PROGRESSIVE, _PNG, _BMP):
        assert _rejected(content[: len(content) // 2], _INTSIG).code == "TRUNCATED"


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_picture() -> None:
    thumbnail = _picture("JPEG", (32, 32))
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    content = _JPEG[:2] + segment + _JPEG[2:]
    assert isinstance(preflight(content, _OCR), Image)
    assert _rejected(content[:-2]).code == "TRUNCATED"


def test_broken_data_with_a_sound_end_is_undecodable() -> None:
    data = _PNG.index(b"IDAT") + 100
    assert _rejected(_PNG[:data] + bytes(50) + _PNG[data + 50 :]).code == "UNDECODABLE"
    assert _rejected(b"\xff\xd8\xff\xda no jpeg at all \xff\xd9").code == "UNDECODABLE"


_BASELINES = (
    _picture("JPEG", quality=75),
    _picture("JPEG", quality=75, subsampling=2, restart_marker_blocks=7),
    _picture("JPEG", mode="L", quality=75, optimize=True),
    _picture("JPEG", mode="CMYK", quality=50),
)


def _damaged(content: bytes, rng: random.Random) -> bytes:
    """Damage to the tables or the data of a JPEG whose end stays."""
    place = rng.randrange(2, rng.choice([700, len(content) - 2]))
    marker = bytes([0xFF, rng.choice([0x01, 0x02, *range(0xC0, 0x100)])])
    instead = rng.choice([b"", rng.randbytes(1), rng.randbytes(40), bytes(40), marker, b"\xff\xd9"])
    return (
        content[:place] + instead + content[place + rng.choice([0, 1, len(instead), 200]) : -2] + b"\xff\xd9"
    )


@pytest.mark.parametrize("content", _BASELINES, ids=["colour", "restarts", "grey", "cmyk"])
def test_decoding_what_decides_tells_what_decoding_all_of_it_tells(content: bytes) -> None:
    """Of a scan that runs to the end only the beginning is decoded."""
    rng, verdicts = random.Random(7), Counter[bool]()
    assert isinstance(preflight(content, _OCR), Image)
    for _ in range(400):
        damaged = _damaged(content, rng)
        found = preflight(damaged, replace(_OCR, min_side_pixels=1))
        try:
            with Pillow.open(io.BytesIO(damaged), formats=["JPEG"]) as picture:
                picture.load()
        except Exception:  # noqa: BLE001 - whatever a decoder raises
            assert isinstance(found, Rejected)
            verdicts[False] += 1
        else:
            assert isinstance(found, Image) or found.code in ("TRUNCATED", "DECOMPRESSION_BOMB")
            verdicts[True] += 1
    assert min(verdicts.values()) > 40


def test_a_bomb_is_rejected_by_its_header_without_decoding() -> None:
    bomb = _png_of(30_000, 30_000, bytes(1_000_000))
    tracemalloc.start()
    try:
        found = _rejected(bomb)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.code == "DECOMPRESSION_BOMB"
    assert "30000 x 30000" in found.message
    assert peak < 5_000_000


def _last_scan(content: bytes) -> bytes:
    """Of a progressive picture: the last refinement, which may be repeated at will."""
    return content[content.rindex(b"\xff\xda") : -2]


def test_a_small_jpeg_that_would_take_hours_to_decode_is_rejected_before_that() -> None:
    """Every scan of fourteen bytes has the decoder walk over all of the picture again."""
    drawn = io.BytesIO()
    Pillow.new("L", (2000, 2000), 255).save(drawn, "JPEG", progressive=True)
    plain = drawn.getvalue()
    bomb = plain[:-2] + _last_scan(plain) * 10_000 + plain[-2:]
    assert len(bomb) < 200_000
    began = time.monotonic()
    found = _rejected(bomb)
    assert time.monotonic() - began < 1
    assert found.code == "DECOMPRESSION_BOMB"
    assert "scans" in found.message


@pytest.mark.parametrize(
    "hidden", [b"\xff\xfe\x00\x04\xff\xd9", b"\xff"], ids=["behind-a-comment", "behind-padding"]
)
def test_scans_cannot_be_hidden(hidden: bytes) -> None:
    """A decoder skips a comment that says "end", and padding before a marker."""
    first = _PROGRESSIVE.index(b"\xff\xda")
    scans = hidden + _last_scan(_PROGRESSIVE)
    assert _rejected(_PROGRESSIVE[:first] + scans * 60 + b"\xff\xd9").code == "DECOMPRESSION_BOMB"


def test_a_comment_that_says_end_is_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    first = _PROGRESSIVE.index(b"\xff\xda")
    content = _PROGRESSIVE[:first] + b"\xff\xfe\x00\x04\xff\xd9" + _PROGRESSIVE[first:]
    assert isinstance(preflight(content, _OCR), Image)
    assert _rejected(content[:-2]).code == "TRUNCATED"


def test_scans_behind_the_end_of_a_picture_are_none_of_its_own() -> None:
    content = _PROGRESSIVE + _last_scan(_PROGRESSIVE) * 100
    assert isinstance(preflight(content, _OCR), Image)


def test_the_largest_picture_allowed_is_below_the_cap() -> None:
    side = int(MAX_PIXELS**0.5)
    big = io.BytesIO()
    Pillow.new("L", (side, side), 255).save(big, "JPEG")
    assert isinstance(preflight(big.getvalue(), _OCR), Image)
    assert _rejected(_png_of(side + 1, side + 1, b"")).code == "DECOMPRESSION_BOMB"


def test_a_picture_that_claims_no_pixels_is_rejected() -> None:
    assert _rejected(_png_of(0, 0, b"")).code in {"TOO_SMALL", "UNDECODABLE"}


def test_format_of_tells_nothing_from_a_name_or_two_letters() -> None:
    assert [format_of(content) for content in (_JPEG, _PNG, _BMP, b"BM", b"", b"jpeg")] == [
        "jpeg",
        "png",
        "bmp",
        None,
        None,
        None,
    ]


_CODES = {
    "EMPTY",
    "TRUNCATED",
    "UNDECODABLE",
    "FORMAT_NOT_ACCEPTED",
    "TOO_LARGE",
    "TOO_SMALL",
    "DECOMPRESSION_BOMB",
}
_STARTS = st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM" + bytes(12) + b"\x28\0\0\0"])


# Pillow warns of some malformed files; the suite turns warnings into errors, and both must end in a value.
@settings(max_examples=150, deadline=None, derandomize=True)
@given(start=_STARTS, rest=st.binary(max_size=400))
def test_any_bytes_give_a_value(start: bytes, rest: bytes) -> None:
    found = preflight(start + rest, _INTSIG)
    assert isinstance(found, Image) or found.code in _CODES


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    content=st.sampled_from([_JPEG, _PROGRESSIVE, _PNG, _BMP]),
    changes=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8
    ),
    header_only=st.booleans(),
)
def test_a_damaged_picture_gives_a_value(
    content: bytes, changes: list[tuple[float, int]], header_only: bool
) -> None:
    damaged = bytearray(content)
    for place, value in changes:
        damaged[int(place * (200 if header_only else len(damaged)))] = value
    found = preflight(bytes(damaged), _INTSIG)
    assert isinstance(found, Image) or found.code in _CODES
