"""Airflow connections as SQLAlchemy engines: a small table of our own.

Airflow's hooks lose what a connection says on the way to an engine (extras of PostgreSQL) or cannot give a
URL at all (SQLite), and a relative SQLite path opens a file in whatever folder the task happens to run in.
Here every kind has its driver by name, and what cannot work is refused with a `ConfigurationError` before
anything is opened.
"""

import json
import os
import ssl
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

# What a MySQL connection's extras hold for Airflow's own hook, and has no meaning here.
_NOT_FOR_MYSQL = frozenset(
    {"cursor", "client", "local_infile", "charset", "use_unicode", "aws_conn_id", "iam"}
)
_FOR_MYSQL = frozenset({"unix_socket", "ssl", "ssl_mode"})
_SSL_KEYS = frozenset({"ca", "cert", "key", "cipher"})
_SSL_MODES = ("DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")


@dataclass(frozen=True, slots=True)
class Database:
    """Where a database is: what an engine is made of. The password is not in the repr."""

    url: sqlalchemy.URL = field(repr=False)
    connect_args: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def engine(self) -> sqlalchemy.Engine:
        """An engine that has opened nothing yet but a SQLite file's folder."""
        try:
            return engine_for(self.url, connect_args=dict(self.connect_args))
        except ModuleNotFoundError as error:
            extra = "postgres" if self.url.get_backend_name() == "postgresql" else "mysql"
            raise ConfigurationError(
                f"the driver {error.name} of the database is not installed: "
                f"pip install 'airflow-provider-jdocr[{extra}]'"
            ) from error
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
            "file on one machine and would not be shared by its workers. Name a PostgreSQL or MySQL "
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
    _refuse_iam(connection, argument)
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


def _mysql(connection: Connection, argument: str) -> Database:
    _refuse_iam(connection, argument)
    extra = {name: value for name, value in connection.extra_dejson.items() if name not in _NOT_FOR_MYSQL}
    if unknown := extra.keys() - _FOR_MYSQL:
        raise ConfigurationError(
            f"{argument}: connection {connection.conn_id!r} has the extra {', '.join(sorted(unknown))}; "
            f"understood are {', '.join(sorted(_FOR_MYSQL))}. Remove it.",
            field=argument,
        )
    url = sqlalchemy.URL.create(
        "mysql+pymysql",
        username=connection.login or None,
        password=connection.password or None,
        host=connection.host or None,
        port=connection.port,
        database=connection.schema or None,
    )
    socket = {"unix_socket": extra["unix_socket"]} if extra.get("unix_socket") else {}
    try:
        tls = _tls(extra.get("ssl") or {}, extra.get("ssl_mode"))
    except (OSError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{argument}: the extras ssl and ssl_mode of connection {connection.conn_id!r} cannot be used: "
            f"{error}",
            field=argument,
        ) from error
    return Database(url, {**socket, **tls})


def _tls(given: Mapping[str, str] | str, mode: str | None) -> Mapping[str, Any]:
    """PyMySQL's arguments for what MySQL calls its modes. A `ca` without a mode is one to be verified.

    PREFERRED, the default: encrypted if the server can. It and REQUIRED verify nobody. VERIFY_CA and
    VERIFY_IDENTITY need no `ca` where the system knows it.
    """
    files: Mapping[str, str] = json.loads(given) if isinstance(given, str) else given
    if unknown := files.keys() - _SSL_KEYS:
        raise ValueError(f"ssl understands {', '.join(sorted(_SSL_KEYS))}, not {', '.join(sorted(unknown))}")
    mode = (mode or ("VERIFY_IDENTITY" if files else "PREFERRED")).upper()
    if mode not in _SSL_MODES:
        raise ValueError(f"ssl_mode is one of {', '.join(_SSL_MODES)}, not {mode}")
    if mode in ("DISABLED", "PREFERRED"):
        return {"ssl_disabled": True} if mode == "DISABLED" else {}
    context = ssl.create_default_context(cafile=files.get("ca"))
    context.check_hostname = mode == "VERIFY_IDENTITY"
    if mode == "REQUIRED":
        context.verify_mode = ssl.CERT_NONE
    if "cert" in files:
        context.load_cert_chain(files["cert"], files.get("key"))
    if "cipher" in files:
        context.set_ciphers(files["cipher"])
    return {"ssl": context}


def _refuse_iam(connection: Connection, argument: str) -> None:
    if connection.extra_dejson.get("iam"):
        raise ConfigurationError(
            f"{argument}: connection {connection.conn_id!r} asks for IAM tokens, which end during a "
            "long batch. "
            "Use a connection with a password.",
            field=argument,
        )


_KINDS: Mapping[str, Callable[[Connection, str], Database]] = {
    "mysql": _mysql,
    "sqlite": _sqlite,
    "postgres": _postgres,
    "postgresql": _postgres,
}
