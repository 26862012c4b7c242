"""Images in doubt: which ones there are, and what a person decided about them.

An image is in doubt when it was sent and no answer is known: it may have been charged. A person who looked,
or gave up looking, has two questions to answer, apart from each other: may the image be sent again
(`ask-again`) or has it failed (`give-up`); and did JD charge the call. What is decided is written down with
who and why; `Ledger.resolve` and `Ledger.correct_charge` say what it means for the books.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from airflow_provider_jdocr.core import engines, views
from airflow_provider_jdocr.core.ledger import Busy, Decision, Identity, Ledger, RunKey

_DURATION = re.compile(r"([1-9]\d*)([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def age_seconds(text: str) -> float:
    """The seconds of a text such as 30m, 12h or 7d. Raises `ValueError` with the rule."""
    found = _DURATION.fullmatch(str(text))
    if found is None:
        raise ValueError(f"{text!r} is no duration such as 30m, 12h or 7d")
    return float(int(found[1]) * _UNITS[found[2]])


@dataclass(frozen=True, slots=True)
class Matching:
    """Which doubts are meant: those for which everything holds that is given here. Digests and ids may be
    given by their beginnings.
    """

    service: str | None = None
    endpoint: str | None = None
    dag_id: str | None = None
    run_id: str | None = None
    task_id: str | None = None
    prefix: str | None = None
    sha256: tuple[str, ...] = ()
    call_ids: tuple[str, ...] = ()
    older_than_seconds: float = 0.0

    def __contains__(self, call: MaybeCharged) -> bool:
        run, image = call.run, call.identity
        asked = (self.service, self.endpoint, self.dag_id, self.run_id, self.task_id)
        found = (image.service, image.endpoint, run.dag_id, run.run_id, run.task_id)
        return (
            all(want is None or want == have for want, have in zip(asked, found, strict=True))
            and (not self.prefix or (call.uri or "").startswith(self.prefix))
            and (not self.sha256 or image.sha256.startswith(self.sha256))
            and (not self.call_ids or call.call_id.startswith(self.call_ids))
            and call.seconds_ago >= self.older_than_seconds
        )


@dataclass(frozen=True, slots=True)
class MaybeCharged:
    """A call of which nobody said whether it was charged. `request_id`: what to ask JD for, if any."""

    call_id: str
    identity: Identity
    uri: str | None
    run: RunKey
    account: str | None
    sent_at: float
    seconds_ago: float
    code: str | None
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Doubt:
    """An image in doubt, with its newest doubtful call.

    `lease_seconds`: until then somebody is asking, or may be about to write an answer down, and nothing is
    decided. `answered`: there is an answer all the same; only the money of a further call is in doubt.
    """

    recognition_id: int
    call: MaybeCharged
    lease_seconds: float
    calls: int
    answered: bool


@dataclass(frozen=True, slots=True)
class Settlement:
    """What came of settling. Of the `matched` images or calls, `resolved` were, `busy` are being asked for at
    this moment; `charges` were corrected. The rest somebody else has settled meanwhile.
    """

    matched: int
    resolved: int
    busy: int
    charges: int


def doubts(ledger: Ledger, matching: Matching | None = None) -> list[Doubt]:
    """The images in doubt, oldest first. Those that are on their way right now are among them."""
    now = ledger.now()
    found = (
        Doubt(
            recognition_id=row["recognition_id"],
            call=_call(row, now),
            lease_seconds=max(0.0, row["lease_until"] - now),
            calls=int(row["calls"]),
            answered=row["settled"] is not None,
        )
        for row in _rows(ledger, "jdocr_in_doubt")
    )
    return [doubt for doubt in found if doubt.call in (matching or Matching())]


def maybe_charged(ledger: Ledger, matching: Matching | None = None) -> list[MaybeCharged]:
    """The calls of which nobody said whether they were charged, oldest first, also those of images that were
    answered since. Calls on their way are among them.
    """
    now = ledger.now()
    found = (_call(row, now) for row in _rows(ledger, "jdocr_bill", "WHERE maybe_charged = 1"))
    return [call for call in found if call in (matching or Matching())]


def settle(
    ledger: Ledger,
    matching: Matching,
    decision: Decision,
    *,
    charged: bool | None = None,
    by: str,
    reason: str,
) -> Settlement:
    """Carries a decision out on every image in doubt that matches, a transaction each; may be repeated.

    `charged`: what the service's bill says of their doubtful calls; None: nobody looked.
    """
    found = doubts(ledger, matching)
    free = {doubt.call.identity for doubt in found if not doubt.lease_seconds}
    charges = 0
    if charged is not None:
        calls = [call for call in maybe_charged(ledger) if call.identity in free]
        charges = correct_charges(ledger, calls, charged, by=by, reason=reason)
    said = [ledger.resolve(doubt.recognition_id, decision, by=by, reason=reason) for doubt in found]
    busy = sum(isinstance(each, Busy) for each in said)
    return Settlement(len(found), said.count("resolved"), busy, charges)


def correct_charges(
    ledger: Ledger, calls: Iterable[MaybeCharged], charged: bool, *, by: str, reason: str
) -> int:
    """Writes down what the service's bill says of these calls; gives how many were changed."""
    return sum(ledger.correct_charge(call.call_id, charged, by=by, reason=reason) for call in calls)


def _rows(ledger: Ledger, view: str, where: str = "") -> Sequence[sa.RowMapping]:
    shown = views.query(view, ledger.engine.dialect.name)
    query = f"SELECT * FROM ({shown}) AS shown {where} ORDER BY moment"  # noqa: S608  all of it is ours
    with engines.reading(ledger.engine) as db:
        return db.execute(sa.text(query)).mappings().all()


def _call(row: sa.RowMapping, now: float) -> MaybeCharged:
    return MaybeCharged(
        call_id=row["call_id"] or "",
        identity=Identity(row["service"], row["endpoint"], row["sha256"], row["page"]),
        uri=row["uri"],
        run=RunKey(row["dag_id"] or "", row["run_id"] or "", row["task_id"] or "", _index(row["map_index"])),
        account=row["account"],
        sent_at=row["moment"] or 0.0,
        seconds_ago=now - (row["moment"] or 0.0),
        code=row["code"],
        request_id=row["request_id"],
    )


def _index(value: int | None) -> int:
    return -1 if value is None else value
