"""An Airflow home of the test session's own, connections by environment, and the servers that the shell
talks to.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Before anything of Airflow is imported: it reads its configuration then, and would make a home for it.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="jdocr-shell-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "True"

from tests.shell.service import Service

Connect = Callable[..., str]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Defines an Airflow connection for the test and gives its id."""

    def define(conn_id: str, **fields: Any) -> str:
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))
        return conn_id

    return define


@pytest.fixture
def service() -> Iterator[Service]:
    """A server of our own in the place of JD: it answers every picture with an invoice, or as it is told."""
    with Service() as running:
        yield running


@pytest.fixture
def ledger_path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def account(connect: Connect, service: Service, ledger_path: Path) -> str:
    """A `jdocr` connection to the service, with a ledger of its own."""
    connect("ledger", conn_type="sqlite", host=str(ledger_path))
    return connect(
        "jdocr_default",
        conn_type="jdocr",
        login="key",
        password="a-secret-of-the-test",
        host=service.url,
        extra={"ledger_conn_id": "ledger", "qps": 1000},
    )


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """An S3 server; gives its URL."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str, connect: Connect) -> Any:
    """A boto3 client of an S3 server that is empty but for a bucket, and `aws_default` as its connection."""
    import boto3
    import requests

    requests.post(f"{s3_server}/moto-api/reset", timeout=10).raise_for_status()
    connect(
        "aws_default",
        conn_type="aws",
        login="x",
        password="y",
        extra={"endpoint_url": s3_server, "region_name": "us-east-1"},
    )
    client = boto3.client(
        "s3",
        endpoint_url=s3_server,
        aws_access_key_id="x",
        aws_secret_access_key="y",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="scans")
    yield client
    client.close()
