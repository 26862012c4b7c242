"""Two readings of one picture: the checks choose, nothing is chosen in silence, and a doubt stays one."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from airflow_provider_jdocr.core.documents import Document, document_id, invoice_of, rows_of
from airflow_provider_jdocr.core.endpoints import ENDPOINTS
from airflow_provider_jdocr.core.examining import Expectations, checking, examine
from airflow_provider_jdocr.core.ledger import Identity
from airflow_provider_jdocr.core.parsing import parse
from airflow_provider_jdocr.core.reconciling import FACTS, Reading, Settlement, differ, settle
from airflow_provider_jdocr.core.review import Decision, decide, shown
from airflow_provider_jdocr.core.warehouse import Warehouse
from tests.core import warehouses
from tests.core.warehouses import NOON, rows
from tests.injection.invoices import TODAY, Printed, draw, reply
from tests.injection.mistakes import mistakes

FIRST, SECOND = "ocr_invoice", "intsig_invoice"
PAPER, DIGITAL = 1, 6
"""Seeds of an invoice with code and number, and of one with twenty digits."""


def document(
    printed: Printed, endpoint: str = FIRST, *, picture: str = "a", codes: tuple[str, ...] = (), **answer: Any
) -> Document:
    """What an endpoint read, examined as the loader does."""
    stored = replace(
        warehouses.answer(Identity("jd", endpoint, picture.rjust(64, "0")), f"{picture}-{endpoint}"),
        answered_at=NOON + timedelta(minutes=endpoint == SECOND),
    )
    invoice, findings = examine(
        parse(ENDPOINTS[endpoint], reply(endpoint, printed)), today=TODAY, codes=codes
    )
    return Document(replace(stored, **answer), ("s3://scans/a.jpg",), invoice, findings)


def name_of(one: Document) -> str:
    return document_id(one.answer.identity)


def reading(one: Document) -> Reading:
    made = rows_of(one)
    loaded = {"first_loaded_at": NOON, "reviewed_at": None}
    stored = {each: json.loads(made.document[each]) for each in ("evidence", "details")}
    row = {**made.document, **loaded, **stored}
    return Reading(row, invoice_of(row, made.lines, made.findings), made.findings)


check = checking(TODAY)


def settled(*documents: Document) -> Settlement | None:
    """None: there is nothing to settle."""
    readings = [reading(one) for one in documents]
    return settle(readings, check) if differ([each.row for each in readings]) else None


def values(printed: Printed) -> dict[str, Any]:
    """What is printed, as `FACTS`, by the endpoint that reads the most."""
    invoice = parse(ENDPOINTS[SECOND], reply(SECOND, printed))
    return {name: getattr(invoice, name) for name in FACTS}


@pytest.fixture
def warehouse(engine: sa.Engine) -> Warehouse:
    minutes = itertools.count()
    warehouse = Warehouse(engine, clock=lambda: NOON + timedelta(days=1, minutes=next(minutes)))
    warehouse.create()
    return warehouse


def invoice_row(warehouse: Warehouse) -> dict[str, Any]:
    (row,) = rows(warehouse, "invoices")
    return row


def statuses(warehouse: Warehouse) -> dict[str, str]:
    return {row["endpoint"]: row["review_status"] for row in rows(warehouse, "documents")}


def said(warehouse: Warehouse, code: str) -> list[dict[str, Any]]:
    return [row for row in rows(warehouse, "findings") if row["code"] == code]


def everything(warehouse: Warehouse) -> dict[str, Any]:
    return {name: rows(warehouse, name) for name in ("documents", "invoices", "findings", "lines")}


def load(warehouse: Warehouse, *chunks: list[Document]) -> None:
    for chunk in chunks:
        warehouse.load(chunk, check=check)


RIGHT = draw(PAPER)
WRONG_TOTAL = RIGHT.with_fields(total="7777.77")
ORDERS = ("together", "first, second", "second, first")


def chunks(order: str, one: Document, other: Document) -> list[list[Document]]:
    return {"together": [[one, other]], "first, second": [[one], [other]]}.get(order, [[other], [one]])


@pytest.mark.parametrize("order", ORDERS)
def test_the_value_with_which_the_checks_hold_is_taken_and_both_documents_say_so(
    warehouse: Warehouse, order: str
) -> None:
    wrong, right = document(WRONG_TOTAL), document(RIGHT, SECOND)
    load(warehouse, *chunks(order, wrong, right))
    row = invoice_row(warehouse)
    assert (row["total"], row["review_status"]) == (values(RIGHT)["total"], "clear")
    assert statuses(warehouse) == {FIRST: "settled", SECOND: "clear"}
    findings = said(warehouse, "ENDPOINTS_SETTLED")
    assert {each["document_id"] for each in findings} == {name_of(wrong), name_of(right)}
    assert all(
        "TOTAL_NOT_SUM" in each["message"] and "total=7777.77" in each["message"] for each in findings[:1]
    )
    assert {each["expected"] for each in findings} == {f"total={row['total']}"}
    if order != "second, first":
        assert row["merged_from"]["total"] == name_of(right)
    else:
        assert "total" not in (row["merged_from"] or {})


def test_the_row_says_whose_each_value_is_that_is_not_the_sources(warehouse: Warehouse) -> None:
    load(warehouse, [document(WRONG_TOTAL), document(RIGHT, SECOND)])
    row = invoice_row(warehouse)
    source = next(each for each in rows(warehouse, "documents") if each["endpoint"] == FIRST)
    differing = {name for name in source if name in row and name in FACTS and row[name] != source[name]}
    assert row["document_id"] == source["document_id"]
    assert differing <= set(row["merged_from"])
    assert {"total", "total_in_words"} <= differing
    assert row["lines_document_id"] == name_of(document(RIGHT, SECOND))


@pytest.mark.parametrize("order", ORDERS)
def test_loading_again_changes_nothing(warehouse: Warehouse, order: str) -> None:
    one, other = document(WRONG_TOTAL), document(RIGHT.with_fields(buyer_name="Someone"), SECOND)
    load(warehouse, *chunks(order, one, other))
    before = everything(warehouse)
    load(warehouse, [one, other], [one], [other])
    assert everything(warehouse) == before


def test_mistakes_in_different_fields_are_mended_from_each_other(warehouse: Warehouse) -> None:
    """No reading is right as a whole, and the invoice is."""
    seller = RIGHT.fields["seller_tax_id"]
    swapped = seller[:-1] + ("1" if seller[-1] == "0" else "0")
    load(warehouse, [document(WRONG_TOTAL), document(RIGHT.with_fields(seller_tax_id=swapped), SECOND)])
    row = invoice_row(warehouse)
    assert (row["total"], row["seller_tax_id"]) == (values(RIGHT)["total"], seller)
    assert row["review_status"] == "clear"
    assert statuses(warehouse) == {FIRST: "settled", SECOND: "settled"}


@pytest.mark.parametrize("order", ORDERS)
def test_what_no_check_decides_goes_to_review_with_both_values(warehouse: Warehouse, order: str) -> None:
    one, other = document(RIGHT), document(RIGHT.with_fields(check_code="1" * 20), SECOND)
    load(warehouse, *chunks(order, one, other))
    assert invoice_row(warehouse)["review_status"] == "review"
    assert statuses(warehouse) == {FIRST: "review", SECOND: "review"}
    found = {(each["found"], each["expected"]) for each in said(warehouse, "ENDPOINTS_DISAGREE")}
    right, wrong = f"check_code={RIGHT.fields['check_code']}", f"check_code={'1' * 20}"
    assert found == {(right, wrong), (wrong, right)}


def test_names_that_differ_by_a_bracket_or_a_blank_are_the_same(warehouse: Warehouse) -> None:
    name = RIGHT.fields["buyer_name"]
    wide, narrow = f"{name}（北京）", f"{name} (北京)"
    load(warehouse, [document(RIGHT.with_fields(buyer_name=wide))])
    load(warehouse, [document(RIGHT.with_fields(buyer_name=narrow), SECOND)])
    assert (invoice_row(warehouse)["review_status"], invoice_row(warehouse)["buyer_name"]) == ("clear", wide)


def test_other_names_are_a_disagreement_that_no_check_decides(warehouse: Warehouse) -> None:
    load(warehouse, [document(RIGHT), document(RIGHT.with_fields(buyer_name="某某公司"), SECOND)])
    assert invoice_row(warehouse)["review_status"] == "review"


@pytest.mark.parametrize("order", ORDERS)
def test_two_numbers_that_both_look_right_are_two_invoices_for_review(
    warehouse: Warehouse, order: str
) -> None:
    other = document(RIGHT.with_fields(number="12345678"), SECOND)
    load(warehouse, *chunks(order, document(RIGHT), other))
    assert [row["review_status"] for row in rows(warehouse, "invoices")] == ["review", "review"]
    assert statuses(warehouse) == {FIRST: "review", SECOND: "review"}


@pytest.mark.parametrize("order", ORDERS)
def test_two_numbers_of_which_a_qr_code_says_one_are_one_invoice(warehouse: Warehouse, order: str) -> None:
    """Also where the wrong one was loaded before, and had a row of its own."""
    wrong = document(RIGHT.with_fields(number="12345678"))
    right = document(RIGHT, SECOND, codes=(RIGHT.code,))
    load(warehouse, *chunks(order, wrong, right))
    row = invoice_row(warehouse)
    assert (row["number"], row["review_status"]) == (RIGHT.fields["number"], "clear")
    assert statuses(warehouse) == {FIRST: "settled", SECOND: "clear"}
    assert {each["invoice_key"] for each in rows(warehouse, "documents")} == {row["invoice_key"]}
    assert {each["number"] for each in rows(warehouse, "documents")} == {"12345678", RIGHT.fields["number"]}


def test_the_year_in_a_digital_number_decides_between_dates_and_numbers(warehouse: Warehouse) -> None:
    right = draw(DIGITAL)
    number = right.fields["number"]
    wrong = right.with_fields(number=f"{(int(number[:2]) + 5) % 100:02}{number[2:]}")
    load(warehouse, [document(wrong), document(right, SECOND)])
    row = invoice_row(warehouse)
    assert (row["number"], row["review_status"]) == (number, "clear")


def test_a_number_that_was_split_gives_way_to_the_whole_one(warehouse: Warehouse) -> None:
    right = draw(DIGITAL)
    number = right.fields["number"]
    load(
        warehouse,
        [document(right.with_fields(code=number[:12], number=number[12:])), document(right, SECOND)],
    )
    row = invoice_row(warehouse)
    assert (row["code"], row["number"], row["review_status"]) == (None, number, "clear")
    assert set(row["merged_from"]) >= {"code", "number"}


def test_a_field_that_only_the_other_endpoint_read_settles_what_was_missing(warehouse: Warehouse) -> None:
    load(warehouse, [document(RIGHT.with_fields(number="")), document(RIGHT, SECOND)])
    assert invoice_row(warehouse)["review_status"] == "clear"
    assert statuses(warehouse) == {FIRST: "settled", SECOND: "clear"}


def test_where_both_read_the_same_mistake_it_stays_for_review(warehouse: Warehouse) -> None:
    load(warehouse, [document(WRONG_TOTAL), document(WRONG_TOTAL, SECOND)])
    assert invoice_row(warehouse)["review_status"] == "review"
    assert statuses(warehouse) == {FIRST: "review", SECOND: "review"}


@pytest.mark.parametrize("knows", [True, False], ids=["loading", "review"])
def test_a_buyer_that_is_not_the_authors_stays_for_review(warehouse: Warehouse, knows: bool) -> None:
    """Whether the list of buyers is at hand, as when loading, or not, as when a person decided."""
    with_buyers = checking(TODAY, Expectations.of({"buyers": ["某某有限公司"]}))
    pair = [document(WRONG_TOTAL), document(RIGHT, SECOND)]
    examined = [replace(each, findings=with_buyers(each.invoice, ())) for each in pair if each.invoice]
    assert all(any(found.code == "BUYER_UNKNOWN" for found in each.findings) for each in examined)
    warehouse.load(examined, check=with_buyers if knows else check)
    assert invoice_row(warehouse)["review_status"] == "review"


def test_the_authors_list_decides_between_two_buyers(warehouse: Warehouse) -> None:
    with_buyers = checking(TODAY, Expectations.of({"buyers": [RIGHT.fields["buyer_name"]]}))
    pair = [document(RIGHT.with_fields(buyer_name="某某公司")), document(RIGHT, SECOND)]
    examined = [replace(each, findings=with_buyers(each.invoice, ())) for each in pair if each.invoice]
    warehouse.load(examined, check=with_buyers)
    row = invoice_row(warehouse)
    assert (row["buyer_name"], row["review_status"]) == (RIGHT.fields["buyer_name"], "clear")


def test_readings_of_two_different_things_choose_nothing(warehouse: Warehouse) -> None:
    load(warehouse, [document(WRONG_TOTAL), document(draw(PAPER + 9), SECOND)])
    assert {row["review_status"] for row in rows(warehouse, "invoices")} == {"review"}
    assert len(rows(warehouse, "invoices")) == 2


def test_a_second_file_of_the_invoice_leaves_a_doubt_about_the_first_as_it_is(warehouse: Warehouse) -> None:
    doubted = document(RIGHT), document(RIGHT.with_fields(buyer_name="某某公司"), SECOND)
    load(warehouse, [*doubted], [document(RIGHT, picture="b")])
    assert invoice_row(warehouse)["review_status"] == "review"


def test_a_second_file_of_the_invoice_agrees_with_what_was_settled(warehouse: Warehouse) -> None:
    load(warehouse, [document(WRONG_TOTAL), document(RIGHT, SECOND)], [document(RIGHT, picture="b")])
    assert invoice_row(warehouse)["review_status"] == "clear"
    assert not said(warehouse, "CONFLICTING_DOCUMENT")


def test_a_second_file_that_disagrees_with_what_was_settled_is_a_conflict(warehouse: Warehouse) -> None:
    other = document(RIGHT.with_fields(check_code="1" * 20), picture="b")
    load(warehouse, [document(WRONG_TOTAL), document(RIGHT, SECOND)], [other])
    assert invoice_row(warehouse)["review_status"] == "review"
    assert len(said(warehouse, "CONFLICTING_DOCUMENT")) == 3


def test_what_a_person_reviewed_is_untouched_by_a_second_reading(warehouse: Warehouse) -> None:
    wrong = document(WRONG_TOTAL)
    load(warehouse, [wrong])
    seen = shown(warehouse, name_of(wrong)).seen
    changes = {"total": "7777.77", "amount": "7777.77", "tax": "0"}
    decide(warehouse, Decision(name_of(wrong), seen, "correct", "me", NOON, changes), today=TODAY)
    before = invoice_row(warehouse)
    load(warehouse, [document(RIGHT, SECOND)])
    assert invoice_row(warehouse) == before
    assert statuses(warehouse) == {FIRST: "corrected", SECOND: "review"}


def test_when_a_person_rejects_one_reading_the_other_stands_for_itself(warehouse: Warehouse) -> None:
    one, other = document(RIGHT), document(RIGHT.with_fields(number="12345678"), SECOND)
    load(warehouse, [one, other])
    decision = Decision(name_of(other), shown(warehouse, name_of(other)).seen, "reject", "me", NOON)
    decide(warehouse, decision, today=TODAY)
    assert statuses(warehouse) == {FIRST: "clear", SECOND: "rejected"}
    clear = [row for row in rows(warehouse, "invoices") if row["review_status"] == "clear"]
    assert [row["number"] for row in clear] == [RIGHT.fields["number"]]


def test_after_a_better_reading_of_one_nothing_of_the_settlement_is_left(warehouse: Warehouse) -> None:
    wrong, right = document(WRONG_TOTAL), document(RIGHT, SECOND)
    load(warehouse, [wrong, right], [document(RIGHT, answer_id="z", answered_at=NOON + timedelta(days=1))])
    assert not said(warehouse, "ENDPOINTS_SETTLED")
    assert statuses(warehouse) == {FIRST: "clear", SECOND: "clear"}
    assert "total" not in (invoice_row(warehouse)["merged_from"] or {})


@pytest.mark.parametrize("qr", [False, True])
@pytest.mark.parametrize("seed", range(18))
def test_a_mistake_of_one_endpoint_is_never_chosen_over_the_right_value(seed: int, qr: bool) -> None:
    """Every mistake of OCR at one endpoint, right at the other, in both orders, with and without QR code."""
    right = draw(seed)
    codes = (right.code,) if qr else ()
    expected = values(right)
    for mistake in mistakes(random.Random(f"mistakes/{seed}"), right):
        for wrong_at, right_at in ((FIRST, SECOND), (SECOND, FIRST)):
            pair = document(mistake.printed, wrong_at, codes=codes), document(right, right_at, codes=codes)
            for ordered in (pair, pair[::-1]):
                found = settled(*ordered)
                if found and found.row and not found.row["doubtful"]:
                    read = {name: found.row[name] for name in FACTS if found.row[name] is not None}
                    read.pop("kind", None)  # one endpoint has no word for some kinds
                    assert {name: expected[name] for name in read} == read, (mistake.kind, mistake.field)


def test_the_order_of_readings_does_not_change_what_is_chosen() -> None:
    for seed in range(9):
        right = draw(seed)
        for mistake in mistakes(random.Random(f"mistakes/{seed}"), right):
            one, other = document(mistake.printed), document(right, SECOND)
            first, second = settled(one, other), settled(other, one)
            assert (first and first.row and first.row["doubtful"]) == (
                second and second.row and second.row["doubtful"]
            )
