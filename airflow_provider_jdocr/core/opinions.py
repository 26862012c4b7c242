"""What others say of an invoice: its QR code, and the author, who knows for whom it can be.

A code that decodes is exact, so a difference is the answer's mistake, unless the code is another invoice's.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_jdocr.core.checks import SPECIAL, is_no_invoice
from airflow_provider_jdocr.core.errors import ConfigurationError
from airflow_provider_jdocr.core.findings import Finding, finding, repair
from airflow_provider_jdocr.core.numerals import plain
from airflow_provider_jdocr.core.parsing import OCR_INVOICE_KINDS, Invoice, InvoiceKind
from airflow_provider_jdocr.core.qr import AmountIs, Codes, InvoiceCode

# ── the QR code ──


def by_codes(invoice: Invoice, codes: Codes) -> Iterator[Finding]:
    """Holds an answer against the codes that are on its picture."""
    if is_no_invoice(invoice):
        return
    if other := codes.other_document:
        message = f"The code says: {other.what}."
        yield finding("QR_NO_VAT_INVOICE", ("kind",), message, found=invoice.kind_text, expected=other.what)
    elif len(codes.invoices) > 1:
        yield from _by_several(invoice, codes.invoices)
    elif codes.invoice:
        yield from _by_code(invoice, codes.invoice)
    elif codes.others:
        said = "; ".join(other.what for other in codes.others)
        yield finding("QR_UNUSABLE", ("qr_code",), f"The code holds {said}.", found=codes.others[0].text)


def _by_several(invoice: Invoice, printed: tuple[InvoiceCode, ...]) -> Iterator[Finding]:
    numbers = "; ".join(each.number for each in printed)
    message = f"{len(printed)} invoices have their codes on this picture."
    yield finding("QR_SEVERAL_INVOICES", ("number",), message, found=invoice.number, expected=numbers)
    for each in printed:
        if each.number == invoice.number:
            yield from _by_code(invoice, each)


def _by_code(invoice: Invoice, printed: InvoiceCode) -> Iterator[Finding]:
    findings = [*_by_facts(invoice, printed), *_by_some_amount(invoice, printed)]
    differing = [each for each in findings if each.code == "QR_DISAGREES"]
    if len(differing) > 1 and not _agrees_in_anything(invoice, printed):
        fields, told = tuple(each.fields[0] for each in differing), printed.number
        message = f"The code is that of {told}."
        yield finding("QR_OTHER_INVOICE", fields, message, found=invoice.number, expected=told)
        return
    yield from findings
    yield from _by_kind(invoice, printed)


def _by_facts(invoice: Invoice, printed: InvoiceCode) -> Iterator[Finding]:
    for name, value in _facts(invoice, printed):
        read, mended = getattr(invoice, name), repair(**{name: value})
        if read is None and value is not None:
            message = f"The code says {value}."
            yield finding("QR_HAS_MORE", (name,), message, expected=value, proposal=mended)
        elif read != value:
            message = f"The code says {'nothing' if value is None else value}."
            yield finding("QR_DISAGREES", (name,), message, found=read, expected=value, proposal=mended)


def _by_some_amount(invoice: Invoice, printed: InvoiceCode) -> Iterator[Finding]:
    """An amount of which it is not known which it is has to be one of the two."""
    read, told = [value for value in (invoice.amount, invoice.total) if value is not None], printed.amount
    if printed.amount_is is AmountIs.EITHER and told is not None and read and told not in read:
        message, found = f"The code says {told}.", "; ".join(map(str, read))
        yield finding("QR_DISAGREES", ("amount", "total"), message, found=found, expected=told)


def _agrees_in_anything(invoice: Invoice, printed: InvoiceCode) -> bool:
    facts = [value for name, value in _facts(invoice, printed) if value == getattr(invoice, name)]
    return bool(facts) or (printed.amount is not None and printed.amount in (invoice.amount, invoice.total))


def _facts(invoice: Invoice, printed: InvoiceCode) -> Iterator[tuple[str, Any]]:
    """What the code holds, under the names of the invoice's fields."""
    digital = len(printed.number) == 20
    if printed.code is not None or (digital and invoice.code is not None):
        yield "code", printed.code
    yield "number", printed.number
    for name in ("issue_date", "check_code", "seller_tax_id"):
        if (value := getattr(printed, name)) is not None:
            yield name, value
    if printed.amount is not None and printed.amount_is is not AmountIs.EITHER:
        yield ("amount" if printed.amount_is is AmountIs.BEFORE_TAX else "total"), printed.amount


def _by_kind(invoice: Invoice, printed: InvoiceCode) -> Iterator[Finding]:
    """Toll and blockchain invoices have the codes of others: only special against common contradicts."""
    told, said = OCR_INVOICE_KINDS.get(printed.kind), invoice.kind
    if told is None or said in (None, InvoiceKind.OTHER, InvoiceKind.BLOCKCHAIN):
        return
    if (told in SPECIAL) != (said in SPECIAL):
        message = f"The service says {invoice.kind_text}, the QR code {told}."
        yield finding("KIND_CONFLICTS", ("kind",), message, found=said, expected=told)


# ── the author's own list of buyers ──


@dataclass(frozen=True, slots=True)
class Buyer:
    """Whom invoices may be for. Without a tax id the name decides, without a name the tax id."""

    name: str | None = None
    tax_id: str | None = None


def buyers_of(value: object) -> tuple[Buyer, ...]:
    """A list of mappings with ``name`` and ``tax_id``, or of texts that are either.

    Raises `ConfigurationError` naming what is none of that.
    """
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | Mapping):
        raise _no_buyers(value)
    return tuple(_buyer(each) for each in value)


def _buyer(value: object) -> Buyer:
    if isinstance(value, Buyer):
        return value
    if isinstance(value, str) and (text := plain(value)):
        is_id = text.isascii() and text.isalnum() and len(text) in (15, 18, 20)
        return Buyer(tax_id=text.upper()) if is_id else Buyer(name=value.strip())
    known = {"name", "tax_id"}
    if not isinstance(value, Mapping) or not value or not set(value) <= known:
        raise _no_buyers(value)
    texts = {name: text for name in known if (text := str(value.get(name) or "").strip())}
    if not texts:
        raise _no_buyers(value)
    tax_id = texts.get("tax_id")
    return Buyer(texts.get("name"), plain(tax_id).upper() if tax_id else None)


def _no_buyers(value: object) -> ConfigurationError:
    return ConfigurationError(
        "buyers: a list of {'name': …, 'tax_id': …}, of names or of tax ids is wanted; "
        f"got {value!r:.100}. Correct it.",
        field="buyers",
    )


def by_buyers(invoice: Invoice, buyers: Iterable[Buyer]) -> Iterator[Finding]:
    """Holds the buyer against those that the author named; no list, no findings."""
    known = tuple(buyers)
    name, tax_id = invoice.buyer_name, invoice.buyer_tax_id
    if not known or is_no_invoice(invoice) or (name is None and tax_id is None):
        return
    by_id = next((each for each in known if tax_id and each.tax_id == tax_id), None)
    by_name = next((each for each in known if name and each.name and _same(each.name, name)), None)
    if by_id:
        yield from _held_against_name(by_id, name)
    elif by_name:
        yield from _held_against_id(by_name, tax_id)
    else:
        yield _unknown(invoice, known)


def _same(one: str, other: str) -> bool:
    """Names are the same but for blanks, widths and capitals; brackets come in both widths."""
    return plain(one).casefold() == plain(other).casefold()


def _held_against_name(buyer: Buyer, name: str | None) -> Iterator[Finding]:
    if buyer.name and name and not _same(buyer.name, name):
        said = {"found": name, "expected": buyer.name, "proposal": repair(buyer_name=buyer.name)}
        yield finding("BUYER_NAME_DIFFERS", ("buyer_name",), f"The tax id is that of {buyer.name}.", **said)


def _held_against_id(buyer: Buyer, tax_id: str | None) -> Iterator[Finding]:
    if buyer.tax_id and tax_id:
        said = {"found": tax_id, "expected": buyer.tax_id, "proposal": repair(buyer_tax_id=buyer.tax_id)}
        yield finding("BUYER_TAX_ID_DIFFERS", ("buyer_tax_id",), f"{buyer.name} has {buyer.tax_id}.", **said)


def _unknown(invoice: Invoice, known: tuple[Buyer, ...]) -> Finding:
    sells = any(invoice.seller_tax_id and each.tax_id == invoice.seller_tax_id for each in known)
    message = "The seller is on your list, the buyer is not." if sells else "This buyer is not on your list."
    found = "; ".join(filter(None, (invoice.buyer_name, invoice.buyer_tax_id)))
    expected = "; ".join(each.name or each.tax_id or "" for each in known[:5])
    return finding("BUYER_UNKNOWN", ("buyer_name", "buyer_tax_id"), message, found=found, expected=expected)
