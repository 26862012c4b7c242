"""Another program on our account takes a part of the rate for a while: ``python -m tests.rate.outsider``.

Tasks in processes of their own recognise pictures at the full rate. Then an outsider, which knows nothing of
our ledger, calls at half of the rate, evenly, whatever it is answered; and stops. The service tells how fast
we went and what we were answered.

settled    seconds from the outsider's first call until we keep to the rest: from then on no ten seconds see
           us further from our mean of the last half of its stay than a quarter, and at least seven tenths
           of what it leaves are used
over       our over-limit answers per call of ours while it is there
rest used  what we got, from the thirtieth second of its stay to its end, of what it left
back       seconds from its last call until five seconds see us at 95 % of the rate
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import requests

from airflow_provider_jdocr.core.batch import Manifest
from airflow_provider_jdocr.core.engines import engine_for
from airflow_provider_jdocr.core.ledger import Ledger, RunKey
from airflow_provider_jdocr.server.limits import WINDOWS, Window
from tests.databases import fresh_database, postgres_server
from tests.demo.services import ocr_service
from tests.rate.calls import Calls
from tests.rate.report import end_in_order, keep, markdown, percent, progress
from tests.rate.tasks import KEY, SECRET, Job, crew
from tests.server.app_client import OCR, signed
from tests.system.pictures import stub_picture

STEP_SECONDS = 5.0
SETTLE_SECONDS = 30.0
FAR_AWAY = 60_000
"""The outsider's picture: a number that none of ours has."""


@dataclass(frozen=True, slots=True)
class Plan:
    qps: float
    window: Window = "sliding"
    tasks: int = 4
    max_in_flight: int = 12
    latency_seconds: float = 0.7
    before_seconds: float = 60.0
    stay_seconds: float = 100.0
    after_seconds: float = 60.0
    part: float = 0.5

    @property
    def seconds(self) -> float:
        return self.before_seconds + self.stay_seconds + self.after_seconds


@dataclass(frozen=True, slots=True)
class Found:
    """Rates are ours, answered calls a second, in steps of five seconds. None: it did not come about."""

    plan: Plan
    before: Sequence[float]
    beside: Sequence[float]
    after: Sequence[float]
    outsider_per_second: float
    share_before: float
    settled_after_seconds: float | None
    over_limit_share: float
    rest_used: float
    back_after_seconds: float | None
    images: int
    failed_images: int


@dataclass(slots=True)
class Outsider:
    """Calls evenly, each call in a thread of its own so that none waits for another's answer."""

    url: str
    per_second: float
    request_ids: set[str] = field(default_factory=set)

    def stay(self, seconds: float) -> None:
        picture = stub_picture(FAR_AWAY)
        began = time.monotonic()
        with ThreadPoolExecutor(64) as pool:
            for number in range(int(seconds * self.per_second)):
                time.sleep(max(0.0, began + number / self.per_second - time.monotonic()))
                pool.submit(self._call, picture)

    def _call(self, picture: bytes) -> None:
        prepared = signed(OCR, self.url, picture, time.time(), key=KEY, secret=SECRET)
        with requests.Session() as session:
            answer = session.send(prepared, timeout=60)
        self.request_ids.add(answer.headers["x-jdcloud-request-id"])


def run(plan: Plan, say: Callable[[str], None] = lambda _: None) -> Found:
    """Plays it once, in real time."""
    with _stage(plan) as (url, ledger_url), crew(plan.tasks) as workers:
        jobs = [
            Job(
                service_url=url,
                ledger_url=ledger_url,
                run=RunKey("outsider", "run", "recognise", share),
                pictures=range(share, FAR_AWAY, plan.tasks),
                extra={"qps": plan.qps},
                max_in_flight=plan.max_in_flight,
                seconds=plan.seconds,
            )
            for share in range(plan.tasks)
        ]
        began = time.time()
        running = workers.start(jobs)
        time.sleep(plan.before_seconds)
        say(f"{plan.qps:g} QPS: an outsider comes")
        outsider = Outsider(url, plan.part * plan.qps)
        came = time.time()
        outsider.stay(plan.stay_seconds)
        went = came + plan.stay_seconds
        say(f"{plan.qps:g} QPS: it is gone")
        manifests = [future.result() for future in running]
        ours, theirs = _by_whom(url, outsider.request_ids)
    return _found(plan, ours, theirs, manifests, (began, came, went, began + plan.seconds))


@contextmanager
def _stage(plan: Plan) -> Iterator[tuple[str, str]]:
    """The URLs of a service and of a ledger."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        behaviour: tuple[str, ...] = ("--engine", "stub", "--daily-limit", "-1", "--qps", str(plan.qps))
        behaviour += ("--window", plan.window, "--latency", str(plan.latency_seconds))
        url = stack.enter_context(ocr_service(home / "service.log", KEY, SECRET, *behaviour))
        ledger_url = stack.enter_context(fresh_database(stack.enter_context(postgres_server())))
        engine = engine_for(ledger_url)
        Ledger(engine).create()
        engine.dispose()
        yield url, ledger_url


def _by_whom(url: str, outsiders: set[str]) -> tuple[Calls, Calls]:
    """Our calls and the outsider's."""
    listed = requests.get(f"{url}/-/calls", timeout=60).json()
    return (
        Calls.listed(call for call in listed if call["request_id"] not in outsiders),
        Calls.listed(call for call in listed if call["request_id"] in outsiders),
    )


def _found(
    plan: Plan,
    ours: Calls,
    theirs: Calls,
    manifests: Sequence[Manifest],
    moments: tuple[float, float, float, float],
) -> Found:
    began, came, went, ended = moments
    taken = theirs.answered_per_second(came, went)
    rest = plan.qps - taken
    steady = came - plan.before_seconds / 2
    settled_from = came + min(SETTLE_SECONDS, plan.stay_seconds / 2)
    return Found(
        plan=plan,
        before=_steps(ours, began, came),
        beside=_steps(ours, came, went),
        after=_steps(ours, went, ended),
        outsider_per_second=round(taken, 2),
        share_before=ours.answered_per_second(steady, came) / plan.qps,
        settled_after_seconds=_settled(ours, came, went, rest),
        over_limit_share=ours.between(came, went).over_limit_share,
        rest_used=ours.answered_per_second(settled_from, went) / rest,
        back_after_seconds=_back(ours, went, ended, 0.95 * plan.qps),
        images=sum(manifest.recognised for manifest in manifests),
        failed_images=sum(manifest.failed_items for manifest in manifests),
    )


def _steps(calls: Calls, since: float, until: float) -> list[float]:
    return [round(step.answered / STEP_SECONDS, 2) for step in calls.steps(since, until, STEP_SECONDS)]


def _settled(ours: Calls, came: float, went: float, rest: float) -> float | None:
    half = came + (went - came) / 2
    mean = ours.answered_per_second(half, went)
    if mean < 0.7 * rest:
        return None
    moments = [came + second for second in range(int(went - came - 10) + 1)]
    far = [at for at in moments if abs(ours.answered_per_second(at, at + 10) - mean) > mean / 4]
    after = far[-1] - came + 1 if far else 0.0
    return after if after < went - came - 10 else None


def _back(ours: Calls, went: float, ended: float, enough: float) -> float | None:
    for second in range(int(ended - went - STEP_SECONDS) + 1):
        if ours.answered_per_second(went + second, went + second + STEP_SECONDS) >= enough:
            return float(second)
    return None


def table(all_found: Sequence[Found]) -> str:
    def seconds(value: float | None) -> str:
        return "never" if value is None else f"{value:.0f} s"

    headings = ("QPS", "window", "share before", "settled", "over", "rest used", "back", "images", "failed")
    return markdown(
        headings,
        (
            (
                f"{found.plan.qps:g}",
                found.plan.window,
                percent(found.share_before),
                seconds(found.settled_after_seconds),
                percent(found.over_limit_share, 2),
                percent(found.rest_used),
                seconds(found.back_after_seconds),
                found.images,
                found.failed_images,
            )
            for found in all_found
        ),
    )


def steps(found: Found) -> str:
    """Our rate in steps of five seconds: alone, beside the outsider, alone again."""
    parts = (("alone", found.before), ("beside", found.beside), ("after", found.after))
    return "\n".join(f"    {name:7}{' '.join(f'{rate:g}' for rate in rates)}" for name, rates in parts)


def main(argv: Sequence[str] | None = None) -> int:
    end_in_order()
    plan = Plan(2)
    parser = argparse.ArgumentParser(
        prog="python -m tests.rate.outsider",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--qps", default="2,10,50", help="allowed calls a second, each a trial [%(default)s]")
    add("--window", default=plan.window, help=f"of {','.join(WINDOWS)}, each a trial [%(default)s]")
    add("--tasks", type=int, default=plan.tasks, help="processes [%(default)s]")
    add("--max-in-flight", type=int, default=plan.max_in_flight, help="of each process [%(default)s]")
    add("--latency", type=float, default=plan.latency_seconds, help="seconds of an answer [%(default)s]")
    add("--before", type=float, default=plan.before_seconds, help="seconds alone [%(default)s]")
    add("--stay", type=float, default=plan.stay_seconds, help="seconds beside the outsider [%(default)s]")
    add("--after", type=float, default=plan.after_seconds, help="seconds alone again [%(default)s]")
    add("--part", type=float, default=plan.part, help="of the rate that the outsider asks for [%(default)s]")
    add("--json", type=Path, help="keep the figures in this file")
    options = parser.parse_args(argv)
    say, all_found = progress(), []
    for window in options.window.split(","):
        for qps in options.qps.split(","):
            found = run(_plan(options, float(qps), window), say)
            all_found.append(found)
            print(f"\n{found.plan.qps:g} QPS, {window}: answered calls of ours a second, in 5 s steps")
            print(steps(found), flush=True)
    print(f"\n{table(all_found)}")
    keep(options.json, [asdict(found) for found in all_found])
    return 1 if any(found.failed_images for found in all_found) else 0


def _plan(options: argparse.Namespace, qps: float, window: Any) -> Plan:
    if window not in WINDOWS:
        raise SystemExit(f"{window} is no window; there are {', '.join(WINDOWS)}")
    return Plan(
        qps=qps,
        window=window,
        tasks=options.tasks,
        max_in_flight=options.max_in_flight,
        latency_seconds=options.latency,
        before_seconds=options.before,
        stay_seconds=options.stay,
        after_seconds=options.after,
        part=options.part,
    )


if __name__ == "__main__":
    sys.exit(main())
