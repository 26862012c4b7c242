"""Laws of the warehouse, on SQLite, PostgreSQL and MariaDB alike."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa
from sqlalchemy.schema import CreateSchema, DropSchema

from airflow_provider_jdocr.core.documents import Document, invoice_key, rows_of
from airflow_provider_jdocr.core.endpoints import ENDPOINTS
from airflow_provider_jdocr.core.engines import Dialect, engine_for
from airflow_provider_jdocr.core.errors import ConfigurationError, WarehouseError
from airflow_provider_jdocr.core.findings import Finding, Severity
from airflow_provider_jdocr.core.ledger import Identity
from airflow_provider_jdocr.core.merging import KEY_FACTS
from airflow_provider_jdocr.core.parsing import FieldEvidence, Invoice, InvoiceKind, Line, parse, read_text
from airflow_provider_jdocr.core.warehouse import LoadReport, Warehouse, ddl
from tests.core import warehouses
from tests.core.warehouses import NOON, rows
from tests.injection.invoices import draw, reply

CODE, NUMBER = "044001900111", "12345678"
KEY = f"{CODE}:{NUMBER}"
DIGITAL = "25442000000123456789"
INVOICE = Invoice(
    endpoint="intsig_invoice",
    kind=InvoiceKind.COMMON_ELECTRONIC,
    kind_text="vat_electronic_invoice",
    code=CODE,
    number=NUMBER,
    issue_date=date(2026, 2, 27),
    check_code="12345678901234567890",
    buyer_name="某某有限公司",
    buyer_tax_id="91440101MA5CXXXX0Q",
    seller_tax_id="91110108551385082Q",
    amount=Decimal("100.10"),
    tax=Decimal("13.01"),
    total=Decimal("113.11"),
    tax_rate=Decimal("0.13"),
    tax_rate_text="13%",
    stamp=True,
    lines=(
        Line(
            1,
            name="*纸制品*复印纸",
            quantity=Decimal("3.5"),
            unit_price=Decimal("72091.735849056604"),
            amount=Decimal("100.10"),
        ),
    ),
    evidence={"total": FieldEvidence("￥113.11", "vat_invoice_total", 0.984, (1.0, 2.0, 3.5, 4.0))},
    details={"image_angle": 90, "售后": ["未知", None]},
)
OTHERS: dict[str, Any] = {
    "issue_date": date(2026, 2, 28),
    "amount": Decimal("100.11"),
    "tax": Decimal("13.02"),
    "total": Decimal("113.17"),
    "check_code": "12345678901234567899",
    "buyer_tax_id": "91440101MA5CXXXX1Q",
    "seller_tax_id": "91110108551385083Q",
}
DOUBT = Finding("SUM_MISMATCH", Severity.ERROR, ("total",), "the sum does not hold", "113.11", "113.12")


def identity(name: str) -> Identity:
    return Identity("jd", "intsig_invoice", name.rjust(64, "0"))


def document(name: str, invoice: Invoice | None = INVOICE, *findings: Finding, **answer: Any) -> Document:
    """The document that answer ``{name}-1`` gave; keywords change the answer, ``uris`` and ``version``."""
    uris = answer.pop("uris", (f"s3://scans/{name}.jpg",))
    version = answer.pop("version", "1.1")
    stored = warehouses.answer(identity(name), f"{name}-1")
    return Document(replace(stored, **answer), uris, invoice, findings, version)


class Clock:
    """A minute passes with each look."""

    def __init__(self) -> None:
        self._minutes = itertools.count()

    def __call__(self) -> datetime:
        return NOON + timedelta(days=1, minutes=next(self._minutes))


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[sa.Engine]:
    engine = engine_for(postgres_url)
    yield engine
    engine.dispose()


@pytest.fixture
def warehouse(engine: sa.Engine) -> Warehouse:
    warehouse = Warehouse(engine, clock=Clock())
    warehouse.create()
    return warehouse


def row(warehouse: Warehouse, name: str, key: str | None = None) -> dict[str, Any]:
    """The only row of a table, or that of an invoice's key or of a document's name."""
    found = rows(warehouse, name)
    if key is not None:
        column, key = ("invoice_key", key) if name == "invoices" else ("sha256", identity(key).sha256)
        found = [each for each in found if each[column] == key]
    assert len(found) == 1
    return found[0]


def everything(warehouse: Warehouse) -> dict[str, list[dict[str, Any]]]:
    return {name: rows(warehouse, name) for name in ("documents", "invoices", "lines", "findings")}


def review(warehouse: Warehouse, engine: sa.Engine, status: str, **values: Any) -> None:
    """What a reviewer's own tool does."""
    person = {"reviewed_at": NOON, "reviewed_by": "li.lei", "review_status": status}
    with engine.begin() as db:
        db.execute(warehouse.tables.invoices.update().values(person | values))


def conflicts(warehouse: Warehouse) -> set[str]:
    """The names of the documents with that finding."""
    ids = {each["document_id"]: each["sha256"].lstrip("0") for each in rows(warehouse, "documents")}
    found = [each for each in rows(warehouse, "findings") if each["code"] == "CONFLICTING_DOCUMENT"]
    return {ids[each["document_id"]] for each in found}


# --- one invoice, several documents


def test_two_scans_of_one_invoice_are_two_documents_and_one_invoice(warehouse: Warehouse) -> None:
    report = warehouse.load([document("a"), document("b")])
    assert len(rows(warehouse, "documents")) == 2
    assert row(warehouse, "invoices")["invoice_key"] == KEY
    assert report == LoadReport(considered=2, loaded=2, invoices_inserted=1)


def test_two_endpoints_readings_of_one_picture_are_two_documents_and_one_invoice(
    warehouse: Warehouse,
) -> None:
    other = document("a", answer_id="z", identity=replace(identity("a"), endpoint="ocr_invoice"))
    warehouse.load([document("a"), other])
    assert {each["endpoint"] for each in rows(warehouse, "documents")} == {
        "intsig_invoice",
        "ocr_invoice",
    }
    assert len(rows(warehouse, "invoices")) == 1


def test_a_fully_digital_invoice_is_one_invoice_by_its_twenty_digits_alone(warehouse: Warehouse) -> None:
    digital = replace(INVOICE, code=None, number=DIGITAL)
    warehouse.load([document("a", digital), document("b", digital)])
    assert row(warehouse, "invoices")["invoice_key"] == DIGITAL


@pytest.mark.parametrize(
    ("code", "number"),
    [
        (None, None),
        (CODE, None),
        (None, NUMBER),
        (CODE[:-1], NUMBER),
        (CODE, NUMBER[:-1]),
        (CODE, CODE + NUMBER),
        (None, DIGITAL[:-1]),
        (CODE, "1234567O"),
        (CODE, "１２３４５６７８"),
        ("", ""),
    ],
)
def test_a_document_without_a_readable_key_is_a_document_row_only_and_for_review(
    code: str | None, number: str | None, warehouse: Warehouse
) -> None:
    report = warehouse.load([document("a", replace(INVOICE, code=code, number=number))])
    assert rows(warehouse, "invoices") == []
    found = row(warehouse, "documents")
    assert (found["invoice_key"], found["review_status"], found["total"]) == (
        None,
        "review",
        Decimal("113.11"),
    )
    assert [each["code"] for each in rows(warehouse, "findings")] == ["NO_INVOICE_KEY"]
    assert (report.review, report.invoices_inserted) == (1, 0)


def test_a_key_is_never_null_and_tells_coded_from_digital() -> None:
    assert invoice_key(CODE, NUMBER) == KEY
    assert invoice_key("1234567890", NUMBER) == f"1234567890:{NUMBER}"
    assert invoice_key(None, DIGITAL) == invoice_key("", DIGITAL) == invoice_key(CODE, DIGITAL) == DIGITAL


def test_one_explanation_for_a_missing_key_is_enough(warehouse: Warehouse) -> None:
    shape = Finding("NUMBER_SHAPE", Severity.ERROR, ("number",), "a number has 8 or 20 digits")
    warehouse.load([document("a", replace(INVOICE, number="123"), shape)])
    assert [each["code"] for each in rows(warehouse, "findings")] == ["NUMBER_SHAPE"]


# --- who may change the invoice's row


def test_the_header_is_the_first_documents_and_agreeing_ones_only_fill_what_is_empty(
    warehouse: Warehouse,
) -> None:
    warehouse.load([document("a", replace(INVOICE, buyer_name=None, tax=None, remarks="first"))])
    report = warehouse.load([document("b", replace(INVOICE, remarks="second", payee="王芳"))])
    found = row(warehouse, "invoices")
    assert (found["buyer_name"], found["tax"], found["payee"]) == ("某某有限公司", Decimal("13.01"), "王芳")
    assert (found["remarks"], found["review_status"]) == ("first", "clear")
    assert found["document_id"] == row(warehouse, "documents", "a")["document_id"]
    assert report.invoices_updated == 1


def test_what_one_document_filled_no_later_one_changes(warehouse: Warehouse) -> None:
    warehouse.load([document("a", replace(INVOICE, remarks=None))])
    warehouse.load([document("b", replace(INVOICE, remarks="second"))])
    before = row(warehouse, "invoices")
    early = NOON - timedelta(days=9)
    report = warehouse.load([document("c", replace(INVOICE, remarks="third"), answered_at=early)])
    assert row(warehouse, "invoices") == before
    assert report.invoices_updated == 0


def test_lines_come_from_the_first_document_that_has_some(warehouse: Warehouse) -> None:
    warehouse.load([document("a", replace(INVOICE, lines=()))])
    assert row(warehouse, "invoices")["lines_document_id"] is None
    warehouse.load([document("b")])
    assert row(warehouse, "invoices")["lines_document_id"] == row(warehouse, "lines")["document_id"]


def test_a_value_filled_from_a_doubtful_document_makes_the_invoice_doubtful(warehouse: Warehouse) -> None:
    warehouse.load([document("a", replace(INVOICE, payee=None))])
    warehouse.load([document("b", INVOICE, DOUBT)])
    assert row(warehouse, "invoices")["review_status"] == "clear"
    warehouse.load([document("c", replace(INVOICE, payee="王芳"), DOUBT)])
    assert row(warehouse, "invoices")["review_status"] == "review"


@pytest.mark.parametrize("fact", KEY_FACTS)
def test_a_document_that_disagrees_overwrites_nothing_and_puts_both_up_for_review(
    fact: str, warehouse: Warehouse, engine: sa.Engine
) -> None:
    warehouse.load([document("a")])
    before = row(warehouse, "invoices")
    report = warehouse.load([document("b", replace(INVOICE, payee="filler", **{fact: OTHERS[fact]}))])
    after = row(warehouse, "invoices")
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"review_status", "loaded_at"}
    assert after["review_status"] == "review"
    assert {each["review_status"] for each in rows(warehouse, "documents")} == {"review"}
    assert conflicts(warehouse) == {"a", "b"}
    found = [each for each in rows(warehouse, "findings") if each["code"] == "CONFLICTING_DOCUMENT"]
    assert {each["fields"] for each in found} == {fact}
    assert (report.conflicts, report.review, report.invoices_updated) == (1, 1, 1)


def test_a_fact_that_only_one_document_has_is_no_disagreement(
    warehouse: Warehouse, engine: sa.Engine
) -> None:
    empty: dict[str, Any] = dict.fromkeys(KEY_FACTS)
    nothing = replace(INVOICE, **empty)
    warehouse.load([document("a", nothing), document("b")])
    assert conflicts(warehouse) == set()
    assert row(warehouse, "invoices")["total"] == Decimal("113.11")


def test_a_document_also_contradicts_what_another_one_filled(warehouse: Warehouse, engine: sa.Engine) -> None:
    warehouse.load([document("a", replace(INVOICE, total=None))])
    warehouse.load([document("b")])
    warehouse.load([document("c", replace(INVOICE, total=Decimal("1.00")))])
    assert conflicts(warehouse) == {"a", "c"}
    assert row(warehouse, "invoices")["total"] == Decimal("113.11")


def test_when_a_new_reading_agrees_after_all_the_conflict_is_over_for_both(
    warehouse: Warehouse, engine: sa.Engine
) -> None:
    warehouse.load([document("a"), document("b", replace(INVOICE, total=Decimal("118.11")))])
    assert conflicts(warehouse) == {"a", "b"}
    warehouse.load([document("b", version="1.2")])
    assert conflicts(warehouse) == set()
    assert {each["review_status"] for each in rows(warehouse, "documents")} == {"clear"}
    assert row(warehouse, "invoices")["review_status"] == "clear"


def test_within_one_load_the_order_of_documents_does_not_matter(
    warehouse: Warehouse, engine: sa.Engine
) -> None:
    three = [
        document("a", replace(INVOICE, remarks=None), answered_at=NOON - timedelta(hours=1)),
        document("b", replace(INVOICE, remarks="b")),
        document(
            "c", replace(INVOICE, remarks="c", total=Decimal("1.00")), answered_at=NOON + timedelta(hours=1)
        ),
    ]
    seen = []
    for number, order in enumerate(itertools.permutations(three)):
        other = Warehouse(engine, prefix=f"p{number}_", clock=lambda: NOON)
        other.create()
        other.load(order)
        seen.append(everything(other))
    assert all(each == seen[0] for each in seen)
    assert seen[0]["invoices"][0]["remarks"] == "b"


# --- again


def test_loading_the_same_again_changes_nothing(warehouse: Warehouse, engine: sa.Engine) -> None:
    documents = [
        document("a"),
        document("b", replace(INVOICE, total=Decimal("1.00"))),
        document("c", replace(INVOICE, number="bad"), DOUBT),
        document("d", None, state="failed", code="12002", message="unreadable"),
        document("e", None),
    ]
    warehouse.load(documents)
    before = everything(warehouse)
    assert warehouse.load(documents) == LoadReport(considered=5, unchanged=5)
    assert warehouse.load(reversed(documents)) == LoadReport(considered=5, unchanged=5)
    assert everything(warehouse) == before


def test_the_source_read_by_a_newer_version_updates_its_invoice(warehouse: Warehouse) -> None:
    warehouse.load([document("a")])
    first = row(warehouse, "invoices")
    report = warehouse.load(
        [document("a", replace(INVOICE, total=Decimal("200.00"), lines=()), version="1.10")]
    )
    found = row(warehouse, "invoices")
    assert (found["total"], found["lines_document_id"]) == (Decimal("200.00"), None)
    assert found["first_loaded_at"] == first["first_loaded_at"] < found["loaded_at"]
    assert rows(warehouse, "lines") == []
    assert report == LoadReport(considered=1, loaded=1, invoices_updated=1)


def test_a_newer_answer_to_the_same_document_updates_its_invoice(warehouse: Warehouse) -> None:
    warehouse.load([document("a")])
    newer = document(
        "a", replace(INVOICE, total=Decimal("200.00")), answer_id="a-2", answered_at=NOON + timedelta(1)
    )
    warehouse.load([newer])
    assert row(warehouse, "invoices")["total"] == Decimal("200.00")
    assert row(warehouse, "documents")["answer_id"] == "a-2"


@pytest.mark.parametrize(
    "older",
    [{"version": "1.9"}, {"answer_id": "a-0", "answered_at": NOON - timedelta(days=1), "version": "9.9"}],
    ids=["version", "answer"],
)
def test_an_older_reading_never_replaces_a_newer_one(
    older: dict[str, Any], warehouse: Warehouse, engine: sa.Engine
) -> None:
    warehouse.load([document("a", version="1.10")])
    before = everything(warehouse)
    report = warehouse.load([document("a", replace(INVOICE, total=Decimal("1.00")), **older)])
    assert report == LoadReport(considered=1, unchanged=1)
    assert everything(warehouse) == before


def test_asking_again_in_vain_does_not_lose_what_was_read_before(
    warehouse: Warehouse, engine: sa.Engine
) -> None:
    warehouse.load([document("a")])
    before = everything(warehouse)
    later = {"answer_id": "a-2", "answered_at": NOON + timedelta(days=1)}
    warehouse.load([document("a", None, state="failed", **later)])
    warehouse.load([document("a", None, **later)])
    assert everything(warehouse) == before


def test_a_failed_document_that_is_recognised_later_gets_its_invoice(warehouse: Warehouse) -> None:
    warehouse.load([document("a", None, state="failed", code="12005")])
    warehouse.load([document("a", answer_id="a-2", answered_at=NOON + timedelta(days=1))])
    found = row(warehouse, "documents")
    assert (found["state"], found["review_status"], found["answer_code"]) == ("recognised", "clear", "10000")
    assert row(warehouse, "invoices")["invoice_key"] == KEY
    assert rows(warehouse, "findings") == []


def test_a_document_that_turns_out_to_show_another_invoice_moves_and_leaves_no_empty_one(
    warehouse: Warehouse,
) -> None:
    warehouse.load([document("a")])
    report = warehouse.load([document("a", replace(INVOICE, number="87654321"), version="1.2")])
    assert row(warehouse, "invoices")["invoice_key"] == f"{CODE}:87654321"
    assert (report.invoices_inserted, report.invoices_removed) == (1, 1)


def test_an_invoice_whose_source_moved_away_goes_on_from_its_next_document(
    warehouse: Warehouse, engine: sa.Engine
) -> None:
    warehouse.load([document("a", replace(INVOICE, payee="a"))])
    warehouse.load([document("b", replace(INVOICE, payee="b", total=Decimal("99.00")))])
    warehouse.load([document("a", replace(INVOICE, number="87654321"), version="1.2")])
    found = row(warehouse, "invoices", KEY)
    assert (found["payee"], found["total"], found["review_status"]) == ("b", Decimal("99.00"), "clear")
    assert conflicts(warehouse) == set()
    assert row(warehouse, "documents", "b")["review_status"] == "clear"


def test_a_document_that_comes_back_does_not_take_the_invoice_from_its_new_source(
    warehouse: Warehouse,
) -> None:
    other = replace(INVOICE, number="87654321")
    warehouse.load([document("a", replace(INVOICE, payee="a"))])
    warehouse.load([document("b", replace(INVOICE, payee="b"))])
    warehouse.load([document("a", other, version="1.2")])
    warehouse.load([document("a", replace(INVOICE, payee="a"), version="1.3")])
    assert row(warehouse, "invoices")["payee"] == "b"


# --- review


@pytest.mark.parametrize("status", ["approved", "corrected", "rejected"])
def test_what_a_person_reviewed_no_load_changes(status: str, warehouse: Warehouse, engine: sa.Engine) -> None:
    warehouse.load([document("a")])
    review(warehouse, engine, status, total=Decimal("555.55"))
    before = row(warehouse, "invoices")
    warehouse.load([document("a", replace(INVOICE, total=Decimal("1.00")), version="1.2")])
    warehouse.load([document("b", replace(INVOICE, payee="filler", total=None))])
    warehouse.load([document("c", replace(INVOICE, total=Decimal("2.00")))])
    assert row(warehouse, "invoices") == before


def test_a_document_that_disagrees_with_a_reviewed_invoice_is_for_review_itself(
    warehouse: Warehouse, engine: sa.Engine
) -> None:
    warehouse.load([document("a")])
    review(warehouse, engine, "approved")
    report = warehouse.load([document("b", replace(INVOICE, total=Decimal("2.00"))), document("c")])
    assert conflicts(warehouse) == {"b"}
    assert row(warehouse, "documents", "b")["review_status"] == "review"
    assert row(warehouse, "documents", "a")["review_status"] == "clear"
    assert (report.conflicts, report.review) == (1, 1)


def test_a_reviewed_invoice_stays_when_its_only_document_moves(
    warehouse: Warehouse, engine: sa.Engine
) -> None:
    warehouse.load([document("a")])
    review(warehouse, engine, "approved")
    before = row(warehouse, "invoices")
    report = warehouse.load([document("a", replace(INVOICE, number="87654321"), version="1.2")])
    assert row(warehouse, "invoices", KEY) == before
    assert report.invoices_removed == 0


def test_a_rejected_invoice_is_no_measure_of_other_documents(warehouse: Warehouse, engine: sa.Engine) -> None:
    warehouse.load([document("a")])
    review(warehouse, engine, "rejected")
    warehouse.load([document("b", replace(INVOICE, total=Decimal("2.00")))])
    assert conflicts(warehouse) == set()


def test_a_reviewed_document_keeps_its_reading_and_is_not_missing(
    warehouse: Warehouse, engine: sa.Engine
) -> None:
    warehouse.load([document("a", replace(INVOICE, number=None))])
    with engine.begin() as db:
        values = {"reviewed_at": NOON, "reviewed_by": "li.lei", "review_status": "rejected"}
        db.execute(warehouse.tables.documents.update().values(values))
    before = everything(warehouse)
    assert warehouse.load([document("a", version="1.2")]) == LoadReport(considered=1, unchanged=1)
    assert everything(warehouse) == before
    assert warehouse.missing({identity("a"): "a-1"}, "1.2") == []


# --- what is loaded


def test_every_value_comes_back_exactly_as_it_was_read(warehouse: Warehouse) -> None:
    awkward = replace(
        INVOICE,
        total=Decimal("9999999999999.99"),
        amount=Decimal("-0.01"),
        tax=Decimal("0.00"),
        tax_rate=Decimal("0.015"),
    )
    warehouse.load([document("a", awkward, DOUBT)])
    found = row(warehouse, "documents")
    for name in ("code", "number", "issue_date", "total", "amount", "tax", "tax_rate", "buyer_name", "stamp"):
        assert found[name] == getattr(awkward, name), name
    assert all(isinstance(found[name], Decimal) for name in ("total", "tax", "tax_rate"))
    assert found["kind"] == "common_electronic"
    assert found["details"] == {"image_angle": 90, "售后": ["未知", None]}
    assert found["evidence"]["total"]["text"] == "￥113.11"
    assert found["uris"] == ["s3://scans/a.jpg"]
    assert found["answered_at"] == NOON
    line = row(warehouse, "lines")
    assert (line["quantity"], line["unit_price"]) == (Decimal("3.5"), Decimal("72091.735849056604"))
    kept = row(warehouse, "findings")
    assert {name: kept[name] for name in ("code", "severity", "fields", "found", "expected", "proposal")} == {
        "code": "SUM_MISMATCH",
        "severity": "error",
        "fields": "total",
        "found": "113.11",
        "expected": "113.12",
        "proposal": None,
    }


def test_amounts_compare_and_sum_as_numbers_in_sql(warehouse: Warehouse, engine: sa.Engine) -> None:
    amounts = ("9.00", "100.10", "-20.05")
    warehouse.load(
        document(str(at), replace(INVOICE, number=f"1234567{at}", amount=Decimal(amount)))
        for at, amount in enumerate(amounts)
    )
    column = warehouse.tables.invoices.c.amount
    with engine.connect() as db:
        assert db.scalar(sa.select(sa.func.sum(column))) == Decimal("89.05")
        assert db.scalar(sa.text("SELECT count(*) FROM jdocr_invoices WHERE amount > 50")) == 1
        assert db.scalars(sa.select(column).order_by(column)).all() == [
            Decimal(each) for each in sorted(amounts, key=float)
        ]


@pytest.mark.parametrize("value", ["10000000000000.00", "1E+30", "12.345", "NaN"])
def test_money_that_no_column_can_hold_is_left_empty_and_named(value: str, warehouse: Warehouse) -> None:
    warehouse.load([document("a", replace(INVOICE, total=Decimal(value)))])
    assert row(warehouse, "invoices")["total"] is None
    assert row(warehouse, "invoices")["review_status"] == "review"
    found = row(warehouse, "findings")
    assert (found["code"], found["fields"], found["found"]) == ("VALUE_NOT_STORABLE", "total", value)


def test_a_text_that_no_invoice_prints_is_left_empty_and_named(warehouse: Warehouse) -> None:
    """MySQL's TEXT holds 65 535 bytes, and one answer must not keep a chunk of others from being loaded."""
    longest, longer = "票" * 10_000, "x" * 10_001
    evidence = {"remarks": FieldEvidence(longer, "k", None, None)}
    line = Line(1, name=longer, unit=longest)
    warehouse.load(
        [document("a", replace(INVOICE, remarks=longer, payee=longest, evidence=evidence, lines=(line,)))]
    )
    found = row(warehouse, "documents")
    assert (found["remarks"], found["payee"]) == (None, longest)
    assert found["evidence"]["remarks"]["text"] == longer
    assert (row(warehouse, "lines")["name"], row(warehouse, "lines")["unit"]) == (
        None,
        longest,
    )
    findings = rows(warehouse, "findings")
    assert {(each["code"], each["fields"], each["found"]) for each in findings} == {
        ("VALUE_NOT_STORABLE", name, longer[:500]) for name in ("remarks", "lines.1.name")
    }


def test_a_unit_price_with_more_decimals_than_its_column_is_rounded_and_named_and_blocks_nothing(
    warehouse: Warehouse,
) -> None:
    line = Line(1, unit_price=Decimal("0.12345678901234"), quantity=Decimal("1E+11"))
    warehouse.load([document("a", replace(INVOICE, lines=(line,)))])
    found = row(warehouse, "lines")
    assert (found["unit_price"], found["quantity"]) == (Decimal("0.123456789012"), None)
    codes = {(each["code"], each["fields"]) for each in rows(warehouse, "findings")}
    assert codes == {("VALUE_ROUNDED", "lines.1.unit_price"), ("VALUE_NOT_STORABLE", "lines.1.quantity")}


def test_characters_that_a_database_refuses_are_replaced_not_fatal(warehouse: Warehouse) -> None:
    bad = replace(
        INVOICE,
        remarks="a\x00b\ud800c",
        evidence={"remarks": FieldEvidence("\x00", "k\x00", float("nan"), None)},
        details={"x\x00": ["\udfff", float("inf"), {"y": "\x00"}]},
    )
    strange = replace(DOUBT, message="\ud800", found="\x00", expected="\udfff")
    warehouse.load([document("a", bad, strange, message="\x00", uris=("file:///\udce4.jpg",))])
    warehouse.load([], also_named={identity("a"): ["file:///\udce5\x00.jpg"]})
    assert row(warehouse, "findings")["found"] == "\ufffd"
    found = row(warehouse, "documents")
    assert found["remarks"] == "a\ufffdb\ufffdc"
    assert found["details"] == {"x\ufffd": ["\ufffd", "inf", {"y": "\ufffd"}]}


def test_a_failed_recognition_is_a_document_with_its_code_and_no_invoice(warehouse: Warehouse) -> None:
    report = warehouse.load([document("a", None, state="failed", code="12002", message="图片无法识别")])
    found = row(warehouse, "documents")
    assert (found["state"], found["answer_code"], found["answer_message"]) == (
        "failed",
        "12002",
        "图片无法识别",
    )
    assert (found["review_status"], found["invoice_key"], rows(warehouse, "invoices")) == (
        "review",
        None,
        [],
    )
    assert report == LoadReport(considered=1, loaded=1, failed=1)


def test_an_answer_that_cannot_be_parsed_is_a_document_with_a_finding_and_no_invoice(
    warehouse: Warehouse,
) -> None:
    report = warehouse.load([document("a", None)])
    assert row(warehouse, "documents")["state"] == "unparsed"
    assert row(warehouse, "findings")["code"] == "PARSE_FAILED"
    assert rows(warehouse, "invoices") == []
    assert report == LoadReport(considered=1, loaded=1, review=1, unparsed=1)


def test_the_names_of_a_document_add_up_and_are_no_new_reading(warehouse: Warehouse) -> None:
    warehouse.load([document("a", uris=("s3://b/2.jpg", "s3://b/1.jpg"))])
    before = row(warehouse, "documents")
    warehouse.load([document("a", uris=("s3://b/3.jpg", "s3://b/1.jpg"))])
    warehouse.load([], also_named={identity("a"): ["s3://b/0.jpg"], identity("unknown"): ["s3://b/9.jpg"]})
    after = row(warehouse, "documents")
    assert after["uris"] == ["s3://b/0.jpg", "s3://b/1.jpg", "s3://b/2.jpg", "s3://b/3.jpg"]
    assert {name for name in after if after[name] != before[name]} == {"uris"}


def test_a_document_given_twice_in_one_load_counts_once_with_all_its_names(warehouse: Warehouse) -> None:
    report = warehouse.load([document("a", uris=("y",), version="1.2"), document("a", None, uris=("x",))])
    found = row(warehouse, "documents")
    assert (found["uris"], found["state"], report.loaded, report.considered) == (
        ["x", "y"],
        "recognised",
        1,
        1,
    )


# --- what is new


def test_missing_are_those_without_a_row_of_this_answer_read_by_this_version_or_a_newer_one(
    warehouse: Warehouse,
) -> None:
    warehouse.load(
        [document("a", version="1.9"), document("b", version="1.10"), document("c", version="2.0")]
    )
    answers = {identity(name): f"{name}-1" for name in "abcd"} | {identity("c"): "c-2"}
    assert warehouse.missing(answers, "1.10") == [identity(name) for name in "acd"]


# --- chunks, races, tables


def test_one_chunk_is_one_transaction_and_earlier_chunks_stay(warehouse: Warehouse) -> None:
    def stream() -> Iterator[Document]:
        for at in range(501):
            yield document(f"{at:x}", replace(INVOICE, number=f"{at:08}"))
        raise OSError("the ledger is gone")

    with pytest.raises(OSError, match="gone"):
        warehouse.load(stream())
    assert len(rows(warehouse, "documents")) == len(rows(warehouse, "invoices")) == 500


def test_a_chunk_that_fails_leaves_nothing_of_itself(warehouse: Warehouse, engine: sa.Engine) -> None:
    with engine.begin() as db:
        db.execute(sa.text("DROP TABLE jdocr_findings"))
    with pytest.raises(WarehouseError, match="jdocr_findings"):
        warehouse.load([document("a", INVOICE, DOUBT)])
    assert rows(warehouse, "documents") == rows(warehouse, "invoices") == []


def test_loaders_at_the_same_time_neither_duplicate_nor_corrupt(
    warehouse: Warehouse, engine: sa.Engine
) -> None:
    loaders, invoices = 4, 40
    start = threading.Barrier(loaders)

    def load(which: int) -> LoadReport:
        own = Warehouse(engine)
        start.wait()
        total = LoadReport()
        for at in range(invoices):
            shared = document(f"5{at:x}", replace(INVOICE, number=f"{at:08}"), uris=(f"s3://{which}/{at}",))
            scan = document(f"{which + 10:x}{at:03x}", replace(INVOICE, number=f"{at:08}", payee=str(which)))
            total += own.load([shared, scan] if which % 2 else [scan, shared])
        return total

    with ThreadPoolExecutor(loaders) as pool:
        reports = list(pool.map(load, range(loaders)))
    total = sum(reports, LoadReport())
    assert total.invoices_inserted == len(rows(warehouse, "invoices")) == invoices
    assert len(rows(warehouse, "documents")) == invoices * (loaders + 1) == total.loaded
    names = [each["uris"] for each in rows(warehouse, "documents") if each["sha256"].lstrip("0")[0] == "5"]
    assert sorted(map(len, names)) == [loaders] * invoices
    assert all(each["payee"] is not None for each in rows(warehouse, "invoices"))


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
def test_loaders_take_turns_under_stricter_isolation_too(isolation: str, postgres_url: str) -> None:
    engine = engine_for(postgres_url, isolation_level=isolation)
    warehouse = Warehouse(engine)
    warehouse.create()
    start = threading.Barrier(2)

    def load(which: int) -> None:
        start.wait()
        for at in range(20):
            warehouse.load([document(f"{which + 10:x}{at:03x}", replace(INVOICE, number=f"{at:08}"))])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(load, range(2)))
    assert len(rows(warehouse, "invoices")) == 20
    assert len(rows(warehouse, "documents")) == 40
    engine.dispose()


def test_a_load_that_loses_a_race_is_repeated_from_its_start(postgres: sa.Engine) -> None:
    warehouse = Warehouse(postgres)
    warehouse.create()
    races = iter(["40001", "40P01", "23505"])

    @sa.event.listens_for(postgres, "before_cursor_execute", retval=True)
    def lost(_db: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
        if statement.startswith('INSERT INTO "jdocr_findings"') and (state := next(races, None)):
            return f"DO $$ BEGIN RAISE EXCEPTION 'lost' USING ERRCODE = '{state}'; END $$", ()
        return statement, parameters

    report = warehouse.load([document("a", INVOICE, DOUBT)])
    assert next(races, None) is None
    assert report == LoadReport(considered=1, loaded=1, invoices_inserted=1, review=1)
    assert len(rows(warehouse, "invoices")) == len(rows(warehouse, "findings")) == 1


def test_a_load_that_loses_every_race_says_so(postgres: sa.Engine) -> None:
    warehouse = Warehouse(postgres)
    warehouse.create()

    @sa.event.listens_for(postgres, "before_cursor_execute", retval=True)
    def lost(_db: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
        if "jdocr_documents" in statement:
            return "DO $$ BEGIN RAISE EXCEPTION 'lost' USING ERRCODE = '40001'; END $$", ()
        return statement, parameters

    with pytest.raises(WarehouseError, match="lost") as caught:
        warehouse.load([document("a")])
    assert not caught.value.permanent


def test_a_review_that_comes_while_a_load_runs_is_not_overwritten(postgres_url: str) -> None:
    engine, reviewer = engine_for(postgres_url), engine_for(postgres_url)
    warehouse = Warehouse(engine)
    warehouse.create()
    warehouse.load([document("a")])

    @sa.event.listens_for(engine, "before_cursor_execute")
    def at_the_last_moment(_db: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith('INSERT INTO "jdocr_invoices"'):
            review(warehouse, reviewer, "corrected", total=Decimal("555.55"))

    warehouse.load([document("a", replace(INVOICE, total=Decimal("1.00")), version="1.2")])
    assert row(warehouse, "invoices")["total"] == Decimal("555.55")
    engine.dispose()
    reviewer.dispose()


def test_create_can_be_repeated_and_raced(engine: sa.Engine) -> None:
    start = threading.Barrier(4)

    def create(_: int) -> None:
        start.wait()
        Warehouse(engine).create()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(create, range(4)))
    Warehouse(engine).create()
    Warehouse(engine).load([document("a")])


def statements(engine: sa.Engine, **given: Any) -> list[str]:
    """Those that are printed for its database."""
    printed = ddl(cast(Dialect, engine.dialect.name), **given)
    return [each.strip() for each in printed.split(";\n") if each.strip()]


def test_the_printed_statements_make_the_same_warehouse(engine: sa.Engine) -> None:
    warehouse, printed = Warehouse(engine, prefix="Fin_"), statements(engine, prefix="Fin_")
    with engine.begin() as db:
        for statement in printed:
            db.exec_driver_sql(statement)
    warehouse.create()
    warehouse.load([document("a")])
    assert len(rows(warehouse, "invoices")) == 1
    quoted = engine.dialect.identifier_preparer.quote_identifier("Fin_documents")
    assert any(each.startswith(f"CREATE TABLE {quoted}") for each in printed)


def test_two_warehouses_of_one_database_know_nothing_of_each_other(engine: sa.Engine) -> None:
    one, other = Warehouse(engine, prefix="one_"), Warehouse(engine, prefix="other_")
    for each in (one, other):
        each.create()
    one.load([document("a")])
    assert rows(other, "documents") == []
    assert other.missing({identity("a"): "a-1"}, "1.1") == [identity("a")]


@pytest.mark.parametrize("name", ["Finance", "order", "a$b"], ids=["case", "reserved", "dollar"])
@pytest.mark.parametrize("kind", ["postgres_url", "mariadb_url"])
def test_a_schema_of_ones_own(kind: str, name: str, request: pytest.FixtureRequest) -> None:
    """By whatever name, as long as it is one; in MySQL a schema is a database."""
    engine = engine_for(request.getfixturevalue(kind))
    with engine.begin() as db:
        db.execute(CreateSchema(name))
    warehouse = Warehouse(engine, schema=name)
    warehouse.create()
    warehouse.create()
    warehouse.load([document("a")])
    with engine.begin() as db:
        found = sa.table("jdocr_invoices", sa.column("number"), schema=name)
        assert db.scalar(sa.select(found.c.number)) == NUMBER
        db.execute(DropSchema(name, cascade=engine.dialect.name == "postgresql"))
    engine.dispose()


def test_a_creation_that_was_killed_before_its_last_row_is_finished_by_the_next(
    warehouse: Warehouse, engine: sa.Engine
) -> None:
    """MySQL commits each CREATE TABLE by itself."""
    with engine.begin() as db:
        db.execute(warehouse.tables.meta.delete())
    with pytest.raises(WarehouseError, match=r"run create\(\)"):
        warehouse.load([document("a")])
    warehouse.create()
    assert warehouse.load([document("a")]).loaded == 1


def test_tables_of_a_newer_version_are_refused_with_both_versions_named(
    warehouse: Warehouse, engine: sa.Engine
) -> None:
    with engine.begin() as db:
        db.execute(warehouse.tables.meta.update().values(schema_version=99))
    with pytest.raises(WarehouseError, match=r"version 99.* writes 2") as caught:
        warehouse.load([document("a")])
    assert caught.value.permanent
    with pytest.raises(WarehouseError, match="version 99"):
        warehouse.create()


def test_loading_without_tables_says_so_and_shows_nobodys_data(engine: sa.Engine) -> None:
    with pytest.raises(WarehouseError, match="jdocr_warehouse_meta") as caught:
        Warehouse(engine).load([document("a")])
    assert "某某有限公司" not in str(caught.value)


@pytest.mark.parametrize("prefix", ["", "1a", "a b", 'a"; DROP TABLE x; --', "a" * 40, "发票_"])
def test_a_prefix_that_is_no_name_is_refused(prefix: str, engine: sa.Engine) -> None:
    with pytest.raises(ConfigurationError, match="prefix"):
        Warehouse(engine, prefix=prefix)


def test_a_schema_that_is_no_name_is_refused(engine: sa.Engine) -> None:
    with pytest.raises(ConfigurationError, match="schema"):
        Warehouse(engine, schema='public"; --')


def test_another_database_is_refused_before_anything_is_written() -> None:
    engine = sa.create_mock_engine("oracle+oracledb://", executor=lambda *_: None)
    with pytest.raises(ConfigurationError, match="oracle is none of them"):
        Warehouse(engine)  # type: ignore[arg-type]


# --- what documents say of each other


def said(warehouse: Warehouse) -> dict[str, list[str]]:
    """The codes of the findings, by the name and endpoint of their document."""
    ids = {
        each["document_id"]: f"{each['sha256'].lstrip('0')} {each['endpoint']}"
        for each in rows(warehouse, "documents")
    }
    found: dict[str, list[str]] = {name: [] for name in ids.values()}
    for each in rows(warehouse, "findings"):
        found[ids[each["document_id"]]].append(each["code"])
    return found


def flat(name: str, invoice: Invoice | None = INVOICE) -> Document:
    """What the other endpoint read from the same picture."""
    other = replace(identity(name), endpoint="ocr_invoice")
    return document(name, invoice, identity=other, answer_id=f"{name}-2")


@pytest.mark.parametrize("at_once", [True, False])
def test_the_second_file_of_an_invoice_is_named_as_a_duplicate_and_says_nothing_against_it(
    warehouse: Warehouse, engine: sa.Engine, at_once: bool
) -> None:
    for chunk in [["a", "b"]] if at_once else [["a"], ["b"]]:
        warehouse.load([document(name) for name in chunk])
    assert said(warehouse) == {"a intsig_invoice": [], "b intsig_invoice": ["DUPLICATE_DOCUMENT"]}
    assert row(warehouse, "invoices")["review_status"] == "clear"
    assert row(warehouse, "documents", "b")["review_status"] == "clear"
    before = everything(warehouse)
    warehouse.load([document("a"), document("b")])
    assert everything(warehouse) == before


def test_a_chunk_costs_as_many_statements_for_forty_documents_as_for_two(
    warehouse: Warehouse, engine: sa.Engine
) -> None:
    """First copies, second copies, the same again, red ones: what others say of them is asked for at once."""
    sent: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *each: sent.append(each[2]))

    def counts(number: int, digit: str) -> list[int]:
        invoices = [replace(INVOICE, number=f"{digit}{each:07}") for each in range(number)]
        red = [
            replace(RED, number=f"9{digit}{each:06}", takes_back=f"{CODE}:{one.number}")
            for each, one in enumerate(invoices)
        ]
        counted = []
        for letter, read in (("a", invoices), ("b", invoices), ("a", invoices), ("c", red)):
            sent.clear()
            warehouse.load(document(f"{letter}{digit}{each:02}", one) for each, one in enumerate(read))
            counted.append(len(sent))
        return counted

    assert counts(40, "1") == counts(2, "2")


def test_two_readings_of_one_file_are_no_duplicates(warehouse: Warehouse, engine: sa.Engine) -> None:
    warehouse.load([document("a"), flat("a")])
    assert said(warehouse) == {"a intsig_invoice": [], "a ocr_invoice": []}


@pytest.mark.parametrize("wrong", [{"number": "12345679"}, {"number": None, "total": Decimal("113.17")}])
@pytest.mark.parametrize("at_once", [True, False])
def test_two_endpoints_that_read_two_invoices_from_one_picture_put_both_to_review(
    warehouse: Warehouse, engine: sa.Engine, at_once: bool, wrong: dict[str, Any]
) -> None:
    one, other = document("a"), flat("a", replace(INVOICE, **wrong))
    for chunk in [[one, other]] if at_once else [[one], [other]]:
        warehouse.load(chunk)
    found = said(warehouse)
    assert all("ENDPOINTS_DISAGREE" in codes for codes in found.values())
    assert {each["review_status"] for each in rows(warehouse, "documents")} == {"review"}
    assert {each["review_status"] for each in rows(warehouse, "invoices")} == {"review"}
    before = everything(warehouse)
    warehouse.load([one, other])
    assert everything(warehouse) == before


def test_endpoints_that_agree_after_a_better_reading_are_clear_again(
    warehouse: Warehouse, engine: sa.Engine
) -> None:
    wrong = flat("a", replace(INVOICE, number="12345679"))
    warehouse.load([document("a"), wrong])
    better = replace(wrong, invoice=INVOICE, version="1.2")
    warehouse.load([better])
    assert said(warehouse) == {"a intsig_invoice": [], "a ocr_invoice": []}
    assert row(warehouse, "invoices")["review_status"] == "clear"


RED = replace(
    INVOICE,
    number="87654321",
    amount=Decimal("-100.10"),
    tax=Decimal("-13.01"),
    total=Decimal("-113.11"),
    takes_back=KEY,
    lines=(),
)


@pytest.mark.parametrize("order", ["together", "red last", "red first"])
def test_an_invoice_that_a_red_one_takes_back_goes_to_review(
    warehouse: Warehouse, engine: sa.Engine, order: str
) -> None:
    blue, red = document("a"), document("r", RED)
    for chunk in {"together": [[blue, red]], "red last": [[blue], [red]]}.get(order, [[red], [blue]]):
        warehouse.load(chunk)
    assert said(warehouse) == {"a intsig_invoice": ["TAKEN_BACK"], "r intsig_invoice": []}
    assert row(warehouse, "invoices", KEY)["review_status"] == "review"
    assert row(warehouse, "invoices", f"{CODE}:87654321")["review_status"] == "clear"
    assert row(warehouse, "documents", "a")["review_status"] == "review"


def test_an_answer_that_was_given_for_another_picture_says_so(
    warehouse: Warehouse, engine: sa.Engine
) -> None:
    warehouse.load([document("a"), document("b", answer_id="a-1", read_from=identity("a").sha256)])
    assert said(warehouse)["b intsig_invoice"] == ["DUPLICATE_DOCUMENT", "READ_FROM_ANOTHER"]
    assert row(warehouse, "invoices")["review_status"] == "clear"


# --- an older warehouse


SCHEMAS = Path(__file__).parent / "schemas"


def of_version_1(engine: sa.Engine) -> Warehouse:
    """Its tables, as they were printed then, with a document, its line, a finding, and two invoices."""
    script = (SCHEMAS / f"warehouse_1.{engine.dialect.name}.sql").read_text(encoding="utf-8")
    warehouse = Warehouse(engine, clock=Clock())
    tables, read = warehouse.tables, rows_of(document("a", INVOICE, DOUBT))
    dates = {"first_loaded_at": NOON, "loaded_at": NOON}
    row = {name: value for name, value in read.document.items() if name != "takes_back"} | dates
    invoice = {name: value for name, value in row.items() if name in tables.invoices.c}
    approved = invoice | {"invoice_key": f"{CODE}:11111111", "number": "11111111", "reviewed_at": NOON}
    with engine.begin() as db:
        for statement in filter(str.strip, script.split(";\n")):
            db.execute(sa.text(statement))
        db.execute(tables.documents.insert(), row)
        db.execute(tables.lines.insert(), {"document_id": row["document_id"], **read.lines[0]})
        texts = {"code": DOUBT.code, "severity": DOUBT.severity, "fields": "total", "message": DOUBT.message}
        db.execute(tables.findings.insert(), {"document_id": row["document_id"], "position": 1, **texts})
        db.execute(tables.invoices.insert(), [invoice | {"reviewed_at": None}, approved])
    return warehouse


def test_a_warehouse_of_version_1_is_brought_up_to_date_with_all_that_is_in_it(engine: sa.Engine) -> None:
    warehouse = of_version_1(engine)
    tables = ("documents", "invoices", "lines", "findings")
    names = {
        name: [column["name"] for column in sa.inspect(engine).get_columns(f"jdocr_{name}")]
        for name in tables
    }

    def as_it_was() -> dict[str, list[Any]]:
        with engine.connect() as db:
            return {
                name: sorted(
                    map(
                        tuple,
                        db.execute(
                            sa.select(*map(sa.column, names[name])).select_from(sa.table(f"jdocr_{name}"))
                        ),
                    ),
                    key=str,
                )
                for name in tables
            }

    before = as_it_was()
    with pytest.raises(WarehouseError, match=r"says version 1: run create\(\)"):
        warehouse.load([document("a")])
    warehouse.create()
    assert as_it_was() == before
    assert {each["takes_back"] for each in rows(warehouse, "invoices")} == {None}
    assert rows(warehouse, "reviews") == []
    warehouse.create()


def test_rows_of_version_1_are_read_again_and_hear_of_others(engine: sa.Engine) -> None:
    warehouse = of_version_1(engine)
    warehouse.create()
    assert warehouse.missing({identity("a"): "a-1"}, "2.2") == [identity("a")]
    warehouse.load([document("b"), document("r", RED)])
    warehouse.load([document("a", version="2.2")])
    assert said(warehouse)["a intsig_invoice"] == ["TAKEN_BACK"]
    assert row(warehouse, "invoices", f"{CODE}:87654321")["takes_back"] == KEY
    assert row(warehouse, "invoices", f"{CODE}:11111111")["review_status"] == "review", "as a person left it"


@pytest.mark.parametrize("done", range(1, 5))
def test_an_upgrade_that_was_killed_is_finished_by_the_next(engine: sa.Engine, done: int) -> None:
    """MySQL commits each statement by itself."""
    warehouse = of_version_1(engine)
    with engine.begin() as db:
        for statement in statements(engine, since=1)[:done]:
            db.execute(sa.text(statement))
    warehouse.create()
    warehouse.load([document("a", version="2.2")])
    assert len(statements(engine, since=2)) == 1, "nothing more to do than to write the version"


def test_the_printed_upgrade_makes_what_upgrading_makes(engine: sa.Engine, another_database_url: str) -> None:
    other = engine_for(another_database_url)
    for each in (engine, other):
        of_version_1(each)
    with engine.begin() as db:
        for statement in statements(engine, since=1):
            db.execute(sa.text(statement))
    Warehouse(other).create()
    shapes: list[Any] = []
    for each in (engine, other):
        found = sa.inspect(each)
        names = found.get_table_names()
        columns = {name: sorted(column["name"] for column in found.get_columns(name)) for name in names}
        indexes = {name: sorted(str(index["name"]) for index in found.get_indexes(name)) for name in names}
        shapes.append((columns, indexes, found.get_view_names()))
    other.dispose()
    assert shapes[0] == shapes[1]
    Warehouse(engine).create()


def test_who_may_not_make_tables_is_told_which_statements_to_have_run(
    postgres: sa.Engine, postgres_url: str
) -> None:
    role, engine = postgres.url.database, engine_for(postgres_url)
    sa.event.listen(engine, "connect", lambda each, _: (each.execute(f"SET ROLE {role}"), each.commit()))
    worker = Warehouse(engine)

    def run(script: str) -> None:
        with postgres.begin() as db:
            for statement in filter(str.strip, script.split(";\n")):
                db.exec_driver_sql(statement)

    run(f"CREATE ROLE {role}")
    try:
        with pytest.raises(WarehouseError, match=r"is not there yet.*ddl\('postgresql'\)") as refused:
            worker.create()
        assert refused.value.permanent
        of_version_1(postgres)
        run(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
        with pytest.raises(WarehouseError, match=r"version 1, .*writes 2.*ddl\('postgresql', since=1\)"):
            worker.create()
        run(ddl("postgresql", since=1))
        worker.create()
        assert worker.load([document("b")]).loaded == 1
    finally:
        engine.dispose()
        run(f"DROP OWNED BY {role};\nDROP ROLE {role}")


# --- what the tax office asks for


def test_the_tax_check_view_has_what_the_tax_office_asks_for_and_nothing_else(
    warehouse: Warehouse, engine: sa.Engine
) -> None:
    """Of invoices of every kind, as they were drawn and printed."""
    drawn = {number: draw(number) for number in range(72)}
    endpoint = ENDPOINTS["intsig_invoice"]
    warehouse.load(
        document(f"{number:x}", parse(endpoint, reply(endpoint.name, printed)))
        for number, printed in drawn.items()
    )
    with engine.connect() as db:
        found = {each.invoice_number: each for each in db.execute(sa.text("SELECT * FROM jdocr_tax_check"))}
    assert len(found) == len(drawn)
    for printed in drawn.values():
        texts, asked = printed.fields, found[printed.fields["number"]]
        day = read_text("issue_date", texts["issue_date"])
        assert (asked.invoice_code or "", asked.issue_date) == (texts.get("code", ""), f"{day:%Y%m%d}")
        money = {name: f"{read_text(name, texts.get(name, ''))}" for name in ("amount", "total")}
        wanted = {
            "amount_before_tax": money["amount"] if printed.kind in BY_AMOUNT else None,
            "total_with_tax": money["total"] if printed.kind in BY_TOTAL else None,
            "check_code_last_6": texts["check_code"][-6:] if printed.kind in BY_CHECK_CODE else None,
        }
        assert {name: getattr(asked, name) for name in wanted} == wanted
        asks = next((name for name, value in wanted.items() if value), None)
        assert (asked.asks, asked.ready) == (asks, int(asks is not None))


BY_AMOUNT = (InvoiceKind.SPECIAL_PAPER, InvoiceKind.SPECIAL_ELECTRONIC)
BY_TOTAL = (InvoiceKind.DIGITAL_SPECIAL, InvoiceKind.DIGITAL_COMMON)
BY_CHECK_CODE = (
    *(InvoiceKind.COMMON_PAPER, InvoiceKind.COMMON_ELECTRONIC),
    *(InvoiceKind.ROLL, InvoiceKind.TOLL),
)


def test_what_is_missing_is_not_ready_and_the_code_decides_the_kind(
    warehouse: Warehouse, engine: sa.Engine
) -> None:
    warehouse.load(
        [
            document("a", replace(INVOICE, kind=InvoiceKind.SPECIAL_PAPER, check_code=None)),
            document("b", replace(INVOICE, code="1100184130", kind=None)),
            document("c", replace(INVOICE, code="044001900199")),
            document("d", replace(INVOICE, code="044001900113", issue_date=None)),
        ]
    )
    with engine.connect() as db:
        found = db.execute(sa.text("SELECT * FROM jdocr_tax_check ORDER BY invoice_key")).all()
    assert [(each.invoice_type, each.asks, each.ready) for each in found] == [
        ("10", "check_code_last_6", 0),
        ("08", "amount_before_tax", 0),
        (None, None, 0),
        ("01", "amount_before_tax", 1),
    ]
