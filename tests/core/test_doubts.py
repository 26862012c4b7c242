"""What a person decides about an image in doubt: never against a worker, and never against an answer."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from airflow_provider_jdocr.core import schema
from airflow_provider_jdocr.core.batch import STORE_SECONDS
from airflow_provider_jdocr.core.doubts import (
    Doubt,
    Matching,
    Settlement,
    correct_charges,
    doubts,
    maybe_charged,
    settle,
)
from airflow_provider_jdocr.core.ledger import (
    DOUBT_GRACE_SECONDS,
    GIVEN_UP,
    LATE_REPLY_SECONDS,
    Claim,
    Decision,
    Held,
    Ledger,
    RunKey,
    Settled,
    SettledAlready,
)
from tests.core import books, ledgers
from tests.core.books import LOST, begun, called, ended
from tests.core.ledgers import FAILED, GOOD, OTHER_RUN, RUN, Clock, identity

EVERYTHING = Matching()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(database_url: str, clock: Clock) -> Iterator[Ledger]:
    with books.opened(database_url, clock) as opened:
        yield opened


def decide(
    ledger: Ledger, decision: Decision, matching: Matching = EVERYTHING, charged: bool | None = None
) -> Settlement:
    return settle(ledger, matching, decision, charged=charged, by="li.wei", reason="looked at the bill")


def only(ledger: Ledger) -> Doubt:
    (doubt,) = doubts(ledger)
    return doubt


def test_an_image_in_doubt_is_named_with_its_file_its_task_and_its_call(ledger: Ledger, clock: Clock) -> None:
    called(ledger, GOOD, "answered")
    attempt = called(ledger, LOST)
    clock.pass_(3600)
    doubt = only(ledger)
    assert (doubt.call.identity, doubt.call.uri, doubt.call.run) == (identity(), books.uri("a"), RUN)
    assert (doubt.call.call_id, doubt.call.code, doubt.call.seconds_ago) == (attempt.id, "read_timeout", 3600)
    assert (doubt.calls, doubt.lease_seconds, doubt.answered) == (1, 0.0, False)


def test_a_picture_whose_task_was_killed_is_known_by_the_name_it_was_read_under(
    ledger: Ledger, clock: Clock
) -> None:
    begun(ledger)
    clock.pass_(3600)
    assert only(ledger).call.uri == books.uri("a")


def test_what_is_on_its_way_is_listed_and_left_alone(ledger: Ledger, clock: Clock) -> None:
    attempt = begun(ledger)
    assert only(ledger).lease_seconds > 0
    assert decide(ledger, "give-up", charged=False) == Settlement(matched=1, resolved=0, busy=1, charges=0)
    ended(ledger, attempt, GOOD)
    assert doubts(ledger) == []


def test_nothing_is_decided_while_a_process_may_still_write_its_reply_down(
    ledger: Ledger, clock: Clock
) -> None:
    assert LATE_REPLY_SECONDS > STORE_SECONDS
    begun(ledger)
    clock.pass_(only(ledger).lease_seconds)
    assert decide(ledger, "ask-again").busy == 1
    assert only(ledger).lease_seconds == DOUBT_GRACE_SECONDS
    clock.pass_(DOUBT_GRACE_SECONDS)
    assert decide(ledger, "ask-again").resolved == 1


def test_what_was_killed_long_ago_is_settled_at_once(ledger: Ledger, clock: Clock) -> None:
    begun(ledger)
    clock.pass_(only(ledger).lease_seconds + LATE_REPLY_SECONDS)
    assert decide(ledger, "ask-again").resolved == 1
    assert doubts(ledger) == []


def test_ask_again_lets_the_next_run_send_it_once_more_also_under_hold(ledger: Ledger) -> None:
    called(ledger, LOST)
    assert isinstance(ledger.claim(identity(), OTHER_RUN, in_doubt="hold"), Held)
    assert decide(ledger, "ask-again") == Settlement(matched=1, resolved=1, busy=0, charges=0)
    called(ledger, LOST, run=OTHER_RUN, in_doubt="hold")
    assert isinstance(ledger.claim(identity(), OTHER_RUN, in_doubt="hold"), Held)


def test_a_claim_that_is_given_back_keeps_the_permission(ledger: Ledger) -> None:
    called(ledger, LOST)
    decide(ledger, "ask-again")
    claim = ledger.claim(identity(), OTHER_RUN, in_doubt="hold")
    assert isinstance(claim, Claim)
    ledger.release(claim)
    assert isinstance(ledger.claim(identity(), OTHER_RUN, in_doubt="hold"), Claim)


def test_what_was_given_up_has_failed_and_is_not_sent_again_unless_told(ledger: Ledger) -> None:
    called(ledger, LOST)
    decide(ledger, "give-up")
    answer = ledger.claim(identity(), OTHER_RUN)
    assert isinstance(answer, SettledAlready)
    assert (answer.recognition.settled, answer.recognition.code) == (Settled.FAILED, GIVEN_UP)
    assert ledger.answers([identity()]) == []
    assert isinstance(ledger.claim(identity(), OTHER_RUN, resend="failed"), Claim)


@pytest.mark.parametrize("decision", ["ask-again", "give-up"])
def test_an_answer_that_comes_after_the_decision_counts(
    ledger: Ledger, clock: Clock, decision: Decision
) -> None:
    late = begun(ledger)
    clock.pass_(3600)
    assert decide(ledger, decision).resolved == 1
    ended(ledger, late, GOOD)
    answer = ledger.claim(identity(), OTHER_RUN, in_doubt="resend")
    assert isinstance(answer, SettledAlready)
    assert answer.recognition.settled is Settled.ANSWERED
    assert [stored.body for stored in ledger.answers([identity()])] == [GOOD.body]


def test_a_failure_that_comes_after_giving_up_brings_its_own_code(ledger: Ledger, clock: Clock) -> None:
    late = begun(ledger)
    clock.pass_(3600)
    decide(ledger, "give-up")
    ended(ledger, late, FAILED)
    answer = ledger.claim(identity(), OTHER_RUN)
    assert isinstance(answer, SettledAlready)
    assert answer.recognition.code == "12002"


def test_a_loss_that_is_noticed_after_the_decision_changes_nothing(ledger: Ledger, clock: Clock) -> None:
    late = begun(ledger)
    clock.pass_(3600)
    decide(ledger, "ask-again")
    ended(ledger, late, LOST)
    assert isinstance(ledger.claim(identity(), OTHER_RUN, in_doubt="hold"), Claim)


def test_an_answer_that_is_there_outlives_giving_up_a_further_call(ledger: Ledger) -> None:
    called(ledger, GOOD)
    called(ledger, LOST, run=OTHER_RUN, resend="all")
    assert only(ledger).answered
    assert decide(ledger, "give-up").resolved == 1
    assert [stored.body for stored in ledger.answers([identity()])] == [GOOD.body]


def test_who_decided_what_when_and_why_is_kept(ledger: Ledger) -> None:
    called(ledger, LOST)
    decide(ledger, "give-up", charged=True)
    with ledger.engine.connect() as db:
        rows = db.execute(sa.select(schema.decision).order_by(schema.decision.c.decision)).all()
    assert [row.decision for row in rows] == ["charged", "give-up"]
    assert {(row.decided_by, row.reason, row.decided_at) for row in rows} == {
        ("li.wei", "looked at the bill", ledgers.START)
    }


def test_deciding_twice_decides_once(ledger: Ledger) -> None:
    called(ledger, LOST)
    assert decide(ledger, "give-up").resolved == 1
    assert decide(ledger, "ask-again") == Settlement(matched=0, resolved=0, busy=0, charges=0)


@pytest.mark.parametrize("charged", [True, False])
def test_what_the_bill_says_of_a_doubtful_call_is_written_into_the_books(
    ledger: Ledger, charged: bool
) -> None:
    called(ledger, LOST)
    assert ledger.cost(RUN).charged_unknown == 1
    assert decide(ledger, "ask-again", charged=charged).charges == 1
    assert (ledger.cost(RUN).charged, ledger.cost(RUN).charged_unknown) == (int(charged), 0)
    assert maybe_charged(ledger) == []


def test_the_charge_of_a_call_may_be_corrected_after_its_image_was_answered(ledger: Ledger) -> None:
    lost = called(ledger, LOST)
    called(ledger, GOOD, run=OTHER_RUN)
    (call,) = maybe_charged(ledger)
    assert (call.call_id, call.run) == (lost.id, RUN)
    assert correct_charges(ledger, [call], True, by="li.wei", reason="the console of the 5th") == 1
    assert ledger.correct_charge(lost.id, False, by="li.wei", reason="that was the 4th")
    assert ledger.cost(RUN).charged == 0


def test_the_services_own_word_is_never_corrected(ledger: Ledger) -> None:
    attempt = called(ledger, GOOD)
    assert not ledger.correct_charge(attempt.id, False, by="li.wei", reason="I think so")
    assert not ledger.correct_charge("no such call", True, by="li.wei", reason="")
    assert ledger.cost(RUN).charged == 1


def test_the_services_late_word_wins_and_its_silence_does_not(ledger: Ledger, clock: Clock) -> None:
    spoken, silent = begun(ledger, "spoken"), begun(ledger, "silent")
    clock.pass_(3600)
    decide(ledger, "give-up", charged=False)
    ended(ledger, spoken, GOOD)
    ended(ledger, silent, LOST)
    assert (ledger.cost(RUN).charged, ledger.cost(RUN).charged_unknown) == (1, 0)
    assert not ledger.correct_charge(spoken.id, False, by="li.wei", reason="I think so")


@pytest.mark.parametrize(
    "matching",
    [
        Matching(dag_id="dag"),
        Matching(run_id="run"),
        Matching(dag_id="dag", task_id="recognise", endpoint="ocr_invoice"),
        Matching(prefix="s3://bucket/a"),
        Matching(sha256=(identity("a").sha256,)),
        Matching(older_than_seconds=3600),
        Matching(service="jd", older_than_seconds=3599),
    ],
)
def test_what_is_meant_is_meant_by_all_that_is_said(ledger: Ledger, clock: Clock, matching: Matching) -> None:
    called(ledger, LOST, "a")
    clock.pass_(3600)
    called(ledger, LOST, "b", RunKey("another dag", "another run", "recognise"))
    found = [doubt.call.uri for doubt in doubts(ledger, matching)]
    assert found == [books.uri("a")]
    assert [call.uri for call in maybe_charged(ledger, matching)] == found
    assert decide(ledger, "give-up", matching).resolved == 1
    assert only(ledger).call.uri == books.uri("b")


def test_workers_and_a_person_at_once_neither_wait_for_each_other_nor_send_twice(
    database_url: str, clock: Clock
) -> None:
    names = [f"image {number}" for number in range(20)]
    with books.opened(database_url, clock) as ledger:
        for name in names:
            called(ledger, LOST, name)

        def claim_all(worker: int) -> list[str]:
            run = RunKey("dag", f"worker {worker}", "recognise")
            claims = {name: ledger.claim(identity(name), run, in_doubt="resend") for name in names}
            return [name for name, claim in claims.items() if isinstance(claim, Claim)]

        with ThreadPoolExecutor(4) as pool:
            workers = [pool.submit(claim_all, number) for number in range(3)]
            person = pool.submit(decide, ledger, "ask-again")
            claimed = [name for worker in workers for name in worker.result()]
            assert person.result().matched <= len(names)
    assert sorted(claimed) == sorted(names)
