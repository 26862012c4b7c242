"""From a stored reply to one ``Invoice``, whichever endpoint gave it.

What is printed is kept beside what it was read as (``evidence``); what has no column is kept in ``details``;
what could not be read is ``None`` and named in ``problems``. Nothing is guessed, corrected or dropped: a value
here is what the service said, and whether it can be true is the question of the next step.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Any

from airflow_provider_jdocr.core.endpoints import Endpoint

PARSER_VERSION: int = 1
"""Raised whenever the same reply is read differently, so that stored replies are read again."""


class InvoiceKind(StrEnum):
    """The kinds of VAT invoice. ``OTHER`` is a kind the service named and this table does not hold."""

    SPECIAL_PAPER = "special_paper"
    COMMON_PAPER = "common_paper"
    COMMON_ELECTRONIC = "common_electronic"
    SPECIAL_ELECTRONIC = "special_electronic"
    ROLL = "roll"
    TOLL = "toll"
    DIGITAL_SPECIAL = "digital_special"
    DIGITAL_COMMON = "digital_common"
    BLOCKCHAIN = "blockchain"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class FieldEvidence:
    """One field as the service gave it: text, the key it came under, how sure, and where on the picture."""

    text: str
    key: str
    confidence: float | None
    position: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the table of goods, counted from 1. ``tax_rate`` is a fraction (0.13)."""

    number: int
    name: str | None = None
    specification: str | None = None
    unit: str | None = None
    quantity: Decimal | None = None
    unit_price: Decimal | None = None
    amount: Decimal | None = None
    tax: Decimal | None = None
    tax_rate: Decimal | None = None
    tax_rate_text: str | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that parsing met and could not turn into a value; ``code`` is one of the checks' codes."""

    code: str
    field: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice:
    """One answer, typed. ``tax_rate`` is set only when one rate holds for the whole invoice."""

    endpoint: str
    kind: InvoiceKind | None = None
    kind_text: str | None = None
    code: str | None = None
    number: str | None = None
    issue_date: date | None = None
    check_code: str | None = None
    machine_number: str | None = None
    buyer_name: str | None = None
    buyer_tax_id: str | None = None
    buyer_address_phone: str | None = None
    buyer_bank_account: str | None = None
    seller_name: str | None = None
    seller_tax_id: str | None = None
    seller_address_phone: str | None = None
    seller_bank_account: str | None = None
    amount: Decimal | None = None
    tax: Decimal | None = None
    total: Decimal | None = None
    total_in_words: str | None = None
    tax_rate: Decimal | None = None
    tax_rate_text: str | None = None
    remarks: str | None = None
    payee: str | None = None
    reviewer: str | None = None
    drawer: str | None = None
    stamp: bool | None = None
    lines: tuple[Line, ...] = ()
    evidence: Mapping[str, FieldEvidence] = field(default_factory=dict)
    """By canonical field name, and by the service's own key for what has no column."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Everything else the reply held, verbatim and JSON-able."""
    problems: tuple[Problem, ...] = ()


def parse(endpoint: Endpoint, body: bytes) -> Invoice:
    """Read a stored reply; raises ``ParseError`` when it holds no result in a documented shape."""
    raise NotImplementedError
