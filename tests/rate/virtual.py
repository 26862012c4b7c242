"""A pace against a service, in virtual time: minutes of calls in a fraction of a second, the same each time.

Tasks with threads take slots, send, and bring the answers back, as the batch does; the service counts by the
rate of the local OCR service; another program may take a part of it. Nothing waits, nothing is measured: what
comes out depends on the decisions of `core.rate` alone.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count

from airflow_provider_jdocr.core import rate
from airflow_provider_jdocr.server.limits import Rate, Window

REFUSAL_SECONDS = 0.05
LEAD_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Company:
    """Another program on the same account: `qps` calls a second between two moments, a little unevenly."""

    begins: float
    ends: float
    qps: float


@dataclass(frozen=True, slots=True)
class Scene:
    """What a run is made of. Latency is log-normal around its median; `jitter_seconds` is uniform.

    Every `stall_every_seconds`, on average, nothing arrives for `stall_seconds`, and then all at once.
    """

    qps: float
    window: Window = "sliding"
    tasks: int = 8
    threads: int = 8
    latency_seconds: float = 0.7
    jitter_seconds: float = 0.02
    seconds: float = 300.0
    company: Company | None = None
    stall_every_seconds: float = math.inf
    stall_seconds: float = 0.15
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Call:
    at: float
    good: bool


@dataclass(slots=True)
class _Task:
    """The threads of a task take their slots one after the other."""

    asking: bool = False
    waiting: int = 0


class _Stage:
    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.pace = rate.Pace()
        self.calls: list[Call] = []
        self.events: list[tuple[float, int, Callable[[float], None]]] = []
        self.random = random.Random(scene.seed)
        self.service = Rate(scene.qps, scene.window)
        self.order = count()
        self.stall = self.next_stall(0.0)

    def next_stall(self, now: float) -> float:
        every = self.scene.stall_every_seconds
        return now + (self.random.expovariate(1 / every) if every < math.inf else every)

    def later(self, at: float, what: Callable[[float], None]) -> None:
        heapq.heappush(self.events, (at, next(self.order), what))

    def play(self) -> list[Call]:
        for task in (_Task() for _ in range(self.scene.tasks)):
            for _ in range(self.scene.threads):
                self.later(self.random.random() * 0.2, lambda now, task=task: self.ask(now, task))  # type: ignore[misc]
        if self.scene.company:
            self.later(self.scene.company.begins, self.other_program)
        while self.events and self.events[0][0] <= self.scene.seconds:
            now, _, what = heapq.heappop(self.events)
            what(now)
        return self.calls

    def ask(self, now: float, task: _Task) -> None:
        if task.asking:
            task.waiting += 1
            return
        task.asking = True
        self.take(now, task)

    def take(self, now: float, task: _Task) -> None:
        self.pace, slot = rate.take_slot(self.pace, self.scene.qps, now)
        if isinstance(slot, rate.Queued):
            again = now + slot.seconds * (0.9 + 0.2 * self.random.random())
            self.later(again, lambda then: self.take(then, task))
            return
        task.asking = False
        if task.waiting:
            task.waiting -= 1
            self.later(now + 0.002, lambda then: self.ask(then, task))
        due = now + slot.seconds
        self.later(max(now, due - LEAD_SECONDS), lambda then: self.begin(then, task, slot, due))

    def begin(self, now: float, task: _Task, slot: rate.Slot, due: float) -> None:
        if slot.void(self.pace, now):
            self.ask(now, task)
            return
        arrival = max(due, now) + self.random.random() * self.scene.jitter_seconds
        while arrival > self.stall + self.scene.stall_seconds:
            self.stall = self.next_stall(self.stall + self.scene.stall_seconds)
        if arrival > self.stall:
            arrival = self.stall + self.scene.stall_seconds
        self.later(arrival, lambda then: self.arrive(then, task, now))

    def arrive(self, now: float, task: _Task, sent_at: float) -> None:
        good = self.service.admit(now)
        self.calls.append(Call(now, good))
        latency = self.random.lognormvariate(math.log(self.scene.latency_seconds), 0.3)
        after = now + (latency if good else REFUSAL_SECONDS)
        self.later(after, lambda then: self.reply(then, task, sent_at, good))

    def reply(self, now: float, task: _Task, sent_at: float, good: bool) -> None:
        answered = rate.after_good_answer if good else rate.after_overrun
        self.pace = answered(self.pace, self.scene.qps, now=now, sent_at=sent_at)
        self.later(now + 0.005, lambda then: self.ask(then, task))

    def other_program(self, now: float) -> None:
        company = self.scene.company
        if company and now < company.ends:
            self.service.admit(now)
            self.later(now + (0.9 + 0.2 * self.random.random()) / company.qps, self.other_program)


def play(scene: Scene) -> list[Call]:
    """Every call of a run, in order of arrival."""
    return _Stage(scene).play()


def share(calls: Iterable[Call], qps: float, begins: float, ends: float) -> float:
    """Good answers between two moments, of as many as are allowed."""
    return sum(call.good for call in calls if begins <= call.at < ends) / (qps * (ends - begins))


def turned_away(calls: Iterable[Call], begins: float, ends: float) -> float:
    """Over-limit answers between two moments, of all calls."""
    within = deque(call.good for call in calls if begins <= call.at < ends)
    return within.count(False) / max(1, len(within))
