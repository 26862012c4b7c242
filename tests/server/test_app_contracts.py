"""Readings in the shapes that JD documents, and bodies in the encodings that it leaves open."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest

from airflow_provider_jdocr.core.endpoints import ENDPOINTS, Endpoint
from airflow_provider_jdocr.server import contracts
from airflow_provider_jdocr.server.pictures import Encoding, Picture, decode, format_of, open_picture
from tests.server.app_client import BMP, BOX, JPEG, PNG, reading


def test_the_twelve_fields_are_those_of_the_description() -> None:
    assert contracts.twelve_fields(reading()) == {
        "buyer_name": "华电虎林凤力发电有限公司",
        "buyer_tax_no": "372569065123562",
        "code": "3700081650",
        "invoice_amount": "13675.21",
        "invoice_date": "20090424",
        "invoice_no": "01599485",
        "invoice_type": "04",
        "saler_name": "山东阳谷振璃工艺制品司",
        "saler_tax_no": "372522168018036",
        "tax_amount": "2324.79",
        "total_amount": "16000.00",
        "verify_code": "44095028783173850994",
    }


def test_what_is_not_on_the_picture_is_an_empty_string() -> None:
    assert set(contracts.twelve_fields(reading("other")).values()) == {""}


@pytest.mark.parametrize(
    ("code", "kind", "number"),
    [
        ("1100094140", "vat_special_invoice", "01"),
        ("1100094150", "vat_common_invoice", "01"),
        ("3700081650", "vat_special_invoice", "04"),
        ("011001900104", "vat_common_invoice", "04"),
        ("012001800311", "vat_common_invoice", "10"),
        ("144031539110", "other", "10"),
        ("011001900113", "vat_electronic_invoice", "08"),
        ("011001900107", "vat_common_invoice", "11"),
        ("011001900112", "vat_electronic_invoice", "14"),
        ("", "vat_electronic_special_invoice_new", "31"),
        ("", "vat_electronic_invoice_new", "32"),
        ("unread", "vat_special_invoice", "01"),
        ("", "other", ""),
    ],
)
def test_the_type_follows_from_the_code_and_else_from_the_look(code: str, kind: str, number: str) -> None:
    assert contracts.type_number(code, kind) == number


@pytest.mark.parametrize(
    ("printed", "answered"),
    [
        ("2017年06月06日", "20170606"),
        ("2009 年 4 月 24 日", "20090424"),
        ("2017-6-6", "20170606"),
        ("20090424", "20090424"),
        ("?", "?"),
    ],
)
def test_dates_are_eight_digits_where_they_can_be_read(printed: str, answered: str) -> None:
    assert contracts.eight_digits(printed) == answered


@pytest.mark.parametrize(
    ("printed", "answered"), [("￥1，234.50", "1234.50"), ("¥ -3.00", "-3.00"), ("***", "***"), ("", "")]
)
def test_amounts_have_no_currency_sign(printed: str, answered: str) -> None:
    assert contracts.plain_amount(printed) == answered


def test_an_item_has_its_five_documented_keys() -> None:
    result = contracts.intsig_result(reading())
    assert result["item_list"][0] == {
        "key": "vat_invoice_daima",
        "value": "3700081650",
        "position": list(BOX),
        "confidence": 0.987,
        "description": "发票代码",
    }
    assert {name: value for name, value in result.items() if name != "item_list"} == {
        "image_angle": 0,
        "rotated_image_width": 640,
        "rotated_image_height": 480,
        "kind": "service",
        "kind_description": "服务",
        "class": "nation_tax_invoice",
        "type": "vat_common_invoice",
        "type_description": "增值税普通发票",
    }


def test_every_documented_key_has_its_description() -> None:
    assert len(contracts.DESCRIPTIONS) == 47


def _uri(content: bytes) -> bytes:
    return b"data:image/png;base64," + base64.b64encode(content)


_ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "raw": lambda content: content,
    "base64": base64.b64encode,
    "data_uri": _uri,
}


@pytest.mark.parametrize("sent", _ENCODERS)
@pytest.mark.parametrize("wanted", ["raw", "base64", "data_uri", "any"])
def test_a_picture_is_found_in_the_wanted_encoding_and_in_no_other(sent: str, wanted: Encoding) -> None:
    body = _ENCODERS[sent](PNG + b"pixels")
    found = open_picture(body, wanted, ENDPOINTS["intsig_invoice"])
    assert found == (Picture(PNG + b"pixels", "png") if wanted in (sent, "any") else "format")


def test_base64_may_come_in_lines() -> None:
    content = JPEG + bytes(200)
    assert decode(base64.encodebytes(content), "base64") == content


@pytest.mark.parametrize(
    ("content", "found"), [(JPEG, "jpeg"), (PNG, "png"), (BMP, "bmp"), (b"GIF89a", None), (b"%PDF-1.7", None)]
)
def test_the_format_is_told_by_content(content: bytes, found: str | None) -> None:
    assert format_of(content) == found


@pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=lambda endpoint: endpoint.name)
def test_a_file_of_the_size_limit_is_too_large(endpoint: Endpoint) -> None:

    largest = JPEG + bytes(endpoint.max_bytes - 1 - len(JPEG))
    assert isinstance(open_picture(largest, "raw", endpoint), Picture)
    assert open_picture(largest + b"x", "raw", endpoint) == "too_large"


def test_a_jpeg_of_a_thousand_scans_is_not_decoded() -> None:
    """Each scan goes over all pixels again, for a few bytes of the file."""
    endpoint = ENDPOINTS["ocr_invoice"]
    assert isinstance(open_picture(JPEG + b"\xff\xda" * 200, "raw", endpoint), Picture)
    assert open_picture(JPEG + b"\xff\xda" * 201, "raw", endpoint) == "unreadable"
