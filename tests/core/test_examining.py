"""An answer is held against everything that is known, and changed only where the author wants it."""

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jdocr.core.errors import ConfigurationError
from airflow_provider_jdocr.core.examining import REPAIRS, Expectations, examine
from airflow_provider_jdocr.core.findings import (
    CHECKS,
    Finding,
    Severity,
    finding,
    repair,
    review_status,
    texts_of_repair,
)
from airflow_provider_jdocr.core.opinions import Buyer
from airflow_provider_jdocr.core.parsing import FieldEvidence, Invoice
from tests.core.test_checks import DIGITAL, GOOD, TODAY

D = Decimal
CODE = "01,10,012001800311,33207675,46.62,20190508,76939056883466677916,E1BD,"
EVERYTHING = Expectations(repairs=frozenset(REPAIRS))


def codes(findings: tuple[Finding, ...]) -> list[str]:
    return [each.code for each in findings]


def test_a_good_answer_is_clear_and_is_what_it_was() -> None:
    assert examine(GOOD, today=TODAY, expectations=EVERYTHING) == (GOOD, ())
    assert examine(GOOD, today=TODAY, codes=[CODE])[1] == ()


def test_the_codes_of_a_picture_stand_among_the_evidence() -> None:
    known, _ = examine(GOOD, today=TODAY, codes=[CODE])
    assert known == replace(GOOD, evidence={"qr_code": FieldEvidence(CODE, "picture", None, None)})


def test_where_no_code_was_read_the_service_s_own_is_taken() -> None:
    wrong = replace(GOOD, number="33207676", details={"vat_invoice_qr_code": CODE})
    assert codes(examine(wrong, today=TODAY)[1]) == ["QR_DISAGREES"]
    assert codes(examine(wrong, today=TODAY, codes=[CODE.replace("675", "676")])[1]) == []


WRONG: list[tuple[str, Invoice, dict[str, Any]]] = [
    ("AMOUNT_TAX_SWAPPED", GOOD, {"amount": D("6.08"), "tax": D("46.62")}),
    (
        "BUYER_TAX_ID_DIFFERS",
        replace(GOOD, buyer_tax_id="91511422MA62J75P9H"),
        {"buyer_tax_id": "12510000450717578Y"},
    ),
    ("BUYER_NAME_DIFFERS", replace(GOOD, buyer_tax_id="91511422MA62J75P9H"), {"buyer_name": "个入"}),
    ("DIGITAL_NUMBER_AS_CODE", DIGITAL, {"code": DIGITAL.number, "number": None}),
    ("DIGITAL_NUMBER_SPLIT", DIGITAL, {"code": "191220000000", "number": "12345678"}),
    ("QR_DISAGREES", GOOD, {"number": "33207676"}),
    ("QR_DISAGREES", GOOD, {"issue_date": date(2019, 5, 9)}),
    ("QR_HAS_MORE", GOOD, {"check_code": None}),
    ("TAX_ID_CHARACTERS", GOOD, {"seller_tax_id": "9112O222079642398Y"}),
    ("TAX_ID_CHECK_DIGIT", GOOD, {"seller_tax_id": "9112022207964239BY"}),
    ("TOTAL_NOT_SUM", GOOD, {"total": D("62.70")}),
    ("WORDS_DISAGREE", GOOD, {"total": D("62.70")}),
]
BUYER = Buyer("个人", "91511422MA62J75P9H")


@pytest.mark.parametrize(
    ("code", "right", "wrong"), WRONG, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_repair_that_is_switched_on_is_made_and_said(
    code: str, right: Invoice, wrong: dict[str, Any]
) -> None:
    given, texts = replace(right, **wrong), [CODE] if code.startswith("QR") else []
    buyers = (BUYER,) if code.startswith("BUYER") else ()
    kept, findings = examine(given, today=TODAY, codes=texts, expectations=Expectations(buyers))
    assert {name: getattr(kept, name) for name in wrong} == wrong
    assert code in codes(findings)
    wanted = Expectations(buyers, frozenset({code}))
    mended, notes = examine(given, today=TODAY, codes=texts, expectations=wanted)
    assert {name: getattr(mended, name) for name in wrong} == {name: getattr(right, name) for name in wrong}
    assert codes(notes) == ["REPAIRED"] * len(wrong)
    assert review_status(notes) == "clear"
    for note in notes:
        (name,) = note.fields
        assert note.found == (None if wrong[name] is None else str(wrong[name]))
        assert code in note.message


def test_every_repair_is_tried_here_and_is_one_of_the_rules() -> None:
    assert {code for code, _, _ in WRONG} == set(REPAIRS) <= set(CHECKS)


def test_what_is_right_only_together_is_repaired_together() -> None:
    """A piece of a digital number as the code, no number, and a QR code that tells both."""
    code = f"01,32,,{DIGITAL.number},52.70,20190508,,9133"
    broken = replace(DIGITAL, number=None, code="000012345678")
    wanted = Expectations(repairs=frozenset({"QR_DISAGREES", "QR_HAS_MORE"}))
    mended, notes = examine(broken, today=TODAY, codes=[code], expectations=wanted)
    assert (mended.number, mended.code) == (DIGITAL.number, None)
    assert codes(notes) == ["REPAIRED", "REPAIRED"]


def test_a_repair_that_would_break_something_else_is_not_made() -> None:
    """The QR code is another invoice's in all but its number: nothing says which of the two is right."""
    wanted = Expectations(repairs=frozenset({"QR_DISAGREES"}))
    foreign = CODE.replace("46.62", "79.80")
    known, findings = examine(GOOD, today=TODAY, codes=[foreign], expectations=wanted)
    assert known.amount == GOOD.amount
    assert codes(findings) == ["QR_DISAGREES"]


@given(st.sampled_from(sorted(REPAIRS)), st.sampled_from([(right, wrong) for _, right, wrong in WRONG]))
def test_no_repair_ever_adds_an_error(code: str, case: tuple[Invoice, dict[str, Any]]) -> None:
    given = replace(case[0], **case[1])
    _, before = examine(given, today=TODAY, codes=[CODE], expectations=Expectations((BUYER,)))
    wanted = Expectations((BUYER,), frozenset({code}))
    _, after = examine(given, today=TODAY, codes=[CODE], expectations=wanted)
    errors = [
        {(one.code, one.fields) for one in found if one.severity is Severity.ERROR}
        for found in (after, before)
    ]
    assert errors[0] <= errors[1]


# ── what the author gives ──


def test_expectations_come_as_a_mapping() -> None:
    given = {"buyers": ["个人"], "repairs": ["QR_HAS_MORE"]}
    assert Expectations.of(given) == Expectations((Buyer("个人"),), frozenset({"QR_HAS_MORE"}))
    assert Expectations.of({"repairs": "QR_HAS_MORE"}).repairs == {"QR_HAS_MORE"}
    assert Expectations.of(None) == Expectations.of({}) == Expectations()
    assert Expectations.of(EVERYTHING) is EVERYTHING


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"buyer": []}, r"checks: a mapping .* got \{'buyer': \[\]\}"),
        ([1], "checks: a mapping"),
        ({"repairs": ["TAX_RATE_ILLEGAL"]}, "'TAX_RATE_ILLEGAL' is none"),
        ({"repairs": 5}, "5 is none"),
        ({"buyers": [5]}, "buyers: a list of"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(given: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Expectations.of(given)


# ── proposals ──


def test_a_proposal_comes_back_as_it_was_made() -> None:
    assert texts_of_repair(repair(number="1", code=None)) == {"number": "1", "code": ""}
    assert texts_of_repair(repair(buyer_name="甲; 乙 (a=b)")) == {"buyer_name": "甲; 乙 (a=b)"}


def test_a_finding_is_short_however_long_the_text_that_it_is_about() -> None:
    """A reply may hold megabytes, a database's text column 64 kilobytes."""
    short = finding("QR_UNUSABLE", ("number",), "m" * 70_000, found="f" * 70_000)
    assert (len(short.message), len(short.found or "")) == (500, 500)
