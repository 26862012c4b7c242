"""How long so many calls take, and which of JD's packs they want, before one of them is made. Pure.

The rate says how soon one call follows another, the daily limit how many a day may have. Days are counted
from one reset of the quota to the next, the first of them with what is left of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from airflow_provider_jdocr.core.account import Account
from airflow_provider_jdocr.core.prices import OFFERED_FOR, PACKS, TIERS, Purchase, cheapest, purchase
from airflow_provider_jdocr.core.quotas import Limits, Quota, QuotaState
from airflow_provider_jdocr.core.rate import nominal_seconds

_DAY_SECONDS = 86_400
_MILLENNIUM_ENDS = datetime(3000, 1, 1, tzinfo=UTC).timestamp()
OF_THE_CONNECTION = "this connection"


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long so many calls take at a rate and a daily limit.

    `seconds` from now to the last call, nights at the limit included; `days`: on which calls are made;
    `calls_a_day`: of a day that has them all; `ends_at`: ISO 8601, where the quota is reset; None: not in
    this millennium.
    """

    name: str
    qps: float
    daily_limit: int | None
    calls_a_day: int
    seconds: float
    days: int
    ends_at: str | None


def schedules(calls: int, account: Account, quota: Quota) -> Iterator[Schedule]:
    """The connection's own, with what is left of today; and, as if a day began, what JD offers."""
    limits = Limits(account.daily_limit, account.reset_time, account.reset_timezone)
    known = account.daily_limit is not None or quota.state is not QuotaState.OPEN
    left = quota.remaining if known else None
    yield schedule(OF_THE_CONNECTION, calls, account.qps, limits, now=quota.now, left_today=left)
    if account.endpoint.name == OFFERED_FOR:
        for tier in TIERS:
            offered = replace(limits, daily_limit=tier.daily_limit)
            yield schedule(tier.name, calls, tier.qps, offered, now=quota.now)


def schedule(
    name: str, calls: int, qps: float, limits: Limits, *, now: float, left_today: int | None = None
) -> Schedule:
    """How long `calls` take from `now` on; `left_today`: of the day's limit, where that is known."""
    interval = nominal_seconds(qps)
    fit = int(_DAY_SECONDS / interval)
    a_day = fit if limits.daily_limit is None else min(fit, limits.daily_limit)
    until_reset = limits.next_reset(now) - now
    today = min(calls, a_day if left_today is None else left_today, int(until_reset / interval))
    seconds, days = today * interval, int(today > 0)
    if rest := calls - today:
        full = (rest - 1) // a_day
        seconds = until_reset + full * _DAY_SECONDS + (rest - full * a_day) * interval
        days += full + 1
    ends_at = _shown(now + seconds, limits.reset_timezone)
    return Schedule(name, qps, limits.daily_limit, a_day, round(seconds, 1), days, ends_at)


def _shown(moment: float, timezone: str) -> str | None:
    if moment >= _MILLENNIUM_ENDS:
        return None
    return datetime.fromtimestamp(moment, ZoneInfo(timezone)).isoformat(timespec="minutes")


def purchases(calls: int, endpoint: str) -> Iterator[Purchase]:
    """The cheapest that holds the calls, then so many of one pack as do, up to the first that does alone."""
    if calls <= 0 or endpoint != OFFERED_FOR:
        return
    yield (best := cheapest(calls))
    for name, (size, _) in PACKS.items():
        count = -(-calls // size)
        if {name: count} != best.packs:
            yield purchase({name: count})
        if count == 1:
            return
