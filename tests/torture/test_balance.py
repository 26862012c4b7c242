"""Every law of the balance holds for books that are right, and is broken by books that are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.torture import balance
from tests.torture.books import Billed, Books, Known, Noted, Process, Sent, Stored

RUN, OTHER = "run", "other"


def _manifest(**changes: Any) -> Mapping[str, Any]:
    counts = {"recognised": 1, "reused": 0, "rejected": 1, "failed": 0, "held": 1, "waiting": 0}
    calls = {"calls": 2, "charged": 1, "charged_unknown": 1, "inputs": 3, "stop": None}
    return {**counts, **calls, **changes}


ANSWERED = Sent("a1", "A", RUN, "answered", "success", True, "request 1", "body 1")
DOUBTFUL = Sent("b1", "B", RUN, "in_doubt", "in_doubt", None)
KILLED = Process(0, RUN, "killed", begun=frozenset({"b1"}))
LIVED = Process(
    1,
    RUN,
    "success",
    begun=frozenset({"a1"}),
    replies={"a1": "body 1"},
    settled={"a1": "success"},
    manifest=_manifest(),
)
RIGHT = Books(
    hold=True,
    max_in_flight=2,
    inputs=3,
    billed=(Billed("A", "request 1"), Billed("B", "request 2")),
    calls=2,
    sent=(ANSWERED, DOUBTFUL),
    known=(Known("A", "idle", "answered", "a1"), Known("B", "in_doubt")),
    noted=(
        Noted(RUN, "s3://a", "recognised", "A"),
        Noted(RUN, "s3://b", "held", "B"),
        Noted(RUN, "s3://c", "rejected"),
    ),
    stored=(Stored("A", "a1"),),
    processes=(KILLED, LIVED),
)
"""One image that is answered, one that was in flight at a kill and is held, one that was rejected."""


def test_books_that_are_right_break_no_law() -> None:
    assert not balance.violations(RIGHT)
    assert RIGHT.in_doubt_at_kill() == {0: 1}


def _sent(**changes: Any) -> Books:
    return replace(RIGHT, sent=(replace(ANSWERED, **changes), DOUBTFUL))


def _lived(**changes: Any) -> Books:
    return replace(RIGHT, processes=(KILLED, replace(LIVED, **changes)))


def _noted(*rows: Noted) -> Books:
    return replace(RIGHT, noted=(*rows, *RIGHT.noted[len(rows) :]))


_AGAIN = Sent("b2", "B", RUN, "answered", "success", True, "request 3", "body 3")
WRONG: Mapping[str, tuple[str, Books]] = {
    "a reply in hand that the ledger does not keep": ("no_answer_is_lost", _sent(body=None)),
    "a reply that was kept as another": ("no_answer_is_lost", _sent(body="other bytes")),
    "a bill of an image that was never sent": (
        "no_answer_is_lost",
        replace(RIGHT, billed=(*RIGHT.billed, Billed("C", "request 9"))),
    ),
    "a second bill of an answer that is known": (
        "no_answer_is_lost",
        replace(RIGHT, billed=(*RIGHT.billed, Billed("A", "request 9"))),
    ),
    "a kill that took the intent with it": (
        "no_answer_is_lost",
        replace(RIGHT, sent=(ANSWERED,), processes=(replace(KILLED, begun=frozenset()), LIVED)),
    ),
    "charged, and not billed": (
        "nothing_is_charged_that_is_not_billed",
        replace(RIGHT, billed=RIGHT.billed[1:]),
    ),
    "billed, and not charged": ("nothing_is_charged_that_is_not_billed", _sent(charged=False)),
    "paid twice under hold": (
        "under_hold_nothing_is_paid_twice",
        replace(RIGHT, billed=(*RIGHT.billed, Billed("B", "request 3"))),
    ),
    "sent twice under hold": ("under_hold_nothing_is_paid_twice", replace(RIGHT, sent=(*RIGHT.sent, _AGAIN))),
    "paid twice without a doubt": (
        "what_is_paid_twice_was_in_doubt_and_once_only",
        replace(RIGHT, hold=False, billed=(*RIGHT.billed, Billed("A", "request 9"))),
    ),
    "sent three times": (
        "what_is_paid_twice_was_in_doubt_and_once_only",
        replace(RIGHT, hold=False, sent=(*RIGHT.sent, _AGAIN, replace(_AGAIN, id="b3"))),
    ),
    "a doubt of a process that lived": (
        "a_doubt_has_a_cause",
        replace(RIGHT, processes=(replace(KILLED, end="retry"), LIVED)),
    ),
    "a doubt of nobody": ("a_doubt_has_a_cause", replace(RIGHT, processes=(LIVED,))),
    "more in doubt than was in flight": (
        "a_kill_leaves_at_most_max_in_flight_in_doubt",
        replace(RIGHT, max_in_flight=0),
    ),
    "settled by an attempt of another image": (
        "an_answer_settles_once",
        replace(RIGHT, known=(Known("A", "idle", "answered", "b1"), RIGHT.known[1])),
    ),
    "an answer that settles nothing": (
        "an_answer_settles_once",
        replace(RIGHT, known=(Known("A", "idle"), RIGHT.known[1])),
    ),
    "still claimed": (
        "nothing_is_left_under_way",
        replace(RIGHT, known=(RIGHT.known[0], Known("B", "claimed"))),
    ),
    "outcomes that do not add up": ("manifests_add_up", _lived(manifest=_manifest(recognised=2))),
    "an input that was not looked at": ("manifests_add_up", _lived(manifest=_manifest(held=0, inputs=2))),
    "waiting for nothing": ("manifests_add_up", _lived(manifest=_manifest(recognised=0, waiting=1))),
    "a manifest that says more than the ledger": (
        "the_last_manifest_is_what_the_ledger_says",
        _lived(manifest=_manifest(recognised=2, rejected=0)),
    ),
    "an input without an outcome": (
        "the_last_manifest_is_what_the_ledger_says",
        replace(RIGHT, noted=RIGHT.noted[:2]),
    ),
    "no end": ("the_last_manifest_is_what_the_ledger_says", _lived(manifest=None)),
    "a call that the manifest left out": (
        "the_last_manifest_counts_the_calls",
        _lived(manifest=_manifest(calls=1)),
    ),
    "a charge that the manifest left out": (
        "the_last_manifest_counts_the_calls",
        _lived(manifest=_manifest(charged=0)),
    ),
    "a call too many": ("no_task_makes_more_calls_than_it_may", replace(RIGHT, max_calls=1)),
    "a call that the ledger does not know": ("the_service_saw_what_the_ledger_sent", replace(RIGHT, calls=3)),
    "a call that the service never saw": ("the_service_saw_what_the_ledger_sent", replace(RIGHT, calls=0)),
    "recognised, and without an answer": (
        "outcomes_agree_with_the_recognitions",
        _noted(Noted(RUN, "s3://a", "recognised", "B")),
    ),
    "held, and under way": (
        "outcomes_agree_with_the_recognitions",
        replace(RIGHT, known=(RIGHT.known[0], Known("B", "sending"))),
    ),
    "reused what this run paid for": (
        "recognised_is_what_this_run_asked_for",
        _noted(Noted(RUN, "s3://a", "reused", "A")),
    ),
    "recognised what another run paid for": ("recognised_is_what_this_run_asked_for", _sent(run=OTHER)),
    "an answer that was not loaded": ("the_warehouse_holds_what_is_answered", replace(RIGHT, stored=())),
    "a document that nobody answered": (
        "the_warehouse_holds_what_is_answered",
        replace(RIGHT, stored=(*RIGHT.stored, Stored("B", "b1"))),
    ),
    "a document of another answer": (
        "the_warehouse_holds_what_is_answered",
        replace(RIGHT, stored=(Stored("A", "a0"),)),
    ),
    "a document twice": (
        "the_warehouse_holds_what_is_answered",
        replace(RIGHT, stored=RIGHT.stored * 2),
    ),
    "loaded twice": ("a_second_load_changes_nothing", replace(RIGHT, reloaded=1)),
    "changed by loading again": ("a_second_load_changes_nothing", replace(RIGHT, reload_changed=True)),
    "an exception that nobody declared": ("every_process_ends_as_declared", _lived(end="undeclared")),
    "a process that hangs": ("every_process_ends_as_declared", _lived(end="hung")),
}


@pytest.mark.parametrize(("law", "books"), WRONG.values(), ids=WRONG)
def test_books_that_are_wrong_break_the_law(law: str, books: Books) -> None:
    assert law in {violation.law for violation in balance.violations(books)}


def test_every_law_has_books_that_break_it() -> None:
    assert {law.__name__ for law in balance.LAWS} == {law for law, _ in WRONG.values()}


def test_under_resend_one_doubt_may_be_paid_twice() -> None:
    billed = (*RIGHT.billed, Billed("B", "request 3"))
    known = (RIGHT.known[0], Known("B", "idle", "answered", "b2"))
    noted = (RIGHT.noted[0], Noted(RUN, "s3://b", "recognised", "B"), RIGHT.noted[2])
    lived = replace(
        LIVED,
        begun=frozenset({"a1", "b2"}),
        replies={"a1": "body 1", "b2": "body 3"},
        settled={"a1": "success", "b2": "success"},
        manifest=_manifest(recognised=2, held=0, calls=3, charged=2),
    )
    resent = replace(
        RIGHT,
        hold=False,
        billed=billed,
        calls=3,
        sent=(*RIGHT.sent, _AGAIN),
        known=known,
        noted=noted,
        stored=(*RIGHT.stored, Stored("B", "b2")),
        processes=(KILLED, lived),
    )
    assert not balance.violations(resent)
    assert balance.billed_twice(resent) == {"B": 2}


def test_a_reply_that_was_in_hand_at_the_kill_is_in_doubt_and_not_lost() -> None:
    killed = replace(KILLED, replies={"b1": "body 2"})
    assert not balance.violations(replace(RIGHT, processes=(killed, LIVED)))


def test_an_attempt_that_no_journal_knows_counts_for_a_kill() -> None:
    killed = replace(KILLED, begun=frozenset())
    unknown = replace(RIGHT, processes=(killed, LIVED))
    assert unknown.in_doubt_at_kill() == {0: 1}
    assert not balance.violations(unknown)
