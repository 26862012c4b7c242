"""What a trial will do: drawn from its seed and its number, so that it can be done again.

Every kind of blow has its turn as the first blow of a trial; further blows and the service's faults are
drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any, Literal, get_args

Database = Literal["sqlite", "postgresql", "mysql"]
Shape = Literal["one run", "two runs", "cleared while it runs", "deferred to the reset"]
Kind = Literal[
    "kill task",
    "kill worker",
    "kill scheduler",
    "lose the host",
    "restart ledger",
    "S3 fails",
    "service fails",
    "stop task",
    "kill triggerer",
    "kill API server",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
KILLS: frozenset[Kind] = frozenset({"kill task", "kill worker", "kill scheduler", "lose the host"})
"""What may leave calls in doubt."""
_S3 = ("error", "slow", "cut", "refuse")


@dataclass(frozen=True, slots=True)
class Blow:
    """One blow. `after`: the share of the images that is on the bill when it falls. `seconds`: how long what
    it puts out of order stays so.
    """

    kind: Kind
    after: float
    seconds: float
    how: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    number: int
    database: Database
    shape: Shape
    in_doubt: Literal["resend", "hold"]
    images: int
    max_in_flight: int
    latency: float
    second_run_after: float
    blows: tuple[Blow, ...]
    faults: tuple[Mapping[str, Any], ...]

    @property
    def name(self) -> str:
        return f"trial_{self.seed}_{self.number}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def draw(seed: int, number: int, databases: Sequence[Database]) -> Plan:
    random = Random(f"{seed}:{number}")
    first = KINDS[number % len(KINDS)]
    shape = _shape(random, first)
    database = _database(number, first, databases)
    possible = [
        kind
        for kind in KINDS
        if (kind != "restart ledger" or database != "sqlite")
        and (kind != "kill triggerer" or shape == "deferred to the reset")
    ]
    kinds = [first, *random.choices(possible, k=random.choice((0, 0, 1, 1, 2)))]
    images = random.randint(16, 28)
    return Plan(
        seed=seed,
        number=number,
        database=database,
        shape=shape,
        in_doubt=random.choice(("resend", "hold")),
        images=images,
        max_in_flight=random.choice((1, 4, 4, 8)),
        latency=random.choice((0.1, 0.2, 0.4)),
        second_run_after=random.uniform(0, 4),
        blows=tuple(sorted((_blow(random, kind) for kind in kinds), key=lambda blow: blow.after)),
        faults=_faults(random, images) if "service fails" in kinds else (),
    )


def _shape(random: Random, first: Kind) -> Shape:
    if first == "kill triggerer":
        return "deferred to the reset"
    shapes: tuple[Shape, ...] = get_args(Shape)
    return random.choices(shapes, (4, 3, 2, 1))[0]


def _database(number: int, first: Kind, databases: Sequence[Database]) -> Database:
    served = [database for database in databases if database != "sqlite"]
    # Both count on by a number that has no divisor in common with that of the kinds.
    turn = number // len(KINDS) + number
    return served[turn % len(served)] if first == "restart ledger" else databases[turn % len(databases)]


def _blow(random: Random, kind: Kind) -> Blow:
    seconds = random.uniform(0.5, 4)
    how = random.choice(_S3) if kind == "S3 fails" else random.choice(("after", "with"))
    return Blow(kind, round(random.uniform(0, 0.8), 3), round(seconds, 3), how)


def _faults(random: Random, images: int) -> tuple[Mapping[str, Any], ...]:
    """One to five faults of the wire, and perhaps a storm; none that settles an image as failed."""
    found = [_fault(random) for _ in range(random.randint(1, 5))]
    if random.random() < 0.4:
        found.append(_storm(random) | {"count": random.choice((3, 8, images))})
    return tuple(found)


def _fault(random: Random) -> dict[str, Any]:
    how = {"how": random.choice(("close", "reset"))}
    billed = {"billed": random.random() < 0.5}
    return random.choice(
        (
            {"fault": "close_before_body"} | how,
            {"fault": "close_before_billing"} | how,
            {"fault": "close_after_billing"} | how,
            {"fault": "late", "seconds": 4},
            {"fault": "half"} | how,
            {"fault": "garbage"} | billed,
            {"fault": "html_502"} | billed,
            {"fault": "redirect"} | billed,
            {"fault": "status", "http_status": random.choice((500, 503))} | billed,
        )
    )


def _storm(random: Random) -> dict[str, Any]:
    return random.choice(
        (
            {"fault": "busy"},
            {"fault": "status", "http_status": 503},
            {"fault": "status", "http_status": 500},
            {"fault": "code", "code": "10043", "charge": False},
        )
    )
