"""How much of an allowed rate is used for real: ours, and what people write today, one after the other.

The local service counts each second in one way or another, and says itself how it was called; its latency is
drawn anew twice a second, log-normal around a median. Ours are tasks in processes of their own that share a
ledger in PostgreSQL. What people write runs in one task, because no limiter of theirs is shared.

share   answered calls, of those allowed; ours from the second minute on, theirs from first call to last
lost    of the pictures that were taken up, those that ended without an answer
over    over-limit answers per answered call
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from airflow_provider_jdocr.core.ledger import RunKey
from airflow_provider_jdocr.server.limits import Window
from tests.benchmarks import stage, today
from tests.benchmarks.measure import apart
from tests.benchmarks.rows import Row, Size
from tests.rate import tasks as ours
from tests.rate.calls import Calls
from tests.system.pictures import stub_picture

WARM_UP_SECONDS = 60.0
MOST_PICTURES = 60_000
SIGMA = 0.3


@dataclass(frozen=True, slots=True)
class Cell:
    qps: float
    window: Window
    latency: float
    tasks: int
    max_in_flight: int


@dataclass(frozen=True, slots=True)
class Minutes:
    """Seconds that each runs; ours are counted after the warm-up."""

    ours: float
    warm_up: float
    theirs: float
    cells: int


CELLS = (
    Cell(2, "sliding", 1.0, 1, 8),
    Cell(10, "fixed", 0.5, 4, 8),
    Cell(10, "token", 2.0, 8, 8),
    Cell(10, "strict", 0.5, 4, 8),
    Cell(50, "sliding", 0.5, 8, 12),
    Cell(50, "fixed", 1.0, 8, 16),
)
MINUTES = {
    "small": Minutes(ours=25, warm_up=5, theirs=6, cells=2),
    "full": Minutes(ours=180, warm_up=WARM_UP_SECONDS, theirs=30, cells=len(CELLS)),
}


def run(size: Size, seed: int, say: Callable[[str], None]) -> Iterator[Row]:
    minutes = MINUTES[size]
    with stage.service("--workers", "4") as target, stage.database("postgresql") as books:
        for cell in CELLS[: minutes.cells]:
            say(f"{cell.qps:g} QPS, {cell.window}: ours")
            with behaving(target, cell, seed):
                yield {**asdict(cell), "who": "ours", "server": books.name, **_ours(target, cell, minutes)}
            for way in today.WAYS:
                say(f"{cell.qps:g} QPS, {cell.window}: {way}")
                with behaving(target, cell, seed):
                    yield {**asdict(cell), "who": way, **_theirs(target, cell, minutes, way)}


@contextmanager
def behaving(target: stage.Service, cell: Cell, seed: int) -> Iterator[None]:
    """The service as the cell says, with nothing of what was before."""
    target.behave(reset=True, qps=cell.qps, window=cell.window, daily_limit=-1, latency=cell.latency)
    over, draw = threading.Event(), random.Random(seed)

    def vary() -> None:
        while not over.wait(0.5):
            target.behave(latency=draw.lognormvariate(math.log(cell.latency), SIGMA))

    thread = threading.Thread(target=vary)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _ours(target: stage.Service, cell: Cell, minutes: Minutes) -> dict[str, Any]:
    with stage.database("postgresql") as books, ours.crew(cell.tasks) as crew:
        with stage.ledger_of(books.url):
            pass
        jobs = [
            ours.Job(
                service_url=target.url,
                ledger_url=books.url,
                run=RunKey("benchmark", "run", "recognise", task),
                pictures=range(task, MOST_PICTURES, cell.tasks),
                extra={"qps": cell.qps},
                max_in_flight=cell.max_in_flight,
                seconds=minutes.ours,
            )
            for task in range(cell.tasks)
        ]
        running = crew.start(jobs)
        time.sleep(minutes.ours)
        wait(running)
        manifests = [each.result() for each in running]
    calls = Calls.listed(target.calls())
    # A task that was told to stop begins no call: with the last one the rate is over.
    warm, ended = calls.first_at + minutes.warm_up, calls.last_at
    counted, counted_seconds = calls.between(warm, ended), ended - warm
    tried = sum(each.inputs - each.waiting for each in manifests)
    return {
        "share": round(counted.answered / counted_seconds / cell.qps, 4),
        "over": round(counted.over_limit / max(1, counted.answered), 5),
        "lost": round(1 - sum(each.recognised for each in manifests) / tried, 4),
        "calls": len(counted),
        "seconds": round(counted_seconds, 1),
    }


def _theirs(target: stage.Service, cell: Cell, minutes: Minutes, way: str) -> dict[str, Any]:
    pictures = math.ceil(cell.qps * minutes.theirs)
    errand = today.Errand(target.account(), pictures, minutes.theirs, cell.qps, stub_picture)
    done = apart(today.WAYS[way], errand)
    calls = Calls.listed(target.calls())
    # A call that came in is done when its answer is there.
    seconds = calls.last_at + cell.latency - calls.first_at
    return {
        "share": round(calls.answered / seconds / cell.qps, 4),
        "over": round(calls.over_limit / max(1, calls.answered), 5),
        "lost": round(1 - done.good / done.tried, 4),
        "calls": len(calls),
        "seconds": round(seconds, 1),
    }
