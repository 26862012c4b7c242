"""Tasks in processes of their own, as an executor runs them: the product's batch, client and ledger, over
pictures that are drawn when they are read.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import takewhile
from multiprocessing.synchronize import Barrier
from typing import Any

from airflow_provider_jdocr.core.account import Account, account_from_parts
from airflow_provider_jdocr.core.batch import Manifest, Policy, recognise_batch
from airflow_provider_jdocr.core.client import Client
from airflow_provider_jdocr.core.engines import engine_for
from airflow_provider_jdocr.core.ledger import Ledger, RunKey
from airflow_provider_jdocr.core.sources import Missing, Source
from tests.system.pictures import stub_picture

# What a task says in its log is no part of what a trial says.
_SILENT = logging.getLogger(__name__)
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False

KEY, SECRET = "the-key-of-the-trial", "the-secret-of-the-trial"


@dataclass(frozen=True, slots=True)
class Job:
    """What one task is to do. `pictures` are numbers; with `seconds` it is told to stop after so many.

    `clock_ahead_seconds`: how far its own clock and the ledger's are ahead of the machine's.
    """

    service_url: str
    ledger_url: str
    run: RunKey
    pictures: range
    extra: dict[str, Any] = field(default_factory=dict)
    max_in_flight: int = 4
    seconds: float | None = None
    clock_ahead_seconds: float = 0.0

    def account(self) -> Account:
        return account_from_parts(
            login=KEY, password=SECRET, host=self.service_url, port=None, schema=None, extra=self.extra
        )


class Drawn:
    """A storage of numbered pictures, each drawn when it is read."""

    def list(self, prefix: str, after: str | None, until: str | None) -> Iterator[Source]:
        raise NotImplementedError("the pictures are given by number")

    def stat(self, uri: str) -> Source | Missing:
        return source_of(int(uri.rpartition("/")[2]))

    def read(self, uri: str) -> bytes:
        return stub_picture(int(uri.rpartition("/")[2]))


def source_of(number: int) -> Source:
    return Source(f"drawn://{number}", size=1, etag=str(number))


def digest_of(number: int) -> str:
    return sha256(stub_picture(number)).hexdigest()


def recognise(job: Job) -> Manifest:
    """Does the job, in the process that calls it."""

    def clock() -> float:
        return time.time() + job.clock_ahead_seconds

    stop = threading.Event()
    if job.seconds is not None:
        timer = threading.Timer(job.seconds, stop.set)
        timer.daemon = True
        timer.start()
    account, engine = job.account(), engine_for(job.ledger_url)
    try:
        with Client(account, clock=clock) as client:
            return recognise_batch(
                map(source_of, takewhile(lambda _: not stop.is_set(), job.pictures)),
                storage=Drawn(),
                account=account,
                # Where time is moved; otherwise it is the database's, as in production.
                ledger=Ledger(engine, clock=clock if job.clock_ahead_seconds else None),
                run=job.run,
                policy=Policy(max_in_flight=job.max_in_flight),
                client=client,
                log=_SILENT,
                stop=stop,
            )
    finally:
        engine.dispose()


@dataclass(frozen=True, slots=True)
class Crew:
    """Processes that wait for jobs."""

    pool: ProcessPoolExecutor

    def start(self, jobs: Iterable[Job]) -> list[Future[Manifest]]:
        return [self.pool.submit(recognise, job) for job in jobs]

    def do(self, jobs: Iterable[Job]) -> list[Manifest]:
        """Does all at once and gives what each counted."""
        return [future.result() for future in self.start(jobs)]


@contextmanager
def crew(processes: int) -> Iterator[Crew]:
    """So many processes, none of which shares memory with another, all of them up when the block begins."""
    context = multiprocessing.get_context("spawn")
    everybody = context.Barrier(processes)
    with ProcessPoolExecutor(processes, context, initializer=_meet, initargs=(everybody,)) as pool:
        # A pool starts a process for a job that finds none idle: here as many as there may be.
        for up in [pool.submit(os.getpid) for _ in range(processes)]:
            up.result()
        yield Crew(pool)


def _meet(everybody: Barrier) -> None:
    everybody.wait(300)
