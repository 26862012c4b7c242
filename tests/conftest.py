"""Databases for every test that wants one. Imports nothing of Airflow: the core's tests run without it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from airflow_provider_jdocr.core.engines import engine_for
from tests import databases


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[sa.URL]:
    """One PostgreSQL server for the whole session, started by the first test that needs it."""
    with databases.postgres_server() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: sa.URL) -> Iterator[str]:
    """A PostgreSQL database of the test's own: ``postgresql+psycopg://…``."""
    with databases.fresh_database(postgres_server) as url:
        yield url


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[sa.URL]:
    """One MariaDB server for the whole session, started by the first test that needs it."""
    if not databases.has_mariadb():
        pytest.skip(databases.MARIADB_IS_ABSENT)
    with databases.mariadb_server() as url:
        yield url


@pytest.fixture
def mariadb_url(mariadb_server: sa.URL) -> Iterator[str]:
    """A MariaDB database of the test's own: ``mysql+pymysql://…``."""
    with databases.fresh_database(mariadb_server) as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite file of the test's own, not there yet."""
    return f"sqlite:///{tmp_path / 'test.db'}"


_URLS = {"sqlite": "sqlite_url", "postgresql": "postgres_url", "mysql": "mariadb_url"}
_SERVERS = {"postgresql": "postgres_server", "mysql": "mariadb_server"}


@pytest.fixture(params=list(_URLS))
def database_url(request: pytest.FixtureRequest) -> str:
    """The test runs once on each database."""
    url: str = request.getfixturevalue(_URLS[request.param])
    return url


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """An engine on `database_url`, with no tables yet."""
    made = engine_for(database_url)
    yield made
    made.dispose()


@pytest.fixture
def another_database_url(database_url: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A second, empty database of the same kind as `database_url`."""
    server = _SERVERS.get(sa.make_url(database_url).get_backend_name())
    if server is None:
        yield f"sqlite:///{tmp_path / 'another.db'}"
        return
    with databases.fresh_database(request.getfixturevalue(server)) as url:
        yield url
