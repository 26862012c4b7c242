"""Every way into the product, tried with some thousands of hostile inputs: declared outcomes only.

The full size is `make fuzz`. Here the seeds are fixed, so that a failure is one of the change at hand.
"""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa

from tests import databases
from tests.fuzz import mutate
from tests.fuzz.__main__ import TARGETS, in_pieces, opened
from tests.fuzz.run import Breach, Outcome, Tally, Target, TooSlow, fuzz, kept, replay, shown
from tests.fuzz.uris import matches

COUNTS = {
    "replies": 4_000,
    "images": 600,
    "pictures": 200,
    "codes": 4_000,
    "uris": 700,
    "connections": 2_000,
    "wire": 300,
    "requests": 300,
}


@pytest.mark.parametrize("name", COUNTS)
def test_hostile_input_has_declared_outcomes_only(name: str) -> None:
    with opened(name) as target:
        _assert_sound(fuzz(target, COUNTS[name], "short"), COUNTS[name])


def test_odd_answers_are_kept_and_loaded_by_every_database(
    tmp_path: Path, postgres_url: str, request: pytest.FixtureRequest
) -> None:
    from tests.fuzz.warehouse import Warehouses

    urls = [f"sqlite:///{tmp_path / 'fuzz.db'}", postgres_url]
    if databases.has_mariadb():
        urls.append(request.getfixturevalue("mariadb_url"))
    target = Warehouses(urls)
    _assert_sound(fuzz(target, 8, "short"), 8)
    for warehouse in target.warehouses:
        warehouse.engine.dispose()
    assert {sa.make_url(url).get_backend_name() for url in urls} >= {"sqlite", "postgresql"}


def _assert_sound(tally: Tally, count: int) -> None:
    said = [f"{shown(failure.given)}\n{failure.said[-2_000:]}" for failure in tally.failures[:3]]
    assert not tally.failed, "\n".join(said)
    assert tally.inputs == count
    assert len(tally.pairs) > 3, "the inputs are all alike"


def test_the_command_has_every_target_that_is_tried_here() -> None:
    assert TARGETS.keys() == {*COUNTS, "warehouse"}


# ── the fuzzer itself finds what there is to find ──


class _Target:
    """Inputs are numbers; what becomes of them is up to the test."""

    name = "numbers"
    seconds = 0.2
    megabytes = 64

    def __init__(self, judge: Any) -> None:
        self._judge = judge

    def seeds(self) -> list[int]:
        return [0]

    def new(self, rng: Random, seeds: Sequence[int]) -> int:
        return rng.choice(seeds) + 1

    def judge(self, given: int) -> Outcome:
        return Outcome("even" if given % 2 == 0 else "odd", self._judge(given))


def _fuzzed(judge: Any, count: int = 60) -> Tally:
    target: Target = _Target(judge)
    return fuzz(target, count, "a seed")


def test_an_exception_is_a_failure_with_the_input_that_can_be_tried_again() -> None:
    def judge(given: int) -> int:
        if given == 5:
            raise Breach("five is too many")
        return given

    tally = _fuzzed(judge)
    assert {failure.given for failure in tally.failures} == {5}
    assert tally.kinds["undeclared Breach"] == tally.failed
    with pytest.raises(Breach, match="five"):
        replay(_Target(judge), kept(tally.failures[0]))


def test_an_input_that_leads_somewhere_new_becomes_a_seed() -> None:
    assert max(_fuzzed(lambda given: given).seeds) > 3
    assert max(_fuzzed(lambda _: None).seeds) == 1


def test_an_input_that_takes_too_long_is_cut_off_even_where_every_exception_is_caught() -> None:
    def judge(given: int) -> None:
        while given == 1:
            with suppress(Exception):
                sum(range(10_000))

    tally = _fuzzed(judge, count=1)
    assert TooSlow.__name__ in tally.failures[0].said


def test_an_input_that_takes_too_much_memory_is_found() -> None:
    tally = _fuzzed(lambda given: len(b"x" * (200_000_000 if given == 1 else 1)), count=3)
    assert any("memory" in failure.said for failure in tally.failures)


def test_the_memory_that_it_took_to_make_an_input_is_not_held_against_it() -> None:
    target = _Target(lambda _: None)
    target.new = lambda rng, seeds: len(b"x" * 200_000_000)  # type: ignore[method-assign]
    assert not fuzz(target, 3, "a seed").failures


def test_the_same_seed_gives_the_same_inputs() -> None:
    def tried(seed: str) -> list[Any]:
        with opened("replies") as target:
            given: list[Any] = []
            fuzz(target, 50, seed, before=given.append)
            return given

    assert tried("one") == tried("one")
    assert tried("one") != tried("two")


def test_a_run_in_pieces_is_as_long_as_one_in_whole_and_goes_on_from_its_seeds() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fork beside the threads of other tests
        tally = in_pieces("replies", 120, 1, 120.0)
    assert (tally.inputs, tally.failed) == (120, 0)
    assert sum(tally.kinds.values()) == 120


class Deadly(_Target):
    """An input of 3 kills the process."""

    def __init__(self) -> None:
        super().__init__(self._die)

    def _die(self, given: int) -> int:
        if given == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return given


class Sleepy(_Target):
    def __init__(self) -> None:
        super().__init__(lambda given: (given, threading.Event().wait(60 if given == 3 else 0)))


@pytest.mark.parametrize(
    ("target", "seconds", "said"),
    [("Deadly", 60.0, "the process ended with -9"), ("Sleepy", 3.0, "was not done after 3 s")],
)
def test_an_input_that_ends_the_process_or_never_ends_is_a_failure_and_known(
    target: str, seconds: float, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(TARGETS, "numbers", (f"test_fuzz:{target}", 50, 50))
    monkeypatch.setattr("tests.fuzz.__main__.KEPT", tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fork beside the threads of other tests
        tally = in_pieces("numbers", 50, 1, seconds)
    assert [failure.given for failure in tally.failures] == [3]
    assert said in tally.failures[0].said
    assert [path.read_text().splitlines()[0] for path in tmp_path.iterdir()] == ["3"]


def test_a_spelled_value_holds_what_python_s_own_json_would_refuse() -> None:
    rng = Random(0)
    texts = [
        mutate.spelled(rng, mutate.mutated_json(rng, {"code": 1, "result": {"a": "b"}}, ("code", "charge")))
        for _ in range(2_000)
    ]
    for token in ("1e400", "NaN", "\\ud83d", "[" * 1_000, "9" * 5_000):
        assert any(token in text for text in texts), token


@pytest.mark.parametrize(
    ("glob", "text", "meant"),
    [
        ("*", "a", True),
        ("*", "a/b", False),
        ("**/b", "b", True),
        ("**/b", "a/ab", False),
        ("[!a]?", "bc", True),
    ],
)
def test_the_matcher_that_globs_are_held_against_is_right_itself(glob: str, text: str, meant: bool) -> None:
    assert matches(glob, text) is meant
