"""Laws of review: what a person decides about a document in doubt, and what no decision may do."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from airflow_provider_jdocr.core.documents import Document
from airflow_provider_jdocr.core.engines import engine_for
from airflow_provider_jdocr.core.errors import ReviewRefused
from airflow_provider_jdocr.core.examining import examine
from airflow_provider_jdocr.core.findings import Finding, Severity
from airflow_provider_jdocr.core.ledger import Identity
from airflow_provider_jdocr.core.merging import KEY_FACTS
from airflow_provider_jdocr.core.numerals import to_words
from airflow_provider_jdocr.core.parsing import FieldEvidence, Invoice, InvoiceKind, Line
from airflow_provider_jdocr.core.review import (
    CORRECTABLE,
    Decision,
    Doubtful,
    Verdict,
    as_typed,
    decide,
    doubtful,
    read_typed,
    shown,
    still_wrong,
)
from airflow_provider_jdocr.core.warehouse import Warehouse
from tests.core import warehouses
from tests.core.warehouses import NOON, rows

TODAY = date(2026, 3, 2)
LATER = NOON + timedelta(days=1, microseconds=123456)
CODE, NUMBER = "044001900111", "12345678"
KEY = f"{CODE}:{NUMBER}"
RIGHT = Invoice(
    endpoint="intsig_invoice",
    kind=InvoiceKind.COMMON_ELECTRONIC,
    kind_text="vat_electronic_invoice",
    code=CODE,
    number=NUMBER,
    issue_date=date(2020, 2, 27),
    check_code="12345678901234567890",
    buyer_name="北京云杉示例信息技术有限公司",
    buyer_tax_id="91110108MARBKQPEXW",
    seller_name="天津远帆示例机械设备有限公司",
    seller_tax_id="91120104MAGNP25J6J",
    amount=Decimal("100.00"),
    tax=Decimal("13.00"),
    total=Decimal("113.00"),
    total_in_words=to_words(Decimal("113.00")),
    tax_rate=Decimal("0.13"),
    tax_rate_text="13%",
    lines=(Line(1, name="*纸制品*复印纸", amount=Decimal("100.00"), tax=Decimal("13.00")),),
)
WRONG = replace(
    RIGHT,
    total=Decimal("118.00"),
    evidence={"total": FieldEvidence("￥118.00", "vat_invoice_total", 0.984, (1.0, 2.0, 3.5, 4.0))},
)


def document(name: str, invoice: Invoice | None = WRONG, **answer: Any) -> Document:
    """A document as loading makes it, checked as loading checks it."""
    stored = warehouses.answer(Identity("jd", "intsig_invoice", name.rjust(64, "0")), f"{name}-1")
    version = answer.pop("version", "1.1")
    findings: tuple[Finding, ...] = ()
    if invoice is not None:
        invoice, findings = examine(invoice, today=TODAY)
    return Document(replace(stored, **answer), (f"s3://scans/{name}.jpg",), invoice, findings, version)


@pytest.fixture
def warehouse(engine: sa.Engine) -> Warehouse:
    warehouse = Warehouse(engine)
    warehouse.create()
    return warehouse


def row(warehouse: Warehouse, name: str, **where: Any) -> dict[str, Any]:
    (found,) = [
        each for each in rows(warehouse, name) if all(each[key] == value for key, value in where.items())
    ]
    return found


def everything(warehouse: Warehouse) -> dict[str, list[dict[str, Any]]]:
    return {name: rows(warehouse, name) for name in ("documents", "invoices", "lines", "findings", "reviews")}


def named(warehouse: Warehouse, name: str) -> Doubtful:
    """The document of that name, as it is now."""
    found = row(warehouse, "documents", sha256=name.rjust(64, "0"))
    return shown(warehouse, found["document_id"])


def statuses(warehouse: Warehouse) -> dict[str, str]:
    return {each["sha256"].lstrip("0"): each["review_status"] for each in rows(warehouse, "documents")}


def decision(of: Doubtful, verdict: Verdict, note: str | None = None, **changes: str) -> Decision:
    return Decision(of.document_id, of.seen, verdict, "li.lei", LATER, changes, note)


def do(warehouse: Warehouse, name: str, verdict: Verdict, note: str | None = None, **changes: str) -> Any:
    return decide(warehouse, decision(named(warehouse, name), verdict, note, **changes), today=TODAY)


# --- what a person is shown


def test_documents_in_doubt_are_shown_with_what_is_printed_found_and_proposed(warehouse: Warehouse) -> None:
    warehouse.load([document("a"), document("b", replace(RIGHT, number="87654321"))])
    (found,) = doubtful(warehouse, limit=10)
    assert found.uris == ("s3://scans/a.jpg",)
    assert found.invoice.evidence["total"].text == "￥118.00"
    assert found.invoice == WRONG
    assert {each.code for each in found.findings} >= {"TOTAL_NOT_SUM", "WORDS_DISAGREE"}
    assert found.proposals == {"total": "113.00"}


def test_the_oldest_come_first_and_no_more_than_were_asked_for(warehouse: Warehouse) -> None:
    for number in range(3):
        warehouse.load([document(f"d{number}", replace(WRONG, number=f"1234567{number}"))])
    numbers = [each.invoice.number for each in doubtful(warehouse, limit=2)]
    assert numbers == ["12345670", "12345671"]


def test_findings_that_propose_different_things_propose_nothing(warehouse: Warehouse) -> None:
    warehouse.load([document("a")])
    base = named(warehouse, "a")

    def said(*proposals: str) -> dict[str, str]:
        found = tuple(Finding("QR_DISAGREES", Severity.ERROR, (), "", proposal=each) for each in proposals)
        return replace(base, findings=found).proposals

    assert said("total=113.00", "total=113.00") == {"total": "113.00"}
    assert said("total=113.00", "total=114.00; tax=14.00") == {}
    assert said("code=; number=25442000000123456789") == {"code": "", "number": "25442000000123456789"}
    assert said("total=118.00") == {}, "that is what was read"


def test_a_document_that_failed_is_shown_too_and_can_be_typed_in(warehouse: Warehouse) -> None:
    warehouse.load([document("a", None, state="failed", code="12002", body=b"")])
    assert doubtful(warehouse, limit=1)[0].state == "failed"
    typed = {name: as_typed(RIGHT, name) for name in CORRECTABLE}
    done = do(warehouse, "a", "correct", **{name: text for name, text in typed.items() if text})
    assert (done.invoice_key, done.still_wrong) == (KEY, ())
    assert row(warehouse, "invoices")["total"] == Decimal("113.00")


# --- approve, correct, reject


def test_approved_values_stay_as_they_were_read_and_are_signed(warehouse: Warehouse) -> None:
    warehouse.load([document("a")])
    before = everything(warehouse)
    done = do(warehouse, "a", "approve", note="as printed")
    assert (done.review_status, done.invoice_key) == ("approved", KEY)
    signed = {"review_status": "approved", "reviewed_by": "li.lei", "reviewed_at": LATER}
    for name in ("documents", "invoices"):
        found = row(warehouse, name)
        assert found["loaded_at"] > before[name][0]["loaded_at"], "those who copy what is new see it"
        changed = signed | {"review_note": "as printed", "loaded_at": found["loaded_at"]}
        assert found == before[name][0] | changed
    assert row(warehouse, "reviews") == {
        "review_id": done.review_id,
        "document_id": before["documents"][0]["document_id"],
        "invoice_key": KEY,
        "decision": "approve",
        "reviewed_by": "li.lei",
        "reviewed_at": LATER,
        "note": "as printed",
        "changes": {},
    }


def test_a_correction_is_in_document_and_invoice_and_the_audit_has_all_three_values(
    warehouse: Warehouse,
) -> None:
    warehouse.load([document("a")])
    before = everything(warehouse)
    done = do(warehouse, "a", "correct", total="¥113.00", tax="13.00")
    assert done.still_wrong == ()
    for name in ("documents", "invoices"):
        found = row(warehouse, name)
        assert (found["total"], found["review_status"]) == (Decimal("113.00"), "corrected")
    assert row(warehouse, "reviews")["changes"] == {
        "total": {"printed": "￥118.00", "before": "118.00", "after": "113.00"}
    }
    after = everything(warehouse)
    assert after["documents"][0]["evidence"] == before["documents"][0]["evidence"]
    assert after["findings"] == before["findings"]
    assert after["lines"] == before["lines"]


def test_a_rejected_document_takes_its_invoice_along_when_there_is_no_other(warehouse: Warehouse) -> None:
    warehouse.load([document("a")])
    assert do(warehouse, "a", "reject").review_status == "rejected"
    assert row(warehouse, "invoices")["review_status"] == "rejected"
    assert row(warehouse, "documents")["total"] == Decimal("118.00")


def test_a_rejected_document_leaves_its_invoice_to_the_others(warehouse: Warehouse) -> None:
    warehouse.load([document("a"), document("b", RIGHT)])
    assert statuses(warehouse) == {"a": "review", "b": "review"}
    do(warehouse, "a", "reject")
    found = row(warehouse, "invoices")
    assert (found["total"], found["review_status"]) == (Decimal("113.00"), "clear")
    assert found["document_id"] == named(warehouse, "b").document_id
    assert statuses(warehouse) == {"a": "rejected", "b": "clear"}


def test_after_a_correction_a_document_that_says_the_same_is_in_doubt_no_more(warehouse: Warehouse) -> None:
    warehouse.load([document("a"), document("b", RIGHT)])
    do(warehouse, "a", "correct", total="113")
    assert statuses(warehouse) == {"a": "corrected", "b": "clear"}
    assert doubtful(warehouse, limit=9) == []


def test_after_an_approval_a_document_that_says_otherwise_still_says_so(warehouse: Warehouse) -> None:
    warehouse.load([document("a"), document("b", RIGHT)])
    do(warehouse, "a", "approve")
    assert row(warehouse, "invoices")["total"] == Decimal("118.00")
    assert statuses(warehouse) == {"a": "approved", "b": "review"}
    with pytest.raises(ReviewRefused, match=r"total: invoice .* was approved by li.lei.* total=118.00"):
        do(warehouse, "b", "approve")
    do(warehouse, "b", "reject")
    assert row(warehouse, "invoices")["review_status"] == "approved"


def test_an_agreeing_document_of_a_reviewed_invoice_changes_nothing_of_it(warehouse: Warehouse) -> None:
    warehouse.load([document("a"), document("b")])
    do(warehouse, "a", "correct", total="113.00", remarks="checked")
    before = row(warehouse, "invoices")
    do(warehouse, "b", "correct", total="113.00", remarks="otherwise")
    assert row(warehouse, "invoices") == before


def test_what_another_document_in_doubt_says_is_not_approved_along_with_it(warehouse: Warehouse) -> None:
    """The person who approves has not seen it."""
    unread = replace(RIGHT, payee=None, remarks=None, check_code="1234567890123456789")
    warehouse.load([document("a", unread), document("b", replace(unread, payee="王芳"))])
    warehouse.load([document("c", replace(RIGHT, check_code=None, remarks="seen"))])
    do(warehouse, "a", "approve")
    found = row(warehouse, "invoices")
    assert (found["payee"], found["remarks"], found["review_status"]) == (None, None, "approved")


# --- the key


def test_a_correction_of_the_number_moves_the_document_to_its_invoice(warehouse: Warehouse) -> None:
    warehouse.load([document("a", replace(RIGHT, number="1234567"))])
    assert rows(warehouse, "invoices") == []
    with pytest.raises(ReviewRefused, match="no key of an invoice"):
        do(warehouse, "a", "approve")
    assert do(warehouse, "a", "correct", number=NUMBER).invoice_key == KEY
    assert row(warehouse, "invoices")["review_status"] == "corrected"


def test_the_invoice_that_a_corrected_document_leaves_is_gone_or_its_others(warehouse: Warehouse) -> None:
    warehouse.load([document("a")])
    do(warehouse, "a", "correct", number="87654321", total="113")
    assert [each["invoice_key"] for each in rows(warehouse, "invoices")] == [f"{CODE}:87654321"]
    do(warehouse, "a", "correct", number=NUMBER)
    assert [each["invoice_key"] for each in rows(warehouse, "invoices")] == [KEY]
    warehouse.load([document("b", RIGHT)])
    do(warehouse, "a", "correct", number="87654321")
    found = row(warehouse, "invoices", invoice_key=KEY)
    assert (found["document_id"], found["review_status"]) == (named(warehouse, "b").document_id, "clear")


def test_a_correction_onto_another_invoice_that_says_otherwise_is_refused(warehouse: Warehouse) -> None:
    """Perhaps the number was mistyped: nobody has seen the two side by side."""
    warehouse.load([document("a", replace(RIGHT, number="87654321", total=Decimal("118.00")))])
    warehouse.load([document("b", RIGHT)])
    before = everything(warehouse)
    with pytest.raises(ReviewRefused, match=f"total: invoice {KEY} was made of another document"):
        do(warehouse, "a", "correct", number=NUMBER)
    assert everything(warehouse) == before
    do(warehouse, "a", "correct", number=NUMBER, total="113.00")
    assert row(warehouse, "invoices")["review_status"] == "corrected"


def test_twenty_digits_want_no_code_beside_them(warehouse: Warehouse) -> None:
    digital = "25442000000123456789"
    warehouse.load([document("a", replace(RIGHT, code=digital[:12], number=digital[12:]))])
    done = do(warehouse, "a", "correct", code="", number=digital)
    assert (done.invoice_key, row(warehouse, "invoices")["code"]) == (digital, None)


def test_the_remarks_of_a_red_invoice_say_what_it_takes_back(warehouse: Warehouse) -> None:
    red = replace(
        RIGHT,
        number="87654321",
        amount=Decimal("-100.00"),
        tax=Decimal("-13.00"),
        total=Decimal("-113.00"),
        total_in_words=to_words(Decimal("-113.00")),
        remarks=None,
        seller_tax_id="91120104MAGNP25J6K",
    )
    warehouse.load([document("a", RIGHT), document("b", red)])
    assert statuses(warehouse)["a"] == "clear"
    do(warehouse, "b", "correct", remarks=f"对应正数发票代码:{CODE}号码:{NUMBER}")
    assert statuses(warehouse)["a"] == "review"
    do(warehouse, "b", "reject")
    assert statuses(warehouse)["a"] == "clear"


# --- what is typed


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("total", "￥1,234.5", Decimal("1234.50")),
        ("total", "(100.00)", Decimal("-100.00")),
        ("tax", "", None),
        ("issue_date", "2026年2月7日", date(2026, 2, 7)),
        ("issue_date", "2026-02-07", date(2026, 2, 7)),
        ("number", " １２３４ ５６７８ ", "12345678"),
        ("seller_tax_id", "91120104magnp25j6j", "91120104MAGNP25J6J"),
        ("kind", "special_paper", InvoiceKind.SPECIAL_PAPER),
        ("buyer_name", " 某某有限公司 ", "某某有限公司"),
        ("stamp", "是", True),
    ],
)
def test_what_is_typed_is_read_as_what_is_printed(field: str, text: str, value: Any) -> None:
    assert read_typed({field: text}) == {field: value}


def test_a_rate_has_its_text_beside_it() -> None:
    assert read_typed({"tax_rate": " 13% "}) == {"tax_rate": Decimal("0.13"), "tax_rate_text": "13%"}
    assert read_typed({"tax_rate": "免税"}) == {"tax_rate": None, "tax_rate_text": "免税"}
    assert read_typed({"tax_rate": ""}) == {"tax_rate": None, "tax_rate_text": None}


@pytest.mark.parametrize("field", CORRECTABLE)
def test_every_value_can_be_typed_as_it_is_shown(field: str) -> None:
    full = replace(RIGHT, stamp=True, remarks="备注", payee="王芳", machine_number="661234567890")
    typed = as_typed(full, field)
    assert not typed or read_typed({field: typed})[field] == getattr(full, field)


@pytest.mark.parametrize(
    ("field", "text", "rule"),
    [
        ("total", "12a", "an amount in yuan"),
        ("total", "46,62", "an amount in yuan"),
        ("amount", "1.234", "an amount in yuan"),
        ("tax", "99999999999999999.00", "an amount in yuan"),
        ("tax", "9999999999999999.00", "an amount in yuan"),
        ("issue_date", "2026-02-30", "a date"),
        ("issue_date", "last week", "a date"),
        ("tax_rate", "abc", "a rate"),
        ("kind", "invoice", "one of special_paper"),
        ("stamp", "perhaps", "yes or no"),
        ("remarks", "x" * 10_001, "at most 10000 characters"),
        ("remarks", "a\x00b", "a text"),
        ("kind_text", "x", "no field that can be corrected"),
        ("takes_back", KEY, "no field that can be corrected"),
        ("document_id", "x", "no field that can be corrected"),
    ],
)
def test_a_bad_value_names_field_and_rule_and_changes_nothing(
    field: str, text: str, rule: str, sqlite_url: str
) -> None:
    warehouse = Warehouse(engine_for(sqlite_url))
    warehouse.create()
    warehouse.load([document("a")])
    before = everything(warehouse)
    with pytest.raises(ReviewRefused, match=f"^{field}: .*{rule}") as caught:
        do(warehouse, "a", "correct", **{"payee": "王芳", field: text})
    assert caught.value.field == field
    assert caught.value.permanent
    assert everything(warehouse) == before


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"verdict": "maybe"}, "decision: 'maybe' is none of approve, correct, reject"),
        ({"reviewed_by": " "}, "reviewed_by"),
        ({"reviewed_by": "x" * 256}, "reviewed_by"),
        ({"reviewed_at": NOON.replace(tzinfo=None)}, "reviewed_at"),
        ({"note": "x" * 10_001}, "note"),
        ({"verdict": "approve", "changes": {"total": "113"}}, "nothing is corrected by it"),
        ({"changes": {}}, "every value is as it was read"),
        ({"changes": {"total": "118.00"}}, "every value is as it was read"),
        ({"document_id": "0" * 32}, "there is no document"),
    ],
)
def test_a_decision_that_means_nothing_is_refused_with_the_rule(
    change: dict[str, Any], rule: str, sqlite_url: str
) -> None:
    warehouse = Warehouse(engine_for(sqlite_url))
    warehouse.create()
    warehouse.load([document("a")])
    before = everything(warehouse)
    with pytest.raises(ReviewRefused, match=rule):
        decide(
            warehouse,
            replace(decision(named(warehouse, "a"), "correct", total="113.00"), **change),
            today=TODAY,
        )
    assert everything(warehouse) == before


def test_a_corrected_invoice_is_checked_again_and_what_is_still_wrong_is_said(warehouse: Warehouse) -> None:
    warehouse.load([document("a")])
    done = do(warehouse, "a", "correct", total="113.00", tax="14.00", seller_tax_id="91120104MAGNP25J6K")
    assert {each.code for each in done.still_wrong} >= {"TOTAL_NOT_SUM", "TAX_ID_CHECK_DIGIT"}
    assert row(warehouse, "documents")["review_status"] == "corrected"


def test_a_value_that_could_not_be_read_is_wrong_until_it_is_typed(warehouse: Warehouse) -> None:
    warehouse.load([document("a", replace(WRONG, total=None))])
    found = named(warehouse, "a")
    assert "REQUIRED_FIELD_MISSING" not in {each.code for each in still_wrong(found, {}, today=TODAY)}
    assert still_wrong(found, {"total": Decimal("113.00")}, today=TODAY) == ()


# --- once, and only about what was shown


def test_the_same_decision_again_adds_nothing(warehouse: Warehouse) -> None:
    warehouse.load([document("a")])
    first = decision(named(warehouse, "a"), "correct", total="113.00")
    done = decide(warehouse, first, today=TODAY)
    before = everything(warehouse)
    again = decide(warehouse, first, today=TODAY)
    assert (again.repeated, again.review_id, again.review_status) == (True, done.review_id, "corrected")
    assert everything(warehouse) == before


def test_of_two_people_at_once_one_decides_and_the_other_is_told(
    warehouse: Warehouse, engine: sa.Engine
) -> None:
    warehouse.load([document("a")])
    document_ = named(warehouse, "a")
    start = threading.Barrier(2)

    def one(who: str) -> str:
        start.wait()
        try:
            decide(Warehouse(engine), replace(decision(document_, "approve"), reviewed_by=who), today=TODAY)
        except ReviewRefused as refused:
            return str(refused)
        return "done"

    with ThreadPoolExecutor(2) as pool:
        said = sorted(pool.map(one, ("li.lei", "han.mei")))
    winner = row(warehouse, "documents")["reviewed_by"]
    assert said[1] == "done" or said[0] == "done"
    (reason,) = [each for each in said if each != "done"]
    assert f"it was approved by {winner} at 2026-03-02 12:00 UTC" in reason
    assert len(rows(warehouse, "reviews")) == 1


def test_a_document_that_was_read_again_meanwhile_is_left_alone(warehouse: Warehouse) -> None:
    warehouse.load([document("a")])
    old = decision(named(warehouse, "a"), "approve")
    warehouse.load([document("a", replace(WRONG, total=Decimal("119.00")), version="1.2")])
    before = everything(warehouse)
    with pytest.raises(ReviewRefused, match="not as it was shown any more: it was read again"):
        decide(warehouse, old, today=TODAY)
    assert everything(warehouse) == before


def test_an_invoice_that_somebody_else_reviewed_meanwhile_is_left_alone(warehouse: Warehouse) -> None:
    """With a tool of his own, which knows invoices only."""
    warehouse.load([document("a")])
    old = decision(named(warehouse, "a"), "approve")
    signed = {"review_status": "corrected", "reviewed_by": "han.mei", "reviewed_at": NOON}
    with warehouse.reading() as db:
        db.execute(warehouse.tables.invoices.update().values(signed | {"total": Decimal("113.00")}))
        db.commit()
    with pytest.raises(ReviewRefused, match=r"its invoice was corrected by han\.mei"):
        decide(warehouse, old, today=TODAY)
    with pytest.raises(ReviewRefused, match=r"total: invoice .* was corrected by han\.mei"):
        do(warehouse, "a", "approve")
    with pytest.raises(ReviewRefused, match=r"reject: invoice .* was corrected by han\.mei"):
        do(warehouse, "a", "reject")
    do(warehouse, "a", "correct", total="113.00")
    assert row(warehouse, "invoices")["reviewed_by"] == "han.mei"


def test_a_further_name_of_the_picture_is_no_change(warehouse: Warehouse) -> None:
    warehouse.load([document("a")])
    old = decision(named(warehouse, "a"), "approve")
    warehouse.load([], also_named={Identity("jd", "intsig_invoice", "a".rjust(64, "0")): ["s3://b/2.jpg"]})
    assert decide(warehouse, old, today=TODAY).review_status == "approved"


def test_a_decision_can_be_taken_back_by_another_and_both_are_on_record(warehouse: Warehouse) -> None:
    warehouse.load([document("a")])
    do(warehouse, "a", "reject")
    do(warehouse, "a", "correct", total="113.00")
    found = row(warehouse, "invoices")
    assert (found["review_status"], found["total"]) == ("corrected", Decimal("113.00"))
    do(warehouse, "a", "reject")
    assert row(warehouse, "invoices")["review_status"] == "rejected"
    assert len(rows(warehouse, "reviews")) == 3


@pytest.mark.parametrize("fact", KEY_FACTS)
def test_no_load_changes_what_was_reviewed(fact: str, warehouse: Warehouse) -> None:
    warehouse.load([document("a")])
    do(warehouse, "a", "correct", total="113.00")
    before = everything(warehouse)
    others: dict[str, Any] = {
        "issue_date": date(2020, 2, 28),
        "check_code": "12345678901234567899",
        "buyer_tax_id": "91120104MAGNP25J6J",
        "seller_tax_id": "91110108MARBKQPEXW",
    }
    value = others.get(fact, Decimal("1.00"))
    warehouse.load([document("a", replace(WRONG, **{fact: value}), version="9.9", answer_id="z")])
    assert everything(warehouse) == before


# --- by SQL alone

DOCS = Path(__file__).resolve().parents[2] / "docs"


def statements(page: Path) -> list[str]:
    blocks = re.findall(r"^```sql\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [each for block in blocks for each in filter(None, map(str.strip, block.split(";")))]


@pytest.mark.parametrize("page", ["review.md", "review.zh-CN.md"])
def test_what_the_page_says_is_what_a_tool_of_ones_own_can_do(
    page: str, warehouse: Warehouse, engine: sa.Engine
) -> None:
    """As `decide` does it: the same rows of document, invoice and audit, but for when they were written."""
    audit, doubts, *transaction = statements(DOCS / page)
    warehouse.load([document("a")])
    waiting = named(warehouse, "a")
    values = {
        "review_id": decision(waiting, "correct", "seen", total="113.00").review_id,
        "document_id": waiting.document_id,
        "invoice_key": KEY,
        "total": 113.00,
        "reviewed_by": "li.lei",
        "reviewed_at": LATER.replace(tzinfo=None if engine.dialect.name != "postgresql" else UTC),
        "note": "seen",
        "changes": '{"total": {"printed": "￥118.00", "before": "118.00", "after": "113.00"}}',
    }

    def by_sql() -> list[int]:
        with engine.begin() as db:
            (found,) = db.execute(sa.text(doubts)).mappings().all()
            said = {**values, "answer_id": found["answer_id"]}
            return [_bound(db, each, said).rowcount for each in transaction]

    assert by_sql() == [1, 1, 1, 1]
    tables = everything(warehouse)
    with engine.connect() as db:
        assert len(db.execute(sa.text(audit)).all()) == 1

    other = Warehouse(engine, prefix="other_")
    other.create()
    other.load([document("a")])
    do(other, "a", "correct", "seen", total="113.00")
    for name, found in everything(other).items():
        assert [_undated(each) for each in found] == [_undated(each) for each in tables[name]]


def _bound(db: sa.Connection, statement: str, values: dict[str, Any]) -> sa.CursorResult[Any]:
    names = set(re.findall(r":(\w+)", statement))
    return db.execute(sa.text(statement), {name: values[name] for name in names})


def _undated(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in row.items()
        if name not in ("loaded_at", "first_loaded_at", "review_id")
    }
