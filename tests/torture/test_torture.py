"""The crash harness in its short form, and the proof that it finds out a product that is broken."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.torture.broken import BROKEN
from tests.torture.draw import FAMILIES, Name, draw
from tests.torture.servers import available

pytestmark = pytest.mark.system
ROOT = Path(__file__).resolve().parents[2]
TRIALS = 12


@pytest.fixture(scope="session")
def broken_products() -> Any:
    """What the balance said of each broken product. In a process of its own: it forks."""
    return json.loads(_run("tests.torture.broken"))


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_product_is_found_out(name: str, broken_products: Any) -> None:
    said = broken_products["broken"][name]
    assert [each for each in said if BROKEN[name].found in each], said


def test_the_same_trials_balance_with_the_product_as_it_is(broken_products: Any) -> None:
    assert broken_products["as it is"] == {name: [] for name in broken_products["as it is"]}


def test_the_books_balance_whatever_happens(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    _run("tests.torture", "--trials", str(TRIALS), "--seed", "3", "--jobs", "3", "--json", str(figures))
    found = json.loads(figures.read_text())
    everything = found["totals"]["all"]
    assert everything["trials"] == TRIALS
    assert everything["answers_lost"] == 0
    assert everything["kills"] > 0
    assert everything["in_doubt_at_kill"] > 0
    assert found["totals"]["in_doubt = hold"]["billed_twice"] == 0
    assert set(available()) < set(found["totals"])


def test_the_same_name_draws_the_same_trial() -> None:
    assert draw(Name(7, 3, "sqlite")) == draw(Name.of("7:3:sqlite"))
    assert draw(Name(7, 3, "sqlite")) != draw(Name(7, 4, "sqlite"))


def test_every_fault_is_drawn_often_enough_to_be_seen() -> None:
    plans = [draw(Name(1, number, "postgresql")) for number in range(200)]
    counts = Counter(family for plan in plans for family in plan.families)
    assert set(counts) == set(FAMILIES)
    assert min(counts.values()) >= 10
    assert {plan.max_in_flight for plan in plans} == set(range(1, 9))
    assert {(plan.endpoint, plan.in_doubt) for plan in plans} == {
        (endpoint, in_doubt)
        for endpoint in ("ocr_invoice", "intsig_invoice")
        for in_doubt in ("resend", "hold")
    }


def _run(module: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", module, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert not done.returncode, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout
