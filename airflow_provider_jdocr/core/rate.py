"""How fast calls may leave: one pace for all who share an account, as pure functions over one row.

JD does not say how it counts a second, and others may use the same account. So the pace is learnt from the
answers: it starts at what is allowed, gives way when the service says "too fast", and comes back.

Two things make a service say so, and they want opposite cures:

*Jitter.* Calls that leave evenly arrive unevenly, and one second holds one too many now and then. The pace
gives way by a hundredth or two, stands still for some hundred calls and then grows by a hair with each
answer. A second refusal within a dozen calls may still be jitter, of a bad line: once, the pace gives it a
wide berth.

*Company.* Another program takes a part of the rate, and every third call is turned away. Refusals that come
close on each other all the same tell: the pace falls by a third, and again, until it holds. Then it stands
for a while and looks, growing by a fifth each second, whether the other is gone. A look that is turned away
returns to the pace that held before, not to a third less.

After each slow-down there is a short rest, in which the service's window empties; slots that were handed
out before it are void. Calls that had left by then tell of the same overrun, not of another.

Nothing here does I/O or reads a clock. Times are seconds since the epoch on the database's clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

ARRIVAL_JITTER_SECONDS = 0.03
"""How unevenly calls arrive that leave evenly. A service that counts the calls of any one second sees one too
many of them unless as many slots as it allows take a second and this much more.
"""
HORIZON_SECONDS = 1.0
"""How far ahead a slot is handed out: long enough that none goes by unused, short enough that a change of
pace is soon felt by all.
"""
PUNCTUAL_SECONDS, LATE_SECONDS = 0.05, 5.0
"""How long after its moment a slot may still be used: by who can take another one, and at all."""
FASTEST, SLOWEST = 1.02, 0.05
"""Bounds of the factor. A little above one, for services and networks that let it be."""
ALONE_FROM = 0.9
"""A pace below this is not explained by jitter."""

_RARE_STEP = 0.99
_JITTER_STEP = 0.98
_WIDE_FROM, _WIDE_STEP = 0.95, 0.93
_COMPANY_STEP = 0.65
_ONE_OVERRUN_CALLS = 6
_ONE_OVERRUN_SECONDS = 0.3
_REST_SECONDS = 0.2
_STILL_CALLS = 250
_GROWTH_PER_ANSWER = 1e-4
_HOLD_SECONDS = 22.0
_LOOK_PER_SECOND = 0.18
_HELD_STEP, _HELD_MARGIN = 1.05, 0.8
_COMPANY_FORGOTTEN_SECONDS = 40.0


@dataclass(frozen=True, slots=True)
class Pace:
    """The account's pace. `factor`: of the allowed rate. `held`: the factor that held beside company; 1: none
    is known.
    """

    factor: float = 1.0
    held: float = 1.0
    slowed_at: float = 0.0
    grown_at: float = 0.0
    next_slot_at: float = 0.0

    @property
    def in_company(self) -> bool:
        return self.held < ALONE_FROM


@dataclass(frozen=True, slots=True)
class Slot:
    """The right to send one call, `seconds` after it was granted, and up to `late_seconds` after that."""

    granted_at: float
    seconds: float
    late_seconds: float = LATE_SECONDS

    def punctual(self) -> Slot:
        """The same, of no use when it is missed: calls that are held up together would arrive together."""
        return replace(self, late_seconds=PUNCTUAL_SECONDS)

    def void(self, pace: Pace, now: float) -> bool:
        """Whether everyone was slowed since it was granted, or its moment has long gone by: behind an outage
        all who had one would leave at once.
        """
        missed = now > self.granted_at + self.seconds + self.late_seconds
        return missed or self.granted_at < pace.slowed_at <= now


@dataclass(frozen=True, slots=True)
class Queued:
    """No slot within the horizon: ask again after `seconds`."""

    seconds: float


def nominal_seconds(qps: float) -> float:
    """From one slot to the next at a factor of one."""
    return (1.0 + ARRIVAL_JITTER_SECONDS) / qps


def longest_queue_seconds(qps: float) -> float:
    """How far ahead the next slot can be; farther is the trace of a database clock that was wrong."""
    return HORIZON_SECONDS + nominal_seconds(qps) / SLOWEST


def take_slot(pace: Pace, qps: float, now: float) -> tuple[Pace, Slot | Queued]:
    """Hands out the next slot, or says when to ask again."""
    ahead = pace.next_slot_at - now
    if ahead > longest_queue_seconds(qps) or ahead < 0.0:
        ahead = 0.0
    if ahead > HORIZON_SECONDS:
        return pace, queued(ahead)
    after = now + ahead + nominal_seconds(qps) / pace.factor
    return replace(pace, next_slot_at=after), Slot(now, ahead)


def queued(ahead: float) -> Queued:
    """When to ask again for a slot that is `ahead` seconds away: a little before it is handed out."""
    return Queued(max(0.01, ahead - HORIZON_SECONDS / 2))


def after_overrun(pace: Pace, qps: float, *, now: float, sent_at: float) -> Pace:
    """The pace after an over-limit answer to a call of `sent_at`."""
    if sent_at < pace.slowed_at <= now:
        return pace
    slower = _given_way(pace, qps, now)
    rest = max(_REST_SECONDS, nominal_seconds(qps) / slower.factor)
    return replace(slower, slowed_at=now, grown_at=now, next_slot_at=now + rest)


def after_good_answer(pace: Pace, qps: float, *, now: float, sent_at: float) -> Pace:
    """The pace after an answer that says nothing against it."""
    if sent_at < pace.slowed_at <= now:
        return pace
    if now < pace.grown_at:  # by a clock that was wrong
        return replace(pace, slowed_at=now, grown_at=now)
    factor, since = pace.factor, now - pace.slowed_at
    if pace.in_company and factor < 1.0:
        if since > _HOLD_SECONDS:
            factor = min(1.0, factor * math.exp(_LOOK_PER_SECOND * min(1.0, now - pace.grown_at)))
    elif factor < FASTEST and since * qps >= _STILL_CALLS:
        factor = min(FASTEST, factor + _GROWTH_PER_ANSWER)
    return replace(pace, factor=factor, grown_at=now)


def _given_way(pace: Pace, qps: float, now: float) -> Pace:
    since = abs(now - pace.slowed_at)
    again = since < _ONE_OVERRUN_SECONDS + _ONE_OVERRUN_CALLS / (qps * pace.factor)
    if since > _COMPANY_FORGOTTEN_SECONDS:
        pace = replace(pace, held=1.0)
    if pace.factor >= ALONE_FROM and not again:
        rare = since * qps >= _STILL_CALLS and not pace.in_company
        return replace(pace, factor=pace.factor * (_RARE_STEP if rare else _JITTER_STEP))
    if pace.factor >= _WIDE_FROM and not pace.in_company:
        return replace(pace, factor=pace.factor * _WIDE_STEP)
    if pace.in_company and pace.factor > pace.held * _HELD_STEP:  # it held, and then a look failed
        held = min(pace.held * _HELD_STEP, pace.factor * _HELD_MARGIN)
    else:
        held = max(SLOWEST, pace.factor * _COMPANY_STEP)
    return replace(pace, factor=held, held=held)
