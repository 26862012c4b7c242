"""Airflow connections as SQLAlchemy engines: a small table of our own.

Airflow's hooks lose what a connection says on the way to an engine (extras of PostgreSQL) or cannot give a
URL at all (SQLite), and a relative SQLite path opens a file in whatever folder the task happens to run in.
Here every kind has its driver by name, and what cannot work is refused with a `ConfigurationError` before
anything is opened.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy
from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook, Connection, conf

from airflow_provider_jdocr.core.engines import engine_for
from airflow_provider_jdocr.core.errors import ConfigurationError

DEFAULT_LEDGER_FILE = "jdocr_ledger.db"
_LOCAL_EXECUTORS = frozenset({"LocalExecutor", "airflow.executors.local_executor.LocalExecutor"})
# What a Postgres connection's extras hold for Airflow's own hook, and libpq does not know.
_NOT_FOR_LIBPQ = frozenset(
    {
        "iam",
        "redshift",
        "redshift-serverless",
        "cursor",
        "cluster-identifier",
        "workgroup-name",
        "aws_conn_id",
        "sqlalchemy_scheme",
        "sqlalchemy_query",
        "azure_conn_id",
        "azure_oauth_scope",
        "enable_log_db_messages",
    }
)


@dataclass(frozen=True, slots=True)
class Database:
    """Where a database is: what an engine is made of. The password is not in the repr."""

    url: sqlalchemy.URL = field(repr=False)
    connect_args: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def engine(self) -> sqlalchemy.Engine:
        """An engine that has opened nothing yet but a SQLite file's folder."""
        try:
            return engine_for(self.url, connect_args=dict(self.connect_args))
        except OSError as error:
            raise ConfigurationError(
                f"the SQLite file {self.url.database} cannot be opened: {error.strerror}. "
                "Correct the path of its connection, or create the folder."
            ) from error


def database(conn_id: str, argument: str) -> Database:
    """The database of an Airflow connection. `argument` is what named it, for the error's text."""
    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException as error:
        raise ConfigurationError(
            f"{argument}: there is no connection {conn_id!r} in Airflow. Create it or name another.",
            field=argument,
        ) from error
    make = _KINDS.get(str(connection.conn_type))
    if make is None:
        raise ConfigurationError(
            f"{argument}: connection {conn_id!r} is of type {connection.conn_type!r}; "
            f"supported are {', '.join(sorted(_KINDS))}. Name a connection of one of these.",
            field=argument,
        )
    return make(connection, argument)


def default_ledger() -> Database:
    """The SQLite file in the Airflow home. Refused where tasks may run on several machines."""
    configured = {name.strip() for name in (conf.get("core", "executor") or "LocalExecutor").split(",")}
    if not configured <= _LOCAL_EXECUTORS:
        raise ConfigurationError(
            f"ledger_conn_id: not set, and the executor is {', '.join(sorted(configured))}. The "
            "default ledger is a "
            "file on one machine and would not be shared by its workers. Name a PostgreSQL "
            "connection in the extra "
            "ledger_conn_id of the jdocr connection.",
            field="ledger_conn_id",
        )
    home = Path(os.path.expandvars(os.environ.get("AIRFLOW_HOME", "~/airflow"))).expanduser()
    return Database(sqlalchemy.URL.create("sqlite", database=str(home / DEFAULT_LEDGER_FILE)))


def _sqlite(connection: Connection, argument: str) -> Database:
    # A URI with an encoded path fills the host, one with four slashes the schema.
    path = connection.host or connection.schema or ""
    if not Path(path).is_absolute():
        raise ConfigurationError(
            f"{argument}: the SQLite path of connection {connection.conn_id!r} is not absolute, so "
            "every task "
            "might open another file. Write the whole path into host, such as /data/jdocr.db.",
            field=argument,
        )
    return Database(sqlalchemy.URL.create("sqlite", database=path))


def _postgres(connection: Connection, argument: str) -> Database:
    extra = connection.extra_dejson
    if extra.get("iam"):
        raise ConfigurationError(
            f"{argument}: connection {connection.conn_id!r} asks for IAM tokens, which end during a "
            "long batch. "
            "Use a connection with a password.",
            field=argument,
        )
    url = sqlalchemy.URL.create(
        "postgresql+psycopg",
        username=connection.login or None,
        password=connection.password or None,
        host=connection.host or None,
        port=connection.port,
        database=connection.schema or None,
    )
    query = extra.get("sqlalchemy_query")
    libpq = {name: value for name, value in extra.items() if name not in _NOT_FOR_LIBPQ}
    return Database(url, {**(query if isinstance(query, dict) else {}), **libpq})


_KINDS: Mapping[str, Callable[[Connection, str], Database]] = {
    "sqlite": _sqlite,
    "postgres": _postgres,
    "postgresql": _postgres,
}
