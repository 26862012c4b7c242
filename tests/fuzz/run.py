"""The loop that all fuzzers share: inputs are made, judged and counted, and what nobody declared is kept.

A target makes inputs and judges them: it gives an ``Outcome``, which is a declared one, or raises. Whatever
is raised is a fault of the product; ``Breach`` says in words which promise was broken. An input that leads to
an outcome not seen before becomes a seed for later ones.

An input is a literal of Python, so that a kept one can be read, and judged again by ``replay``. Time is
processor time: a busy machine makes no input slow. Memory is the growth of the process's peak.
"""

from __future__ import annotations

import ast
import random
import resource
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

Given = Any
"""An input: ``ast.literal_eval(repr(given)) == given``."""

MOST_SEEDS = 3_000
LARGEST_SEED = 60_000
"""Bytes that an input may take as a text to become a seed; a large one slows all that follow."""
MOST_FAILURES = 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """``kind`` is counted; an input with a new pair of both becomes a seed."""

    kind: str
    detail: Hashable = None


class Breach(Exception):  # noqa: N818 - said of a promise
    """A promise of the product that an input broke."""


class TooSlow(BaseException):
    """The time that one input may take is over. No Exception: code that catches those must not go on."""


class Target(Protocol):
    """One way into the product."""

    name: str
    seconds: float
    """Processor time that one input may take."""
    megabytes: int
    """How much memory one input may take."""

    def seeds(self) -> Sequence[Given]:
        """Inputs to begin with; at least one."""
        ...

    def new(self, rng: random.Random, seeds: Sequence[Given]) -> Given:
        """The next input, most often made from one of the seeds."""
        ...

    def judge(self, given: Given) -> Outcome:
        """What the product makes of it; may be called for any input in any order."""
        ...


@dataclass(frozen=True, slots=True)
class Failure:
    number: int
    given: Given
    said: str


@dataclass(slots=True)
class Tally:
    """What a run has seen so far. Tallies of pieces of a run add up."""

    inputs: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    pairs: set[tuple[str, Hashable]] = field(default_factory=set)
    seeds: list[Given] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    failed: int = 0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    slowest_seconds: float = 0.0
    slowest: str = ""
    grown_megabytes: float = 0.0
    largest: str = ""
    peak_megabytes: float = 0.0

    def fail(self, number: int, given: Given, said: str) -> None:
        self.failed += 1
        if len(self.failures) < MOST_FAILURES:
            self.failures.append(Failure(number, given, said))

    def add(self, piece: Tally) -> None:
        """Takes over a piece whose seeds and pairs began with ours."""
        self.inputs += piece.inputs
        self.kinds += piece.kinds
        self.pairs, self.seeds = piece.pairs, piece.seeds
        self.failures += piece.failures[: MOST_FAILURES - len(self.failures)]
        self.failed += piece.failed
        self.wall_seconds += piece.wall_seconds
        self.cpu_seconds += piece.cpu_seconds
        self.peak_megabytes = max(self.peak_megabytes, piece.peak_megabytes)
        if piece.slowest_seconds > self.slowest_seconds:
            self.slowest_seconds, self.slowest = piece.slowest_seconds, piece.slowest
        if piece.grown_megabytes > self.grown_megabytes:
            self.grown_megabytes, self.largest = piece.grown_megabytes, piece.largest


def fuzz(
    target: Target,
    count: int,
    seed: str,
    *,
    known: Tally | None = None,
    before: Callable[[Given], None] = lambda _: None,
) -> Tally:
    """Judges ``count`` inputs. ``known``: go on from its seeds; ``before`` is told each input."""
    rng = random.Random(seed)
    tally = Tally(seeds=list(known.seeds), pairs=set(known.pairs)) if known else _begun(target)
    began, began_cpu = time.monotonic(), time.process_time()
    for number in range(count):
        given = target.new(rng, tally.seeds)
        before(given)
        held = held_megabytes()
        _judge(target, given, number, rng, tally)
        peak = peak_megabytes()
        tally.peak_megabytes = max(tally.peak_megabytes, peak)
        if (grown := peak - held) > tally.grown_megabytes:
            tally.grown_megabytes, tally.largest = grown, shown(given)
        if grown > target.megabytes:
            tally.fail(number, given, f"memory: {grown:.0f} MB were needed")
    tally.wall_seconds = time.monotonic() - began
    tally.cpu_seconds = time.process_time() - began_cpu
    return tally


def replay(target: Target, text: str) -> Outcome:
    """Judges a kept input again: the text that ``kept`` gave."""
    literal = text.partition("\n---\n")[0]
    with bounded(target.seconds):
        return target.judge(ast.literal_eval(literal))


def kept(failure: Failure) -> str:
    """An input as a text that a person reads and ``replay`` takes, with what went wrong below it."""
    return f"{failure.given!r}\n---\n{failure.said}\n".encode("utf-8", "backslashreplace").decode()


def shown(given: Given) -> str:
    text = repr(given)
    return text if len(text) <= 160 else f"{text[:110]} … {text[-40:]} ({len(text)} characters)"


def held_megabytes() -> float:
    """What the process holds now. From here on ``peak_megabytes`` counts anew: what it took to make an input
    is not what it takes to judge it.
    """
    _RESET_PEAK.write_bytes(b"5")
    return int(_PAGES.read_bytes().split()[1]) * resource.getpagesize() / 2**20


def peak_megabytes() -> float:
    """The most that the process held since ``held_megabytes``."""
    told = _STATUS.read_bytes()
    return int(told[told.index(b"VmHWM:") + 6 :].split(maxsplit=1)[0]) / 1024


_RESET_PEAK, _PAGES, _STATUS = (Path("/proc/self", name) for name in ("clear_refs", "statm", "status"))


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Raises ``TooSlow`` in its body after so much processor time; on the main thread only."""
    before = signal.signal(signal.SIGPROF, _too_slow)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _too_slow(_signal: int, _frame: FrameType | None) -> None:
    raise TooSlow


def _begun(target: Target) -> Tally:
    """The target's own seeds, judged: what they do wrong is a failure like any other."""
    tally = Tally()
    for given in target.seeds():
        _judge(target, given, -1, None, tally)
        tally.seeds.append(given)
    tally.inputs = 0
    tally.kinds.clear()
    return tally


def _judge(target: Target, given: Given, number: int, rng: random.Random | None, tally: Tally) -> None:
    began = time.thread_time()
    try:
        with bounded(target.seconds):
            outcome = target.judge(given)
    except (Exception, TooSlow) as error:  # noqa: BLE001 - whatever it is, nobody declared it
        outcome = Outcome(f"undeclared {type(error).__name__}")
        tally.fail(number, given, "".join(traceback.format_exception(error)))
    seconds = time.thread_time() - began
    if seconds > tally.slowest_seconds:
        tally.slowest_seconds, tally.slowest = seconds, shown(given)
    tally.inputs += 1
    tally.kinds[outcome.kind] += 1
    if (outcome.kind, outcome.detail) not in tally.pairs:
        tally.pairs.add((outcome.kind, outcome.detail))
        if rng is not None and len(repr(given)) <= LARGEST_SEED:
            _keep(tally.seeds, given, rng)


def _keep(seeds: list[Given], given: Given, rng: random.Random) -> None:
    if len(seeds) < MOST_SEEDS:
        seeds.append(given)
    else:
        seeds[rng.randrange(len(seeds))] = given
