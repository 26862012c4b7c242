"""Products that are broken on purpose, to see that the harness finds each out.

    python -m tests.torture.broken

Each is a change of one line or two to the real code, in force while one trial is played. The trials are
drawn up by hand, so that the fault has its occasion: at a kill, in doubt, or between two runs. Prints, as
JSON, what the balance had to say of each, and of the same trials with the product as it is.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import uuid4

from airflow_provider_jdocr.core import batch, ledger
from airflow_provider_jdocr.core.errors import Verdict
from airflow_provider_jdocr.core.ledger import Attempt, Cost, Ledger
from airflow_provider_jdocr.core.replies import read_reply
from tests.torture import balance, pictures
from tests.torture.draw import Input, Name, Plan, Strike, Task, Try, draw
from tests.torture.process import Order
from tests.torture.servers import Slot, slot
from tests.torture.trial import forget, play


@dataclass(frozen=True, slots=True)
class Broken:
    """A fault of the product, the trial that gives it its occasion, and words that the balance has for it."""

    plan: Plan
    breaks: Callable[[], Any]
    found: str


_PLAIN = replace(
    draw(Name(0, 0, "sqlite")),
    families=(),
    endpoint="ocr_invoice",
    inputs=tuple(Input(f"s3://inbox/{number}.png", "good", number) for number in range(24)),
    in_doubt="hold",
    max_in_flight=3,
    max_failed=1000,
    max_calls=None,
    connect_timeout=1.0,
    read_timeout=2.0,
    latency=0.1,
    tasks=(Task("run 1", 0.0, (Try(), Try())),),
    service={"faults": []},
    changes=(),
    outages=(),
    jumps=(),
    topped_up=True,
    together_at_the_end=False,
)
_KILLED = replace(_PLAIN, tasks=(Task("run 1", 0.0, (Try((Strike("send", 8, 0.05),)), Try())),))
"""Killed while three calls are on their way, each of them already with the service."""
_TWO_RUNS = replace(
    _PLAIN, in_doubt="resend", tasks=(_PLAIN.tasks[0], replace(_PLAIN.tasks[0], run_id="run 2"))
)
_ONE_IMAGE = replace(_TWO_RUNS, inputs=_PLAIN.inputs[:1], latency=1.5, read_timeout=4.0)
"""Two runs want it at once, and it takes its time."""
_CROWDED = replace(
    _KILLED, latency=0.4, tasks=(Task("run 1", 0.0, (Try((Strike("send", 10, 0.05),)), Try())),)
)
"""Killed when as many calls are on their way as ever are."""
_CHARGED = {"fault": "code", "code": "10020", "charge": None, "billed": True, "picture": 5, "count": 2}
_UNCLEAR = replace(_PLAIN, service={"faults": [_CHARGED]})
"""The service says "again", has charged, and does not say so."""


def forgets_to_commit_before_sending() -> Any:
    """The attempt is written down when its answer is there."""
    begin, settle = Ledger.begin, Ledger.settle
    late: dict[str, tuple[Any, ...]] = {}

    def begins(self: Ledger, *args: Any, **more: Any) -> Attempt:
        attempt = Attempt(uuid4().hex, args[0])
        late[attempt.id] = (args, more | {"slot": None})  # which is long over by then
        return attempt

    def settles(self: Ledger, attempt: Attempt, *rest: Any) -> None:
        args, more = late.pop(attempt.id)
        begun = begin(self, *args, **more)
        assert isinstance(begun, Attempt)
        settle(self, begun, *rest)

    return mock.patch.multiple(Ledger, begin=begins, settle=settles)


def sends_again_what_is_held() -> Any:
    policy = Order.policy
    return mock.patch.object(Order, "policy", lambda self: replace(policy(self), in_doubt="resend"))


def sends_more_at_once_than_it_says() -> Any:
    policy = Order.policy
    return mock.patch.object(Order, "policy", lambda self: replace(policy(self), max_in_flight=9))


def takes_silence_for_no_charge() -> Any:
    def reads(*args: Any) -> Any:
        reading = read_reply(*args)
        doubtful = reading.verdict is Verdict.IN_DOUBT
        return replace(reading, verdict=Verdict.AGAIN, charged=False) if doubtful else reading

    return mock.patch.object(batch, "read_reply", reads)


def throws_an_answer_away() -> Any:
    settle, count = Ledger.settle, iter(range(10**6))

    def settles(self: Ledger, *args: Any) -> None:
        if next(count) != 5:
            settle(self, *args)

    return mock.patch.object(Ledger, "settle", settles)


def keeps_half_of_a_reply() -> Any:
    settle = Ledger.settle

    def settles(self: Ledger, attempt: Any, account: Any, reading: Any, reply: Any) -> None:
        settle(self, attempt, account, reading, reply and replace(reply, body=reply.body[:-9]))

    return mock.patch.object(Ledger, "settle", settles)


def asks_for_what_another_is_asking_for() -> Any:
    """Once for each image."""
    decide, asked = ledger.decide, set[int]()

    def decides(row: Any, **more: Any) -> Any:
        decision = decide(row, **more)
        if not isinstance(decision, ledger.Busy) or row.id in asked or row.state != "sending":
            return decision
        asked.add(row.id)
        return "claim"

    return mock.patch.object(ledger, "decide", decides)


def has_leases_shorter_than_a_send() -> Any:
    return mock.patch.multiple(ledger, _send_seconds=lambda _: 0.02, DOUBT_GRACE_SECONDS=0.0)


def forgets_the_calls_of_earlier_tries() -> Any:
    cost = Ledger.cost

    def costs(self: Ledger, run: Any) -> Cost:
        found = cost(self, run)
        return replace(found, calls=found.calls - found.charged_unknown)

    return mock.patch.object(Ledger, "cost", costs)


BROKEN: Mapping[str, Broken] = {
    each.breaks.__name__: each
    for each in (
        Broken(_KILLED, forgets_to_commit_before_sending, "bills without answer"),
        Broken(_KILLED, sends_again_what_is_held, "under_hold_nothing_is_paid_twice"),
        Broken(_CROWDED, sends_more_at_once_than_it_says, "a_kill_leaves_at_most_max_in_flight_in_doubt"),
        Broken(_UNCLEAR, takes_silence_for_no_charge, "under_hold_nothing_is_paid_twice"),
        Broken(_PLAIN, throws_an_answer_away, "no_answer_is_lost"),
        Broken(_PLAIN, keeps_half_of_a_reply, "no_answer_is_lost"),
        Broken(_ONE_IMAGE, asks_for_what_another_is_asking_for, "was 0 times in doubt"),
        Broken(_ONE_IMAGE, has_leases_shorter_than_a_send, "was 0 times in doubt"),
        Broken(_KILLED, forgets_the_calls_of_earlier_tries, "the_last_manifest_counts_the_calls"),
    )
}


def main() -> None:
    pictures.draw_all()
    with tempfile.TemporaryDirectory(prefix="jdocr-broken-") as home, slot(Path(home) / "slot") as made:
        whole = {name: _said(plan, made) for name, plan in _plans()}
        found = {}
        for name, each in BROKEN.items():
            with each.breaks():
                found[name] = _said(each.plan, made)
    json.dump({"as it is": whole, "broken": found}, sys.stdout)


def _plans() -> Iterator[tuple[str, Plan]]:
    yield from {"plain": _PLAIN, "killed": _KILLED, "crowded": _CROWDED}.items()
    yield from {"two runs": _TWO_RUNS, "one image": _ONE_IMAGE, "unclear": _UNCLEAR}.items()


def _said(plan: Plan, made: Slot) -> list[str]:
    played = play(plan, made)
    forget(played, made)
    return [f"{each.law}: {each.what}" for each in balance.violations(played.books)]


if __name__ == "__main__":
    main()
