"""What a caller may use: calls a second, calls a day, calls of a prepaid pack. Time is an argument.

JD does not say how it counts a second, so a service can be told to count it in any of the usual ways. A
refused call uses nothing. The day begins at the reset time of the reset time zone. The daily count and the
pack count what was billed; a call in flight holds its place, so that calls at once cannot get past the
limit.
"""

import math
from collections import deque
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from typing import Literal, get_args
from zoneinfo import ZoneInfo

Window = Literal["sliding", "fixed", "token", "strict"]
WINDOWS: tuple[Window, ...] = get_args(Window)
UNLIMITED = -1


class Rate:
    """Admits ``qps`` calls a second; 0 admits all.

    Below one call a second the window is longer than a second. ``strict`` wants the calls evenly apart.
    """

    def __init__(self, qps: float, window: Window = "sliding") -> None:
        self._qps = qps
        self._window = window
        self._capacity = 1 if window == "strict" else max(1, int(qps))
        self._span = self._capacity / qps if qps else 0.0
        self._admitted: deque[float] = deque()
        self._tokens = float(self._capacity)
        self._refilled = -math.inf

    def admit(self, tick: float) -> bool:
        """Whether a call at ``tick`` (seconds of a clock that only goes forward) is within the rate."""
        if not self._qps:
            return True
        return self._take_token(tick) if self._window == "token" else self._enter_window(tick)

    def _take_token(self, tick: float) -> bool:
        elapsed = tick - self._refilled
        self._refilled = tick
        self._tokens = min(self._capacity, self._tokens + elapsed * self._qps)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _enter_window(self, tick: float) -> bool:
        begins = tick - self._span
        if self._window == "fixed":
            begins = math.floor(tick / self._span) * self._span - math.ulp(tick)
        while self._admitted and self._admitted[0] <= begins:
            self._admitted.popleft()
        if len(self._admitted) >= self._capacity:
            return False
        self._admitted.append(tick)
        return True


@dataclass(frozen=True, slots=True)
class Allowance:
    """How much may be billed: a day and in all (-1: no limit), and when a day begins."""

    daily_limit: int
    total_limit: int
    reset_time: time
    reset_timezone: str

    def day(self, now: float) -> date:
        """The day that a moment is counted for."""
        local = datetime.fromtimestamp(now, ZoneInfo(self.reset_timezone))
        return local.date() if local.time() >= self.reset_time else local.date() - timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Used:
    day: date
    today: int = 0
    in_all: int = 0
    held: int = 0


class Quota:
    """What of an allowance was used. A place is held before the work and then either billed or given back."""

    def __init__(self, allowance: Allowance, now: float) -> None:
        self.allowance = allowance
        self._used = Used(allowance.day(now))

    def hold(self, now: float) -> str | None:
        """Hold a place; or JD's system code for why there is none."""
        self._turn_day(now)
        if 0 <= self.allowance.total_limit <= self._used.in_all + self._used.held:
            return "10010"
        if 0 <= self.allowance.daily_limit <= self._used.today + self._used.held:
            return "10040"
        self._used = replace(self._used, held=self._used.held + 1)
        return None

    def settle(self, *, billed: bool, now: float) -> None:
        """The work of one held place is over; a bill counts on the day it is written."""
        self._turn_day(now)
        more = int(billed)
        used = self._used
        self._used = Used(used.day, used.today + more, used.in_all + more, max(0, used.held - 1))

    def remaining(self, now: float) -> int:
        """Calls left: of the pack where there is one, of the day otherwise; -1 where there is no limit."""
        self._turn_day(now)
        if self.allowance.total_limit >= 0:
            return max(0, self.allowance.total_limit - self._used.in_all)
        if self.allowance.daily_limit >= 0:
            return max(0, self.allowance.daily_limit - self._used.today)
        return UNLIMITED

    def _turn_day(self, now: float) -> None:
        day = self.allowance.day(now)
        if day != self._used.day:
            self._used = replace(self._used, day=day, today=0)
