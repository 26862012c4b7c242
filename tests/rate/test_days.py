"""The trial of `make rate`, as small as can be: five workers, a limit of 40, 100 images, three days."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.rate import days
from tests.rate.days import Day, Plan

PLAN = Plan(images=100, daily_limit=40, workers=5)


@pytest.mark.parametrize("told", [False, True])
def test_each_day_bills_what_its_limit_allows_and_nobody_asks_in_between(told: bool) -> None:
    found = days.run(replace(PLAN, told=told))
    assert [day.billed for day in found.days] == [40, 40, 20]
    assert [day.in_between for day in found.days] == [0, 0, 0]
    assert found.wrong == []
    # Who is told the limit does not have to find it out; else those find it whose calls are under way.
    most = 0 if told else PLAN.workers * 4
    assert all(day.refused <= most for day in found.days)


def test_a_day_that_bills_too_much_or_asks_in_between_is_not_balanced() -> None:
    good = [Day(1, 40, 40, 44, 4, 0, 60, 40, 0, 0), Day(2, 40, 40, 44, 4, 0, 20, 40, 40, 0)]
    assert days.wrong_days(PLAN, good) == []
    for bad in (replace(good[1], billed=41), replace(good[1], in_between=1), replace(good[1], waiting=19)):
        assert len(days.wrong_days(PLAN, [good[0], bad])) == 1
