"""A schedule is what the pacing would do, counted without doing it; a purchase is the cheapest there is."""

from __future__ import annotations

from datetime import time
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jdocr.core.forecast import purchases, schedule, schedules
from airflow_provider_jdocr.core.prices import PACKS, cheapest
from airflow_provider_jdocr.core.quotas import AccountState, Limits, quota_at
from airflow_provider_jdocr.core.rate import nominal_seconds
from tests.core.ledgers import START, account

DAY = 86_400
BEIJING = "Asia/Shanghai"


def limits(daily_limit: int | None) -> Limits:
    return Limits(daily_limit, time(0, 0), BEIJING)


def sent_one_by_one(calls: int, qps: float, of: Limits, now: float, left: int) -> tuple[float, int]:
    """When the last call has had its time, and on how many days there were calls: by playing it."""
    started, days, reset, free = now, 0, of.next_reset(now), left
    sent_today = 0
    for _ in range(calls):
        interval = nominal_seconds(qps)
        if free == 0 or now + interval > reset:
            now, reset, sent_today = reset, of.next_reset(reset), 0
            free = of.daily_limit if of.daily_limit is not None else calls
        now, free, sent_today = now + interval, free - 1, sent_today + 1
        days += sent_today == 1
    return now - started, days


@given(
    calls=st.integers(0, 300),
    qps=st.sampled_from([0.001, 0.002, 0.01, 2.0]),
    daily_limit=st.none() | st.integers(1, 120),
    used=st.integers(0, 120),
    hour=st.floats(0, 24),
)
def test_a_schedule_is_that_of_sending_call_by_call(
    calls: int, qps: float, daily_limit: int | None, used: int, hour: float
) -> None:
    now = START + hour * 3600
    left = None if daily_limit is None else max(0, daily_limit - used)
    found = schedule("x", calls, qps, limits(daily_limit), now=now, left_today=left)
    played = sent_one_by_one(calls, qps, limits(daily_limit), now, calls if left is None else left)
    assert found.days == played[1]
    assert found.seconds == pytest.approx(played[0], abs=0.2)


def test_a_million_scans_at_two_a_second_are_six_days_and_at_a_thousand_a_day_years() -> None:
    free = schedule("x", 1_000_000, 2.0, limits(None), now=START)
    assert 5.9 < free.seconds / DAY < 6.1
    bound = schedule("x", 1_000_000, 2.0, limits(1000), now=START)
    assert (bound.days, bound.calls_a_day) == (1000, 1000)
    assert bound.ends_at is not None
    assert bound.ends_at.startswith("2028-")


def test_what_never_ends_has_no_date() -> None:
    assert schedule("x", 10_000_000, 2.0, limits(1), now=START).ends_at is None


def test_the_first_is_the_connections_own_with_what_is_left_of_today() -> None:
    of = account(qps=2, daily_limit=100)
    quota = quota_at(AccountState(window_ends_at=limits(100).next_reset(START), used=90), limits(100), START)
    own, *offered = schedules(110, of, quota)
    assert (own.days, own.daily_limit) == (2, 100)
    assert [each.daily_limit for each in offered] == [500, 1000, None, None, None]
    assert not list(schedules(110, account(endpoint="intsig_invoice"), quota))[1:]


@pytest.mark.parametrize("calls", [1, 9_999, 10_001, 42_000, 90_000, 250_001, 1_200_000, 12_345_678])
def test_nothing_holds_the_calls_for_less_than_the_cheapest(calls: int) -> None:
    found = cheapest(calls)
    assert found.calls >= calls
    assert found.calls == sum(PACKS[name][0] * count for name, count in found.packs.items())
    assert all(found.yuan <= each.yuan for each in purchases(calls, "ocr_invoice"))


def test_the_cheapest_is_found_among_all_mixtures() -> None:
    names = ("10k", "50k", "100k", "200k")
    for calls in range(5_000, 260_000, 17_000):
        mixtures = product(range(27), range(7), range(4), range(3))
        costs = (
            sum(PACKS[name][1] * count for name, count in zip(names, counts, strict=True))
            for counts in mixtures
            if sum(PACKS[name][0] * count for name, count in zip(names, counts, strict=True)) >= calls
        )
        assert cheapest(calls).yuan == min(costs)


def test_no_more_packs_are_shown_than_one_that_is_enough() -> None:
    assert [each.packs for each in purchases(5, "ocr_invoice")] == [{"10k": 1}]
    assert [each.packs for each in purchases(60_000, "ocr_invoice")] == [
        {"50k": 1, "10k": 1},
        {"10k": 6},
        {"50k": 2},
        {"100k": 1},
    ]


def test_there_is_nothing_to_buy_for_no_call_nor_where_no_pack_is_published() -> None:
    assert not list(purchases(0, "ocr_invoice"))
    assert not list(purchases(5, "intsig_invoice"))
