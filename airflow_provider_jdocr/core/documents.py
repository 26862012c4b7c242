"""A document is one recognised page; here its answer becomes the values of its rows, without a database.

- What a column cannot hold exactly is left empty and named in a finding; a quantity or unit price with more
  decimals than its column is rounded and named. Nothing changes in silence; ``evidence`` has what is printed.
- A document with a readable business key belongs to an invoice; one without has a finding that says why.
- A document that the service failed, or whose answer cannot be parsed, is a row all the same: it was paid.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from functools import cached_property
from types import MappingProxyType
from typing import Any

from airflow_provider_jdocr.core.examining import reading_version
from airflow_provider_jdocr.core.findings import LONGEST_TEXT, Finding, Severity, review_status
from airflow_provider_jdocr.core.ledger import Identity, StoredAnswer
from airflow_provider_jdocr.core.parsing import FieldEvidence, Invoice, InvoiceKind, Line, Problem
from airflow_provider_jdocr.core.sources import UNSTORABLE


@dataclass(frozen=True)
class Number:
    """A column ``NUMERIC(precision, scale)`` that takes values of at most ``digits`` significant digits."""

    precision: int
    scale: int
    digits: int
    rounds: bool = False
    """Whether more decimals than ``scale`` are cut; money and rates with more of them were misread."""

    @cached_property
    def step(self) -> Decimal:
        return Decimal(1).scaleb(-self.scale)

    @cached_property
    def limit(self) -> Decimal:
        return Decimal(1).scaleb(self.digits - self.scale)


# Fifteen digits are what a double keeps, as which SQLite stores a number. No invoice has ten trillion yuan.
MONEY = Number(18, 2, digits=15)
RATE = Number(5, 4, digits=5)
QUANTITY = Number(18, 8, digits=18, rounds=True)
UNIT_PRICE = Number(24, 12, digits=24, rounds=True)

LONGEST_VALUE = 10_000
"""Characters that a column of text takes: no invoice prints as many, and MySQL's TEXT holds them."""

HEADER_NUMBERS: Mapping[str, Number] = MappingProxyType(
    {"amount": MONEY, "tax": MONEY, "total": MONEY, "tax_rate": RATE}
)
LINE_NUMBERS: Mapping[str, Number] = MappingProxyType(
    {"quantity": QUANTITY, "unit_price": UNIT_PRICE, "amount": MONEY, "tax": MONEY, "tax_rate": RATE}
)
_NOT_HEADER = frozenset({"endpoint", "lines", "evidence", "details", "problems"})
HEADER: tuple[str, ...] = tuple(each.name for each in fields(Invoice) if each.name not in _NOT_HEADER)
"""The columns that a document and an invoice have in common: one for each single value of ``Invoice``."""
LINE: tuple[str, ...] = tuple(each.name for each in fields(Line) if each.name != "number")
FINDING: tuple[str, ...] = tuple(each.name for each in fields(Finding))

CONFLICTING_DOCUMENT = "CONFLICTING_DOCUMENT"
DUPLICATE_DOCUMENT = "DUPLICATE_DOCUMENT"
ENDPOINTS_DISAGREE = "ENDPOINTS_DISAGREE"
ENDPOINTS_SETTLED = "ENDPOINTS_SETTLED"
NO_INVOICE_KEY = "NO_INVOICE_KEY"
PARSE_FAILED = "PARSE_FAILED"
READ_FROM_ANOTHER = "READ_FROM_ANOTHER"
RECOGNITION_FAILED = "RECOGNITION_FAILED"
TAKEN_BACK = "TAKEN_BACK"
VALUE_NOT_STORABLE = "VALUE_NOT_STORABLE"
VALUE_ROUNDED = "VALUE_ROUNDED"
LOADING_FINDINGS: Mapping[str, tuple[Severity, str]] = MappingProxyType(
    {
        CONFLICTING_DOCUMENT: (Severity.ERROR, "two documents of one invoice disagree about it"),
        DUPLICATE_DOCUMENT: (Severity.WARNING, "another file that was loaded before shows the same invoice"),
        ENDPOINTS_DISAGREE: (
            Severity.ERROR,
            "two endpoints read the same picture otherwise, and the checks do not settle it",
        ),
        ENDPOINTS_SETTLED: (
            Severity.WARNING,
            "two endpoints read the same picture otherwise; the checks hold with one choice of values alone",
        ),
        NO_INVOICE_KEY: (
            Severity.ERROR,
            "code and number are no key of an invoice, so there is no invoice row",
        ),
        PARSE_FAILED: (Severity.ERROR, "the answer is in the ledger, but cannot be read"),
        READ_FROM_ANOTHER: (Severity.INFO, "the service was sent another picture of the same invoice"),
        RECOGNITION_FAILED: (Severity.ERROR, "the service could not recognise the picture"),
        TAKEN_BACK: (Severity.ERROR, "a red invoice that was loaded takes this one back"),
        VALUE_NOT_STORABLE: (Severity.ERROR, "a value that its column cannot hold; the column is empty"),
        VALUE_ROUNDED: (
            Severity.INFO,
            "more decimals than the column has; rounded, and the finding keeps the rest",
        ),
    }
)
"""The findings that only loading can make, beside those of the checks: code → severity, meaning."""

_REPLACEMENT = "\ufffd"
_CODE_AND_NUMBER = re.compile(r"(?:[0-9]{10}|[0-9]{12}):[0-9]{8}")
_LONG_NUMBER = re.compile(r"[0-9]{20}")


@dataclass(frozen=True, slots=True)
class Document:
    """An answer with what was read from it. ``uris`` are the names under which this load met the file.

    ``invoice`` None: the service failed the picture, or its answer cannot be parsed; a finding says which.
    """

    answer: StoredAnswer
    uris: tuple[str, ...] = ()
    invoice: Invoice | None = None
    findings: tuple[Finding, ...] = ()
    version: str = field(default_factory=reading_version)


@dataclass(frozen=True, slots=True)
class Rows:
    """A document as values of columns: its own row, its lines, its findings."""

    document: dict[str, Any]
    lines: tuple[dict[str, Any], ...]
    findings: tuple[Finding, ...]


def document_id(identity: Identity) -> str:
    """32 hex digits that stand for an identity: the same in every warehouse, without asking one."""
    text = "\x1f".join((identity.service, identity.endpoint, identity.sha256, str(identity.page)))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def invoice_key(code: str | None, number: str | None) -> str | None:
    """``code:number`` of a coded invoice, the 20 digits alone of a fully digital one, else None."""
    if number and _LONG_NUMBER.fullmatch(number):
        # Code and number read as one text have twenty digits, too.
        return None if code and number.startswith(code) else number
    key = f"{code}:{number}"
    return key if _CODE_AND_NUMBER.fullmatch(key) else None


def finding(code: str, message: str, names: tuple[str, ...] = (), **values: str | None) -> Finding:
    texts = {name: text and text[:LONGEST_TEXT] for name, text in values.items()}
    return Finding(code, LOADING_FINDINGS[code][0], names, message, **texts)


def rows_of(document: Document) -> Rows:
    """Everything that this document decides alone; what others say of the same invoice comes later."""
    header, findings = header_values(document.invoice)
    lines, line_findings = _lines(document.invoice)
    key = invoice_key(header["code"], header["number"])
    own = (_storable_finding(each) for each in document.findings)
    findings = [*own, *findings, *line_findings, *_about_the_whole(document, key)]
    doubtful = review_status(findings) != "clear"
    identity, answer, invoice = document.answer.identity, document.answer, document.invoice
    row = {
        "document_id": document_id(identity),
        "service": identity.service,
        "endpoint": identity.endpoint,
        "sha256": identity.sha256,
        "page": identity.page,
        "state": _state(document),
        "answer_code": _text(answer.code),
        "answer_message": _text(answer.message),
        "http_status": answer.http_status,
        "answer_id": answer.answer_id,
        "answered_at": answer.answered_at,
        "reading_version": document.version,
        "uris": sorted({_text(uri) for uri in document.uris}),
        "invoice_key": key,
        **header,
        "line_count": len(lines),
        "evidence": encoded(
            {name: _evidence(each) for name, each in invoice.evidence.items()} if invoice else {}
        ),
        "details": encoded(invoice.details if invoice else {}),
        "doubtful": doubtful,
        "review_status": "review" if doubtful else "clear",
    }
    return Rows(row, tuple(lines), tuple(findings))


def invoice_of(
    row: Mapping[str, Any], lines: Iterable[Mapping[str, Any]], found: Iterable[Finding]
) -> Invoice:
    """The invoice that was parsed, with the values that the rows have now."""
    kind = row["kind"] if row["kind"] in set(InvoiceKind) else None
    return Invoice(
        **{name: row[name] for name in HEADER if name != "kind"},
        kind=kind and InvoiceKind(kind),
        endpoint=row["endpoint"],
        lines=tuple(Line(each["line_number"], **{name: each[name] for name in LINE}) for each in lines),
        evidence={name: _printed(each) for name, each in row["evidence"].items()},
        details=row["details"],
        problems=tuple(_problem(each) for each in found if each.code in _PROBLEMS and each.fields),
    )


def finding_of(row: Mapping[str, Any]) -> Finding:
    """The finding that a row holds."""
    values = {name: row[name] for name in FINDING}
    names = tuple(filter(None, row["fields"].split(",")))
    return Finding(**(values | {"fields": names, "severity": Severity(row["severity"])}))


_PROBLEMS = ("VALUE_UNPARSABLE", "DETAIL_UNPARSABLE", "LINES_NOT_PAIRED")


def _printed(stored: Mapping[str, Any]) -> FieldEvidence:
    position = stored["position"]
    return FieldEvidence(stored["text"], stored["key"], stored["confidence"], position and tuple(position))


def _problem(found: Finding) -> Problem:
    code = found.code if found.code == "LINES_NOT_PAIRED" else "VALUE_UNPARSABLE"
    return Problem(code, found.fields[0], found.found or "")


def encoded(value: Any) -> str:
    """``value`` as JSON that every database takes, with Chinese as it is."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        return json.dumps(storable(value), ensure_ascii=False)
    # Looked for in the finished text, because a walk through every value costs more than all the rest.
    if "\\u0000" in text or UNSTORABLE.search(text):
        return json.dumps(storable(value), ensure_ascii=False)
    return text


def storable(value: Any) -> Any:
    """``value`` as every database takes it: only JSON's types, no NUL, no lone surrogate, no NaN."""
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {_text(str(key)): storable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [storable(each) for each in value]
    return _text(str(value))


def _text(value: str) -> str:
    return UNSTORABLE.sub(_REPLACEMENT, value) if UNSTORABLE.search(value) else value


def _storable_finding(each: Finding) -> Finding:
    texts = {name: getattr(each, name) for name in ("message", "found", "expected", "proposal")}
    bad: dict[str, Any] = {
        name: _text(text) for name, text in texts.items() if text and UNSTORABLE.search(text)
    }
    return replace(each, **bad) if bad else each


def _state(document: Document) -> str:
    if document.answer.state == "failed":
        return "failed"
    return "recognised" if document.invoice is not None else "unparsed"


def _about_the_whole(document: Document, key: str | None) -> Iterable[Finding]:
    answer, invoice = document.answer, document.invoice
    if answer.read_from:
        message = "by its QR code it is the same invoice, and the author wanted one call for both"
        yield finding(READ_FROM_ANOTHER, message, found=answer.identity.sha256, expected=answer.read_from)
    if answer.state == "failed":
        yield finding(RECOGNITION_FAILED, f"the service answered {answer.code}: {_text(answer.message)}")
    elif invoice is None:
        if not any(each.code == PARSE_FAILED for each in document.findings):
            yield finding(PARSE_FAILED, "the answer is in the ledger, but holds no result that can be read")
    elif key is None and not any(map(_explains_no_key, document.findings)):
        found = f"{invoice.code or ''}:{invoice.number or ''}"
        message = "code and number are not those of an invoice: this document has no invoice row"
        yield finding(NO_INVOICE_KEY, message, ("code", "number"), found=_text(found))


def _explains_no_key(finding: Finding) -> bool:
    about = {"code", "number"} & {*finding.fields} or finding.code == "NOT_AN_INVOICE"
    return finding.severity is Severity.ERROR and bool(about)


def header_values(invoice: Invoice | None) -> tuple[dict[str, Any], list[Finding]]:
    """The values of the columns that documents and invoices have in common, and what they cannot hold."""
    if invoice is None:
        return dict.fromkeys(HEADER), []
    return _values(invoice, HEADER, HEADER_NUMBERS, "")


def _lines(invoice: Invoice | None) -> tuple[list[dict[str, Any]], list[Finding]]:
    rows: list[dict[str, Any]] = []
    findings: list[Finding] = []
    for position, line in enumerate(invoice.lines if invoice else (), start=1):
        row, found = _values(line, LINE, LINE_NUMBERS, f"lines.{position}.")
        rows.append({"line_number": position, **row})
        findings += found
    return rows, findings


def _values(
    record: Invoice | Line, names: tuple[str, ...], numbers: Mapping[str, Number], where: str
) -> tuple[dict[str, Any], list[Finding]]:
    values: dict[str, Any] = {}
    findings: list[Finding] = []
    for name in names:
        value = getattr(record, name)
        if value is None:
            pass
        elif isinstance(value, str):
            value, found = _bounded(value, where + name)
            findings += found
        elif isinstance(value, Decimal):
            value, found = _fitted(value, numbers[name], where + name)
            findings += found
        values[name] = value
    return values, findings


def _bounded(value: str, name: str) -> tuple[str | None, list[Finding]]:
    if len(value) > LONGEST_VALUE:
        message = f"{name} has {len(value)} characters, more than {LONGEST_VALUE}: left empty"
        return None, [finding(VALUE_NOT_STORABLE, message, (name,), found=_text(value))]
    # str() makes an ordinary text of an enumeration's member, which not every driver takes.
    return _text(str(value)), []


def _fitted(value: Decimal, number: Number, name: str) -> tuple[Decimal | None, list[Finding]]:
    if not value.is_finite() or abs(value) >= number.limit:
        message = f"{name} does not fit a column of {number.precision} digits: left empty"
        return None, [finding(VALUE_NOT_STORABLE, message, (name,), found=str(value))]
    fitted = value.quantize(number.step)
    if fitted == value:
        return fitted, []
    if number.rounds and abs(fitted) < number.limit:
        message = f"{name} has more than {number.scale} decimals: rounded"
        return fitted, [finding(VALUE_ROUNDED, message, (name,), found=str(value), expected=str(fitted))]
    message = f"{name} has more than {number.scale} decimals, which it cannot have: left empty"
    return None, [finding(VALUE_NOT_STORABLE, message, (name,), found=str(value))]


def _evidence(evidence: FieldEvidence) -> dict[str, Any]:
    return {
        "text": evidence.text,
        "key": evidence.key,
        "confidence": evidence.confidence,
        "position": evidence.position,
    }
