"""The ledger's laws, each on SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

import functools
import random
import stat
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import sqlalchemy as sa

from airflow_provider_jdocr.core.account import Account
from airflow_provider_jdocr.core.client import Reply, WireFailure
from airflow_provider_jdocr.core.engines import engine_for
from airflow_provider_jdocr.core.errors import ConfigurationError
from airflow_provider_jdocr.core.ledger import (
    CLAIM_SECONDS,
    DOUBT_GRACE_SECONDS,
    LOOKUP_SIZE,
    Attempt,
    Busy,
    Claim,
    Cost,
    Held,
    Identity,
    Ledger,
    Outcome,
    RunKey,
    Settled,
    SettledAlready,
    State,
)
from airflow_provider_jdocr.core.quotas import QuotaState, Refused
from airflow_provider_jdocr.core.rate import Pace, Queued, Slot, nominal_seconds, take_slot
from airflow_provider_jdocr.core.replies import read_failure
from airflow_provider_jdocr.core.sources import Source
from tests.core import ledgers
from tests.core.ledgers import GOOD, OTHER_RUN, RUN, Clock, identity, left, read

ACCOUNT = ledgers.account()
LOST = WireFailure(code="read_timeout", reached=True, detail="no reply in 10 s", elapsed_seconds=10.0)
REFUSED = WireFailure(code="connection_refused", reached=False, detail="refused", elapsed_seconds=0.0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(engine: sa.Engine, clock: Clock) -> Ledger:
    made = Ledger(engine, clock=clock)
    made.create()
    return made


def claimed(ledger: Ledger, name: str = "a", run: RunKey = RUN, **how: str) -> Claim:
    claim = ledger.claim(identity(name), run, **how)  # type: ignore[arg-type]
    assert isinstance(claim, Claim), claim
    return claim


def begun(ledger: Ledger, claim: Claim, run: RunKey = RUN, account: Account = ACCOUNT) -> Attempt:
    attempt = ledger.begin(claim, account, run, sent_sha256=claim.identity.sha256, asked_since=0.0)
    assert isinstance(attempt, Attempt), attempt
    return attempt


def settle(ledger: Ledger, attempt: Attempt, answer: Reply | WireFailure, account: Account = ACCOUNT) -> None:
    if isinstance(answer, WireFailure):
        ledger.settle(attempt, account, read_failure(answer), None)
    else:
        ledger.settle(attempt, account, read(answer, account), answer)


def asked(
    ledger: Ledger, answer: Reply | WireFailure, name: str = "a", run: RunKey = RUN, **how: str
) -> Attempt:
    attempt = begun(ledger, claimed(ledger, name, run, **how), run)
    settle(ledger, attempt, answer)
    return attempt


def test_a_settled_recognition_is_not_claimed_again_by_anybody(ledger: Ledger) -> None:
    asked(ledger, GOOD)
    for run in (RUN, OTHER_RUN):
        answer = ledger.claim(identity(), run)
        assert isinstance(answer, SettledAlready)
        assert answer.recognition.settled is Settled.ANSWERED


def test_an_answer_of_a_local_service_settles_nothing_of_jd(ledger: Ledger) -> None:
    asked(ledger, GOOD)
    assert isinstance(ledger.claim(replace(identity(), service="127.0.0.1:8600"), RUN), Claim)


def test_the_reply_is_kept_to_the_byte(ledger: Ledger) -> None:
    attempt = asked(ledger, GOOD)
    (answer,) = ledger.answers([identity()])
    assert (answer.body, answer.answer_id, answer.state) == (GOOD.body, attempt.id, "recognised")
    assert answer.answered_at.timestamp() == ledgers.START


def test_a_charged_failure_is_settled_as_failed(ledger: Ledger) -> None:
    asked(ledger, ledgers.FAILED)
    answer = ledger.claim(identity(), OTHER_RUN)
    assert isinstance(answer, SettledAlready)
    assert answer.recognition.settled is Settled.FAILED
    assert answer.recognition.code == "12002"


def test_a_claim_keeps_others_out_until_its_lease_ends(ledger: Ledger, clock: Clock) -> None:
    claimed(ledger)
    waiting = ledger.claim(identity(), OTHER_RUN)
    assert waiting == Busy(CLAIM_SECONDS)
    clock.pass_(CLAIM_SECONDS)
    assert isinstance(ledger.claim(identity(), OTHER_RUN), Claim)


def test_a_claim_that_is_repeated_knows_of_an_answer_that_came_meanwhile(
    ledger: Ledger, clock: Clock
) -> None:
    slow = begun(ledger, claimed(ledger))
    clock.pass_(1000)
    ledger.claim(identity(), OTHER_RUN)
    clock.pass_(DOUBT_GRACE_SECONDS)
    ask = functools.partial(ledger.claim, identity(), OTHER_RUN, token="t" * 32)
    assert isinstance(ask(), Claim)
    settle(ledger, slow, GOOD)
    assert isinstance(ask(), SettledAlready)
    assert isinstance(ledger.claim(identity(), RUN), SettledAlready)


def test_a_claim_that_waits_for_its_slot_can_be_renewed(ledger: Ledger, clock: Clock) -> None:
    claim = claimed(ledger)
    clock.pass_(CLAIM_SECONDS - 1)
    assert ledger.renew(claim)
    clock.pass_(CLAIM_SECONDS - 1)
    assert isinstance(ledger.claim(identity(), OTHER_RUN), Busy)


def test_a_renewal_that_comes_after_the_send_began_changes_nothing(ledger: Ledger, clock: Clock) -> None:
    claim = claimed(ledger)
    begun(ledger, claim)
    assert not ledger.renew(claim)
    # Also not when the lease of the send is over and somebody has noticed.
    clock.pass_(1000)
    assert isinstance(ledger.claim(identity(), OTHER_RUN), Busy)
    assert not ledger.renew(claim)
    clock.pass_(DOUBT_GRACE_SECONDS)
    assert isinstance(ledger.claim(identity(), OTHER_RUN), Claim)


def test_a_lost_claim_sends_nothing(ledger: Ledger, clock: Clock) -> None:
    late = claimed(ledger)
    clock.pass_(CLAIM_SECONDS)
    claimed(ledger, run=OTHER_RUN)
    assert ledger.begin(late, ACCOUNT, RUN, sent_sha256="0" * 64, asked_since=0.0) is None
    assert ledger.cost(RUN) == Cost()


def test_a_released_claim_is_free_at_once(ledger: Ledger) -> None:
    ledger.release(claimed(ledger))
    assert isinstance(ledger.claim(identity(), OTHER_RUN), Claim)


def test_a_send_whose_worker_died_is_in_doubt_when_its_lease_ends(ledger: Ledger, clock: Clock) -> None:
    begun(ledger, claimed(ledger))
    assert isinstance(ledger.claim(identity(), RUN), Busy)
    clock.pass_(1000)
    assert ledger.recognitions([identity()])[identity()].state is State.IN_DOUBT
    # Left alone a moment longer: its process may have the reply in hand while the database was away.
    assert ledger.claim(identity(), RUN, in_doubt="hold") == Busy(DOUBT_GRACE_SECONDS)
    clock.pass_(DOUBT_GRACE_SECONDS)
    assert isinstance(ledger.claim(identity(), RUN, in_doubt="hold"), Held)


def test_in_doubt_is_sent_again_once_and_then_held(ledger: Ledger) -> None:
    asked(ledger, LOST)
    asked(ledger, LOST)
    assert isinstance(ledger.claim(identity(), OTHER_RUN), Held)


def test_a_claim_on_a_doubtful_image_that_is_given_back_stays_doubtful(ledger: Ledger) -> None:
    asked(ledger, LOST)
    ledger.release(claimed(ledger))
    assert isinstance(ledger.claim(identity(), RUN, in_doubt="hold"), Held)


def test_a_claim_on_a_doubtful_image_whose_worker_died_leaves_it_doubtful(
    ledger: Ledger, clock: Clock
) -> None:
    asked(ledger, LOST)
    claimed(ledger)
    clock.pass_(CLAIM_SECONDS)
    assert ledger.recognitions([identity()])[identity()].doubts == 1
    assert isinstance(ledger.claim(identity(), OTHER_RUN, in_doubt="hold"), Held)
    assert isinstance(ledger.claim(identity(), OTHER_RUN), Claim)


def test_never_reached_the_server_is_not_in_doubt(ledger: Ledger) -> None:
    for _ in range(3):
        asked(ledger, REFUSED)
    assert isinstance(ledger.claim(identity(), RUN, in_doubt="hold"), Claim)
    assert ledger.cost(RUN) == Cost()


def test_a_late_answer_is_kept_whoever_holds_the_lease(ledger: Ledger, clock: Clock) -> None:
    slow = begun(ledger, claimed(ledger))
    clock.pass_(1000)
    assert isinstance(ledger.claim(identity(), OTHER_RUN), Busy)
    clock.pass_(DOUBT_GRACE_SECONDS)
    other = claimed(ledger, run=OTHER_RUN)
    settle(ledger, slow, GOOD)
    assert [answer.answer_id for answer in ledger.answers([identity()])] == [slow.id]
    # Nobody pays for it a second time, although the other one holds a claim.
    assert ledger.begin(other, ACCOUNT, OTHER_RUN, sent_sha256="0" * 64, asked_since=0.0) is None
    ledger.release(other)
    assert isinstance(ledger.claim(identity(), OTHER_RUN), SettledAlready)


def test_resend_failed_asks_again_for_failures_only_and_once_a_task_instance(ledger: Ledger) -> None:
    asked(ledger, ledgers.FAILED, "bad")
    asked(ledger, GOOD, "good")
    assert isinstance(ledger.claim(identity("good"), OTHER_RUN, resend="failed"), SettledAlready)
    asked(ledger, ledgers.FAILED, "bad", OTHER_RUN, resend="failed")
    assert isinstance(ledger.claim(identity("bad"), OTHER_RUN, resend="failed"), SettledAlready)


def test_resend_all_asks_again_once_a_task_instance(ledger: Ledger) -> None:
    asked(ledger, GOOD)
    asked(ledger, GOOD, run=OTHER_RUN, resend="all")
    assert isinstance(ledger.claim(identity(), OTHER_RUN, resend="all"), SettledAlready)


def test_a_resend_that_fails_loses_no_answer(ledger: Ledger) -> None:
    first = asked(ledger, GOOD)
    asked(ledger, ledgers.FAILED, run=OTHER_RUN, resend="all")
    assert [answer.answer_id for answer in ledger.answers([identity()])] == [first.id]


def test_a_resend_in_doubt_leaves_the_answer_that_is_there(ledger: Ledger) -> None:
    asked(ledger, GOOD)
    asked(ledger, LOST, run=OTHER_RUN, resend="all")
    assert isinstance(ledger.claim(identity(), RUN), SettledAlready)


def test_only_one_of_many_workers_gets_the_claim(engine: sa.Engine) -> None:
    ledger = Ledger(engine)
    ledger.create()
    barrier = threading.Barrier(8)

    def take(number: int) -> str:
        barrier.wait()
        return type(ledger.claim(identity(), RunKey("d", str(number), "t"))).__name__

    with ThreadPoolExecutor(8) as pool:
        assert Counter(pool.map(take, range(8))) == {"Claim": 1, "Busy": 7}


def test_slots_of_all_workers_stand_one_interval_apart(engine: sa.Engine) -> None:
    account = ledgers.account(qps=20)
    ledger = Ledger(engine)
    ledger.create()

    def take(_: int) -> Slot | Queued:
        return ledger.take_slot(account)

    with ThreadPoolExecutor(4) as pool:
        slots = [slot for slot in pool.map(take, range(40)) if isinstance(slot, Slot)]
    starts = sorted(slot.granted_at + slot.seconds for slot in slots)
    assert len(starts) >= 20
    # One slot may have been granted late; the one after it keeps its distance all the same.
    gaps = [later - sooner for sooner, later in pairwise(starts)]
    assert min(gaps) == pytest.approx(nominal_seconds(20), abs=0.002)


def test_a_slot_is_handed_out_within_the_horizon_only(ledger: Ledger, clock: Clock) -> None:
    account = ledgers.account(qps=2)
    slots = [ledger.take_slot(account) for _ in range(3)]
    assert [type(slot) for slot in slots] == [Slot, Slot, Queued]
    assert [slot.seconds for slot in slots] == pytest.approx([0.0, 0.515, 0.53])
    clock.pass_(0.53)
    assert ledger.take_slot(account).seconds == pytest.approx(0.5)


def test_the_ledger_hands_out_slots_as_the_pace_says(ledger: Ledger, clock: Clock) -> None:
    account, pace = ledgers.account(qps=7), Pace()
    moves = random.Random(1)
    for _ in range(200):
        clock.pass_(moves.choice([0.0, 0.01, 0.2, 3.0, -0.05]))
        pace, expected = take_slot(pace, 7, clock.now)
        slot = ledger.take_slot(account)
        assert type(slot) is type(expected)
        assert slot.seconds == pytest.approx(expected.seconds, abs=1e-5)


def test_a_slot_that_nobody_waits_for_is_free_at_once(ledger: Ledger, clock: Clock) -> None:
    account = ledgers.account(qps=2)
    ledger.take_slot(account)
    clock.pass_(60)
    assert ledger.take_slot(account) == Slot(clock.now, 0.0)


def test_calls_in_flight_when_the_limit_was_met_slow_everyone_once(ledger: Ledger, clock: Clock) -> None:
    attempts = [begun(ledger, claimed(ledger, name)) for name in "abc"]
    clock.pass_(0.5)
    settle(ledger, attempts[0], ledgers.TOO_FAST)
    rest = ledger.take_slot(ACCOUNT)
    for attempt in attempts[1:]:
        settle(ledger, attempt, ledgers.TOO_FAST)
    assert isinstance(rest, Slot)
    assert rest.seconds == pytest.approx(0.2)
    assert ledger.take_slot(ACCOUNT).seconds == pytest.approx(0.2 + nominal_seconds(50) / 0.99)
    assert isinstance(ledger.claim(identity("a"), RUN), Claim)


def test_a_slot_from_before_a_slow_down_sends_nothing(ledger: Ledger, clock: Clock) -> None:
    slot = ledger.take_slot(ACCOUNT)
    assert isinstance(slot, Slot)
    first = begun(ledger, claimed(ledger, "a"))
    clock.pass_(0.01)
    settle(ledger, first, ledgers.TOO_FAST)
    claim = claimed(ledger, "b")
    how = {"sent_sha256": claim.identity.sha256, "asked_since": 0.0}
    assert ledger.begin(claim, ACCOUNT, RUN, slot=slot, **how) == Queued(0.0)  # type: ignore[arg-type]
    assert isinstance(ledger.begin(claim, ACCOUNT, RUN, slot=ledger.take_slot(ACCOUNT), **how), Attempt)  # type: ignore[arg-type]


def test_what_is_left_counts_the_calls_under_way(ledger: Ledger) -> None:
    begun(ledger, claimed(ledger, "under way"))
    asked(ledger, left(GOOD, 10))
    assert ledger.quota(ACCOUNT).remaining == 9


def test_minus_one_means_unlimited_and_zero_on_a_success_means_nothing(ledger: Ledger) -> None:
    asked(ledger, left(GOOD, 5))
    asked(ledger, left(GOOD, -1), "b")
    assert ledger.quota(ACCOUNT).remaining is None
    asked(ledger, left(GOOD, 0), "c")
    assert ledger.quota(ACCOUNT).remaining is None


def test_a_daily_quota_that_ended_refuses_until_its_reset(ledger: Ledger, clock: Clock) -> None:
    asked(ledger, ledgers.DAY_IS_OVER)
    quota = ledger.quota(ACCOUNT)
    assert (quota.state, quota.remaining) == (QuotaState.UNTIL_RESET, 0)
    refused = ledger.begin(claimed(ledger, "b"), ACCOUNT, RUN, sent_sha256="0" * 64, asked_since=0.0)
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.seconds) == ("quota_until_reset", quota.resets_at - clock.now)  # type: ignore[operator]


def test_after_the_reset_one_worker_tries_and_the_others_wait(ledger: Ledger, clock: Clock) -> None:
    asked(ledger, ledgers.DAY_IS_OVER)
    clock.pass_(86_400)
    probe = begun(ledger, claimed(ledger, "b"))
    other = claimed(ledger, "c")
    refused = ledger.begin(other, ACCOUNT, RUN, sent_sha256="0" * 64, asked_since=0.0)
    assert isinstance(refused, Refused)
    assert refused.reason == "probing"
    settle(ledger, probe, GOOD)
    begun(ledger, other)


def test_a_prepaid_quota_that_ended_stops_the_task_and_lets_a_later_one_try(
    ledger: Ledger, clock: Clock
) -> None:
    asked(ledger, ledgers.NO_MONEY)
    claim = claimed(ledger, "b")
    refused = ledger.begin(claim, ACCOUNT, RUN, sent_sha256="0" * 64, asked_since=clock.now - 1)
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.seconds) == ("quota_until_topped_up", None)
    clock.pass_(1)
    assert isinstance(ledger.begin(claim, ACCOUNT, RUN, sent_sha256="0" * 64, asked_since=clock.now), Attempt)


def test_a_configured_daily_limit_holds_before_the_service_says_so(ledger: Ledger) -> None:
    account = ledgers.account(daily_limit=2)
    for name in "ab":
        settle(ledger, begun(ledger, claimed(ledger, name), account=account), GOOD, account)
    refused = ledger.begin(claimed(ledger, "c"), account, RUN, sent_sha256="0" * 64, asked_since=0.0)
    assert isinstance(refused, Refused)
    assert refused.reason == "quota_until_reset"


def test_calls_that_were_not_charged_do_not_count_against_the_daily_limit(ledger: Ledger) -> None:
    account = ledgers.account(daily_limit=1)
    for answer in (ledgers.BUSY, REFUSED, GOOD):
        settle(ledger, begun(ledger, claimed(ledger), account=account), answer, account)
    assert ledger.quota(account).remaining == 0


def test_keep_remaining_leaves_that_many_calls(ledger: Ledger) -> None:
    asked(ledger, left(GOOD, 3))
    claim = claimed(ledger, "b")
    refused = ledger.begin(claim, ACCOUNT, RUN, sent_sha256="0" * 64, asked_since=0.0, keep_remaining=3)
    assert isinstance(refused, Refused)
    assert refused.reason == "budget"
    assert isinstance(
        ledger.begin(claim, ACCOUNT, RUN, sent_sha256="0" * 64, asked_since=0.0, keep_remaining=2), Attempt
    )


def test_cost_tells_charged_from_maybe_charged_from_free(ledger: Ledger) -> None:
    answers: tuple[Reply | WireFailure, ...] = (GOOD, LOST, ledgers.BUSY, REFUSED)
    for number, answer in enumerate(answers):
        asked(ledger, answer, str(number))
    assert ledger.cost(RUN) == Cost(calls=3, charged=1, charged_unknown=1)


def test_an_unchanged_listing_needs_no_reading_and_a_changed_one_does(ledger: Ledger) -> None:
    source = Source("s3://b/发票.png", 10, "etag", None, 1.0)
    ledger.remember_sources([(source, "a" * 64)])
    assert ledger.known_sources([source]) == {source.uri: "a" * 64}
    for changed in (replace(source, etag="other"), replace(source, size=11), replace(source, modified=2.0)):
        assert ledger.known_sources([changed]) == {}
    bare = Source("s3://b/bare")
    ledger.remember_sources([(bare, "b" * 64)])
    assert ledger.known_sources([bare]) == {}


def test_look_ups_take_more_keys_than_a_statement_holds(ledger: Ledger) -> None:
    sources = [Source(f"s3://b/{number}", 1, "e") for number in range(2 * LOOKUP_SIZE + 1)]
    ledger.remember_sources([(sources[-1], "a" * 64)])
    assert ledger.known_sources(sources) == {sources[-1].uri: "a" * 64}
    with pytest.raises(ValueError, match="at most"):
        ledger.answers([identity(str(number)) for number in range(LOOKUP_SIZE + 1)])


def test_outcomes_are_one_row_an_input_and_the_last_word_counts(ledger: Ledger) -> None:
    rows = [
        Outcome(f"s3://b/{number}", None, "waiting", "budget", "later") for number in range(LOOKUP_SIZE + 7)
    ]
    ledger.write_outcomes(RUN, ACCOUNT, rows)
    done = Outcome(rows[0].uri, identity(), "recognised", "0", None)
    ledger.write_outcomes(RUN, ACCOUNT, [done])
    found = {outcome.uri: outcome for outcome in ledger.outcomes(RUN)}
    assert found == {row.uri: row for row in rows} | {done.uri: done}
    assert list(ledger.outcomes(OTHER_RUN)) == []


def test_the_sqlite_file_is_its_owners_alone_and_durable(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    engine = engine_for(f"sqlite:///{file}")
    Ledger(engine).create()
    assert [stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()] == [0o600] * len(
        list(tmp_path.iterdir())
    )
    with engine.connect() as db:
        assert db.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert db.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2  # FULL
    engine.dispose()


@pytest.mark.parametrize("url", ["sqlite:///ledger.db", "sqlite://", "mssql://host/db", "oracle://host/db"])
def test_a_database_that_cannot_hold_a_ledger_is_refused_by_name(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"absolute path|not among them"):
        engine_for(url)


def test_no_secret_and_no_picture_is_in_any_row(ledger: Ledger, engine: sa.Engine) -> None:
    asked(ledger, GOOD)
    with engine.connect() as db:
        for table in sa.inspect(db).get_table_names():
            text = repr(db.execute(sa.text(f"SELECT * FROM {table}")).all())  # noqa: S608
            assert "secret" not in text
            assert "'key'" not in text


def test_identities_that_the_ledger_does_not_know_are_absent(ledger: Ledger) -> None:
    unknown = Identity("jd", "ocr_invoice", "f" * 64)
    assert ledger.recognitions([unknown]) == {}
    assert ledger.answers([unknown]) == []


def test_a_late_answer_that_cost_nothing_takes_the_doubt_back(ledger: Ledger, clock: Clock) -> None:
    slow = begun(ledger, claimed(ledger))
    clock.pass_(1000)
    ledger.claim(identity(), OTHER_RUN)
    settle(ledger, slow, ledgers.BUSY)
    assert isinstance(ledger.claim(identity(), OTHER_RUN, in_doubt="hold"), Claim)


def test_a_late_answer_that_cost_nothing_takes_the_doubt_back_also_after_somebody_elses_claim(
    ledger: Ledger, clock: Clock
) -> None:
    slow = begun(ledger, claimed(ledger))
    clock.pass_(1000)
    ledger.claim(identity(), OTHER_RUN)
    clock.pass_(DOUBT_GRACE_SECONDS)
    ledger.release(claimed(ledger, run=OTHER_RUN))
    settle(ledger, slow, ledgers.BUSY)
    assert ledger.recognitions([identity()])[identity()].state is State.IDLE
    assert isinstance(ledger.claim(identity(), OTHER_RUN, in_doubt="hold"), Claim)


def test_a_late_answer_takes_no_doubt_back_that_came_after_a_persons_decision(
    ledger: Ledger, clock: Clock
) -> None:
    slow = begun(ledger, claimed(ledger))
    clock.pass_(1000)
    ledger.claim(identity(), OTHER_RUN)
    clock.pass_(DOUBT_GRACE_SECONDS)
    recognition = ledger.recognitions([identity()])[identity()]
    assert ledger.resolve(recognition.id, "ask-again", by="kim", reason="not on the bill") == "resolved"
    asked(ledger, LOST)
    settle(ledger, slow, ledgers.BUSY)
    assert isinstance(ledger.claim(identity(), OTHER_RUN, in_doubt="hold"), Held)


def test_an_answer_is_written_down_once_also_when_the_first_commit_was_not_acknowledged(
    ledger: Ledger,
) -> None:
    account = ledgers.account(daily_limit=10)
    begun(ledger, claimed(ledger, "b"), account=account)
    attempt = begun(ledger, claimed(ledger), account=account)
    for _ in range(2):
        settle(ledger, attempt, ledgers.BUSY, account)
    assert ledger.quota(account).used == 1


def test_one_ledger_serves_both_endpoints_of_an_account(ledger: Ledger) -> None:
    for endpoint in ("ocr_invoice", "intsig_invoice"):
        assert ledger.take_slot(ledgers.account(endpoint=endpoint)).seconds == 0.0


def test_a_database_clock_that_was_wrong_for_a_while_blocks_nobody(ledger: Ledger, clock: Clock) -> None:
    clock.pass_(86_400)
    ledger.take_slot(ACCOUNT)
    clock.pass_(-86_400)
    assert ledger.take_slot(ACCOUNT).seconds == 0.0


def test_a_late_settle_and_a_claim_of_the_same_image_do_not_deadlock(postgres_url: str) -> None:
    clock, engine = Clock(), engine_for(postgres_url)
    ledger = Ledger(engine, clock=clock)
    ledger.create()
    attempt = begun(ledger, claimed(ledger))
    clock.pass_(1000)
    halfway, may_go_on = threading.Event(), threading.Event()

    @sa.event.listens_for(engine, "after_cursor_execute")
    def _stop_halfway(_db: object, _cursor: object, statement: str, *_: object) -> None:
        if threading.current_thread().name.startswith("settle") and statement.startswith("UPDATE jdocr_"):
            halfway.set()
            may_go_on.wait(0.5)

    with ThreadPoolExecutor(1, "settle") as settling, ThreadPoolExecutor(1, "claim") as claiming:
        settled = settling.submit(settle, ledger, attempt, GOOD)
        assert halfway.wait(5)
        answer = claiming.submit(ledger.claim, identity(), OTHER_RUN)
        settled.result(20)
        assert isinstance(answer.result(20), SettledAlready)
    engine.dispose()


def test_waiting_does_not_overwrite_what_an_earlier_try_knows(ledger: Ledger) -> None:
    known = Outcome("s3://b/a", identity(), "recognised", "0", None)
    ledger.write_outcomes(RUN, ACCOUNT, [known])
    ledger.write_outcomes(RUN, ACCOUNT, [Outcome("s3://b/a", None, "waiting", "budget", "later")])
    assert list(ledger.outcomes(RUN)) == [known]
