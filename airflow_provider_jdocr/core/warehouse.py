"""The warehouse: typed rows of documents, invoices, lines and findings, loaded by idempotent upserts.

``{prefix}documents``  one row per recognition (service, endpoint, SHA-256, page), with its reading in full
``{prefix}invoices``   one row per business key (``code:number``, or the 20 digits of a fully digital invoice)
``{prefix}lines``      the table of goods, by document; an invoice names whose lines are its own
``{prefix}findings``   what checking and loading found, by document; those below 0 come from others
``{prefix}reviews``    what people decided about documents, with each value that they changed
``{prefix}tax_check``  a view of the invoices: what the tax office asks for to check one
``{prefix}warehouse_meta``  the version of these tables; its one row is also the lock that a load holds

Invariants, each with a test:

- loading the same again changes nothing, not even ``loaded_at``;
- a row that a person reviewed (``reviewed_at``) is changed by review only;
- a reading gives way to a newer one of the same document, never to an older one, nor to a newer failure;
- one chunk is one transaction; loads of one warehouse take turns, chunk by chunk, on every database.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from itertools import count, islice
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from airflow_provider_jdocr.core import engines
from airflow_provider_jdocr.core.documents import (
    CONFLICTING_DOCUMENT,
    ENDPOINTS_SETTLED,
    FINDING,
    HEADER,
    Document,
    Rows,
    document_id,
    finding_of,
    invoice_key,
    invoice_of,
    rows_of,
    storable,
)
from airflow_provider_jdocr.core.errors import ConfigurationError, WarehouseError
from airflow_provider_jdocr.core.examining import Check, checking
from airflow_provider_jdocr.core.findings import Finding, review_status
from airflow_provider_jdocr.core.ledger import Identity
from airflow_provider_jdocr.core.merging import BY_INVOICE, Merged, is_rejected, merge
from airflow_provider_jdocr.core.reconciling import (
    BY_PICTURE,
    Reading,
    Settlement,
    compared,
    differ,
    may_differ,
    settle,
)
from airflow_provider_jdocr.core.tables import Json, Tables

SCHEMA_VERSION = 2
CHUNK_SIZE = 500
"""Documents a transaction: enough to be fast, few enough to be short."""

_TRIES = 5
_PREFIX = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,31}")
_SCHEMA = re.compile(r"[A-Za-z_][A-Za-z0-9_$]{0,62}")
_Row = Mapping[str, Any]
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a warehouse knows of a document: the answer, its reader, whether a person reviewed it."""

    answer_id: str
    version: str
    reviewed: bool
    uris: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What a load did. ``considered`` = ``already_loaded + loaded + unchanged + not_answered``."""

    considered: int = 0
    already_loaded: int = 0
    """This answer is there, read by this version or a newer one."""
    loaded: int = 0
    """Document rows inserted or changed; the counts below are of these."""
    unchanged: int = 0
    """Read anew and left as they were: reviewed by a person, or the warehouse has a better answer."""
    not_answered: int = 0
    """The ledger has no settled answer for them yet."""
    invoices_inserted: int = 0
    invoices_updated: int = 0
    invoices_removed: int = 0
    """Invoices whose only document turned out to show another one."""
    conflicts: int = 0
    review: int = 0
    failed: int = 0
    unparsed: int = 0

    def __add__(self, other: LoadReport) -> LoadReport:
        return LoadReport(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


class Warehouse:
    """The tables of one ``prefix`` in one ``schema``; ``clock`` is for tests."""

    def __init__(
        self,
        engine: sa.Engine,
        *,
        schema: str | None = None,
        prefix: str = "jdocr_",
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        _validate(engine, schema, prefix)
        self._engine = engine
        # Stricter isolation would see the data as of before the wait for the lock, and fail for it.
        one_writer = engine.dialect.name == "sqlite"
        self._writing = engine if one_writer else engine.execution_options(isolation_level="READ COMMITTED")
        self._clock = clock
        self.tables = Tables(schema, prefix)

    def create(self) -> None:
        """Creates the tables, or upgrades those of an older version, under a lock.

        Where they are there already no right to create is asked for. Raises `WarehouseError` when a newer
        version made them, or when this user may not make them; then it says who prints the statements.
        """
        found = self._found_version()
        if found == SCHEMA_VERSION:
            return
        try:
            with engines.schema_lock(self._writing) as db:
                self._bring_up_to_date(db)
        except sa.exc.DBAPIError as error:
            if engines.is_forbidden(error):
                raise self._not_allowed(found) from error.orig
            raise _warehouse_error(self.tables, error) from error.orig

    def _bring_up_to_date(self, db: sa.Connection) -> None:
        meta = self.tables.meta
        self.tables.create(db)
        engines.insert_absent(db, meta, {"id": 1, "schema_version": SCHEMA_VERSION})
        if _version_row(self.tables, db) != SCHEMA_VERSION:
            db.execute(meta.update().where(meta.c.id == 1).values(schema_version=SCHEMA_VERSION))

    def _not_allowed(self, found: int | None) -> WarehouseError:
        given = {"schema": self.tables.schema, "prefix": self.tables.prefix, "since": found}
        said = ", ".join(
            f"{name}={value!r}" for name, value in given.items() if value not in (None, "jdocr_")
        )
        arguments = ", ".join(filter(None, (repr(self._engine.dialect.name), said)))
        state = "is not there yet" if found is None else f"says version {found}"
        return WarehouseError(
            f"{self.tables.meta.fullname} {state}, this provider writes {SCHEMA_VERSION}, and its user may "
            "not create or alter tables. Have the statements run that this prints: python -c "
            f'"from {__name__} import ddl; print(ddl({arguments}))"',
            table=self.tables.meta.fullname,
            permanent=True,
        )

    def loaded(self, identities: Iterable[Identity]) -> dict[Identity, Loaded]:
        """What is there of these documents. Reads a few columns by primary key."""
        names = {document_id(identity): identity for identity in identities}
        columns = self.tables.documents.c
        query = sa.select(
            columns.document_id, columns.answer_id, columns.reading_version, columns.reviewed_at, columns.uris
        )
        found: dict[Identity, Loaded] = {}
        with self.reading() as db:
            for part in _parts(names):
                for row in db.execute(query.where(engines.among(columns.document_id, part, db.dialect))):
                    state = Loaded(
                        row.answer_id, row.reading_version, row.reviewed_at is not None, tuple(row.uris)
                    )
                    found[names[row.document_id]] = state
        return found

    def missing(self, answers: Mapping[Identity, str], version: str) -> list[Identity]:
        """Of the ledger's answers (identity → answer id), those without a row of this answer and version.

        A row of a newer version counts, and a document that a person reviewed is never missing.
        """
        loaded = self.loaded(answers)
        return [
            each for each, answer_id in answers.items() if is_missing(loaded.get(each), answer_id, version)
        ]

    def load(
        self,
        documents: Iterable[Document],
        *,
        also_named: Mapping[Identity, Collection[str]] | None = None,
        check: Check | None = None,
    ) -> LoadReport:
        """Upserts documents and what follows from them, a transaction for each `CHUNK_SIZE`.

        ``also_named``: further URIs of documents that are there already; ``check``: how the documents were
        checked, for what several endpoints read from one picture. Raises `WarehouseError`; what
        earlier chunks committed stays, and a repeated load goes on from there.
        """
        report = LoadReport()
        stream = iter(documents)
        names = also_named or {}
        while (chunk := list(islice(stream, CHUNK_SIZE))) or names:
            report += self.in_turn(_Chunk(self.tables, chunk, names, self._clock, check).write)
            names = {}
        return report

    def _found_version(self) -> int | None:
        """None: the tables are not there, or nobody finished making them."""
        with self.reading() as db:
            engines.refuse_small_packets(db, "warehouse_conn_id")
            meta = self.tables.meta
            if not sa.inspect(db).has_table(meta.name, schema=meta.schema):
                return None
            return _version_row(self.tables, db)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection to read with. Errors of the database are `WarehouseError`."""
        with _translated(self.tables), engines.reading(self._engine) as db:
            yield db

    def in_turn(self, work: Callable[[sa.Connection], _Result]) -> _Result:
        """Runs `work` under the warehouse's lock, again where another session got in its way."""
        for left in reversed(range(_TRIES)):
            try:
                with self._writing.begin() as db:
                    self._lock(db)
                    return work(db)
            except sa.exc.DBAPIError as error:
                if not left or not _may_be_repeated(error):
                    raise _warehouse_error(self.tables, error) from error.orig
        raise AssertionError("unreachable: the last try returns or raises")

    def now(self) -> datetime:
        """The time that rows are written with."""
        return self._clock()

    def judge_again(self, db: sa.Connection, documents: Sequence[_Row]) -> None:
        """Within `in_turn`: what follows for others from a change of these documents, whose rows are given as
        they were and as they are.
        """
        _Chunk(self.tables, (), {}, self._clock).judge_again(db, documents)

    def _lock(self, db: sa.Connection) -> None:
        """A write to the one row of meta, by which loads take turns; in SQLite, the file's write lock."""
        meta = self.tables.meta
        db.execute(meta.update().where(meta.c.id == 1).values(schema_version=meta.c.schema_version))
        _checked_version(self.tables, db)


def ddl(
    dialect: engines.Dialect, *, schema: str | None = None, prefix: str = "jdocr_", since: int = 0
) -> str:
    """The statements that `Warehouse.create` runs, for those who may not create tables from Airflow; those
    that upgrade tables of version `since`, where it is given.
    """
    chosen, tables = engines.DIALECTS[dialect](), Tables(schema, prefix)
    statements = [str(each.compile(dialect=chosen)).strip() for each in tables.statements(since)]
    meta = tables.meta
    row = sa.update(meta).where(meta.c.id == 1) if since else sa.insert(meta).values(id=1)
    version = row.values(schema_version=SCHEMA_VERSION)
    statements.append(str(version.compile(dialect=chosen, compile_kwargs={"literal_binds": True})))
    return "".join(f"{statement};\n" for statement in statements)


def is_missing(loaded: Loaded | None, answer_id: str, version: str) -> bool:
    """Whether a document must be read (again) for a warehouse that knows this much of it."""
    if loaded is None:
        return True
    if loaded.reviewed:
        return False
    return loaded.answer_id != answer_id or _is_stale(loaded.version, version)


class _Chunk:
    """One transaction's work. Lives for one call of `write`, which may be repeated after a rollback."""

    def __init__(
        self,
        tables: Tables,
        documents: Sequence[Document],
        also_named: Mapping[Identity, Collection[str]],
        clock: Callable[[], datetime],
        check: Check | None = None,
    ) -> None:
        self._tables = tables
        self._check = check
        self._also_named = {document_id(each): set(storable(list(uris))) for each, uris in also_named.items()}
        self._clock = clock
        self._read: dict[str, Rows] = {}
        for document in documents:
            self._take(rows_of(document))
        self._considered = len(self._read)

    def _take(self, rows: Rows) -> None:
        """The newest reading of a document counts, under all its names."""
        name = rows.document["document_id"]
        other = self._read.get(name)
        if other is not None:
            uris = sorted({*rows.document["uris"], *other.document["uris"]})
            rows = rows if _supersedes(rows.document, other.document) else other
            rows.document["uris"] = uris
        self._read[name] = rows

    def write(self, db: sa.Connection) -> LoadReport:
        self._db, self._now = db, self._clock()
        before = self._documents("document_id", [*self._read, *self._also_named])
        self._name(before)
        fresh = {
            name: self._dated(rows, before.get(name))
            for name, rows in self._read.items()
            if name not in before or _supersedes(rows.document, before[name])
        }
        merges, booked = self._judge(fresh, [before[name] for name in fresh if name in before])
        self._write_documents(fresh, before)
        inserted, updated = self._write_invoices(merges, booked)
        removed = self._remove_empty(booked, merges)
        return self._report(fresh, inserted=inserted, updated=updated, removed=removed)

    def judge_again(self, db: sa.Connection, documents: Sequence[_Row]) -> None:
        self._db, self._now = db, self._clock()
        merges, booked = self._judge({}, documents)
        self._write_invoices(merges, booked)
        self._remove_empty(booked, merges)

    def _judge(
        self, fresh: dict[str, Rows], changed: Sequence[_Row]
    ) -> tuple[dict[str, Merged], dict[str, _Row]]:
        """Tells all documents what they owe to each other; gives the invoices, as they are to be and as they
        are. `changed`: rows of documents that are there, as they were or are.
        """
        new = [rows.document for rows in fresh.values()]
        found = self._documents("sha256", {row["sha256"] for row in (*new, *changed)})
        siblings = {name: row for name, row in found.items() if name not in fresh}
        settled = self._settle(fresh, siblings)
        keys = _keys_of([*new, *changed, *siblings.values()])
        self._assign(fresh, siblings, settled)
        keys |= _keys_of([*new, *siblings.values()])
        by_picture = _by_picture([*new, *siblings.values()], settled)
        others = {
            name: row for name, row in self._documents("invoice_key", keys).items() if name not in fresh
        }
        settled += self._settled_elsewhere(others, {row["sha256"] for row in (*new, *changed)})
        merges, booked = self._merge(fresh, others, keys, settled)
        by_invoice = _of_each(merges.values(), settled)
        self._tell(by_invoice, by_invoice, BY_INVOICE, fresh, others)
        self._tell({*fresh, *siblings}, by_picture, BY_PICTURE, fresh, siblings)
        return merges, booked

    def _settle(self, fresh: Mapping[str, Rows], there: Mapping[str, _Row]) -> list[Settlement]:
        """What several endpoints read from one picture, where they read otherwise."""
        documents = (*(rows.document for rows in fresh.values()), *there.values())
        unsettled = [rows for rows in _pictures(filter(may_differ, documents)) if differ(rows)]
        readings = self._readings([row for rows in unsettled for row in rows], fresh)
        check = self._check or checking(self._now.date())
        return [settle([readings[row["document_id"]] for row in rows], check) for rows in unsettled]

    def _settled_elsewhere(self, others: Mapping[str, _Row], known: Collection[str]) -> list[Settlement]:
        """What was settled before of the pictures of other files that show the same invoices."""
        pictures = {row["sha256"] for row in others.values()}.difference(known)
        return self._settle({}, self._documents("sha256", pictures)) if pictures else []

    def _readings(self, rows: Sequence[_Row], fresh: Mapping[str, Rows]) -> dict[str, Reading]:
        """Documents with all that was read: as they are about to be written, or as they were."""
        there = [row["document_id"] for row in rows if row["document_id"] not in fresh]
        tables = self._tables
        columns = tables.documents.c
        wide = self._of_documents(sa.select(columns.document_id, columns.evidence, columns.details), there)
        lines = self._of_documents(sa.select(tables.lines), there)
        own = sa.select(tables.findings).where(tables.findings.c.position > 0)
        found = self._of_documents(own.order_by(tables.findings.c.position), there)
        readings = {}
        for row in rows:
            name = row["document_id"]
            if name in fresh:
                more = {each: json.loads(row[each]) for each in ("evidence", "details")}
                goods, said = fresh[name].lines, fresh[name].findings
            else:
                more, goods = wide[name][0], tuple(lines.get(name, ()))
                said = tuple(map(finding_of, found.get(name, ())))
            readings[name] = Reading(row, invoice_of({**row, **more}, goods, said), said)
        return readings

    def _of_documents(self, query: sa.Select[Any], names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for part in _parts(names):
            for row in self._db.execute(query.where(query.selected_columns.document_id.in_(part))).mappings():
                found.setdefault(row["document_id"], []).append(dict(row))
        return found

    def _assign(
        self, fresh: Mapping[str, Rows], there: Mapping[str, dict[str, Any]], settled: Iterable[Settlement]
    ) -> None:
        """A document belongs to the invoice that it shows by all its readings, whatever it read itself."""
        keys = {name: each.row["invoice_key"] for each in settled if each.row for name in each.members}
        for name, rows in fresh.items():
            rows.document["invoice_key"] = keys.get(name, rows.document["invoice_key"])
        documents = self._tables.documents
        for name, row in there.items():
            key = keys.get(name, invoice_key(row["code"], row["number"]))
            if may_differ(row) and row["invoice_key"] != key:
                row["invoice_key"] = key
                moved = documents.update().where(documents.c.document_id == name)
                self._db.execute(moved.values(invoice_key=key, loaded_at=self._now))

    def _documents(self, column: str, values: Collection[str]) -> dict[str, dict[str, Any]]:
        documents = self._tables.documents
        query = sa.select(*(documents.c[name] for name in _MERGED_COLUMNS))
        found: dict[str, dict[str, Any]] = {}
        for part in _parts(values):
            for row in self._db.execute(
                query.where(engines.among(documents.c[column], part, self._db.dialect))
            ).mappings():
                found[row["document_id"]] = dict(row)
        return found

    def _name(self, before: Mapping[str, _Row]) -> None:
        """URIs of a document add up; a further name is no new reading, so nothing else of the row changes."""
        documents = self._tables.documents
        changed = []
        for name, row in before.items():
            given = {
                *self._also_named.get(name, ()),
                *(self._read[name].document["uris"] if name in self._read else ()),
            }
            if not given <= set(row["uris"]):
                changed.append({"which": name, "uris": sorted({*given, *row["uris"]})})
        if changed:
            statement = documents.update().where(documents.c.document_id == sa.bindparam("which"))
            self._db.execute(statement.values(uris=sa.bindparam("uris")), changed)

    def _dated(self, rows: Rows, before: _Row | None) -> Rows:
        uris = sorted({*rows.document["uris"], *(before["uris"] if before else ())})
        first = before["first_loaded_at"] if before else self._now
        dates = {"first_loaded_at": first, "loaded_at": self._now, "reviewed_at": None, "uris": uris}
        return Rows({**rows.document, **dates}, rows.lines, rows.findings)

    def _merge(
        self,
        fresh: Mapping[str, Rows],
        others: Mapping[str, _Row],
        keys: Collection[str],
        settled: Sequence[Settlement],
    ) -> tuple[dict[str, Merged], dict[str, _Row]]:
        """The invoices that these documents belong or belonged to, and those that they take back, as they
        are to be and as they are.
        """
        groups: dict[str, list[_Row]] = {}
        for row in _as_one([*(rows.document for rows in fresh.values()), *others.values()], settled):
            if row["invoice_key"] is not None:
                groups.setdefault(row["invoice_key"], []).append(row)
        booked = self._invoices(keys)
        red = self._taken_back(keys, fresh)
        names = frozenset(fresh or others)
        doubted = frozenset(_doubted(settled))
        names |= {each.members[0] for each in settled if not names.isdisjoint(each.members)}
        merges = {
            key: merge(key, rows, booked.get(key), names, taken_back_by=red.get(key, ()), doubted=doubted)
            for key, rows in groups.items()
        }
        return merges, booked

    def _taken_back(self, keys: Collection[str], fresh: Mapping[str, Rows]) -> dict[str, set[str]]:
        """Invoice → the red ones that name it."""
        found = self._documents("takes_back", keys)
        there = [row for name, row in found.items() if name not in fresh]
        named: dict[str, set[str]] = {}
        for row in [*there, *(rows.document for rows in fresh.values())]:
            if is_rejected(row):
                continue
            if row["takes_back"] is not None and row["invoice_key"] is not None:
                named.setdefault(row["takes_back"], set()).add(row["invoice_key"])
        return named

    def _invoices(self, keys: Collection[str]) -> dict[str, _Row]:
        invoices = self._tables.invoices
        found: dict[str, _Row] = {}
        for part in _parts(keys):
            query = sa.select(invoices).where(engines.among(invoices.c.invoice_key, part, self._db.dialect))
            found |= {row["invoice_key"]: dict(row) for row in self._db.execute(query).mappings()}
        return found

    def _tell(
        self,
        judged: Collection[str],
        said: Mapping[str, tuple[Finding, ...]],
        codes: frozenset[str],
        fresh: dict[str, Rows],
        there: Mapping[str, _Row],
    ) -> None:
        """What documents owe to others: with those that are written, and again for those that are there."""
        for name in fresh.keys() & said.keys():
            rows = fresh[name]
            findings = (*rows.findings, *said[name])
            status = _status(rows.document["doubtful"], _from_others(findings))
            fresh[name] = Rows({**rows.document, "review_status": status}, rows.lines, findings)
        known = [name for name in judged if name in there and there[name]["reviewed_at"] is None]
        for part in _parts(known):
            self._judge_again(part, said, codes, there)

    def _judge_again(
        self,
        names: Sequence[str],
        said: Mapping[str, tuple[Finding, ...]],
        codes: frozenset[str],
        there: Mapping[str, _Row],
    ) -> None:
        """Documents that were there before, about which others may say something else by now."""
        documents, findings = self._tables.documents, self._tables.findings
        known: dict[str, list[Finding]] = {name: [] for name in names}
        from_others = sa.and_(findings.c.document_id.in_(names), findings.c.position < 0)
        for row in self._db.execute(
            sa.select(findings).where(from_others).order_by(-findings.c.position)
        ).mappings():
            known[row["document_id"]].append(finding_of(dict(row)))
        changed: dict[str, tuple[Finding, ...]] = {}
        for name in names:
            found, others = said.get(name, ()), [each for each in known[name] if each.code not in codes]
            if tuple(each for each in known[name] if each.code in codes) != found:
                changed[name] = (*others, *found)
        if not changed:
            return
        of_changed = sa.and_(findings.c.document_id.in_(changed), findings.c.position < 0)
        self._db.execute(findings.delete().where(of_changed))
        self._insert(findings, [row for name, each in changed.items() for row in _finding_rows(name, each)])
        by_status: dict[str, list[str]] = {}
        for name, each in changed.items():
            status = _status(there[name]["doubtful"], each)
            by_status.setdefault(status, []).append(name)
        for status, which in by_status.items():
            change = {"review_status": status, "loaded_at": self._now}
            self._db.execute(documents.update().where(documents.c.document_id.in_(which)).values(change))

    def _write_documents(self, fresh: Mapping[str, Rows], before: Mapping[str, _Row]) -> None:
        tables = self._tables
        replaced = [name for name in fresh if name in before]
        for table in (tables.lines, tables.findings):
            for part in _parts(replaced):
                self._db.execute(table.delete().where(table.c.document_id.in_(part)))
        self._upsert(tables.documents, [rows.document for rows in fresh.values()])
        self._insert(
            tables.lines,
            [{"document_id": name, **line} for name, rows in fresh.items() for line in rows.lines],
        )
        self._insert(
            tables.findings,
            [row for name, rows in fresh.items() for row in _finding_rows(name, rows.findings)],
        )

    def _write_invoices(self, merges: Mapping[str, Merged], booked: Mapping[str, _Row]) -> tuple[int, int]:
        rows = []
        for key, merged in merges.items():
            before = booked.get(key)
            if merged.invoice is None or (before and merged.invoice.items() <= before.items()):
                continue
            first = before["first_loaded_at"] if before else self._now
            rows.append(
                {**merged.invoice, "first_loaded_at": first, "loaded_at": self._now, "reviewed_at": None}
            )
        self._upsert(self._tables.invoices, rows)
        updated = sum(row["invoice_key"] in booked for row in rows)
        return len(rows) - updated, updated

    def _remove_empty(self, booked: Mapping[str, _Row], merges: Mapping[str, Merged]) -> int:
        invoices = self._tables.invoices
        empty = [key for key, row in booked.items() if key not in merges and row["reviewed_at"] is None]
        if empty:
            unreviewed = sa.and_(invoices.c.invoice_key.in_(empty), invoices.c.reviewed_at.is_(None))
            self._db.execute(invoices.delete().where(unreviewed))
        return len(empty)

    def _upsert(self, table: sa.Table, rows: Sequence[_Row]) -> None:
        """Inserts; where the key is there, sets what is given, unless a person reviewed the row meanwhile."""
        if not rows:
            return
        if self._db.dialect.name != "postgresql":
            engines.upsert(self._db, table, rows, unless=lambda _: table.c.reviewed_at.is_not(None))
            return
        insert = self._postgresql_insert(table, rows)
        keys = [column.name for column in table.primary_key]
        changed = {name: insert.excluded[name] for name in rows[0] if name not in keys}
        unreviewed = table.c.reviewed_at.is_(None)
        upsert = insert.on_conflict_do_update(index_elements=keys, set_=changed, where=unreviewed)
        self._db.execute(upsert, _as_json(rows))

    def _insert(self, table: sa.Table, rows: Sequence[_Row]) -> None:
        if not rows:
            return
        if self._db.dialect.name == "postgresql":
            self._db.execute(self._postgresql_insert(table, rows), _as_json(rows))
        else:
            self._db.execute(table.insert(), list(rows))

    def _postgresql_insert(self, table: sa.Table, rows: Sequence[_Row]) -> postgresql.Insert:
        """One statement for all rows, which are one value of it: planned once, nothing prepared."""
        names = list(rows[0])
        return postgresql.insert(table).from_select(names, _given_as_json(table, names))

    def _report(self, fresh: Mapping[str, Rows], *, inserted: int, updated: int, removed: int) -> LoadReport:
        written = list(fresh.values())
        read = [rows for rows in written if rows.document["state"] != "failed"]
        return LoadReport(
            considered=self._considered,
            loaded=len(written),
            unchanged=self._considered - len(written),
            invoices_inserted=inserted,
            invoices_updated=updated,
            invoices_removed=removed,
            conflicts=sum(
                any(each.code == CONFLICTING_DOCUMENT for each in rows.findings) for rows in written
            ),
            review=sum(rows.document["review_status"] == "review" for rows in read),
            failed=len(written) - len(read),
            unparsed=sum(rows.document["state"] == "unparsed" for rows in written),
        )


def _as_json(rows: Sequence[_Row]) -> dict[str, str]:
    return {"rows": json.dumps(list(rows), ensure_ascii=False, default=str)}


def _given_as_json(table: sa.Table, names: Sequence[str]) -> sa.Select[Any]:
    """``SELECT … FROM json_to_recordset(:rows)``: the rows of a JSON array, typed as the table's columns."""
    kinds = {name: table.c[name].type for name in names}
    given = sa.func.json_to_recordset(sa.cast(sa.bindparam("rows", type_=sa.Text), postgresql.JSON))
    # JSON within the JSON is text, so that nobody decodes and encodes it on the way.
    columns = [sa.column(name, sa.Text if isinstance(kind, Json) else kind) for name, kind in kinds.items()]
    rows = given.table_valued(*columns, name="given").render_derived(with_types=True)
    return sa.select(
        *(sa.cast(rows.c[name], Json) if isinstance(kinds[name], Json) else rows.c[name] for name in names)
    )


def _pictures(documents: Iterable[_Row]) -> Iterable[list[_Row]]:
    """The documents of each picture."""
    pictures: dict[tuple[str, int], list[_Row]] = {}
    for row in documents:
        pictures.setdefault((row["sha256"], row["page"]), []).append(row)
    return pictures.values()


def _by_picture(documents: Iterable[_Row], settled: Iterable[Settlement]) -> dict[str, tuple[Finding, ...]]:
    said = {name: each for rows in _pictures(documents) for name, each in compared(rows).items()}
    for settlement in settled:
        said |= {name: (*said.get(name, ()), *each) for name, each in settlement.findings.items()}
    return said


def _as_one(documents: Iterable[_Row], settled: Iterable[Settlement]) -> list[_Row]:
    """One row for the documents of a picture that were made one."""
    joined = {name: each.row for each in settled if each.row for name in each.members}
    rows = {row["document_id"]: row for row in (joined.get(each["document_id"], each) for each in documents)}
    return list(rows.values())


def _of_each(merges: Iterable[Merged], settled: Iterable[Settlement]) -> dict[str, tuple[Finding, ...]]:
    """What is said of the one row of a picture is said of all its documents."""
    members = {each.members[0]: each.members for each in settled if each.row is not None}
    return {
        name: merged.findings.get(judged, ())
        for merged in merges
        for judged in merged.judged
        for name in members.get(judged, (judged,))
    }


def _doubted(settled: Iterable[Settlement]) -> Iterator[str]:
    for each in settled:
        yield from (name for name, said in each.findings.items() if review_status(said) != "clear")


def _keys_of(rows: Iterable[_Row]) -> set[str]:
    return {row[name] for row in rows for name in ("invoice_key", "takes_back")} - {None}


def _from_others(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(each for each in findings if each.code in BY_INVOICE | BY_PICTURE)


def _status(doubtful: bool, said: Sequence[Finding]) -> str:
    """``review_status`` of a document about which others say this. One is `settled` that has errors or other
    values than the invoice, where the checks decided by another reading of its picture.
    """
    if review_status(said) != "clear":
        return "review"
    if any(each.code == ENDPOINTS_SETTLED and (doubtful or each.found != each.expected) for each in said):
        return "settled"
    return "review" if doubtful else "clear"


def _supersedes(row: _Row, before: _Row) -> bool:
    """Whether a reading replaces the one that is there."""
    if before.get("reviewed_at") is not None:
        return False
    if row["answer_id"] == before["answer_id"]:
        return _is_stale(before["reading_version"], row["reading_version"])
    if row["state"] != "recognised" and before["state"] == "recognised":
        # Asked again in vain: what an earlier answer read is still the best there is.
        return False
    if row["state"] == "recognised" and before["state"] != "recognised":
        return True
    return (row["answered_at"], row["answer_id"]) > (before["answered_at"], before["answer_id"])


def _is_stale(read: str, version: str) -> bool:
    """Read by an older provider, or by one as old that expected something else."""
    one, other = _version(read), _version(version)
    return one < other or (one == other and read != version)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.partition("+")[0].split("."))


def _finding_rows(name: str, findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Positions from 1 for what the document itself gave rise to, from -1 downwards for what others did."""
    rows = []
    own, from_others = count(1), count(-1, -1)
    for each in findings:
        position = next(from_others if each.code in BY_INVOICE | BY_PICTURE else own)
        values = {column: getattr(each, column) for column in FINDING}
        values |= {"severity": str(each.severity), "fields": ",".join(each.fields)}
        rows.append({"document_id": name, "position": position, **values})
    return rows


_MERGED_COLUMNS = (
    *(
        "document_id",
        "service",
        "endpoint",
        "sha256",
        "page",
        "invoice_key",
        "state",
        "answer_id",
        "answered_at",
        "reading_version",
        "uris",
        "line_count",
    ),
    *("doubtful", "review_status", "reviewed_at", "first_loaded_at"),
    *HEADER,
)


def _validate(engine: sa.Engine, schema: str | None, prefix: str) -> None:
    if engine.dialect.name not in engines.DIALECTS:
        raise ConfigurationError(
            f"the warehouse runs on {', '.join(sorted(engines.DIALECTS))}; {engine.dialect.name} is none of "
            "them. Load into one of those.",
            field="warehouse_conn_id",
        )
    for field, value, rule in (("prefix", prefix, _PREFIX), ("schema", schema, _SCHEMA)):
        if value is not None and not rule.fullmatch(value):
            raise ConfigurationError(
                f"{field} {value!r} is no name for tables: letters, digits and underscores, a letter first, "
                f"at most {32 if field == 'prefix' else 63} characters",
                field=field,
            )


def _checked_version(tables: Tables, db: sa.Connection) -> None:
    if (found := _version_row(tables, db)) != SCHEMA_VERSION:
        said = "has no version row" if found is None else f"says version {found}"
        raise WarehouseError(f"{tables.meta.fullname} {said}: run create()", table=tables.meta.fullname)


def _version_row(tables: Tables, db: sa.Connection) -> int | None:
    """The version of the tables; a newer one than ours is refused."""
    found = db.execute(sa.select(tables.meta.c.schema_version).where(tables.meta.c.id == 1)).scalar()
    if found is not None and found > SCHEMA_VERSION:
        raise WarehouseError(
            f"{tables.meta.fullname} says version {found}, this provider writes {SCHEMA_VERSION}: "
            "upgrade this provider wherever it runs",
            table=tables.meta.fullname,
            permanent=True,
        )
    return None if found is None else int(found)


@contextmanager
def _translated(tables: Tables) -> Iterator[None]:
    """The database's errors as `WarehouseError`, without the parameters of the statement: people's data."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        raise _warehouse_error(tables, error) from error.orig


def _warehouse_error(tables: Tables, error: sa.exc.DBAPIError) -> WarehouseError:
    reason = str(error.orig).strip().partition("\n")[0]
    advice = (
        "Were the tables created?"
        if isinstance(error, sa.exc.ProgrammingError)
        else "Nothing paid for is lost."
    )
    return WarehouseError(
        f"the warehouse ({tables.prefix}*) refused: {reason}. {advice}", table=tables.prefix
    )


def _may_be_repeated(error: sa.exc.DBAPIError) -> bool:
    """Lost a race that the next try may win: unique key, deadlock, serialization, a locked SQLite file."""
    return isinstance(error, sa.exc.IntegrityError) or engines.lost_a_race(error)


def _parts(values: Collection[str]) -> Iterator[list[str]]:
    ordered = sorted(values)
    for start in range(0, len(ordered), CHUNK_SIZE):
        yield ordered[start : start + CHUNK_SIZE]
