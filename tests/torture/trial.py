"""One trial: the conductor starts the processes, brings the faults about, retries as Airflow would, repairs
everything, lets it come to an end, and takes stock.

It is alone in its process: children are forked from it, so it holds no thread, engine or connection then.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from airflow_provider_jdocr.core.ledger import RunKey
from tests.torture import books, pictures, process
from tests.torture.books import Books, End
from tests.torture.draw import Change, Jump, Outage, Plan, StorageFaults, Task, Try
from tests.torture.process import Order
from tests.torture.servers import Slot, path_of
from tests.torture.world import PROCESSES, Line, Reader, World

HANGS_AFTER_SECONDS = 90.0
_SLOW_BATCH_SECONDS = 20.0
MOST_ROUNDS = 8
"""Tries of one task instance after everything was repaired."""
_ENDS: Mapping[int, End] = {
    process.SUCCESS: "success",
    process.RETRY: "retry",
    process.FAILED: "failed",
    process.UNDECLARED: "undeclared",
}


@dataclass(slots=True)
class _Child:
    """A process that is running, or was."""

    order: Order
    pid: int
    reader: Reader
    started: float
    lines: list[Line] = field(default_factory=list)
    end: End | None = None

    @property
    def manifest(self) -> Mapping[str, Any]:
        return next((line.more for line in reversed(self.lines) if line.what == "manifest"), {})


@dataclass(slots=True)
class _Progress:
    """How far a task instance has come."""

    task: Task
    due: float
    tries: int = 0
    child: _Child | None = None
    over: bool = False


@dataclass(frozen=True, slots=True)
class Played:
    """A trial that is over: the books, and everything that happened, in order of time."""

    plan: Plan
    books: Books
    log: tuple[Line, ...]
    seconds: float
    ledger_url: str
    warehouse_url: str


def play(plan: Plan, slot: Slot) -> Played:
    """Plays a trial in a slot that nobody else uses. Its databases are kept: see `forget`."""
    return _Conductor(plan, slot).play()


def forget(played: Played, slot: Slot) -> None:
    """Removes the databases of a trial."""
    for url in {played.ledger_url, played.warehouse_url}:
        slot.databases(played.plan.name.database).drop(url)


class _Conductor:
    def __init__(self, plan: Plan, slot: Slot) -> None:
        self._plan, self._slot = plan, slot
        self._databases = slot.databases(plan.name.database)
        self._world = World(plan.time_of_day)
        self._random = plan.name.random("conductor")
        self._began = time.monotonic()
        self._children: list[_Child] = []
        self._log: list[Line] = []
        self._faults: list[tuple[float, Callable[[], None]]] = []
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self._begun = self._looks = 0
        self._helpers: list[int] = []
        self._down = False
        trial = f"trial_{plan.name.number}"
        self._ledger_url = self._databases.fresh(trial)
        self._warehouse_url = (
            self._databases.fresh(f"{trial}_warehouse") if plan.separate_warehouse else self._ledger_url
        )

    def play(self) -> Played:
        try:
            return self._play()
        finally:
            self._leave_nothing_running()

    def _play(self) -> Played:
        self._prepare()
        self._run([_Progress(task, task.after) for task in self._plan.tasks])
        self._repair()
        self._recover()
        self._clear()
        reloaded, changed = self._load_again()
        time.sleep(
            self._plan.latency + 0.05
        )  # a call of a killed process may still be on its way to the bill
        taken = self._take_stock(reloaded, changed)
        seconds = time.monotonic() - self._began
        lines = sorted([*self._log, *(line for each in self._children for line in each.lines)], key=_when)
        return Played(self._plan, taken, tuple(lines), seconds, self._ledger_url, self._warehouse_url)

    # --- the faults

    def _prepare(self) -> None:
        plan = self._plan
        self._behave(
            reset=True,
            latency=plan.latency,
            body_encoding="base64",
            clock_offset_seconds=self._world.service_ahead,
            **self._addressed(plan.service),
        )
        self._faults += [(change.at, partial(self._change, change)) for change in plan.changes]
        self._faults += [(outage.at, partial(self._outage, outage)) for outage in plan.outages]
        self._faults += [(jump.at, partial(self._jump, jump)) for jump in plan.jumps]
        self._faults.sort(key=lambda fault: fault[0])

    def _addressed(self, behave: Mapping[str, Any]) -> dict[str, Any]:
        """Faults that the plan gives to pictures, under the pictures' digests."""
        if "faults" not in behave:
            return dict(behave)
        faults = []
        for fault in behave["faults"]:
            told = {key: value for key, value in fault.items() if key != "picture"}
            if "picture" in fault and fault["fault"] != "close_before_body":  # of which nothing is read
                told["sha256"] = pictures.sha256_of(fault["picture"])
            faults.append(told)
        return {**behave, "faults": faults}

    def _behave(self, **change: Any) -> None:
        self._note("service", **{key: value for key, value in change.items() if key != "faults"})
        self._slot.ocr.behave(**change)

    def _change(self, change: Change) -> None:
        self._behave(**self._addressed(change.behave))

    def _jump(self, jump: Jump) -> None:
        self._note("clock", whose=jump.whose, seconds=jump.seconds)
        self._world.put_wrong(jump.whose, jump.seconds)
        if jump.whose == "service":
            self._behave(clock_offset_seconds=self._world.service_ahead)

    def _outage(self, outage: Outage) -> None:
        self._note("outage", kind=outage.kind, seconds=outage.seconds)
        ends = self._now() + outage.seconds
        match outage.kind:
            case "full":
                self._world.disk_is_full = True
                self._at(ends, self._free_the_disk)
            case "file_limit":
                self._limit_files()
                self._at(ends, self._free_the_disk)
            case "locked":
                self._lock_file(outage.seconds)
            case "cut" if not self._down:
                self._databases.cut(self._ledger_url)
                self._databases.cut(self._warehouse_url)
            case "restart" if not self._down:
                self._databases.stop()
                self._databases.start()
            case "crash" if not self._down:
                self._databases.crash()
                self._databases.start()
            case "stop" if not self._down:
                self._databases.crash()
                self._down = True
                self._at(ends, self._start_database)

    def _start_database(self) -> None:
        if self._down:
            self._databases.start()
            self._down = False

    def _at(self, moment: float, do: Callable[[], None]) -> None:
        self._timers.append((moment, do))
        self._timers.sort(key=lambda timer: timer[0])

    def _limit_files(self) -> None:
        """No file of theirs may grow any more."""
        sizes = [path.stat().st_size for path in self._slot.home.glob(f"{path_of(self._ledger_url).name}*")]
        for child in self._alive():
            resource.prlimit(
                child.pid, resource.RLIMIT_FSIZE, (max(sizes, default=0), resource.RLIM_INFINITY)
            )

    def _free_the_disk(self) -> None:
        self._note("outage is over")
        self._world.disk_is_full = False
        for child in self._alive():
            unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(child.pid, resource.RLIMIT_FSIZE, unlimited)

    def _lock_file(self, seconds: float) -> None:
        """Another program holds the file's write lock for a while."""
        if pid := os.fork():
            self._helpers.append(pid)
            return
        try:
            file = sqlite3.connect(path_of(self._ledger_url), timeout=5, isolation_level=None)
            file.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
        finally:
            os._exit(0)

    # --- processes

    def _run(self, tasks: list[_Progress]) -> None:
        """Plays the tasks until each succeeds, fails for good or has no try left."""
        while self._timers or any(not task.over for task in tasks):
            self._bring_about()
            for task in tasks:
                self._advance(task)
            self._listen()
            self._let_time_pass()

    def _bring_about(self) -> None:
        """Faults come when so much of the batch was sent, or after a while where it does not get there."""
        sent = max(self._begun / len(self._plan.inputs), self._now() / _SLOW_BATCH_SECONDS)
        while self._faults and self._faults[0][0] <= sent:
            self._faults.pop(0)[1]()
        while self._timers and self._timers[0][0] <= self._now():
            self._timers.pop(0)[1]()

    def _advance(self, task: _Progress) -> None:
        if task.child is not None:
            self._reap(task.child)
            if task.child.end is None:
                return
            task.over = task.child.end in ("success", "failed") or task.tries == len(task.task.tries)
            task.child, task.due = None, self._now() + self._random.uniform(0, 0.2)
        elif not task.over and self._now() >= task.due:
            doing = task.task.tries[task.tries]
            task.tries += 1
            task.child = self._start(self._key(task.task.run_id), doing, self._plan.storage)

    def _start(
        self, run: RunKey, doing: Try, storage: StorageFaults, load_only: tuple[RunKey, ...] = ()
    ) -> _Child:
        number = len(self._children)
        if number >= PROCESSES:
            raise RuntimeError(f"trial {self._plan.name}: more than {PROCESSES} processes")
        order = Order(
            number=number,
            run=run,
            plan=self._plan,
            doing=doing,
            storage_faults=storage,
            files=pictures.files(self._plan.inputs, number),
            service_url=self._slot.ocr.url,
            ledger_url=self._ledger_url,
            warehouse_url=self._warehouse_url,
            load_only=load_only,
        )
        read, write = os.pipe()
        self._note("start", process=number, run=run.run_id)
        pid = os.fork()
        if not pid:
            process.run(order, self._world, write)
        os.close(write)
        self._children.append(_Child(order, pid, Reader(number, read), time.monotonic()))
        return self._children[-1]

    def _reap(self, child: _Child) -> None:
        pid, status = os.waitpid(child.pid, os.WNOHANG)
        if pid:
            killed = os.WIFSIGNALED(status)
            self._ended(child, "killed" if killed else _ENDS[os.WEXITSTATUS(status)])
        elif time.monotonic() - child.started > HANGS_AFTER_SECONDS:
            os.kill(child.pid, signal.SIGUSR1)  # it says where it is
            time.sleep(0.2)
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            self._ended(child, "hung")

    def _ended(self, child: _Child, end: End) -> None:
        child.end = end
        child.lines += child.reader.lines()
        child.reader.close()
        self._world.forget(child.order.number)
        self._note("end", process=child.order.number, end=end)

    def _listen(self) -> None:
        """Takes what the processes have noted; a pipe that is full would hold them up."""
        readers = {child.reader.pipe: child for child in self._alive()}
        ready, _, _ = select.select(list(readers), [], [], 0.004)
        for pipe in ready:
            lines = readers[pipe].reader.lines()
            readers[pipe].lines += lines
            begun = sum(line.what == "begun" for line in lines)
            self._begun, self._looks = self._begun + begun, 0 if begun else self._looks

    def _let_time_pass(self) -> None:
        """When everybody waits, nobody has to. Who looks every second whether an hour is over finds it over
        after a few looks.
        """
        waits = [self._world.waits_until(child.order.number) for child in self._alive()]
        if waits and all(waits):
            self._looks += 1
            self._skip(max(min(waits) - self._world.now(), 2.0 ** min(self._looks - 5, 9)))

    def _skip(self, seconds: float) -> None:
        if seconds > 0.01:
            self._note("time passes", seconds=round(seconds, 3))
            self._slot.ocr.behave(clock_offset_seconds=self._world.service_ahead + seconds)
            self._world.skip(seconds)

    def _alive(self) -> list[_Child]:
        return [child for child in self._children if child.end is None]

    # --- the end

    def _repair(self) -> None:
        """Everything works again, and what was not broken by now stays whole. A quota that is not topped up
        stays at its end.
        """
        for pid in self._helpers:
            os.waitpid(pid, 0)
        self._world.put_right()
        limits = {"daily_limit": -1, "total_limit": -1} if self._plan.topped_up else {}
        self._behave(faults=[], qps=0, clock_offset_seconds=self._world.service_ahead, **limits)

    def _recover(self) -> None:
        """Retries each task instance, as Airflow or a person would, until nothing more can happen."""
        runs = list(dict.fromkeys(self._key(task.run_id) for task in self._plan.tasks))
        before: dict[RunKey, Mapping[str, Any]] = {}
        for _ in range(MOST_ROUNDS):
            after = {child.order.run: _counts(child) for child in self._undisturbed(runs)}
            # A manifest that says the same as the one before will say it for ever.
            runs = [run for run in runs if _something_is_left(after[run]) and after[run] != before.get(run)]
            if not runs:
                return
            before = after
            stops = [child.manifest.get("stop") or {} for child in self._children[-len(after) :]]
            self._skip(max([30.0, *(stop["seconds"] + 1 for stop in stops if stop.get("seconds"))]))

    def _clear(self) -> None:
        """A task that succeeded is cleared, and another run of the DAG finds the same files."""
        self._undisturbed([self._key(self._plan.tasks[0].run_id)])
        self._undisturbed([self._key("another run")])

    def _undisturbed(self, runs: list[RunKey]) -> list[_Child]:
        if self._plan.together_at_the_end:
            return self._ended_all([self._start(run, Try(), StorageFaults()) for run in runs])
        return [self._ended_all([self._start(run, Try(), StorageFaults())])[0] for run in runs]

    def _ended_all(self, children: list[_Child]) -> list[_Child]:
        while any(child.end is None for child in children):
            for child in children:
                if child.end is None:
                    self._reap(child)
            self._listen()
            self._let_time_pass()
        return children

    def _load_again(self) -> tuple[int, bool]:
        """Loads everything once more; gives the documents written, and whether any row is another one."""
        before = books.everything(self._warehouse_url)
        runs = tuple(dict.fromkeys(child.order.run for child in self._children))
        (child,) = self._ended_all([self._start(runs[0], Try(), StorageFaults(), runs)])
        loaded = next((line.more["loaded"] for line in child.lines if line.what == "loaded"), -1)
        return loaded, books.everything(self._warehouse_url) != before

    def _take_stock(self, reloaded: int, changed: bool) -> Books:
        sent, known, noted = books.ledger(self._ledger_url)
        bill = self._slot.ocr.bill()
        for line in bill:
            self._note("billed", **line)
        return Books(
            hold=self._plan.in_doubt == "hold",
            max_in_flight=self._plan.max_in_flight,
            inputs=len(self._plan.inputs),
            max_calls=self._plan.max_calls and self._plan.max_calls * self._plan.most_at_once,
            billed=tuple(books.Billed(line["sha256"], line["request_id"]) for line in bill),
            calls=len(self._slot.ocr.calls()),
            sent=sent,
            known=known,
            noted=noted,
            stored=books.documents(self._warehouse_url),
            processes=tuple(_process(child) for child in self._children if not child.order.load_only),
            reloaded=reloaded,
            reload_changed=changed,
        )

    def _leave_nothing_running(self) -> None:
        """Where the conductor itself broke off, so must its processes."""
        for child in self._alive():
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            self._ended(child, "killed")
        self._start_database()

    # --- small change

    def _now(self) -> float:
        return time.monotonic() - self._began

    def _key(self, run_id: str) -> RunKey:
        return RunKey("torture", run_id, "recognise")

    def _note(self, what: str, process: int = -1, **more: Any) -> None:
        self._log.append(Line(process, time.monotonic(), what, more))


def _process(child: _Child) -> books.Process:
    assert child.end is not None
    return books.process(child.order.number, child.order.run.digest, child.end, child.lines)


def _counts(child: _Child) -> Mapping[str, Any]:
    """What a manifest says, without what differs from try to try."""
    names = ("recognised", "reused", "rejected", "failed", "held", "waiting", "unsettled")
    return {name: child.manifest.get(name) for name in names} | {"end": child.end}


def _something_is_left(counts: Mapping[str, Any]) -> bool:
    return counts["end"] != "success" or bool(counts["waiting"] or counts["unsettled"])


def _when(line: Line) -> float:
    return line.at


def told(lines: Iterable[Line]) -> list[Line]:
    """What happened to the processes, without what each of them did call by call."""
    calls = ("begun", "send", "reply", "settled", "billed", "database", "manifest", "loaded")
    return [line for line in lines if line.what not in calls]


def written(lines: Iterable[Line], began: float) -> str:
    """The lines of a log, to be read by a person."""
    return "".join(
        f"{line.at - began:8.3f} {'   ' if line.process < 0 else f'p{line.process:02}'} {line.what} "
        f"{' '.join(f'{key}={value}' for key, value in line.more.items())}\n"
        for line in lines
    )
