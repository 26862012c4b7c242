"""Many processes on one ledger, by the database's own clock: each claim has one winner, no slot is given
twice, and nobody is turned away by a deadlock. On every database.
"""

from __future__ import annotations

import multiprocessing
import random
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa

from airflow_provider_jdocr.core.engines import engine_for
from airflow_provider_jdocr.core.ledger import Attempt, Busy, Claim, Ledger, RunKey, SettledAlready
from airflow_provider_jdocr.core.rate import Slot, nominal_seconds
from airflow_provider_jdocr.core.schema import SCHEMA_VERSION
from tests.core import ledgers, past
from tests.core.ledgers import GOOD, OTHER_RUN, RUN, identity, read

PROCESSES = 4
ACCOUNT = ledgers.account(qps=20)
_T = TypeVar("_T")


@pytest.fixture(scope="module")
def crowd() -> Iterator[ProcessPoolExecutor]:
    """Processes that share nothing but the database, and the moment at which each of them starts to work."""
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(PROCESSES)
    with ProcessPoolExecutor(PROCESSES, context, initializer=_meet, initargs=(together,)) as pool:
        yield pool


def _meet(barrier: Any) -> None:
    global _together  # a process of a pool has no other place for what it was given
    _together = barrier


_together: Any = None


@pytest.fixture
def url(database_url: str) -> str:
    with opened(database_url) as ledger:
        ledger.create()
    return database_url


@contextmanager
def opened(url: str) -> Iterator[Ledger]:
    engine = engine_for(url)
    yield Ledger(engine)
    engine.dispose()


def everybody(crowd: ProcessPoolExecutor, work: Callable[..., _T], *args: Any) -> list[_T]:
    begun = [crowd.submit(at_once, work, number, *args) for number in range(PROCESSES)]
    return [each.result(120) for each in begun]


def at_once(work: Callable[..., _T], *args: Any) -> _T:
    _together.wait(60)
    return work(*args)


def claim_all(number: int, url: str, names: list[str]) -> Counter[str]:
    with opened(url) as ledger:
        random.Random(number).shuffle(names)
        run = RunKey("dag", str(number), "task")
        return Counter(name for name in names if isinstance(ledger.claim(identity(name), run), Claim))


def test_a_claim_has_one_winner_among_processes(crowd: ProcessPoolExecutor, url: str) -> None:
    names = [f"image {number}" for number in range(40)]
    assert sum(everybody(crowd, claim_all, url, names), Counter()) == Counter(names)


def take_slots(_number: int, url: str, times: int) -> list[float]:
    starts: list[float] = []
    with opened(url) as ledger:
        while len(starts) < times:
            if isinstance(slot := ledger.take_slot(ACCOUNT), Slot):
                starts.append(slot.granted_at + slot.seconds)
    return starts


def test_no_slot_is_given_twice_among_processes(crowd: ProcessPoolExecutor, url: str) -> None:
    starts = sorted(start for taken in everybody(crowd, take_slots, url, 6) for start in taken)
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    assert len(starts) == 6 * PROCESSES
    assert min(gaps) == pytest.approx(nominal_seconds(ACCOUNT.qps), abs=0.002)


def ask_again_and_again(number: int, url: str, times: int) -> int:
    """Sends of a task that wants everything anew, beside others that want the same three images."""
    sends, dice = 0, random.Random(number)
    with opened(url) as ledger:
        for turn in range(times):
            run = RunKey("dag", f"{number} {turn}", "task")
            since = ledger.open_run(run)
            claim = ledger.claim(identity(str(dice.randrange(3))), run, resend="all")
            if isinstance(claim, Claim):
                begun = ledger.begin(claim, ACCOUNT, run, sent_sha256="0" * 64, asked_since=since)
                if isinstance(begun, Attempt):
                    ledger.settle(begun, ACCOUNT, read(GOOD, ACCOUNT), GOOD)
                    sends += 1
                else:
                    ledger.release(claim)
    return sends


def test_processes_that_want_the_same_images_meet_without_a_deadlock(
    crowd: ProcessPoolExecutor, url: str
) -> None:
    sends = everybody(crowd, ask_again_and_again, url, 25)
    with opened(url) as ledger, ledger.engine.connect() as db:
        booked = db.execute(sa.text("SELECT state, count(*) FROM jdocr_attempt GROUP BY state")).all()
        left = db.execute(sa.text("SELECT count(*) FROM jdocr_recognition WHERE state <> 'idle'")).scalar()
        assert ledger.quota(ACCOUNT).used == sum(sends)
    assert [tuple(row) for row in booked] == [("answered", sum(sends))]
    assert (left, len([each for each in sends if each])) == (0, PROCESSES)


def create(_number: int, url: str) -> None:
    with opened(url) as ledger:
        ledger.create()


@pytest.mark.parametrize("before", ["nothing", "version 1"])
def test_processes_that_start_together_make_the_tables_once(
    crowd: ProcessPoolExecutor, database_url: str, before: str
) -> None:
    with opened(database_url) as ledger:
        if before == "version 1":
            past.create(ledger.engine, 1)
        everybody(crowd, create, database_url)
        with ledger.engine.connect() as db:
            assert db.execute(sa.text("SELECT value FROM jdocr_meta")).scalars().all() == [
                str(SCHEMA_VERSION)
            ]
        assert isinstance(ledger.claim(identity("new"), RUN), Claim)


def test_a_lease_ends_by_the_databases_clock_and_no_other(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts whose clocks are wrong by half a minute take nothing from each other."""
    with opened(url) as ledger, opened(url) as other:
        claim = ledger.claim(identity(), RUN)
        assert isinstance(claim, Claim)
        monkeypatch.setattr("time.time", lambda: 4_000_000_000.0)
        waits = other.claim(identity(), OTHER_RUN)
        assert isinstance(waits, Busy)
        assert 30 < waits.seconds <= 60
        assert ledger.renew(claim)
        with ledger.engine.begin() as db:  # as much time passes in the database
            db.execute(sa.text("UPDATE jdocr_recognition SET lease_until = lease_until - 60"))
        assert isinstance(other.claim(identity(), OTHER_RUN), Claim)
        assert ledger.begin(claim, ACCOUNT, RUN, sent_sha256="0" * 64, asked_since=0.0) is None


def test_two_services_in_one_ledger_know_nothing_of_each_other(url: str) -> None:
    """Neither of their answers, nor of their quota, nor of their slots, although key and endpoint are one."""
    jd, local = ledgers.account(qps=2), replace(ledgers.account(qps=2), service="127.0.0.1:8600")
    with opened(url) as ledger:
        for account in (jd, local):
            slot = ledger.take_slot(account)
            assert isinstance(slot, Slot)
            assert slot.seconds == 0.0
        claim = ledger.claim(identity(service=local.service), RUN)
        assert isinstance(claim, Claim)
        attempt = ledger.begin(claim, local, RUN, sent_sha256="0" * 64, asked_since=0.0)
        assert isinstance(attempt, Attempt)
        ledger.settle(attempt, local, read(GOOD, local), GOOD)
        assert isinstance(ledger.claim(identity(service=local.service), OTHER_RUN), SettledAlready)
        assert isinstance(ledger.claim(identity(), OTHER_RUN), Claim)
        assert (ledger.quota(local).used, ledger.quota(jd).used) == (1, 0)
