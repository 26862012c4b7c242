"""Celery workers for an installation: a Redis that tells them what to do, and each in a process group of its
own, where the machine lets it in a network of its own, with a clock that may be wrong.

A worker shares with the rest what the workers of a deployment share: the API server, the queue, the storage,
the OCR service and the databases. In a network of its own it reaches nothing else.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from tests.demo.services import process
from tests.system.apart import command_apart, doors
from tests.system.installation import Installation, environment, until

SKEWED_CLOCK = Path(__file__).parent / "skewed_clock"


def why_no_redis() -> str | None:
    """Why there can be no Celery here; None: there can."""
    return None if shutil.which("redis-server") else "redis-server is not installed (Debian: redis-server)"


@contextmanager
def redis_server(home: Path) -> Iterator[dict[str, str]]:
    """A queue that keeps nothing; gives the settings of an Airflow that uses it."""
    path = home / "redis.sock"
    command = ["redis-server", "--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no"]
    with process(command, home / "redis.log", os.environ):
        until(path.exists, "redis-server", 20)
        url = f"redis+socket://{path}"
        yield {"AIRFLOW__CELERY__BROKER_URL": url, "AIRFLOW__CELERY__RESULT_BACKEND": url}


@contextmanager
def celery_workers(
    airflow: Installation,
    settings: Mapping[str, str],
    *,
    clocks_off_by_seconds: Sequence[float],
    concurrency: int = 4,
    apart: bool = False,
    ports: Sequence[int] = (),
) -> Iterator[list[int]]:
    """One worker for each of `clocks_off_by_seconds`; gives their process ids.

    `apart`: in networks of their own, which have the installation's ports and `ports`.
    """
    env = environment(airflow.home, _port(airflow.api)) | dict(settings)
    reached = [_port(url) for url in (airflow.api, airflow.s3.url, airflow.ocr_url)] + list(ports)
    with ExitStack() as stack:
        folder = stack.enter_context(doors(airflow.home / "doors", reached)) if apart else None
        workers = []
        for number, off_by_seconds in enumerate(clocks_off_by_seconds, start=1):
            command = _command(number, concurrency)
            if folder:
                command = command_apart(folder, reached, command)
            log = airflow.home / f"worker{number}.log"
            running = stack.enter_context(process(command, log, env | _clock(env, off_by_seconds)))
            workers.append((running, log))
        for running, log in workers:
            until(partial(_is_ready, running, log), f"the worker of {log}")
        yield [running.pid for running, _ in workers]
        for running, _ in workers:
            # It would wait for its tasks, and there are none.
            os.killpg(running.pid, signal.SIGKILL)


def _is_ready(running: subprocess.Popen[bytes], log: Path) -> bool:
    if running.poll() is not None:
        raise RuntimeError(f"a worker ended with exit code {running.returncode}; its output is in {log}")
    return " ready." in log.read_text()


def _command(number: int, concurrency: int) -> list[str]:
    where = ["--celery-hostname", f"worker{number}@{socket.gethostname()}", "--concurrency", str(concurrency)]
    alone = ["--skip-serve-logs", "--without-mingle", "--without-gossip"]
    return [sys.executable, "-m", "airflow", "celery", "worker", *where, *alone]


def _clock(env: Mapping[str, str], off_by_seconds: float) -> dict[str, str]:
    if not off_by_seconds:
        return {}
    path = os.pathsep.join((str(SKEWED_CLOCK), env["PYTHONPATH"]))
    return {"PYTHONPATH": path, "JDOCR_TEST_CLOCK_IS_OFF_BY_SECONDS": str(off_by_seconds)}


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None, url
    return port
