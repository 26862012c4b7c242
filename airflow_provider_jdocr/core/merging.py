"""Several documents, one invoice: which values the invoice's row has, what documents say of each other.

Pure functions over rows of documents. The laws of `merge`, over all documents with one business key:

- the invoice is as its *source* says, the document that made the row, else the one loaded first;
- a document agrees when no key fact that both have differs; it may fill what is empty, and nothing else;
- a document that disagrees changes nothing: it, the source and the invoice go to review, each saying why;
- a document from another file than the source is named as a duplicate; it says nothing against the invoice;
- an invoice that a red one takes back goes to review with all its documents;
- what a person reviewed is left as it is; documents that come later are only held against it;
- a document that a person rejected has no part in its invoice while there is another;
- of an invoice whose source a person reviewed, a document in doubt fills nothing;
- the same documents give the same invoice, however often they are loaded.

Where several endpoints read one picture, and `reconciling` made one reading of that, this is one document
here; ``merged_from`` of the invoice says whose each value is that is not the source's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_jdocr.core.documents import (
    CONFLICTING_DOCUMENT,
    DUPLICATE_DOCUMENT,
    HEADER,
    TAKEN_BACK,
    finding,
)
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

BY_INVOICE = frozenset({CONFLICTING_DOCUMENT, DUPLICATE_DOCUMENT, TAKEN_BACK})
"""The findings that a document owes to others of the same invoice."""


@dataclass(frozen=True, slots=True)
class Merged:
    """``invoice`` is the row to have (None: leave it alone); ``findings`` are complete for ``judged``."""

    invoice: dict[str, Any] | None
    findings: Mapping[str, tuple[Finding, ...]] = field(default_factory=dict)
    judged: frozenset[str] = frozenset()


def merge(
    key: str,
    documents: Sequence[Row],
    booked: Row | None,
    fresh: frozenset[str],
    *,
    taken_back_by: Iterable[str] = (),
    doubted: frozenset[str] = frozenset(),
) -> Merged:
    """One invoice from its documents. ``booked`` is its row so far, ``fresh`` are the documents read anew.

    ``taken_back_by``: the keys of red invoices that name this one; ``doubted``: documents whose picture
    another endpoint read otherwise.
    """
    ordered = sorted(documents, key=by_age)
    taken_back = tuple(_taken_back(red) for red in sorted(set(taken_back_by) - {key}))
    if booked is not None and booked["reviewed_at"] is not None:
        return _held_against(booked, ordered, fresh, taken_back)
    kept = [row for row in ordered if not is_rejected(row)] or ordered
    source = next((row for row in kept if booked and row["document_id"] == booked["document_id"]), kept[0])
    return _merged(key, source, [row for row in kept if row is not source], taken_back, doubted)


def _merged(
    key: str, source: Row, others: Sequence[Row], taken_back: tuple[Finding, ...], doubted: frozenset[str]
) -> Merged:
    header = {name: source[name] for name in HEADER}
    said = {row["document_id"]: list(taken_back) for row in (source, *others)}
    doubtful = _doubtful(source, doubted) or bool(taken_back)
    lines, whose = _lines_of(source), dict(source.get("merged_from") or {})
    for other in others:
        if other["sha256"] != source["sha256"]:
            said[other["document_id"]].append(_duplicate(source))
        if differing := disagreement(header, other):
            said[other["document_id"]].append(_conflict(other, header, source, differing))
            said[source["document_id"]].append(_conflict(header, other, other, differing))
            doubtful = True
            continue
        if source["reviewed_at"] is not None and _doubtful(other, doubted):
            continue
        filled = {name: other[name] for name in HEADER if header[name] is None and other[name] is not None}
        header |= filled
        others_are = other.get("merged_from") or {}
        whose |= {name: others_are.get(name, other["document_id"]) for name in filled}
        if lines is None and _lines_of(other):
            lines, filled = _lines_of(other), {**filled, "lines": True}
        doubtful = doubtful or bool(filled and _doubtful(other, doubted))
    invoice = {
        "invoice_key": key,
        **header,
        "document_id": source["document_id"],
        "lines_document_id": lines,
        "merged_from": whose or None,
        "review_status": "review" if doubtful else "clear",
    }
    return Merged(invoice, {name: tuple(each) for name, each in said.items() if each}, frozenset(said))


def _lines_of(row: Row) -> str | None:
    own = row["document_id"] if row["line_count"] else None
    return row.get("lines_document_id") or own


def _held_against(
    booked: Row, ordered: Sequence[Row], fresh: frozenset[str], taken_back: tuple[Finding, ...]
) -> Merged:
    """The source may differ from what a person made of it; a rejected invoice is no measure of others."""
    judged = [row for row in ordered if row["document_id"] in fresh or taken_back]
    said: dict[str, list[Finding]] = {row["document_id"]: list(taken_back) for row in judged}
    source = next((row for row in ordered if row["document_id"] == booked["document_id"]), None)
    for row in judged:
        if row["document_id"] == booked["document_id"]:
            continue
        if source is not None and row["sha256"] != source["sha256"]:
            said[row["document_id"]].append(_duplicate(source))
        differing = disagreement(booked, row)
        if differing and booked["review_status"] != "rejected":
            said[row["document_id"]].append(_conflict(row, booked, booked, differing))
    return Merged(None, {name: tuple(each) for name, each in said.items() if each}, frozenset(said))


def disagreement(one: Row, other: Row) -> tuple[str, ...]:
    """The key facts that both have and that differ."""
    return tuple(
        name
        for name in KEY_FACTS
        if one[name] is not None and other[name] is not None and one[name] != other[name]
    )


def by_age(document: Row) -> tuple[Any, ...]:
    """The order in which documents came, the same however often they are loaded."""
    return document["first_loaded_at"], document["answered_at"], document["document_id"]


def is_rejected(document: Row) -> bool:
    """Whether a person said that it is not to be booked."""
    return document["reviewed_at"] is not None and bool(document["review_status"] == "rejected")


def _doubtful(document: Row, doubted: frozenset[str]) -> bool:
    if document["reviewed_at"] is not None:
        return is_rejected(document)
    return bool(document["doubtful"]) or document["document_id"] in doubted


def _conflict(row: Row, expected: Row, other: Row, names: tuple[str, ...]) -> Finding:
    return finding(
        CONFLICTING_DOCUMENT,
        f"document {other['document_id']} says otherwise of the same invoice",
        names,
        found="; ".join(f"{name}={row[name]}" for name in names),
        expected="; ".join(f"{name}={expected[name]}" for name in names),
    )


def _duplicate(source: Row) -> Finding:
    message = f"document {source['document_id']} shows the same invoice, from another file"
    return finding(DUPLICATE_DOCUMENT, message, ("invoice_key",), expected=source["document_id"])


def _taken_back(red: str) -> Finding:
    message = f"the red invoice {red} takes this one back"
    return finding(TAKEN_BACK, message, ("total",), expected=red)
