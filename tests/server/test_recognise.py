"""The engines of the local service, on real pictures of fictitious invoices."""

import io
import json
import re
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from airflow_provider_jdocr.server.recognise import OcrEngine, Reading, StubEngine, Unreadable

PICTURES = Path(__file__).parents[1] / "specimens" / "pictures"
TRUTHS: list[dict[str, Any]] = json.loads((PICTURES / "truth.json").read_text(encoding="utf-8"))

# What the layout gives on every specimen. Not among them: the cipher (only the tax office can read it) and
# single glyphs that text detection passes over, such as the colon in the margin or the stars of no tax.
ALWAYS_READ = (
    "vat_invoice_daima",
    "vat_invoice_haoma",
    "vat_invoice_issue_date",
    "vat_invoice_correct_code",
    "vat_invoice_machine_no",
    "vat_invoice_total",
    "vat_invoice_tax_total",
    "vat_invoice_total_cover_tax_digits",
    "vat_invoice_total_cover_tax",
    "vat_invoice_payer_name",
    "vat_invoice_rate_payer_id",
    "vat_invoice_payer_addr_tell",
    "vat_invoice_payer_bank_account",
    "vat_invoice_seller_name",
    "vat_invoice_seller_id",
    "vat_invoice_seller_addr_tell",
    "vat_invoice_seller_bank_account",
    "vat_invoice_goods_list",
    "vat_invoice_price_list",
    "vat_invoice_tax_rate_list",
    "vat_invoice_tax_rate",
    "vat_invoice_total_note",
    "vat_invoice_payee",
    "vat_invoice_review",
    "vat_invoice_drawer",
    "vat_invoice_type",
    "exist_stample",
)


@pytest.fixture(scope="module")
def engine() -> OcrEngine:
    engine = OcrEngine(readers=2, keep=256)
    engine.warm()
    return engine


@pytest.fixture(scope="module")
def readings(engine: OcrEngine) -> dict[str, Reading]:
    files = [truth["file"] for truth in TRUTHS]
    with ThreadPoolExecutor(2) as pool:
        read = pool.map(engine.read, [(PICTURES / file).read_bytes() for file in files])
    return dict(zip(files, read, strict=True))


def _said(reading: Reading) -> dict[str, str]:
    return {field.key: field.text for field in reading.fields}


def _same(text: str) -> str:
    """Blanks and the width of characters are no reading errors; no tax printed and *** not seen are one."""
    narrow = unicodedata.normalize("NFKC", text).replace("***", "")
    return re.sub(r"[^\S\n]", "", narrow)


@pytest.mark.parametrize("truth", TRUTHS, ids=lambda truth: str(truth["file"]))
def test_a_specimen_is_read_as_it_was_drawn(truth: dict[str, Any], readings: dict[str, Reading]) -> None:
    reading = readings[truth["file"]]
    said = _said(reading)
    assert reading.type == truth["type"]
    read = {key: _same(said.get(key, "")) for key in ALWAYS_READ}
    assert read == {key: _same(truth["intsig"].get(key, "")) for key in ALWAYS_READ}


@pytest.mark.parametrize("truth", TRUTHS, ids=lambda truth: str(truth["file"]))
def test_a_value_has_a_confidence_and_lies_on_the_picture(
    truth: dict[str, Any], readings: dict[str, Reading]
) -> None:
    reading = readings[truth["file"]]
    number = next(field for field in reading.fields if field.key == "vat_invoice_haoma")
    assert 0.5 < number.confidence <= 1
    assert len(number.position) == 8
    left, top = number.position[:2]
    assert left > reading.width / 2, "the number stands at the right"
    assert 0 < top < reading.height / 4, "at the top"


def test_a_picture_on_its_side_is_turned(engine: OcrEngine) -> None:
    truth = next(truth for truth in TRUTHS if truth["file"] == "digital_common.png")
    turned = Image.open(PICTURES / truth["file"]).convert("RGB").transpose(Image.Transpose.ROTATE_90)
    reading = engine.read(_png(turned))
    assert reading.angle == 90
    assert reading.width > reading.height
    assert _said(reading)["vat_invoice_haoma"] == truth["intsig"]["vat_invoice_haoma"]


def test_what_is_transparent_is_paper(engine: OcrEngine) -> None:
    truth = next(truth for truth in TRUTHS if truth["file"] == "digital_common.png")
    grey = Image.open(PICTURES / truth["file"]).convert("L")
    ink = Image.new("LA", grey.size, (0, 0))
    ink.putalpha(grey.point([255 - value for value in range(256)]))
    assert _said(engine.read(_png(ink)))["vat_invoice_haoma"] == truth["intsig"]["vat_invoice_haoma"]


def test_threads_share_one_engine(engine: OcrEngine) -> None:
    blanks = [_png(Image.new("RGB", (300 + place, 200), "white")) for place in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert [reading.type for reading in pool.map(engine.read, blanks)] == ["other"] * 4


def test_the_same_picture_is_read_once(engine: OcrEngine, readings: dict[str, Reading]) -> None:
    """Where readings are kept: sent to both endpoints it costs one, and the oldest are forgotten."""
    file = TRUTHS[-1]["file"]
    assert engine.read((PICTURES / file).read_bytes()) is readings[file]
    forgetful = OcrEngine(keep=1)
    first, second = (_png(Image.new("RGB", (side, 40), "white")) for side in (60, 61))
    once = forgetful.read(first)
    assert forgetful.read(first) is once
    forgetful.read(second)
    assert forgetful.read(first) is not once
    without = OcrEngine()
    assert without.read(first) is not without.read(first)


def test_a_picture_without_an_invoice_is_other(engine: OcrEngine) -> None:
    reading = engine.read(_png(Image.linear_gradient("L").resize((400, 300))))
    assert (reading.type, reading.fields) == ("other", ())


@pytest.mark.parametrize("make", [OcrEngine, StubEngine])
@pytest.mark.parametrize("content", [b"", b"%PDF-1.7", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0\x00\x10JFIF"])
def test_what_is_no_picture_is_unreadable(make: type[OcrEngine] | type[StubEngine], content: bytes) -> None:
    with pytest.raises(Unreadable):
        make().read(content)


def test_half_a_picture_is_unreadable() -> None:
    whole = (PICTURES / "common_paper.jpg").read_bytes()
    with pytest.raises(Unreadable):
        OcrEngine().read(whole[: len(whole) // 2])


def test_a_picture_with_broken_exif_data_is_read_as_it_lies(engine: OcrEngine) -> None:
    out = io.BytesIO()
    Image.new("RGB", (400, 300), "white").save(out, "PNG", exif=b"no TIFF header")
    reading = engine.read(out.getvalue())
    assert (reading.type, reading.width, reading.height) == ("other", 400, 300)


@pytest.mark.parametrize("truth", TRUTHS, ids=lambda truth: str(truth["file"]))
def test_the_stub_answers_the_truth_inside_the_picture(truth: dict[str, Any]) -> None:
    reading = StubEngine().read((PICTURES / truth["file"]).read_bytes())
    assert (reading.type, _said(reading)) == (truth["type"], truth["intsig"])


def test_a_picture_without_a_truth_is_no_invoice_to_the_stub() -> None:
    reading = StubEngine().read(_png(Image.new("RGB", (60, 40))))
    assert (reading.type, reading.fields, reading.width, reading.height) == ("other", (), 60, 40)


@pytest.mark.parametrize(
    "truth",
    ['{"fields": []}', '{"type": [1]}', '{"fields": {"vat_invoice_total": 1}}', "[" * 100_000, "{", "1"],
    ids=["a-list", "a-type-that-is-none", "a-number", "a-bomb", "half", "no-object"],
)
def test_a_truth_of_another_shape_is_none(truth: str) -> None:
    """Whoever draws a picture may write anything into it."""
    info = PngInfo()
    info.add_text("jdocr-truth", truth)
    reading = StubEngine().read(_png(Image.new("RGB", (60, 40)), pnginfo=info))
    assert (reading.type, reading.fields) == ("other", ())


def _png(image: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", **options)
    return out.getvalue()
