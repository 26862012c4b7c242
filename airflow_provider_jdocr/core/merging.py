"""Several documents, one invoice: which values the invoice's row has, and which documents contradict it.

One pure function over the rows of all documents with one business key. Its laws:

- the invoice is as its *source* says, the document that made the row, else the one loaded first;
- a document agrees when no key fact that both have differs; it may fill what is empty, and nothing else;
- a document that disagrees changes nothing: it, the source and the invoice go to review, each saying why;
- what a person reviewed is left as it is; documents that come later are only held against it;
- the same documents give the same invoice, however often they are loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_jdocr.core.documents import CONFLICTING_DOCUMENT, HEADER, finding
from airflow_provider_jdocr.core.findings import Finding

Row = Mapping[str, Any]

KEY_FACTS: tuple[str, ...] = (
    "issue_date",
    "amount",
    "tax",
    "total",
    "check_code",
    "buyer_tax_id",
    "seller_tax_id",
)
"""What two readings of one invoice must agree on. Names differ by a bracket or a blank and prove nothing."""


@dataclass(frozen=True, slots=True)
class Merged:
    """``invoice`` is the row to have (None: leave it alone); ``conflicts`` are complete for ``judged``."""

    invoice: dict[str, Any] | None
    conflicts: Mapping[str, tuple[Finding, ...]] = field(default_factory=dict)
    judged: frozenset[str] = frozenset()


def merge(key: str, documents: Sequence[Row], booked: Row | None, fresh: frozenset[str]) -> Merged:
    """One invoice from its documents. ``booked`` is its row so far, ``fresh`` are the documents read anew."""
    ordered = sorted(
        documents, key=lambda row: (row["first_loaded_at"], row["answered_at"], row["document_id"])
    )
    if booked is not None and booked["reviewed_at"] is not None:
        return _held_against(booked, [row for row in ordered if row["document_id"] in fresh])
    source = next(
        (row for row in ordered if booked and row["document_id"] == booked["document_id"]), ordered[0]
    )
    return _merged(key, source, [row for row in ordered if row is not source])


def _merged(key: str, source: Row, others: Sequence[Row]) -> Merged:
    header = {name: source[name] for name in HEADER}
    conflicts: dict[str, list[Finding]] = {}
    doubtful = _doubtful(source)
    lines = source["document_id"] if source["line_count"] else None
    for other in others:
        if differing := disagreement(header, other):
            conflicts.setdefault(other["document_id"], []).append(_conflict(other, header, source, differing))
            conflicts.setdefault(source["document_id"], []).append(_conflict(header, other, other, differing))
            continue
        filled = {name: other[name] for name in HEADER if header[name] is None and other[name] is not None}
        header |= filled
        if lines is None and other["line_count"]:
            lines, filled = other["document_id"], {**filled, "lines": True}
        doubtful = doubtful or bool(filled and _doubtful(other))
    invoice = {
        "invoice_key": key,
        **header,
        "document_id": source["document_id"],
        "lines_document_id": lines,
        "review_status": "review" if doubtful or conflicts else "clear",
    }
    judged = frozenset(row["document_id"] for row in (source, *others))
    return Merged(invoice, {name: tuple(each) for name, each in conflicts.items()}, judged)


def _held_against(booked: Row, documents: Sequence[Row]) -> Merged:
    """The source may differ from what a person made of it; a rejected invoice is no measure of others."""
    measured = [row for row in documents if row["document_id"] != booked["document_id"]]
    conflicts = {}
    for row in measured:
        differing = disagreement(booked, row)
        if differing and booked["review_status"] != "rejected":
            conflicts[row["document_id"]] = (_conflict(row, booked, booked, differing),)
    return Merged(None, conflicts, frozenset(row["document_id"] for row in documents))


def disagreement(one: Row, other: Row) -> tuple[str, ...]:
    """The key facts that both have and that differ."""
    return tuple(
        name
        for name in KEY_FACTS
        if one[name] is not None and other[name] is not None and one[name] != other[name]
    )


def _doubtful(document: Row) -> bool:
    if document["reviewed_at"] is not None:
        return bool(document["review_status"] == "rejected")
    return bool(document["doubtful"])


def _conflict(row: Row, expected: Row, other: Row, names: tuple[str, ...]) -> Finding:
    return finding(
        CONFLICTING_DOCUMENT,
        f"document {other['document_id']} says otherwise of the same invoice",
        names,
        found="; ".join(f"{name}={row[name]}" for name in names),
        expected="; ".join(f"{name}={expected[name]}" for name in names),
    )
