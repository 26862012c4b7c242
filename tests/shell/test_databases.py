"""An Airflow connection becomes an engine that means what the connection says, or is refused before
anything opens.
"""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from airflow_provider_jdocr.core.errors import ConfigurationError
from airflow_provider_jdocr.databases import database, default_ledger
from tests.shell.conftest import Connect


def test_a_sqlite_path_may_stand_in_the_host_or_in_a_uri(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.db"
    connect("by_host", conn_type="sqlite", host=str(path))
    monkeypatch.setenv("AIRFLOW_CONN_BY_URI", f"sqlite:///{path}")
    for conn_id in ("by_host", "by_uri"):
        with database(conn_id, "ledger_conn_id").engine().connect() as db:
            assert db.engine.url.database == str(path)


@pytest.mark.parametrize("path", ["ledger.db", "./ledger.db", "", None, ":memory:"])
def test_a_relative_sqlite_path_is_refused(connect: Connect, path: str | None) -> None:
    connect("relative", conn_type="sqlite", host=path)
    with pytest.raises(
        ConfigurationError,
        match="warehouse_conn_id: the SQLite path of connection 'relative' is not absolute",
    ):
        database("relative", "warehouse_conn_id")


def test_a_folder_that_is_not_there_is_a_configuration_error(connect: Connect, tmp_path: Path) -> None:
    connect("nowhere", conn_type="sqlite", host=str(tmp_path / "nowhere" / "a.db"))
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        database("nowhere", "ledger_conn_id").engine()


def test_a_postgres_connection_keeps_its_extras(connect: Connect, postgres_url: str) -> None:
    """Airflow's own way to an engine loses them."""
    url = sa.make_url(postgres_url)
    connect(
        "pg",
        conn_type="postgres",
        host=url.host or url.query.get("host"),
        port=url.port,
        login=url.username,
        password=url.password,
        schema=url.database,
        extra={"application_name": "jdocr-test", "cursor": "dictcursor"},
    )
    engine = database("pg", "ledger_conn_id").engine()
    with engine.connect() as db:
        assert db.execute(sa.text("SHOW application_name")).scalar_one() == "jdocr-test"
    engine.dispose()


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"conn_type": "mongo"}, "of type 'mongo'; supported are postgres, postgresql, sqlite"),
        ({"conn_type": "postgres", "extra": {"iam": True}}, "IAM"),
    ],
)
def test_a_database_that_cannot_work_is_refused(connect: Connect, fields: dict[str, Any], rule: str) -> None:
    connect("other", **fields)
    with pytest.raises(ConfigurationError, match=rule):
        database("other", "ledger_conn_id")


def test_a_password_is_in_no_repr(connect: Connect) -> None:
    connect("pg", conn_type="postgres", host="db", login="x", password="hidden", extra={"sslpassword": "too"})
    found = database("pg", "ledger_conn_id")
    assert "hidden" not in repr(found) + repr(found.url) + repr(found.engine())
    assert "too" not in repr(found)


def test_the_default_ledger_lies_in_the_airflow_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "LocalExecutor")
    default_ledger().engine().connect().close()
    assert (tmp_path / "jdocr_ledger.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "executor", ["CeleryExecutor", "LocalExecutor,KubernetesExecutor", "my.own.Executor"]
)
def test_the_default_ledger_is_refused_where_tasks_run_on_several_machines(
    monkeypatch: pytest.MonkeyPatch, executor: str
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
    with pytest.raises(ConfigurationError, match="ledger_conn_id: not set, and the executor is"):
        default_ledger()
