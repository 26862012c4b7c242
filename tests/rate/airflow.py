"""The share of the rate that a whole Airflow uses, and what it costs: ``python -m tests.rate.airflow``.

Eight mapped tasks of one DAG on the LocalExecutor and, at the same time, eight of another on two Celery
workers recognise pictures on one account, from one ledger. The service, which counts a second in one way or
another, says how it was called. Its latency is drawn anew each second. What counts are the calls from the
second minute on.

share       answered calls a second, of the calls a second that are allowed
over limit  over-limit answers (10043), of all calls
busiest     the most calls that arrived within one second
CPU         how busy all cores of this machine were, with Airflow, databases, storage and service on it

A second table says how many milliseconds of a core each part of the trial took for one call.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal, cast, get_args

import sqlalchemy as sa

from airflow_provider_jdocr.server.limits import WINDOWS, Window
from tests.databases import fresh_database, mariadb_server, postgres_server
from tests.rate.calls import Calls
from tests.rate.processor_time import processor_seconds
from tests.rate.report import end_in_order, keep, markdown, percent, progress
from tests.system.celery_workers import celery_workers, redis_server
from tests.system.installation import FINISHED, Installation, Run, installation, until
from tests.system.pictures import stub_picture

Executor = Literal["local", "celery", "both"]
DAGS: Mapping[Executor, Sequence[str]] = {
    "local": ("spread_local",),
    "celery": ("spread_celery",),
    "both": ("spread_local", "spread_celery"),
}
LEDGERS = ("postgresql", "mysql")
WARM_UP_SECONDS = 60.0
SPARE = 1.5
"""How many more pictures there are than the rate can take: a task may be faster than the others."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is the same in every cell."""

    executor: Executor = "both"
    ledger: str = "postgresql"
    minutes: float = 3.0
    tasks: int = 8
    workers: int = 2
    max_in_flight: int = 8
    latency_seconds: tuple[float, float] = (0.5, 1.0)
    picture_bytes: int = 20_000
    storage: Literal["s3", "file"] = "s3"
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Cell:
    qps: float
    window: Window


@dataclass(frozen=True, slots=True)
class Found:
    """Shares are of one. `steps`: answered calls a second in steps of five seconds, from the first call."""

    cell: Cell
    share: float
    over_limit: float
    calls: int
    busiest: int
    cpu: float
    cpu_ms_per_call: Mapping[str, float]
    first_minute_share: float
    first_minute_over_limit: float
    steps: Sequence[float]


@dataclass(frozen=True, slots=True)
class _Clocks:
    """Ticks of all cores, busy and idle, and the seconds that our own parts took of the busy ones."""

    busy: int
    idle: int
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Stage:
    """An Airflow with workers, a server for ledgers, and pictures: a prefix for each DAG."""

    plan: Plan
    airflow: Installation
    metadata: sa.URL
    ledgers: sa.URL
    prefixes: Mapping[str, str]
    pictures: int

    def measure(self, cell: Cell, say: Say) -> Found:
        """One cell, on a ledger and an account of its own."""
        with fresh_database(self.ledgers) as url:
            name = f"rate_{cell.qps:g}_{cell.window}".replace(".", "_")
            self.airflow.connect_database(f"ledger_{name}", url)
            account = self.airflow.account(f"ledger_{name}", qps=cell.qps)
            self.airflow.connect(**{f"jdocr_{name}": account})
            self.airflow.behave(
                reset=True,
                qps=cell.qps,
                window=cell.window,
                daily_limit=-1,
                latency=self.plan.latency_seconds[0],
            )
            runs = [self._start(dag, prefix, f"jdocr_{name}") for dag, prefix in self.prefixes.items()]
            try:
                before, after = self._watch(cell, say)
            finally:
                self._stop(runs)
            return self._found(cell, before, after)

    def _start(self, dag: str, prefix: str, conn_id: str) -> Run:
        every = math.ceil(self.pictures / self.plan.tasks)
        most = self.plan.max_in_flight
        return self.airflow.trigger(
            dag, images=prefix, every=every, jdocr_conn_id=conn_id, max_in_flight=most
        )

    def _calls(self) -> Calls:
        return Calls.of_service(self.airflow.ocr_url)

    def _watch(self, cell: Cell, say: Say) -> tuple[_Clocks, _Clocks]:
        """Until the minutes are over, with another latency each second; gives the processor's clocks when the
        first minute was over, and at the end.
        """
        draw = random.Random(self.plan.seed)
        until(lambda: len(self._calls()) > 0, "the first call", 300)
        began = time.monotonic()
        warm: _Clocks | None = None
        spoken = 0.0
        while (passed := time.monotonic() - began) < 60 * self.plan.minutes:
            self.airflow.behave(latency=draw.uniform(*self.plan.latency_seconds))
            if passed >= WARM_UP_SECONDS and warm is None:
                warm = self._clocks()
            if passed - spoken >= 30:
                spoken = passed
                say(f"{cell.qps:g} QPS, {cell.window}: {len(self.airflow.bill())} answers in {passed:.0f} s")
            time.sleep(1.0)
        assert warm, "a cell lasts longer than a minute"
        return warm, self._clocks()

    def _clocks(self) -> _Clocks:
        return _Clocks(*_cpu_ticks(), processor_seconds(Path(str(self.metadata.query["host"]))))

    def _stop(self, runs: Sequence[Run]) -> None:
        for run in runs:
            self.airflow.patch(f"dags/{run.dag_id}/dagRuns/{run.run_id}", {"state": "failed"})
        for run in runs:
            path = f"dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/recognise/listMapped"
            until(partial(_all_ended, self.airflow, path), f"the end of {run.dag_id}", 180)
        until(self._quiet, "the last call", 180)

    def _quiet(self) -> bool:
        """Whether nobody has called for a while: tasks that were told to stop have stopped."""
        before = len(self._calls())
        time.sleep(3.0)
        return len(self._calls()) == before

    def _found(self, cell: Cell, before: _Clocks, after: _Clocks) -> Found:
        calls = self._calls()
        began, ended = calls.first_at, calls.first_at + 60 * self.plan.minutes
        warm = began + WARM_UP_SECONDS
        counted, first = calls.between(warm, ended), calls.between(began, warm)
        busy, idle = after.busy - before.busy, after.idle - before.idle
        seconds = {part: after.seconds[part] - before.seconds.get(part, 0.0) for part in after.seconds}
        return Found(
            cell=cell,
            share=calls.answered_per_second(warm, ended) / cell.qps,
            over_limit=counted.over_limit_share,
            calls=len(counted),
            busiest=counted.busiest(),
            cpu=busy / (busy + idle),
            cpu_ms_per_call={
                part: round(1000 * used / max(1, len(counted)), 1) for part, used in seconds.items()
            },
            first_minute_share=calls.answered_per_second(began, warm) / cell.qps,
            first_minute_over_limit=first.over_limit_share,
            steps=[round(step.answered / 5, 2) for step in calls.steps(began, ended, 5)],
        )


@contextmanager
def stage(plan: Plan, fastest_qps: float, say: Say) -> Iterator[Stage]:
    """Starts everything that a plan needs, with pictures enough for the fastest cell."""
    dags = DAGS[plan.executor]
    names = ",".join(f"{dag.removeprefix('spread_').capitalize()}Executor" for dag in dags)
    settings = {
        "AIRFLOW__CORE__EXECUTOR": names,
        "AIRFLOW__CORE__PARALLELISM": str(len(dags) * plan.tasks + 2),
        "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": str(plan.tasks + 1),
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",
        # As by default; the other system tests want to notice a kill sooner.
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "5",
    }
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jdocr-rate-")))
        metadata = stack.enter_context(postgres_server(durable=True))
        settings["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = stack.enter_context(fresh_database(metadata))
        ledgers = metadata if plan.ledger == "postgresql" else stack.enter_context(mariadb_server())
        if "spread_celery" in dags:
            settings |= stack.enter_context(redis_server(home))
        say(f"starting Airflow with {names}")
        airflow = stack.enter_context(installation(home, settings))
        if "spread_celery" in dags:
            clocks = [0.0] * plan.workers
            concurrency = math.ceil(plan.tasks / plan.workers)
            start = partial(celery_workers, airflow, settings, clocks_off_by_seconds=clocks)
            stack.enter_context(start(concurrency=concurrency))
        _read_directly(airflow)
        pictures = math.ceil(SPARE * fastest_qps * 60 * (plan.minutes + 1) / len(dags))
        say(f"drawing {len(dags)} × {pictures} pictures of {plan.picture_bytes} bytes")
        prefixes = {dag: _put(airflow, plan, dag, place, pictures) for place, dag in enumerate(dags)}
        yield Stage(plan, airflow, metadata, ledgers, prefixes, pictures)


def _read_directly(airflow: Installation) -> None:
    """From the S3 server itself, not through the door that can fail: it costs CPU that a cell needs."""
    extra = {"endpoint_url": airflow.s3_url, "region_name": "us-east-1"}
    airflow.connect(aws_default={"conn_type": "aws", "login": "x", "password": "y", "extra": extra})


def _put(airflow: Installation, plan: Plan, dag: str, place: int, count: int) -> str:
    files = {
        f"{number:06}.png": stub_picture(place * count + number, least_bytes=plan.picture_bytes)
        for number in range(count)
    }
    if plan.storage == "s3":
        return airflow.put(dag, files)
    folder = airflow.home / "pictures" / dag
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return f"{folder.as_uri()}/"


def _all_ended(airflow: Installation, path: str) -> bool:
    return all(task["state"] in FINISHED for task in airflow.get(path)["task_instances"])


def _cpu_ticks() -> tuple[int, int]:
    """Busy and idle, of all cores since the machine was started."""
    ticks = [int(text) for text in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = ticks[3] + ticks[4]
    return sum(ticks) - idle, idle


def table(plan: Plan, all_found: Sequence[Found]) -> str:
    headings = ("executor", "ledger", "QPS", "window", "share", "over limit", "calls", "busiest", "CPU")
    return markdown(
        headings,
        (
            (
                plan.executor,
                plan.ledger,
                f"{found.cell.qps:g}",
                found.cell.window,
                percent(found.share),
                percent(found.over_limit, 2),
                found.calls,
                found.busiest,
                percent(found.cpu, 0),
            )
            for found in all_found
        ),
    )


def processor_table(all_found: Sequence[Found]) -> str:
    """Milliseconds of a core for one call, by part."""
    parts = sorted({part for found in all_found for part in found.cpu_ms_per_call})
    rows = (
        [f"{found.cell.qps:g}", found.cell.window, *(found.cpu_ms_per_call.get(part, 0.0) for part in parts)]
        for found in all_found
    )
    return markdown(("QPS", "window", *parts), rows)


def main(argv: Sequence[str] | None = None) -> int:
    end_in_order()
    parser = _arguments()
    options = parser.parse_args(argv)
    if options.minutes * 60 <= WARM_UP_SECONDS:
        parser.error("--minutes: the first minute is not counted, so more than one is wanted")
    low, high = (float(text) for text in options.latency.split(","))
    plan = Plan(
        executor=options.executor,
        ledger=options.ledger,
        minutes=options.minutes,
        tasks=options.tasks,
        max_in_flight=options.max_in_flight,
        latency_seconds=(low, high),
        picture_bytes=options.picture_bytes,
        storage=options.storage,
        seed=options.seed,
    )
    cells = [
        Cell(float(qps), cast(Window, window))
        for qps in options.qps.split(",")
        for window in options.window.split(",")
    ]
    say, all_found = progress(), []
    with stage(plan, max(cell.qps for cell in cells), say) as ready:
        for cell in cells:
            all_found.append(found := ready.measure(cell, say))
            share, over = percent(found.share), percent(found.over_limit, 2)
            say(f"{cell.qps:g} QPS, {cell.window}: {share}, over the limit {over}")
    print(table(plan, all_found))
    print(f"\n{processor_table(all_found)}")
    keep(options.json, {"plan": asdict(plan), "cells": [asdict(found) for found in all_found]})
    return 0


def _arguments() -> argparse.ArgumentParser:
    plan = Plan()
    parser = argparse.ArgumentParser(
        prog="python -m tests.rate.airflow",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--qps", default="2,10,50", help="allowed calls a second, a row of cells each [%(default)s]")
    add("--window", default="fixed,sliding,token", help=f"of {','.join(WINDOWS)} [%(default)s]")
    add(
        "--minutes",
        type=float,
        default=plan.minutes,
        help="of each cell, the first not counted [%(default)s]",
    )
    add("--executor", choices=get_args(Executor), default=plan.executor, help="[%(default)s]")
    add("--ledger", choices=LEDGERS, default=plan.ledger, help="[%(default)s]")
    add("--tasks", type=int, default=plan.tasks, help="mapped tasks of each executor [%(default)s]")
    add("--max-in-flight", type=int, default=plan.max_in_flight, help="of each task [%(default)s]")
    add("--latency", default="0.5,1.0", help="seconds, least and most [%(default)s]")
    add("--picture-bytes", type=int, default=plan.picture_bytes, help="at least [%(default)s]")
    add(
        "--storage", choices=("s3", "file"), default=plan.storage, help="where the pictures are [%(default)s]"
    )
    add("--seed", type=int, default=plan.seed, help="of the latencies [%(default)s]")
    add("--json", type=Path, help="keep the figures in this file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
