"""Many trials, several at a time: each slot is a process with servers of its own, fed trial after trial.

A slot ends when nobody is there any more who asked, and its servers with it.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.torture import books, pictures
from tests.torture.draw import Name, draw
from tests.torture.report import Result, broken, result
from tests.torture.servers import Slot, slot
from tests.torture.trial import Played, forget, play, written

_FORKS = multiprocessing.get_context("fork")
_LONGEST_LAST_TRIAL_SECONDS = 120.0


def run(
    names: Sequence[Name],
    jobs: int,
    *,
    kept: Path,
    keep_all: bool = False,
    show: Callable[[Result], None] = lambda _: None,
) -> list[Result]:
    """Plays the trials in `jobs` slots and gives their results, in order of names.

    Below `kept` remains what is needed to understand a trial that broke a law: its plan, its event log and
    every row of its databases.
    """
    pictures.draw_all()
    gc.collect()
    gc.freeze()
    found: dict[str, Result] = {}
    todo = list(reversed(names))
    with _home() as home, _slots(home, min(jobs, len(names)), kept, keep_all) as slots:
        for each in slots:
            each.give(todo)
        while busy := {each.pipe: each for each in slots if each.busy}:
            for pipe in wait(list(busy), timeout=1.0):
                worker = busy[pipe]  # type: ignore[index]
                done = worker.take()
                found[done.name] = done
                show(done)
                worker.give(todo)
    return [found[str(name)] for name in names if str(name) in found]


@dataclass(slots=True)
class _Worker:
    """A slot's process, seen from here."""

    process: BaseProcess
    pipe: Connection
    busy: str = ""

    def give(self, todo: list[Name]) -> None:
        name = todo.pop() if todo else None
        self.busy = str(name) if name else ""
        self.pipe.send(name)

    def take(self) -> Result:
        try:
            done: Result = self.pipe.recv()
        except EOFError:
            raise RuntimeError(f"the slot of trial {self.busy} is gone") from None
        return done


@contextmanager
def _slots(home: Path, count: int, kept: Path, keep_all: bool) -> Iterator[list[_Worker]]:
    workers: list[_Worker] = []
    try:
        for number in range(count):
            ours, theirs = _FORKS.Pipe()
            at = home / f"slot-{number}"
            process = _FORKS.Process(target=_serve, args=(theirs, at, kept, keep_all))
            process.start()
            theirs.close()
            workers.append(_Worker(process, ours))
        yield workers
    finally:
        for worker in workers:
            if worker.process.is_alive() and worker.busy:
                worker.pipe.send(None)
        for worker in workers:
            worker.process.join(_LONGEST_LAST_TRIAL_SECONDS)


def _serve(pipe: Connection, home: Path, kept: Path, keep_all: bool) -> None:
    """Plays what comes down the pipe, until nothing more does or nobody is there to ask."""
    # A signal to the whole group would otherwise leave the servers behind.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: None)
    asker = os.getppid()
    with slot(home) as made:
        while os.getppid() == asker:
            if not pipe.poll(1.0):
                continue
            name = pipe.recv()
            if name is None:
                return
            pipe.send(_play(name, made, kept, keep_all))


def _play(name: Name, made: Slot, kept: Path, keep: bool) -> Result:
    try:
        played = play(draw(name), made)
        done = result(played)
        if done.violations or keep:
            _keep(played, done, kept)
        forget(played, made)
    except Exception:  # noqa: BLE001 - a fault of the harness is a result as well
        return broken(name, traceback.format_exc())
    return done


def folder(kept: Path, name: str) -> Path:
    """Where a trial's evidence is."""
    return kept / name.replace(":", "-")


def _keep(played: Played, done: Result, kept: Path) -> None:
    place = folder(kept, done.name)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    violated = "".join(f"VIOLATED {each}\n" for each in done.violations)
    (place / "plan.json").write_text(played.plan.faults())
    (place / "events.log").write_text(violated + written(played.log, played.log[0].at))
    for what, url in (("ledger", played.ledger_url), ("warehouse", played.warehouse_url)):
        (place / f"{what}.json").write_text(json.dumps(books.dump(url), indent=1, default=str))


@contextmanager
def _home() -> Iterator[Path]:
    """In memory where there is such a place: no trial cuts the power, so none has to wait for a disk."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of our own inside it
    place = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="jdocr-torture-", dir=place, ignore_cleanup_errors=True) as home:
        yield Path(home)
