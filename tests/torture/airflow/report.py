"""The figures of the trials through Airflow: one row each, and their sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from tests.torture import balance
from tests.torture.airflow.accounts import violations
from tests.torture.airflow.plan import KILLS, KINDS
from tests.torture.airflow.trial import Played


@dataclass(frozen=True, slots=True)
class Result:
    """What a trial came to."""

    trial: str
    database: str
    shape: str
    policy: str
    struck: dict[str, int]
    ends: dict[str, int]
    seconds: float
    kills: int
    images: int
    calls: int
    billed: int
    on_their_way_at_kills: int
    """As the ledger says right after each kill; nothing where it is away at that moment."""
    lost_by_kills: int
    """Calls that nobody came back from."""
    in_doubt: int
    """All calls in doubt: lost, or broken on the wire, or answered in a way that does not say."""
    billed_twice: int
    held: int
    answers_lost: int
    violations: tuple[str, ...]


def result(played: Played) -> Result:
    plan, books = played.plan, played.found.books
    return Result(
        trial=f"{plan.seed}:{plan.number}",
        database=plan.database,
        shape=plan.shape,
        policy=plan.in_doubt,
        struck=dict(played.struck),
        ends=dict(Counter(played.states.values())),
        seconds=round(played.seconds, 1),
        kills=sum(count for kind, count in played.struck.items() if kind in KILLS),
        images=books.inputs,
        calls=books.calls,
        billed=len(books.billed),
        on_their_way_at_kills=played.calls_in_doubt_at_kills,
        lost_by_kills=played.found.expired,
        in_doubt=sum(attempt.doubtful for attempt in books.sent),
        billed_twice=len(balance.billed_twice(books)),
        held=len({row.sha256 for row in books.noted if row.outcome == "held"}),
        answers_lost=len(balance.answers_lost(books)),
        violations=tuple(f"{each.law}: {each.what}" for each in violations(played.found)),
    )


_COUNTED = tuple(field.name for field in fields(Result) if field.type == "int")


def markdown(results: Sequence[Result]) -> str:
    """A row for each kind of blow, with the trials in which it fell, and one for all."""
    rows = {kind: [each for each in results if each.struck.get(kind)] for kind in KINDS}
    names = ("trials", "blows", *_COUNTED, "trials with a violation")
    lines = [["", *(name.replace("_", " ") for name in names)], ["---", *["---:"] * len(names)]]
    for name, some in [*rows.items(), ("all", list(results))]:
        blows = sum(each.struck.get(name, 0) if name in KINDS else sum(each.struck.values()) for each in some)
        sums = [sum(getattr(each, column) for each in some) for column in _COUNTED]
        broken = sum(bool(each.violations) for each in some)
        lines.append([name, *(str(figure) for figure in (len(some), blows, *sums, broken))])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def as_json(results: Sequence[Result], **head: Any) -> dict[str, Any]:
    return head | {"trials": [asdict(each) for each in results]}
