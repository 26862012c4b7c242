"""The servers of a slot: the local OCR service, and databases that can be cut off, stopped and started again.

A database server that dies here loses nothing that it committed: it does not wait for the disk, but it hands
every commit to the operating system, which outlives it.
"""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from tests import databases
from tests.demo.services import ocr_service
from tests.torture.draw import Database
from tests.torture.process import KEY, SECRET

_OCR = ("--engine", "stub", "--qps", "0", "--daily-limit", "-1", "--workers", "4", "--waiting", "100")


class Databases(Protocol):
    """A database server, or a folder that plays one."""

    def fresh(self, name: str) -> str:
        """An empty database; gives its URL."""

    def drop(self, url: str) -> None: ...

    def cut(self, url: str) -> None:
        """Every connection to it breaks."""

    def stop(self) -> None: ...

    def crash(self) -> None:
        """It is gone from one moment to the next, as after `kill -9`."""

    def start(self) -> None: ...


class Files:
    """SQLite."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def fresh(self, name: str) -> str:
        return f"sqlite:///{self._home / name}.db"

    def drop(self, url: str) -> None:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path_of(url)}{suffix}").unlink(missing_ok=True)

    def cut(self, url: str) -> None:
        raise NotImplementedError("nothing is connected to a file")

    def stop(self) -> None:
        raise NotImplementedError("a file is not served")

    crash = start = stop


class Postgres(databases.Postgres):
    def __init__(self, home: Path) -> None:
        super().__init__(home)
        hurry = (f"ALTER SYSTEM SET {setting}" for setting in ("fsync = off", "full_page_writes = off"))
        # By default as many as two trials can want.
        _administer(self.url, *hurry, "ALTER SYSTEM SET max_connections = 300")
        self.stop()
        self.start()

    def fresh(self, name: str) -> str:
        _administer(self.url, f"CREATE DATABASE {name}")
        return self.url.set(database=name).render_as_string(hide_password=False)

    def drop(self, url: str) -> None:
        _administer(self.url, f"DROP DATABASE {sa.make_url(url).database} WITH (FORCE)")

    def cut(self, url: str) -> None:
        which = f"datname = '{sa.make_url(url).database}'"
        _administer(self.url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {which}")  # noqa: S608

    def crash(self) -> None:
        arguments = ("-w", "-m", "immediate", "-D", str(self._server.pgdata), "stop")
        self._execute("pg_ctl", arguments, bin_path=self._server.bin_path, user=self._server.system_user)


class MariaDb(databases.MariaDb):
    def fresh(self, name: str) -> str:
        _administer(self.url, f"CREATE DATABASE {name}")
        return self.url.set(database=name).render_as_string(hide_password=False)

    def drop(self, url: str) -> None:
        _administer(self.url, f"DROP DATABASE {sa.make_url(url).database}")

    def cut(self, url: str) -> None:
        which = f"db = '{sa.make_url(url).database}'"
        for row in _administer(self.url, f"SELECT id FROM information_schema.processlist WHERE {which}"):  # noqa: S608
            with suppress(sa.exc.OperationalError):  # it may have gone by itself
                _administer(self.url, f"KILL {row.id}")

    def crash(self) -> None:
        self._process.kill()
        self._process.wait()


def _administer(url: sa.URL, *statements: str) -> Sequence[sa.Row[Any]]:
    """The rows of the last statement, where it has any."""
    rows: Sequence[sa.Row[Any]] = ()
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        for statement in statements:
            result = connection.exec_driver_sql(statement)
            rows = result.all() if result.returns_rows else ()
    return rows


class Ocr:
    """The local OCR service with the stub engine; its bill is the independent account."""

    def __init__(self, url: str) -> None:
        self.url = url

    def behave(self, **change: Any) -> None:
        self._ask("/-/behave", json.dumps(change).encode())

    def bill(self) -> list[dict[str, Any]]:
        return self._ask("/-/bill")  # type: ignore[no-any-return]

    def calls(self) -> list[dict[str, Any]]:
        return self._ask("/-/calls")  # type: ignore[no-any-return]

    def _ask(self, path: str, body: bytes | None = None) -> Any:
        headers = {"Content-Type": "application/json"}
        with urllib.request.urlopen(
            urllib.request.Request(self.url + path, body, headers), timeout=30
        ) as answer:
            return json.load(answer)


class Slot:
    """Where one trial after the other plays. A database server is started for the first that wants it."""

    def __init__(self, home: Path, ocr: Ocr, stack: ExitStack) -> None:
        self.home, self.ocr, self._stack = home, ocr, stack
        self._databases: dict[str, Databases] = {"sqlite": Files(home)}

    def databases(self, database: Database) -> Databases:
        if database not in self._databases:
            home = self.home / database
            shutil.rmtree(home, ignore_errors=True)  # of a start that failed
            home.mkdir()
            made = Postgres(home) if database == "postgresql" else MariaDb(home)
            self._stack.callback(made.close)
            self._databases[database] = made
        return self._databases[database]


@contextmanager
def slot(home: Path) -> Iterator[Slot]:
    """A slot whose servers end with the block; `home` is made for it, and is kept."""
    home.mkdir(parents=True)
    with ExitStack() as stack:
        url = stack.enter_context(ocr_service(home / "ocr.log", KEY, SECRET, *_OCR))
        yield Slot(home, Ocr(url), stack)


def available() -> tuple[Database, ...]:
    """The databases that the ledger runs on and whose servers are here."""
    return ("sqlite", "postgresql", "mysql") if databases.has_mariadb() else ("sqlite", "postgresql")


def path_of(url: str) -> Path:
    """The file of an SQLite URL."""
    return Path(sa.make_url(url).database or "")
