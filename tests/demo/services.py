"""The servers of the demo: each a process group that ends with its `with` block, whatever happens in it."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

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
    """The local OCR service, as the options say; gives its URL. Key and secret travel by environment."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "airflow_provider_jdocr.server", "--port", str(port), *options]
    env = {**os.environ, "JDOCR_SERVER_KEY": key, "JDOCR_SERVER_SECRET": secret}
    with server(command, f"{url}/-/health", log, env):
        yield url


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
