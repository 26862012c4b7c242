"""A task is killed half-way and started again: how many pictures are paid for twice.

Each way keeps its results where its author would keep them. `kill -9` falls when the service has billed
half of the pictures; then the same task is started again, as a retry would be, and the service's bill says
the rest.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from airflow_provider_jdocr.core.batch import Policy, recognise_batch
from airflow_provider_jdocr.core.ledger import InDoubt, RunKey
from tests.benchmarks import today
from tests.benchmarks.rows import Row, Size
from tests.benchmarks.stage import QUIET, Service, database, ledger_of, service
from tests.rate.tasks import Drawn, source_of
from tests.system.pictures import stub_picture

IMAGES = {"small": 20, "full": 200}
QPS = 20.0
LATENCY_SECONDS = 0.2
PATIENCE_SECONDS = 600.0
_SPAWN = multiprocessing.get_context("spawn")
Start = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Task:
    service: Service
    images: int
    folder: Path
    ledger_url: str

    def errand(self) -> today.Errand:
        return today.Errand(self.service.account(), self.images, PATIENCE_SECONDS, QPS, stub_picture)


def run(size: Size, seed: int, say: Callable[[str], None]) -> Iterator[Row]:
    images = IMAGES[size]
    with service("--latency", str(LATENCY_SECONDS)) as target:
        for case, work in WAYS.items():
            say(case)
            target.behave(reset=True, latency=LATENCY_SECONDS)
            with tempfile.TemporaryDirectory() as home, database("postgresql") as books:
                task = Task(target, images, Path(home), books.url)
                seconds = _killed_and_retried(partial(work, task), target, images // 2)
                held = _held(task)
            billed = target.billed()
            said = {"case": case, "images": images, "killed_at": images // 2, "billed": len(billed)}
            twice = len(billed) - len(set(billed))
            yield {**said, "billed_twice": twice, "held": held, "retry_seconds": round(seconds, 1)}


def _killed_and_retried(start: Start, target: Service, when: int) -> float:
    """Gives how long the retry took."""
    first = _SPAWN.Process(target=start)
    first.start()
    while len(target.billed()) < when:
        assert first.is_alive(), "the task ended before it could be killed"
        time.sleep(0.02)
    os.kill(first.pid or 0, signal.SIGKILL)
    first.join()
    time.sleep(2 * LATENCY_SECONDS)  # what it had sent is billed, whoever is there to hear of it
    began = time.monotonic()
    retry = _SPAWN.Process(target=start)
    retry.start()
    retry.join()
    assert retry.exitcode == 0, "the retry failed"
    return time.monotonic() - began


def in_memory(task: Task, way: Callable[[today.Errand], today.Done]) -> None:
    """Results go on when all are there: XCom, a list, one commit at the end."""
    way(task.errand())


def one_commit_each(task: Task) -> None:
    """A loop that writes each result down, and asks first what there is."""
    errand = task.errand()
    post = today.poster(errand.account, session=True)
    with closing(sqlite3.connect(task.folder / "results.db")) as db:
        db.execute("CREATE TABLE IF NOT EXISTS result (number INTEGER PRIMARY KEY, said TEXT)")
        known = {number for (number,) in db.execute("SELECT number FROM result")}
        for number in (each for each in errand.numbers() if each not in known):
            said = str(post(errand.read(number)))
            with db:
                db.execute("INSERT INTO result VALUES (?, ?)", (number, said))


def ours(task: Task, in_doubt: InDoubt) -> None:
    with ledger_of(task.ledger_url) as ledger:
        recognise_batch(
            map(source_of, range(task.images)),
            storage=Drawn(),
            account=task.service.account(qps=QPS, read_timeout_seconds=10),
            ledger=ledger,
            run=RunKey("benchmark", "run", "recognise"),
            policy=Policy(in_doubt=in_doubt),
            log=QUIET,
        )


def _held(task: Task) -> int:
    with ledger_of(task.ledger_url) as ledger:
        outcomes = ledger.outcomes(RunKey("benchmark", "run", "recognise"))
        return sum(each.outcome == "held" for each in outcomes)


WAYS: dict[str, Callable[[Task], None]] = {
    "loop, results at the end": partial(in_memory, way=today.loop),
    "pool, results at the end": partial(in_memory, way=today.pool),
    "asyncio, results at the end": partial(in_memory, way=today.asyncio_even),
    "loop, one commit a picture": one_commit_each,
    "ours": partial(ours, in_doubt="resend"),
    "ours, in_doubt=hold": partial(ours, in_doubt="hold"),
}
