"""The laws of a trial through Airflow: pure functions from what was found to the sentences that break them.

Those of `tests.torture.balance` that need no journal hold here as they are. A journal would say which process
sent what; in its place, the ledger is asked at each kill how many calls are on their way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.torture import balance
from tests.torture.balance import Violation
from tests.torture.books import Books

_NEED_A_JOURNAL = frozenset(
    {
        balance.a_doubt_has_a_cause,
        balance.a_kill_leaves_at_most_max_in_flight_in_doubt,
        balance.a_second_load_changes_nothing,
    }
)


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that the laws are about.

    `kills`: for each, how many calls were on their way and how many tasks were running. `expired`: calls that
    are in doubt because nobody came back from them. `cleared_calls`: calls that the clear of succeeded tasks
    cost. `unfinished`: tasks that came to no end.
    """

    books: Books
    kills: tuple[tuple[int, int], ...] = ()
    expired: int = 0
    cleared_calls: int = 0
    unfinished: tuple[str, ...] = ()


def violations(found: Found) -> list[Violation]:
    shared = [law for law in balance.LAWS if law not in _NEED_A_JOURNAL]
    broken = [Violation(law.__name__, what) for law in shared for what in law(found.books)]
    return broken + [Violation(law.__name__, what) for law in LAWS for what in law(found)]


def a_kill_finds_at_most_max_in_flight_of_each_task_on_its_way(found: Found) -> Iterator[str]:
    """A task that was killed before may have calls on their way until their leases end, and a task that runs
    has its own: so each kill adds no more than the running tasks had.
    """
    most = found.books.max_in_flight
    for number, (sending, _) in enumerate(found.kills):
        tasks = sum(running for _, running in found.kills[: number + 1])
        if sending > most * max(tasks, 1):
            yield f"kill {number}: {sending} calls on their way, {tasks} tasks, max_in_flight {most}"


def nobody_fails_to_come_back_without_a_kill(found: Found) -> Iterator[str]:
    most = found.books.max_in_flight * sum(max(running, 1) for _, running in found.kills)
    if found.expired > most:
        yield f"{found.expired} calls expired; the kills account for {most}"


def a_clear_of_what_succeeded_sends_nothing(found: Found) -> Iterator[str]:
    if found.cleared_calls:
        yield f"{found.cleared_calls} calls were sent after all had succeeded"


def every_task_comes_to_an_end(found: Found) -> Iterator[str]:
    yield from found.unfinished


LAWS: tuple[Callable[[Found], Iterator[str]], ...] = (
    a_kill_finds_at_most_max_in_flight_of_each_task_on_its_way,
    nobody_fails_to_come_back_without_a_kill,
    a_clear_of_what_succeeded_sends_nothing,
    every_task_comes_to_an_end,
)
