"""How a rate was kept, seen from the other side: the calls that the service lists, as figures.

Times are seconds since the epoch on the service's clock, when a call had arrived and the rate was asked.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import requests

OVER_LIMIT = "10043"
ANSWERED = "10000"


@dataclass(frozen=True, slots=True, order=True)
class Call:
    at: float
    code: str

    @property
    def over_limit(self) -> bool:
        return self.code == OVER_LIMIT

    @property
    def answered(self) -> bool:
        return self.code.partition("/")[0] == ANSWERED


@dataclass(frozen=True, slots=True)
class Calls:
    """In the order in which they arrived."""

    calls: Sequence[Call]

    @classmethod
    def of_service(cls, url: str) -> Calls:
        return cls.listed(requests.get(f"{url}/-/calls", timeout=60).json())

    @classmethod
    def listed(cls, entries: Iterable[Mapping[str, str]]) -> Calls:
        """Of entries as the service lists them."""
        return cls(
            sorted(Call(datetime.fromisoformat(one["at"]).timestamp(), one["code"]) for one in entries)
        )

    def __len__(self) -> int:
        return len(self.calls)

    @property
    def first_at(self) -> float:
        return self.calls[0].at

    @property
    def last_at(self) -> float:
        return self.calls[-1].at

    def between(self, since: float, until: float) -> Calls:
        first, end = (bisect_left(self.calls, moment, key=lambda call: call.at) for moment in (since, until))
        return Calls(self.calls[first:end])

    @property
    def answered(self) -> int:
        return sum(call.answered for call in self.calls)

    @property
    def over_limit(self) -> int:
        return sum(call.over_limit for call in self.calls)

    @property
    def over_limit_share(self) -> float:
        """Over-limit answers per call."""
        return self.over_limit / max(1, len(self.calls))

    def busiest(self, seconds: float = 1.0) -> int:
        """The most calls that arrived within so many seconds."""
        times = [call.at for call in self.calls]
        return max((bisect_left(times, at + seconds) - place for place, at in enumerate(times)), default=0)

    def answered_per_second(self, since: float, until: float) -> float:
        return self.between(since, until).answered / (until - since)

    def steps(self, since: float, until: float, seconds: float) -> list[Calls]:
        """Cut into steps of so many seconds; a last one that would be shorter is left out."""
        count = int((until - since) / seconds + 1e-9)
        return [self.between(since + n * seconds, since + (n + 1) * seconds) for n in range(count)]
