"""A daily limit, more images than it takes, several workers, some days: ``python -m tests.rate.days``.

Every worker is a process of its own with its share of the images; all share one account and one ledger. Days
pass by moving the clocks of ledger, workers and service. A worker whose quota is used up stops with the rest
waiting and is started again next day. On each day the workers are also started again some hours after the
quota ended: then nobody may ask the service anything.

What is seen: how much each day bills, how many calls were refused, what is left waiting, and that in the end
the service's bill, the ledger and the manifests say the same of each image.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import requests

from airflow_provider_jdocr.core.batch import Manifest
from airflow_provider_jdocr.core.engines import engine_for
from airflow_provider_jdocr.core.ledger import Identity, Ledger, RunKey, Settled
from tests.databases import fresh_database, postgres_server
from tests.demo.services import ocr_service
from tests.rate.calls import Calls
from tests.rate.report import end_in_order, keep, markdown, progress
from tests.rate.tasks import KEY, SECRET, Crew, Job, crew, digest_of

DAY_SECONDS = 86_400.0
LOOKED_AGAIN_AFTER_SECONDS = (6 * 3600.0, 12 * 3600.0)


@dataclass(frozen=True, slots=True)
class Plan:
    """`told`: the connection says what the daily limit is; otherwise the answers have to."""

    images: int = 2500
    daily_limit: int = 1000
    workers: int = 5
    qps: float = 100.0
    told: bool = False

    @property
    def days(self) -> int:
        return -(-self.images // self.daily_limit)

    def billed_on(self, day: int) -> int:
        return min(self.daily_limit, self.images - day * self.daily_limit)


@dataclass(frozen=True, slots=True)
class Day:
    """What a day brought. `in_between`: calls made when the workers looked again after the quota's end."""

    number: int
    should_bill: int
    billed: int
    calls: int
    refused: int
    in_between: int
    waiting: int
    recognised: int
    reused: int
    failed: int


@dataclass(frozen=True, slots=True)
class Found:
    """`wrong` says in words what does not add up; nothing: the books are balanced."""

    days: Sequence[Day]
    wrong: Sequence[str]


@dataclass(frozen=True, slots=True)
class Stage:
    """The service, its ledger and the workers, on one moving clock."""

    plan: Plan
    url: str
    ledger_url: str
    reset_time: str
    workers: Crew

    def work(self, label: str, ahead: float) -> list[Manifest]:
        """All workers at once, each over its share, `ahead` seconds in the future."""
        change = {"clock_offset_seconds": ahead}
        requests.post(f"{self.url}/-/behave", json=change, timeout=10).raise_for_status()
        extra = {"qps": self.plan.qps, "reset_time": self.reset_time}
        if self.plan.told:
            extra["daily_limit"] = self.plan.daily_limit
        job = Job(self.url, self.ledger_url, RunKey("days", label, "recognise"), range(0), extra)
        # A clock of its own even on the first day, so that all days are kept by the same one.
        job = replace(job, clock_ahead_seconds=ahead or 1e-6)
        return self.workers.do(
            replace(
                job,
                run=RunKey("days", label, "recognise", share),
                pictures=range(share, self.plan.images, self.plan.workers),
            )
            for share in range(self.plan.workers)
        )

    def calls(self) -> list[str]:
        return [call.code for call in Calls.of_service(self.url).calls]

    def bill(self) -> list[str]:
        return [item["sha256"] for item in requests.get(f"{self.url}/-/bill", timeout=60).json()]


def run(plan: Plan, say: Callable[[str], None] = lambda _: None) -> Found:
    """Plays all days and balances the books."""
    # The day has just begun, wherever the clock of this machine stands.
    reset = (datetime.now(ZoneInfo("Asia/Shanghai")) - timedelta(hours=1)).strftime("%H:%M:%S")
    limits = ("--qps", str(plan.qps), "--daily-limit", str(plan.daily_limit), "--reset-time", reset)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(
            ocr_service(home / "service.log", KEY, SECRET, "--engine", "stub", "--latency", "0.05", *limits)
        )
        ledger_url = stack.enter_context(fresh_database(stack.enter_context(postgres_server())))
        ledger = Ledger(engine := engine_for(ledger_url))
        stack.callback(engine.dispose)
        ledger.create()
        stage = Stage(plan, url, ledger_url, reset, stack.enter_context(crew(plan.workers)))
        days: list[Day] = []
        for number in range(plan.days):
            days.append(_day(stage, number))
            say(f"day {number + 1}: {days[-1].billed} billed, {days[-1].waiting} images wait")
        return Found(days, [*wrong_days(plan, days), *_wrong_books(stage, ledger)])


def _day(stage: Stage, number: int) -> Day:
    calls, bill = len(stage.calls()), len(stage.bill())
    begins = number * DAY_SECONDS
    manifests = stage.work(f"day {number}", begins)
    today, billed = stage.calls()[calls:], len(stage.bill()) - bill
    waiting = _sum(manifests, "waiting")
    if waiting:
        for after in LOOKED_AGAIN_AFTER_SECONDS:
            again = stage.work(f"day {number} + {after:.0f} s", begins + after)
            waiting = max(waiting, _sum(again, "waiting"))
    return Day(
        number=number + 1,
        should_bill=stage.plan.billed_on(number),
        billed=billed,
        calls=len(today),
        refused=today.count("10040"),
        in_between=len(stage.calls()) - calls - len(today),
        waiting=waiting,
        **{name: _sum(manifests, name) for name in ("recognised", "reused")},
        failed=sum(manifest.failed_items for manifest in manifests),
    )


def wrong_days(plan: Plan, days: Sequence[Day]) -> list[str]:
    """What the days should have brought and did not."""
    wrong = []
    done = 0
    for day in days:
        done += day.should_bill
        seen = (day.billed, day.recognised, day.waiting, day.reused, day.failed, day.in_between)
        should = (
            day.should_bill,
            day.should_bill,
            plan.images - done,
            done - day.should_bill,
            0,
            0,
        )
        if seen != should:
            names = "billed, recognised, waiting, reused, failed, calls in between"
            wrong.append(f"day {day.number}: {names} are {seen}, not {should}")
    return wrong


def _wrong_books(stage: Stage, ledger: Ledger) -> list[str]:
    """Bill and ledger, image by image."""
    wrong = []
    plan, bills = stage.plan, Counter(stage.bill())
    pictures = {digest_of(number) for number in range(plan.images)}
    if bills != Counter(pictures):
        twice = sum(count > 1 for count in bills.values())
        wrong.append(f"{len(pictures - bills.keys())} images are not on the bill, {twice} more than once")
    account = Job(stage.url, "", RunKey("", "", ""), range(0)).account()
    identities = [Identity(account.service, account.endpoint.name, sha256) for sha256 in pictures]
    rows = ledger.recognitions(identities).values()
    answered = {row.identity.sha256 for row in rows if row.settled is Settled.ANSWERED}
    if answered != bills.keys():
        wrong.append(f"the ledger has {len(answered)} answers, the bill {len(bills)}")
    return wrong


def _sum(manifests: Sequence[Manifest], name: str) -> int:
    return sum(getattr(manifest, name) for manifest in manifests)


def table(found: Found) -> str:
    names = [field.name for field in fields(Day)]
    rows = ([getattr(day, name) for name in names] for day in found.days)
    return markdown([name.replace("_", " ") for name in names], rows)


def main(argv: Sequence[str] | None = None) -> int:
    end_in_order()
    plan = Plan()
    parser = argparse.ArgumentParser(
        prog="python -m tests.rate.days",
        description=(__doc__ or "").partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--images", type=int, default=plan.images, help="[%(default)s]")
    add("--limit", type=int, default=plan.daily_limit, help="billed calls a day [%(default)s]")
    add("--workers", type=int, default=plan.workers, help="processes [%(default)s]")
    add("--qps", type=float, default=plan.qps, help="calls a second [%(default)s]")
    add("--told", action="store_true", help="the connection knows the daily limit; else the answers tell")
    add("--json", type=Path, help="keep the figures in this file")
    options = parser.parse_args(argv)
    plan = Plan(options.images, options.limit, options.workers, options.qps, options.told)
    began = time.monotonic()
    found = run(plan, progress())
    print(table(found))
    print(f"\n{plan}; {time.monotonic() - began:.0f} s.")
    print("The books are balanced." if not found.wrong else "\n".join(("NOT BALANCED:", *found.wrong)))
    keep(options.json, {"plan": asdict(plan), **asdict(found)})
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
