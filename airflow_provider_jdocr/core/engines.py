"""Engines for ledger and warehouse, and all in which the databases differ: locks, clock, upsert, errors.

SQLite in WAL with immediate transactions and durable commits; PostgreSQL through psycopg 3, without anything
that the transactions of a pooler break. What follows here is the same for whoever calls it.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from airflow_provider_jdocr.core.errors import ConfigurationError

SQLITE_PATIENCE_SECONDS = 30.0

Dialect = Literal["sqlite", "postgresql"]
DIALECTS: Mapping[str, Callable[[], sa.Dialect]] = {
    "sqlite": sqlite.dialect,
    "postgresql": postgresql.dialect,
}
MAY_PASS = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError)
"""What a database that is away for a while gives rise to."""

# As many connections as there are threads: a paid reply must not wait for a place in a queue. The parameters
# of a statement are no business of a traceback.
_POOL: dict[str, Any] = {"max_overflow": -1, "hide_parameters": True}
_ADVISORY_LOCK = 0x6A646F6372  # "jdocr"
_INSERT: Mapping[str, Callable[[sa.Table], Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_CLOCKS: Mapping[str, sa.ColumnElement[float]] = {
    "sqlite": sa.literal_column("((julianday('now') - 2440587.5) * 86400.0)", sa.Double),
    # Not now(): that is when the transaction began, which a wait for a lock leaves behind.
    "postgresql": sa.literal_column(
        "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)", sa.Double
    ),
}


def engine_for(url: str | sa.URL, **options: Any) -> sa.Engine:
    """An engine as the ledger needs it: SQLite in WAL with immediate transactions and a durable commit, mode
    0600; PostgreSQL through psycopg 3 without server-side prepared statements, which PgBouncer's
    transactions break."""
    address = sa.make_url(url)
    match address.get_backend_name():
        case "sqlite":
            return _sqlite_engine(address, **options)
        case "postgresql":
            arguments = {"prepare_threshold": None} | options.pop("connect_args", {})
            address = address.set(drivername="postgresql+psycopg")
            return sa.create_engine(address, pool_pre_ping=True, connect_args=arguments, **(_POOL | options))
        case other:
            raise _not_among_ours(other)


def _sqlite_engine(address: sa.URL, **options: Any) -> sa.Engine:
    if not address.database or not Path(address.database).is_absolute():
        raise ConfigurationError(
            f"the ledger's SQLite file needs an absolute path; got {address.database!r}. "
            "Write sqlite:////var/lib/airflow/jdocr_ledger.db, with four slashes.",
            field="ledger_conn_id",
        )
    # Created here, so that the ledger and its journals are readable by their owner alone.
    os.close(os.open(address.database, os.O_CREAT | os.O_RDWR, 0o600))
    engine = sa.create_engine(address, **(_POOL | options))

    @sa.event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        for pragma in (
            f"busy_timeout={SQLITE_PATIENCE_SECONDS * 1000:.0f}",
            "synchronous=FULL",
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")
        _turn_to_wal(connection)

    @sa.event.listens_for(engine, "begin")
    def _begun(db: sa.Connection) -> None:
        # A deferred transaction that reads and then writes loses updates or fails as locked.
        reading = db.get_execution_options().get("jdocr_reading")
        db.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def _turn_to_wal(connection: sqlite3.Connection) -> None:
    """Write-ahead logging, which a file keeps once it has it. Turning to it needs the file alone and does not
    wait for that by itself, so of several processes that open a new ledger all but one try again.
    """
    ends = time.monotonic() + SQLITE_PATIENCE_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").fetchone()
        except sqlite3.OperationalError:
            if time.monotonic() >= ends:
                raise
            time.sleep(0.01)
        else:
            return


def refuse_unknown(engine: sa.Engine) -> None:
    """Raises `ConfigurationError` for a database that the ledger does not run on."""
    if engine.dialect.name not in DIALECTS:
        raise _not_among_ours(engine.dialect.name)


def autocommitting(engine: sa.Engine) -> sa.Engine:
    """The engine for single statements that commit themselves."""
    # SQLite's driver would leave immediate transactions behind it when its isolation level is touched.
    autocommit = {"isolation_level": "AUTOCOMMIT"} if engine.dialect.name == "postgresql" else {}
    return engine.execution_options(**autocommit)


def reading(engine: sa.Engine) -> sa.Connection:
    """A connection that only reads: in SQLite it waits for no writer."""
    return engine.connect().execution_options(jdocr_reading=True)


def clock(dialect: sa.Dialect) -> sa.ColumnElement[float]:
    """Seconds since the epoch at the moment a statement asks, as SQL."""
    return _CLOCKS[dialect.name]


def whole(dialect: sa.Dialect, number: sa.ColumnElement[float]) -> sa.ColumnElement[int]:
    """A positive number without its fraction, as SQL."""
    # SQLite has FLOOR only where it was built with it; elsewhere a cast rounds.
    return sa.cast(number if dialect.name == "sqlite" else sa.func.floor(number), sa.BigInteger)


@contextmanager
def schema_lock(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction in which nobody else makes tables. In SQLite any writing transaction is alone."""
    with engine.begin() as db:
        if db.dialect.name == "postgresql":
            db.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        yield db


def is_forbidden(error: sa.exc.DBAPIError) -> bool:
    """Whether the database refused because its user has no right to do that."""
    return getattr(error.orig, "sqlstate", None) == "42501"


def insert_absent(db: sa.Connection, table: sa.Table, row: Mapping[str, Any]) -> None:
    """Inserts `row` unless a row with one of its unique keys is there."""
    db.execute(_INSERT[db.dialect.name](table).on_conflict_do_nothing(), [dict(row)])


def upsert(
    db: sa.Connection,
    table: sa.Table,
    rows: Sequence[Mapping[str, Any]],
    unless: Callable[[Any], sa.ColumnElement[bool]] | None = None,
) -> None:
    """Inserts `rows`; where the primary key is there already, sets every other column, `unless` that says of
    the new row that it is not wanted.
    """
    insert = _INSERT[db.dialect.name](table)
    keys = [column.name for column in table.primary_key]
    changed = insert.on_conflict_do_update(
        index_elements=keys,
        set_={name: insert.excluded[name] for name in rows[0] if name not in keys},
        where=sa.not_(unless(insert.excluded)) if unless else None,
    )
    db.execute(changed, list(rows))


def _not_among_ours(name: str) -> ConfigurationError:
    return ConfigurationError(
        f"the ledger runs on {' and '.join(sorted(DIALECTS))}; {name} is not among them. "
        "Point ledger_conn_id at one of those.",
        field="ledger_conn_id",
    )
