"""What waiting for a quota costs: a poke of the sensor, and a hundred deferred sensors in a triggerer.

``python -m tests.benchmarks.sensor`` prints a row of JSON for each thing measured. A poke is measured in this
process, on each database, beside a new connection to it with the smallest query, which no sensor can do
without. The deferred sensors are mapped tasks of a whole Airflow: what its triggerer uses for a while is
measured before they are there, and then with them. No call is made at all.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from tests.databases import fresh_database, has_mariadb, mariadb_server, postgres_server
from tests.rate.report import progress

Say = Callable[[str], None]
POKES = {"small": 20, "full": 300}
SENSORS = {"small": 4, "full": 100}
WATCH_SECONDS = {"small": 10.0, "full": 120.0}
_TICKS = os.sysconf("SC_CLK_TCK")

WAITING_DAG = """
from airflow.sdk import DAG, Param
from airflow_provider_jdocr.sensors import JdOcrQuotaSensor

# The name is the one that the installation waits for.
with DAG("deferring", schedule=None, params={"count": Param(1, type="integer")}) as dag:
    @dag.task
    def calls(params):
        return [1_000_000 + number for number in range(params["count"])]

    JdOcrQuotaSensor.partial(task_id="wait", deferrable=True).expand(calls=calls())
"""


def run(size: str, seed: int, say: Say, count: int | None = None) -> Iterator[Mapping[str, Any]]:
    for name, url in _databases():
        with url as address:
            say(f"pokes, {name}")
            yield {"case": "poke", "database": name, **pokes(address, POKES[size])}
    say("deferred sensors")
    yield {"case": "deferred", **deferred(count or SENSORS[size], WATCH_SECONDS[size], say)}


# --- a poke


def pokes(url: str, times: int) -> Mapping[str, Any]:
    """Milliseconds of processor and of waiting for a poke, and for the least that one could do."""
    from airflow_provider_jdocr.hooks import JdOcrHook
    from airflow_provider_jdocr.sensors import JdOcrQuotaSensor

    with _connections(url):
        JdOcrHook().get_ledger()
        task = JdOcrQuotaSensor(task_id="wait", calls=1_000_000)
        statements: list[str] = []
        sa.event.listen(
            sa.Engine, "before_cursor_execute", hear := lambda *given: statements.append(given[2])
        )
        assert not task.poke({})
        sa.event.remove(sa.Engine, "before_cursor_execute", hear)
        asked = [each for each in statements if each.startswith("SELECT")]
        _least(url)
        poke, least = _each(times, lambda: task.poke({})), _each(times, lambda: _least(url))
    return {"statements": len(asked), "pokes": times, **poke, **{f"least_{k}": v for k, v in least.items()}}


def _least(url: str) -> None:
    engine = sa.create_engine(url)
    with engine.connect() as db:
        db.execute(sa.text("SELECT 1"))
    engine.dispose()


def _each(times: int, work: Callable[[], object]) -> Mapping[str, float]:
    began, cpu = time.perf_counter(), time.process_time()
    for _ in range(times):
        work()
    took, used = time.perf_counter() - began, time.process_time() - cpu
    return {"ms": round(1000 * took / times, 2), "cpu_ms": round(1000 * used / times, 2)}


@contextmanager
def _connections(url: str) -> Iterator[None]:
    """A ledger in which a day has ten calls, so that a million are not there before the reset."""
    place = sa.make_url(url)
    ledger: dict[str, Any] = {"conn_type": "sqlite", "host": place.database}
    if (backend := place.get_backend_name()) != "sqlite":
        host = place.host or place.query.get("host")
        ledger = {"conn_type": {"postgresql": "postgres"}.get(backend, backend), "host": host}
        ledger |= {"login": place.username, "password": place.password, "port": place.port}
        ledger |= {"schema": place.database}
    account = {"conn_type": "jdocr", "login": "the-key", "password": "the-secret-of-the-benchmark"}
    account["extra"] = {"ledger_conn_id": "ledger", "daily_limit": 10}  # type: ignore[assignment]  # of two kinds
    named = {"LEDGER": ledger, "JDOCR_DEFAULT": account}
    with patch.dict(os.environ, {f"AIRFLOW_CONN_{name}": json.dumps(each) for name, each in named.items()}):
        yield


def _databases() -> Iterator[tuple[str, Any]]:
    yield "sqlite", _sqlite()
    yield "postgresql", _of(postgres_server)
    if has_mariadb():
        yield "mysql", _of(mariadb_server)


@contextmanager
def _sqlite() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as home:
        yield f"sqlite:///{home}/ledger.db"


@contextmanager
def _of(server: Callable[[], Any]) -> Iterator[str]:
    with server() as url, fresh_database(url) as fresh:
        yield fresh


# --- deferred sensors


def deferred(count: int, watch_seconds: float, say: Say) -> Mapping[str, Any]:
    """What the triggerer of a whole Airflow uses with so many sensors and without."""
    from tests.system.installation import installation, until

    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jdocr-sensors-")))
        (home / "dags").mkdir()
        (home / "dags" / "waiting.py").write_text(WAITING_DAG)
        airflow = stack.enter_context(installation(home, {"AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags")}))
        # Twelve hours until anything is known anew.
        reset = datetime.now(ZoneInfo("Asia/Shanghai")) + timedelta(hours=12)
        limits = {"daily_limit": 10, "reset_time": f"{reset:%H:%M}"}
        airflow.connect(jdocr_default=airflow.account("ledger_default", **limits))
        triggerer = airflow.parts["triggerer"]
        say("nobody waits")
        without = _watched(triggerer.members, watch_seconds)
        began = time.monotonic()
        waiting = airflow.trigger("deferring", count=count)

        def all_wait() -> bool:
            path = f"dags/deferring/dagRuns/{waiting.run_id}/taskInstances?state=deferred&limit=1"
            return bool(airflow.get(path)["total_entries"] == count)

        until(lambda: all_wait() or None, f"{count} deferred sensors", 60 + 30.0 * count)
        took = time.monotonic() - began
        say(f"{count} wait, after {took:.0f} s")
        with_them = _watched(triggerer.members, watch_seconds)
        called = sum(sum(codes.values()) for codes in airflow.health()["replies"].values())
    return {
        "sensors": count,
        "watched_seconds": watch_seconds,
        "all_deferred_after_seconds": round(took, 1),
        "triggerer_cpu_ms_a_minute": with_them["cpu_ms_a_minute"],
        "triggerer_cpu_ms_a_minute_without": without["cpu_ms_a_minute"],
        "triggerer_mb": with_them["mb"],
        "triggerer_mb_without": without["mb"],
        "calls": called,
    }


def _watched(members: Callable[[], set[int]], seconds: float) -> Mapping[str, float]:
    before, began = _cpu_seconds(members()), time.monotonic()
    time.sleep(seconds)
    used, took = _cpu_seconds(members()) - before, time.monotonic() - began
    return {"cpu_ms_a_minute": round(1000 * used / took * 60), "mb": round(sum(map(_megabytes, members())))}


def _cpu_seconds(pids: set[int]) -> float:
    stats = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids)
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / _TICKS


def _megabytes(pid: int) -> float:
    """Held by the process, what it shares with others included; nothing of one that has ended."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0) / 1024


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.sensor", description=__doc__)
    parser.add_argument("--size", choices=tuple(POKES), default="full", help="small: to see that it works")
    parser.add_argument("--count", type=int, help="sensors that are deferred [full: 100]")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="jdocr-bench-") as home:
        os.environ |= {"AIRFLOW_HOME": home, "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"}
        for row in run(options.size, 1, progress(), options.count):
            sys.stdout.write(json.dumps(row) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
