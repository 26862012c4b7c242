"""A batch through the local service in which the first endpoint is wrong for every tenth picture."""

from __future__ import annotations

from typing import Any

import pytest

from tests.escalation.__main__ import MISREAD, run

PICTURES, EVERY = 120, 10


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return run(PICTURES, EVERY, seed=1, engine="stub")


def test_only_what_was_misread_is_asked_for_at_the_second_endpoint(found: dict[str, Any]) -> None:
    assert found["first"]["calls"] == PICTURES
    assert found["doubted_by_misreading"]["as it was read"] == f"0 of {PICTURES - PICTURES // EVERY}"
    assert found["second"]["calls"] == found["second"]["doubted"]
    assert found["a second run"] == {"calls": 0}


def test_everything_that_was_misread_is_seen_and_settled(found: dict[str, Any]) -> None:
    """Numbers and dates by the QR codes on the pictures alone."""
    misread = {name: told for name, told in found["doubted_by_misreading"].items() if name in MISREAD}
    assert set(misread) == set(MISREAD)
    assert {told.split(" of ")[0] == told.split(" of ")[1] for told in misread.values()} == {True}
    assert found["without escalation"]["pictures"]["review"] == PICTURES // EVERY
    assert found["with escalation"]["pictures"] == {"clear and right": PICTURES}


def test_nothing_is_loaded_wrong_and_clear(found: dict[str, Any]) -> None:
    assert found["with escalation"]["wrong_values_in_clear_invoices"] == []
    assert found["with escalation"]["clear_documents_with_a_wrong_value"] == 0


def test_it_costs_a_call_for_each_that_was_doubted(found: dict[str, Any]) -> None:
    yuan = found["yuan"]
    assert float(yuan["second"]) == pytest.approx(0.048 * found["second"]["calls"])
