"""What the provider costs the parts of Airflow that only look at it: milliseconds, each in a fresh process.

Every command and component asks a provider for its `get_provider_info`; the DAG processor imports the file of
each DAG, and with it the operators that it names. Airflow itself is imported before the clock starts. Beside
ours: the amazon provider, and a DAG of as many tasks of its own.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.benchmarks.rows import Row, Size

ROOT = Path(__file__).resolve().parents[2]
TIMES = {"small": 3, "full": 15}
INFO = """
import time, airflow
began = time.perf_counter()
from {module} import get_provider_info
get_provider_info()
print(1000 * (time.perf_counter() - began))
"""
DAG_FILE = """
import time, airflow.sdk
began = time.perf_counter()
exec(compile(open({path!r}).read(), {path!r}, "exec"), {{"__name__": "dag"}})
print(1000 * (time.perf_counter() - began))
"""
CASES = {
    "get_provider_info, ours": INFO.format(module="airflow_provider_jdocr.get_provider_info"),
    "get_provider_info, amazon": INFO.format(module="airflow.providers.amazon.get_provider_info"),
    **{
        f"DAG file, {path.stem}": DAG_FILE.format(path=str(path))
        for path in sorted((ROOT / "dags").glob("*.py"))
    },
    "DAG file, three tasks of amazon": DAG_FILE.format(path=str(Path(__file__).with_name("amazon_dag.py"))),
}


def run(size: Size, seed: int, say: Callable[[str], None]) -> Iterator[Row]:
    for case, program in CASES.items():
        say(case)
        _milliseconds(program)  # the first one compiles what has not been imported here before
        all_ms = [_milliseconds(program) for _ in range(TIMES[size])]
        yield {"case": case, "median_ms": round(statistics.median(all_ms), 1), "all_ms": all_ms}


def _milliseconds(program: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return round(float(done.stdout.splitlines()[-1]), 2)
