"""``python -m tests.benchmarks``: runs benchmarks, and keeps what they measure as JSON lines."""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.benchmarks import rows, tables
from tests.rate.report import progress

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "build" / "bench"
PUBLISHED = ROOT / "docs" / "measured"
DRAWN = ROOT / "docs" / "images"
HERE = ("grid", "rate", "cpu", "memory", "rerun", "scale", "loading", "service", "imports", "kill")
IN_AIRFLOW = ("mapped", "sensor")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    add = parser.add_argument
    names = ", ".join((*HERE, *IN_AIRFLOW))
    add("names", nargs="*", metavar="NAME", help=f"of {names} [all but {', '.join(IN_AIRFLOW)}]")
    add("--size", choices=("small", "full"), default="full", help="small: to see that it works [full]")
    add("--seed", type=int, default=1, help="of what is drawn by chance [1]")
    add("--publish", action="store_true", help="takes full runs that are kept over into docs/measured")
    options = parser.parse_args(argv)
    if unknown := set(options.names) - {*HERE, *IN_AIRFLOW}:
        parser.error(f"{', '.join(sorted(unknown))} is none of {names}")
    if options.publish:
        return publish(options.names or (*HERE, *IN_AIRFLOW))
    command = " ".join(["python -m tests.benchmarks", *(sys.argv[1:] if argv is None else argv)])
    with tempfile.TemporaryDirectory(prefix="jdocr-bench-") as home:
        # Nothing of the caller's Airflow has a part in this, and loopback is not reached through a proxy.
        os.environ |= {
            "AIRFLOW_HOME": home,
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        for name in options.names or HERE:
            measure(name, options.size, options.seed, command, progress())
    return 0


def measure(name: str, size: rows.Size, seed: int, command: str, say: Callable[[str], None]) -> None:
    found = importlib.import_module(f"tests.benchmarks.{name}").run(
        size, seed, lambda text: say(f"{name}: {text}")
    )
    rows.keep(KEPT / f"{name}.jsonl", rows.head(name, size, seed, command), found)


def publish(names: Sequence[str]) -> int:
    """Rows, and their pictures. Runs of small size show that a benchmark works and nothing else."""
    for name in names:
        kept = KEPT / f"{name}.jsonl"
        if kept.exists() and rows.read(kept).head["size"] == "full":
            PUBLISHED.mkdir(exist_ok=True)
            shutil.copyfile(kept, PUBLISHED / kept.name)
            if name in tables.CHARTS:
                charts = importlib.import_module("tests.benchmarks.charts")
                charts.draw(name, rows.read(kept), DRAWN / f"bench_{name}.svg")
            sys.stderr.write(f"{name}: published\n")
        else:
            sys.stderr.write(f"{name}: there is no full run in {KEPT.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
