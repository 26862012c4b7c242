"""A whole Airflow: one task for all pictures, ours, beside one mapped task a picture, as it is often written.

Processor time is that of the scheduler, its executor and its tasks together, and of the API server that
they talk to, less what both use while nothing runs. Ours has many more pictures, so that its one task is
spread over as many as it would be in use; what one task costs that does nothing is given beside it.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.rows import Row, Size
from tests.benchmarks.scans import scan
from tests.databases import fresh_database, postgres_server
from tests.rate.processor_time import seconds_of_family
from tests.system.installation import DAGS, FINISHED, METADATA, Installation, installation, until

PICTURE_BYTES = 300_000
IDLE_SECONDS = {"small": 10.0, "full": 60.0}
PATIENCE_SECONDS = 3_600.0
MAPPED = Path(__file__).with_name("dags") / "mapped_dags.py"
PARTS = ("scheduler", "api-server")


@dataclass(frozen=True, slots=True)
class Case:
    """`tasks` of `images` together."""

    name: str
    dag: str
    task: str
    images: int


CASES = {
    "small": [
        Case("a task that does nothing", "nothing", "nothing", 0),
        Case("one mapped task a picture", "mapped", "recognise", 3),
        Case("HttpOperator, mapped", "mapped_http", "recognise", 3),
        Case("ours, one task", "batch", "recognise", 20),
    ],
    "full": [
        Case("a task that does nothing", "nothing", "nothing", 0),
        Case("one mapped task a picture", "mapped", "recognise", 100),
        Case("HttpOperator, mapped", "mapped_http", "recognise", 30),
        Case("ours, one task", "batch", "recognise", 1_000),
    ],
}


def run(size: Size, seed: int, say: Callable[[str], None]) -> Iterator[Row]:
    cases = CASES[size]
    with _airflow() as (airflow, ledger):
        say(f"drawing {max(case.images for case in cases)} pictures")
        for case in cases:
            names = (f"{number:06}.jpg" for number in range(case.images))
            files = {name: scan(number, PICTURE_BYTES) for number, name in enumerate(names)}
            if files:
                airflow.put(case.dag, files)
        airflow.connect(jdocr_default=airflow.account(ledger, qps=10_000))
        airflow.behave(qps=0, daily_limit=-1)
        idle = _idle(airflow, IDLE_SECONDS[size])
        yield {"case": "idle", "cpu_seconds_a_second": idle}
        for case in cases:
            say(f"{case.name}: {case.images} pictures")
            yield {"case": case.name, "images": case.images, **_measured(airflow, case, idle)}


@contextmanager
def _airflow() -> Iterator[tuple[Installation, str]]:
    """An Airflow with our DAGs beside those of the system tests, and the name of a ledger's connection."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jdocr-bench-")))
        shutil.copytree(DAGS, dags := home / "dags", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(MAPPED, dags)
        server = stack.enter_context(postgres_server(durable=True))
        settings = {
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__PARALLELISM": "32",
            "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "32",
            "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",
            # As by default; the system tests want to notice a kill sooner.
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "5",
            METADATA: stack.enter_context(fresh_database(server)),
        }
        airflow = stack.enter_context(installation(home, settings))
        # Straight to the S3 server: the door of the system tests reads each picture once more.
        extra = {"endpoint_url": airflow.s3_url, "region_name": "us-east-1"}
        airflow.connect(aws_default={"conn_type": "aws", "login": "x", "password": "y", "extra": extra})
        airflow.connect(ocr_http={"conn_type": "http", "host": airflow.ocr_url})
        airflow.connect_database("ledger_benchmark", stack.enter_context(fresh_database(server)))
        until(lambda: _has(airflow, "mapped_http"), "the DAGs", 180)
        yield airflow, "ledger_benchmark"


def _has(airflow: Installation, dag: str) -> bool:
    return any(each["dag_id"] == dag for each in airflow.get("dags?limit=100")["dags"])


def _idle(airflow: Installation, seconds: float) -> Mapping[str, float]:
    """Processor seconds a second while nothing runs."""
    before = _used(airflow)
    time.sleep(seconds)
    after = _used(airflow)
    return {part: round((after[part] - before[part]) / seconds, 3) for part in PARTS}


def _used(airflow: Installation) -> Mapping[str, float]:
    return {part: seconds_of_family(airflow.parts[part].pid) for part in PARTS}


def _measured(airflow: Installation, case: Case, idle: Mapping[str, float]) -> dict[str, Any]:
    before, began = _used(airflow), time.monotonic()
    run = airflow.trigger(case.dag, images=f"s3://invoices/{case.dag}/")
    until(lambda: run.has_ended or None, case.name, PATIENCE_SECONDS)
    seconds = time.monotonic() - began
    after = _used(airflow)
    path = f"dags/{case.dag}/dagRuns/{run.run_id}/taskInstances?limit=1000"
    states = Counter(
        each["state"] for each in airflow.get(path)["task_instances"] if each["task_id"] == case.task
    )
    assert set(states) <= FINISHED, states
    cpu = {part: after[part] - before[part] - idle[part] * seconds for part in PARTS}
    return {
        "seconds": round(seconds, 1),
        "tasks": dict(states),
        "cpu_seconds": {part: round(of, 2) for part, of in cpu.items()},
        "cpu_ms_a_picture": round(1000 * sum(cpu.values()) / max(1, case.images), 1),
    }
