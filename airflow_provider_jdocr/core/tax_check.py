"""What the tax office's check (查验) asks for, of every invoice in the warehouse, as SQL.

The check wants four values: code, number, date, and one that depends on the kind. The view has the one that
is asked for and leaves the others empty, so that a row can be pasted as it stands: text with two decimals,
dates as eight digits. The kind is the one that the code says, which is what the tax office goes by.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from airflow_provider_jdocr.core.checks import (
    COMMON_ELECTRONIC_CODES,
    DIGITAL,
    KIND_BY_EIGHTH,
    KIND_BY_ENDING,
)
from airflow_provider_jdocr.core.parsing import OCR_INVOICE_KINDS, InvoiceKind

ASKS: Mapping[str, tuple[str, ...]] = {
    "amount_before_tax": ("01", "08"),
    "check_code_last_6": ("04", "10", "11", "14"),
    "total_with_tax": ("31", "32"),
}
"""The fourth value, and the types of invoice for which it is asked."""

_QUERY = """
SELECT
  asked.invoice_key,
  asked.invoice_type,
  asked.code AS invoice_code,
  asked.number AS invoice_number,
  {day} AS issue_date,
  CASE WHEN asked.asks = 'amount_before_tax' THEN {amount} END AS amount_before_tax,
  CASE WHEN asked.asks = 'check_code_last_6' THEN {last_6} END AS check_code_last_6,
  CASE WHEN asked.asks = 'total_with_tax' THEN {total} END AS total_with_tax,
  asked.asks,
  CASE WHEN asked.issue_date IS NULL THEN 0
    WHEN asked.asks = 'amount_before_tax' AND asked.amount IS NOT NULL THEN 1
    WHEN asked.asks = 'check_code_last_6' AND {last_6} IS NOT NULL THEN 1
    WHEN asked.asks = 'total_with_tax' AND asked.total IS NOT NULL THEN 1
    ELSE 0 END AS ready,
  asked.review_status
FROM (
  SELECT typed.*, CASE
    WHEN LENGTH(typed.number) = 20 THEN 'total_with_tax'
    {asks}
    END AS asks
  FROM (
    SELECT invoice.*, CASE
      WHEN LENGTH(invoice.number) = 20 THEN {digital}
      WHEN invoice.code IN ({electronic}) THEN '10'
      WHEN LENGTH(invoice.code) = 10 THEN {by_eighth}
      WHEN SUBSTR(invoice.code, 1, 1) = '0' THEN {by_ending}
      END AS invoice_type
    FROM {invoices} AS invoice
  ) AS typed
) AS asked"""

_AS_TEXT: Mapping[str, tuple[str, str]] = {
    "sqlite": ("PRINTF('%.2f', {0})", "REPLACE({0}, '-', '')"),
    "postgresql": ("CAST({0} AS TEXT)", "TO_CHAR({0}, 'YYYYMMDD')"),
    "mysql": ("CAST({0} AS CHAR)", "REPLACE(CAST({0} AS CHAR), '-', '')"),
}
_LAST_6 = "CASE WHEN LENGTH(asked.check_code) = 20 THEN SUBSTR(asked.check_code, 15, 6) END"


def query(dialect: str, invoices: str) -> str:
    """The view's query; ``invoices``: the table's name as this database writes it."""
    money, day = _AS_TEXT[dialect]
    asks = (f"WHEN typed.invoice_type IN ({_texts(each)}) THEN '{name}'" for name, each in ASKS.items())
    return _QUERY.format(
        invoices=invoices,
        day=day.format("asked.issue_date"),
        amount=money.format("asked.amount"),
        total=money.format("asked.total"),
        last_6=_LAST_6,
        asks="\n    ".join(asks),
        digital=_type("invoice.kind", {kind.value: kind for kind in sorted(DIGITAL)}),
        electronic=_texts(sorted(COMMON_ELECTRONIC_CODES)),
        by_eighth=_type("SUBSTR(invoice.code, 8, 1)", KIND_BY_EIGHTH),
        by_ending=_type("SUBSTR(invoice.code, 11, 2)", KIND_BY_ENDING),
    )


def _texts(values: Iterable[str]) -> str:
    return ", ".join(f"'{value}'" for value in values)


def _type(of: str, kinds: Mapping[str, InvoiceKind]) -> str:
    """The two digits that stand for the kind that ``of`` says."""
    digits = {kind: text for text, kind in OCR_INVOICE_KINDS.items()}
    whens = " ".join(f"WHEN '{key}' THEN '{digits[kind]}'" for key, kind in kinds.items())
    return f"CASE {of} {whens} END"
