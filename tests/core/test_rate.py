"""The pace: what one answer does to it, and what comes of many, in virtual time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_provider_jdocr.core.rate import (
    FASTEST,
    HORIZON_SECONDS,
    SLOWEST,
    Pace,
    Queued,
    Slot,
    after_good_answer,
    after_overrun,
    longest_queue_seconds,
    nominal_seconds,
    take_slot,
)
from airflow_provider_jdocr.server.limits import Window
from tests.rate.virtual import Company, Scene, play, share, turned_away

NOW = 1_760_000_000.0


def test_slots_stand_one_interval_apart_and_none_is_handed_out_beyond_the_horizon() -> None:
    pace, starts = Pace(), []
    while isinstance((taken := take_slot(pace, 10, NOW))[1], Slot):
        pace, slot = taken
        starts.append(slot.seconds)
    assert starts == pytest.approx([nominal_seconds(10) * number for number in range(len(starts))])
    assert starts[-1] <= HORIZON_SECONDS < starts[-1] + nominal_seconds(10)
    assert isinstance(taken[1], Queued)


def test_a_slot_that_a_wrong_clock_put_far_ahead_is_taken_at_once() -> None:
    for ahead in (-5.0, longest_queue_seconds(2) + 1):
        assert take_slot(Pace(next_slot_at=NOW + ahead), 2, NOW)[1] == Slot(NOW, 0.0)


def test_calls_that_had_left_before_a_slow_down_tell_of_the_same_overrun() -> None:
    slowed = after_overrun(Pace(), 10, now=NOW, sent_at=NOW - 1)
    assert after_overrun(slowed, 10, now=NOW + 0.1, sent_at=NOW - 0.5) == slowed
    assert after_good_answer(slowed, 10, now=NOW + 0.1, sent_at=NOW - 0.5) == slowed


def test_slots_from_before_a_slow_down_are_void() -> None:
    pace, slot = take_slot(Pace(), 10, NOW)
    slowed = after_overrun(pace, 10, now=NOW + 0.5, sent_at=NOW)
    assert isinstance(slot, Slot)
    assert slot.void(slowed, NOW + 0.6)
    assert not slot.void(pace, NOW + 0.6)


def test_a_punctual_slot_is_void_where_it_is_missed() -> None:
    slot = Slot(NOW, 0.4)
    assert not slot.punctual().void(Pace(), NOW + 0.44)
    assert slot.punctual().void(Pace(), NOW + 0.46)
    assert not slot.void(Pace(), NOW + 5.3)
    assert slot.void(Pace(), NOW + 5.5)


def test_one_refusal_is_jitter_a_second_a_bad_line_and_a_third_company() -> None:
    once = after_overrun(Pace(), 10, now=NOW, sent_at=NOW - 1)
    assert once.factor == pytest.approx(0.99)
    twice = after_overrun(once, 10, now=NOW + 0.5, sent_at=NOW + 0.2)
    assert twice.factor == pytest.approx(0.99 * 0.93)
    assert not twice.in_company
    thrice = after_overrun(twice, 10, now=NOW + 1.0, sent_at=NOW + 0.8)
    assert thrice.factor < 0.7
    assert thrice.in_company
    long_after = after_overrun(once, 10, now=NOW + 60, sent_at=NOW + 59)
    assert long_after.factor == pytest.approx(0.99**2)


def test_a_look_that_is_turned_away_returns_to_the_pace_that_held() -> None:
    beside = Pace(factor=0.6, held=0.4, slowed_at=NOW, grown_at=NOW)
    back = after_overrun(beside, 10, now=NOW + 25, sent_at=NOW + 24)
    assert back.factor == back.held == pytest.approx(0.42)


def test_a_pace_that_does_not_hold_gives_way_further_but_never_stops() -> None:
    pace = Pace()
    for step in range(50):
        pace = after_overrun(pace, 10, now=NOW + step, sent_at=NOW + step - 0.1)
    assert pace.factor == SLOWEST


def test_good_answers_never_lift_the_pace_over_its_bound() -> None:
    pace = Pace(factor=0.3, held=0.3, slowed_at=NOW, grown_at=NOW)
    for second in range(5000):
        pace = after_good_answer(pace, 10, now=NOW + second, sent_at=NOW + second - 0.5)
    assert pace.factor == FASTEST


def test_a_clock_that_went_back_holds_nobody_up() -> None:
    ahead = Pace(factor=0.5, held=0.5, slowed_at=NOW + 3600, grown_at=NOW + 3600)
    assert not Slot(NOW, 0.0).void(ahead, NOW)
    later = after_good_answer(ahead, 10, now=NOW, sent_at=NOW - 1)
    for second in range(1, 60):
        later = after_good_answer(later, 10, now=NOW + second, sent_at=NOW + second - 0.5)
    assert later.factor > 0.9


@pytest.mark.parametrize("window", ["sliding", "fixed", "token"])
@pytest.mark.parametrize("qps", [2, 10, 50])
def test_the_rate_is_used_and_hardly_ever_overrun(qps: float, window: Window) -> None:
    """From the second minute on, with answers after 0.7 s and arrivals up to 20 ms late."""
    calls = play(Scene(qps, window))
    assert share(calls, qps, 60, 300) >= 0.95
    assert turned_away(calls, 60, 300) <= 0.005


@pytest.mark.parametrize("qps", [2, 10, 50])
def test_a_service_that_wants_calls_evenly_apart_gets_them(qps: float) -> None:
    calls = play(Scene(qps, "strict", jitter_seconds=0.0))
    assert share(calls, qps, 60, 300) >= 0.85
    assert turned_away(calls, 60, 300) <= 0.005


@pytest.mark.parametrize("window", ["sliding", "fixed", "token"])
@pytest.mark.parametrize("qps", [10, 50])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_beside_another_program_the_pace_settles_and_comes_back(
    qps: float, window: Window, seed: int
) -> None:
    calls = play(Scene(qps, window, company=Company(60, 180, qps / 2), seed=seed))
    assert 0.2 <= share(calls, qps, 90, 180) <= 0.55
    assert turned_away(calls, 60, 180) <= 0.04
    assert turned_away(calls, 90, 180) <= 0.03
    assert share(calls, qps, 210, 300) >= 0.93


def test_a_run_in_virtual_time_is_the_same_each_time() -> None:
    scene = Scene(10, seconds=60.0)
    assert play(scene) == play(scene)
    assert play(scene) != play(replace(scene, seed=2))
