"""One trial: triggers runs, strikes while they recognise, repairs, clears what is left over as a person
would, and takes stock.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import requests
import sqlalchemy as sa

from airflow_provider_jdocr.core.ledger import RunKey
from tests.databases import Server
from tests.system.installation import Installation, Run
from tests.system.pictures import stub_picture
from tests.torture import books
from tests.torture.airflow.accounts import Found
from tests.torture.airflow.blows import Target, Undo, strike
from tests.torture.airflow.plan import Blow, Plan
from tests.torture.books import Books

ENDS_AFTER_SECONDS = 300.0
STALLS_AFTER_SECONDS = 15.0
"""A blow whose moment does not come falls anyway."""
MOST_ROUNDS = 5
"""Clears of a run after everything was repaired."""
RESET_AFTER_SECONDS = 15.0
"""From the first bill, where a trial waits for the reset: the quota has to end before the day does."""
TASKS = ("recognise", "load")
_LOOK_EVERY_SECONDS = 0.25
_SENDING = "SELECT COUNT(*) FROM jdocr_attempt WHERE state = 'sending'"
_ON_THEIR_WAY = f"{_SENDING} AND lease_until > :now"
_EXPIRED = f"{_SENDING} OR (state = 'in_doubt' AND code = 'lease_expired')"


@dataclass(frozen=True, slots=True)
class Played:
    """A trial that is over. `struck`: the blows that fell, by kind; `events`: what happened when."""

    plan: Plan
    found: Found
    struck: Mapping[str, int]
    calls_in_doubt_at_kills: int
    states: Mapping[str, str]
    seconds: float
    first_bill_after: float
    events: tuple[str, ...]


def play(
    plan: Plan, airflow: Installation, ledger_url: str, server: Server | None, first_bill_after: float
) -> Played:
    """Plays a trial in an installation that does nothing else meanwhile. `server`: that of the ledger.
    `first_bill_after`: seconds that such a task needs from its trigger to its first bill, as far as known.
    """
    return _Conductor(plan, airflow, ledger_url, server, first_bill_after).play()


@dataclass(slots=True)
class _Conductor:
    plan: Plan
    airflow: Installation
    ledger_url: str
    server: Server | None
    first_bill_after: float
    began: float = field(default_factory=time.monotonic)
    struck: Counter[str] = field(default_factory=Counter)
    events: list[str] = field(default_factory=list)
    undos: list[tuple[float, Undo]] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)

    def play(self) -> Played:
        images = self._prepare()
        target = Target(
            self.airflow,
            self.runs,
            self.server,
            Random(self.plan.name),
            self.ledger_url,
            lambda url: _count(url, _ON_THEIR_WAY),
        )
        self._run(images, target)
        self._repair()
        self._recover()
        cleared_calls = self._clear()
        self._let_orphans_end()
        found = self._take_stock(target, cleared_calls)
        return Played(
            plan=self.plan,
            found=found,
            struck=self.struck,
            calls_in_doubt_at_kills=sum(sending for sending, _ in target.in_doubt_at_kills),
            states={f"{run.run_id} {task}": run.task(task)["state"] for run in self.runs for task in TASKS},
            seconds=self._now(),
            first_bill_after=self.first_bill_after,
            events=tuple(self.events),
        )

    # --- before

    def _prepare(self) -> str:
        plan, name = self.plan, self.plan.name
        reset: dict[str, str] = {}
        limit = -1
        if plan.shape == "deferred to the reset":
            # The day ends while the trial runs; what the next one allows is enough for the rest.
            limit = plan.images * 2 // 3
            when = datetime.now(UTC) + timedelta(seconds=self.first_bill_after + RESET_AFTER_SECONDS)
            reset = {"reset_time": when.astimezone(ZoneInfo("Asia/Shanghai")).strftime("%H:%M:%S")}
        self.airflow.behave(
            reset=True, latency=plan.latency, qps=0, daily_limit=limit, faults=list(plan.faults), **reset
        )
        self.airflow.connect_database(f"{name}_ledger", self.ledger_url)
        self.airflow.connect_database(f"{name}_warehouse", self._warehouse_url)
        account = self.airflow.account(
            f"{name}_ledger", connect_timeout_seconds=1, read_timeout_seconds=1.5, **reset
        )
        self.airflow.connect(**{name: account})
        first = 100 * plan.number
        files = {f"{number:05}.png": stub_picture(number) for number in range(first, first + plan.images)}
        return self.airflow.put(name, files)

    @property
    def _warehouse_url(self) -> str:
        return f"sqlite:///{self.airflow.home}/{self.plan.name}_warehouse.db"

    def _trigger(self, images: str) -> None:
        plan = self.plan
        deferring = plan.shape == "deferred to the reset"
        run = self.airflow.trigger(
            "stubborn_deferring" if deferring else "stubborn",
            images=images,
            jdocr_conn_id=plan.name,
            warehouse_conn_id=f"{plan.name}_warehouse",
            on_quota="wait" if deferring else "stop",
            in_doubt=plan.in_doubt,
            max_in_flight=plan.max_in_flight,
        )
        self.runs.append(run)
        self._say(f"triggered {run.run_id}")

    # --- meanwhile

    def _run(self, images: str, target: Target) -> None:
        self._trigger(images)
        todo = list(self.plan.blows)
        second = self.plan.shape == "two runs"
        clear = self.plan.shape == "cleared while it runs"
        ends = self.began + ENDS_AFTER_SECONDS
        moved, progress = time.monotonic(), 0.0
        while not self._finished() or self.undos:
            if time.monotonic() > ends:
                return
            time.sleep(_LOOK_EVERY_SECONDS)
            self._put_right(time.monotonic())
            if second and self._now() > self.plan.second_run_after:
                second = False
                self._trigger(images)
            share = len(self.airflow.bill()) / self.plan.images
            if share != progress:
                if not progress:
                    self.first_bill_after = self._now()
                progress, moved = share, time.monotonic()
            if clear and progress > 0.3:
                clear = False
                self._say("clears recognise")
                self.runs[0].clear("recognise")
            stalls = time.monotonic() - moved > STALLS_AFTER_SECONDS
            if todo and (todo[0].after <= progress > 0 or stalls) and self._strike(todo[0], target):
                todo.pop(0)
                moved = time.monotonic()

    def _strike(self, blow: Blow, target: Target) -> bool:
        undo = strike(blow, target)
        if undo is None:
            return False
        self._say(f"{blow.kind} {blow.how}")
        self.struck[blow.kind] += 1
        self.undos.append((time.monotonic() + blow.seconds, undo))
        return True

    def _put_right(self, now: float) -> None:
        for when, undo in list(self.undos):
            if when <= now:
                self.undos.remove((when, undo))
                undo()

    def _finished(self) -> bool:
        return all(run.has_ended for run in self.runs)

    # --- after

    def _repair(self) -> None:
        self._put_right(float("inf"))
        self.airflow.s3.fault = None
        self.airflow.behave(faults=[], daily_limit=-1)

    def _recover(self) -> None:
        """Clears what did not come to its end, until nothing is left that a person could do."""
        for _ in range(MOST_ROUNDS):
            self._await_all()
            if self.unfinished:
                return
            left = [run for run in self.runs if _something_is_left(_manifest(run))]
            if not left:
                return
            for run in left:
                self._say(f"clears {run.run_id}")
                run.clear(*TASKS)
        self._await_all()

    def _clear(self) -> int:
        """Clears the first run where it succeeded; gives the calls that this cost."""
        run = self.runs[0]
        if self.unfinished or self.plan.shape != "one run" or run.task("recognise")["state"] != "success":
            return 0
        before = self._calls()
        self._say("clears what succeeded")
        run.clear(*TASKS)
        self._await_all()
        return self._calls() - before

    def _await_all(self) -> None:
        ends = time.monotonic() + ENDS_AFTER_SECONDS
        while not self._finished():
            if time.monotonic() > ends:
                states = {run.run_id: [run.task(task)["state"] for task in TASKS] for run in self.runs}
                self.unfinished.append(f"not at an end after {ENDS_AFTER_SECONDS:.0f} s: {states}")
                return
            time.sleep(_LOOK_EVERY_SECONDS)

    def _let_orphans_end(self) -> None:
        """A task whose supervisor was killed goes on for a while; its calls belong to the books."""
        ends = time.monotonic() + 30
        while time.monotonic() < ends and _count(self.ledger_url, _ON_THEIR_WAY):
            time.sleep(_LOOK_EVERY_SECONDS)
        time.sleep(self.plan.latency + 0.2)

    def _take_stock(self, target: Target, cleared_calls: int) -> Found:
        sent, known, noted = books.ledger(self.ledger_url)
        taken = Books(
            hold=self.plan.in_doubt == "hold",
            max_in_flight=self.plan.max_in_flight,
            inputs=self.plan.images,
            billed=tuple(books.Billed(each["sha256"], each["request_id"]) for each in self._ask("bill")),
            calls=self._calls(),
            sent=sent,
            known=known,
            noted=noted,
            stored=books.documents(self._warehouse_url),
            processes=tuple(_process(number, run) for number, run in enumerate(self.runs)),
        )
        return Found(
            taken,
            tuple(target.in_doubt_at_kills),
            _count(self.ledger_url, _EXPIRED),
            cleared_calls,
            tuple(self.unfinished),
        )

    def _calls(self) -> int:
        return len(self._ask("calls"))

    def _ask(self, what: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = requests.get(f"{self.airflow.ocr_url}/-/{what}", timeout=10).json()
        return found

    def _now(self) -> float:
        return time.monotonic() - self.began

    def _say(self, what: str) -> None:
        self.events.append(f"{self._now():7.2f} {what}")


def _manifest(run: Run) -> dict[str, Any] | None:
    entries = run.airflow.get(f"dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/recognise/xcomEntries")[
        "xcom_entries"
    ]
    return run.manifest() if any(entry["key"] == "return_value" for entry in entries) else None


def _something_is_left(manifest: Mapping[str, Any] | None) -> bool:
    return manifest is None or bool(manifest["waiting"] or manifest["unsettled"])


def _process(number: int, run: Run) -> books.Process:
    task = run.task("recognise")
    key = RunKey(run.dag_id, run.run_id, "recognise")
    end: books.End = "success" if task["state"] == "success" else "failed"
    return books.Process(number, key.digest, end, manifest=_manifest(run), said=str(task["state"]))


def _count(url: str, query: str) -> int:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    try:
        with engine.connect() as db:
            return int(db.execute(sa.text(query), {"now": time.time()}).scalar_one())
    except sa.exc.DBAPIError:  # it is away, or has no tables yet
        return 0
    finally:
        engine.dispose()
