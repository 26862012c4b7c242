"""Rate and quota of the service, with time as an argument."""

from __future__ import annotations

from datetime import UTC, datetime, time

import pytest

from airflow_provider_jdocr.server.limits import Allowance, Quota, Rate, Window

_BEIJING = "Asia/Shanghai"


def _admitted(rate: Rate, ticks: list[float]) -> list[float]:
    return [tick for tick in ticks if rate.admit(tick)]


@pytest.mark.parametrize(
    ("window", "admitted"),
    [
        ("sliding", [0.0, 0.1, 1.0, 1.1]),
        ("fixed", [0.0, 0.1, 1.0, 1.05]),
        ("token", [0.0, 0.1, 0.6, 1.0]),
        ("strict", [0.0, 0.6, 1.1]),
    ],
)
def test_a_second_is_counted_as_told(window: Window, admitted: list[float]) -> None:
    ticks = [0.0, 0.1, 0.2, 0.6, 0.9, 1.0, 1.05, 1.1]
    assert _admitted(Rate(2, window), ticks) == admitted


@pytest.mark.parametrize("window", ["sliding", "fixed", "token", "strict"])
def test_a_steady_caller_below_the_rate_is_never_refused(window: Window) -> None:
    ticks = [100 + number * 0.25 for number in range(200)]
    assert len(_admitted(Rate(4, window), ticks)) == 200


@pytest.mark.parametrize("window", ["sliding", "fixed", "token", "strict"])
def test_a_greedy_caller_gets_the_rate_and_no_more(window: Window) -> None:
    ticks = [number / 128 for number in range(1280)]
    assert len(_admitted(Rate(4, window), ticks)) in (40, 41, 42, 43)


def test_less_than_one_call_a_second_is_a_longer_window() -> None:
    assert _admitted(Rate(0.5), [0.0, 1.0, 1.9, 2.0, 3.0, 4.0]) == [0.0, 2.0, 4.0]


def test_a_rate_of_zero_admits_all() -> None:
    assert len(_admitted(Rate(0), [0.0] * 50)) == 50


def _at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def _allowance(daily: int = 2, total: int = -1, reset: time = time(0, 0)) -> Allowance:
    return Allowance(daily, total, reset, _BEIJING)


def _use(quota: Quota, now: float) -> str | None:
    code = quota.hold(now)
    if code is None:
        quota.settle(billed=True, now=now)
    return code


def test_the_day_turns_at_midnight_in_beijing() -> None:
    before, after = _at("2026-01-01T15:59:59"), _at("2026-01-01T16:00:00")
    quota = Quota(_allowance(), before)
    assert [_use(quota, before) for _ in range(3)] == [None, None, "10040"]
    assert quota.remaining(before) == 0
    assert _use(quota, after) is None
    assert quota.remaining(after) == 1


def test_the_day_turns_at_the_reset_time_that_was_set() -> None:
    allowance = _allowance(reset=time(9, 30))
    assert allowance.day(_at("2026-01-02T01:29:59")) < allowance.day(_at("2026-01-02T01:30:00"))
    assert allowance.day(_at("2026-01-02T01:30:00")) == allowance.day(_at("2026-01-03T01:29:59"))


def test_calls_at_once_cannot_get_past_the_limit_together() -> None:
    quota = Quota(_allowance(), 0.0)
    assert [quota.hold(0.0) for _ in range(3)] == [None, None, "10040"]
    quota.settle(billed=False, now=0.0)
    assert quota.hold(0.0) is None


def test_what_is_not_billed_uses_nothing() -> None:
    quota = Quota(_allowance(), 0.0)
    quota.hold(0.0)
    quota.settle(billed=False, now=0.0)
    assert quota.remaining(0.0) == 2


def test_a_pack_is_not_filled_up_by_a_new_day() -> None:
    quota = Quota(_allowance(daily=-1, total=1), 0.0)
    assert [_use(quota, 0.0), _use(quota, 10 * 86_400.0)] == [None, "10010"]
    assert quota.remaining(0.0) == 0


def test_without_a_limit_what_remains_is_minus_one() -> None:
    assert Quota(_allowance(daily=-1), 0.0).remaining(0.0) == -1
