"""What the service is told to do wrong, as ``POST /-/behave`` takes it.

A fault applies to the next ``count`` calls, or to the next that match ``endpoint`` or ``sha256`` (of the
decoded picture). It takes a call that passed signature, rate and quota, except ``close_before_body``, which
takes a call as it arrives. ``billed`` says whether the call is on the bill; without it, what stands in
brackets below.

In place of the answer, nothing is read:

====================== ==================================================================================
busy                   system code 10020 [no]
code                   any ``code`` of ``layer`` system | business in its documented shape, with ``msg``,
                       ``charge`` (true, false, "" or null: not there), ``http_status``;
                       ``envelope: false`` sends a business code bare [as ``charge`` says]
status                 the gateway's error for ``http_status``, with ``word`` (QUOTA_EXCEEDED …) and
                       ``msg``; ``empty`` sends it without a body [no]
html_502               an HTML page with ``http_status`` (502) [no]
redirect               ``http_status`` (302) to ``location`` [no]
garbage                200 with bytes that are no JSON [yes]
huge                   200 with ``bytes`` (64 MiB) of blanks [yes]
chunk_forever          200 whose body never ends, a blank every ``seconds`` (0.05) [yes]
close_before_body      the connection is closed before the body is read [no]
close_before_billing   the connection is closed after the body was read [no]
====================== ==================================================================================

After the answer was made, and billed if it is one that is billed:

====================== ==================================================================================
late                   it is held back for ``seconds`` (30)
close_after_billing    the connection is closed in its place
half                   the connection is closed in the middle of it
truncated_json         its first half, as if it were whole
drop_envelope          only the business result
result_as_string       ``result`` as JSON in a string
envelope               ``set`` is written over the envelope's keys, those in ``unset`` are taken out
misread                ``set`` is written over the texts that were read, by the endpoint's own keys
====================== ==================================================================================

A connection is closed in order, or with ``how: reset`` by a reset.
"""

from collections.abc import Mapping
from datetime import time
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from airflow_provider_jdocr.server.limits import Window
from airflow_provider_jdocr.server.pictures import Encoding

RemainShown = Literal["count", "zero", "unlimited"]
FaultName = Literal[
    "busy",
    "code",
    "status",
    "html_502",
    "redirect",
    "garbage",
    "huge",
    "chunk_forever",
    "close_before_body",
    "close_before_billing",
    "late",
    "close_after_billing",
    "half",
    "truncated_json",
    "drop_envelope",
    "result_as_string",
    "envelope",
    "misread",
]

_EVERY = frozenset({"fault", "count", "endpoint"})
_INSTEAD: Mapping[str, frozenset[str]] = {
    "busy": frozenset(),
    "code": frozenset({"layer", "code", "msg", "charge", "http_status", "envelope"}),
    "status": frozenset({"http_status", "word", "msg", "empty"}),
    "html_502": frozenset({"http_status"}),
    "redirect": frozenset({"http_status", "location"}),
    "garbage": frozenset(),
    "huge": frozenset({"bytes"}),
    "chunk_forever": frozenset({"seconds"}),
    "close_before_billing": frozenset({"how"}),
}
_AFTER: Mapping[str, frozenset[str]] = {
    "late": frozenset({"seconds"}),
    "close_after_billing": frozenset({"how"}),
    "half": frozenset({"how"}),
    "truncated_json": frozenset(),
    "drop_envelope": frozenset(),
    "result_as_string": frozenset(),
    "envelope": frozenset({"set", "unset"}),
    "misread": frozenset({"set"}),
}
_VALUES: Mapping[str, frozenset[str]] = {
    "close_before_body": _EVERY | {"how"},
    **{name: _EVERY | own | {"sha256", "billed"} for name, own in _INSTEAD.items()},
    **{name: _EVERY | own | {"sha256"} for name, own in _AFTER.items()},
}
_BILLED_UNLESS_TOLD = frozenset({"garbage", "huge", "chunk_forever"})
_DEFAULT_SECONDS = {"late": 30.0, "chunk_forever": 0.05}
_DEFAULT_STATUS = {"html_502": 502, "redirect": 302, "status": 500}


class Fault(BaseModel):
    """One entry of the queue. Values that its kind does not use are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fault: FaultName
    count: int = Field(default=1, ge=1)
    endpoint: Literal["ocr_invoice", "intsig_invoice"] | None = None
    sha256: str | None = None
    billed: bool | None = None
    layer: Literal["system", "business"] = "system"
    code: int | str | None = None
    msg: str | None = None
    charge: bool | Literal[""] | None = False
    envelope: bool = True
    http_status: int | None = Field(default=None, ge=200, le=599)
    word: str | None = None
    empty: bool = False
    location: str = "/elsewhere"
    bytes: int = Field(default=64 * 2**20, ge=1)
    seconds: float | None = Field(default=None, ge=0)
    how: Literal["close", "reset"] = "close"
    set: dict[str, Any] = Field(default_factory=dict)
    unset: frozenset[str] = frozenset()

    @model_validator(mode="after")
    def _only_what_it_uses(self) -> Self:
        if foreign := self.model_fields_set - _VALUES[self.fault]:
            raise ValueError(f"{self.fault} does not use {', '.join(sorted(foreign))}")
        if self.fault == "code" and self.code is None:
            raise ValueError("code needs a code")
        return self

    @property
    def in_place_of_the_answer(self) -> bool:
        return self.fault in _INSTEAD

    @property
    def is_billed(self) -> bool:
        if self.billed is not None:
            return self.billed
        return self.charge is True if self.fault == "code" else self.fault in _BILLED_UNLESS_TOLD

    @property
    def wait_seconds(self) -> float:
        return _DEFAULT_SECONDS.get(self.fault, 0.0) if self.seconds is None else self.seconds

    @property
    def status_code(self) -> int:
        return self.http_status or _DEFAULT_STATUS.get(self.fault, 200)


class FaultQueue:
    """Faults in the order in which they were given."""

    def __init__(self, faults: tuple[Fault, ...] = ()) -> None:
        self._entries: list[tuple[Fault, int]] = [(fault, fault.count) for fault in faults]

    def take_on_arrival(self, endpoint: str) -> Fault | None:
        """The fault of a call of which nothing was read."""
        return self._take(endpoint, None, on_arrival=True)

    def take(self, endpoint: str, sha256: str) -> Fault | None:
        """The fault of a call that may be answered."""
        return self._take(endpoint, sha256, on_arrival=False)

    def __len__(self) -> int:
        return sum(left for _, left in self._entries)

    def _take(self, endpoint: str, sha256: str | None, *, on_arrival: bool) -> Fault | None:
        for index, (fault, left) in enumerate(self._entries):
            if (fault.fault == "close_before_body") is not on_arrival:
                continue
            if fault.endpoint in (None, endpoint) and fault.sha256 in (None, sha256):
                self._entries[index : index + 1] = [(fault, left - 1)] if left > 1 else []
                return fault
        return None


class Behave(BaseModel):
    """What ``POST /-/behave`` may change. What is not named stays; ``faults`` replaces the queue.

    ``reset`` first brings back everything as it was at the start: behaviour, bill, counts, nonces.
    ``clock_offset_seconds`` moves the clock of the service: a signature leaves its window, a day ends.
    A ``reset_time`` later than now makes it yesterday, for which nothing was billed yet.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    reset: bool = False
    latency: float | None = Field(default=None, ge=0, le=3_600)
    qps: float | None = Field(default=None, ge=0, le=1_000_000)
    window: Window | None = None
    daily_limit: int | None = Field(default=None, ge=-1)
    total_limit: int | None = Field(default=None, ge=-1)
    body_encoding: Encoding | None = None
    remain: RemainShown | None = None
    reset_time: time | None = None
    clock_offset_seconds: float | None = Field(default=None, ge=-1e9, le=1e9)
    faults: tuple[Fault, ...] | None = None
