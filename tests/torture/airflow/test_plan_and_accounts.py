"""The trials through Airflow are drawn as they say, and their own laws can be broken."""

from collections import Counter
from dataclasses import replace

from tests.torture.airflow.accounts import Found, violations
from tests.torture.airflow.plan import KINDS, Database, draw
from tests.torture.books import Books, Sent

DATABASES: tuple[Database, ...] = ("sqlite", "postgresql", "mysql")
BALANCED = Found(Books(hold=True, max_in_flight=4, inputs=0))


def laws_broken(found: Found) -> list[str]:
    return [each.law for each in violations(found)]


def test_a_trial_is_drawn_again_from_its_seed_and_number() -> None:
    assert draw(7, 3, DATABASES) == draw(7, 3, DATABASES)
    assert draw(7, 3, DATABASES) != draw(8, 3, DATABASES)


def test_every_kind_of_blow_falls_first_equally_often_and_every_database_has_its_turn() -> None:
    plans = [draw(1, number, DATABASES) for number in range(30)]
    kinds = Counter(KINDS[plan.number % len(KINDS)] for plan in plans)
    assert set(kinds.values()) == {3}
    assert all(KINDS[plan.number % len(KINDS)] in {blow.kind for blow in plan.blows} for plan in plans)
    assert min(Counter(plan.database for plan in plans).values()) >= 6


def test_only_a_ledger_with_a_server_is_restarted_and_a_triggerer_is_killed_where_somebody_waits() -> None:
    for plan in (draw(2, number, DATABASES) for number in range(200)):
        kinds = {blow.kind for blow in plan.blows}
        assert plan.database != "sqlite" or "restart ledger" not in kinds
        assert plan.shape == "deferred to the reset" or "kill triggerer" not in kinds


def test_books_without_an_error_break_no_law() -> None:
    assert laws_broken(BALANCED) == []


def test_a_kill_that_finds_more_calls_on_their_way_than_its_tasks_may_have_is_a_violation() -> None:
    assert laws_broken(replace(BALANCED, kills=((4, 1), (8, 1)))) == []
    assert laws_broken(replace(BALANCED, kills=((5, 1),))) == [
        "a_kill_finds_at_most_max_in_flight_of_each_task_on_its_way"
    ]


def test_calls_that_expire_without_a_kill_are_a_violation() -> None:
    assert laws_broken(replace(BALANCED, kills=((4, 1),), expired=4)) == []
    assert laws_broken(replace(BALANCED, expired=1)) == ["nobody_fails_to_come_back_without_a_kill"]


def test_a_clear_that_sends_and_a_task_without_an_end_are_violations() -> None:
    assert laws_broken(replace(BALANCED, cleared_calls=1, unfinished=("run 1",))) == [
        "a_clear_of_what_succeeded_sends_nothing",
        "every_task_comes_to_an_end",
    ]


def test_the_laws_of_the_books_hold_here_too() -> None:
    charged = Sent("a", "f" * 64, "run", "answered", "success", True, "request")
    books = replace(BALANCED.books, sent=(charged,), calls=1)
    assert "nothing_is_charged_that_is_not_billed" in laws_broken(replace(BALANCED, books=books))
