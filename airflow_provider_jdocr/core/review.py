"""What a person decides about a document in doubt, and what follows from it for the rows.

*approve*: the values are right as they were read; *correct*: some of them are others; *reject*: the document
is not to be booked. Laws:

- a decision is about what the person was shown, for which `Doubtful.seen` stands: where a document was read
  again or reviewed by somebody else meanwhile, the decision is refused;
- document, invoice and audit change in one transaction or not at all; the same decision again adds nothing;
- what was printed, what was found and the stored answer stay as they are;
- an invoice is as the document says that was approved or corrected last, but what a person made of it by
  another document, or without one, is not overwritten;
- a rejected document has no part in its invoice, and takes it along where it was the only one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import partial
from typing import Any, Literal, get_args

import sqlalchemy as sa

from airflow_provider_jdocr.core.documents import (
    FINDING,
    HEADER,
    LONGEST_VALUE,
    finding_of,
    header_values,
    invoice_key,
    invoice_of,
    storable,
)
from airflow_provider_jdocr.core.errors import ReviewRefused
from airflow_provider_jdocr.core.examining import examine
from airflow_provider_jdocr.core.findings import Finding, Severity, texts_of_repair
from airflow_provider_jdocr.core.merging import disagreement
from airflow_provider_jdocr.core.numerals import plain, rate
from airflow_provider_jdocr.core.parsing import (
    Invoice,
    InvoiceKind,
    read_text,
    taken_back,
)
from airflow_provider_jdocr.core.sources import UNSTORABLE
from airflow_provider_jdocr.core.tables import Tables
from airflow_provider_jdocr.core.warehouse import Warehouse

Verdict = Literal["approve", "correct", "reject"]
Fate = Literal["take", "leave", "reject"]
STATUS: Mapping[Verdict, str] = {"approve": "approved", "correct": "corrected", "reject": "rejected"}

_DERIVED = ("kind_text", "tax_rate_text", "takes_back")
CORRECTABLE: tuple[str, ...] = tuple(name for name in HEADER if name not in _DERIVED)
"""The fields that a person may correct; the others follow from them. Lines of goods stay as read."""

_LONGEST_NAME = 255
_Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Booked:
    """What a person made of an invoice otherwise than by the document at hand."""

    review_status: str
    reviewed_by: str | None
    reviewed_at: datetime
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Doubtful:
    """A document with all that a person needs to decide about it."""

    document_id: str
    seen: str
    state: str
    review_status: str
    reviewed_at: datetime | None
    reviewed_by: str | None
    uris: tuple[str, ...]
    invoice_key: str | None
    invoice: Invoice
    """Its values, with what is printed as evidence."""
    findings: tuple[Finding, ...]
    booked: Booked | None
    """What somebody made of its invoice, by another document or without one."""

    @property
    def proposals(self) -> dict[str, str]:
        """Field → the text that is proposed for it. Where findings propose different ones, there is none."""
        repairs = [texts_of_repair(each.proposal) for each in self.findings if each.proposal]
        said: dict[str, set[str]] = {}
        for texts in repairs:
            for name, text in texts.items():
                said.setdefault(name, set()).add(text)
        agreed = (texts for texts in repairs if all(len(said[name]) == 1 for name in texts))
        found = {name: text for texts in agreed for name, text in texts.items() if name in CORRECTABLE}
        return {name: text for name, text in found.items() if text != as_typed(self.invoice, name)}


@dataclass(frozen=True, slots=True)
class Decision:
    """Who decided what, and when. ``changes``: field → text as a person types it; empty: there is none."""

    document_id: str
    seen: str
    verdict: Verdict
    reviewed_by: str
    reviewed_at: datetime
    changes: Mapping[str, str] = field(default_factory=dict)
    note: str | None = None

    @property
    def review_id(self) -> str:
        """The same for the same decision: that it was written down already is seen by it."""
        moment = self.reviewed_at.timestamp()
        return _digest(
            [
                self.document_id,
                self.seen,
                self.verdict,
                self.reviewed_by,
                moment,
                dict(self.changes),
                self.note,
            ]
        )


@dataclass(frozen=True, slots=True)
class Decided:
    """What came of a decision. ``still_wrong``: errors that the checks find in what it approved."""

    review_id: str
    document_id: str
    invoice_key: str | None
    review_status: str
    still_wrong: tuple[Finding, ...] = ()
    repeated: bool = False
    """It was written down before; nothing was done now."""


def doubtful(warehouse: Warehouse, *, limit: int) -> list[Doubtful]:
    """The documents in doubt, those that were loaded first come first."""
    documents = warehouse.tables.documents
    with warehouse.reading() as db:
        query = (
            sa.select(documents.c.document_id)
            .where(documents.c.review_status == "review")
            .order_by(documents.c.first_loaded_at, documents.c.document_id)
            .limit(limit)
        )
        return [_shown(db, warehouse.tables, name) for name in db.scalars(query).all()]


def shown(warehouse: Warehouse, document_id: str) -> Doubtful:
    """One document, whatever was decided about it. Raises `ReviewRefused` where there is none."""
    with warehouse.reading() as db:
        return _shown(db, warehouse.tables, document_id)


def decide(warehouse: Warehouse, decision: Decision, *, today: date) -> Decided:
    """Carries a decision out and writes it down. Raises `ReviewRefused`, and nothing is changed then."""
    _validate(decision)
    return warehouse.in_turn(partial(_decide, warehouse, decision, today))


# ── what a person types ──


def as_typed(invoice: Invoice, name: str) -> str:
    """The value of a field as a person would type it; empty where there is none."""
    value = getattr(invoice, name)
    if name == "tax_rate":
        return invoice.tax_rate_text or ("" if value is None else f"{(value * 100).normalize():f}%")
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def read_typed(changes: Mapping[str, str]) -> dict[str, Any]:
    """The values of columns that typed texts have. Raises `ReviewRefused`: field, value and rule."""
    values: dict[str, Any] = {}
    for name, text in changes.items():
        if name not in CORRECTABLE:
            raise ReviewRefused(
                f"{name}: no field that can be corrected. There are {', '.join(CORRECTABLE)}.", field=name
            )
        values |= {name: None} if not text.strip() else _value(name, text)
        if name == "tax_rate" and not text.strip():
            values["tax_rate_text"] = None
    return values


def _value(name: str, text: str) -> dict[str, Any]:
    reader = _READERS.get(name)
    value = reader(text) if reader else read_text(name, text)
    values = value if isinstance(value, dict) else {name: value}
    _, problems = header_values(Invoice(endpoint="", **values))
    if value is None or problems or UNSTORABLE.search(text):
        rule = _RULES.get(name, f"a text of at most {LONGEST_VALUE} characters")
        raise ReviewRefused(f"{name}: {text[:80]!r} is not {rule}. Correct it.", field=name)
    return values


def _kind(text: str) -> InvoiceKind | None:
    bare = plain(text).lower()
    return InvoiceKind(bare) if bare in set(InvoiceKind) else None


_WITHOUT_TAX = ("免税", "不征税")


def _rate(text: str) -> dict[str, Any] | None:
    fraction = rate(text)
    if fraction is None and plain(text) not in _WITHOUT_TAX:
        return None
    return {"tax_rate": fraction, "tax_rate_text": text.strip()}


_READERS: Mapping[str, Callable[[str], Any]] = {"kind": _kind, "tax_rate": _rate}
_RULES: Mapping[str, str] = {
    **dict.fromkeys(("amount", "tax", "total"), "an amount in yuan with two decimals, such as 1234.50"),
    "issue_date": "a date, such as 2026-02-27",
    "kind": f"one of {', '.join(InvoiceKind)}",
    "stamp": "yes or no",
    "tax_rate": f"a rate, such as 13%, or one of {', '.join(_WITHOUT_TAX)}",
}


def still_wrong(document: Doubtful, values: Mapping[str, Any], *, today: date) -> tuple[Finding, ...]:
    """The errors that the checks find in a document with these values in place of its own."""
    read = document.invoice
    unread = tuple(each for each in read.problems if each.field not in values)
    codes = read.evidence["qr_code"].text.split("\n") if "qr_code" in read.evidence else ()
    _, findings = examine(replace(read, problems=unread, **values), today=today, codes=codes)
    return tuple(each for each in findings if each.severity is Severity.ERROR)


# ── reading what there is ──


def _shown(db: sa.Connection, tables: Tables, document_id: str) -> Doubtful:
    row = _row(db, tables.documents, document_id)
    if row is None:
        raise ReviewRefused(f"there is no document {document_id!r} in {tables.documents.fullname}")
    found = tuple(map(finding_of, _rows(db, tables.findings, document_id)))
    booked = _booked(row, _row(db, tables.invoices, row["invoice_key"]))
    return Doubtful(
        document_id=document_id,
        seen=_seen(row, found, booked),
        state=row["state"],
        review_status=row["review_status"],
        reviewed_at=row["reviewed_at"],
        reviewed_by=row["reviewed_by"],
        uris=tuple(row["uris"]),
        invoice_key=row["invoice_key"],
        invoice=invoice_of(row, _rows(db, tables.lines, document_id), found),
        findings=found,
        booked=booked,
    )


def _rows(db: sa.Connection, table: sa.Table, key: str | None) -> list[_Row]:
    """The rows that belong to a document, or the one row of a document or an invoice."""
    first = table.primary_key.columns[0]
    query = sa.select(table).where(first == key).order_by(*table.primary_key.columns)
    return [dict(row) for row in db.execute(query).mappings()]


def _row(db: sa.Connection, table: sa.Table, key: str | None) -> _Row | None:
    return next(iter(_rows(db, table, key)), None)


def _booked(document: _Row, row: _Row | None) -> Booked | None:
    """Nothing where the invoice was not reviewed, or by this document."""
    if row is None or row["reviewed_at"] is None:
        return None
    if row["document_id"] == document["document_id"] and document["reviewed_at"] is not None:
        return None
    values = {name: row[name] for name in HEADER}
    return Booked(row["review_status"], row["reviewed_by"], row["reviewed_at"], values)


def _seen(row: _Row, findings: Iterable[Finding], booked: Booked | None) -> str:
    names = ("answer_id", "reading_version", "review_status", "reviewed_at", "reviewed_by", *HEADER)
    said = [[getattr(each, name) for name in FINDING] for each in findings]
    whose = booked and [booked.review_status, booked.reviewed_by, booked.reviewed_at]
    return _digest([[row[name] for name in names], said, whose])


def _digest(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


# ── carrying a decision out ──


def _validate(decision: Decision) -> None:
    if decision.verdict not in get_args(Verdict):
        raise ReviewRefused(f"decision: {decision.verdict!r} is none of {', '.join(get_args(Verdict))}.")
    if not 0 < len(decision.reviewed_by.strip()) <= _LONGEST_NAME:
        raise ReviewRefused(f"reviewed_by: a name of 1 to {_LONGEST_NAME} characters is wanted.")
    if decision.reviewed_at.tzinfo is None:
        raise ReviewRefused("reviewed_at: a time with its offset from UTC is wanted.")
    if decision.note and len(decision.note) > LONGEST_VALUE:
        raise ReviewRefused(f"note: {len(decision.note)} characters are more than {LONGEST_VALUE}.")
    if decision.changes and decision.verdict != "correct":
        raise ReviewRefused(f"{decision.verdict}: nothing is corrected by it. Decide for correct.")


def _decide(warehouse: Warehouse, decision: Decision, today: date, db: sa.Connection) -> Decided:
    tables = warehouse.tables
    document = _shown(db, tables, decision.document_id)
    if _row(db, tables.reviews, decision.review_id) is not None:
        return _decided(decision, document.invoice_key, repeated=True)
    if decision.seen != document.seen:
        raise ReviewRefused(_what_happened(document), document_id=decision.document_id)
    values = _new_values(decision, document)
    change = {**values, "invoice_key": _key_after(decision, document, values)}
    fate = _fate_of_invoice(db, tables, decision, document, change)
    signed = _signed(decision, warehouse.now())
    before = _rows(db, tables.documents, decision.document_id)
    _write(db, tables.documents, decision.document_id, {**change, **signed})
    db.execute(tables.reviews.insert().values(_audit(decision, document, change)))
    _release(db, tables.invoices, document, change["invoice_key"], fate)
    if fate == "reject":
        _write(db, tables.invoices, change["invoice_key"], signed)
    warehouse.judge_again(db, [*before, *_rows(db, tables.documents, decision.document_id)])
    if fate == "take":
        _write(db, tables.invoices, change["invoice_key"], signed)
    wrong = () if decision.verdict == "reject" else still_wrong(document, values, today=today)
    return _decided(decision, change["invoice_key"], wrong)


def _decided(
    decision: Decision, key: str | None, wrong: tuple[Finding, ...] = (), *, repeated: bool = False
) -> Decided:
    status = STATUS[decision.verdict]
    return Decided(decision.review_id, decision.document_id, key, status, wrong, repeated)


def _what_happened(document: Doubtful) -> str:
    said = f"document {document.document_id} is not as it was shown any more: "
    if document.reviewed_at is not None:
        what = f"it was {_by_whom(document)}"
    elif document.booked is not None:
        what = f"its invoice was {_by_whom(document.booked)}"
    else:
        what = "it was read again, or other documents say something else of it by now"
    return f"{said}{what}. Look at it again."


def _by_whom(reviewed: Booked | Doubtful) -> str:
    return f"{reviewed.review_status} by {reviewed.reviewed_by} at {reviewed.reviewed_at:%Y-%m-%d %H:%M} UTC"


def _new_values(decision: Decision, document: Doubtful) -> dict[str, Any]:
    """What is to change in the row: what was typed and is another value than before, and what follows."""
    typed = read_typed(decision.changes)
    values = {name: value for name, value in typed.items() if value != getattr(document.invoice, name)}
    if decision.verdict == "correct" and not values:
        raise ReviewRefused(
            "correct: every value is as it was read. Approve the document, or change a value.",
            document_id=decision.document_id,
        )
    after = replace(document.invoice, **values)
    if (takes_back := _takes_back(after)) != after.takes_back:
        values["takes_back"] = takes_back
    return values


def _takes_back(invoice: Invoice) -> str | None:
    is_red = (invoice.total or invoice.amount or 0) < 0
    return taken_back(invoice.remarks or "") if is_red else None


def _key_after(decision: Decision, document: Doubtful, values: _Row) -> str | None:
    if decision.verdict == "reject":
        return document.invoice_key
    code, number = (values.get(name, getattr(document.invoice, name)) for name in ("code", "number"))
    if key := invoice_key(code, number):
        return key
    raise ReviewRefused(
        f"code, number: {code or 'nothing'} and {number or 'nothing'} are no key of an invoice: 10 or 12 "
        "digits and 8, or no code and 20. Correct them, or reject the document.",
        document_id=decision.document_id,
        field="number",
    )


def _fate_of_invoice(
    db: sa.Connection, tables: Tables, decision: Decision, document: Doubtful, change: _Row
) -> Fate:
    """What becomes of the invoice. Raises `ReviewRefused` where that would overwrite what others said."""
    key = change["invoice_key"]
    row = _row(db, tables.invoices, key)
    booked = _booked({"document_id": document.document_id, "reviewed_at": document.reviewed_at}, row)
    stands = booked is not None and booked.review_status != "rejected"
    if decision.verdict == "reject":
        if _has_others(db, tables, document.document_id, key):
            return "leave"
        if booked is not None and stands:
            raise ReviewRefused(
                f"reject: invoice {key} was {_by_whom(booked)}, and has no other document. Reject the "
                "invoice where it was reviewed.",
                document_id=decision.document_id,
            )
        return "reject"
    if row is not None and (stands or key != document.invoice_key):
        after = {name: change.get(name, getattr(document.invoice, name)) for name in HEADER}
        if names := disagreement(row, after):
            who = _by_whom(booked) if booked else "made of another document"
            told = "; ".join(f"{name}={row[name]}" for name in names)
            raise ReviewRefused(
                f"{', '.join(names)}: invoice {key} was {who}, with {told}. Correct the values, or reject "
                "the document.",
                document_id=decision.document_id,
                field=names[0],
            )
    return "leave" if stands else "take"


def _has_others(db: sa.Connection, tables: Tables, document_id: str, key: str | None) -> bool:
    documents = tables.documents
    query = sa.select(documents.c.document_id).where(
        documents.c.invoice_key == key,
        documents.c.document_id != document_id,
        documents.c.review_status != "rejected",
    )
    return db.execute(query.limit(1)).first() is not None


def _write(db: sa.Connection, table: sa.Table, key: str | None, values: _Row) -> None:
    # str() makes an ordinary text of an enumeration's member, which not every driver takes.
    plain_values = {name: str(value) if isinstance(value, str) else value for name, value in values.items()}
    db.execute(table.update().where(table.primary_key.columns[0] == key).values(plain_values))


def _signed(decision: Decision, now: datetime) -> dict[str, Any]:
    return {
        "review_status": STATUS[decision.verdict],
        "reviewed_at": decision.reviewed_at,
        "reviewed_by": decision.reviewed_by,
        "review_note": storable(decision.note),
        "loaded_at": now,
    }


def _audit(decision: Decision, document: Doubtful, change: _Row) -> dict[str, Any]:
    printed = document.invoice.evidence
    changes = {
        name: {
            "printed": printed[name].text if name in printed else None,
            "before": _as_text(getattr(document.invoice, name)),
            "after": _as_text(value),
        }
        for name, value in change.items()
        if name in HEADER
    }
    return {
        "review_id": decision.review_id,
        "document_id": decision.document_id,
        "invoice_key": change["invoice_key"],
        "decision": decision.verdict,
        "reviewed_by": decision.reviewed_by,
        "reviewed_at": decision.reviewed_at,
        "note": storable(decision.note),
        "changes": storable(changes),
    }


def _as_text(value: Any) -> str | None:
    return None if value is None else str(value)


def _release(db: sa.Connection, invoices: sa.Table, document: Doubtful, key: str | None, fate: Fate) -> None:
    """Takes earlier reviews off the invoices that are merged anew: what is reviewed would be left alone."""
    nobodys = {"reviewed_at": None, "reviewed_by": None, "review_note": None}
    if document.reviewed_at is not None:
        by_this = invoices.update().where(invoices.c.document_id == document.document_id)
        db.execute(by_this.where(invoices.c.invoice_key == document.invoice_key).values(nobodys))
    if fate == "take":
        source = {"document_id": document.document_id, **nobodys}
        db.execute(invoices.update().where(invoices.c.invoice_key == key).values(source))
