"""The ledger against a model of its laws: any order of claims, sends, answers, deaths and clocks.

Hypothesis drives several workers of several task instances over one database, as badly as it can: replies
come late, after somebody else's or never, commits are repeated because their acknowledgement was lost, tasks
are cleared, the clock jumps ahead and slips back. What truly happened is written down in `tests.core.truth`;
after every step each law below is held against it.

That the laws can be broken, and are seen to be, is shown by ledgers with one fault each.

`make model` runs it for MINUTES with seeds of its own; a failure prints the steps that lead to it and the
seed. Without that the same examples are tried every time.
"""

from __future__ import annotations

import json
import os
import random
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, ClassVar, TypeVar

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, note, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from airflow_provider_jdocr.core import schema
from airflow_provider_jdocr.core.account import Account
from airflow_provider_jdocr.core.client import Reply, WireFailure
from airflow_provider_jdocr.core.engines import engine_for
from airflow_provider_jdocr.core.errors import Verdict
from airflow_provider_jdocr.core.ledger import (
    CLAIM_SECONDS,
    DOUBT_GRACE_SECONDS,
    Attempt,
    Busy,
    Claim,
    Cost,
    Held,
    Identity,
    Ledger,
    Outcome,
    RunKey,
    Seen,
    SettledAlready,
    State,
)
from airflow_provider_jdocr.core.quotas import DAY_MAY_LAG_RETRY_SECONDS, DAY_MAY_LAG_SECONDS, Refused
from airflow_provider_jdocr.core.rate import Slot, longest_queue_seconds
from airflow_provider_jdocr.core.replies import Reading
from tests.core import ledgers
from tests.core.ledgers import Clock, left
from tests.core.truth import Before, Deed, Send, Taken, Truth, Way, limits, send_seconds

PLAN = 1000
"""Calls that the service has sold for a day."""
SAME_INVOICE = (0, 1, 2)
LONGEST_WAIT = 2 * (CLAIM_SECONDS + DOUBT_GRACE_SECONDS + 60.0)
_T = TypeVar("_T")
_examples = count(1)


@dataclass(frozen=True, slots=True)
class _Call:
    """One image brought along the line. `told`: the ledger learns what came of it."""

    image: int
    run: int
    way: Way
    second_key: bool
    deed: int
    told: bool


ways = st.builds(
    Way,
    st.sampled_from(["none", "none", "failed", "all", "all"]),
    st.sampled_from(["resend", "resend", "hold"]),
)
workers = st.integers(0, 2)
runs = st.integers(0, 2)
images = st.sampled_from([0, 0, 1, 1, 2, 3, 4, 5])
recent = st.integers(0, 3)
"""Which one, counted from the newest."""
deeds = st.integers(0, 99)
calls = st.builds(_Call, images, runs, ways, st.booleans(), deeds, st.sampled_from([True, True, False]))
keeps = st.sampled_from([None, None, None, 1, PLAN - 10])
outcomes = st.sampled_from(["recognised", "reused", "failed", "rejected", "held", "waiting"])
MOODS: dict[str, list[str]] = {
    "like any day": ["good", "good and left", "failed", "busy", "too fast", "silent", "lost", "refused"],
    "asked again": ["good", "failed", "failed", "good and left", "lost and billed"],
    "doubtful": ["lost", "lost and billed", "silent", "silent and billed", "busy", "good", "refused"],
    "at its end": ["good and left", "good and left", "day is over", "no money", "busy", "lost", "wrong key"],
    "used up": ["day is over", "day is over", "no money", "lost"],
}
"""What the service does, each as likely as the other."""


LAWS: list[str] = []


def law(method: Callable[[Any], None]) -> Callable[[Any], None]:
    """A law that holds after every step; its name says it."""
    LAWS.append(method.__name__)
    return method


class LedgerLaws(RuleBasedStateMachine):
    """One example: six images, three task instances, three workers, three accounts."""

    engine: ClassVar[sa.Engine]
    ledger_class: ClassVar[type[Ledger]] = Ledger
    moods: ClassVar[Sequence[str]] = tuple(MOODS)

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.truth = Truth(self.clock.now)
        self.workers = [self.ledger_class(self.engine, clock=self.clock) for _ in range(3)]
        self.ledger = self.workers[0]
        self.serial = count(1)
        self.concerned: set[Identity | RunKey | str] = set()
        self.said: _Said | None = None
        self.slots: dict[str, Slot] = {}
        self.lost: Taken | None = None
        self.outcomes: dict[tuple[RunKey, str], str] = {}

    @initialize(mood=st.integers(0, 99), calls=st.lists(calls, max_size=6))
    def a_place_of_its_own(self, mood: int, calls: list[_Call]) -> None:
        """Examples share a database and nothing in it. Some images have a past already."""
        name = f"{next(_examples)}-"
        self.runs = [RunKey(name, f"run {number}", "recognise") for number in range(3)]
        self.since = [ledger.open_run(run) for ledger, run in zip(self.workers, self.runs, strict=True)]
        plain = ledgers.account()
        self.deeds = MOODS[self.moods[mood % len(self.moods)]]
        self.accounts = [
            replace(plain, access_key=f"{name}prepaid"),
            replace(plain, access_key=f"{name}daily", daily_limit=3),
            replace(ledgers.account(endpoint="intsig_invoice"), access_key=f"{name}other", daily_limit=2),
        ]
        self.identities = [
            Identity("jd", endpoint, f"{name}{number}".ljust(64, "-"))
            for number, endpoint in enumerate(["ocr_invoice"] * 5 + ["intsig_invoice"])
        ]
        self.touched = {account.access_key: 0.0 for account in self.accounts}
        self._ask(0, calls)

    # --- what workers do

    @rule(worker=workers, image=images, run=runs, way=ways)
    def claim(self, worker: int, image: int, run: int, way: Way) -> None:
        self._claim(worker, image, run, way)

    @precondition(lambda self: self.truth.sendable())
    @rule(worker=workers, which=recent)
    def claim_again(self, worker: int, which: int) -> None:
        """The commit of the claim was not acknowledged: nobody knows of it, and its worker repeats it."""
        taken = _nth_newest(self.truth.sendable(), which)
        self.truth.taken.remove(taken)
        image, run = self.identities.index(taken.claim.identity), self.runs.index(taken.run)
        self._claim(worker, image, run, taken.way, token=taken.claim.token)

    @precondition(lambda self: self.truth.taken)
    @rule(worker=workers, which=recent)
    def renew(self, worker: int, which: int) -> None:
        taken = _nth_newest(self.truth.taken, which)
        held = taken in self.truth.sendable()
        renewed = self.workers[worker].renew(taken.claim)
        assert renewed == held, f"renew said {renewed} to a claim that was {'held' if held else 'lost'}"
        if renewed:
            taken.until = self.clock.now + CLAIM_SECONDS

    @precondition(lambda self: self.truth.taken)
    @rule(worker=workers, which=recent)
    def release(self, worker: int, which: int) -> None:
        self._release(worker, _nth_newest(self.truth.taken, which))

    @rule(worker=workers, account=st.integers(0, 2))
    def take_slot(self, worker: int, account: int) -> None:
        slot = self.workers[worker].take_slot(self.accounts[account])
        assert 0.0 <= slot.seconds <= longest_queue_seconds(self.accounts[account].qps)
        if isinstance(slot, Slot):
            self.slots[self.accounts[account].access_key] = slot

    @precondition(lambda self: self.truth.sendable())
    @rule(worker=workers, which=recent, second_key=st.booleans(), keep=keeps, deed=deeds)
    def begin(self, worker: int, which: int, second_key: bool, keep: int | None, deed: int) -> None:
        self._begin(worker, _nth_newest(self.truth.sendable(), which), second_key, keep, deed)

    @precondition(lambda self: self.truth.taken)
    @rule(worker=workers, which=recent, second_key=st.booleans(), deed=deeds)
    def begin_whatever_became_of_the_claim(
        self, worker: int, which: int, second_key: bool, deed: int
    ) -> None:
        self._begin(worker, _nth_newest(self.truth.taken, which), second_key, None, deed)

    @rule(worker=workers, calls=st.lists(calls, min_size=1, max_size=4))
    def ask(self, worker: int, calls: list[_Call]) -> None:
        """The whole line for some images; where nothing is told, the worker is slow or dead."""
        self._ask(worker, calls)

    @precondition(lambda self: self.truth.sendable())
    @rule(worker=workers, which=recent)
    def take_over_the_answer_to_the_same_invoice(self, worker: int, which: int) -> None:
        """The first images are pictures of one invoice."""
        taken, ledger = _nth_newest(self.truth.sendable(), which), self.workers[worker]
        claim = taken.claim
        if claim.answer_id or self.identities.index(claim.identity) not in SAME_INVOICE:
            return
        self.concerned.add(claim.identity)
        found = ledger.same_invoice(claim, self._seen(claim.identity))
        note(f"# {found}")
        others = [self.identities[number] for number in SAME_INVOICE]
        others.remove(claim.identity)
        if isinstance(found, Busy):
            behind = self.clock.now < self.truth.latest
            assert behind or any(self.truth.live(one) or self.truth.holder(one) for one in others)
        elif found and ledger.adopt(claim, found[0]):
            self.truth.adopt(taken, found[0].identity)

    @precondition(lambda self: self.truth.untold())
    @rule(worker=workers, which=recent)
    def settle(self, worker: int, which: int) -> None:
        """What came of a call is written down, at once or late."""
        self._settle(worker, _nth_newest(self.truth.untold(), which))

    @precondition(lambda self: self.truth.sends)
    @rule(worker=workers, which=recent)
    def settle_again(self, worker: int, which: int) -> None:
        """The first commit was not acknowledged."""
        self._settle(worker, _nth_newest(self.truth.sends, which))

    @rule(worker=workers, image=images, gave_up=st.booleans())
    def a_person_decides(self, worker: int, image: int, gave_up: bool) -> None:
        """On an image in doubt: given up, or to be asked for again."""
        identity = self.identities[image]
        if not (row := self.ledger.recognitions([identity]).get(identity)):
            return
        busy = self.truth.live(identity) or self.truth.holder(identity)
        said = self.workers[worker].resolve(
            row.id, "give-up" if gave_up else "ask-again", by="kim", reason=""
        )
        note(f"# {said}")
        if said == "resolved":
            assert not busy, "a person decided on what was under way"
            self.truth.decide(identity, gave_up=gave_up)
        elif said == "not_in_doubt":
            unsettled = self.truth.settled(identity) is None
            assert not (unsettled and self.truth.doubtful(identity)), "a doubt was not found"
        self.concerned.add(identity)

    @rule(worker=workers, run=runs)
    def clear(self, worker: int, run: int) -> None:
        """The task instance starts anew under the same key."""
        self.since[run] = self.workers[worker].open_run(self.runs[run])

    @rule(worker=workers, run=runs, image=images, word=outcomes)
    def write_outcome(self, worker: int, run: int, image: int, word: str) -> None:
        uri, key = f"s3://b/{image}", self.runs[run]
        outcome = Outcome(uri, self.identities[image], word, word.upper(), None)
        self.workers[worker].write_outcomes(key, self._account_for(self.identities[image], False), [outcome])
        known = self.outcomes.get((key, uri)) in {"recognised", "reused", "failed"}
        if not (known and word == "waiting"):
            self.outcomes[key, uri] = word
        self.concerned.add(key)

    # --- what the clock does

    @rule(seconds=st.sampled_from([1.0, 30.0, CLAIM_SECONDS, 3600.0]))
    def time_passes(self, seconds: float) -> None:
        self._pass(seconds)

    @precondition(lambda self: self.truth.untold())
    @rule(worker=workers, which=recent, run=runs, way=ways, answered=st.booleans(), deed=deeds)
    def the_lease_of_a_send_ends(
        self, worker: int, which: int, run: int, way: Way, answered: bool, deed: int
    ) -> None:
        """Somebody notices and sends after the grace; the answer may come before that, after their claim."""
        send = _nth_newest(self.truth.untold(), which)
        image = self.identities.index(send.identity)
        self._pass(max(0.0, send.ends - self.clock.now))
        self._claim(worker, image, run, way)
        self._pass(DOUBT_GRACE_SECONDS)
        taken = self._claim(worker, image, run, way)
        if answered:
            self._settle(worker, send)
        if taken:
            self._begin(worker, taken, False, None, deed)

    @rule(worker=workers, seconds=st.sampled_from([-5.0, 1.0, 1000.0]), calls=st.lists(calls, max_size=4))
    def the_reset_is_near(self, worker: int, seconds: float, calls: list[_Call]) -> None:
        reset = limits(self.accounts[0]).next_reset(self.clock.now)
        self._pass(max(0.0, reset + seconds - self.clock.now))
        self._ask(worker, calls)

    @rule(seconds=st.sampled_from([2.0, 15.0]))
    def the_clock_slips_back(self, seconds: float) -> None:
        self.clock.pass_(-seconds)

    @invariant()
    def all_laws_hold(self) -> None:
        """The laws, held against what the step was about; in the end against everything."""
        for name in LAWS:
            try:
                getattr(self, name)()
            except AssertionError as broken:
                raise AssertionError(f"{name}: {getattr(type(self), name).__doc__}\n{broken}") from broken
        self.concerned.clear()

    # --- the laws of single answers

    @law
    def a_claim_is_given_to_one_at_a_time(self) -> None:
        """Nobody gets a claim while another's lease, or a send, is running."""
        if self.said and isinstance(self.said.answer, Claim):
            assert not self.said.before.holder
            assert not self.said.before.live

    @law
    def nobody_is_kept_out_for_nothing(self) -> None:
        """Busy, held and settled are said of images that truly are, and no wait is longer than a lease."""
        if self.said is None:
            return
        said, before = self.said, self.said.before
        match said.answer:
            case Busy(seconds):
                assert seconds <= LONGEST_WAIT + said.behind
                assert before.holder or before.untold or said.behind
            case Held():
                assert before.settled is None
                assert before.doubtful
                assert not before.wanted_again(said.way)
                assert said.way.in_doubt == "hold" or len(before.doubtful) > 1
            case SettledAlready(row):
                assert row.settled == before.settled
                assert before.settled
                assert not before.wanted_again(said.way)

    @law
    def no_two_sends_of_an_image_are_live(self) -> None:
        """A second one begins only when the lease of the first has ended, in doubt."""
        for send in self.truth.sends[-1:]:
            assert not send.before.live

    @law
    def only_the_last_claim_sends_and_only_once(self) -> None:
        """A claim that was lost, given back or used sends nothing."""
        for send in self.truth.sends[-1:]:
            assert send.taken is send.before.newest
            assert sum(other.attempt.id == send.attempt.id for other in self.truth.sends) == 1

    @law
    def what_is_settled_is_sent_again_only_when_told_to_and_once_a_task_instance(self) -> None:
        """A retry, a clear, another task or another key of the account pays for nothing twice."""
        for send in self.truth.sends[-1:]:
            assert send.before.settled is None or send.before.wanted_again(send.taken.way)

    @law
    def what_is_in_doubt_is_never_sent_under_hold_and_once_more_under_resend(self) -> None:
        """Unless an author asks again on purpose."""
        for send in self.truth.sends[-1:]:
            before, way = send.before, send.taken.way
            if before.settled is None and before.doubtful and not before.wanted_again(way):
                assert way.in_doubt == "resend"
                assert len(before.doubtful) == 1

    @law
    def an_image_is_billed_once_and_once_more_for_each_doubt_and_each_wish(self) -> None:
        """The bill: what the laws above come to in money."""
        for identity in self._concerning(self.identities):
            billed = [send for send in self.truth.of(identity) if send.deed.billed]
            excused = [
                send
                for send in billed
                if send.before.doubtful or send.before.decided or send.taken.way.resend != "none"
            ]
            assert len(billed) <= 1 + len(excused)

    @law
    def a_claim_that_is_held_is_not_refused_as_lost(self) -> None:
        """None from `begin` means that somebody else has it, or that it is settled by now."""
        if taken := self.lost:
            settled = self.truth.settled(taken.claim.identity)
            newest = self.truth.newest(taken.claim.identity)
            assert taken is not newest or taken.given_up or self.truth.used(taken) or settled

    # --- the laws of the books

    @law
    def a_reply_is_kept_to_the_byte(self) -> None:
        """In time or late, whoever holds the lease, settled or not."""
        told = [send for send in self.truth.sends if send.told and send.identity in self.concerned]
        kept = self._replies() if told else {}
        for send in told:
            if send.reply:
                assert kept[send.attempt.id] == send.reply.body

    @law
    def an_answer_stays(self) -> None:
        """No failure takes the place of an answer, and what the ledger gives is what came in."""
        if not (identities := self._concerning(self.identities)):
            return
        rows = self.ledger.recognitions(identities)
        given = {answer.identity: answer for answer in self.ledger.answers(identities)}
        for identity in identities:
            settled = self.truth.settled(identity)
            row, answer = rows.get(identity), given.get(identity)
            assert (row and row.settled) == settled
            bodies = self.truth.bodies(identity, settled) if settled else []
            taken_over = [one for one in self.truth.adopted if one.taken.claim.identity == identity]
            bodies += [body for one in taken_over for body in one.bodies]
            assert answer.body in bodies if answer else not bodies

    @law
    def an_answer_is_taken_over_only_where_there_is_none(self) -> None:
        """And only from another picture that has an answer of its own."""
        for one in self.truth.adopted[-1:]:
            assert one.had != "answered"
            assert one.bodies

    @law
    def what_may_have_been_charged_is_named_and_what_never_reached_is_free(self) -> None:
        """In doubt as many times as calls are: dead workers' when their lease is over, and those told so."""
        if self.clock.now < self.truth.latest or not self.concerned:
            return
        rows = self.ledger.recognitions(self._concerning(self.identities))
        for identity, row in rows.items():
            if row.settled is not None:
                continue
            doubtful = self.truth.doubtful(identity)
            assert row.doubts == len(doubtful)
            if not self.truth.live(identity) and not self.truth.holder(identity):
                assert row.state is (State.IN_DOUBT if doubtful else State.IDLE)

    @law
    def no_more_than_the_daily_limit_is_charged_in_a_window(self) -> None:
        """Calls that may have cost something, by when they began."""
        for send in self.truth.sends[-1:]:
            if send.account.daily_limit is not None:
                assert len(self._used(send.account, send.window)) <= send.account.daily_limit

    @law
    def the_count_of_used_calls_is_true(self) -> None:
        """It never says less than was sent; more only by calls that ended free in another window, or while
        the clock was behind."""
        for account in self._concerned_accounts():
            window = self._window(account)
            used = len(self._used(account, window))
            others = [send for send in self.truth.sends if send.account is account and send.free]
            slack = sum(limits(account).next_reset(send.began) != send.window for send in others)
            assert used <= self.ledger.quota(account).used <= used + slack

    @law
    def what_is_left_is_never_overstated(self) -> None:
        """Bound: calls in doubt, calls that ended free, and calls whose replies do not say what is left."""
        for account in self._concerned_accounts():
            said = self.ledger.quota(account).remaining
            if said is None or account.daily_limit is not None:
                continue
            window = self._window(account)
            here = [send for send in self.truth.sends if send.account is account and send.window == window]
            billed = sum(send.deed.billed for send in here)
            over = [send for send in here if not send.live(self.truth.latest)]
            slack = [
                send for send in over if send.told is None or send.nobody_knows or send.deed.left is None
            ]
            assert said <= PLAN - billed + len(slack)

    @law
    def nobody_asks_for_a_quota_that_has_ended(self) -> None:
        """Before the reset, or before a later task that may follow a top-up."""
        for send in self.truth.sends[-1:]:
            if (end := send.quota_end) is None:
                continue
            reset = limits(send.account).next_reset(end.told_at)
            if end.until_topped_up:
                assert send.began >= reset or send.asked_since > end.told_at
            else:
                fresh = limits(send.account).next_reset(end.told_at - DAY_MAY_LAG_SECONDS) < reset
                soon = end.told_at + DAY_MAY_LAG_RETRY_SECONDS
                assert send.began >= (soon if fresh or end.of_yesterday else reset)

    @law
    def after_a_reset_one_probe_at_a_time(self) -> None:
        """Until an answer shows that the quota is back."""
        for send in self.truth.sends[-1:]:
            assert not (send.quota_end and send.quota_end.probing)

    @law
    def a_run_costs_what_it_sent(self) -> None:
        for run in self._concerning(self.runs):
            sent = [send for send in self.truth.sends if send.run == run and not send.never_reached]
            charged = [send.told.charged if send.told else None for send in sent]
            assert self.ledger.cost(run) == Cost(len(sent), charged.count(True), charged.count(None))

    @law
    def what_became_of_an_input_is_not_forgotten(self) -> None:
        """An outcome that is known never goes back to waiting; otherwise the last word counts."""
        for run in self._concerning(self.runs):
            expected = {uri: word for (key, uri), word in self.outcomes.items() if key == run}
            assert {each.uri: each.outcome for each in self.ledger.outcomes(run)} == expected

    def teardown(self) -> None:
        """In the end the ledger's word on every image is what truly happened, and nobody waits for ever."""
        if not hasattr(self, "identities"):
            return
        self.concerned |= {*self.identities, *self.runs, *(account.access_key for account in self.accounts)}
        self.all_laws_hold()
        self.clock.now = self.truth.latest = self.truth.latest + LONGEST_WAIT
        for identity in self.identities:
            doubtful, settled = self.truth.doubtful(identity), self.truth.settled(identity)
            expected = SettledAlready if settled else Held if doubtful else Claim
            key = replace(self.runs[0], run_id="afterwards")
            if isinstance(answer := self.ledger.claim(identity, key, in_doubt="hold"), Busy):
                self.clock.pass_(answer.seconds)
                answer = self.ledger.claim(identity, key, in_doubt="hold")
            assert isinstance(answer, expected), f"in the end: {answer} where {expected.__name__} was due"

    # --- on the way

    def _concerning(self, things: Iterable[_T]) -> list[_T]:
        return [thing for thing in things if thing in self.concerned]

    def _concerned_accounts(self) -> list[Account]:
        return [account for account in self.accounts if account.access_key in self.concerned]

    def _pass(self, seconds: float) -> None:
        self.clock.pass_(seconds)
        self.truth.latest = max(self.truth.latest, self.clock.now)
        self.concerned |= {*self.identities}

    def _claim(self, worker: int, image: int, run: int, way: Way, token: str | None = None) -> Taken | None:
        identity, key = self.identities[image], self.runs[run]
        self.concerned.add(identity)
        before = self.truth.before(identity, key)
        answer = self.workers[worker].claim(
            identity, key, resend=way.resend, in_doubt=way.in_doubt, token=token
        )
        note(f"# {type(answer).__name__}")
        self.said = _Said(identity, way, before, self.truth.latest - self.clock.now, answer)
        if not isinstance(answer, Claim):
            return None
        taken = Taken(answer, key, way, self.clock.now + CLAIM_SECONDS)
        self.truth.taken.append(taken)
        return taken

    def _begun_again(self, send: Send, answer: Attempt) -> Send:
        """The commit of the attempt was not acknowledged, and the call leaves only now."""
        assert answer == send.attempt, "one claim, two attempts"
        assert send.told is None, "what was told is not begun again"
        assert self.clock.now < send.ends, "a lease that is over does not begin anew"
        send.ends = self.clock.now + send_seconds(send.account)
        self.concerned.add(send.identity)
        return send

    def _ask(self, worker: int, calls: list[_Call]) -> None:
        for call in calls:
            if taken := self._claim(worker, call.image, call.run, call.way):
                send = self._begin(worker, taken, call.second_key, None, call.deed)
                if send is None:
                    self._release(worker, taken)
                elif call.told:
                    self._settle(worker, send)
            self.all_laws_hold()

    def _release(self, worker: int, taken: Taken) -> None:
        self.concerned.add(taken.claim.identity)
        self.workers[worker].release(taken.claim)
        taken.given_up = taken.given_up or not self.truth.used(taken)

    def _begin(self, worker: int, taken: Taken, second_key: bool, keep: int | None, deed: int) -> Send | None:
        identity, since = taken.claim.identity, self.since[self.runs.index(taken.run)]
        account = self._account_for(identity, second_key)
        before, end = self.truth.before(identity, taken.run), self.truth.quota_end(account)
        known = self.ledger.quota(account).remaining
        answer = self.workers[worker].begin(
            taken.claim,
            account,
            taken.run,
            sent_sha256=identity.sha256,
            asked_since=since,
            keep_remaining=keep,
            slot=self.slots.pop(account.access_key, None),
            seen=self._seen(identity),
        )
        note(f"# {type(answer).__name__} {getattr(answer, 'reason', '')}")
        if not isinstance(answer, Attempt):
            self.lost = taken if answer is None else None
            return None
        if send := next((send for send in self.truth.sends if send.taken is taken), None):
            return self._begun_again(send, answer)
        assert keep is None or known is None or known > keep, "keep_remaining was not kept"
        self._touch(account, identity, taken.run)
        now = self.clock.now
        send = Send(
            attempt=answer,
            taken=taken,
            account=account,
            asked_since=since,
            began=now,
            ends=now + send_seconds(account),
            window=self._window(account),
            deed=self._deed(deed, account),
            before=before,
            quota_end=end,
        )
        self.truth.sends.append(send)
        return send

    def _seen(self, identity: Identity) -> Seen:
        number = self.identities.index(identity)
        same = number in SAME_INVOICE
        return Seen("[]", self.runs[0].dag_id if same else f"{self.runs[0].dag_id}{number}")

    def _account_for(self, identity: Identity, second_key: bool) -> Account:
        if identity.endpoint == "intsig_invoice":
            return self.accounts[2]
        return self.accounts[1 if second_key else 0]

    def _settle(self, worker: int, send: Send) -> None:
        reading = send.reading()
        self.workers[worker].settle(send.attempt, send.account, reading, send.reply)
        if send.told is None:
            send.told, send.told_at = reading, self.clock.now
            self._touch(send.account, send.identity, send.run)

    def _touch(self, account: Account, identity: Identity, run: RunKey) -> None:
        self.concerned |= {account.access_key, identity, run}
        self.touched[account.access_key] = max(self.touched[account.access_key], self.clock.now)

    def _window(self, account: Account) -> float:
        """The end of the window that the account's count is in: it began with the reset, and does not end
        because the clock slips back."""
        return limits(account).next_reset(max(self.touched[account.access_key], self.clock.now))

    def _used(self, account: Account, window: float) -> list[Send]:
        return [
            send
            for send in self.truth.sends
            if send.account is account and send.window == window and not send.free
        ]

    def _replies(self) -> dict[str, bytes | None]:
        with self.engine.connect() as db:
            columns, mine = schema.attempt.c, [run.digest for run in self.runs]
            query = sa.select(columns.id, columns.reply).where(columns.run_digest.in_(mine))
            found = db.execute(query).all()
        return {row.id: zlib.decompress(row.reply) if row.reply else None for row in found}

    def _deed(self, number: int, account: Account) -> Deed:
        """What the service does, in a reply like no other."""
        tag: dict[str, Any] = {"requestId": f"{next(self.serial)}"}
        window = limits(account).next_reset(self.truth.latest)
        billed = sum(
            send.deed.billed and send.account is account and send.window == window
            for send in self.truth.sends
        )
        good = ledgers.reply(result=_RESULTS[account.endpoint.name], **tag)
        lost = WireFailure("read_timeout", reached=True, detail="no reply", elapsed_seconds=10.0)
        remain = PLAN - billed - 1
        return {
            "good": lambda: Deed(good, billed=True),
            "good and left": lambda: Deed(left(good, remain), billed=True, left=remain),
            "failed": lambda: Deed(ledgers.reply("10003", **tag), billed=True),
            "busy": lambda: Deed(ledgers.reply("10020", charge=False, **tag), billed=False),
            "too fast": lambda: Deed(ledgers.reply("10043", charge=False, **tag), billed=False),
            "silent": lambda: Deed(ledgers.reply("10020", charge=None, **tag), billed=False),
            "silent and billed": lambda: Deed(ledgers.reply("10020", charge=None, **tag), billed=True),
            "lost": lambda: Deed(lost, billed=False),
            "lost and billed": lambda: Deed(lost, billed=True),
            "refused": lambda: Deed(_REFUSED, billed=False),
            "day is over": lambda: Deed(ledgers.reply("10040", charge=False, **tag), billed=False),
            "no money": lambda: Deed(ledgers.reply("10010", charge=False, **tag), billed=False),
            "wrong key": lambda: Deed(ledgers.reply("10001", charge=False, **tag), billed=False),
        }[self.deeds[number % len(self.deeds)]]()


@dataclass(frozen=True, slots=True)
class _Said:
    """What a worker was told that asked for an image. `behind`: how far the clock had slipped back."""

    identity: Identity
    way: Way
    before: Before
    behind: float
    answer: Claim | SettledAlready | Held | Busy


_REFUSED = WireFailure("connection_refused", reached=False, detail="refused", elapsed_seconds=0.0)
_RESULTS = {
    "ocr_invoice": {"code": "0", "message": "success", "result": {"invoice_no": "12345678"}},
    "intsig_invoice": {"code": 200, "message": "success", "result": {"item_list": []}},
}


def _nth_newest(of: list[_T], which: int) -> _T:
    return of[-1 - which % len(of)]


def laws(engine: sa.Engine, ledger_class: type[Ledger] = Ledger, *moods: str) -> type[LedgerLaws]:
    given = {"engine": engine, "ledger_class": ledger_class, "moods": moods or tuple(MOODS)}
    return type("LedgerLaws", (LedgerLaws,), given)


QUICK = settings(
    max_examples=80,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    print_blob=True,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
TO_FIND_A_FAULT = settings(QUICK, max_examples=1000, phases=[Phase.generate])
MINUTES = float(os.environ.get("MINUTES", "0"))


@contextmanager
def engine_in_a_hurry(url: str) -> Iterator[sa.Engine]:
    """What a file keeps over a power cut is not what is tried here."""
    made = engine_for(url)
    if made.dialect.name == "sqlite":
        sa.event.listen(made, "connect", lambda db, _: db.execute("PRAGMA synchronous=OFF"))
    Ledger(made).create()
    yield made
    made.dispose()


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    with engine_in_a_hurry(database_url) as made:
        yield made


def test_no_order_of_events_breaks_a_law(engine: sa.Engine) -> None:
    here = QUICK if engine.dialect.name == "sqlite" else settings(QUICK, max_examples=20)
    run_state_machine_as_test(laws(engine), settings=here)


@pytest.mark.skipif(not MINUTES, reason="runs for MINUTES: make model")
def test_no_order_of_events_breaks_a_law_in_the_long_run(engine: sa.Engine) -> None:
    ends, long = time.monotonic() + 60 * MINUTES, settings(QUICK, max_examples=200, derandomize=False)
    while time.monotonic() < ends:
        number = random.SystemRandom().getrandbits(32)
        try:
            run_state_machine_as_test(seed(number)(laws(engine)), settings=long)
        except BaseException as broken:
            broken.add_note(f"The seed was {number}.")
            raise


# --- ledgers with one fault each, and the law that shows it


class IgnoresDoubt(Ledger):
    def claim(self, identity: Identity, run: RunKey, **how: Any) -> Any:
        answer = super().claim(identity, run, **how)
        return super().claim(identity, run, resend="all") if isinstance(answer, Held) else answer


class ForgetsDoubtWhenGivenBack(Ledger):
    def release(self, claim: Claim, seen: Seen | None = None) -> None:
        super().release(claim, seen)
        with self.engine.begin() as db:
            here = schema.recognition.c.id == claim.recognition_id
            idle = {"state": State.IDLE, "doubts": 0}
            db.execute(schema.recognition.update().where(here, _state_is(State.IN_DOUBT)).values(**idle))


class LetsExpiredSendsGo(Ledger):
    """A send whose lease is over is free again, as a claim is."""

    def claim(self, identity: Identity, run: RunKey, **how: Any) -> Any:
        row = self.recognitions([identity]).get(identity)
        if row and row.state is State.IN_DOUBT and row.lease_token:
            with self.engine.begin() as db:
                here = (schema.recognition.c.id == row.id) & _state_is(State.SENDING)
                db.execute(schema.recognition.update().where(here).values(state=State.IDLE))
        return super().claim(identity, run, **how)


class DropsLateReplies(Ledger):
    def settle(self, attempt: Attempt, account: Account, reading: Reading, reply: Reply | None) -> None:
        row = self.recognitions([attempt.claim.identity])[attempt.claim.identity]
        if row.state is State.SENDING and row.lease_token == attempt.claim.token:
            super().settle(attempt, account, reading, reply)


class KeepsRepliesAsText(Ledger):
    def settle(self, attempt: Attempt, account: Account, reading: Reading, reply: Reply | None) -> None:
        text = reply and replace(reply, body=json.dumps(json.loads(reply.body), indent=1).encode())
        super().settle(attempt, account, reading, text)


class BeginsWithoutALease(Ledger):
    def begin(self, claim: Claim, account: Account, run: RunKey, **how: Any) -> Any:
        mine = replace(claim, token=uuid.uuid4().hex)
        with self.engine.begin() as db:
            here = schema.recognition.c.id == claim.recognition_id
            held = {"lease_token": mine.token, "state": State.CLAIMED}
            db.execute(schema.recognition.update().where(here).values(**held))
        return super().begin(mine, account, run, **how)


class BeginsOnWhatIsSettledByNow(Ledger):
    def begin(self, claim: Claim, account: Account, run: RunKey, **how: Any) -> Any:
        row = self.recognitions([claim.identity])[claim.identity]
        return super().begin(replace(claim, answer_id=row.answer_id), account, run, **how)


class ResendsForEver(Ledger):
    """A wish holds for every try of a task instance."""

    def claim(self, identity: Identity, run: RunKey, **how: Any) -> Any:
        return super().claim(identity, replace(run, run_id=f"{run.run_id} {next(_examples)}"), **how)


class LetsFailuresReplaceAnswers(Ledger):
    def settle(self, attempt: Attempt, account: Account, reading: Reading, reply: Reply | None) -> None:
        super().settle(attempt, account, reading, reply)
        if reading.verdict is Verdict.SETTLE_FAILED:
            with self.engine.begin() as db:
                here = schema.recognition.c.id == attempt.claim.recognition_id
                failed = {"settled": "failed", "answer_id": attempt.id}
                db.execute(schema.recognition.update().where(here).values(**failed))


class CountsWhatNeverArrived(Ledger):
    def settle(self, attempt: Attempt, account: Account, reading: Reading, reply: Reply | None) -> None:
        unknown = replace(reading, verdict=Verdict.IN_DOUBT, charged=None)
        super().settle(attempt, account, reading if reply else unknown, reply)


class ForgetsTheCount(Ledger):
    """The count of the day starts anew with each refusal."""

    def begin(self, claim: Claim, account: Account, run: RunKey, **how: Any) -> Any:
        answer = super().begin(claim, account, run, **how)
        if isinstance(answer, Refused):
            with self.engine.begin() as db:
                db.execute(schema.account.update().values(used=0))
        return answer


class SendsManyProbes(Ledger):
    def begin(self, claim: Claim, account: Account, run: RunKey, **how: Any) -> Any:
        answer = super().begin(claim, account, run, **how)
        with self.engine.begin() as db:
            db.execute(schema.account.update().values(probe_until=0.0))
        return answer


class AsksAllTheSame(Ledger):
    """An ended quota is forgotten when a task is cleared."""

    def open_run(self, run: RunKey) -> float:
        with self.engine.begin() as db:
            db.execute(schema.account.update().values(quota_state="open", quota_until=None))
        return super().open_run(run)


class ForgetsOutcomes(Ledger):
    def write_outcomes(self, run: RunKey, account: Account, outcomes: Sequence[Outcome]) -> None:
        with self.engine.begin() as db:
            db.execute(schema.outcome.delete().where(schema.outcome.c.run_digest == run.digest))
        super().write_outcomes(run, account, outcomes)


@pytest.mark.parametrize(
    ("faulty", "mood"),
    [
        (IgnoresDoubt, "doubtful"),
        (ForgetsDoubtWhenGivenBack, "doubtful"),
        (LetsExpiredSendsGo, "doubtful"),
        (DropsLateReplies, "like any day"),
        (KeepsRepliesAsText, "like any day"),
        (BeginsWithoutALease, "doubtful"),
        (BeginsOnWhatIsSettledByNow, "asked again"),
        (ResendsForEver, "asked again"),
        (LetsFailuresReplaceAnswers, "asked again"),
        (CountsWhatNeverArrived, "doubtful"),
        (ForgetsTheCount, "at its end"),
        (SendsManyProbes, "used up"),
        (AsksAllTheSame, "used up"),
        (ForgetsOutcomes, "asked again"),
    ],
)
def test_a_ledger_with_a_fault_is_found_out(faulty: type[Ledger], mood: str, sqlite_url: str) -> None:
    """Where its fault matters: a mood of the service's that is likely to bring it out."""
    with (
        engine_in_a_hurry(sqlite_url) as engine,
        pytest.raises(AssertionError, match=rf"^({'|'.join(LAWS)}|in the end): "),
    ):
        run_state_machine_as_test(laws(engine, faulty, mood), settings=TO_FIND_A_FAULT)


def _state_is(state: State) -> sa.ColumnElement[bool]:
    return schema.recognition.c.state == state
