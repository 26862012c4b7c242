"""The statements of the send path, built once for each ledger: to build them anew for every image costs more
of a core than to run them.

Parameters that pick a row are named ``of_…``; the others are named as the columns that they set, or as what
they say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from airflow_provider_jdocr.core import engines, rate, schema


@dataclass(frozen=True, slots=True)
class Statements:
    """Each with the parameters that it takes beside those of the row."""

    claim_new: engines.InsertNew
    """The columns of an identity, `lease_token`, `lease_seconds`."""
    take_slot: engines.UpdateOne
    """`interval`: seconds from slot to slot at a factor of one; `longest`: of a queue. Gives `starts_at` and
    `now`; nothing where no slot is within the horizon.
    """
    ahead: sa.Select[Any]
    """Seconds until the next slot."""
    to_sending: engines.UpdateOne
    """A claim, `of_recognition` and `of_token`, that found `answer_id`, becomes a send of `lease_seconds`;
    `codes` and `invoice_key` are kept where they are given. Gives `lease_until`; nothing where the claim was
    lost.
    """
    account: sa.Select[Any]
    """The row, locked, and `now`."""
    set_account: sa.Update
    in_flight: sa.Select[Any]
    """How many calls are on their way at `now`, but `of_attempt`."""
    new_attempt: sa.Insert
    sent: sa.Select[Any]
    """What settling asks of `of_recognition` and its `of_attempt`, locked; the attempt's state is
    `attempt_state`.
    """
    end_attempt: sa.Update
    """`said_charged`: none where the reply says nothing of it."""
    set_recognition: sa.Update


def statements(now: sa.ColumnElement[float]) -> Statements:
    """`now`: seconds since the epoch, as SQL."""
    return Statements(
        claim_new=_claim_new(now),
        take_slot=_take_slot(now),
        ahead=sa.select(_account.next_slot_at - now).where(_this_account),
        to_sending=_to_sending(now),
        account=sa.select(schema.account, now.label("now")).where(_this_account).with_for_update(),
        set_account=schema.account.update().where(_this_account),
        in_flight=_in_flight(),
        new_attempt=schema.attempt.insert(),
        sent=_sent(),
        end_attempt=_end_attempt(now),
        set_recognition=schema.recognition.update().where(_this_recognition),
    )


_account, _recognition, _attempt = schema.account.c, schema.recognition.c, schema.attempt.c
_KEY = ("service", "endpoint", "fingerprint")
_this_account = sa.and_(*(_account[name] == sa.bindparam(f"of_{name}") for name in _KEY))
_this_recognition = _recognition.id == sa.bindparam("of_recognition")
_this_attempt = _attempt.id == sa.bindparam("of_attempt")
_lease = sa.bindparam("lease_seconds", type_=sa.Double)


def _claim_new(now: sa.ColumnElement[float]) -> engines.InsertNew:
    identity = ("service", "endpoint", "sha256", "page")
    given: dict[str, Any] = {name: sa.bindparam(name) for name in (*identity, "lease_token")}
    ours = (_recognition.lease_token == given["lease_token"]) & (_recognition.state == "claimed")
    unsettled = _recognition.settled.is_(None) & _recognition.answer_id.is_(None)
    return engines.InsertNew(
        schema.recognition,
        given | {"state": "claimed", "doubts": 0, "lease_until": now + _lease},
        ours=ours & unsettled & (_recognition.doubts == 0),
    )


def _take_slot(now: sa.ColumnElement[float]) -> engines.UpdateOne:
    ahead = _account.next_slot_at - now
    stale = (ahead < 0.0) | (ahead > sa.bindparam("longest", type_=sa.Double))
    interval = sa.bindparam("interval", type_=sa.Double) / _account.factor
    return engines.UpdateOne(
        schema.account,
        which=_this_account,
        where=stale | (ahead <= rate.HORIZON_SECONDS),
        values={"next_slot_at": sa.case((stale, now), else_=_account.next_slot_at) + interval},
        wanted=[(_account.next_slot_at - interval).label("starts_at"), now.label("now")],
    )


def _to_sending(now: sa.ColumnElement[float]) -> engines.UpdateOne:
    held = (_recognition.lease_token == sa.bindparam("of_token")) & (_recognition.state == "claimed")
    # A late answer may have settled it while this claim waited for its slot: then it is not sent.
    unanswered = _recognition.answer_id.is_not_distinct_from(sa.bindparam("of_answer", type_=sa.String))
    seen = {
        name: sa.func.coalesce(sa.bindparam(name, type_=_recognition[name].type), _recognition[name])
        for name in ("codes", "invoice_key")
    }
    return engines.UpdateOne(
        schema.recognition,
        which=_this_recognition,
        where=held & unanswered,
        values={"state": "sending", "lease_until": now + _lease, **seen},
        wanted=[_recognition.lease_until],
    )


def _in_flight() -> sa.Select[Any]:
    here = [_attempt[name] == sa.bindparam(f"of_{name}") for name in _KEY]
    under_way = (_attempt.state == "sending") & (_attempt.lease_until > sa.bindparam("now", type_=sa.Double))
    return sa.select(sa.func.count()).where(*here, under_way, sa.not_(_this_attempt))


def _sent() -> sa.Select[Any]:
    names = ("id", "state", "settled", "answer_id", "lease_token", "lease_until", "doubts")
    of_attempt = (_attempt.state.label("attempt_state"), _attempt.started_at, _attempt.ended_at)
    both = sa.select(*(_recognition[name] for name in names), *of_attempt)
    both = both.join_from(schema.recognition, schema.attempt)
    return both.where(_this_recognition, _this_attempt).with_for_update()


def _end_attempt(now: sa.ColumnElement[float]) -> sa.Update:
    # What a person found on the bill stands where the reply says nothing of it.
    charged = sa.func.coalesce(sa.bindparam("said_charged", type_=sa.Boolean), _attempt.charged)
    return schema.attempt.update().where(_this_attempt).values(ended_at=now, charged=charged)
