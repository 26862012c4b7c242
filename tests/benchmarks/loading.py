"""How fast documents become rows, beside the fastest that a database takes the very same rows.

Ours reads answers, or loads documents that were read before. The ceilings get the rows of all four tables
as our loader left them, in chunks of as many documents and transactions of their own, and do nothing but
insert: no look at what is there, no merging of documents into invoices. Then a warehouse grows to a million
rows, in all its tables together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

from airflow_provider_jdocr.core.documents import Document
from airflow_provider_jdocr.core.engines import engine_for
from airflow_provider_jdocr.core.ledger import Identity, StoredAnswer
from airflow_provider_jdocr.core.loading import load_answers, read
from airflow_provider_jdocr.core.warehouse import CHUNK_SIZE, Warehouse
from tests.benchmarks.bulk import copy
from tests.benchmarks.measure import Used, apart, measuring, peak_megabytes
from tests.benchmarks.rows import Row, Size
from tests.benchmarks.stage import QUIET, Kind, database, kinds

TODAY = date(2026, 3, 1)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
REPLY = Path(__file__).parents[1] / "core" / "replies" / "intsig_invoice.two_lines.json"
_Rows = Sequence[Mapping[str, Any]]
_Chunks = Sequence[Mapping[str, _Rows]]
_Write = Callable[[sa.Connection, sa.Table, _Rows], object]


@dataclass(frozen=True, slots=True)
class Load:
    documents: int
    grown: int
    step: int


GROWN: Sequence[Kind] = ("sqlite", "postgresql")
LOADS = {"small": Load(1_000, 3_000, 1_000), "full": Load(20_000, 250_000, 25_000)}


def run(size: Size, seed: int, say: Callable[[str], None]) -> Iterator[Row]:
    load = LOADS[size]
    for kind in kinds():
        for case, work in cases(kind).items():
            with database(kind) as found:
                say(f"{found.name}: {case}, {load.documents} documents")
                here = {"case": case, "database": kind, "server": found.name, "documents": load.documents}
                yield {**here, **apart(work, found.url, load.documents)}
    for kind in GROWN:
        with database(kind) as found:
            for step in range(load.step, load.grown + 1, load.step):
                said = {"case": "growth", "database": kind, "server": found.name, "documents": step}
                yield {**said, **apart(grow, found.url, step - load.step, step)}
                say(f"{found.name}: {step} documents")


def cases(kind: Kind) -> Mapping[str, Callable[[str, int], dict[str, Any]]]:
    copied = {"COPY and merge": partial(ceiling, write="copy")} if kind == "postgresql" else {}
    returned = {} if kind == "mysql" else {"insertmanyvalues": partial(ceiling, write="insertmanyvalues")}
    return {
        "answers, ours": answers_ours,
        "documents, ours": documents_ours,
        **returned,
        "executemany": partial(ceiling, write="executemany"),
        **copied,
    }


class Answers:
    """A ledger's answers without a ledger: what reading them costs is no part of loading."""

    def __init__(self) -> None:
        self._body = REPLY.read_bytes()
        self._number = _printed_number(self._body)

    def recognitions(self, identities: Iterable[Identity]) -> dict[Identity, StoredAnswer]:
        return {each: self._answer(each) for each in identities}

    def answers(self, identities: Sequence[Identity]) -> list[StoredAnswer]:
        return [self._answer(each) for each in identities]

    def _answer(self, identity: Identity) -> StoredAnswer:
        number = f"{20_000_000 + int(identity.sha256, 16)}"
        body = self._body.replace(self._number, number.encode())
        return StoredAnswer(identity, identity.sha256[-32:], NOON, "recognised", "10000", "ok", 200, body)


def _printed_number(body: bytes) -> bytes:
    """What the sample's invoice number is, so that each answer is another invoice."""
    found = read(_sample(body), ["s3://sample"], today=TODAY)
    assert found.invoice
    assert found.invoice.number
    return found.invoice.number.encode()


def _sample(body: bytes) -> StoredAnswer:
    return StoredAnswer(identity(0), "0", NOON, "recognised", "10000", "ok", 200, body)


def identity(number: int) -> Identity:
    return Identity("jd", "intsig_invoice", f"{number:064x}")


def documents(first: int, end: int) -> Iterator[Document]:
    """Read documents, each another invoice with two lines."""
    sample = read(_sample(REPLY.read_bytes()), ["s3://sample"], today=TODAY)
    assert sample.invoice
    for number in range(first, end):
        answer = replace(sample.answer, identity=identity(number), answer_id=f"{number:032x}")
        invoice = replace(sample.invoice, number=f"{20_000_000 + number}")
        yield replace(sample, answer=answer, invoice=invoice, uris=(f"s3://invoices/inbox/{number:07}.jpg",))


def answers_ours(url: str, count: int) -> dict[str, Any]:
    warehouse, ledger = _warehouse(url), Answers()
    items = ((identity(number), f"s3://invoices/inbox/{number:07}.jpg") for number in range(count))
    with measuring() as used:
        report = load_answers(ledger, warehouse, items, today=TODAY, log=QUIET)
    assert report.loaded == count, report
    return _rates(used, count, _count_rows(url))


def documents_ours(url: str, count: int) -> dict[str, Any]:
    warehouse, read_before = _warehouse(url), list(documents(0, count))
    with measuring() as used:
        report = warehouse.load(read_before)
    assert report.loaded == count, report
    return _rates(used, count, _count_rows(url))


def ceiling(url: str, count: int, write: str) -> dict[str, Any]:
    """What our loader left, once more, into tables of the same shape."""
    _warehouse(url).load(documents(0, count))
    other, engine = _warehouse(url, "raw_"), engine_for(url)
    chunks = list(_chunks(_warehouse(url), engine, count))
    writing = {"executemany": _executemany, "insertmanyvalues": _insertmanyvalues, "copy": _copy}[write]
    with measuring() as used:
        _write(engine, other, chunks, writing)
    return _rates(used, count, _count_rows(url, "raw_"))


def grow(url: str, first: int, end: int) -> dict[str, Any]:
    """The next step of a warehouse that holds `first` documents."""
    warehouse = _warehouse(url)
    began = time.perf_counter()
    report = warehouse.load(documents(first, end))
    seconds = time.perf_counter() - began
    assert report.loaded == end - first, report
    rate = round((end - first) / seconds, 1)
    return {"seconds": round(seconds, 2), "documents_a_second": rate, "peak_mb": round(peak_megabytes(), 1)}


def _warehouse(url: str, prefix: str = "jdocr_") -> Warehouse:
    warehouse = Warehouse(engine_for(url), prefix=prefix)
    warehouse.create()
    return warehouse


def _tables(warehouse: Warehouse) -> Sequence[sa.Table]:
    tables = warehouse.tables
    return tables.documents, tables.invoices, tables.lines, tables.findings


def _chunks(warehouse: Warehouse, engine: sa.Engine, count: int) -> Iterator[Mapping[str, _Rows]]:
    """All rows, as values of Python, those of so many documents together."""
    with engine.connect() as db:
        streams = {
            table.name.removeprefix("jdocr_"): iter(db.execute(table.select()).mappings().all())
            for table in _tables(warehouse)
        }
    share = {name: list(map(dict, rows)) for name, rows in streams.items()}
    number = max(1, -(-count // CHUNK_SIZE))
    for place in range(number):
        yield {
            name: rows[place * len(rows) // number : (place + 1) * len(rows) // number]
            for name, rows in share.items()
        }


def _write(engine: sa.Engine, warehouse: Warehouse, chunks: _Chunks, write: _Write) -> None:
    for chunk in chunks:
        with engine.begin() as db:
            for table in _tables(warehouse):
                if some := chunk[table.name.removeprefix("raw_")]:
                    write(db, table, some)


def _upsert(db: sa.Connection, table: sa.Table) -> Any:
    keys = [column.name for column in table.primary_key]
    others = [column.name for column in table.columns if not column.primary_key]
    if db.dialect.name == "mysql":
        inserted = mysql.insert(table)
        return inserted.on_duplicate_key_update({name: inserted.inserted[name] for name in others})
    insert = (postgresql if db.dialect.name == "postgresql" else sqlite).insert(table)
    return insert.on_conflict_do_update(
        index_elements=keys, set_={name: insert.excluded[name] for name in others}
    )


def _executemany(db: sa.Connection, table: sa.Table, some: _Rows) -> object:
    return db.execute(_upsert(db, table), list(some))


def _insertmanyvalues(db: sa.Connection, table: sa.Table, some: _Rows) -> object:
    """SQLAlchemy uses it where rows are to come back."""
    return db.execute(_upsert(db, table).returning(*table.primary_key), list(some)).all()


def _copy(db: sa.Connection, table: sa.Table, some: _Rows) -> object:
    aside = f"{table.name}_aside"
    db.exec_driver_sql(f'CREATE TEMPORARY TABLE "{aside}" (LIKE "{table.name}") ON COMMIT DROP')
    copy(db, table, aside, some)
    names = [column.name for column in table.columns]
    source = sa.table(aside, *(sa.column(name) for name in names))
    insert = postgresql.insert(table).from_select(names, sa.select(*source.columns))
    others = {each.name: insert.excluded[each.name] for each in table.columns if not each.primary_key}
    keys = [column.name for column in table.primary_key]
    return db.execute(insert.on_conflict_do_update(index_elements=keys, set_=others))


def _count_rows(url: str, prefix: str = "jdocr_") -> int:
    engine = engine_for(url)
    with engine.connect() as db:
        counts = [
            db.scalar(sa.select(sa.func.count()).select_from(table)) or 0
            for table in _tables(Warehouse(engine, prefix=prefix))
        ]
    engine.dispose()
    return sum(counts)


def _rates(used: Used, count: int, row_count: int) -> dict[str, Any]:
    return {
        "rows": row_count,
        "seconds": round(used.seconds, 3),
        "cpu_seconds": round(used.cpu_seconds, 3),
        "documents_a_second": round(count / used.seconds, 1),
        "rows_a_second": round(row_count / used.seconds, 1),
    }
