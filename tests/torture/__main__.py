"""`make torture`: many trials, several at a time, and a table of what they came to.

    python -m tests.torture --trials 1000 --seed 7
    python -m tests.torture --repeat 7:123:sqlite      one of them again, and its event log is kept

The exit code is 0 when the books of all trials balanced. What is kept of one that did not (its plan, its
event log, every row of its databases) is in build/torture/.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from tests.torture.draw import Database, Name
from tests.torture.report import Result, as_json, kinds, markdown
from tests.torture.servers import available
from tests.torture.slots import folder, run

KEPT = Path(__file__).resolve().parents[2] / "build" / "torture"
PROGRESS_EVERY_SECONDS = 10.0
LONGEST_STORY = 6_000
"""Characters of what happened that are shown of a trial; the event log has it all."""


def main(argv: Sequence[str]) -> int:
    options = _arguments().parse_args(argv)
    names = [Name.of(each) for each in options.repeat or ()] or _names(options)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    began = time.monotonic()
    show = _Progress(len(names)).show
    results = run(names, options.jobs, kept=KEPT, keep_all=bool(options.repeat), show=show)
    seconds = round(time.monotonic() - began, 1)
    command = " ".join(["python -m tests.torture", *argv])
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(as_json(results, command=command, seconds=seconds), indent=1))
    print(f"\n{markdown(results)}\nFaults that came about: {kinds(results)}.")
    print(f"\n{command}: {seconds:.0f} s; figures: {options.json}")
    return _verdict(results)


class _Progress:
    """A line now and then: done, rate, faults so far, violations. What is violated is said at once."""

    def __init__(self, trials: int) -> None:
        self._trials = trials
        self._began = self._spoke = time.monotonic()
        self._results: list[Result] = []

    def show(self, done: Result) -> None:
        self._results.append(done)
        if done.violations:
            shown = "\n  ".join(done.violations[:5])
            said = f"VIOLATED {done.name} ({', '.join(done.faults)})\n  {shown}\n{done.story[:LONGEST_STORY]}"
            print(said, flush=True)
        now = time.monotonic()
        if now - self._spoke >= PROGRESS_EVERY_SECONDS:
            self._spoke = now
            self._say(now - self._began)

    def _say(self, seconds: float) -> None:
        done = len(self._results)
        rate = done / seconds
        print(
            f"{done} of {self._trials} trials, {rate:.2f} a second, "
            f"{(self._trials - done) / rate:.0f} s left; "
            f"{sum(sum(each.struck.values()) for each in self._results)} faults, "
            f"{sum(each.kills for each in self._results)} of them kills, "
            f"{sum(each.billed for each in self._results)} billed, "
            f"{sum(bool(each.violations) for each in self._results)} with a violation",
            flush=True,
        )


def _verdict(results: Sequence[Result]) -> int:
    violated = [each for each in results if each.violations]
    for each in violated:
        print(f"{each.name}: {len(each.violations)} violations, kept in {folder(KEPT, each.name)}")
    return int(bool(violated))


def _names(options: argparse.Namespace) -> list[Name]:
    databases: Sequence[Database] = available() if options.database == "all" else (options.database,)
    return [
        Name(options.seed, number, databases[number % len(databases)]) for number in range(options.trials)
    ]


def _arguments() -> argparse.ArgumentParser:
    about = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=about)
    add = parser.add_argument
    add("--trials", type=int, default=1000)
    add("--seed", type=int, default=1)
    add("--database", choices=("all", *get_args(Database)), default="all", help="all: those that are here")
    add("--jobs", type=int, default=6, help="trials at a time; they mostly sleep")
    add("--repeat", nargs="+", metavar="NAME", help="only these trials, as seed:number:database")
    add("--json", type=Path, default=KEPT / "result.json", help="where the figures of every trial go")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
