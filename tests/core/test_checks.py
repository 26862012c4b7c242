"""What can be checked for free is checked, and nothing is changed."""

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jdocr.core.checks import LEGAL_RATES, check, kind_of_code, required_fields
from airflow_provider_jdocr.core.endpoints import ENDPOINTS
from airflow_provider_jdocr.core.examining import CHECKS_VERSION, reading_version
from airflow_provider_jdocr.core.findings import CHECKS, Finding, Severity, review_status
from airflow_provider_jdocr.core.numerals import to_words
from airflow_provider_jdocr.core.parsing import (
    PARSER_VERSION,
    FieldEvidence,
    Invoice,
    InvoiceKind,
    Line,
    Problem,
    parse,
    taken_back,
)
from airflow_provider_jdocr.core.tax_ids import repaired_tax_id

REPLIES = Path(__file__).parent / "replies"
TRUTH = json.loads((Path(__file__).parents[1] / "specimens" / "pictures" / "truth.json").read_text())
TODAY = date(2026, 11, 22)
D = Decimal

# An electronic common invoice that nothing can be said against; public sample, read by eye.
GOOD = Invoice(
    endpoint="intsig_invoice",
    kind=InvoiceKind.COMMON_ELECTRONIC,
    kind_text="vat_electronic_invoice",
    code="012001800311",
    number="33207675",
    issue_date=date(2019, 5, 8),
    check_code="76939056883466677916",
    buyer_name="个人",
    seller_name="天津瑞佳讯贸易有限公司",
    seller_tax_id="91120222079642398Y",
    amount=D("46.62"),
    tax=D("6.08"),
    total=D("52.70"),
    total_in_words="伍拾贰圆柒角",
    tax_rate=D("0.13"),
    tax_rate_text="13%",
)
DIGITAL = replace(
    GOOD, kind=InvoiceKind.DIGITAL_COMMON, code=None, number="19122000000012345678", check_code=None
)
SPECIAL = replace(
    GOOD,
    kind=InvoiceKind.SPECIAL_PAPER,
    code="1100184130",
    check_code=None,
    buyer_tax_id="91511422MA62J75P9H",
)


ROLL = replace(
    GOOD, kind=InvoiceKind.ROLL, code="012001800106", amount=None, tax=None, tax_rate=None, tax_rate_text=None
)
GOODS = Line(1, "甲", amount=D("23.31"), tax=D("3.04"), tax_rate=D("0.13"), tax_rate_text="13%")


def found(invoice: Invoice, *, today: date = TODAY) -> list[str]:
    return [finding.code for finding in check(invoice, today=today)]


def the(code: str, findings: Iterable[Finding]) -> Finding:
    (finding,) = (finding for finding in findings if finding.code == code)
    return finding


def sample(name: str) -> Invoice:
    return parse(ENDPOINTS[name.split(".")[0]], (REPLIES / name).read_bytes())


# ── the samples of both descriptions, and what is right ──


def test_a_finding_is_short_however_long_the_text_that_it_is_about() -> None:
    """A reply may hold megabytes, a database's text column 64 kilobytes."""
    invoice = replace(GOOD, kind=InvoiceKind.OTHER, kind_text="x" * 70_000)
    finding = the("KIND_UNKNOWN", check(invoice, today=TODAY))
    assert (len(finding.message), len(finding.found or "")) == (500, 500)


def test_the_flat_sample_is_flagged_because_its_amount_and_tax_are_swapped() -> None:
    findings = check(sample("ocr_invoice.seed.json"), today=TODAY)
    assert [finding.code for finding in findings] == ["AMOUNT_TAX_SWAPPED"]
    assert findings[0].proposal == "amount=13675.21; tax=2324.79"
    assert findings[0].message == "2324.79 ÷ 13675.21 is 0.1700: amount and tax look swapped."
    assert review_status(findings) == "review"


def test_the_keyed_sample_has_only_findings_of_missing_fields() -> None:
    findings = check(sample("intsig_invoice.seed.json"), today=TODAY)
    assert {finding.code for finding in findings} == {"REQUIRED_FIELD_MISSING"}
    assert {finding.fields[0] for finding in findings} == {
        *("seller_name", "seller_tax_id", "amount", "tax", "total", "total_in_words")
    }


@pytest.mark.parametrize("invoice", [GOOD, DIGITAL, SPECIAL], ids=["electronic", "digital", "special"])
def test_a_good_invoice_is_clear(invoice: Invoice) -> None:
    assert check(invoice, today=TODAY) == ()
    assert review_status(()) == "clear"


def test_a_good_answer_is_clear_at_both_endpoints() -> None:
    for name in ("ocr_invoice.enveloped.json", "intsig_invoice.two_lines.json"):
        assert found(sample(name)) == []


@pytest.mark.parametrize("specimen", TRUTH, ids=lambda specimen: specimen["file"])
def test_a_specimen_that_is_read_rightly_is_read_whole_and_has_no_findings(specimen: dict[str, Any]) -> None:
    items = [{"key": key, "value": text} for key, text in specimen["intsig"].items()]
    result = {"type": specimen["type"], "item_list": items}
    body = json.dumps({"code": 200, "message": "success", "result": result}).encode()
    invoice = parse(ENDPOINTS["intsig_invoice"], body)
    assert {name: str(getattr(invoice, name)) for name in specimen["fields"]} == {
        name: str(value) for name, value in specimen["fields"].items()
    }
    assert len(invoice.lines) == len(specimen["lines"])
    assert found(invoice) == []


# ── one wrong thing at a time ──

WRONG: list[tuple[str, Invoice]] = [
    ("NUMBER_SHAPE", replace(GOOD, number="3320767")),
    ("NUMBER_SHAPE", replace(GOOD, number="3320767O")),
    ("NUMBER_SHAPE", replace(GOOD, number="３３２０７６７５")),
    ("CODE_SHAPE", replace(GOOD, code="12001800311")),
    ("DIGITAL_NUMBER_AS_CODE", replace(DIGITAL, number=None, code="000000123456")),
    ("DIGITAL_NUMBER_SPLIT", replace(DIGITAL, code="191220000000", number="12345678")),
    ("DIGITAL_NUMBER_SPLIT", replace(DIGITAL, kind=None, code="1912200000", number="0012345678")),
    ("REGION_UNKNOWN", replace(DIGITAL, number="19772000000012345678")),
    ("REGION_UNKNOWN", replace(GOOD, code="077001800311")),
    ("REGION_UNKNOWN", replace(SPECIAL, code="7700184130")),
    ("CODE_NOT_EXPECTED", replace(DIGITAL, code="1100184130")),
    ("CODE_KIND_UNKNOWN", replace(GOOD, code="012001800399")),
    ("CODE_KIND_UNKNOWN", replace(GOOD, code="1100184290", kind=None)),
    ("KIND_UNKNOWN", replace(GOOD, kind=InvoiceKind.OTHER, kind_text="taxi_ticket")),
    ("KIND_CONFLICTS", replace(GOOD, kind=InvoiceKind.SPECIAL_PAPER)),
    ("KIND_CONFLICTS", replace(GOOD, details={"vat_invoice_zhuan_yong_flag": "专票"})),
    ("KIND_DIFFERS", replace(GOOD, kind=InvoiceKind.COMMON_PAPER)),
    ("KIND_DIFFERS", replace(DIGITAL, kind=InvoiceKind.COMMON_ELECTRONIC)),
    ("CHECK_CODE_SHAPE", replace(GOOD, check_code="7693905688346667791")),
    ("CHECK_CODE_NOT_EXPECTED", replace(SPECIAL, check_code="76939056883466677916")),
    ("CHECK_CODE_NOT_EXPECTED", replace(DIGITAL, check_code="76939056883466677916")),
    ("DATE_TOO_EARLY", replace(DIGITAL, number="93122000000012345678", issue_date=date(1993, 12, 31))),
    ("DATE_IN_FUTURE", replace(DIGITAL, number="26122000000012345678", issue_date=date(2026, 11, 23))),
    ("CODE_YEAR_AFTER_DATE", replace(GOOD, code="012002000311")),
    ("CODE_YEAR_AFTER_DATE", replace(SPECIAL, code="1100204130")),
    ("CODE_YEAR_OLD", replace(GOOD, code="012001500311")),
    ("NUMBER_YEAR_DISAGREES", replace(DIGITAL, number="24122000000012345678")),
    ("TOTAL_NOT_SUM", replace(GOOD, total=D("52.71"), total_in_words="伍拾贰圆柒角壹分")),
    ("TOTAL_UNCONFIRMED", replace(ROLL, endpoint="ocr_invoice", total_in_words=None)),
    ("SIGNS_DISAGREE", replace(GOOD, amount=D("58.78"), tax=D("-6.08"), tax_rate=None, tax_rate_text=None)),
    ("AMOUNT_TAX_SWAPPED", replace(GOOD, amount=D("6.08"), tax=D("46.62"))),
    ("TAX_RATE_ILLEGAL", replace(GOOD, tax_rate=D("0.12"), tax_rate_text="12%")),
    ("TAX_RATE_ILLEGAL", replace(GOOD, tax_rate=None, amount=D("30.00"), tax=D("22.70"))),
    ("TAX_RATE_DISAGREES", replace(GOOD, tax_rate=D("0.09"), tax_rate_text="9%")),
    ("TAX_RATE_DISAGREES", replace(GOOD, tax_rate=None, tax_rate_text="免税")),
    ("TAX_RATE_UNCERTAIN", replace(GOOD, tax_rate=None, amount=D("49.00"), tax=D("3.70"))),
    ("WORDS_DISAGREE", replace(GOOD, total_in_words="伍拾叁圆柒角")),
    ("WORDS_UNREADABLE", replace(GOOD, total_in_words="伍拾贰固柒角")),
    ("TAX_ID_LENGTH", replace(GOOD, seller_tax_id="91120222079642398")),
    ("TAX_ID_CHARACTERS", replace(GOOD, seller_tax_id="9112O222079642398Y")),
    ("TAX_ID_CHARACTERS", replace(GOOD, buyer_tax_id="37256A065123562")),
    ("TAX_ID_CHECK_DIGIT", replace(GOOD, seller_tax_id="91120222079642398X")),
    ("TAX_ID_OLD_CHECK_DIGIT", replace(GOOD, buyer_tax_id="372569065123563")),
    ("PARTIES_EQUAL", replace(GOOD, buyer_tax_id=GOOD.seller_tax_id)),
    ("READINGS_DISAGREE", replace(GOOD, details={"vat_invoice_haoma_large_size": "33207676"})),
    ("READINGS_DISAGREE", replace(GOOD, details={"vat_invoice_daima_right_side": "012001800312"})),
    ("READINGS_DISAGREE", replace(GOOD, details={"vat_invoice_corrent_code_print": "7" * 20})),
    ("READINGS_DISAGREE", replace(GOOD, details={"vat_invoice_issue_date_print": "2019年05月09日"})),
    ("READINGS_DISAGREE", replace(GOOD, details={"vat_invoice_total_print": "¥46.63"})),
    ("READING_UNUSABLE", replace(GOOD, details={"vat_invoice_haoma_right_side": "月16日"})),
    ("LINES_SUM_DISAGREES", replace(GOOD, lines=(Line(1, "甲", amount=D("46.61"), tax=D("6.08")),))),
    ("LINES_SUM_ROUNDED", replace(GOOD, lines=(GOODS, replace(GOODS, amount=D("23.30"))))),
    (
        "LINE_TAX_DISAGREES",
        replace(GOOD, lines=(replace(GOODS, tax=D("3.10")), replace(GOODS, number=2, tax=D("2.98")))),
    ),
    (
        "LINE_PRODUCT_DISAGREES",
        replace(GOOD, lines=(replace(GOODS, quantity=D(2), unit_price=D("11.2")), GOODS)),
    ),
    (
        "DISCOUNT_LINE_ODD",
        replace(GOOD, lines=(Line(1, "甲", amount=D("56.62")), Line(2, "乙", amount=D("-10.00")))),
    ),
    ("VALUE_UNPARSABLE", replace(GOOD, problems=(Problem("VALUE_UNPARSABLE", "issue_date", "x"),))),
    ("DETAIL_UNPARSABLE", replace(GOOD, problems=(Problem("VALUE_UNPARSABLE", "stamp", "x"),))),
    ("LINES_NOT_PAIRED", replace(GOOD, problems=(Problem("LINES_NOT_PAIRED", "lines", "name 3"),))),
    (
        "UNREADABLE_CHARACTERS",
        replace(GOOD, evidence={"seller_name": FieldEvidence("天\ufffd", "k", None, None)}),
    ),
    ("REQUIRED_FIELD_MISSING", replace(GOOD, seller_name=None)),
    ("NOT_AN_INVOICE", Invoice(endpoint="ocr_invoice")),
]


@pytest.mark.parametrize(
    ("code", "invoice"), WRONG, ids=lambda value: value if isinstance(value, str) else ""
)
def test_one_wrong_thing_has_one_finding(code: str, invoice: Invoice) -> None:
    findings = check(invoice, today=TODAY)
    assert [finding.code for finding in findings] == [code]
    assert findings[0].severity is CHECKS[code].severity
    assert findings[0].message
    assert review_status(findings) == ("review" if CHECKS[code].severity is Severity.ERROR else "clear")


def test_every_rule_is_broken_by_some_invoice_here() -> None:
    """What others say of it, and what was done about it, has tests of its own."""
    others = {code for code in CHECKS if code.startswith(("QR_", "BUYER_"))} | {"REPAIRED"}
    assert {code for code, _ in WRONG} | {"RED_INVOICE", "RED_WITHOUT_ORIGINAL"} == set(CHECKS) - others


@pytest.mark.parametrize("name", required_fields(GOOD))
def test_each_required_field_is_missed_by_name(name: str) -> None:
    nothing: dict[str, Any] = {name: None}
    missing = replace(GOOD, **nothing)
    findings = check(missing, today=TODAY)
    assert (name,) in [one.fields for one in findings if one.code == "REQUIRED_FIELD_MISSING"]


def test_a_piece_of_a_digital_number_returned_as_the_code_is_one_finding_and_the_whole_is_proposed() -> None:
    whole = replace(GOOD, number=None, code=DIGITAL.number, check_code=None)
    (finding,) = check(whole, today=TODAY)
    assert (finding.code, finding.proposal) == ("DIGITAL_NUMBER_AS_CODE", f"number={DIGITAL.number}; code=")
    (finding,) = check(replace(whole, code="345678901234"), today=TODAY)
    assert (finding.code, finding.proposal) == ("DIGITAL_NUMBER_AS_CODE", None)


def test_what_a_kind_does_not_print_is_not_missed() -> None:
    assert "code" not in required_fields(DIGITAL)
    assert "check_code" not in required_fields(SPECIAL)
    assert "amount" not in required_fields(replace(GOOD, code=None, kind=InvoiceKind.ROLL))
    assert "total_in_words" not in required_fields(replace(GOOD, endpoint="ocr_invoice"))


def test_a_picture_of_something_else_is_said_to_be_no_invoice_and_nothing_more() -> None:
    assert found(sample("intsig_invoice.no_invoice.json")) == ["NOT_AN_INVOICE"]


# ── kinds ──


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        *(("3100171110", "special_paper"), ("3100171150", "special_paper")),
        *(("3100171320", "common_paper"), ("3700081650", "common_paper")),
        *(("012001800104", "common_paper"), ("012001800105", "common_paper")),
        *(("012001800111", "common_electronic"), ("144031539110", "common_electronic")),
        *(("131001570151", "common_electronic"), ("133011501118", "common_electronic")),
        ("111001571071", "common_electronic"),
        ("012001800113", "special_electronic"),
        *(("012001800106", "roll"), ("012001800107", "roll")),
        ("012001800112", "toll"),
        ("144031909110", "blockchain"),
        *(("112001800111", None), ("3100171720", None), ("310017", None), ("31001713２0", None), ("", None)),
    ],
)
def test_the_kind_is_in_the_code(code: str, kind: str | None) -> None:
    told = kind_of_code(code)
    assert (told and told.value) == kind


# ── amounts ──

cents = st.integers(min_value=100_00, max_value=10**12).map(lambda value: D(value).scaleb(-2))
printed_rates = st.sampled_from([rate for rate in LEGAL_RATES if rate])


def _taxed(amount: Decimal, rate: Decimal, tax: Decimal, endpoint: str = "ocr_invoice") -> Invoice:
    total = amount + tax
    return replace(
        GOOD,
        endpoint=endpoint,
        amount=amount,
        tax=tax,
        total=total,
        total_in_words=to_words(total),
        tax_rate=rate,
        tax_rate_text=f"{rate:%}",
    )


@given(cents, printed_rates, st.booleans(), st.booleans())
def test_an_invoice_that_is_right_is_clear_at_every_rate_black_or_red(
    amount: Decimal, rate: Decimal, red: bool, rate_is_read: bool
) -> None:
    signed = -amount if red else amount
    tax = (signed * rate).quantize(D("0.01"))
    invoice = _taxed(signed, rate, tax)
    known = invoice if rate_is_read else replace(invoice, tax_rate=None, tax_rate_text=None)
    assert found(known) == (["RED_INVOICE"] if red else [])


@given(cents, printed_rates)
def test_swapped_amounts_are_always_seen_and_the_repair_is_the_swap(amount: Decimal, rate: Decimal) -> None:
    tax = (amount * rate).quantize(D("0.01"))
    invoice = replace(_taxed(amount, rate, tax), amount=tax, tax=amount, tax_rate=None, tax_rate_text=None)
    finding = the("AMOUNT_TAX_SWAPPED", check(invoice, today=TODAY))
    assert finding.proposal == f"amount={amount}; tax={tax}"


def test_a_tax_free_invoice_totals_its_amount() -> None:
    stars = {"tax": FieldEvidence("***", "vat_invoice_tax_total", None, None)}
    free = replace(
        GOOD,
        amount=D("79.80"),
        tax=None,
        total=D("79.80"),
        total_in_words="柒拾玖元捌角",
        tax_rate=None,
        tax_rate_text="免税",
        evidence=stars,
    )
    assert found(free) == []
    assert found(replace(free, amount=D("79.70"))) == ["TOTAL_NOT_SUM"]


def test_several_rates_bound_the_tax() -> None:
    lines = (
        Line(1, amount=D("100.00"), tax=D("13.00"), tax_rate=D("0.13"), tax_rate_text="13%"),
        Line(2, amount=D("100.00"), tax=D("9.00"), tax_rate=D("0.09"), tax_rate_text="9%"),
    )
    two = replace(_taxed(D("200.00"), D("0.13"), D("22.00")), tax_rate=None, tax_rate_text=None, lines=lines)
    assert found(two) == []
    dear = replace(two, tax=D("26.50"), total=D("226.50"), total_in_words=to_words(D("226.50")))
    assert found(dear) == ["TAX_RATE_DISAGREES", "LINES_SUM_DISAGREES"]


def test_rounding_is_allowed_a_cent_a_line_and_two_at_least() -> None:
    rates: dict[str, Any] = {"tax_rate": D("0.13"), "tax_rate_text": "13%"}
    one = Line(1, amount=D("300.00"), tax=None, **rates)
    three = tuple(Line(number, amount=D("100.00"), tax=D("13.01"), **rates) for number in (1, 2, 3))
    invoice = _taxed(D("300.00"), D("0.13"), D("39.03"))
    assert found(replace(invoice, lines=three)) == []
    assert found(replace(invoice, lines=(one,))) == ["TAX_RATE_DISAGREES"]


def test_a_repair_is_proposed_where_two_other_readings_agree_on_it() -> None:
    wrong = replace(GOOD, total=D("62.70"))
    for code in ("TOTAL_NOT_SUM", "WORDS_DISAGREE"):
        assert the(code, check(wrong, today=TODAY)).proposal == "total=52.70"
    alone = replace(wrong, total_in_words="陆拾贰圆柒角")
    assert the("TOTAL_NOT_SUM", check(alone, today=TODAY)).proposal is None


@pytest.mark.parametrize(("name", "value"), [("amount", "48.62"), ("tax", "8.08"), ("total", "58.70")])
@pytest.mark.parametrize("with_words", [True, False])
def test_of_three_amounts_the_one_that_rate_and_words_leave_is_proposed(
    name: str, value: str, with_words: bool
) -> None:
    words: dict[str, Any] = {} if with_words else {"total_in_words": None, "endpoint": "ocr_invoice"}
    wrong: dict[str, Any] = {name: D(value)}
    finding = the("TOTAL_NOT_SUM", check(replace(GOOD, **words, **wrong), today=TODAY))
    assert finding.proposal == f"{name}={getattr(GOOD, name)}"


def test_the_other_way_round_of_several_rates_is_seen_without_the_rates() -> None:
    two = replace(_taxed(D("22.00"), D("0.13"), D("200.00")), tax_rate=None, tax_rate_text=None)
    assert the("AMOUNT_TAX_SWAPPED", check(two, today=TODAY)).proposal == "amount=200.00; tax=22.00"


# ── red invoices, discounts, lines ──


@pytest.mark.parametrize(
    ("remarks", "original"),
    [
        (
            "被红冲蓝字数电票号码：24312000000012345678 红字发票信息确认单编号：31010124071234567890",
            "24312000000012345678",
        ),
        ("对应正数发票代码:012001800311号码:33207675", "012001800311:33207675"),
        ("对应正数发票代码：1100184130 号码：87654321 退货", "1100184130:87654321"),
        ("开具红字增值税专用发票信息表编号1101081812345678", None),
    ],
)
def test_a_red_invoice_says_what_it_takes_back(remarks: str, original: str | None) -> None:
    red = _taxed(D("-100.00"), D("0.13"), D("-13.00"), "intsig_invoice")
    assert taken_back(remarks) == original
    (finding,) = check(replace(red, remarks=remarks, takes_back=original), today=TODAY)
    assert (finding.code, finding.expected, finding.severity) == ("RED_INVOICE", original, Severity.INFO)
    assert found(replace(red, remarks="退货")) == ["RED_INVOICE", "RED_WITHOUT_ORIGINAL"]


def test_a_discount_makes_no_red_invoice_and_is_no_finding() -> None:
    discount = Line(2, "甲", amount=D("-10.00"), tax=D("-1.30"), tax_rate=D("0.13"), tax_rate_text="13%")
    goods = replace(discount, number=1, amount=D("110.00"), tax=D("14.30"), quantity=D(1))
    invoice = replace(_taxed(D("100.00"), D("0.13"), D("13.00")), lines=(goods, discount))
    assert found(invoice) == []
    assert found(replace(invoice, lines=(goods, replace(discount, quantity=D(1))))) == ["DISCOUNT_LINE_ODD"]
    assert found(replace(invoice, lines=(discount, goods))) == ["DISCOUNT_LINE_ODD"]


def test_the_lines_rates_give_the_tax_and_not_only_its_bounds() -> None:
    rates: dict[str, Any] = {"tax_rate": D("0.13"), "tax_rate_text": "13%"}
    low: dict[str, Any] = {"tax_rate": D("0.09"), "tax_rate_text": "9%"}
    lines = (Line(1, amount=D("100.00"), **rates), Line(2, amount=D("100.00"), **low))
    two = replace(_taxed(D("200.00"), D("0.13"), D("22.00")), tax_rate=None, tax_rate_text=None, lines=lines)
    assert found(two) == []
    assert found(replace(two, tax=D("23.00"), total=D("223.00"), total_in_words=to_words(D("223.00")))) == [
        "TAX_RATE_DISAGREES"
    ]


@pytest.mark.parametrize(("price", "amount"), [("0.33", "33.3"), ("0.333333", "33.33"), ("0.3", "33.33")])
def test_a_unit_price_may_be_rounded_where_it_is_printed(price: str, amount: str) -> None:
    line = Line(1, "甲", quantity=D(100), unit_price=D(price), amount=D(amount), tax=D("4.33"))
    assert (
        found(
            replace(
                GOOD,
                amount=D(amount),
                tax=D("4.33"),
                lines=(line,),
                endpoint="ocr_invoice",
                total=D(amount) + D("4.33"),
                total_in_words=None,
            )
        )
        == []
    )


# ── tax ids ──

IDS = ("91120222079642398Y", "91511422MA62J75P9H", "12510000450717578Y")
LOOK_ALIKE = {"0": "O", "1": "I", "2": "Z", "5": "S", "8": "B", "B": "8", "6": "G"}


@pytest.mark.parametrize("tax_id", IDS)
def test_one_look_alike_is_always_seen_and_repaired_without_touching_the_value(tax_id: str) -> None:
    for place, character in enumerate(tax_id):
        if character not in LOOK_ALIKE:
            continue
        misread = f"{tax_id[:place]}{LOOK_ALIKE[character]}{tax_id[place + 1 :]}"
        invoice = replace(GOOD, seller_tax_id=misread)
        (finding,) = check(invoice, today=TODAY)
        assert (finding.code in {"TAX_ID_CHARACTERS", "TAX_ID_CHECK_DIGIT"}, finding.found) == (True, misread)
        assert finding.proposal in {f"seller_tax_id={tax_id}", None}


def test_the_sure_misreading_is_repaired() -> None:
    assert repaired_tax_id("9137O212MACTJBLH1W") == "91370212MACTJBLH1W"
    assert repaired_tax_id("9I37O2I2MACTJBLHIW") == "91370212MACTJBLH1W"
    assert repaired_tax_id(IDS[0]) is None
    assert repaired_tax_id("0" * 18) is None


@pytest.mark.parametrize("tax_id", ["372569065123562", "11010519491231002X", "37252219680180361234"])
def test_older_ids_and_those_of_natural_persons_are_accepted(tax_id: str) -> None:
    assert found(replace(GOOD, buyer_tax_id=tax_id)) == []


# ── facts printed twice ──


def test_second_readings_that_agree_are_silent_whatever_their_form() -> None:
    details = {
        "vat_invoice_haoma_large_size": "№ 3320 7675",
        "vat_invoice_daima_print": "０１２００１８００３１１",
        "vat_invoice_note_correct_code": "76939 05688 34666 77916",
        "vat_invoice_issue_date_print": "2019-05-08",
        "vat_invoice_total_print": "￥52.70",
        "vat_invoice_zhuan_yong_flag": "普票",
    }
    assert found(replace(GOOD, details=details)) == []


# ── totality ──

texts = st.none() | st.text(max_size=24) | st.text("0123456789OISX", max_size=20)
values = st.none() | st.decimals(
    allow_nan=False, allow_infinity=False, places=2, min_value=-(10**15), max_value=10**15
)


@given(
    kind=st.none() | st.sampled_from(InvoiceKind),
    code=texts,
    number=texts,
    check_code=texts,
    issue_date=st.none() | st.dates(),
    buyer_tax_id=texts,
    seller_tax_id=texts,
    amount=values,
    tax=values,
    total=values,
    total_in_words=texts,
    tax_rate=st.none() | st.sampled_from(LEGAL_RATES) | st.just(D("0.5")),
)
def test_any_invoice_can_be_checked(**fields: Any) -> None:
    for finding in check(Invoice(endpoint="intsig_invoice", **fields), today=TODAY):
        assert finding.code in CHECKS


def test_the_version_names_parser_and_checks() -> None:
    assert reading_version() == f"{PARSER_VERSION}.{CHECKS_VERSION}"
