"""A whole Airflow: one task for all pictures, ours, beside one mapped task a picture, as it is often written.

Processor time is that of the scheduler, its executor and its tasks together, and of the API server that
they talk to, less what both use while nothing runs. Ours has many more pictures, so that its one task is
spread over as many as it would be in use; what one task costs that does nothing is given beside it. Nobody
else looks for QR codes, and on these pictures there are none, which takes longest to find out.
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

import requests

from tests.benchmarks.rows import Row, Size
from tests.benchmarks.scans import scan
from tests.benchmarks.stage import FASTEST_QPS
from tests.databases import fresh_database, postgres_server
from tests.rate.processor_time import seconds_of_family
from tests.system.installation import DAGS, FINISHED, METADATA, Installation, Run, installation, until

PICTURE_BYTES = 300_000
QPS = 2.0
IDLE_SECONDS = {"small": 10.0, "full": 60.0}
PATIENCE_SECONDS = 3_600.0
MAPPED = Path(__file__).with_name("dags") / "mapped_dags.py"
PARTS = ("scheduler", "api-server")


@dataclass(frozen=True, slots=True)
class Case:
    """`qps`: calls a second that the service allows; 0: any."""

    name: str
    dag: str
    images: int
    qps: float = 0.0
    reads_qr: bool = False

    @property
    def task(self) -> str:
        return "recognise" if self.images else "nothing"


def cases(few: int, many: int, turned_away: int) -> list[Case]:
    """The more pictures, the less the one task weighs that ours is."""
    return [
        Case("a task that does nothing", "nothing", 0),
        Case("one mapped task a picture", "mapped", few),
        Case("HttpOperator, mapped", "mapped_http", turned_away),
        Case("ours, one task", "batch", many),
        Case("ours, one task, QR codes looked for", "batch", many, reads_qr=True),
        Case("one mapped task a picture", "mapped", turned_away, QPS),
        Case("HttpOperator, mapped", "mapped_http", turned_away, QPS),
        Case("ours, one task", "batch", turned_away, QPS),
    ]


CASES = {"small": cases(3, 20, 4), "full": cases(100, 1_000, 30)}


def run(size: Size, seed: int, say: Callable[[str], None]) -> Iterator[Row]:
    with _airflow() as airflow:
        _measured(airflow, Case("warming up", "nothing", 0), dict.fromkeys(PARTS, 0.0), "")
        idle = _idle(airflow, IDLE_SECONDS[size])
        yield {"case": "idle", "cpu_seconds_a_second": idle}
        for place, case in enumerate(CASES[size]):
            say(f"{case.name}: {case.images} pictures")
            prefix = _put(airflow, case, place)
            said = {"case": case.name, "images": case.images, "qps": case.qps or None}
            yield {**said, **_measured(airflow, case, idle, prefix)}


def _put(airflow: Installation, case: Case, place: int) -> str:
    """Pictures that no other case has."""
    first = place * 10_000
    files = {f"{n:06}.jpg": scan(n, PICTURE_BYTES) for n in range(first, first + case.images)}
    return airflow.put(f"case{place}", files)


@contextmanager
def _airflow() -> Iterator[Installation]:
    """An Airflow with our DAGs beside those of the system tests, and a ledger in PostgreSQL."""
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
        for qps in (0.0, QPS):
            airflow.connect(**{_account(qps): airflow.account("ledger_benchmark", qps=qps or FASTEST_QPS)})
        yield airflow


def _account(qps: float) -> str:
    """The name of the connection that knows of so many calls a second."""
    return f"jdocr_{qps:g}" if qps else "jdocr_default"


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


def _measured(airflow: Installation, case: Case, idle: Mapping[str, float], prefix: str) -> dict[str, Any]:
    airflow.behave(qps=case.qps, daily_limit=-1)
    before, began = _used(airflow), time.monotonic()
    given = {"images": prefix, "jdocr_conn_id": _account(case.qps), "qr": {"read": case.reads_qr}}
    run = airflow.trigger(case.dag, **given)
    until(lambda: _has_ended(run) or None, case.name, PATIENCE_SECONDS)
    seconds = time.monotonic() - began
    after = _used(airflow)
    cpu = {part: after[part] - before[part] - idle[part] * seconds for part in PARTS}
    return {
        "seconds": round(seconds, 1),
        "tasks": _states(airflow, run, case.task),
        "cpu_seconds": {part: round(of, 2) for part, of in cpu.items()},
        "cpu_ms_a_picture": {part: round(1000 * of / max(1, case.images), 1) for part, of in cpu.items()},
    }


def _has_ended(run: Run) -> bool:
    """Pictures that travel through XCom bring the API server down for a while."""
    try:
        return run.has_ended
    except (AssertionError, requests.RequestException):
        return False


def _states(airflow: Installation, run: Run, task: str) -> dict[str, int]:
    path = f"dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances?limit=100&offset="
    ended: list[dict[str, Any]] = []
    while page := airflow.get(f"{path}{len(ended)}")["task_instances"]:
        ended += page
    states = Counter(each["state"] for each in ended if each["task_id"] == task)
    assert set(states) <= FINISHED, states
    return dict(states)
