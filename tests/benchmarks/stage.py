"""What the benchmarks run against: databases as they are in production, S3, and the local service with its
stub engine, each in processes of their own.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import boto3
import requests
import sqlalchemy as sa

from airflow_provider_jdocr.core.account import Account, account_from_parts
from airflow_provider_jdocr.core.engines import engine_for
from airflow_provider_jdocr.core.ledger import Ledger
from airflow_provider_jdocr.server.__main__ import KEY_VARIABLE, SECRET_VARIABLE
from tests.certificates import certificate
from tests.databases import fresh_database, has_mariadb, mariadb_server, postgres_server
from tests.demo.services import free_port, process, s3_server
from tests.rate import tasks
from tests.server.app_client import wait_for

# The tasks of tests.rate are ours here too.
KEY, SECRET = tasks.KEY, tasks.SECRET
BUCKET = "invoices"
FASTEST_QPS = 10_000.0
# What a batch says in its log is no part of what a benchmark says.
QUIET = logging.getLogger("tests.benchmarks.quiet")
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False
Kind = Literal["sqlite", "postgresql", "mysql"]


@dataclass(frozen=True, slots=True)
class Service:
    """The local service. It counts every call, whoever sends it."""

    url: str
    ca_bundle: str | None = None

    def account(self, **extra: Any) -> Account:
        trusted = {"ca_bundle": self.ca_bundle} if self.ca_bundle else {}
        return account_from_parts(
            login=KEY,
            password=SECRET,
            host=self.url,
            port=None,
            schema=None,
            extra={"qps": FASTEST_QPS, **trusted, **extra},
        )

    def behave(self, **change: Any) -> None:
        self._ask("behave", change)

    def calls(self) -> list[dict[str, Any]]:
        """Those since it was told to reset."""
        found: list[dict[str, Any]] = self._ask("calls")
        return found

    def billed(self) -> list[str]:
        """The SHA-256 of each picture that was billed."""
        return [each["sha256"] for each in self._ask("bill")]

    def _ask(self, what: str, body: Mapping[str, Any] | None = None) -> Any:
        method = "GET" if body is None else "POST"
        answer = requests.request(
            method, f"{self.url}/-/{what}", json=body, verify=self.ca_bundle or True, timeout=60
        )
        answer.raise_for_status()
        return answer.json()


@dataclass(frozen=True, slots=True)
class Database:
    """An empty one. `name` is what it calls itself, with its version."""

    kind: Kind
    url: str
    name: str = field(compare=False)


@contextmanager
def service(*options: str, tls: bool = False) -> Iterator[Service]:
    """The stub engine, no limits unless the options say so."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        unlimited = ("--engine", "stub", "--qps", "0", "--daily-limit", "-1", "--workers", "2")
        command = [sys.executable, "-m", "airflow_provider_jdocr.server", "--control", *unlimited]
        command += ["--waiting", "1000", "--port", str(port := free_port()), *options]
        made = certificate(home) if tls else None
        if made:
            command += ["--certfile", made.chain, "--keyfile", made.key]
        env = {**os.environ, KEY_VARIABLE: KEY, SECRET_VARIABLE: SECRET}
        running = stack.enter_context(process(command, home / "log", env))
        url = f"{'https' if made else 'http'}://127.0.0.1:{port}"
        wait_for(url, lambda: running.poll() is None, made.chain if made else True)
        yield Service(url, made.chain if made else None)


@contextmanager
def bucket(files: Iterable[tuple[str, bytes]], prefix: str = "inbox") -> Iterator[str]:
    """Files in S3; gives their prefix. While the block lasts `aws_default` is the connection to it."""
    with tempfile.TemporaryDirectory() as home, s3_server(Path(home) / "log") as url:
        keys = {"aws_access_key_id": "x", "aws_secret_access_key": "y"}
        s3 = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys)
        s3.create_bucket(Bucket=BUCKET)
        for name, content in files:
            s3.put_object(Bucket=BUCKET, Key=f"{prefix}/{name}", Body=content)
        with connected_to_s3(url):
            yield f"s3://{BUCKET}/{prefix}/"


@contextmanager
def connected_to_s3(url: str) -> Iterator[None]:
    extra = {"endpoint_url": url, "region_name": "us-east-1"}
    connection = {"conn_type": "aws", "login": "x", "password": "y", "extra": extra}
    with patch.dict(os.environ, {"AIRFLOW_CONN_AWS_DEFAULT": json.dumps(connection)}):
        yield


@contextmanager
def database(kind: Kind) -> Iterator[Database]:
    """Durable, as in production: a commit waits for the disk where the database's defaults make it wait."""
    with ExitStack() as stack:
        if kind == "sqlite":
            home = stack.enter_context(tempfile.TemporaryDirectory())
            url = f"sqlite:///{home}/benchmark.db"
        else:
            server = postgres_server(durable=True) if kind == "postgresql" else mariadb_server()
            url = stack.enter_context(fresh_database(stack.enter_context(server)))
        yield Database(kind, url, _named(url))


@contextmanager
def ledger_of(url: str) -> Iterator[Ledger]:
    """Its tables are there."""
    engine = engine_for(url)
    ledger = Ledger(engine)
    ledger.create()
    try:
        yield ledger
    finally:
        engine.dispose()


def kinds() -> tuple[Kind, ...]:
    """The databases whose servers are here."""
    return ("sqlite", "postgresql", "mysql") if has_mariadb() else ("sqlite", "postgresql")


def _named(url: str) -> str:
    engine = engine_for(url)
    with engine.connect() as db:
        if engine.dialect.name == "sqlite":
            said = f"SQLite {db.scalar(sa.text('SELECT sqlite_version()'))}"
        elif engine.dialect.name == "postgresql":
            said = f"PostgreSQL {db.scalar(sa.text('SHOW server_version'))}"
        else:
            said = f"MariaDB {str(db.scalar(sa.text('SELECT version()'))).partition('-')[0]}"
    engine.dispose()
    return said.partition(" (")[0]
