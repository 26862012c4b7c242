"""One picture that several endpoints read: which values are right, by the checks, and who says so.

Pure functions over rows of documents of one picture. Where the readings differ, every combination of what was
read is held against the checks, with all that each answer has besides (lines, words, second prints) and the
QR codes of all. Laws:

- a value is settled when every combination with the fewest errors has it; nothing else settles one;
- the readings become one, `clear`, only when nothing is open and no error is left; else both go to review,
  each with what the other read;
- where it stays open which invoice it is, they are not joined: there are two invoices, both for review;
- where an empty field was read by another, it is filled; a value of free text is the source's;
- what a person reviewed takes no part: its values are not for us to choose.

The source is the document that was loaded first. ``merged_from`` says of each value that is not the source's
whose it is, and a finding `ENDPOINTS_SETTLED` on every document what it read and what was taken.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations, product
from math import prod
from typing import Any

from airflow_provider_jdocr.core.checks import SPECIAL
from airflow_provider_jdocr.core.documents import (
    ENDPOINTS_DISAGREE,
    ENDPOINTS_SETTLED,
    HEADER,
    LOADING_FINDINGS,
    finding,
    invoice_key,
)
from airflow_provider_jdocr.core.examining import Check
from airflow_provider_jdocr.core.findings import Finding, Severity
from airflow_provider_jdocr.core.merging import KEY_FACTS, by_age, is_rejected
from airflow_provider_jdocr.core.numerals import from_words
from airflow_provider_jdocr.core.parsing import Invoice, InvoiceKind

Row = Mapping[str, Any]
BY_PICTURE = frozenset({ENDPOINTS_DISAGREE, ENDPOINTS_SETTLED})
"""The findings that a document owes to others of the same picture."""
MOST_COMBINATIONS = 256
"""Readings that differ in more than this many ways are of two things, and nothing is chosen."""

_KEY = ("code", "number")
_NAMES = ("buyer_name", "seller_name")
FACTS: tuple[str, ...] = (*_KEY, *KEY_FACTS, *_NAMES, "kind", "total_in_words", "tax_rate")
"""What readings of one picture are compared in. Nobody checks free texts."""
_LACKING = (*_KEY, *KEY_FACTS, *_NAMES)
"""What every endpoint reads, so that one that has it settles a doubt about one that has not."""
_WITH = {"kind": "kind_text", "tax_rate": "tax_rate_text"}
_BLANK = re.compile(r"[\W_]")


@dataclass(frozen=True, slots=True)
class Reading:
    """A document as its row has it, the invoice that was read, and the findings about itself alone."""

    row: Row
    invoice: Invoice
    findings: tuple[Finding, ...]

    @property
    def id(self) -> str:
        return str(self.row["document_id"])


@dataclass(frozen=True, slots=True)
class Settlement:
    """What the readings of a picture come to. ``row`` is theirs as one document, with ``merged_from`` and
    ``lines_document_id``; None: it is open which invoice it is. ``findings`` are complete for ``members``.
    """

    members: tuple[str, ...]
    row: dict[str, Any] | None
    findings: Mapping[str, tuple[Finding, ...]] = field(default_factory=dict)


def may_differ(row: Row) -> bool:
    """Whether a document takes part: it was read, and no person decided about it."""
    return row["reviewed_at"] is None and row["state"] != "failed"


def differ(rows: Sequence[Row]) -> bool:
    """Whether there is something to settle among the documents of one picture."""
    lacks = any(
        row["doubtful"] and row[name] is None and any(other[name] is not None for other in rows)
        for row in rows
        for name in _LACKING
    )
    return len(rows) > 1 and (lacks or bool(_differing(rows)))


def compared(documents: Iterable[Row]) -> dict[str, tuple[Finding, ...]]:
    """What a document says that reads another invoice than one of its picture that a person decided about."""
    said: dict[str, list[Finding]] = {}
    for one, other in permutations((row for row in documents if not is_rejected(row)), 2):
        same = one["invoice_key"] == other["invoice_key"] is not None
        if same or may_differ(other) or not may_differ(one):
            continue
        if names := _differing((one, other)):
            said.setdefault(one["document_id"], []).append(_otherwise(one, other, names))
    return {name: tuple(each) for name, each in said.items()}


def settle(readings: Sequence[Reading], check: Check) -> Settlement:
    """Makes one of readings that differ."""
    ordered = sorted(readings, key=lambda each: by_age(each.row))
    rows = [each.row for each in ordered]
    members = tuple(each.id for each in ordered)
    trials = [(_errors(ordered, way, check), way) for way in _ways(rows)]
    fewest = min(len(errors) for errors, _ in trials)
    best = [way for errors, way in trials if len(errors) == fewest]
    chosen = best[0]
    untried = any(len({way[name] for _, way in trials}) < 2 for name in _differing(rows))
    if len(best) > 1 or fewest or untried or _left(ordered, chosen, check):
        same_invoice = len({(way["code"], way["number"]) for way in best}) == 1
        row = _joined(rows, chosen, clear=False) if same_invoice else None
        return Settlement(members, row, _open(ordered, _differing(rows)))
    names = (*_differing(rows), *_lacked(rows))
    broken = sorted({code for name in names for code in _broken_otherwise(name, chosen, trials)})
    return Settlement(members, _joined(rows, chosen, clear=True), _settled(ordered, chosen, names, broken))


# ── which combinations there are, and what the checks say of each ──


def _differing(rows: Sequence[Row]) -> tuple[str, ...]:
    return tuple(name for name in FACTS if len(_distinct(name, rows)) > 1)


def _lacked(rows: Sequence[Row]) -> tuple[str, ...]:
    return tuple(
        name
        for name in _LACKING
        if len(_distinct(name, rows)) == 1 and any(row[name] is None for row in rows)
    )


def _distinct(name: str, rows: Sequence[Row]) -> list[Any]:
    """The values that were read, those of the source first; what says the same is one."""
    values: dict[Any, Any] = {}
    for row in rows:
        if row[name] not in (None, InvoiceKind.OTHER):
            values.setdefault(meaning(name, row[name]), row[name])
    return list(values.values())


def meaning(name: str, value: Any) -> Any:
    """What has to be the same. Of kinds, what no check tells apart is one."""
    if name in _NAMES:
        return _BLANK.sub("", unicodedata.normalize("NFKC", value)).casefold()
    if name == "total_in_words":
        return from_words(value) or value
    if name == "kind":
        return value in SPECIAL
    return value


def _ways(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Every combination of what was read, the source's own first; those of the keys alone where there are too
    many.
    """
    keys = _keys(rows)
    values = {name: _distinct(name, rows) or [None] for name in FACTS if name not in _KEY}
    if len(keys) * prod(map(len, values.values())) > MOST_COMBINATIONS:
        values = {name: each[:1] for name, each in values.items()}
    rest = [dict(zip(values, way, strict=True)) for way in product(*values.values())]
    return [{"code": code, "number": number, **way} for code, number in keys for way in rest]


def _keys(rows: Sequence[Row]) -> list[tuple[str | None, str | None]]:
    """Code and number belong together: only numbers of eight digits go with another's code."""
    pairs = list(dict.fromkeys((row["code"], row["number"]) for row in rows))
    codes, numbers = _distinct("code", rows), _distinct("number", rows)
    if codes and numbers and all(len(number) == 8 for number in numbers):
        return list(product(codes, numbers))
    return [pair for pair in pairs if pair[1] is not None] or pairs


_Rule = tuple[str, tuple[str, ...]]


def _errors(readings: Sequence[Reading], way: Row, check: Check) -> set[_Rule]:
    """The rules that break when these values stand beside what any of the answers has besides."""
    codes = _codes(readings)
    return {
        (each.code, each.fields)
        for reading in readings
        for each in check(_with(reading.invoice, way), codes)
        if each.severity is Severity.ERROR
    }


def _with(invoice: Invoice, way: Row) -> Invoice:
    values = {name: value for name, value in way.items() if value is not None or name in _KEY}
    if "kind" in values:
        values["kind"] = InvoiceKind(values["kind"])
    unread = tuple(each for each in invoice.problems if values.get(each.field) is None)
    return replace(invoice, problems=unread, **values)


def _codes(readings: Sequence[Reading]) -> tuple[str, ...]:
    printed = (reading.invoice.evidence.get("qr_code") for reading in readings)
    return tuple(dict.fromkeys(code for each in printed if each for code in each.text.split("\n")))


def _left(readings: Sequence[Reading], way: Row, check: Check) -> bool:
    """Whether a document has an error that ``check`` does not know, as one by the author's own list, and that
    the other reading does not mend.
    """
    left = (each for reading in readings for each in _unknown_to(check, reading))
    return any(each.code not in LOADING_FINDINGS or _is_empty(way, each.fields) for each in left)


def _is_empty(way: Row, names: Iterable[str]) -> bool:
    return any(way.get(name) is None for name in names if name != "code")


def _unknown_to(check: Check, reading: Reading) -> list[Finding]:
    known = {(each.code, each.fields) for each in check(reading.invoice, _codes((reading,)))}
    errors = (each for each in reading.findings if each.severity is Severity.ERROR)
    return [each for each in errors if (each.code, each.fields) not in known]


def _broken_otherwise(name: str, chosen: Row, trials: Iterable[tuple[set[_Rule], Row]]) -> set[str]:
    """The rules that break with any other value of this field, all else as it was chosen."""
    with_it = _KEY if name in _KEY else (name,)
    alike = {other: value for other, value in chosen.items() if other not in with_it}
    return {code for errors, way in trials if alike.items() <= way.items() for code, _ in errors}


# ── what follows ──


def _joined(rows: Sequence[Row], chosen: Row, *, clear: bool) -> dict[str, Any]:
    source, others = rows[0], rows[1:]
    values = {name: source[name] for name in HEADER} | {
        name: value for name, value in chosen.items() if name in _KEY or value is not None
    }
    whose: dict[str, str] = {}
    for name in HEADER:
        if values[name] is None and name not in _KEY:
            values[name] = next((row[name] for row in others if row[name] is not None), None)
        if values[name] != source[name]:
            whose[name] = next(row["document_id"] for row in rows if row[name] == values[name])
    for name, text in _WITH.items():
        if name in whose:
            values[text] = next(row[text] for row in rows if row["document_id"] == whose[name])
            whose[text] = whose[name]
    with_lines = next((row["document_id"] for row in rows if row["line_count"]), None)
    return {
        **source,
        **values,
        "invoice_key": invoice_key(values["code"], values["number"]),
        "merged_from": whose,
        "lines_document_id": with_lines,
        "doubtful": not clear,
    }


def _settled(
    readings: Sequence[Reading], chosen: Row, names: tuple[str, ...], broken: Sequence[str]
) -> dict[str, tuple[Finding, ...]]:
    by = f" (otherwise {', '.join(broken)})" if broken else ""
    said: dict[str, tuple[Finding, ...]] = {}
    for reading in readings:
        others = [each for each in readings if each is not reading]
        told = "; ".join(f"{each.row['endpoint']} read {_shown(names, each.row)}" for each in others)
        said[reading.id] = (
            finding(
                ENDPOINTS_SETTLED,
                f"the invoice has the values with which the checks hold{by}. {told}",
                names,
                found=_shown(names, {name: _as(name, reading.row, chosen) for name in names}),
                expected=_shown(names, chosen),
            ),
        )
    return said


def _as(name: str, row: Row, chosen: Row) -> Any:
    """The value of a row, as it was chosen where it says the same."""
    value = row[name]
    same = value is not None and chosen[name] is not None
    return chosen[name] if same and meaning(name, value) == meaning(name, chosen[name]) else value


def _open(readings: Sequence[Reading], names: tuple[str, ...]) -> dict[str, tuple[Finding, ...]]:
    """Where nothing differs, what is wrong with a document is among its own findings."""
    if not names:
        return {}
    return {
        one.id: tuple(
            _otherwise(one.row, other.row, names)
            for other in readings
            if any(one.row[name] != other.row[name] for name in names)
        )
        for one in readings
    }


def _otherwise(row: Row, other: Row, names: tuple[str, ...]) -> Finding:
    return finding(
        ENDPOINTS_DISAGREE,
        f"{other['endpoint']} read the same picture otherwise, and the checks do not settle it",
        names,
        found=_shown(names, row),
        expected=_shown(names, other),
    )


def _shown(names: Iterable[str], row: Row) -> str:
    return "; ".join(f"{name}={'' if row[name] is None else row[name]}" for name in names)
