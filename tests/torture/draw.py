"""What a trial does, drawn from its seed: pictures, tasks, policy and faults with their instants.

The same name gives the same plan. Instants are steps of a process, or shares of the batch: they mean the same
on a fast machine and on a slow one. What the machine makes of it all the same (who of two is faster) is in
nobody's hand; the event log of a trial tells what happened.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any, Literal, TypeAlias

Database: TypeAlias = Literal["sqlite", "postgresql", "mysql"]
Kind: TypeAlias = Literal[
    "good", "copy", "other_scan", "no_invoice", "broken", "empty", "missing", "replaced"
]
Step: TypeAlias = Literal["start", "commit", "committed", "begun", "send", "reply", "settled", "load"]
OutageKind: TypeAlias = Literal["full", "file_limit", "locked", "cut", "restart", "crash", "stop"]

OTHERS = (
    "two_runs",
    "zombie",
    "stop",
    "outage",
    "commits",
    "wire",
    "codes",
    "shapes",
    "storm",
    "rate",
    "storage",
    "clock",
    "quota",
)
FAMILIES = ("kill", *OTHERS)
MOST_INPUTS = 36


@dataclass(frozen=True, slots=True)
class Name:
    """Names a trial: `str(name)` is what repeats it."""

    seed: int
    number: int
    database: Database

    def __str__(self) -> str:
        return f"{self.seed}:{self.number}:{self.database}"

    @classmethod
    def of(cls, text: str) -> Name:
        seed, number, database = text.split(":")
        known = {"sqlite": "sqlite", "postgresql": "postgresql", "mysql": "mysql"}
        return cls(int(seed), int(number), known[database])  # type: ignore[arg-type]

    def random(self, what: str) -> Random:
        # A text's hash differs from process to process.
        return Random(zlib.crc32(f"{self}:{what}".encode()) + self.seed * 2**32)


@dataclass(frozen=True, slots=True)
class Input:
    """A file of the inbox: which picture it holds, and what is peculiar about it."""

    uri: str
    kind: Kind
    number: int


@dataclass(frozen=True, slots=True)
class Strike:
    """`kill -9` or SIGTERM, `delay` seconds after the `count`-th time that the process comes to `step`."""

    step: Step
    count: int
    delay: float = 0.0
    how: Literal["kill", "stop"] = "kill"


@dataclass(frozen=True, slots=True)
class Try:
    """What happens to one try of a task. Commits are counted from the start of its process."""

    strikes: tuple[Strike, ...] = ()
    failing_commits: tuple[int, ...] = ()
    unacknowledged_commits: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """A task instance: `after` seconds, then its tries, until one succeeds. Two of one run are zombies."""

    run_id: str
    after: float
    tries: tuple[Try, ...]


@dataclass(frozen=True, slots=True)
class Outage:
    """A database that cannot be used for so many seconds, from `at` on: the share of the batch that was
    sent by then.
    """

    kind: OutageKind
    at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Change:
    """What the service is told."""

    at: float
    behave: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Jump:
    """A clock that is put wrong: the database's, the worker's or the service's, by so many seconds."""

    whose: Literal["database", "worker", "service"]
    at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class StorageFaults:
    """Of a thousand reads: how many fail, how many are slow."""

    failing: int = 0
    slow: int = 0
    slow_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    name: Name
    families: tuple[str, ...]
    endpoint: Literal["ocr_invoice", "intsig_invoice"]
    inputs: tuple[Input, ...]
    in_doubt: Literal["resend", "hold"]
    max_in_flight: int
    max_failed: int
    max_calls: int | None
    wait_for_quota: bool
    connect_timeout: float
    read_timeout: float
    latency: float
    time_of_day: float
    """Seconds by which the world's clock is ahead of ours from the start: a reset may be near."""
    separate_warehouse: bool
    tasks: tuple[Task, ...]
    service: Mapping[str, Any]
    changes: tuple[Change, ...] = ()
    outages: tuple[Outage, ...] = ()
    jumps: tuple[Jump, ...] = ()
    storage: StorageFaults = field(default_factory=StorageFaults)
    topped_up: bool = True
    together_at_the_end: bool = False

    @property
    def most_at_once(self) -> int:
        """Processes of one task instance that run at the same time: more than one are zombies."""
        return max(Counter(task.run_id for task in self.tasks).values())

    def faults(self) -> str:
        """The plan without what is the same in every trial, to be read by a person."""
        shown = asdict(self) | {"name": str(self.name), "inputs": len(self.inputs)}
        return json.dumps({key: value for key, value in shown.items() if value not in ([], (), {})}, indent=1)


def draw(name: Name) -> Plan:
    random = name.random("plan")
    # Most trials are about a kill, and about what else goes wrong then.
    families = frozenset(random.sample(OTHERS, random.choice((0, 1, 1, 2, 2, 3))))
    families |= {"kill"} if not families or random.random() < 0.8 else set()
    inputs = _inputs(name.random("inputs"), "storage" in families)
    service, changes, topped_up = _service(name.random("service"), families, inputs)
    read_timeout = random.choice((0.4, 0.6, 0.8))
    return Plan(
        name=name,
        families=tuple(family for family in FAMILIES if family in families),
        endpoint=random.choice(("ocr_invoice", "intsig_invoice")),
        inputs=inputs,
        in_doubt=random.choice(("resend", "hold")),
        max_in_flight=random.randint(1, 8),
        max_failed=random.choice((0, 1000, 1000)),
        max_calls=random.randint(5, 60) if random.random() < 0.15 else None,
        wait_for_quota=random.random() < 0.5,
        connect_timeout=0.3,
        read_timeout=read_timeout,
        latency=random.choice((0.0, 0.01, 0.03, 0.1)),
        time_of_day=random.uniform(0, 86_400),
        separate_warehouse=random.random() < 0.5,
        tasks=_tasks(name.random("tasks"), families, len(inputs), name.database),
        service=_late_beyond(service, read_timeout),
        changes=tuple(Change(each.at, _late_beyond(each.behave, read_timeout)) for each in changes),
        outages=_outages(name.random("outages"), name.database) if "outage" in families else (),
        jumps=_jumps(name.random("jumps")) if "clock" in families else (),
        storage=_storage(name.random("storage")) if "storage" in families else StorageFaults(),
        topped_up=topped_up,
        together_at_the_end=random.random() < 0.3,
    )


def _inputs(random: Random, replaced: bool) -> tuple[Input, ...]:
    drawn: list[Input] = []
    for position in range(random.randint(12, MOST_INPUTS)):
        kinds: list[Kind] = [
            "good",
            "copy",
            "other_scan",
            "no_invoice",
            "broken",
            "empty",
            "missing",
            "replaced",
        ]
        weights = (85, 5, 2, 2, 1, 1, 1, 6 if replaced else 0)
        (kind,) = random.choices(kinds, weights)
        number = random.randrange(position) if kind in ("copy", "other_scan") and position else position
        drawn.append(Input(f"s3://inbox/{position:04}.png", kind, number))
    return tuple(drawn)


def _tasks(random: Random, families: frozenset[str], images: int, database: Database) -> tuple[Task, ...]:
    runs = ["run 1"]
    if "two_runs" in families:
        runs += ["run 2", "run 3"][: random.choice((1, 1, 2))]
    if "zombie" in families:
        runs += ["run 1"]
    return tuple(
        Task(
            run_id,
            random.choice((0.0, random.uniform(0, 0.5))) if position else 0.0,
            (*(_try(random, families, images, database) for _ in range(random.randint(1, 3))), Try()),
        )
        for position, run_id in enumerate(runs)
    )


def _try(random: Random, families: frozenset[str], images: int, database: Database) -> Try:
    strikes = [_kill(random, images)] if "kill" in families and random.random() < 0.9 else []
    if "stop" in families and random.random() < 0.8:
        strikes.append(Strike("begun", random.randint(1, images // 2), random.uniform(0, 0.1), "stop"))
    commits, numbers = "commits" in families, range(1, 4 * images)
    failing = random.sample(numbers, random.randint(0, 12)) if commits else []
    # A commit in a file is acknowledged where it is made.
    unsure = random.sample(numbers, random.randint(0, 12)) if commits and database != "sqlite" else []
    return Try(tuple(strikes), tuple(sorted(failing)), tuple(sorted(set(unsure) - set(failing))))


def _kill(random: Random, images: int) -> Strike:
    """Anywhere from start to end; most of them at the steps where it hurts."""
    match random.randrange(10):
        case 0:
            return Strike("start", 1, random.uniform(0, 0.3))
        case 1:
            return Strike("load", 1, random.uniform(0, 0.15))
        case 2 | 3 | 4:
            return Strike("send", random.randint(1, images // 2), random.uniform(0, 0.15))
        case 5 | 6:
            return Strike(random.choice(("commit", "committed")), random.randint(1, 3 * images))
        case _:
            return Strike(
                random.choice(("begun", "send", "reply", "settled")), random.randint(1, images // 2)
            )


def _outages(random: Random, database: Database) -> tuple[Outage, ...]:
    kinds: tuple[OutageKind, ...] = ("full", "file_limit", "locked")
    if database != "sqlite":
        kinds = ("cut", "cut", "restart", "crash", "stop")
    return tuple(
        Outage(random.choice(kinds), random.random(), random.uniform(0.3, 2.0))
        for _ in range(random.choice((1, 1, 2)))
    )


def _jumps(random: Random) -> tuple[Jump, ...]:
    """The worker's clock and the service's may differ by half a minute. A jump of the database's clock that
    ends leases comes once: between two of them a call in flight would have had no time to be answered.
    """
    jumps = [Jump("database", random.random(), random.choice((-3600, -90, -5, 5, 20, 90, 3600)))]
    if random.random() < 0.5:
        jumps.append(Jump("database", random.random(), random.uniform(-120, -1)))
    for whose in ("worker", "service"):
        if random.random() < 0.5:
            seconds = random.choice((random.uniform(-30, 30), random.uniform(-30, 30), -2000.0, 2000.0))
            jumps.append(Jump(whose, random.random(), seconds))
    return tuple(jumps)


def _storage(random: Random) -> StorageFaults:
    return StorageFaults(random.choice((0, 50, 300)), random.choice((0, 100)), random.uniform(0.02, 0.2))


def _service(
    random: Random, families: frozenset[str], inputs: tuple[Input, ...]
) -> tuple[dict[str, Any], tuple[Change, ...], bool]:
    """How the service begins, how that changes on the way, and whether a quota comes back at the end."""
    faults = [
        {**fault, "picture": each.number}
        for kind in ("wire", "codes", "shapes")
        if kind in families
        for each in random.sample(inputs, random.randint(1, 10))
        for fault in (_FAULTS[kind](random) for _ in range(random.choice((1, 1, 1, 2, 3))))
    ]
    begin: dict[str, Any] = {"faults": faults}
    changes: list[Change] = []
    topped_up = True
    if "storm" in families:
        storm = _storm(random)
        changes.append(Change(random.random(), {"faults": [storm, *faults]}))
    if "rate" in families:
        limited = {"qps": random.choice((5, 20)), "window": random.choice(("sliding", "fixed", "token"))}
        at = random.random()
        changes += [Change(at, limited), Change(at + random.uniform(0.1, 0.5), {"qps": 0})]
    if "quota" in families:
        limit = random.randint(1, len(inputs))
        begin |= {random.choice(("daily_limit", "total_limit")): limit}
        begin |= {"remain": random.choice(("count", "zero"))}
        topped_up = random.random() < 0.7
    return begin, tuple(changes), topped_up


def _wire_fault(random: Random) -> dict[str, Any]:
    how = {"how": random.choice(("close", "reset"))}
    billed = {"billed": random.random() < 0.5}
    return random.choice(
        (
            {"fault": "close_before_body"} | how,
            {"fault": "close_before_billing"} | how,
            {"fault": "close_after_billing"} | how,
            {"fault": "close_after_billing"} | how,
            {"fault": "late"},
            {"fault": "half"} | how,
            {"fault": "garbage"} | billed,
            {"fault": "truncated_json"},
            {"fault": "html_502"} | billed,
            {"fault": "redirect"} | billed,
            {"fault": "status", "http_status": random.choice((500, 503, 504)), **billed},
            {"fault": "status", "http_status": 500, "empty": True, **billed},
            {"fault": "chunk_forever", "seconds": 0.02},
            {"fault": "huge", "bytes": 400_000},
        )
    )


def _code_fault(random: Random) -> dict[str, Any]:
    charge, billed = random.choice(
        ((True, True), (True, True), (False, False), (False, False), (None, True), (None, False), ("", True))
    )
    said = {"charge": charge, "billed": billed}
    again = {"fault": "code", "code": random.choice(("10020", "10030", "11010", "11030"))} | said
    business = {
        "fault": "code",
        "layer": "business",
        "code": random.choice((12002, 12005, 12006, 500)),
    } | said
    configuration = {"fault": "code", "code": "10001", "charge": False}
    return random.choices((again, business, {"fault": "busy"}, configuration), (10, 10, 4, 1))[0]


def _shape_fault(random: Random) -> dict[str, Any]:
    return random.choice(
        (
            {"fault": "drop_envelope"},
            {"fault": "result_as_string"},
            {"fault": "envelope", "unset": ["charge"]},
            {"fault": "envelope", "set": {"remain": 7}},
        )
    )


def _storm(random: Random) -> dict[str, Any]:
    return random.choice(
        (
            {"fault": "busy"},
            {"fault": "status", "http_status": 503},
            {"fault": "html_502"},
            {"fault": "code", "code": "10043", "charge": False},
            {"fault": "code", "code": "10030", "charge": False},
        )
    ) | {"count": random.choice((3, 10, 30))}


_FAULTS = {"wire": _wire_fault, "codes": _code_fault, "shapes": _shape_fault}


def _late_beyond(behave: Mapping[str, Any], read_timeout: float) -> dict[str, Any]:
    """A late answer is later than the caller waits."""
    if "faults" not in behave:
        return dict(behave)
    faults = [
        {**fault, "seconds": round(read_timeout + 0.15, 3)} if fault["fault"] == "late" else fault
        for fault in behave["faults"]
    ]
    return {**behave, "faults": faults}
