"""A printed code says exactly what it says: whatever the picture, whatever the text."""

import io
import json
import struct
import time
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from airflow_provider_jdocr.core import qr
from airflow_provider_jdocr.core.endpoints import ENDPOINTS
from airflow_provider_jdocr.core.preflight import Image, greyscale, preflight
from airflow_provider_jdocr.core.qr import (
    LONGEST_CODE,
    MOST_CODES,
    MOST_PIXELS,
    AmountIs,
    Codes,
    InvoiceCode,
    OtherCode,
    all_codes,
    from_text,
    parse_code,
    read_codes,
    to_text,
    unavailable,
)

PICTURES = Path(__file__).parents[1] / "specimens" / "pictures"
TRUTH = json.loads((PICTURES / "truth.json").read_text())
ELECTRONIC = "01,10,012001800311,33207675,46.62,20190508,76939056883466677916,E1BD,"
DIGITAL = "01,32,,23122000000997423667,1529.88,20230619,,9133"
BLOCKCHAIN = f"01,10,144031909110,01034285,91440300708437873H,5.45,20190320,{'0a' * 33}"
SHENZHEN = (
    f"https://bcfp.shenzhen.chinatax.gov.cn/verify/scan?hash={'0a' * 33}&bill_num=05830164&total_amount=500"
)
TICKET = "01,51,,26339132621000219582,56.00,20260423,,219a"
D = Decimal


def accepted(content: bytes) -> Image:
    image = preflight(content, ENDPOINTS["intsig_invoice"])
    assert isinstance(image, Image), image
    return image


def saved(picture: Pillow.Image, form: str = "PNG") -> Image:
    out = io.BytesIO()
    picture.save(out, form)
    return accepted(out.getvalue())


def invoice(text: str) -> InvoiceCode:
    found = parse_code(text)
    assert isinstance(found, InvoiceCode), found
    return found


# ── from a picture ──


@pytest.mark.parametrize("specimen", TRUTH, ids=lambda specimen: specimen["file"])
def test_the_code_of_every_specimen_is_read_exactly(specimen: dict[str, Any]) -> None:
    assert read_codes(accepted((PICTURES / specimen["file"]).read_bytes())) == (specimen["qr"],)


def _transparent(picture: Pillow.Image) -> Pillow.Image:
    """Black ink on nothing, as a page that was exported without a background."""
    return Pillow.merge("LA", (Pillow.new("L", picture.size, 0), picture.point(lambda value: 255 - value)))


def _in_16_bits(picture: Pillow.Image) -> Pillow.Image:
    """A scan whose black is far above 255, as its white is far below 65535."""
    pixels = (struct.pack("<H", 6_000 + 200 * value) for value in picture.tobytes())
    return Pillow.frombytes("I;16", picture.size, b"".join(pixels))


@pytest.mark.parametrize(
    ("form", "change"),
    [
        ("PNG", lambda picture: picture.rotate(90, expand=True)),
        ("PNG", lambda picture: picture.rotate(7, expand=True, fillcolor=255)),
        ("PNG", lambda picture: picture.convert("1")),
        ("PNG", lambda picture: picture.convert("P")),
        ("PNG", _in_16_bits),
        ("PNG", _transparent),
        ("BMP", lambda picture: picture),
        ("JPEG", lambda picture: picture.convert("CMYK")),
        ("JPEG", lambda picture: picture.resize((picture.width * 4, picture.height * 4))),
    ],
    ids=["turned", "askew", "bilevel", "palette", "16 bits", "transparent", "bmp", "cmyk", "large"],
)
def test_a_code_is_read_whatever_the_form_of_the_picture(
    form: str, change: Callable[[Pillow.Image], Pillow.Image]
) -> None:
    with Pillow.open(PICTURES / "electronic_plain.png") as picture:
        assert read_codes(saved(change(picture.convert("L")), form)) == (TRUTH[0]["qr"],)


def test_a_picture_without_a_code_has_none() -> None:
    assert read_codes(saved(Pillow.effect_noise((600, 400), 80))) == ()


def test_two_invoices_on_one_page_are_two_codes() -> None:
    page = Pillow.new("L", (1_500, 1_760), "white")
    for place, name in enumerate(("electronic_plain.png", "digital_common.png")):
        with Pillow.open(PICTURES / name) as picture:
            page.paste(picture.convert("L"), (20, 20 + 870 * place))
    codes = all_codes(read_codes(saved(page)))
    assert {each.number for each in codes.invoices} == {"69391842", "23122000000997423667"}
    assert codes.invoice is None


@pytest.mark.parametrize("size", [(8_000, 5_000), (40_000, 1_000), (1_000, 40_000), (900, 600)])
def test_no_more_pixels_are_searched_than_the_bound_says(size: tuple[int, int]) -> None:
    grey = greyscale(saved(Pillow.new("1", size)), most_pixels=MOST_PIXELS)
    assert grey is not None
    assert grey.mode == "L"
    assert grey.width * grey.height <= min(MOST_PIXELS, size[0] * size[1])
    assert grey.size == size or grey.width * grey.height > 0.95 * MOST_PIXELS


def test_a_page_that_is_hard_to_search_takes_seconds_and_not_minutes() -> None:
    """The smallest finder patterns there are, as many as fit on the largest page that is searched."""
    pattern = Pillow.new("1", (8, 8), 1)
    pattern.paste(0, (0, 0, 7, 7))
    pattern.paste(1, (1, 1, 6, 6))
    pattern.paste(0, (2, 2, 5, 5))
    page = Pillow.new("1", (2_000, 2_000))
    for place in range(250 * 250):
        page.paste(pattern, (8 * (place % 250), 8 * (place // 250)))
    image, began = saved(page), time.process_time()
    assert read_codes(image) == ()
    assert time.process_time() - began < 60


def test_a_page_of_nothing_but_codes_gives_a_few_of_them() -> None:
    with Pillow.open(PICTURES / "electronic_plain.png") as picture:
        code = picture.convert("L").crop((0, 0, 300, 300))
    page = Pillow.new("L", (1_500, 1_500), "white")
    for place in range(25):
        page.paste(code, (300 * (place % 5), 300 * (place // 5)))
    assert len(read_codes(saved(page))) <= MOST_CODES


def test_without_a_decoder_nothing_is_read_and_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unavailable() is None
    monkeypatch.setattr(qr, "_MISSING", "No module named 'zxingcpp'")
    said = unavailable()
    assert said is not None
    assert "zxing-cpp" in said
    assert read_codes(accepted((PICTURES / "electronic_plain.png").read_bytes())) == ()


@given(st.lists(st.text(max_size=40), max_size=4))
def test_what_is_stored_comes_back(texts: list[str]) -> None:
    stored = to_text(texts)
    assert from_text(stored) == tuple(texts)
    assert stored.isascii()
    assert from_text(None) == ()


# ── from a text ──


def test_a_code_says_what_the_invoice_prints() -> None:
    assert invoice(ELECTRONIC) == InvoiceCode(
        text=ELECTRONIC,
        kind="10",
        code="012001800311",
        number="33207675",
        amount=D("46.62"),
        amount_is=AmountIs.BEFORE_TAX,
        issue_date=date(2019, 5, 8),
        check_code="76939056883466677916",
    )
    assert invoice(DIGITAL) == InvoiceCode(
        text=DIGITAL,
        kind="32",
        code=None,
        number="23122000000997423667",
        amount=D("1529.88"),
        amount_is=AmountIs.TOTAL,
        issue_date=date(2023, 6, 19),
        check_code=None,
    )


@pytest.mark.parametrize(
    "text",
    [
        "01,10,012001800311,33207675,46.62,20190508,76939056883466677916",
        "01,10,012001800311,33207675,46.62,20190508,76939056883466677916,E1BD",
        "01,10,012001800311,33207675,46.62,20190508,76939056883466677916,",
        "01,10,012001800311,33207675,46.62,20190508,76939056883466677916,e1b,",
        "01,10,012001800311,33207675,46.620,2019-05-08,76939056883466677916,,",
        " 01, 10, 012001800311, 33207675, 46.62, 20190508, 76939 05688 34666 77916, E1BD, \r\n",
        "０１，１０，012001800311，33207675，46.62，2019/05/08，76939056883466677916，E1BD",
    ],
    ids=["short", "no comma", "no hex", "lower case", "dashes", "blanks", "full width"],
)
def test_what_is_only_written_otherwise_says_the_same(text: str) -> None:
    found, meant = invoice(text), invoice(ELECTRONIC)
    names = ("kind", "code", "number", "amount", "amount_is", "issue_date", "check_code")
    assert [getattr(found, name) for name in names] == [getattr(meant, name) for name in names]


@pytest.mark.parametrize(
    ("text", "amount"),
    [("6.2", "6.20"), ("6", "6.00"), ("-6.20", "-6.20"), ("", None), ("6.205", None), ("x", None)],
)
def test_an_amount_has_two_decimals_or_is_none(text: str, amount: str | None) -> None:
    found = invoice(f"01,10,012001800311,33207675,{text},20190508,,")
    assert str(found.amount) == str(amount)


@pytest.mark.parametrize("field", ["20190230", "2019508", "00000000", "x", ""])
def test_what_is_no_date_is_none(field: str) -> None:
    assert invoice(f"01,10,012001800311,33207675,46.62,{field},,").issue_date is None


@pytest.mark.parametrize(
    ("kind", "numbers", "amount_is"),
    [
        *((kind, "1100184130,87654321", "before_tax") for kind in ("01", "04", "10")),
        *((kind, ",23122000000997423667", "total") for kind in ("31", "32")),
        *((kind, "011001800113,87654321", "either") for kind in ("08", "11", "14")),
        ("10", "011001800112,87654321", "either"),
        ("10", ",23122000000997423667", "either"),
    ],
)
def test_the_kind_says_which_amount_it_is(kind: str, numbers: str, amount_is: str) -> None:
    assert invoice(f"01,{kind},{numbers},6.20,20230619,,").amount_is == amount_is


def test_a_roll_s_code_may_say_no_more_than_code_and_number() -> None:
    found = invoice("01,11,012001800107,33207675")
    assert (found.amount, found.issue_date, found.check_code) == (None, None, None)


def test_a_blockchain_invoice_names_the_seller_before_the_amount() -> None:
    found = invoice(BLOCKCHAIN)
    assert (found.kind, found.seller_tax_id) == ("blockchain", "91440300708437873H")
    assert (found.amount, found.amount_is, found.issue_date) == (D("5.45"), "either", date(2019, 3, 20))
    assert found.check_code is None
    assert found.invoice_key == "144031909110:01034285"


def test_a_link_of_shenzhen_names_number_and_total() -> None:
    found = invoice(SHENZHEN)
    assert (found.kind, found.code, found.number) == ("blockchain", None, "05830164")
    assert (found.amount, found.amount_is, found.invoice_key) == (D("5.00"), "total", None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (TICKET, "other_document"),
        ("01,03,1100184130,87654321,9.00,20190508,,", "other_document"),
        ("01,85,,23122000000997423667,9.00,20190508,,", "unknown_kind"),
        ("01,10,012001800311,3320767,46.62,20190508,,", "malformed"),
        ("01,10,01200180031,33207675,46.62,20190508,,", "malformed"),
        ("01,32,,2312200000099742366,46.62,20190508,,", "malformed"),
        ("01,10,012001800311,٣٣٢٠٧٦٧٥,46.62,20190508,,", "malformed"),
        ("01,10,", "malformed"),
        ("https://u.wechat.com/abc", "link"),
        ("https://bcfp.shenzhen.chinatax.gov.cn/verify/scan", "link"),
        ("https://[bad", "link"),
        ("WXP://f2f0", "link"),
        ("谢谢惠顾", "text"),
        ("1,10,012001800311,33207675", "text"),
        ("", "text"),
    ],
)
def test_what_names_no_vat_invoice_says_what_it_is(text: str, says: str) -> None:
    found = parse_code(text)
    assert isinstance(found, OtherCode)
    assert (found.says, found.text) == (says, text)
    assert found.what


def test_only_another_document_without_an_invoice_beside_it_says_that_the_picture_shows_none() -> None:
    assert all_codes([TICKET]).other_document == parse_code(TICKET)
    assert all_codes([TICKET, ELECTRONIC]).other_document is None
    assert all_codes(["https://u.wechat.com/abc", "x"]).other_document is None
    assert all_codes([]) == Codes()


def test_two_codes_of_one_invoice_are_one_invoice() -> None:
    assert all_codes([ELECTRONIC, ELECTRONIC.removesuffix("E1BD,")]).invoice is not None


@given(st.text(max_size=200) | st.text("01,23.4-:/ \n", max_size=80).map(lambda tail: f"01,{tail}"))
def test_any_text_says_something(text: str) -> None:
    found = parse_code(text)
    assert found.text == text[:LONGEST_CODE]
    if isinstance(found, InvoiceCode):
        assert len(found.number) in (8, 20)


@given(st.randoms(use_true_random=False), st.sampled_from([ELECTRONIC, DIGITAL, BLOCKCHAIN, SHENZHEN]))
def test_a_code_with_one_character_changed_says_something(rng: Random, text: str) -> None:
    place = rng.randrange(len(text))
    parse_code(text[:place] + chr(rng.randrange(0x3000)) + text[place + 1 :])
