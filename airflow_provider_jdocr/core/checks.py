"""Everything about an invoice that can be checked for free, before anybody pays by it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from airflow_provider_jdocr.core.parsing import PARSER_VERSION, Invoice

CHECKS_VERSION: int = 1
"""Raised whenever the same invoice gets other findings."""


def reading_version() -> str:
    """The version of everything that turns a stored reply into rows; rows of another version are stale."""
    return f"{PARSER_VERSION}.{CHECKS_VERSION}"


class Severity(StrEnum):
    """``error``: not to be used before a person has looked. ``warning``: worth a look. ``info``: known limits."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that an invoice breaks. ``proposal`` is a repair for a person to accept; nothing is changed."""

    code: str
    severity: Severity
    fields: tuple[str, ...]
    message: str
    found: str | None = None
    expected: str | None = None
    proposal: str | None = None


def check(invoice: Invoice, *, today: date) -> tuple[Finding, ...]:
    """Hold an invoice against every rule; in the order of the table of rules."""
    raise NotImplementedError


def review_status(findings: Iterable[Finding]) -> str:
    """``review`` when a person must look before the row is used, else ``clear``."""
    return "review" if any(finding.severity is Severity.ERROR for finding in findings) else "clear"
