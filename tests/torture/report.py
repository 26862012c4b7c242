"""The figures of many trials: one row each, added up by database and by fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from tests.torture import balance
from tests.torture.draw import FAMILIES, Name
from tests.torture.trial import Played, told, written
from tests.torture.world import Line


@dataclass(frozen=True, slots=True)
class Result:
    """What a trial came to."""

    name: str
    database: str
    in_doubt: str
    faults: tuple[str, ...]
    seconds: float
    images: int
    processes: int
    struck: Mapping[str, int]
    """The faults that came about, by kind."""
    kills: int
    in_doubt_at_kill: int
    most_in_doubt_at_a_kill: int
    max_in_flight: int
    calls: int
    billed: int
    billed_twice: int
    held: int
    answers_lost: int
    violations: tuple[str, ...]
    story: str = ""
    """What happened in a trial that broke a law."""


def result(played: Played) -> Result:
    plan, books = played.plan, played.books
    doubts = books.in_doubt_at_kill()
    violations = balance.violations(books)
    return Result(
        name=str(plan.name),
        database=plan.name.database,
        in_doubt=plan.in_doubt,
        faults=plan.families,
        seconds=round(played.seconds, 3),
        images=books.inputs,
        processes=len(books.processes),
        struck=struck(played),
        kills=len(doubts),
        in_doubt_at_kill=sum(doubts.values()),
        most_in_doubt_at_a_kill=max(doubts.values(), default=0),
        max_in_flight=books.max_in_flight,
        calls=books.calls,
        billed=len(books.billed),
        billed_twice=len(balance.billed_twice(books)),
        held=len({row.sha256 for row in books.noted if row.outcome == "held"}),
        answers_lost=len(balance.answers_lost(books)),
        violations=tuple(f"{each.law}: {each.what}" for each in violations),
        story=written(told(played.log), played.log[0].at) if violations else "",
    )


def struck(played: Played) -> dict[str, int]:
    """What really happened, by kind: a fault that was planned for a step that nobody came to did not."""
    return dict(Counter(filter(None, map(_kind, played.log))))


def _kind(line: Line) -> str:
    said = line.more
    match line.what:
        case "end" if said["end"] == "killed":
            return "killed"
        case "outage":
            return f"database: {said['kind']}"
        case "clock":
            return f"clock: {said['whose']}"
        case "fault":
            return str(said["kind"])
        case "wire":
            return f"wire: {said['code']}"
        case "settled" if said["verdict"] not in ("success", "in_doubt"):
            return f"answer: {said['verdict']}"
    return ""


def broken(name: Name, trace: str) -> Result:
    """A trial that could not be played: a fault of the harness."""
    numbers = [each.name for each in fields(Result) if each.type in ("int", "float")]
    nothing: dict[str, Any] = dict.fromkeys(numbers, 0)
    said = (f"the trial could not be played: {trace}",)
    return Result(
        name=str(name), database=name.database, in_doubt="", faults=(), struck={}, violations=said, **nothing
    )


_COUNTED = (
    "images",
    "processes",
    "kills",
    "in_doubt_at_kill",
    "calls",
    "billed",
    "billed_twice",
    "held",
    "answers_lost",
)


def totals(results: Iterable[Result]) -> dict[str, int]:
    found = list(results)
    sums = {name: sum(getattr(each, name) for each in found) for name in _COUNTED}
    broken = sum(bool(each.violations) for each in found)
    sums = {"faults": sum(sum(each.struck.values()) for each in found), **sums}
    return {"trials": len(found), **sums, "trials with a violation": broken}


def groups(results: Sequence[Result]) -> dict[str, dict[str, int]]:
    """All together, then by database, by what is done with images in doubt, and by fault."""
    databases = dict.fromkeys(each.database for each in results)
    chosen: dict[str, Callable[[Result], bool]] = {"all": lambda _: True}
    chosen |= {name: lambda each, name=name: each.database == name for name in databases}  # type: ignore[misc]
    chosen |= {
        f"in_doubt = {name}": lambda each, name=name: each.in_doubt == name  # type: ignore[misc]
        for name in ("hold", "resend")
    }
    chosen |= {name: lambda each, name=name: name in each.faults for name in FAMILIES}  # type: ignore[misc]
    rows = {name: totals(filter(belongs, results)) for name, belongs in chosen.items()}
    return {name: row for name, row in rows.items() if row["trials"]}


def markdown(results: Sequence[Result]) -> str:
    """A table; a trial counts for each of its faults."""
    rows = groups(results)
    columns = list(next(iter(rows.values()), {}))
    lines = [["", *(name.replace("_", " ") for name in columns)]]
    lines += [
        [name, *(f"{row[column]:,}".replace(",", " ") for column in columns)] for name, row in rows.items()
    ]
    lines.insert(1, ["---", *["---:"] * len(columns)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def kinds(results: Iterable[Result]) -> str:
    """The faults that came about, most frequent first."""
    counts = sum((Counter(each.struck) for each in results), Counter[str]())
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())


def as_json(results: Sequence[Result], **head: Any) -> dict[str, Any]:
    return head | {"totals": groups(results), "trials": [asdict(each) for each in results]}
