"""A ledger moves to another database, or into a file: every row, in one piece, compared afterwards.

What is copied is one moment of the source: a single transaction reads it while workers may go on. What they
write after that moment is not in the copy, and the pictures that they pay for would be paid again by whoever
goes on with the copy. So a source that is in use is refused, unless the caller says that it is meant.

The target is empty before and complete after: all rows are written, read back and compared, count and
digest, in one transaction, which is given up where anything differs.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from airflow_provider_jdocr.core import engines, schema
from airflow_provider_jdocr.core.errors import ConfigurationError, LedgerError
from airflow_provider_jdocr.core.ledger import Ledger

_ROWS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Copied:
    """A table that is the same on both sides: how many rows, and a digest of what they say."""

    table: str
    rows: int
    digest: str


class _Contents:
    """What a table holds, whatever the order in which its rows come."""

    def __init__(self) -> None:
        self.rows = 0
        self._sum = 0

    def add(self, row: Mapping[str, Any]) -> None:
        said = repr([(name, _plain(row[name])) for name in sorted(row)])
        self._sum += int.from_bytes(hashlib.sha256(said.encode("utf-8", "surrogatepass")).digest())
        self.rows += 1

    @property
    def digest(self) -> str:
        return f"{self._sum % 2**256:064x}"


def copy(source: Ledger, target: sa.Engine, *, even_in_use: bool = False) -> list[Copied]:
    """Copies every table into a database that holds no ledger yet, or an empty one.

    Raises `ConfigurationError` where the target holds rows or the source is in use, `LedgerError` where the
    copy is not what was read; the target is empty then.
    """
    schema.create(target)
    with _snapshot(source.engine) as read:
        if not even_in_use:
            _refuse_use(read, source)
        with target.begin() as written:
            _refuse_rows(written)
            copied = [_copy_table(table, read, written) for table in _tables()]
            _go_on_counting(written)
    return copied


def back_up(source: Ledger, path: Path) -> int:
    """Writes a SQLite ledger into a new file, by SQLite's own online backup: workers go on meanwhile, and
    the file is one moment of the ledger. Gives its size in bytes. The file is readable by its owner alone.
    """
    if source.engine.dialect.name != "sqlite":
        raise ConfigurationError(
            f"backup: this ledger is in {source.engine.dialect.name}, which has tools of its own (pg_dump, "
            "mariadb-dump). Use those; see the operations page.",
            field="ledger_conn_id",
        )
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        raise ConfigurationError(
            f"backup: {path} is there already. Name another file, or remove it.", field="path"
        ) from None
    with source.engine.connect() as db, closing(sqlite3.connect(path)) as file:
        raw: Any = db.connection.driver_connection
        raw.backup(file)
        (found,) = file.execute("PRAGMA integrity_check").fetchone()
    if found != "ok":
        raise LedgerError(f"backup: SQLite says of {path}: {found}")
    return path.stat().st_size


def _tables() -> Iterator[sa.Table]:
    """Those with rows of their own, in the order of their foreign keys."""
    return (table for table in schema.metadata.sorted_tables if table is not schema.meta)


@contextmanager
def _snapshot(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One moment of a database, for as long as it is read."""
    with engines.reading(engine) as db:
        if engine.dialect.name != "sqlite":  # there a reading transaction is a snapshot anyway
            db.execution_options(isolation_level="REPEATABLE READ")
        with db.begin():
            yield db


def _refuse_use(db: sa.Connection, source: Ledger) -> None:
    columns = schema.recognition.c
    leased = (columns.state.in_(["claimed", "sending"])) & (columns.lease_until > source.now())
    held = db.scalar(sa.select(sa.func.count()).where(leased))
    if held:
        raise ConfigurationError(
            f"copy: {held} images are being asked for in the source at this moment. Pause the DAGs and wait "
            "until their tasks have ended; what they pay for after the copy would be paid again.",
            field="source",
        )


def _refuse_rows(db: sa.Connection) -> None:
    for table in _tables():
        if db.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first():
            raise ConfigurationError(
                f"copy: {table.name} of the target holds rows. Copy into an empty database.", field="target"
            )


def _copy_table(table: sa.Table, read: sa.Connection, written: sa.Connection) -> Copied:
    there, here = _Contents(), _Contents()
    for rows in _streamed(read, table):
        for row in rows:
            there.add(row)
        written.execute(table.insert(), rows)
    for rows in _streamed(written, table):
        for row in rows:
            here.add(row)
    if (there.rows, there.digest) != (here.rows, here.digest):
        raise LedgerError(
            f"copy: {table.name} has {there.rows} rows in the source and {here.rows} in the target, or they "
            "differ. Nothing was kept."
        )
    return Copied(table.name, here.rows, here.digest)


def _streamed(db: sa.Connection, table: sa.Table) -> Iterator[list[dict[str, Any]]]:
    query = sa.select(table).execution_options(yield_per=_ROWS_AT_ONCE)
    yield from ([{**row} for row in part] for part in db.execute(query).mappings().partitions())


def _go_on_counting(db: sa.Connection) -> None:
    """Rows came with their numbers; the next new one must not take a number that is there."""
    if db.dialect.name == "postgresql":
        column = schema.recognition.c.id
        sequence = sa.func.pg_get_serial_sequence(schema.recognition.name, column.name)
        highest = sa.select(sa.func.max(column)).scalar_subquery()
        db.execute(sa.select(sa.func.setval(sequence, sa.func.coalesce(highest, 0) + 1, False)))


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview | bytearray) else value


def summary(copied: Iterable[Copied]) -> str:
    return ", ".join(f"{table.rows} {table.table.removeprefix('jdocr_')}" for table in copied)
