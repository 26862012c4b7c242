"""From a reply to one typed invoice, nothing guessed and nothing lost."""

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jdocr.core.endpoints import ENDPOINTS
from airflow_provider_jdocr.core.errors import ParseError
from airflow_provider_jdocr.core.parsing import (
    INTSIG_COLUMNS,
    INTSIG_KINDS,
    INTSIG_LINE_COLUMNS,
    OCR_INVOICE_KINDS,
    FieldEvidence,
    Invoice,
    InvoiceKind,
    Line,
    Problem,
    parse,
)

REPLIES = Path(__file__).parent / "replies"
OCR, INTSIG = ENDPOINTS["ocr_invoice"], ENDPOINTS["intsig_invoice"]
D = Decimal

TWELVE = """
    buyer_name buyer_tax_no code invoice_amount invoice_date invoice_no invoice_type saler_name saler_tax_no
    tax_amount total_amount verify_code
"""
FORTY_SEVEN = """
    vat_invoice_correct_code vat_invoice_daima vat_invoice_haoma vat_invoice_haoma_large_size
    vat_invoice_issue_date vat_invoice_rate_payer_id vat_invoice_total vat_invoice_tax_rate
    vat_invoice_seller_name vat_invoice_seller_bank_account vat_invoice_seller_id
    vat_invoice_seller_addr_tell vat_invoice_payer_name vat_invoice_payer_bank_account
    vat_invoice_payer_addr_tell vat_invoice_total_cover_tax vat_invoice_total_cover_tax_digits
    vat_invoice_tax_total vat_invoice_goods_list vat_invoice_price_list vat_invoice_tax_rate_list
    vat_invoice_tax_list vat_invoice_zhuan_yong_flag vat_invoice_dai_kai_flag vat_invoice_plate_specific
    vat_invoice_electrans_unit vat_invoice_electrans_quantity vat_invoice_electrans_unit_price
    vat_invoice_daima_right_side vat_invoice_haoma_right_side vat_invoice_page_number vat_invoice_type
    vat_invoice_total_note vat_invoice_cipher_field vat_invoice_drawer vat_invoice_review vat_invoice_payee
    exist_stample vat_invoice_headline_page_number vat_invoice_corrent_code_print vat_invoice_total_print
    vat_invoice_note_correct_code vat_invoice_machine_no vat_invoice_daima_print vat_invoice_elec_payment_id
    vat_invoice_issue_date_print vat_invoice_qr_code
"""
PICTURE = """
    image_angle rotated_image_width rotated_image_height kind kind_description class type_description
"""


def ocr(**fields: Any) -> Invoice:
    return parse(OCR, json.dumps({"code": 0, "message": "success", "result": fields}).encode())


def intsig(result: Any = None, **texts: Any) -> Invoice:
    items = [{"key": key, "value": text, "confidence": 0.9, "position": []} for key, text in texts.items()]
    body = {
        "code": 200,
        "message": "success",
        "cost_time": 7,
        "result": {"item_list": items, **(result or {})},
    }
    return parse(INTSIG, json.dumps(body).encode())


def sample(name: str) -> Invoice:
    return parse(ENDPOINTS[name.split(".")[0]], (REPLIES / name).read_bytes())


# ── the samples of both descriptions ──


def test_the_flat_sample_becomes_an_invoice() -> None:
    invoice = sample("ocr_invoice.seed.json")
    assert (invoice.kind, invoice.kind_text) == (InvoiceKind.COMMON_PAPER, "04")
    assert (invoice.code, invoice.number) == ("3700081650", "01599485")
    assert (invoice.issue_date, invoice.check_code) == (date(2009, 4, 24), "44095028783173850994")
    assert (invoice.amount, invoice.tax, invoice.total) == (D("2324.79"), D("13675.21"), D("16000.00"))
    assert (invoice.buyer_name, invoice.buyer_tax_id) == ("华电虎林凤力发电有限公司", "372569065123562")
    assert (invoice.seller_name, invoice.seller_tax_id) == ("山东阳谷振璃工艺制品司", "372522168018036")
    assert invoice.evidence["issue_date"] == FieldEvidence("20090424", "invoice_date", None, None)
    assert not invoice.problems


def test_the_keyed_sample_becomes_an_invoice() -> None:
    invoice = sample("intsig_invoice.seed.json")
    assert (invoice.kind, invoice.kind_text) == (InvoiceKind.COMMON_PAPER, "vat_common_invoice")
    assert (invoice.code, invoice.number, invoice.issue_date) == ("3100171320", "64802685", date(2017, 6, 6))
    place = (435, 267, 698, 267, 698, 294, 435, 294)
    name = "杭州每刻科技有限公司"
    assert invoice.evidence["buyer_name"] == FieldEvidence(
        name, "vat_invoice_payer_name", 0.93650209903717, place
    )
    assert invoice.details["cost_time"] == 3423
    assert invoice.details["vat_invoice_headline_page_number"] == "发票联"
    assert not invoice.problems


def test_an_envelope_and_strings_in_strings_change_nothing() -> None:
    plain_one = sample("ocr_invoice.enveloped.json")
    for name in ("ocr_invoice.result_in_a_string.json", "ocr_invoice.odd_envelope.json"):
        assert sample(name) == plain_one


def test_lines_signs_and_blanks_are_read() -> None:
    invoice = sample("intsig_invoice.two_lines.json")
    assert (invoice.number, invoice.evidence["number"].key) == ("33207675", "vat_invoice_haoma_large_size")
    assert (invoice.issue_date, invoice.check_code) == (date(2019, 5, 8), "76939056883466677916")
    assert (invoice.amount, invoice.tax, invoice.total) == (D("46.62"), D("6.08"), D("52.70"))
    assert (invoice.seller_tax_id, invoice.stamp) == ("91120222079642398Y", True)
    assert invoice.evidence["amount"].text == "￥46.62"
    assert (invoice.tax_rate, invoice.tax_rate_text) == (D("0.13"), "13%")
    first, discount = invoice.lines
    assert first == Line(
        1, "*日用品*清洁剂", "2L", "瓶", D(2), D("28.3185840708"), D("56.64"), D("7.36"), D("0.13"), "13%"
    )
    assert discount == Line(
        2, "*日用品*清洁剂", amount=D("-10.02"), tax=D("-1.28"), tax_rate=D("0.13"), tax_rate_text="13%"
    )
    assert not invoice.problems


# ── completeness ──


@pytest.mark.parametrize("key", TWELVE.split())
def test_each_of_the_twelve_keys_reaches_the_row(key: str) -> None:
    text = {"invoice_date": "20240506", "invoice_type": "04"}.get(key, "12.00")
    read, empty = ocr(**{key: text}), ocr(**{key: ""})
    assert read != empty
    assert read.kind_text == text or [one.text for one in read.evidence.values()] == [text]
    assert not read.problems


def test_both_descriptions_are_counted_in_full() -> None:
    assert (len(TWELVE.split()), len(FORTY_SEVEN.split())) == (12, 47)


@pytest.mark.parametrize("key", FORTY_SEVEN.split())
def test_each_of_the_47_keys_reaches_the_row_or_its_details(key: str) -> None:
    text = "2024年05月06日" if "date" in key else "1"
    invoice = intsig(**{key: text})
    (evidence,) = invoice.evidence.values()
    assert (evidence.text, evidence.key, evidence.confidence) == (text, key, 0.9)
    columns = {name for name, keys in INTSIG_COLUMNS.items() if key in keys}
    if columns:
        assert set(invoice.evidence) == columns
        values = [getattr(invoice, name) for name in columns]
        assert values != [None]
    else:
        assert invoice.details[key] == text


@pytest.mark.parametrize("key", PICTURE.split())
def test_what_is_said_about_the_picture_is_kept(key: str) -> None:
    assert intsig({key: "样本"}).details[key] == "样本"


def test_what_no_description_knows_is_kept() -> None:
    assert ocr(invoice_no="1", qr={"x": [1]}).details == {"qr": {"x": [1]}}
    invoice = intsig({"new": [1, {"a": None}]}, vat_invoice_new_key="新")
    assert (invoice.details["new"], invoice.details["vat_invoice_new_key"]) == ([1, {"a": None}], "新")


def test_a_key_given_twice_keeps_both() -> None:
    items = [{"key": "vat_invoice_haoma", "value": number} for number in ("12345678", "87654321")]
    invoice = intsig({"item_list": items})
    assert invoice.number == "12345678"
    assert invoice.details["items"] == [items[1]]


@pytest.mark.parametrize("name", ["code", "number", "check_code", "issue_date"])
def test_the_first_of_the_known_keys_that_is_printed_is_taken(name: str) -> None:
    texts = ("2024-01-01", "2024-01-02", "2024-01-03") if name == "issue_date" else ("1", "2", "3")
    chain = dict(zip(INTSIG_COLUMNS[name], texts, strict=False))
    while chain:
        invoice = intsig(**chain)
        assert invoice.evidence[name].key == next(iter(chain))
        assert set(invoice.details) >= set(list(chain)[1:])
        chain[next(iter(chain))] = " "
        assert intsig(**chain) == intsig(**dict(list(chain.items())[1:]))
        chain.pop(next(iter(chain)))


# ── kinds ──


@pytest.mark.parametrize(
    ("text", "kind"), [*OCR_INVOICE_KINDS.items(), ("4", "common_paper"), ("99", "other")]
)
def test_kinds_of_the_flat_schema(text: str, kind: str) -> None:
    invoice = ocr(invoice_type=text, invoice_no="1")
    assert (invoice.kind, invoice.kind_text) == (kind, text)


@pytest.mark.parametrize(
    ("text", "kind"), [*INTSIG_KINDS.items(), ("other", "other"), ("taxi_ticket", "other")]
)
def test_kinds_of_the_keyed_schema(text: str, kind: str) -> None:
    invoice = intsig({"type": text})
    assert (invoice.kind, invoice.kind_text) == (kind, text)


def test_a_kind_that_is_not_said_is_not_made_up() -> None:
    assert (intsig().kind, ocr(invoice_no="1", invoice_type="").kind) == (None, None)


def test_the_known_failure_of_digital_invoices_stays_as_it_was_read() -> None:
    invoice = ocr(invoice_no="", code="000000123456", invoice_type="10")
    assert (invoice.number, invoice.code) == (None, "000000123456")


def test_a_number_of_twenty_digits_is_text() -> None:
    assert intsig(vat_invoice_haoma="24 31 2000 0000 1234 5678").number == "24312000000012345678"


# ── values ──


@pytest.mark.parametrize(
    "text",
    [
        *("2017年06月06日", "20170606", "2017-06-06", "2017/6/6", "2017.06.06", "2017 06 06", "2017年6月6日"),
        *(" 2 0 1 7 年 0 6月06 日", "２０１７年０６月０６日", "2017-06-06 12:30:00", "2017 年 06 月 06"),
    ],
)
def test_dates_in_every_form_keep_what_is_printed(text: str) -> None:
    invoice = intsig(vat_invoice_issue_date=text)
    assert invoice.issue_date == date(2017, 6, 6)
    assert invoice.evidence["issue_date"].text == text


@pytest.mark.parametrize("text", ["2017年13月06日", "20170631", "0000-01-01", "2017年", "date", "٢٠١٧٠٦٠٦"])
def test_what_is_no_date_is_named(text: str) -> None:
    invoice = ocr(invoice_date=text)
    assert invoice.issue_date is None
    assert invoice.problems == (Problem("VALUE_UNPARSABLE", "issue_date", text),)


@pytest.mark.parametrize("value", [2324.79, "2324.79", "２，３２４．７９", " ¥2,324.79", "2324.790"])
def test_amounts_are_exact_decimals_however_they_come(value: object) -> None:
    assert str(ocr(invoice_amount=value).amount) == "2324.79"


@pytest.mark.parametrize("text", ["1e999999", "12.345", "9" * 400, "46,62", "***"])
def test_what_is_no_amount_is_named(text: str) -> None:
    assert ocr(total_amount=text).problems == (Problem("VALUE_UNPARSABLE", "total", text),)


@pytest.mark.parametrize("text", ["***", "＊＊＊", "¥***", "*", "免税"])
def test_stars_instead_of_a_tax_are_no_problem_and_no_number(text: str) -> None:
    invoice = intsig(vat_invoice_tax_total=text)
    assert (invoice.tax, invoice.problems, invoice.evidence["tax"].text) == (None, (), text)


@pytest.mark.parametrize(
    ("header", "column", "rate", "text"),
    [
        ("13%", "", "0.13", "13%"),
        ("", "13%\n13%", "0.13", "13%"),
        ("13%", "13%\n9%", None, "13%"),
        ("13%、9%", "", None, "13%、9%"),
        ("", "13%\n免税", None, None),
        ("免税", "", None, "免税"),
        ("", "免税\n免税", None, "免税"),
    ],
)
def test_a_header_rate_is_set_only_when_it_is_the_only_one(
    header: str, column: str, rate: str | None, text: str | None
) -> None:
    invoice = intsig(vat_invoice_tax_rate=header, vat_invoice_tax_rate_list=column)
    assert (invoice.tax_rate, invoice.tax_rate_text) == (rate and D(rate), text)


@pytest.mark.parametrize(
    ("text", "stamp"), [("1", True), ("true", True), (True, True), ("是", True), ("0", False), (False, False)]
)
def test_a_stamp_is_there_or_not(text: object, stamp: bool) -> None:
    assert intsig(exist_stample=text).stamp is stamp


def test_names_keep_their_full_width_brackets() -> None:
    assert ocr(saler_name=" 当当网信息技术（眉山）有限公司 ").seller_name == "当当网信息技术（眉山）有限公司"


@pytest.mark.parametrize("place", [[], [1, 2, "x"], "1,2", {"x": 1}, [[1, 2]], [True] * 8])
def test_a_place_that_is_no_place_costs_nothing_else(place: object) -> None:
    item = {"key": "vat_invoice_haoma", "value": "12345678", "confidence": "x", "position": place}
    invoice = intsig({"item_list": [item]})
    assert invoice.number == "12345678"
    assert (invoice.evidence["number"].position, invoice.evidence["number"].confidence) == (None, None)
    assert invoice.details["items"][0]["confidence"] == "x"


# ── lines ──


def columns(**texts: str) -> Invoice:
    return intsig(**{INTSIG_LINE_COLUMNS[name]: text for name, text in texts.items()})


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_columns_that_count_the_same_lines_are_paired(end: str) -> None:
    invoice = columns(name=f"甲{end}乙", amount=f"1.00{end}2.00{end}", quantity=f"3{end}")
    assert [(line.number, line.name, line.amount, line.quantity) for line in invoice.lines] == [
        (1, "甲", D("1.00"), D(3)),
        (2, "乙", D("2.00"), None),
    ]


def test_a_wrapped_name_pairs_nothing_and_keeps_the_header_and_the_columns() -> None:
    invoice = intsig(
        vat_invoice_total="3.00", vat_invoice_goods_list="甲的\n名字\n乙", vat_invoice_price_list="1.00\n2.00"
    )
    assert invoice.lines == ()
    assert invoice.problems == (Problem("LINES_NOT_PAIRED", "lines", "name 3, amount 2"),)
    assert invoice.amount == D("3.00")
    assert invoice.details["vat_invoice_goods_list"] == "甲的\n名字\n乙"


def test_rows_that_the_service_aligned_are_used_as_they_are() -> None:
    cells = {"vat_invoice_goods_list": "甲", "vat_invoice_price_list": "1.00", "vat_invoice_tax_rate": "6%"}
    as_items = [{"key": key, "value": value} for key, value in cells.items()]
    for row in (cells, as_items, {key: {"value": value} for key, value in cells.items()}):
        invoice = intsig({"product_list": [row]}, vat_invoice_goods_list="甲\n乙", vat_invoice_price_list="1")
        assert invoice.lines == (Line(1, "甲", amount=D("1.00"), tax_rate=D("0.06"), tax_rate_text="6%"),)
        assert invoice.problems == ()


def test_a_line_that_cannot_be_read_is_named_and_the_others_stay() -> None:
    invoice = columns(amount="1.00\nx", tax="***\n0.13")
    assert [line.amount for line in invoice.lines] == [D("1.00"), None]
    assert invoice.problems == (Problem("VALUE_UNPARSABLE", "lines[2].amount", "x"),)


# ── totality ──


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"null", b'{"code":200,"result":null}', b"[" * 100_000, b"\xff"]
)
def test_what_holds_no_result_is_a_parse_error(body: bytes) -> None:
    with pytest.raises(ParseError):
        parse(INTSIG, body)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
odd = scalars | st.lists(scalars) | st.dictionaries(st.text(), scalars)


@given(st.dictionaries(st.sampled_from(TWELVE.split()) | st.text(), odd))
def test_any_values_under_the_twelve_keys_make_an_invoice(fields: dict[str, Any]) -> None:
    assert json.dumps(ocr(**{"invoice_no": "1", **fields}).details)


@given(
    st.lists(
        st.fixed_dictionaries(
            {"key": st.sampled_from(FORTY_SEVEN.split()) | odd, "value": odd},
            optional={"confidence": odd, "position": odd},
        )
        | odd
    ),
    odd,
)
def test_any_items_make_an_invoice(items: list[Any], product_list: Any) -> None:
    invoice = intsig({"item_list": items, "product_list": product_list, "type": "x"})
    assert all(
        number is None or number.is_finite() for number in (invoice.amount, invoice.tax, invoice.total)
    )
    assert json.dumps(dict(invoice.details)).encode()
