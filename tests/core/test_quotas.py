"""The decisions about rate and quota, without a database: times and numbers in, a decision out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time
from itertools import pairwise

import pytest

from airflow_provider_jdocr.core.client import Reply
from airflow_provider_jdocr.core.quotas import (
    AccountState,
    Admitted,
    Limits,
    NotYet,
    QuotaState,
    Ready,
    Refused,
    admit,
    after_answer,
    calls_available,
    quota_at,
)
from tests.core import ledgers

BEIJING = Limits(None, time(0, 0), "Asia/Shanghai")
NOW = datetime(2026, 3, 1, 15, 59, tzinfo=UTC).timestamp()  # 23:59 in Beijing
ACCOUNT = ledgers.account()


def at(limits: Limits, text: str) -> str:
    moment = datetime.fromisoformat(text).timestamp()
    return datetime.fromtimestamp(limits.next_reset(moment), UTC).isoformat()


def test_the_reset_is_the_next_one_by_the_clock_of_its_time_zone() -> None:
    assert at(BEIJING, "2026-03-01T15:59:00+00:00") == "2026-03-01T16:00:00+00:00"
    assert at(BEIJING, "2026-03-01T16:00:00+00:00") == "2026-03-02T16:00:00+00:00"


def test_a_reset_that_daylight_saving_skips_or_repeats_still_comes_once_a_day() -> None:
    berlin = replace(BEIJING, reset_time=time(2, 30), reset_timezone="Europe/Berlin")
    moment, resets = datetime(2026, 3, 27, tzinfo=UTC).timestamp(), []
    for _ in range(230):
        moment = berlin.next_reset(moment)
        resets.append(moment)
    gaps = {round((later - sooner) / 3600) for sooner, later in pairwise(resets)}
    assert gaps <= {23, 24, 25}


def test_what_is_known_of_a_quota_expires_with_its_window() -> None:
    state = AccountState(
        window_ends_at=NOW + 60,
        used=500,
        remaining=0,
        quota_state=QuotaState.UNTIL_RESET,
        quota_until=NOW + 60,
    )
    before = quota_at(state, BEIJING, NOW)
    assert isinstance(calls_available(before, 1), NotYet)
    after = quota_at(state, BEIJING, NOW + 60)
    assert (after.state, after.remaining, after.used) == (QuotaState.OPEN, None, 0)
    assert isinstance(calls_available(after, 1000), Ready)


def test_the_sensor_passes_when_enough_is_left_and_waits_for_the_reset_when_not() -> None:
    quota = quota_at(AccountState(window_ends_at=NOW + 60, remaining=7), BEIJING, NOW)
    assert isinstance(calls_available(quota, 7), Ready)
    answer = calls_available(quota, 8)
    assert isinstance(answer, NotYet)
    assert answer.seconds == 60


def test_an_account_that_must_be_topped_up_is_asked_about_again_after_the_reset_only() -> None:
    empty = AccountState(
        window_ends_at=NOW + 60,
        remaining=0,
        quota_state=QuotaState.UNTIL_TOPPED_UP,
        quota_at=NOW,
        quota_until=NOW + 60,
    )
    answer = calls_available(quota_at(empty, BEIJING, NOW), 1)
    assert isinstance(answer, NotYet)
    assert "top the account up" in answer.message
    assert isinstance(calls_available(quota_at(empty, BEIJING, NOW + 61), 1), Ready)


@pytest.mark.parametrize("remaining", [None, 3])
def test_an_admitted_call_is_counted_before_it_is_sent(remaining: int | None) -> None:
    state = AccountState(window_ends_at=NOW + 60, used=4, remaining=remaining)
    answer = admit(state, BEIJING, now=NOW, asked_since=NOW)
    assert isinstance(answer, Admitted)
    assert answer.state.used == 5
    assert answer.state.remaining == (None if remaining is None else 2)


def test_the_smaller_of_what_is_configured_and_what_was_said_counts() -> None:
    limits = replace(BEIJING, daily_limit=10)
    assert quota_at(AccountState(window_ends_at=NOW + 60, used=4, remaining=100), limits, NOW).remaining == 6
    assert quota_at(AccountState(window_ends_at=NOW + 60, used=4, remaining=2), limits, NOW).remaining == 2


def test_a_probe_that_brings_nothing_lets_the_next_one_try() -> None:
    ended = AccountState(window_ends_at=NOW + 60, quota_state=QuotaState.UNTIL_RESET, quota_until=NOW - 1)
    first = admit(ended, BEIJING, now=NOW, asked_since=NOW)
    assert isinstance(first, Admitted)
    assert isinstance(admit(first.state, BEIJING, now=NOW, asked_since=NOW), Refused)
    after = after_answer(first.state, BEIJING, ledgers.read(ledgers.BUSY, ACCOUNT), now=NOW, in_flight=0)
    assert isinstance(admit(after, BEIJING, now=NOW, asked_since=NOW), Admitted)


def test_a_day_that_ended_just_behind_the_reset_is_asked_about_again_within_a_minute_or_so() -> None:
    """The service's clock may be behind ours."""
    reset = BEIJING.next_reset(NOW)
    over = ledgers.read(ledgers.DAY_IS_OVER, ACCOUNT)
    unused = AccountState(window_ends_at=BEIJING.next_reset(reset))
    state = after_answer(unused, BEIJING, over, now=reset + 0.5, sent_at=reset - 0.5, in_flight=0)
    assert state.quota_until == reset + 60.5
    used = replace(unused, used=500)
    state = after_answer(used, BEIJING, over, now=reset + 300, sent_at=reset + 299, in_flight=0)
    assert state.quota_until == BEIJING.next_reset(reset)


def test_a_call_of_yesterday_gives_nothing_back_to_today() -> None:
    reset = BEIJING.next_reset(NOW)
    state = AccountState(window_ends_at=BEIJING.next_reset(reset), used=3, remaining=7)
    busy = ledgers.read(ledgers.BUSY, ACCOUNT)
    after = after_answer(state, BEIJING, busy, now=reset + 1, sent_at=reset - 1, in_flight=0)
    assert (after.used, after.remaining) == (3, 7)


def test_what_a_call_of_yesterday_says_is_left_is_not_said_of_today() -> None:
    reset = BEIJING.next_reset(NOW)
    state = AccountState(window_ends_at=BEIJING.next_reset(reset), used=3, remaining=497, known_at=reset + 5)
    few = ledgers.read(ledgers.left(ledgers.GOOD, 2), ACCOUNT)
    after = after_answer(state, BEIJING, few, now=reset + 9, sent_at=reset - 1, in_flight=0)
    assert after.remaining == 497


def test_yesterdays_end_of_the_quota_does_not_end_today() -> None:
    """An answer may be hours late, and many calls of today be sent by then."""
    reset = BEIJING.next_reset(NOW)
    today = AccountState(window_ends_at=BEIJING.next_reset(reset), used=50, remaining=450)
    over = ledgers.read(ledgers.DAY_IS_OVER, ACCOUNT)
    state = after_answer(today, BEIJING, over, now=reset + 3600, sent_at=reset - 1, in_flight=0)
    assert state.quota_until == reset + 3660


def test_an_answer_that_was_overtaken_does_not_bring_back_the_calls_of_then() -> None:
    state = AccountState(window_ends_at=NOW + 60, remaining=100, known_at=NOW + 30)
    older = ledgers.read(ledgers.left(ledgers.GOOD, 500), ACCOUNT)
    assert after_answer(state, BEIJING, older, now=NOW + 40, sent_at=NOW, in_flight=0).remaining == 100
    topped_up = after_answer(state, BEIJING, older, now=NOW + 40, sent_at=NOW + 35, in_flight=0)
    assert topped_up.remaining == 500
    fewer = ledgers.read(ledgers.left(ledgers.GOOD, 90), ACCOUNT)
    assert after_answer(state, BEIJING, fewer, now=NOW + 40, sent_at=NOW, in_flight=0).remaining == 90


@pytest.mark.parametrize("late", [ledgers.BUSY, ledgers.GOOD, ledgers.DAY_IS_OVER])
def test_an_answer_to_a_call_from_before_the_end_does_not_call_the_probe_back(late: Reply) -> None:
    ended = AccountState(
        window_ends_at=NOW + 9000, quota_state=QuotaState.UNTIL_RESET, quota_at=NOW - 60, quota_until=NOW - 1
    )
    probe = admit(ended, BEIJING, now=NOW, asked_since=NOW)
    assert isinstance(probe, Admitted)
    reading = ledgers.read(late, ACCOUNT)
    after = after_answer(probe.state, BEIJING, reading, now=NOW + 1, sent_at=NOW - 61, in_flight=1)
    assert after.probe_until == probe.state.probe_until


def test_a_good_answer_to_a_call_sent_before_the_quota_ended_does_not_open_it_again() -> None:
    good, over = ledgers.read(ledgers.GOOD, ACCOUNT), ledgers.read(ledgers.DAY_IS_OVER, ACCOUNT)
    used = AccountState(window_ends_at=NOW + 60, used=500)
    ended = after_answer(used, BEIJING, over, now=NOW, sent_at=NOW - 1, in_flight=1)
    assert after_answer(ended, BEIJING, good, now=NOW + 1, sent_at=NOW - 1, in_flight=0) == ended
    later = after_answer(ended, BEIJING, good, now=NOW + 2, sent_at=NOW + 1, in_flight=0)
    assert later.quota_state is QuotaState.OPEN
