"""A batch through the local service in which the first endpoint is wrong for every tenth picture."""

from __future__ import annotations

from typing import Any

import pytest

from tests.escalation.__main__ import run

PICTURES, EVERY = 120, 10
BY_QR_CODE_ALONE = {"number", "issue_date"}
"""An old number of eight digits is in no check but the QR code's; a date may be wrong and yet possible."""


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return run(PICTURES, EVERY, seed=1, engine="stub")


def test_only_what_was_misread_is_asked_for_at_the_second_endpoint(found: dict[str, Any]) -> None:
    assert found["first"]["calls"] == PICTURES
    assert found["doubted_by_misreading"]["as it was read"] == f"0 of {PICTURES - PICTURES // EVERY}"
    assert found["second"]["calls"] == found["second"]["doubted"]
    assert found["a second run"] == {"calls": 0}


def test_every_misread_value_that_a_check_sees_is_settled(found: dict[str, Any]) -> None:
    for misread, fates in found["with escalation"]["by_misreading"].items():
        if misread not in BY_QR_CODE_ALONE:
            assert set(fates) == {"clear and right"}, misread


def test_nothing_that_was_doubted_is_loaded_wrong(found: dict[str, Any]) -> None:
    silently = found["with escalation"]["wrong_values_in_clear_invoices"]
    assert silently == found["without escalation"]["wrong_values_in_clear_invoices"]
    assert {each["misread"] for each in silently} <= BY_QR_CODE_ALONE


def test_it_costs_a_call_for_each_that_was_doubted(found: dict[str, Any]) -> None:
    yuan = found["yuan"]
    assert float(yuan["second"]) == pytest.approx(0.048 * found["second"]["calls"])
