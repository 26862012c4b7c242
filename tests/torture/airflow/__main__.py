"""`make torture-airflow`: crash trials through a real Airflow, one after the other, and a search for secrets.

    python -m tests.torture.airflow --trials 30 --seed 7
    python -m tests.torture.airflow --repeat 7:12       one of them again, with what happened when

The exit code is 0 when all books balanced and no secret was found. What is kept of a trial that did not: its
plan and what happened, in build/torture-airflow/.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.databases import Server, fresh_database, has_mariadb, running_mariadb, running_postgres
from tests.system.canaries import Search, everything_searched
from tests.system.installation import EVERYTHING_LOGGED, Installation, installation
from tests.system.leaks import DRIVES, drive
from tests.system.pictures import stub_picture
from tests.torture.airflow.plan import Database, Plan, draw
from tests.torture.airflow.report import Result, as_json, markdown, result
from tests.torture.airflow.trial import Played, play

ROOT = Path(__file__).resolve().parents[3]
KEPT = ROOT / "build" / "torture-airflow"
HASTE: Mapping[str, str] = {
    # A task, a worker or a scheduler that was killed is noticed within seconds.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "10",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "3",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "8",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "5",
    "AIRFLOW__CORE__PARALLELISM": "4",
}


NEVER_ASKED = 1_000_000
"""From here on the pictures are in no trial."""


def main(argv: Sequence[str] | None = None) -> int:
    options = _arguments().parse_args(argv)
    began = time.monotonic()
    # Asked to stop, it ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    KEPT.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        servers = _servers(stack)
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jdocr-trials-")))
        settings = {**HASTE, **EVERYTHING_LOGGED} if options.secrets else HASTE
        airflow = stack.enter_context(installation(home, settings))
        stage = Stage(airflow, servers, options.keep, _warm_up(airflow))
        results = [stage.play(plan) for plan in _plans(options, servers)]
        if results:
            print(f"\n{markdown(results)}", flush=True)
        wasted = _calls_of_a_wrong_secret(airflow, options.listed) if options.listed else None
        search = _search(airflow, servers["postgresql"]) if options.secrets else None
    head = {"command": " ".join(["python -m tests.torture.airflow", *(argv or sys.argv[1:])])}
    seconds = round(time.monotonic() - began, 1)
    found = as_json(
        results,
        **head,
        seconds=seconds,
        wrong_secret={"listed": options.listed, "calls": wasted},
        secrets=search and search.to_dict(),
    )
    (KEPT / "result.json").write_text(json.dumps(found, indent=1, ensure_ascii=False))
    if wasted is not None:
        print(f"A wrong secret and {options.listed} images: {wasted} calls\n")
    if search:
        print(search.markdown())
    print(f"{head['command']}: {seconds:.0f} s; figures: {KEPT / 'result.json'}")
    return int(
        any(each.violations for each in results)
        or bool(search and search.finds)
        or (wasted is not None and wasted > 1)
    )


def _servers(stack: ExitStack) -> dict[Database, Server]:
    servers: dict[Database, Server] = {"postgresql": stack.enter_context(running_postgres())}
    if has_mariadb():
        servers["mysql"] = stack.enter_context(running_mariadb())
    return servers


def _plans(options: argparse.Namespace, servers: Mapping[Database, Server]) -> Iterator[Plan]:
    databases: tuple[Database, ...] = ("sqlite", *servers)
    names = [tuple(map(int, each.split(":"))) for each in options.repeat or ()]
    for seed, number in names or ((options.seed, number) for number in range(options.trials)):
        yield draw(seed, number, databases)


@dataclass(slots=True)
class Stage:
    """Where one trial after the other plays. `keep`: what happened, also in trials without a violation."""

    airflow: Installation
    servers: Mapping[Database, Server]
    keep: bool
    first_bill_after: float

    def play(self, plan: Plan) -> Result:
        with _ledger(plan, self.airflow, self.servers) as url:
            server = self.servers.get(plan.database)
            played = play(plan, self.airflow, url, server, self.first_bill_after)
            done = result(played)
        self.first_bill_after = played.first_bill_after
        if done.violations or self.keep:
            _keep(played, done)
        _show(done)
        return done


def _warm_up(airflow: Installation) -> float:
    """A run before the first trial; gives the seconds that it took."""
    began = time.monotonic()
    images = airflow.put("warm-up", {"a.png": stub_picture(0)})
    states = airflow.trigger("stubborn", images=images).finish(seconds=300)
    assert set(states.values()) == {"success"}, states
    return time.monotonic() - began


def _show(done: Result) -> None:
    blows = ", ".join(f"{count} x {kind}" for kind, count in done.struck.items()) or "no blow"
    print(
        f"{done.trial:>7} {done.database:10} {done.shape:21} {done.policy:6} {done.seconds:6.1f} s  "
        f"{blows}; "
        f"{done.images} images, {done.calls} calls, {done.billed} billed, {done.billed_twice} twice, "
        f"{done.held} held, {done.ends}",
        *(f"\n  VIOLATED {each}" for each in done.violations),
        flush=True,
    )


@contextmanager
def _ledger(plan: Plan, airflow: Installation, servers: Mapping[Database, Server]) -> Iterator[str]:
    if plan.database == "sqlite":
        yield f"sqlite:///{airflow.home}/{plan.name}_ledger.db"
        return
    with fresh_database(servers[plan.database].url) as url:
        yield url


def _keep(played: Played, done: Result) -> None:
    violated = [f"VIOLATED {each}" for each in done.violations]
    told = [json.dumps(played.plan.to_dict(), indent=1, default=str), *violated, *played.events]
    (KEPT / f"{played.plan.name}.log").write_text("\n".join(told) + "\n")


def _calls_of_a_wrong_secret(airflow: Installation, listed: int) -> int:
    """How often the service is called by a task whose secret is wrong and whose prefix holds that many."""
    account = airflow.account("ledger_default") | {"password": "another-secret"}
    airflow.connect(wrong_secret=account)
    pictures = {f"{number:05}.png": stub_picture(NEVER_ASKED + number) for number in range(listed)}
    images = airflow.put("wrong-secret", pictures)
    before = len(airflow.heard())
    run = airflow.trigger("stubborn", images=images, jdocr_conn_id="wrong_secret", max_in_flight=8)
    run.finish(seconds=600)
    manifest = run.manifest()
    assert manifest["inputs"] == manifest["waiting"] == listed, manifest
    return len(airflow.heard()) - before


def _search(airflow: Installation, postgres: Server) -> Search:
    """Drives every failure that has a secret at hand, and looks through all that this Airflow wrote."""
    with fresh_database(postgres.url) as url:
        drive(airflow, list(DRIVES), url)
        return everything_searched(airflow, [url])


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture.airflow", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repeat", nargs="+", metavar="SEED:NUMBER", help="only these trials")
    parser.add_argument("--keep", action="store_true", help="keep what happened in every trial")
    parser.add_argument("--listed", type=int, default=10_000, help="images of the task with a wrong secret")
    parser.add_argument("--no-secrets", dest="secrets", action="store_false", help="no search for secrets")
    return parser


if __name__ == "__main__":
    sys.exit(main())
