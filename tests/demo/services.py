"""The servers of the demo and its Airflow.

Each server is a process group that ends with its `with` block, whatever happens in it.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENDPOINTS = ("ocr_invoice", "intsig_invoice")
START_SECONDS = 90.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(command: list[str], log: Path, env: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A running command whose output goes to a file; its whole process group is ended on the way out."""
    with log.open("ab") as output:
        running = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            env=dict(env),
            start_new_session=True,
        )
    try:
        yield running
    finally:
        end(running)


def end(running: subprocess.Popen[bytes], patience_seconds: float = 5.0) -> None:
    """Asks the process group to stop, then makes it."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(running.pid, signal_number)
        except ProcessLookupError:
            break
        try:
            running.wait(patience_seconds)
        except subprocess.TimeoutExpired:
            continue
    running.wait()


@contextmanager
def server(command: list[str], ready: str, log: Path, env: Mapping[str, str]) -> Iterator[None]:
    """A server that answers at `ready` before the block begins."""
    with process(command, log, env) as running:
        _wait(running, ready, log)
        yield


@contextmanager
def s3_server(log: Path) -> Iterator[str]:
    """An empty S3; gives its URL."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with server(command, f"{url}/moto-api/", log, os.environ):
        yield url


@contextmanager
def ocr_service(log: Path, key: str, secret: str, *options: str) -> Iterator[str]:
    """The local OCR service, as the options say, with its controls; gives its URL. Key and secret travel by
    environment.
    """
    url = f"http://127.0.0.1:{(port := free_port())}"
    module = "airflow_provider_jdocr.server"
    command = [sys.executable, "-m", module, "--port", str(port), "--control", *options]
    env = {**os.environ, "JDOCR_SERVER_KEY": key, "JDOCR_SERVER_SECRET": secret}
    with server(command, f"{url}/-/health", log, env):
        yield url


def airflow_environment(home: Path, s3_url: str, ocr_url: str, key: str, secret: str) -> dict[str, str]:
    """A small Airflow of its own, whose connections are all that the DAG needs to be told."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "AWS_"))}
    account = {"conn_type": "jdocr", "login": key, "password": secret, "host": ocr_url}
    ledger = {"conn_type": "sqlite", "host": str(home / "ledger.db")}
    warehouse = {"conn_type": "sqlite", "host": str(home / "warehouse.db")}
    store = {
        "conn_type": "aws",
        "login": "demo-key",
        "password": "demo-secret",
        "extra": {"endpoint_url": s3_url},
    }
    connections = {
        f"JDOCR_{endpoint.upper()}": {
            **account,
            "extra": {
                "endpoint": endpoint,
                "ledger_conn_id": "demo_ledger",
                # Reading takes a second or two here, and much longer when the machine is busy elsewhere.
                "read_timeout_seconds": 180,
            },
        }
        for endpoint in ENDPOINTS
    } | {"DEMO_LEDGER": ledger, "WAREHOUSE_DEFAULT": warehouse, "AWS_DEFAULT": store}
    return {
        **ours,
        **{f"AIRFLOW_CONN_{name}": json.dumps(value) for name, value in connections.items()},
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


def run_airflow(arguments: Sequence[str], log: Path, env: Mapping[str, str]) -> int:
    """Runs an `airflow` command to its end and gives its exit code."""
    with process([sys.executable, "-m", "airflow", *arguments], log, env) as running:
        return running.wait()


def _wait(running: subprocess.Popen[bytes], ready: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if running.poll() is not None:
            raise RuntimeError(f"a server ended with exit code {running.returncode}; its output is in {log}")
        try:
            with urllib.request.urlopen(ready, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(
        f"a server did not answer at {ready} within {START_SECONDS:.0f} s; its output is in {log}"
    )
