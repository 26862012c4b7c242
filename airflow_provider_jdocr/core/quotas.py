"""Whether a call may be sent: daily quota and prepaid quota of one account, as pure functions over one row.

How fast calls may follow each other is for `core.rate` to say. The row (`AccountState`) lies in the ledger
and is shared by every task, host and DAG of the account. Nothing here does I/O or reads a clock: the ledger
locks the row, asks, and writes back what it is given. Times are seconds since the epoch on the database's
clock.

Two ends of a quota are told apart: *until the reset* (the daily count) and *until topped up* (a prepaid
pack). What is known of a quota holds only inside its window. After the reset it is unknown again, and then
one caller at a time may try (a probe, under a lease) while the others wait. An account that had to be topped
up may be tried so by every task that started after it was found empty.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from airflow_provider_jdocr.core.errors import Verdict
from airflow_provider_jdocr.core.replies import Reading

DAY_MAY_LAG_SECONDS = 900.0
DAY_MAY_LAG_RETRY_SECONDS = 60.0
"""The service's clock may be behind ours when the daily count is reset: then it is asked once a minute."""


class QuotaState(StrEnum):
    OPEN = "open"
    UNTIL_RESET = "until_reset"
    UNTIL_TOPPED_UP = "until_topped_up"


@dataclass(frozen=True, slots=True)
class Limits:
    """What an author configured for an account. `daily_limit` None = known from replies only."""

    daily_limit: int | None
    reset_time: time
    reset_timezone: str

    def next_reset(self, now: float) -> float:
        """The first reset after `now`. A wall-clock time that a DST change skips counts as the moment after
        it.
        """
        zone = ZoneInfo(self.reset_timezone)
        local = datetime.fromtimestamp(now, zone)
        reset = datetime.combine(local.date(), self.reset_time, zone)
        while reset.timestamp() <= now:
            reset = datetime.combine(reset.date() + timedelta(days=1), self.reset_time, zone)
        return reset.timestamp()


@dataclass(frozen=True, slots=True)
class AccountState:
    """The account's row. `used` counts the calls begun in the window, `remaining` what replies said less
    those.
    """

    window_ends_at: float = 0.0
    used: int = 0
    remaining: int | None = None
    known_at: float | None = None
    quota_state: QuotaState = QuotaState.OPEN
    quota_until: float | None = None
    quota_at: float = 0.0
    probe_until: float = 0.0


@dataclass(frozen=True, slots=True)
class Admitted:
    """The call may be sent; `state` is the row that says so."""

    state: AccountState


@dataclass(frozen=True, slots=True)
class Refused:
    """No call may be sent now. `seconds` until it may be asked again; None: only a person can change it."""

    reason: str
    seconds: float | None
    message: str


def rolled(state: AccountState, limits: Limits, now: float) -> AccountState:
    """The row inside the window that holds at `now`: behind a reset nothing is known and nothing used."""
    if state.quota_state is not QuotaState.OPEN and now >= (state.quota_until or 0.0):
        state = replace(state, remaining=None, known_at=None)
    if now < state.window_ends_at:
        return state
    return replace(state, window_ends_at=limits.next_reset(now), used=0, remaining=None, known_at=None)


def admit(
    state: AccountState,
    limits: Limits,
    *,
    now: float,
    asked_since: float,
    keep_remaining: int | None = None,
    probe_seconds: float = 60.0,
) -> Admitted | Refused:
    """Whether one call may be sent at `now`, by a caller that has been at work since `asked_since`."""
    state = rolled(state, limits, now)
    refused = _quota_refusal(state, limits, now, asked_since) or _budget_refusal(
        state, limits, keep_remaining
    )
    if refused:
        return refused
    if state.quota_state is not QuotaState.OPEN:
        if state.probe_until > now:
            return Refused(
                "probing",
                min(1.0, state.probe_until - now),
                "another task is asking whether the quota is back",
            )
        state = replace(state, probe_until=now + probe_seconds)
    return Admitted(replace(state, used=state.used + 1, remaining=_less_one(state.remaining)))


def after_answer(
    state: AccountState,
    limits: Limits,
    reading: Reading,
    *,
    now: float,
    in_flight: int,
    sent_at: float | None = None,
) -> AccountState:
    """The row after a reply to a call of `sent_at`. `in_flight`: other calls of the account under way.

    A reply to a call from before the reset says nothing of this window's calls; one to a call from before the
    quota ended is no sign that it is back, nor that the probe has come to its end.
    """
    state = rolled(state, limits, now)
    of_this_window = sent_at is None or limits.next_reset(sent_at) == state.window_ends_at
    before_the_end = sent_at is not None and sent_at <= state.quota_at
    if reading.charged is False and of_this_window:
        state = _given_back(state)
    if not before_the_end:
        state = replace(state, probe_until=0.0)
    match reading.verdict:
        case Verdict.QUOTA_RESET:
            again = _reset_after(state, limits, now, in_flight)
            again = again if of_this_window else now + DAY_MAY_LAG_RETRY_SECONDS
            return _ended(state, QuotaState.UNTIL_RESET, now, again)
        case Verdict.QUOTA_TOPUP:
            return _ended(state, QuotaState.UNTIL_TOPPED_UP, now, limits.next_reset(now))
        case Verdict.SUCCESS | Verdict.SETTLE_FAILED:
            if state.quota_state is not QuotaState.OPEN and before_the_end:
                return state
            state = replace(state, quota_state=QuotaState.OPEN, quota_until=None)
            return _with_news(state, reading, now, in_flight, sent_at) if of_this_window else state
        case _:
            return state


def _given_back(state: AccountState) -> AccountState:
    """The row without one call that was counted and then not charged, or never reached the server."""
    remaining = None if state.remaining is None else state.remaining + 1
    return replace(state, used=max(0, state.used - 1), remaining=remaining)


@dataclass(frozen=True, slots=True)
class Quota:
    """What is known of an account's quota at `now`, for sensors and people."""

    now: float
    state: QuotaState
    remaining: int | None
    known_at: float | None
    resets_at: float | None
    used: int


def quota_at(state: AccountState, limits: Limits, now: float) -> Quota:
    """The quota as known at `now`: what replies said, or the daily limit less what was used, the smaller."""
    state = rolled(state, limits, now)
    expired = (state.quota_until or 0.0) <= now
    return Quota(
        now=now,
        state=QuotaState.OPEN if expired else state.quota_state,
        remaining=_known_remaining(state, limits),
        known_at=state.known_at,
        resets_at=state.quota_until if state.quota_until and not expired else state.window_ends_at,
        used=state.used,
    )


@dataclass(frozen=True, slots=True)
class Ready:
    """Enough calls are left, or what is known has expired."""

    message: str


@dataclass(frozen=True, slots=True)
class NotYet:
    """Too few calls are left. `seconds` until what is known of them expires."""

    seconds: float
    message: str


def calls_available(quota: Quota, needed: int) -> Ready | NotYet:
    """Whether `needed` calls may be hoped for: the one decision behind poke, reschedule and trigger."""
    until_reset = max(0.0, (quota.resets_at or quota.now) - quota.now)
    if quota.state is QuotaState.UNTIL_TOPPED_UP:
        return NotYet(
            until_reset,
            "the prepaid calls are used up: top the account up, then mark this task as success "
            f"to go on at once; what is known expires in {until_reset:.0f} s",
        )
    if quota.state is QuotaState.UNTIL_RESET:
        return NotYet(until_reset, f"the daily quota is used up; it resets in {until_reset:.0f} s")
    if quota.remaining is None:
        return Ready("how many calls are left is not known; the next reply will tell")
    if quota.remaining >= needed:
        return Ready(f"{quota.remaining} calls left, {needed} needed")
    return NotYet(
        until_reset, f"{quota.remaining} calls left, {needed} needed; the count resets in {until_reset:.0f} s"
    )


def moment(seconds_since_epoch: float) -> datetime:
    return datetime.fromtimestamp(seconds_since_epoch, UTC)


def _quota_refusal(state: AccountState, limits: Limits, now: float, asked_since: float) -> Refused | None:
    may_be_topped_up = state.quota_at < asked_since or now >= (state.quota_until or 0.0)
    if state.quota_state is QuotaState.UNTIL_TOPPED_UP and not may_be_topped_up:
        return Refused(
            "quota_until_topped_up",
            None,
            "the prepaid calls are used up: top the account up, then clear the task",
        )
    if state.quota_state is QuotaState.UNTIL_RESET and now < (state.quota_until or 0.0):
        seconds = (state.quota_until or now) - now
        return Refused(
            "quota_until_reset", seconds, f"the daily quota is used up; it resets in {seconds:.0f} s"
        )
    if limits.daily_limit is not None and state.used >= limits.daily_limit:
        seconds = state.window_ends_at - now
        return Refused(
            "quota_until_reset",
            seconds,
            f"the daily_limit of {limits.daily_limit} calls is used up; the count resets in {seconds:.0f} s",
        )
    return None


def _budget_refusal(state: AccountState, limits: Limits, keep_remaining: int | None) -> Refused | None:
    known = _known_remaining(state, limits)
    if keep_remaining is None or known is None or known > keep_remaining:
        return None
    return Refused("budget", None, f"{known} calls are left and keep_remaining is {keep_remaining}")


def _known_remaining(state: AccountState, limits: Limits) -> int | None:
    own = None if limits.daily_limit is None else max(0, limits.daily_limit - state.used)
    known = [value for value in (state.remaining, own) if value is not None]
    return min(known, default=None)


def _less_one(remaining: int | None) -> int | None:
    return None if remaining is None else max(0, remaining - 1)


def _ended(state: AccountState, end: QuotaState, now: float, until: float) -> AccountState:
    return replace(state, quota_state=end, quota_at=now, quota_until=until, remaining=0, known_at=now)


def _reset_after(state: AccountState, limits: Limits, now: float, in_flight: int) -> float:
    """When an ended quota is to be asked about again: at the reset, or soon where that was just now.

    A day that ended in its first minutes without a call in it is the day before, by the service's clock.
    """
    fresh = limits.next_reset(now - DAY_MAY_LAG_SECONDS) < limits.next_reset(now)
    if fresh and state.used <= in_flight:
        return now + DAY_MAY_LAG_RETRY_SECONDS
    return limits.next_reset(now)


def _with_news(
    state: AccountState, reading: Reading, now: float, in_flight: int, sent_at: float | None
) -> AccountState:
    """The row with what an answer says is left, less the calls under way, which it does not count.

    An answer that was overtaken by a newer one tells nothing where it says more: its number is the older one.
    """
    said = reading.quota.remaining
    if said is None and not reading.quota.unlimited:
        # A quota that ended and is open again without a number: the zero of then tells nothing any more.
        return state if state.remaining != 0 else replace(state, remaining=None)
    remaining = None if said is None else max(0, said - in_flight)
    overtaken = sent_at is not None and state.known_at is not None and sent_at <= state.known_at
    if overtaken and remaining is not None and state.remaining is not None and remaining > state.remaining:
        return state
    return replace(state, remaining=remaining, known_at=now)
