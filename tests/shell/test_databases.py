"""An Airflow connection becomes an engine that means what the connection says, or is refused before
anything opens.
"""

import json
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from airflow_provider_jdocr.core.errors import ConfigurationError
from airflow_provider_jdocr.databases import database, default_ledger
from tests import databases
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


def connect_mysql(connect: Connect, url: sa.URL, **extra: Any) -> sa.Engine:
    where = {"host": url.host, "port": url.port, "login": url.username, "password": url.password}
    connect("my", conn_type="mysql", schema=url.database, extra=extra, **where)
    return database("my", "ledger_conn_id").engine()


def test_a_mysql_connection_is_strict_in_utc_and_reads_what_is_committed(
    connect: Connect, mariadb_url: str
) -> None:
    """Whatever the server's defaults are; those of the tests' server are all different."""
    engine = connect_mysql(connect, sa.make_url(mariadb_url), cursor="dictcursor", charset="latin1")
    asked = "@@sql_mode, @@time_zone, @@tx_isolation, @@character_set_client, @@character_set_results"
    with engine.connect() as db:
        found = tuple(db.execute(sa.text(f"SELECT {asked}")).one())
    engine.dispose()
    strict = "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION"
    assert found == (strict, "+00:00", "READ-COMMITTED", "utf8mb4", "utf8mb4")


def test_a_mysql_server_is_verified_where_its_authority_is_named(connect: Connect, tmp_path: Path) -> None:
    if not databases.has_mariadb():
        pytest.skip(databases.MARIADB_IS_ABSENT)
    ours, other = authority(tmp_path / "ours"), authority(tmp_path / "other")
    with databases.running_mariadb(
        f"--ssl-ca={ours / 'ca.pem'}", f"--ssl-cert={ours / 'server.pem'}", f"--ssl-key={ours / 'server.key'}"
    ) as server:
        for extra in (
            {"ssl": {"ca": str(ours / "ca.pem")}},
            {"ssl": json.dumps({"ca": str(ours / "ca.pem")}), "ssl_mode": "VERIFY_CA"},
            {"ssl_mode": "required"},
        ):
            engine = connect_mysql(connect, server.url, **extra)
            with engine.connect() as db:
                assert db.execute(sa.text("SHOW STATUS LIKE 'Ssl_cipher'")).one()[1]
            engine.dispose()
        for extra in ({"ssl": {"ca": str(other / "ca.pem")}}, {"ssl_mode": "VERIFY_IDENTITY"}):
            with pytest.raises(sa.exc.OperationalError, match="CERTIFICATE_VERIFY_FAILED"):
                connect_mysql(connect, server.url, **extra).connect()
        engine = connect_mysql(connect, server.url.set(host="localhost"), ssl={"ca": str(ours / "ca.pem")})
        with pytest.raises(sa.exc.OperationalError, match="Hostname mismatch"):
            engine.connect()


def authority(home: Path) -> Path:
    """A certificate authority, and a server's certificate by it that holds for 127.0.0.1 alone."""
    home.mkdir()
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer, now = named("our authority"), datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])

    def signed(subject: x509.Name, public: ec.EllipticCurvePublicKey, *extensions: Any) -> bytes:
        made = x509.CertificateBuilder(issuer, subject, public, x509.random_serial_number())
        made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        for each in extensions:
            made = made.add_extension(each, critical=False)
        return made.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    is_ca = x509.BasicConstraints(ca=True, path_length=None)
    (home / "ca.pem").write_bytes(signed(issuer, ca_key.public_key(), is_ca))
    (home / "server.pem").write_bytes(signed(named("a server"), key.public_key(), address))
    (home / "server.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    return home


def named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"conn_type": "mongo"}, "of type 'mongo'; supported are mysql, postgres, postgresql, sqlite"),
        ({"conn_type": "postgres", "extra": {"iam": True}}, "IAM"),
        ({"conn_type": "mysql", "extra": {"iam": True}}, "IAM"),
        ({"conn_type": "mysql", "extra": {"ssl_verify": True}}, "ssl_verify; understood are ssl, ssl_mode"),
        ({"conn_type": "mysql", "extra": {"ssl_mode": "off"}}, "ssl_mode is one of DISABLED, .*not OFF"),
        ({"conn_type": "mysql", "extra": {"ssl": {"ca": "/no/such/file"}}}, "No such file"),
        ({"conn_type": "mysql", "extra": {"ssl": {"verify": False}}}, "ssl understands ca, .*not verify"),
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
