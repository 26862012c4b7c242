"""What the QR code and the author say of an invoice, held against what the service said."""

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_jdocr.core.errors import ConfigurationError
from airflow_provider_jdocr.core.findings import Finding
from airflow_provider_jdocr.core.opinions import Buyer, buyers_of, by_buyers, by_codes
from airflow_provider_jdocr.core.parsing import Invoice, InvoiceKind
from airflow_provider_jdocr.core.qr import all_codes

D = Decimal
ELECTRONIC = "01,10,012001800311,33207675,46.62,20190508,76939056883466677916,E1BD,"
READ = Invoice(
    endpoint="ocr_invoice",
    kind=InvoiceKind.COMMON_ELECTRONIC,
    kind_text="10",
    code="012001800311",
    number="33207675",
    issue_date=date(2019, 5, 8),
    check_code="76939056883466677916",
    amount=D("46.62"),
    tax=D("6.08"),
    total=D("52.70"),
    buyer_name="上海远帆示例（集团）有限公司",
    buyer_tax_id="91511422MA62J75P9H",
    seller_tax_id="91120222079642398Y",
)
DIGITAL = "01,31,,23312000000000123456,52.70,20190508,,9133"
DIGITAL_READ = replace(
    READ, kind=InvoiceKind.DIGITAL_SPECIAL, code=None, number="23312000000000123456", check_code=None
)
BLOCKCHAIN = f"01,10,144031909110,01034285,91440300708437873H,52.70,20190320,{'0a' * 33}"
BLOCKCHAIN_READ = replace(
    READ,
    kind=InvoiceKind.BLOCKCHAIN,
    code="144031909110",
    number="01034285",
    issue_date=date(2019, 3, 20),
    seller_tax_id="91440300708437873H",
)


def said(invoice: Invoice, *codes: str) -> list[Finding]:
    return list(by_codes(invoice, all_codes(codes)))


# ── the QR code ──


@pytest.mark.parametrize(
    ("invoice", "code"), [(READ, ELECTRONIC), (DIGITAL_READ, DIGITAL), (BLOCKCHAIN_READ, BLOCKCHAIN)]
)
def test_a_code_that_agrees_says_nothing(invoice: Invoice, code: str) -> None:
    assert said(invoice, code) == []
    assert said(invoice) == []


WRONG: list[tuple[Invoice, str, dict[str, Any]]] = [
    *((READ, ELECTRONIC, wrong) for wrong in ({"code": "012001800317"}, {"number": "33207676"})),
    *((READ, ELECTRONIC, wrong) for wrong in ({"issue_date": date(2019, 5, 9)}, {"amount": D("46.63")})),
    (READ, ELECTRONIC, {"check_code": "76939056883466677918"}),
    (DIGITAL_READ, DIGITAL, {"number": "23312000000000123459"}),
    (DIGITAL_READ, DIGITAL, {"code": "331200000012"}),
    (DIGITAL_READ, DIGITAL, {"total": D("52.71")}),
    (BLOCKCHAIN_READ, BLOCKCHAIN, {"seller_tax_id": "91440300708437873A"}),
]


@pytest.mark.parametrize(("invoice", "code", "wrong"), WRONG, ids=lambda value: str(value)[:40])
def test_what_was_read_otherwise_is_named_with_what_the_code_says(
    invoice: Invoice, code: str, wrong: dict[str, Any]
) -> None:
    ((name, value),) = wrong.items()
    right = getattr(invoice, name)
    (finding,) = said(replace(invoice, **wrong), code)
    assert (finding.code, finding.fields) == ("QR_DISAGREES", (name,))
    assert (finding.found, finding.expected) == (str(value), None if right is None else str(right))
    assert finding.proposal == f"{name}={'' if right is None else right}"


@pytest.mark.parametrize("name", ["code", "number", "issue_date", "check_code", "amount"])
def test_what_was_not_read_is_offered(name: str) -> None:
    nothing: dict[str, Any] = {name: None}
    (finding,) = said(replace(READ, **nothing), ELECTRONIC)
    assert (finding.code, finding.fields) == ("QR_HAS_MORE", (name,))
    assert finding.proposal == f"{name}={getattr(READ, name)}"


def test_an_amount_of_which_it_is_not_known_which_it_is_has_to_be_one_of_the_two() -> None:
    code = "01,08,012001800313,33207675,{},20190508,76939056883466677916,E1BD,"
    invoice = replace(READ, kind=InvoiceKind.SPECIAL_ELECTRONIC, code="012001800313")
    assert said(invoice, code.format("46.62")) == said(invoice, code.format("52.70")) == []
    (finding,) = said(invoice, code.format("46.60"))
    assert (finding.code, finding.fields, finding.proposal) == ("QR_DISAGREES", ("amount", "total"), None)


def test_a_code_that_agrees_in_nothing_is_another_invoice_s_and_proposes_nothing() -> None:
    (finding,) = said(READ, "01,10,051001800211,65281307,79.80,20190223,02259002865525349387,DC08,")
    assert (finding.code, finding.expected, finding.proposal) == ("QR_OTHER_INVOICE", "65281307", None)


def test_special_against_common_is_a_contradiction_and_a_toll_s_10_is_none() -> None:
    assert [one.code for one in said(replace(READ, kind=InvoiceKind.SPECIAL_PAPER), ELECTRONIC)] == [
        "KIND_CONFLICTS"
    ]
    assert said(replace(READ, kind=InvoiceKind.TOLL), ELECTRONIC) == []


def test_several_invoices_on_one_picture_are_never_clear() -> None:
    (finding,) = said(READ, ELECTRONIC, DIGITAL)
    assert (finding.code, finding.expected) == ("QR_SEVERAL_INVOICES", "33207675; 23312000000000123456")
    codes = [one.code for one in said(replace(READ, amount=D("46.63")), ELECTRONIC, DIGITAL)]
    assert codes == ["QR_SEVERAL_INVOICES", "QR_DISAGREES"]


def test_a_code_of_another_document_or_of_nothing_known_says_so() -> None:
    assert [one.code for one in said(READ, "01,51,,26339132621000219582,56.00,20260423,,2")] == [
        "QR_NO_VAT_INVOICE"
    ]
    assert [one.code for one in said(READ, "https://u.wechat.com/abc")] == ["QR_UNUSABLE"]
    assert said(READ, "https://u.wechat.com/abc", ELECTRONIC) == []
    assert said(Invoice(endpoint="ocr_invoice"), ELECTRONIC) == []


# ── buyers ──

OURS = Buyer("上海远帆示例(集团)有限公司", "91511422MA62J75P9H")
OTHERS = Buyer("北京云杉示例贸易有限公司", "12510000450717578Y")


def held(invoice: Invoice, *buyers: Buyer) -> list[str]:
    return [one.code for one in by_buyers(invoice, buyers)]


def test_a_buyer_on_the_list_is_no_finding_however_its_brackets_are_written() -> None:
    assert held(READ, OTHERS, OURS) == []
    assert held(replace(READ, buyer_tax_id=None), OURS) == []
    assert held(replace(READ, buyer_name=None), OURS) == []
    assert (
        held(READ, Buyer(tax_id="91511422MA62J75P9H"))
        == held(READ, Buyer("上海远帆示例（集团）有限公司"))
        == []
    )


def test_without_a_list_nobody_is_unknown() -> None:
    assert held(READ) == []


@pytest.mark.parametrize(
    ("wrong", "code", "proposal"),
    [
        ({"buyer_name": "上海远航示例（集团）有限公司"}, "BUYER_NAME_DIFFERS", f"buyer_name={OURS.name}"),
        ({"buyer_tax_id": "12510000450717578Y"}, "BUYER_TAX_ID_DIFFERS", f"buyer_tax_id={OURS.tax_id}"),
        ({"buyer_tax_id": "91370212MACTJBLH1W", "buyer_name": "他人"}, "BUYER_UNKNOWN", None),
        ({"buyer_tax_id": None, "buyer_name": "个人"}, "BUYER_UNKNOWN", None),
    ],
)
def test_a_wrong_buyer_is_seen(wrong: dict[str, Any], code: str, proposal: str | None) -> None:
    (finding,) = by_buyers(replace(READ, **wrong), [OURS])
    assert (finding.code, finding.proposal) == (code, proposal)


def test_an_invoice_that_the_author_issued_is_told_from_a_stranger_s() -> None:
    sold = replace(READ, buyer_name="他人", buyer_tax_id="91370212MACTJBLH1W", seller_tax_id=OURS.tax_id)
    (finding,) = by_buyers(sold, [OURS])
    assert (finding.code, finding.message) == (
        "BUYER_UNKNOWN",
        "The seller is on your list, the buyer is not.",
    )


def test_a_list_may_hold_mappings_names_and_tax_ids() -> None:
    given = [{"name": "甲公司", "tax_id": " 91511422ma62j75p9h"}, "乙公司", "12510000450717578Y", OURS]
    assert buyers_of(given) == (
        Buyer("甲公司", "91511422MA62J75P9H"),
        Buyer("乙公司"),
        Buyer(tax_id="12510000450717578Y"),
        OURS,
    )


@pytest.mark.parametrize(
    "value", ["甲公司", {"name": "甲公司"}, 5, [5], [{}], [{"name": ""}], [{"id": "x"}], [""]]
)
def test_what_is_no_list_of_buyers_is_refused_by_name(value: object) -> None:
    with pytest.raises(ConfigurationError, match="buyers: a list of"):
        buyers_of(value)
