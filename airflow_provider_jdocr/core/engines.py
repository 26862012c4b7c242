"""Engines for ledger and warehouse, and all in which the databases differ: locks, clock, upsert, errors.

- SQLite: write-ahead log, immediate transactions, durable commits, the file its owner's alone.
- PostgreSQL through psycopg 3, without anything that the transactions of a pooler break.
- MySQL and MariaDB through PyMySQL: InnoDB, READ COMMITTED, strict, utf8mb4, times in UTC, whatever the
  server's defaults are; only what both of them know.

What follows here is the same for whoever calls it.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, Literal, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.sql import visitors

from airflow_provider_jdocr.core.client import MAX_REPLY_BYTES
from airflow_provider_jdocr.core.errors import ConfigurationError, LedgerError, LedgerUnavailable

SQLITE_PATIENCE_SECONDS = 30.0
MYSQL_PATIENCE_SECONDS = 30
MYSQL_PACKET_BYTES = 4 * MAX_REPLY_BYTES
"""The longest statement that a reply may need: every byte of it may take two, and a text stands beside it."""

Dialect = Literal["sqlite", "postgresql", "mysql"]
DIALECTS: Mapping[str, Callable[[], sa.Dialect]] = {
    "sqlite": sqlite.dialect,
    "postgresql": postgresql.dialect,
    "mysql": mysql.dialect,
}
QUICK_TRIES = 6
QUICK_SECONDS = 5.0
"""How often, and for how long, a transaction that a database took back is repeated at once."""

# As many connections as there are threads: a paid reply must not wait for a place in a queue. The parameters
# of a statement are no business of a traceback.
_POOL: dict[str, Any] = {"max_overflow": -1, "hide_parameters": True}
# A server whose machine is gone sends nothing, not even that the connection is closed.
_POSTGRESQL_ARGUMENTS = {"prepare_threshold": None, "connect_timeout": 10, "tcp_user_timeout": 60_000}
_MYSQL_SESSION = (
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00', "
    f"innodb_lock_wait_timeout = {MYSQL_PATIENCE_SECONDS}, wait_timeout = 600"
)
_MYSQL_ARGUMENTS: dict[str, Any] = {
    "charset": "utf8mb4",
    "init_command": _MYSQL_SESSION,
    "connect_timeout": 10,
    "read_timeout": 2 * MYSQL_PATIENCE_SECONDS,
    "write_timeout": 2 * MYSQL_PATIENCE_SECONDS,
}
_T = TypeVar("_T")
_SCHEMA_LOCK = 0x6A646F6372  # "jdocr"
_SCHEMA_LOCK_SECONDS = 50
_FORBIDDEN = frozenset({"42501", 1044, 1142})
# No such database, user, table or column, or no database at all: said as if it were the weather.
_FINAL = _FORBIDDEN | {1045, 1049, 1054, "SQLITE_ERROR", "SQLITE_CORRUPT", "SQLITE_NOTADB"}
_LOST_RACES = frozenset({"40001", "40P01", 1205, 1213})
_ON_CONFLICT: Mapping[str, Callable[[sa.Table], Any]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}
_CLOCKS: Mapping[str, sa.ColumnElement[float]] = {
    "sqlite": sa.literal_column("((julianday('now') - 2440587.5) * 86400.0)", sa.Double),
    # Not now(): that is when the transaction began, which a wait for a lock leaves behind.
    "postgresql": sa.literal_column(
        "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)", sa.Double
    ),
    # Nor NOW(), for the same reason.
    "mysql": sa.literal_column("(UNIX_TIMESTAMP(SYSDATE(6)) + 0e0)", sa.Double),
}


def engine_for(url: str | sa.URL, **options: Any) -> sa.Engine:
    """An engine as ledger and warehouse need it. Options are those of `create_engine`."""
    address = sa.make_url(url)
    given = options.pop("connect_args", {})
    match address.get_backend_name():
        case "sqlite":
            return _sqlite_engine(address, connect_args=given, **options)
        case "postgresql":
            return _server_engine(
                address.set(drivername="postgresql+psycopg"), _POSTGRESQL_ARGUMENTS | given, options
            )
        case "mysql" | "mariadb":
            level = {"isolation_level": "READ COMMITTED"}
            return _server_engine(
                address.set(drivername="mysql+pymysql"), _MYSQL_ARGUMENTS | given, level | options
            )
        case other:
            raise _not_among_ours(other)


def _server_engine(address: sa.URL, arguments: Mapping[str, Any], options: Mapping[str, Any]) -> sa.Engine:
    return sa.create_engine(address, connect_args=dict(arguments), **(_POOL | dict(options)))


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


def repeated(engine: sa.Engine, work: Callable[[], _T]) -> _T:
    """What `work` gives, which is a transaction of its own; done again at once where another was in its way
    or its connection broke.

    A commit may have been done although nobody said so: `work` has to know its own rows again. Raises
    `LedgerUnavailable` where the database stays away, `LedgerError` where it refuses.
    """
    ends = time.monotonic() + QUICK_SECONDS
    for number in count(1):
        try:
            return work()
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            said = f"the ledger at {place(engine)} {{}}: {reason(error)}. Nothing is sent without it"
            if not may_pass(error):
                raise LedgerError(said.format("refused")) from error
            if number >= QUICK_TRIES or time.monotonic() >= ends:
                raise LedgerUnavailable(said.format("cannot be reached")) from error
        time.sleep(0.01 * 2**number * (0.5 + random.random()))  # noqa: S311  spreads those who met
    raise AssertionError("unreachable: the numbers do not end")


def may_pass(error: Exception) -> bool:
    """Whether the same may work in a while: the database was away, or busy, or took a transaction back."""
    if not isinstance(error, sa.exc.DBAPIError):
        return isinstance(error, sa.exc.TimeoutError)
    # PostgreSQL calls it internal when a server that is about to be promoted is still read-only.
    weather = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.InternalError)
    passing = isinstance(error, weather) or error.connection_invalidated or lost_a_race(error)
    return passing and code_of(error) not in _FINAL


def place(engine: sa.Engine) -> str:
    """Where a database is, without its user and password."""
    url = engine.url
    host = url.host or url.query.get("host") or url.query.get("unix_socket") or ""
    return f"{url.get_backend_name()} {host}{f':{url.port}' if url.port else ''}/{url.database or ''}"


def reason(error: Exception) -> str:
    """What the database says, in one line."""
    origin = getattr(error, "orig", None) or error
    text = next((each for each in reversed(origin.args) if isinstance(each, str)), str(origin))
    return text.strip().partition("\n")[0].rstrip(".") or type(origin).__name__


def refuse_unknown(engine: sa.Engine) -> None:
    """Raises `ConfigurationError` for a database that the ledger does not run on."""
    if engine.dialect.name not in DIALECTS:
        raise _not_among_ours(engine.dialect.name)


def refuse_small_packets(db: sa.Connection, argument: str) -> None:
    """Raises `ConfigurationError` for a MySQL that would refuse a long reply when it is too late."""
    if db.dialect.name != "mysql":
        return
    found = int(db.execute(sa.text("SELECT @@session.max_allowed_packet")).scalar_one())
    if found < MYSQL_PACKET_BYTES:
        raise ConfigurationError(
            f"{argument}: the database takes statements of {found} bytes (max_allowed_packet), and with a "
            f"long reply they have up to {MYSQL_PACKET_BYTES}. Set it to that in the configuration",
            field=argument,
        )


def autocommitting(engine: sa.Engine) -> sa.Engine:
    """The engine for transactions of one statement, which commit themselves where that is possible."""
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
    """A transaction in which nobody else makes tables."""
    with _mysql_schema_lock(engine) if engine.dialect.name == "mysql" else engine.begin() as db:
        if db.dialect.name == "postgresql":
            db.execute(sa.select(sa.func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
        yield db  # in SQLite every transaction that writes is alone


@contextmanager
def _mysql_schema_lock(engine: sa.Engine) -> Iterator[sa.Connection]:
    """MySQL makes tables at once and for good, so the lock is the session's, and given back after all."""
    # Names of locks are the server's, not the database's.
    name = sa.func.concat(f"{_SCHEMA_LOCK:x}:", sa.func.md5(sa.func.database()))
    with engine.connect() as db:
        if db.scalar(sa.select(sa.func.get_lock(name, _SCHEMA_LOCK_SECONDS))) != 1:
            raise LedgerUnavailable(f"somebody else has been making tables for {_SCHEMA_LOCK_SECONDS} s")
        try:
            yield db
            db.commit()
        finally:
            with suppress(sa.exc.DBAPIError):  # a connection that broke has let go of it
                db.rollback()
                db.execute(sa.select(sa.func.release_lock(name)))


def is_forbidden(error: sa.exc.DBAPIError) -> bool:
    """Whether the database refused because its user has no right to do that."""
    return code_of(error) in _FORBIDDEN


def lost_a_race(error: sa.exc.DBAPIError) -> bool:
    """Whether the transaction was taken back because another was in its way: deadlock, serialization, a lock
    that was not had in time.
    """
    code = code_of(error)
    return code in _LOST_RACES or str(code).startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def code_of(error: sa.exc.DBAPIError) -> str | int | None:
    """The database's own code: MySQL's number, PostgreSQL's SQLSTATE, SQLite's name."""
    origin: Any = error.orig
    number = next((each for each in getattr(origin, "args", ()) if isinstance(each, int)), None)
    return number or getattr(origin, "sqlstate", None) or getattr(origin, "sqlite_errorname", None)


def insert_absent(db: sa.Connection, table: sa.Table, row: Mapping[str, Any]) -> None:
    """Inserts `row` unless a row with one of its unique keys is there."""
    if db.dialect.name == "mysql":
        # INSERT IGNORE would let pass what is wrong with a row, too.
        key = next(iter(table.primary_key))
        db.execute(mysql.insert(table).on_duplicate_key_update({key.name: key}), [dict(row)])
    else:
        db.execute(_ON_CONFLICT[db.dialect.name](table).on_conflict_do_nothing(), [dict(row)])


class InsertNew:
    """Inserts a row unless one with one of its unique keys is there, and gives its `id`; None: one is."""

    def __init__(self, table: sa.Table, values: Mapping[str, Any], ours: sa.ColumnElement[bool]) -> None:
        """`ours`: what only a row of this writer has."""
        self._inserts = {
            name: insert(table).values(values).on_conflict_do_nothing().returning(table.c.id)
            for name, insert in _ON_CONFLICT.items()
        }
        self._mysql = mysql.insert(table).values(values).on_duplicate_key_update({"id": table.c.id})
        self._ours = sa.select(table.c.id).where(ours)

    def run(self, db: sa.Connection, parameters: Mapping[str, Any]) -> int | None:
        if db.dialect.name in self._inserts:
            found = db.scalar(self._inserts[db.dialect.name], parameters)
        else:
            # An update that changes nothing counts as a row, so only what is there then tells whose it is.
            db.execute(self._mysql, parameters)
            found = db.scalar(self._ours, parameters)
        return None if found is None else int(found)


def upsert(
    db: sa.Connection,
    table: sa.Table,
    rows: Sequence[Mapping[str, Any]],
    unless: Callable[[Any], sa.ColumnElement[bool]] | None = None,
) -> None:
    """Inserts `rows`; where the primary key is there already, sets every other column, `unless` that says of
    the new row that it is not wanted. `unless` may look at one column of the old row, and binds no values.
    """
    keys = [column.name for column in table.primary_key]
    names = [name for name in rows[0] if name not in keys]
    # In the order of the keys, in which everybody locks them.
    ordered = sorted((dict(row) for row in rows), key=lambda row: tuple(row[key] for key in keys))
    if db.dialect.name == "mysql":
        db.execute(_mysql_upsert(table, names, unless), ordered)
        return
    given: Any = ordered
    insert: Any = _ON_CONFLICT[db.dialect.name](table)
    if db.dialect.name == "postgresql":
        # An array a column: one statement that is planned once, however many rows there are.
        insert = insert.from_select(list(ordered[0]), _unnested([table.c[name] for name in ordered[0]]))
        given = {name: [row[name] for row in ordered] for name in ordered[0]}
    changed = insert.on_conflict_do_update(
        index_elements=keys,
        set_={name: insert.excluded[name] for name in names},
        where=sa.not_(unless(insert.excluded)) if unless else None,
    )
    db.execute(changed, given)


def _unnested(columns: Iterable[sa.Column[Any]]) -> sa.Select[Any]:
    arrays = (sa.bindparam(each.name, type_=postgresql.ARRAY(each.type)) for each in columns)
    return sa.select(*(sa.func.unnest(each).label(each.key) for each in arrays))


def among(column: sa.Column[Any], values: Sequence[Any], dialect: sa.Dialect) -> sa.ColumnElement[bool]:
    """Whether `column` is one of `values`, of which there may be hundreds."""
    if dialect.name == "postgresql":
        # One parameter: the statement is planned once, however many values there are.
        return column == sa.any_(sa.bindparam(None, list(values), type_=postgresql.ARRAY(column.type)))
    return column.in_(values)


def _mysql_upsert(
    table: sa.Table, names: Sequence[str], unless: Callable[[Any], sa.ColumnElement[bool]] | None
) -> sa.Insert:
    insert = mysql.insert(table)
    new = insert.inserted
    if unless is None:
        return insert.on_duplicate_key_update([(name, new[name]) for name in names])
    kept = unless(new)
    # MySQL sets one column after the other and sees what it has set, so what decides is set last.
    decides = {
        each.name for each in visitors.iterate(kept) if isinstance(each, sa.Column) and each.table is table
    }
    last = sorted(names, key=lambda name: name in decides)
    values = [(name, sa.case((kept, table.c[name]), else_=new[name])) for name in last]
    return insert.on_duplicate_key_update(values)


class UpdateOne:
    """Updates the row `which`, if `where` holds, and gives what is `wanted` of it then; None: it did not.

    One statement where the database answers to an UPDATE; else two, between which the row is locked.
    """

    def __init__(
        self,
        table: sa.Table,
        which: sa.ColumnElement[bool],
        where: sa.ColumnElement[bool],
        values: Mapping[str, Any],
        wanted: Sequence[sa.ColumnElement[Any]],
    ) -> None:
        self._update = table.update().where(which, where).values(values)
        self._answering = self._update.returning(*wanted)
        self._look = sa.select(*wanted).where(which)

    def run(self, db: sa.Connection, parameters: Mapping[str, Any]) -> sa.Row[Any] | None:
        if db.dialect.update_returning:
            return db.execute(self._answering, parameters).first()
        if db.execute(self._update, parameters).rowcount == 0:
            return None
        return db.execute(self._look, parameters).one()


def _not_among_ours(name: str) -> ConfigurationError:
    return ConfigurationError(
        f"the ledger runs on {', '.join(sorted(DIALECTS))} and mariadb; {name} is not among them. "
        "Point ledger_conn_id at one of those.",
        field="ledger_conn_id",
    )
