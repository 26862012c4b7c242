"""One answer, held against everything that is known: itself, its QR code, what the author expects.

Nothing is changed unless the author switched a repair on by the code of its finding. Then it is made only if
the invoice has fewer errors with it and no new one; what was read stays in the evidence, and a finding
`REPAIRED` names both values. So a row is either as it was read, or says where it is not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from types import MappingProxyType
from typing import Any

from airflow_provider_jdocr.core.checks import check
from airflow_provider_jdocr.core.errors import ConfigurationError
from airflow_provider_jdocr.core.findings import Finding, Severity, finding, texts_of_repair
from airflow_provider_jdocr.core.opinions import Buyer, buyers_of, by_buyers, by_codes
from airflow_provider_jdocr.core.parsing import PARSER_VERSION, FieldEvidence, Invoice, read_text
from airflow_provider_jdocr.core.qr import Codes, all_codes

CHECKS_VERSION: int = 2
"""Raised whenever the same invoice gets other findings."""

REPAIRS: Mapping[str, str] = MappingProxyType(
    {
        "AMOUNT_TAX_SWAPPED": "amount and tax change places",
        "BUYER_NAME_DIFFERS": "the buyer's name as the author wrote it, where the tax id is his",
        "BUYER_TAX_ID_DIFFERS": "the buyer's tax id as the author wrote it, where the name is his",
        "DIGITAL_NUMBER_AS_CODE": "the 20 digits that were returned as the code become the number",
        "DIGITAL_NUMBER_SPLIT": "code and number are joined to the 20 digits that they are parts of",
        "QR_DISAGREES": "the value that the QR code holds",
        "QR_HAS_MORE": "the value that the QR code holds, where none was read",
        "TAX_ID_CHARACTERS": "the one tax id whose check digits hold, a look-alike away",
        "TAX_ID_CHECK_DIGIT": "the one tax id whose check digits hold, a look-alike away",
        "TOTAL_NOT_SUM": "the one of amount, tax and total that words and rate leave to be wrong",
        "WORDS_DISAGREE": "the total that the words say, where amount plus tax say the same",
    }
)
"""The findings whose proposals may be switched on, and what is done then."""


@dataclass(frozen=True, slots=True)
class Expectations:
    """What the author says of the invoices that come in: for whom they are, and what may be repaired."""

    buyers: tuple[Buyer, ...] = ()
    repairs: frozenset[str] = frozenset()

    @property
    def digest(self) -> str:
        """Eight digits that other expectations do not have; nothing where none are held."""
        said = sorted(map(repr, self.buyers)), sorted(self.repairs)
        return hashlib.sha256(repr(said).encode()).hexdigest()[:8] if any(said) else ""

    @classmethod
    def of(cls, value: object) -> Expectations:
        """From ``{"buyers": [...], "repairs": [...]}``; raises `ConfigurationError` naming what is wrong."""
        if isinstance(value, cls):
            return value
        given = value or {}
        if not isinstance(given, Mapping) or not set(given) <= {"buyers", "repairs"}:
            raise ConfigurationError(
                f"checks: a mapping with the keys buyers and repairs is wanted; got {given!r:.100}. "
                "Correct it.",
                field="checks",
            )
        return cls(buyers_of(given.get("buyers") or ()), _repairs(given.get("repairs") or ()))


Check = Callable[[Invoice, Sequence[str]], tuple[Finding, ...]]
"""What there is to say of an invoice, given the texts of the QR codes on its picture."""


def reading_version(expectations: Expectations = Expectations()) -> str:
    """The version of everything that turns a stored reply into rows; rows of another version are stale."""
    expected = f"+{expectations.digest}" if expectations.digest else ""
    return f"{PARSER_VERSION}.{CHECKS_VERSION}{expected}"


def _repairs(value: object) -> frozenset[str]:
    names = [value] if isinstance(value, str) else value
    unknown = [name for name in names if name not in REPAIRS] if isinstance(names, Iterable) else [value]
    if unknown or not isinstance(names, Iterable):
        raise ConfigurationError(
            f"repairs: {unknown[0]!r} is none. There are {', '.join(REPAIRS)}.", field="repairs"
        )
    return frozenset(names)


def examine(
    invoice: Invoice,
    *,
    today: date,
    codes: Sequence[str] = (),
    expectations: Expectations = Expectations(),
) -> tuple[Invoice, tuple[Finding, ...]]:
    """The invoice, repaired where the author wants that, and everything that is to be said of it.

    ``codes`` are the texts of the QR codes on the picture. Where none was read there, the one that the
    service read is taken.
    """
    seen = all_codes(tuple(codes) or _codes_of_service(invoice))
    invoice = _with_codes(invoice, codes)
    findings = _findings(invoice, today, seen, expectations)
    wanted = tuple(each for each in findings if each.code in expectations.repairs and each.proposal)
    notes: list[Finding] = []
    # All of them together first: a number and the code beside it are right only with each other.
    for causes in (wanted, *((each,) for each in wanted)) if wanted else ():
        trial = _repaired(invoice, causes)
        after = _findings(trial, today, seen, expectations)
        if trial != invoice and _is_better(after, findings, causes):
            notes += _notes(causes, invoice, trial)
            invoice, findings = trial, after
    return invoice, (*findings, *notes)


def checking(today: date, expectations: Expectations = Expectations()) -> Check:
    """What `examine` finds on that day, without its repairs: of what was read, those were made."""
    told = replace(expectations, repairs=frozenset())

    def check(invoice: Invoice, codes: Sequence[str]) -> tuple[Finding, ...]:
        return examine(invoice, today=today, codes=codes, expectations=told)[1]

    return check


def _findings(invoice: Invoice, today: date, codes: Codes, expectations: Expectations) -> tuple[Finding, ...]:
    found = check(invoice, today=today)
    return (*found, *by_codes(invoice, codes), *by_buyers(invoice, expectations.buyers))


_SERVICE_CODE = "vat_invoice_qr_code"


def _codes_of_service(invoice: Invoice) -> tuple[str, ...]:
    text = invoice.details.get(_SERVICE_CODE)
    return (text,) if isinstance(text, str) else ()


def _with_codes(invoice: Invoice, texts: Sequence[str]) -> Invoice:
    """The codes stand among the evidence, as everything else that is printed."""
    if not texts:
        return invoice
    printed = FieldEvidence("\n".join(texts), "picture", None, None)
    return replace(invoice, evidence={**invoice.evidence, "qr_code": printed})


def _texts(causes: Iterable[Finding]) -> dict[str, str]:
    return {name: text for each in causes for name, text in texts_of_repair(each.proposal or "").items()}


def _repaired(invoice: Invoice, causes: Iterable[Finding]) -> Invoice:
    values: dict[str, Any] = {name: read_text(name, text) for name, text in _texts(causes).items()}
    return replace(invoice, **values)


def _is_better(after: Iterable[Finding], before: Iterable[Finding], causes: Iterable[Finding]) -> bool:
    """No error that was not there, and nothing left of what the repairs are to mend."""

    def rules(findings: Iterable[Finding]) -> set[tuple[str, tuple[str, ...]]]:
        return {(each.code, each.fields) for each in findings}

    def errors(findings: Iterable[Finding]) -> Iterable[Finding]:
        return (each for each in findings if each.severity is Severity.ERROR)

    return rules(errors(after)) <= rules(errors(before)) and not rules(after) & rules(causes)


def _notes(causes: Iterable[Finding], before: Invoice, after: Invoice) -> list[Finding]:
    """One for each value that was replaced, with the value that was read."""
    by = {name: each.code for each in causes for name in texts_of_repair(each.proposal or "")}
    changed = [name for name in by if getattr(before, name) != getattr(after, name)]
    return [
        finding(
            "REPAIRED",
            (name,),
            f"By {by[name]}, which the author switched on.",
            found=getattr(before, name),
            expected=getattr(after, name),
        )
        for name in changed
    ]
