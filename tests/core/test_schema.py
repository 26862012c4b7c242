"""The tables of the ledger come to be once, are upgraded with all that is in them, and refuse older code."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from airflow_provider_jdocr.core import schema, views
from airflow_provider_jdocr.core.engines import engine_for
from airflow_provider_jdocr.core.errors import LedgerSchemaError
from airflow_provider_jdocr.core.ledger import Busy, Claim, Held, Ledger, Settled, SettledAlready
from airflow_provider_jdocr.core.rate import nominal_seconds
from airflow_provider_jdocr.core.schema import SCHEMA_VERSION, ddl
from tests.core import ledgers, past
from tests.core.ledgers import GOOD, OTHER_RUN, RUN, Clock, identity

ACCOUNT = ledgers.account()


@pytest.fixture
def another_engine(another_database_url: str) -> Iterator[sa.Engine]:
    made = engine_for(another_database_url)
    yield made
    made.dispose()


@pytest.fixture
def engines(database_url: str) -> Iterator[list[sa.Engine]]:
    """Four that know nothing of each other, as in as many processes."""
    made = [engine_for(database_url) for _ in range(4)]
    yield made
    for engine in made:
        engine.dispose()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def run_script(engine: sa.Engine, script: str) -> None:
    with engine.begin() as db:
        for statement in filter(str.strip, script.split(";\n")):
            db.execute(sa.text(statement))


def shape(engine: sa.Engine) -> dict[str, Any]:
    """Tables as the database describes them: columns in any order, indexes, keys."""
    found = sa.inspect(engine)
    return {
        name: (
            {
                column["name"]: (str(column["type"]), column["nullable"], column["default"])
                for column in found.get_columns(name)
            },
            sorted((index["name"] or "", tuple(index["column_names"])) for index in found.get_indexes(name)),
            found.get_pk_constraint(name)["constrained_columns"],
        )
        for name in found.get_table_names()
    } | {name: found.get_view_definition(name) for name in found.get_view_names()}


def test_creating_twice_changes_nothing(engine: sa.Engine) -> None:
    Ledger(engine).create()
    before = shape(engine)
    assert isinstance(Ledger(engine).claim(identity(), RUN), Claim)
    Ledger(engine).create()
    assert shape(engine) == before
    assert isinstance(Ledger(engine).claim(identity(), RUN), Busy)


def test_a_newer_schema_is_refused_naming_both_versions(engine: sa.Engine) -> None:
    Ledger(engine).create()
    run_script(engine, "UPDATE jdocr_meta SET value = '99'")
    with pytest.raises(LedgerSchemaError, match=rf"schema version 99.*knows {SCHEMA_VERSION}") as refused:
        Ledger(engine).create()
    assert (refused.value.found, refused.value.expected) == (99, SCHEMA_VERSION)


def test_the_printed_statements_make_what_creating_makes(
    engine: sa.Engine, another_engine: sa.Engine
) -> None:
    run_script(engine, ddl(engine.dialect.name))  # type: ignore[arg-type]
    Ledger(another_engine).create()
    assert shape(engine) == shape(another_engine)
    Ledger(engine).create()
    assert isinstance(Ledger(engine).claim(identity(), RUN), Claim)


def test_many_workers_may_create_the_tables_at_once(engines: list[sa.Engine]) -> None:
    at_once(engines)
    assert isinstance(Ledger(engines[0]).claim(identity(), RUN), Claim)


def at_once(engines: list[sa.Engine]) -> None:
    barrier = threading.Barrier(len(engines))

    def create(engine: sa.Engine) -> None:
        barrier.wait()
        Ledger(engine).create()

    with ThreadPoolExecutor(len(engines)) as pool:
        list(pool.map(create, engines))


@pytest.mark.parametrize("version", past.VERSIONS)
def test_every_row_of_an_older_ledger_is_there_after_the_upgrade(engine: sa.Engine, version: int) -> None:
    past.create(engine, version)
    Ledger(engine).create()
    with engine.connect() as db:
        for name, rows in past.rows_of_every_table(version).items():
            columns: list[Any] = [sa.column(column) for column in rows[0]]
            found = db.execute(sa.select(*columns).select_from(sa.table(name))).mappings().all()
            assert sorted(map(repr, map(plain, found))) == sorted(map(repr, map(plain, rows)))


def plain(row: Any) -> dict[str, Any]:
    """Booleans as the number that SQLite keeps."""
    return {name: int(value) if isinstance(value, bool) else value for name, value in row.items()}


@pytest.mark.parametrize("version", past.VERSIONS)
def test_an_older_ledger_goes_on_after_the_upgrade(engine: sa.Engine, clock: Clock, version: int) -> None:
    """Nothing settled is asked again, what was in doubt is in doubt, and leases hold as long as they did."""
    past.create(engine, version)
    ledger = Ledger(engine, clock=clock)
    ledger.create()
    for name, settled in (("answered", Settled.ANSWERED), ("failed", Settled.FAILED)):
        answer = ledger.claim(identity(name), OTHER_RUN)
        assert isinstance(answer, SettledAlready)
        assert answer.recognition.settled is settled
    assert isinstance(ledger.claim(identity("doubtful"), OTHER_RUN, in_doubt="hold"), Held)
    assert ledger.claim(identity("claimed"), OTHER_RUN) == Busy(60.0)
    assert ledger.claim(identity("sending"), OTHER_RUN) == Busy(60.0)
    assert [answer.body for answer in ledger.answers([identity("answered")])] == [GOOD.body]
    assert [outcome.uri for outcome in ledger.outcomes(RUN)] == ["s3://bucket/发票.jpg"]
    quota = ledger.quota(ACCOUNT)
    assert (quota.used, quota.remaining) == (4, 96)
    ledger.take_slot(ACCOUNT)
    assert ledger.take_slot(ACCOUNT).seconds == pytest.approx(nominal_seconds(ACCOUNT.qps) / 0.5, abs=1e-4)
    assert (ledger.cost(RUN).calls, ledger.cost(RUN).charged) == (5, 2)
    assert isinstance(ledger.claim(identity("new"), OTHER_RUN), Claim)


@pytest.mark.parametrize("version", past.VERSIONS)
def test_the_printed_upgrade_makes_what_upgrading_makes(
    engine: sa.Engine, another_engine: sa.Engine, version: int
) -> None:
    for each in (engine, another_engine):
        past.create(each, version)
    run_script(engine, ddl(engine.dialect.name, since=version))  # type: ignore[arg-type]
    Ledger(another_engine).create()
    assert shape(engine) == shape(another_engine)
    Ledger(engine).create()


@pytest.mark.parametrize("version", past.VERSIONS)
def test_an_upgraded_ledger_has_the_shape_of_a_new_one(
    engine: sa.Engine, another_engine: sa.Engine, version: int
) -> None:
    past.create(engine, version)
    for each in (engine, another_engine):
        Ledger(each).create()
    assert shape(engine) == shape(another_engine)


@pytest.mark.parametrize("version", past.VERSIONS)
def test_an_upgrade_that_was_broken_off_is_finished_by_the_next(
    engine: sa.Engine, another_engine: sa.Engine, version: int
) -> None:
    """Where the database cannot take back what a broken transaction did to its tables."""
    *steps, _version, _end = ddl(engine.dialect.name, since=version).split(";\n")  # type: ignore[arg-type]
    for done in range(len(steps) + 1):
        run_script(engine, ";\n".join(f"DROP VIEW IF EXISTS {name}" for name in views.NAMES))
        with engine.begin() as db:
            schema.metadata.drop_all(db)
        past.create(engine, version)
        run_script(engine, ";\n".join(steps[:done]))
        Ledger(engine).create()
    Ledger(another_engine).create()
    assert shape(engine) == shape(another_engine)


@pytest.mark.parametrize("version", past.VERSIONS)
def test_workers_that_upgrade_at_once_upgrade_once(engines: list[sa.Engine], version: int) -> None:
    past.create(engines[0], version)
    at_once(engines)
    with engines[0].connect() as db:
        found = db.execute(sa.text("SELECT value FROM jdocr_meta")).scalars().all()
    assert found == [str(SCHEMA_VERSION)]


@pytest.mark.parametrize("version", past.VERSIONS)
def test_a_process_of_an_older_version_that_is_still_at_work_writes_on_after_the_upgrade(
    engine: sa.Engine, version: int
) -> None:
    past.create(engine, version)
    Ledger(engine).create()
    for name, rows in past.rows_of_every_table(version, prefix="later").items():
        past.insert(engine, name, rows)
    assert [answer.body for answer in Ledger(engine).answers([identity("lateranswered")])] == [GOOD.body]


@pytest.fixture
def owner(postgres_url: str) -> Iterator[sa.Engine]:
    made = engine_for(postgres_url)
    yield made
    made.dispose()


@pytest.fixture
def worker(owner: sa.Engine, postgres_url: str) -> Iterator[sa.Engine]:
    """The same database for a user who may read and write what is there, and make nothing."""
    role, made = owner.url.database, engine_for(postgres_url)

    @sa.event.listens_for(made, "connect")
    def _become(connection: Any, _record: object) -> None:
        connection.execute(f"SET ROLE {role}")
        connection.commit()

    run_script(owner, f"CREATE ROLE {role}")
    yield made
    made.dispose()
    run_script(owner, f"DROP OWNED BY {role};\nDROP ROLE {role}")


def test_who_may_not_make_tables_is_told_which_statements_to_have_run(
    owner: sa.Engine, worker: sa.Engine
) -> None:
    with pytest.raises(LedgerSchemaError, match=r"has no tables yet.*ddl\('postgresql'\)"):
        Ledger(worker).create()
    past.create(owner, 1)
    role = owner.url.database
    run_script(owner, f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {role}")
    run_script(owner, f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}")
    told = rf"version 1, .*needs {SCHEMA_VERSION}.*ddl\('postgresql', since=1\)"
    with pytest.raises(LedgerSchemaError, match=told) as refused:
        Ledger(worker).create()
    assert (refused.value.found, refused.value.expected) == (1, SCHEMA_VERSION)
    run_script(owner, ddl("postgresql", since=1))
    Ledger(worker).create()
    assert isinstance(Ledger(worker).claim(identity("new"), OTHER_RUN), Claim)


@pytest.mark.parametrize("table", schema.metadata.sorted_tables, ids=lambda table: table.name)
def test_what_came_later_says_so_and_needs_nothing_of_older_code(table: sa.Table) -> None:
    """A column of a table that was there before may be NULL, or the database fills it in."""
    first = {**past.rows_of_every_table(1), "jdocr_meta": [{"name": "", "value": ""}]}.get(table.name)
    if first is None:
        assert table.info["since"] > 1
        return
    for column in table.columns:
        if column.name in first[0]:
            assert "since" not in column.info
        else:
            assert column.info["since"] > 1
            assert column.nullable or column.server_default is not None
