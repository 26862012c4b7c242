"""The ledger: what was asked, what was answered, what was paid, and what may be sent next.

One row per recognition (service, endpoint, SHA-256 of the file, page) with a state machine, one row per
attempt with the raw reply, one row per input and task instance with its outcome, one row per account with
rate and quota::

    idle ──claim──▶ claimed ──begin──▶ sending ──settle──▶ idle, settled as answered | failed
      ▲               │ lease over       │ lease over, read timeout, broken connection
      └───────────────┘                  └──────▶ in_doubt ──claim (resend)──▶ claimed
                                                    └──resolve (a person)──▶ idle, free again | failed

Invariants, each with a test:

- `begin` commits the attempt before the first byte leaves, and only while the claim is still held;
- `settle` commits the reply, raw text and all, with what it settles in one transaction; a late reply is
  stored whoever holds the lease by then;
- a settled recognition is claimed again only by an explicit `resend`, once per task instance;
- the recognition row is locked before the account row, so that two transactions never wait for each other,
  and the account row, which all share, as late as possible;
- a transaction that the database took back, or whose connection broke, is repeated, and knows its own rows
  again where it had been committed after all;
- leases and slots are measured by the database's clock, never by the worker's.

The tables are `schema`'s, and what differs between the databases is `engines`'s.
"""

from __future__ import annotations

import functools
import hashlib
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

import sqlalchemy as sa

from airflow_provider_jdocr.core import engines, quotas, rate, schema
from airflow_provider_jdocr.core.account import Account
from airflow_provider_jdocr.core.client import Reply
from airflow_provider_jdocr.core.errors import Verdict
from airflow_provider_jdocr.core.replies import Reading
from airflow_provider_jdocr.core.sources import Source
from airflow_provider_jdocr.core.statements import statements

LOOKUP_SIZE = 500
"""Keys per look-up statement: within every database's limit on bound parameters."""

CLAIM_SECONDS = 60.0
DOUBT_GRACE_SECONDS = 10.0
"""How long an expired send is left alone once it was noticed. Where the database was away, its own process
may have the reply in hand and be about to write it down.
"""
LATE_REPLY_SECONDS = 180.0
"""How long after the lease of a send a process may still be trying to write its reply down; longer than any
batch tries.
"""
SEND_MARGIN_SECONDS = 10.0
"""How much longer than its timeouts a send may take before the ledger calls it in doubt."""

_P = ParamSpec("_P")
_T = TypeVar("_T")
Resend = Literal["none", "failed", "all"]
InDoubt = Literal["resend", "hold"]
Decision = Literal["ask-again", "give-up"]
GIVEN_UP = "GIVEN_UP"
"""The code of an image that was in doubt until a person gave it up: failed, without an answer."""


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """What is recognised once: a page of a file at an endpoint of a service."""

    service: str
    endpoint: str
    sha256: str
    page: int = 1


@dataclass(frozen=True, slots=True, order=True)
class RunKey:
    """A task instance without its try number: a retry goes on with the same key."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1

    @property
    def digest(self) -> str:
        return _digest_of_run(self)


@functools.lru_cache(maxsize=16)
def _digest_of_run(run: RunKey) -> str:
    """Asked for with every picture."""
    return _digest(run.dag_id, run.run_id, run.task_id, str(run.map_index))


class State(StrEnum):
    IDLE = "idle"
    CLAIMED = "claimed"
    SENDING = "sending"
    IN_DOUBT = "in_doubt"


class Settled(StrEnum):
    ANSWERED = "answered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Seen:
    """The QR codes on a picture: their texts as `qr.to_text` gives them, and the invoice that they name."""

    codes: str
    invoice_key: str | None = None


@dataclass(frozen=True, slots=True)
class Recognition:
    """A row of the recognition table, with what its settling attempt said."""

    id: int
    identity: Identity
    state: State
    settled: Settled | None
    answer_id: str | None
    lease_token: str | None
    lease_until: float
    doubts: int
    code: str | None = None
    message: str | None = None
    run_digest: str | None = None
    codes: str | None = None
    """The QR codes on the picture, as `qr.from_text` takes them; None: nobody looked for them."""
    is_of_another: bool = False
    """Settled by the answer to another picture of the same invoice."""

    def at(self, now: float) -> Recognition:
        """The row as it counts at `now`: an expired claim is what it was before, an expired send in doubt."""
        if self.state is State.CLAIMED and self.lease_until <= now:
            return replace(self, state=State.IN_DOUBT if self.doubts else State.IDLE)
        if self.state is State.SENDING and self.lease_until <= now:
            return replace(self, state=State.IN_DOUBT, doubts=self.doubts + 1)
        return self


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to ask for a recognition until the lease ends. `codes`: as an earlier claim left them."""

    recognition_id: int
    identity: Identity
    token: str
    answer_id: str | None
    codes: str | None = None


@dataclass(frozen=True, slots=True)
class SettledAlready:
    recognition: Recognition


@dataclass(frozen=True, slots=True)
class Held:
    """In doubt, and not to be sent again without being told."""

    recognition: Recognition


@dataclass(frozen=True, slots=True)
class Busy:
    """Somebody else is asking. `seconds` until their lease ends at the latest."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """A send that the ledger knows of. Its reply is brought to `settle`."""

    id: str
    claim: Claim


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """A settling reply as it came in. `answered_at` is aware, in UTC; `body` the reply's bytes."""

    identity: Identity
    answer_id: str
    answered_at: datetime
    state: Literal["recognised", "failed"]
    code: str
    message: str
    http_status: int
    body: bytes
    codes: str | None = None
    """The QR codes on the picture, as `qr.from_text` takes them; None: nobody looked for them."""
    read_from: str | None = None
    """The SHA-256 of the picture of the same invoice that was sent in place of this one."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one input of one task instance."""

    uri: str
    identity: Identity | None
    outcome: str
    code: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """The sends of a task instance: all, those surely charged, those of which nobody said."""

    calls: int = 0
    charged: int = 0
    charged_unknown: int = 0


def decide(
    row: Recognition, *, now: float, asked_in_this_run: bool, resend: Resend, in_doubt: InDoubt
) -> Literal["claim", "settled", "held"] | Busy:
    """What a task may do with a recognition. Pure; `row` as of `now`."""
    if row.state is not State.IDLE and row.lease_until > now:
        return Busy(row.lease_until - now)
    wanted_again = not asked_in_this_run and (
        resend == "all" or (resend == "failed" and row.settled is not Settled.ANSWERED)
    )
    if row.settled is not None and not wanted_again:
        return "settled"
    if row.state is State.IN_DOUBT and not wanted_again and (in_doubt == "hold" or row.doubts > 1):
        return "held"
    return "claim"


def _repeated(
    method: Callable[Concatenate[Ledger, _P], _T],
) -> Callable[Concatenate[Ledger, _P], _T]:
    """A method that is a transaction: done again where the database took it back. See `engines.repeated`."""

    @functools.wraps(method)
    def repeated(self: Ledger, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return engines.repeated(self.engine, functools.partial(method, self, *args, **kwargs))

    return repeated


class Ledger:
    """The books of one database. `clock` is for tests; without it the database's own clock rules."""

    def __init__(self, engine: sa.Engine, *, clock: Callable[[], float] | None = None) -> None:
        engines.refuse_unknown(engine)
        self._engine = engine
        self._clock = clock
        self._accounts: list[dict[str, str]] = []
        self._alone = engines.autocommitting(engine)
        self._statements = statements(self._clock_expression())

    @property
    def engine(self) -> sa.Engine:
        """For those who read the books; what may be sent is decided here alone."""
        return self._engine

    @_repeated
    def create(self) -> None:
        """Creates or upgrades the tables. Raises `LedgerSchemaError` when a newer version made them."""
        schema.create(self._engine)

    @_repeated
    def now(self) -> float:
        """Seconds since the epoch, by the clock that leases and slots are measured with."""
        with engines.reading(self._engine) as db:
            return self._now(db)

    # --- sources

    @_repeated
    def known_sources(self, sources: Sequence[Source]) -> dict[str, str]:
        """URI → SHA-256 of the files that were read before and whose listing has not changed since."""
        stamps = {
            _digest(source.uri): (source.uri, _stamp(source)) for source in sources if _has_stamp(source)
        }
        known: dict[str, str] = {}
        with engines.reading(self._engine) as db:
            for part in _parts(list(stamps)):
                columns = schema.source.c
                found = sa.select(columns.uri_digest, columns.stamp, columns.sha256)
                among = engines.among(columns.uri_digest, part, db.dialect)
                for key, stamp, sha256 in db.execute(found.where(among)):
                    uri, expected = stamps[key]
                    if stamp == expected:
                        known[uri] = sha256
        return known

    @_repeated
    def remember_sources(self, hashes: Iterable[tuple[Source, str]]) -> None:
        """Writes down the SHA-256 of files that were read, where their listing tells when they change."""
        rows = {
            _digest(source.uri): {"uri": source.uri, "stamp": _stamp(source), "sha256": sha256}
            for source, sha256 in hashes
            if _has_stamp(source)
        }
        if not rows:
            return
        with self._engine.begin() as db:
            now = self._now(db)
            whole = [{"uri_digest": digest, **row, "seen_at": now} for digest, row in rows.items()]
            for part in _parts(whole):
                engines.upsert(db, schema.source, part)

    # --- claims and sends

    @_repeated
    def recognitions(self, identities: Iterable[Identity]) -> dict[Identity, Recognition]:
        """The rows of those identities that the ledger knows, as they count now."""
        wanted = set(identities)
        found: dict[Identity, Recognition] = {}
        with engines.reading(self._engine) as db:
            now = self._now(db)
            for part in _parts(sorted({identity.sha256 for identity in wanted})):
                among = engines.among(schema.recognition.c.sha256, part, db.dialect)
                for row in db.execute(_recognition_query.where(among)):
                    recognition = _as_recognition(row).at(now)
                    if recognition.identity in wanted:
                        found[recognition.identity] = recognition
        return found

    @_repeated
    def open_run(self, run: RunKey) -> float:
        """Writes the task instance down and gives the time at which this try of it starts."""
        with self._engine.begin() as db:
            now = self._now(db)
            row = asdict(run) | {"digest": run.digest, "started_at": now}
            engines.insert_absent(db, schema.run, row)
            return now

    def claim(
        self,
        identity: Identity,
        run: RunKey,
        *,
        resend: Resend = "none",
        in_doubt: InDoubt = "resend",
        token: str | None = None,
    ) -> Claim | SettledAlready | Held | Busy:
        """Takes the right to ask for `identity`, or says why not. Who may ask twice for the same claim,
        after an error, gives a `token`: 32 characters that nobody else has.
        """
        token = token or uuid.uuid4().hex
        return self._claim_new(identity, token) or self._claim(identity, run, resend, in_doubt, token)

    @_repeated
    def _claim_new(self, identity: Identity, token: str) -> Claim | None:
        """Claims what nobody ever asked for: one statement. None: somebody has."""
        row = _key(identity) | {"lease_token": token, "lease_seconds": CLAIM_SECONDS}
        with self._alone.begin() as db:
            made = self._statements.claim_new.run(db, row)
        return None if made is None else Claim(made, identity, token, None)

    @_repeated
    def _claim(
        self, identity: Identity, run: RunKey, resend: Resend, in_doubt: InDoubt, token: str
    ) -> Claim | SettledAlready | Held | Busy:
        with self._engine.begin() as db:
            stored = self._locked_recognition(db, identity)
            now = self._now(db)
            row = stored.at(now)
            if row.doubts > stored.doubts:
                self._mark_doubt(db, row.id, now)
                return Busy(DOUBT_GRACE_SECONDS)
            if row.state is State.CLAIMED and row.lease_token == token:
                # Given by a commit that nobody acknowledged. It may have been answered since.
                row = self._free(db, row)
            asked = self._asked(db, row.id, run)
            decision = decide(row, now=now, asked_in_this_run=asked, resend=resend, in_doubt=in_doubt)
            if decision == "settled":
                return SettledAlready(row)
            if decision == "held":
                return Held(row)
            if isinstance(decision, Busy):
                return decision
            claim = Claim(row.id, identity, token, row.answer_id, row.codes)
            lease = {"lease_token": token, "lease_until": now + CLAIM_SECONDS}
            self._set(db, row.id, state=State.CLAIMED, doubts=row.doubts, **lease)
            return claim

    @_repeated
    def same_invoice(self, claim: Claim, seen: Seen) -> tuple[Recognition, ...] | Busy:
        """Answered pictures of the invoice that this claim's picture names; `Busy` while one is asked for.

        Of those who come at once one goes on: each looks, and says what it shows, while no other does.
        """
        columns = schema.recognition.c
        same = [columns[name] == getattr(claim.identity, name) for name in ("service", "endpoint")]
        named = (columns.invoice_key == seen.invoice_key) & (columns.id != claim.recognition_id)
        # What was answered and pruned since cannot be read for this picture, either.
        there = columns.settled.is_(None) | schema.attempt.c.reply.is_not(None)
        with self._engine.begin() as db:
            db.execute(sa.select(schema.meta.c.value).with_for_update())
            now = self._now(db)
            found = db.execute(_recognition_query.where(named, *same, there).order_by(columns.id))
            rows = [_as_recognition(row).at(now) for row in found]
            answered = tuple(row for row in rows if row.settled is Settled.ANSWERED and not row.is_of_another)
            live = [row.lease_until - now for row in rows if row.state in (State.CLAIMED, State.SENDING)]
            if live and not answered:
                return Busy(max(live))
            db.execute(schema.recognition.update().where(_is_held(claim)).values(**asdict(seen)))
            return answered

    @_repeated
    def adopt(self, claim: Claim, other: Recognition) -> bool:
        """Settles a claim by the answer to another picture of the same invoice; False: the claim was lost, or
        a late answer of its own came.
        """
        settled = {"settled": Settled.ANSWERED, "answer_id": other.answer_id}
        free = {"state": State.IDLE, "doubts": 0, "lease_token": None, "lease_until": 0.0}
        here = _is_held(claim) & schema.recognition.c.answer_id.is_(None)
        with self._engine.begin() as db:
            return db.execute(schema.recognition.update().where(here).values(**settled, **free)).rowcount == 1

    @_repeated
    def renew(self, claim: Claim) -> bool:
        """Lengthens the lease of a claim that waits for its slot; False when it was lost."""
        with self._engine.begin() as db:
            until = self._now(db) + CLAIM_SECONDS
            renewed = schema.recognition.update().where(_is_held(claim)).values(lease_until=until)
            return db.execute(renewed).rowcount == 1

    @_repeated
    def release(self, claim: Claim, seen: Seen | None = None) -> None:
        """Gives a claim back that was not sent, or whose send never reached the server. What was seen on the
        picture is kept.
        """
        with self._engine.begin() as db:
            back = sa.case((schema.recognition.c.doubts > 0, State.IN_DOUBT.value), else_=State.IDLE.value)
            free = {"state": back, "lease_token": None, "lease_until": 0.0, **(asdict(seen) if seen else {})}
            db.execute(schema.recognition.update().where(_is_held(claim)).values(**free))

    def take_slot(self, account: Account) -> rate.Slot | rate.Queued:
        """Reserves the account's next send, as `rate.take_slot` says: one UPDATE, committed at once."""
        self._ensure_account(account)
        return self._take_slot(account)

    @_repeated
    def _take_slot(self, account: Account) -> rate.Slot | rate.Queued:
        queue = {"longest": rate.longest_queue_seconds(account.qps), **_of(account)}
        with self._alone.begin() as db:
            interval = {"interval": rate.nominal_seconds(account.qps)}
            taken = self._statements.take_slot.run(db, queue | interval)
            if taken is None:
                return rate.queued(float(db.execute(self._statements.ahead, _of(account)).scalar_one()))
            # Where the answer is another statement, a slot that was free then has begun by now.
            return rate.Slot(min(taken.now, taken.starts_at), max(0.0, taken.starts_at - taken.now))

    def begin(
        self,
        claim: Claim,
        account: Account,
        run: RunKey,
        *,
        sent_sha256: str,
        asked_since: float,
        keep_remaining: int | None = None,
        slot: rate.Slot | None = None,
        seen: Seen | None = None,
    ) -> Attempt | quotas.Refused | rate.Queued | None:
        """Commits that a send is about to leave. `Queued`: everyone was slowed since `slot` was granted, take
        another. None: the claim was lost, send nothing. `seen` is kept with the picture.

        A claim is for one attempt. Asked again for the same, after an error, it gives the attempt that was
        committed although nobody said so.
        """
        self._ensure_account(account)
        return self._begin(
            claim,
            account,
            run,
            slot,
            seen,
            sent_sha256=sent_sha256,
            asked_since=asked_since,
            keep_remaining=keep_remaining,
        )

    @_repeated
    def _begin(
        self,
        claim: Claim,
        account: Account,
        run: RunKey,
        slot: rate.Slot | None,
        seen: Seen | None,
        *,
        sent_sha256: str,
        asked_since: float,
        keep_remaining: int | None,
    ) -> Attempt | quotas.Refused | rate.Queued | None:
        with self._engine.begin() as db:
            attempt = Attempt(claim.token, claim)
            lease_until = self._to_sending(db, claim, account, seen)
            if lease_until is None:
                return attempt if self._has_begun(db, attempt, account) else None
            state, pace, now = self._locked_account(db, account)
            if slot and slot.void(pace, now):
                db.rollback()
                return rate.Queued(0.0)
            answer = quotas.admit(
                state,
                _limits(account),
                now=now,
                asked_since=asked_since,
                keep_remaining=keep_remaining,
                probe_seconds=_send_seconds(account),
            )
            if isinstance(answer, quotas.Refused):
                db.rollback()
                return answer
            self._write_account(db, account, answer.state)
            row = {"id": attempt.id, "recognition_id": claim.recognition_id, "run_digest": run.digest}
            when = {
                "state": "sending",
                "started_at": now,
                "lease_until": lease_until,
                "sent_sha256": sent_sha256,
            }
            db.execute(self._statements.new_attempt, row | when | _account_key(account))
            return attempt

    @_repeated
    def settle(self, attempt: Attempt, account: Account, reading: Reading, reply: Reply | None) -> None:
        """Commits what came of a send: the reply, raw text and all, and what it means for recognition and
        account.

        Without a reply the send is in doubt, or it never reached the server and the image is free again.
        """
        with self._engine.begin() as db:
            of_both = {"of_attempt": attempt.id, "of_recognition": attempt.claim.recognition_id}
            # The attempt is locked after its recognition, under whose lock alone attempts change.
            row = db.execute(self._statements.sent, of_both).one()
            if row.ended_at is not None:
                return  # written down before, by a commit whose acknowledgement was lost
            self._end_attempt(db, attempt, reading, reply)
            doubts = row.doubts + self._doubt_change(db, row, reading)
            settlement = _settlement(row, attempt, reading, doubts)
            db.execute(self._statements.set_recognition, {"of_recognition": row.id, **settlement})
            state, pace, now = self._locked_account(db, account)
            in_flight = self._in_flight(db, account, now, attempt)
            after = quotas.after_answer(
                state, _limits(account), reading, now=now, sent_at=row.started_at, in_flight=in_flight
            )
            self._write_account(db, account, after, _pace_after(pace, account, reading, now, row.started_at))

    # --- what a person decides

    @_repeated
    def resolve(
        self, recognition_id: int, decision: Decision, *, by: str, reason: str
    ) -> Literal["resolved", "not_in_doubt"] | Busy:
        """Ends a doubt by a person's decision: the image may be sent as if it never had been, or it has
        failed without an answer.

        What somebody is asking for, or may be about to write down, is left alone. An answer that is there
        stays, and one that comes late still counts.
        """
        with self._engine.begin() as db:
            now = self._now(db)
            stored = self._locked(db, schema.recognition.c.id == recognition_id)
            if stored is None or (row := stored.at(now)).state is State.IDLE:
                return "not_in_doubt"
            if row.doubts > stored.doubts:
                self._mark_doubt(db, row.id, now)
                if now < stored.lease_until + LATE_REPLY_SECONDS:
                    return Busy(DOUBT_GRACE_SECONDS)
            elif row.lease_until > now:
                return Busy(row.lease_until - now)
            failed = {"settled": Settled.FAILED} if decision == "give-up" and not row.settled else {}
            free = {"state": State.IDLE, "doubts": 0, "lease_token": None, "lease_until": 0.0}
            self._set(db, row.id, **free, **failed)
            self._note_decision(db, row.id, decision, by, reason, now)
            return "resolved"

    @_repeated
    def correct_charge(self, attempt_id: str, charged: bool, *, by: str, reason: str) -> bool:
        """Writes down what a person found on the service's bill; False where the service itself has said.

        Of a call that is in doubt it may be corrected again.
        """
        with self._engine.begin() as db:
            now = self._now(db)
            columns = schema.attempt.c
            found = sa.select(columns.recognition_id).where(columns.id == attempt_id).scalar_subquery()
            row = self._locked(db, schema.recognition.c.id == found)
            if row is None:
                return False
            decided = sa.exists().where(schema.decision.c.attempt_id == attempt_id)
            nobody_said = columns.charged.is_(None) | ((columns.state == "in_doubt") & decided)
            over = columns.state.in_(["in_doubt", "answered"]) | (
                (columns.state == "sending") & (columns.lease_until + LATE_REPLY_SECONDS <= now)
            )
            change = schema.attempt.update().where(columns.id == attempt_id, nobody_said, over)
            if db.execute(change.values(charged=charged)).rowcount == 0:
                return False
            said = "charged" if charged else "not-charged"
            self._note_decision(db, row.id, said, by, reason, now, attempt_id=attempt_id)
            return True

    # --- outcomes and reports

    @_repeated
    def write_outcomes(self, run: RunKey, account: Account, outcomes: Sequence[Outcome]) -> None:
        with self._engine.begin() as db:
            now = self._now(db)
            rows = [
                {
                    "run_digest": run.digest,
                    "uri_digest": _digest(outcome.uri),
                    "page": outcome.identity.page if outcome.identity else 1,
                    "uri": outcome.uri,
                    "service": account.service,
                    "endpoint": account.endpoint.name,
                    "sha256": outcome.identity.sha256 if outcome.identity else None,
                    "outcome": outcome.outcome,
                    "code": outcome.code,
                    "message": outcome.message,
                    "at": now,
                }
                for outcome in outcomes
            ]
            for part in _parts(rows):
                engines.upsert(db, schema.outcome, part, unless=_tells_less)

    def outcomes(self, run: RunKey) -> Iterator[Outcome]:
        """What became of each input of a task instance, in order of URI digest, streamed by key."""
        last = ""
        while True:
            rows = self._page_of_outcomes(run, last)
            for row in rows:
                identity = Identity(row.service, row.endpoint, row.sha256, row.page) if row.sha256 else None
                yield Outcome(row.uri, identity, row.outcome, row.code, row.message)
            if len(rows) < LOOKUP_SIZE:
                return
            last = rows[-1].uri_digest

    @_repeated
    def _page_of_outcomes(self, run: RunKey, last: str) -> Sequence[sa.Row[Any]]:
        columns = schema.outcome.c
        page = sa.select(schema.outcome).where(columns.run_digest == run.digest, columns.uri_digest > last)
        with engines.reading(self._engine) as db:
            return db.execute(page.order_by(columns.uri_digest).limit(LOOKUP_SIZE)).all()

    @_repeated
    def cost(self, run: RunKey) -> Cost:
        """The sends of a task instance over all its tries."""
        columns = schema.attempt.c
        query = sa.select(columns.charged, sa.func.count().label("calls")).where(
            columns.run_digest == run.digest, columns.state != "never_reached"
        )
        with engines.reading(self._engine) as db:
            counts = {row.charged: row.calls for row in db.execute(query.group_by(columns.charged))}
        return Cost(sum(counts.values()), counts.get(True, 0), counts.get(None, 0))

    @_repeated
    def answers(self, identities: Sequence[Identity]) -> list[StoredAnswer]:
        """The settling replies of those identities that have one. At most `LOOKUP_SIZE` identities a call.

        A result whose raw reply was pruned is not among them: there is nothing to read any more.
        """
        if len(identities) > LOOKUP_SIZE:
            raise ValueError(f"answers() takes at most {LOOKUP_SIZE} identities; got {len(identities)}")
        wanted = set(identities)
        query = (
            sa.select(schema.recognition, schema.attempt)
            .join(schema.attempt, schema.attempt.c.id == schema.recognition.c.answer_id)
            .where(schema.recognition.c.sha256.in_(sorted({identity.sha256 for identity in wanted})))
            .where(schema.attempt.c.reply.is_not(None) | (schema.recognition.c.settled == Settled.FAILED))
        )
        with engines.reading(self._engine) as db:
            rows = db.execute(query).mappings().all()
        return [answer for answer in map(_as_answer, rows) if answer.identity in wanted]

    @_repeated
    def quota(self, account: Account) -> quotas.Quota:
        """What is known of the account's quota. Costs one query, no call."""
        clock = sa.select(self._clock_expression().label("now")).subquery()
        query = sa.select(clock, schema.account).join_from(
            clock, schema.account, _is_account(account), isouter=True
        )
        with engines.reading(self._engine) as db:
            row = db.execute(query).mappings().one()
        state = _as_state(row) if row["service"] else quotas.AccountState()
        return quotas.quota_at(state, _limits(account), float(row["now"]))

    # --- inside transactions

    def _clock_expression(self) -> sa.ColumnElement[float]:
        if self._clock is not None:
            return sa.bindparam(None, callable_=self._clock, type_=sa.Double)
        return engines.clock(self._engine.dialect)

    def _now(self, db: sa.Connection) -> float:
        return (
            self._clock()
            if self._clock
            else float(db.execute(sa.select(self._clock_expression())).scalar_one())
        )

    def _locked_recognition(self, db: sa.Connection, identity: Identity) -> Recognition:
        columns = schema.recognition.c
        where = sa.and_(*(columns[name] == value for name, value in asdict(identity).items()))
        found = self._locked(db, where)
        if found is None:
            row = asdict(identity) | {"state": State.IDLE, "lease_until": 0.0, "doubts": 0}
            engines.insert_absent(db, schema.recognition, row)
            found = self._locked(db, where)
        assert found is not None  # noqa: S101  it was there or has just been inserted
        return found

    def _locked(self, db: sa.Connection, where: sa.ColumnElement[bool]) -> Recognition | None:
        db.execute(sa.select(schema.recognition.c.id).where(where).with_for_update())
        found = db.execute(_recognition_query.where(where)).one_or_none()
        return _as_recognition(found) if found else None

    def _note_decision(
        self,
        db: sa.Connection,
        recognition_id: int,
        decision: str,
        by: str,
        reason: str,
        now: float,
        attempt_id: str | None = None,
    ) -> None:
        row = {"id": uuid.uuid4().hex, "recognition_id": recognition_id, "attempt_id": attempt_id}
        said = {"decision": decision, "decided_by": by[:255], "reason": reason, "decided_at": now}
        db.execute(schema.decision.insert().values(**row, **said))

    def _asked(self, db: sa.Connection, recognition_id: int, run: RunKey) -> bool:
        columns = schema.attempt.c
        # What was turned away, for the rate, the quota or the key, was not asked.
        asked = columns.state.in_(["sending", "in_doubt"]) | columns.verdict.in_(list(_SETTLES))
        here = (columns.recognition_id == recognition_id) & (columns.run_digest == run.digest)
        return db.execute(sa.select(columns.id).where(here, asked).limit(1)).first() is not None

    def _mark_doubt(self, db: sa.Connection, recognition_id: int, now: float) -> None:
        lost = (schema.attempt.c.recognition_id == recognition_id) & (schema.attempt.c.state == "sending")
        verdict = {"state": "in_doubt", "verdict": Verdict.IN_DOUBT, "layer": "wire", "code": "lease_expired"}
        db.execute(schema.attempt.update().where(lost, schema.attempt.c.lease_until <= now).values(**verdict))
        grace = {"lease_until": now + DOUBT_GRACE_SECONDS}
        self._set(db, recognition_id, state=State.IN_DOUBT, doubts=schema.recognition.c.doubts + 1, **grace)

    def _free(self, db: sa.Connection, row: Recognition) -> Recognition:
        state = State.IN_DOUBT if row.doubts else State.IDLE
        self._set(db, row.id, state=state, lease_token=None, lease_until=0.0)
        return replace(row, state=state, lease_token=None, lease_until=0.0)

    def _set(self, db: sa.Connection, recognition_id: int, **values: Any) -> None:
        db.execute(
            schema.recognition.update().where(schema.recognition.c.id == recognition_id).values(**values)
        )

    def _to_sending(
        self, db: sa.Connection, claim: Claim, account: Account, seen: Seen | None
    ) -> float | None:
        """Turns the claim into a send and gives the end of its lease; None: it was lost, or used before."""
        held = {"of_recognition": claim.recognition_id, "of_token": claim.token, "of_answer": claim.answer_id}
        given = {"codes": seen and seen.codes, "invoice_key": seen and seen.invoice_key}
        lease = {"lease_seconds": _send_seconds(account)}
        sending = self._statements.to_sending.run(db, held | given | lease)
        return sending and float(sending.lease_until)

    def _has_begun(self, db: sa.Connection, attempt: Attempt, account: Account) -> bool:
        """Whether this very attempt was committed before; its lease begins anew, for it leaves only now."""
        columns = schema.recognition.c
        ours = (columns.id == attempt.claim.recognition_id) & (columns.lease_token == attempt.claim.token)
        sending = (columns.state == State.SENDING) & (columns.lease_until > self._clock_expression())
        until = {"lease_until": self._clock_expression() + _send_seconds(account)}
        if db.execute(schema.recognition.update().where(ours, sending).values(**until)).rowcount == 0:
            return False
        renewed = sa.select(columns.lease_until).where(columns.id == attempt.claim.recognition_id)
        until = {"lease_until": renewed.scalar_subquery()}
        db.execute(schema.attempt.update().where(schema.attempt.c.id == attempt.id).values(**until))
        return True

    def _doubt_change(self, db: sa.Connection, row: sa.Row[Any], reading: Reading) -> int:
        """By how much a reading changes the number of doubts. A call that was counted while its reply was
        late counts no more once the reply says that it was free; unless a person has decided on it since.
        """
        doubtful = reading.verdict is Verdict.IN_DOUBT
        if row.attempt_state != "in_doubt":
            return int(doubtful)
        return 0 if doubtful or self._decided_since(db, row) else -1

    def _decided_since(self, db: sa.Connection, row: sa.Row[Any]) -> bool:
        columns = schema.decision.c
        on_image = (columns.recognition_id == row.id) & columns.attempt_id.is_(None)
        query = sa.select(columns.recognition_id).where(on_image, columns.decided_at > row.started_at)
        return db.execute(query.limit(1)).first() is not None

    def _end_attempt(
        self, db: sa.Connection, attempt: Attempt, reading: Reading, reply: Reply | None
    ) -> None:
        ended = "answered" if reply else "never_reached"
        state = "in_doubt" if reading.verdict is Verdict.IN_DOUBT else ended
        said: dict[str, Any] = {
            "verdict": reading.verdict,
            "layer": reading.layer,
            "code": reading.code[:100],
        }
        said |= {"message": reading.message, "said_charged": reading.charged}
        said |= {"request_id": reading.request_id and reading.request_id[:200]}
        came = {
            "reply": reply and zlib.compress(reply.body),
            "http_status": reply and reply.status,
            "elapsed_seconds": reply and reply.elapsed_seconds,
        }
        db.execute(self._statements.end_attempt, {"of_attempt": attempt.id, "state": state, **said, **came})

    def _in_flight(self, db: sa.Connection, account: Account, now: float, but: Attempt) -> int:
        others = {"now": now, "of_attempt": but.id, **_of(account)}
        return int(db.execute(self._statements.in_flight, others).scalar_one())

    @_repeated
    def _ensure_account(self, account: Account) -> None:
        if _account_key(account) in self._accounts:
            return
        with self._engine.begin() as db:
            row = _account_key(account) | asdict(rate.Pace()) | asdict(quotas.AccountState())
            engines.insert_absent(db, schema.account, row)
        self._accounts.append(_account_key(account))

    def _locked_account(
        self, db: sa.Connection, account: Account
    ) -> tuple[quotas.AccountState, rate.Pace, float]:
        """The account's row, locked, and the time at which it was."""
        row = db.execute(self._statements.account, _of(account)).mappings().one()
        return _as_state(row), rate.Pace(**{name: row[name] for name in _PACE}), float(row["now"])

    def _write_account(
        self, db: sa.Connection, account: Account, *parts: quotas.AccountState | rate.Pace
    ) -> None:
        values = {field.name: getattr(part, field.name) for part in parts for field in fields(part)}
        db.execute(self._statements.set_account, values | _of(account))


def _settlement(row: sa.Row[Any], attempt: Attempt, reading: Reading, doubts: int) -> dict[str, Any]:
    """What a reading changes in the recognition's row. `doubts`: as many as there are after it.

    A reply that settles does so whoever holds the lease; whoever else holds it by now keeps it. A new failure
    never replaces an answer that is there.
    """
    settled = _SETTLES.get(reading.verdict)
    doubts = 0 if settled else max(0, doubts)
    values = {
        name: getattr(row, name) for name in ("settled", "answer_id", "state", "lease_token", "lease_until")
    }
    if settled and not (row.settled == Settled.ANSWERED and settled is Settled.FAILED):
        values |= {"settled": settled, "answer_id": attempt.id}
    rest = {"state": State.IN_DOUBT if doubts else State.IDLE}
    if row.lease_token == attempt.claim.token:
        values |= rest | {"lease_token": None, "lease_until": 0.0}
    elif row.state in (State.IDLE, State.IN_DOUBT):
        values |= rest
    return values | {"doubts": doubts}


def _tells_less(new: Any) -> sa.ColumnElement[bool]:
    """Whether an outcome only waits where an earlier try of the same task knows what became of the input."""
    known = schema.outcome.c.outcome.in_(_as_sql("recognised", "reused", "failed"))
    return sa.and_(new.outcome.in_(_as_sql("waiting")), known)


def _as_sql(*words: str) -> list[sa.ColumnElement[str]]:
    return [sa.literal_column(f"'{word}'", sa.String) for word in words]


_GIVEN_UP_MESSAGE = "was in doubt, maybe charged, until a person gave it up; resend asks again"
_SETTLES = {Verdict.SUCCESS: Settled.ANSWERED, Verdict.SETTLE_FAILED: Settled.FAILED}
_of_attempt = (schema.attempt.c[name] for name in ("code", "message", "run_digest"))
_recognition_query = sa.select(
    schema.recognition, *_of_attempt, schema.attempt.c.recognition_id.label("answered_id")
).outerjoin_from(schema.recognition, schema.attempt, schema.attempt.c.id == schema.recognition.c.answer_id)


def _as_recognition(row: sa.Row[Any]) -> Recognition:
    given_up = row.settled and not row.answer_id
    return Recognition(
        id=row.id,
        identity=Identity(row.service, row.endpoint, row.sha256, row.page),
        state=State(row.state),
        settled=Settled(row.settled) if row.settled else None,
        answer_id=row.answer_id,
        lease_token=row.lease_token,
        lease_until=row.lease_until,
        doubts=row.doubts,
        code=GIVEN_UP if given_up else row.code,
        message=_GIVEN_UP_MESSAGE if given_up else row.message,
        run_digest=row.run_digest,
        codes=row.codes,
        is_of_another=row.answered_id not in (None, row.id),
    )


def _as_answer(row: sa.RowMapping) -> StoredAnswer:
    recognition, attempt = schema.recognition.c, schema.attempt.c
    identity = Identity(*(row[recognition[name]] for name in ("service", "endpoint", "sha256", "page")))
    return StoredAnswer(
        identity=identity,
        answer_id=row[attempt.id],
        answered_at=datetime.fromtimestamp(row[attempt.ended_at], UTC),
        state="recognised" if row[recognition.settled] == Settled.ANSWERED else "failed",
        code=row[attempt.code] or "",
        message=row[attempt.message] or "",
        http_status=row[attempt.http_status] or 0,
        body=zlib.decompress(row[attempt.reply]) if row[attempt.reply] else b"",
        codes=row[recognition.codes],
        read_from=None if row[attempt.recognition_id] == row[recognition.id] else row[attempt.sent_sha256],
    )


def _as_state(row: sa.RowMapping) -> quotas.AccountState:
    values = {name: row[name] for name in _STATE}
    return quotas.AccountState(**(values | {"quota_state": quotas.QuotaState(row["quota_state"])}))


def _pace_after(pace: rate.Pace, account: Account, reading: Reading, now: float, sent_at: float) -> rate.Pace:
    match reading.verdict:
        case Verdict.SLOW_DOWN:
            return rate.after_overrun(pace, account.qps, now=now, sent_at=sent_at)
        case Verdict.SUCCESS | Verdict.SETTLE_FAILED:
            return rate.after_good_answer(pace, account.qps, now=now, sent_at=sent_at)
        case _:
            return pace


def _limits(account: Account) -> quotas.Limits:
    return quotas.Limits(account.daily_limit, account.reset_time, account.reset_timezone)


def _account_key(account: Account) -> dict[str, str]:
    return {"service": account.service, "endpoint": account.endpoint.name, "fingerprint": account.fingerprint}


_PACE = tuple(field.name for field in fields(rate.Pace))
_STATE = tuple(field.name for field in fields(quotas.AccountState))


def _of(account: Account) -> dict[str, str]:
    """The account's key as the parameters that pick its row."""
    return {f"of_{name}": value for name, value in _account_key(account).items()}


def _key(identity: Identity) -> dict[str, Any]:
    return {name: getattr(identity, name) for name in ("service", "endpoint", "sha256", "page")}


def _is_account(account: Account) -> sa.ColumnElement[bool]:
    return sa.and_(*(schema.account.c[name] == value for name, value in _account_key(account).items()))


def _is_held(claim: Claim) -> sa.ColumnElement[bool]:
    """Whether nobody else has the claim by now, and nothing was sent under it."""
    columns = schema.recognition.c
    return sa.and_(
        columns.id == claim.recognition_id,
        columns.lease_token == claim.token,
        columns.state == State.CLAIMED,
    )


def _send_seconds(account: Account) -> float:
    """The longest that a send can take: two addresses or a handshake to connect to, then headers and picture
    to send, and a reply, for which the client waits twice its timeout at most.
    """
    timeouts = 2 * account.connect_timeout_seconds + 4 * account.read_timeout_seconds
    return timeouts + SEND_MARGIN_SECONDS


def _digest(*texts: str) -> str:
    return hashlib.sha256("\x1f".join(texts).encode("utf-8", "surrogatepass")).hexdigest()


def _has_stamp(source: Source) -> bool:
    """Whether a listing says enough of a file to notice that it changed."""
    return source.size is not None and any((source.etag, source.version, source.modified))


def _stamp(source: Source) -> str:
    return _digest(*(str(part) for part in (source.etag, source.version, source.size, source.modified)))


def _parts(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(rows), LOOKUP_SIZE):
        yield rows[start : start + LOOKUP_SIZE]
