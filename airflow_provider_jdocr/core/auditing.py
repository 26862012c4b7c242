"""Whether a ledger agrees with itself: for after a restore, a copy, or a disk that was full.

Each check is a query for rows that cannot be there if every transaction of the ledger was kept whole, and so
finds nothing in a sound ledger, also while workers are at work. Nothing is repaired: a fault means that
something else wrote here, or that a restore brought back less than a whole.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import sqlalchemy as sa

from airflow_provider_jdocr.core import engines, schema
from airflow_provider_jdocr.core.ledger import Ledger, Settled, State

EXAMPLES = 5
FARTHEST_LEASE_SECONDS = 7 * 86_400.0
"""No lease is this long: one that ends later was written under a clock that was wrong."""
_REPLIES_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Fault:
    """Rows that break a rule: how many, and the ids of a few."""

    code: str
    rule: str
    rows: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Audit:
    """How many rows each table has, and what is wrong with them."""

    rows: Mapping[str, int]
    faults: tuple[Fault, ...]


RULES: Mapping[str, str] = MappingProxyType(
    {
        "ANSWER_MISSING": "the answer that settled a recognition is there",
        "ANSWER_OF_ANOTHER": "the answer that settled a recognition was received, by a call for it or for "
        "another picture of the same invoice",
        "SETTLED_BY_NOBODY": "a recognition settled as answered has an answer; without one it was given up",
        "ANSWER_UNSETTLED": "a recognition with an answer is settled",
        "STATE_UNKNOWN": "a recognition is idle, claimed, sending or in_doubt",
        "LEASE_WITHOUT_HOLDER": "what is claimed or being sent has a holder, and what is idle has none",
        "LEASE_TOO_LONG": "a lease ends within a week",
        "SEND_WITHOUT_LEASE": "a call that is being sent belongs to a recognition that is being sent",
        "SENDING_NOTHING": "a recognition that is being sent has a call that is being sent",
        "CALL_OF_NOTHING": "a call belongs to a recognition of the same service and endpoint",
        "CALL_OF_NO_RUN": "a call belongs to a task instance",
        "RECEIVED_WITHOUT_TIME": "a call that was answered has a time and a verdict",
        "OUTCOME_OF_NO_RUN": "an outcome belongs to a task instance",
        "OUTCOME_WITHOUT_ANSWER": "an image that counts as recognised or reused is settled as answered",
        "DECISION_OF_NOTHING": "a decision is about a recognition that is there",
        "REPLY_DAMAGED": "a raw reply can be unpacked",
    }
)


def audit(ledger: Ledger, *, replies: bool = False) -> Audit:
    """Counts the rows and tries every rule. `replies`: also unpack each raw reply, which reads them all."""
    now = ledger.now()
    with engines.reading(ledger.engine) as db:
        rows = {
            table.name: int(db.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())
            for table in schema.metadata.sorted_tables
        }
        found = [fault for code, query in _queries(now).items() if (fault := _tried(db, code, query))]
        damaged = list(_damaged(db)) if replies else []
    if damaged:
        found.append(_fault("REPLY_DAMAGED", damaged))
    return Audit(rows, tuple(found))


def _queries(now: float) -> Mapping[str, sa.Select[tuple[str]]]:
    """Rule → the ids of the rows that break it."""
    image, call, outcome, run = (
        schema.recognition.c,
        schema.attempt.c,
        schema.outcome.c,
        schema.run.c,
    )
    leased = image.state.in_([State.CLAIMED, State.SENDING])
    answer, donor = schema.attempt.alias("answer"), schema.recognition.alias("donor")
    same = (donor.c[name] == image[name] for name in ("service", "endpoint", "invoice_key"))
    adopted = sa.exists().where(donor.c.id == answer.c.recognition_id, *same)
    foreign = sa.and_(answer.c.recognition_id != image.id, ~adopted)
    other = sa.or_(foreign, answer.c.state != "answered")
    here = sa.and_(call.recognition_id == image.id, call.state == "sending")
    given_up = sa.exists().where(
        schema.decision.c.recognition_id == image.id, schema.decision.c.decision == "give-up"
    )
    unanswered = image.answer_id.is_(None) & image.settled.is_not(None)
    counted = outcome.outcome.in_(["recognised", "reused"])
    answered = sa.exists().where(
        *(schema.recognition.c[name] == outcome[name] for name in ("service", "endpoint", "sha256", "page")),
        image.settled == Settled.ANSWERED,
    )
    images, calls, outcomes = sa.select(image.id), sa.select(call.id), sa.select(outcome.uri)
    lost = sa.outerjoin(schema.recognition, answer, answer.c.id == image.answer_id)
    home = sa.outerjoin(schema.attempt, schema.recognition, call.recognition_id == image.id)
    elsewhere = sa.or_(image.id.is_(None), image.service != call.service, image.endpoint != call.endpoint)
    return {
        "ANSWER_MISSING": images.select_from(lost).where(image.answer_id.is_not(None), answer.c.id.is_(None)),
        "ANSWER_OF_ANOTHER": images.join(answer, answer.c.id == image.answer_id).where(other),
        "SETTLED_BY_NOBODY": images.where(unanswered, sa.or_(image.settled == Settled.ANSWERED, ~given_up)),
        "ANSWER_UNSETTLED": images.where(image.answer_id.is_not(None), image.settled.is_(None)),
        "STATE_UNKNOWN": images.where(image.state.not_in(list(State))),
        "LEASE_WITHOUT_HOLDER": images.where(
            sa.or_(
                leased & image.lease_token.is_(None),
                (image.state == State.IDLE) & image.lease_token.is_not(None),
            )
        ),
        "LEASE_TOO_LONG": images.where(leased, image.lease_until > now + FARTHEST_LEASE_SECONDS),
        "SEND_WITHOUT_LEASE": calls.join(schema.recognition, call.recognition_id == image.id).where(
            call.state == "sending", image.state != State.SENDING
        ),
        "SENDING_NOTHING": images.where(image.state == State.SENDING, ~sa.exists().where(here)),
        "CALL_OF_NOTHING": calls.select_from(home).where(elsewhere),
        "CALL_OF_NO_RUN": calls.where(~sa.exists().where(run.digest == call.run_digest)),
        "RECEIVED_WITHOUT_TIME": calls.where(
            call.state == "answered", call.ended_at.is_(None) | call.verdict.is_(None)
        ),
        "OUTCOME_OF_NO_RUN": outcomes.where(~sa.exists().where(run.digest == outcome.run_digest)),
        "OUTCOME_WITHOUT_ANSWER": outcomes.where(counted, ~answered),
        "DECISION_OF_NOTHING": sa.select(schema.decision.c.id)
        .outerjoin(schema.recognition, schema.decision.c.recognition_id == image.id)
        .where(image.id.is_(None)),
    }


def _tried(db: sa.Connection, code: str, query: sa.Select[tuple[str]]) -> Fault | None:
    found = query.subquery()
    rows = int(db.execute(sa.select(sa.func.count()).select_from(found)).scalar_one())
    if not rows:
        return None
    examples = db.scalars(query.limit(EXAMPLES)).all()
    return Fault(code, RULES[code], rows, tuple(map(str, examples)))


def _fault(code: str, ids: list[str]) -> Fault:
    return Fault(code, RULES[code], len(ids), tuple(ids[:EXAMPLES]))


def _damaged(db: sa.Connection) -> Iterator[str]:
    columns = schema.attempt.c
    query = sa.select(columns.id, columns.reply).where(columns.reply.is_not(None))
    for row in db.execute(query.execution_options(yield_per=_REPLIES_AT_ONCE)):
        try:
            zlib.decompress(row.reply)
        except (zlib.error, TypeError):  # SQLite keeps text in a column of bytes, if it is told to
            yield row.id
