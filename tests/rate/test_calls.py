"""What is said of a rate is what the service saw."""

from __future__ import annotations

import pytest

from tests.rate.calls import Calls

START = "2026-01-01T00:00:"
LISTED = [
    {"at": f"{START}{at:06.3f}+00:00", "code": code, "endpoint": "ocr_invoice", "request_id": str(at)}
    for at, code in ((1.0, "10043"), (0.5, "10000/0"), (0.0, "10000/0"), (1.4, "10000/12002"), (4.0, "10040"))
]


def test_calls_come_in_the_order_of_their_arrival() -> None:
    calls = Calls.listed(LISTED)
    assert [call.at - calls.first_at for call in calls.calls] == [0.0, 0.5, 1.0, pytest.approx(1.4), 4.0]


def test_answered_are_those_that_got_a_business_answer_over_the_limit_those_with_10043() -> None:
    calls = Calls.listed(LISTED)
    assert (len(calls), calls.answered, calls.over_limit, calls.over_limit_share) == (5, 3, 1, 0.2)
    assert Calls([]).over_limit_share == 0


def test_a_stretch_has_its_beginning_and_not_its_end() -> None:
    calls = Calls.listed(LISTED)
    assert len(calls.between(calls.first_at + 0.5, calls.first_at + 1.0)) == 1
    assert calls.answered_per_second(calls.first_at, calls.first_at + 2.0) == 1.5


def test_the_busiest_second_need_not_begin_with_a_full_one() -> None:
    assert Calls.listed(LISTED).busiest() == 3
    assert Calls.listed(LISTED).busiest(0.5) == 2
    assert Calls([]).busiest() == 0


def test_a_step_that_is_not_over_is_left_out() -> None:
    calls = Calls.listed(LISTED)
    assert [len(step) for step in calls.steps(calls.first_at, calls.first_at + 4.9, 1.0)] == [2, 2, 0, 0]
