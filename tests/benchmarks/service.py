"""The local OCR service beside raw rapidocr on the same cores, and its memory over hundreds of pictures.

``python -m tests.benchmarks.service`` prints a row of JSON for each thing measured. Pictures are drawn, each
another one, in chunks; each of the first ten is read by all that are compared, one after the other, so that
whatever else the machine does falls on all of them alike:

rapidocr      as it comes: one process, one picture after the other, its own threads on all cores
rapidocr xN   the most that the cores can give: a process of one thread each, with the service's parameters
service       this package's, started as its page says, with as many callers as it reads pictures at once

Processor seconds are there beside the pictures a second: they stay what they are on a machine that is busy.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tests.demo.services import free_port, process
from tests.rate.report import progress
from tests.server.app_client import KEY, OCR, SECRET, send_alone, signed, wait_for
from tests.specimens.draw import draw

Say = Callable[[str], None]
PICTURES = {"small": 12, "full": 300}
COMPARED = 100
"""Pictures that all read; what comes after them, the service reads alone, for its memory."""
CHUNK = 10
SETTLED = 30
"""Pictures after which memory should not grow any more."""
CORES = min(2, os.cpu_count() or 1)
TIMEOUT_SECONDS = 600.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Reader:
    """One of those that are compared: how it reads a chunk, and the processes that do it."""

    name: str
    read: Callable[[Sequence[bytes]], object]
    pids: Callable[[], Sequence[int]]


def run(size: str, seed: int, say: Say, count: int | None = None) -> Iterator[Mapping[str, Any]]:
    wanted = count or PICTURES[size]
    compared = min(wanted, COMPARED)
    seconds: defaultdict[str, float] = defaultdict(float)
    cpu: defaultdict[str, float] = defaultdict(float)
    curve: list[tuple[int, float]] = []
    with ExitStack() as stack:
        readers = [*_raw(stack), _service(stack)]
        for reader in readers:
            say(f"{reader.name} warms up")
            reader.read([draw(seed - 1).picture] * CORES)
        for first in range(0, wanted, CHUNK):
            chunk = [draw(seed + first + number).picture for number in range(min(CHUNK, wanted - first))]
            for reader in readers if first < compared else readers[-1:]:
                before, began = _cpu_seconds(reader.pids()), time.monotonic()
                reader.read(chunk)
                if first < compared:
                    seconds[reader.name] += time.monotonic() - began
                    cpu[reader.name] += _cpu_seconds(reader.pids()) - before
            curve.append((first + len(chunk), round(sum(map(_megabytes, readers[-1].pids())), 1)))
            say(f"{curve[-1][0]} pictures, the service holds {curve[-1][1]:.0f} MB")
    for reader in readers:
        yield {
            "case": reader.name,
            "pictures": compared,
            "cores": CORES,
            "pictures_a_second": round(compared / seconds[reader.name], 3),
            "cpu_seconds_a_picture": round(cpu[reader.name] / compared, 3),
            "share_of_pictures_a_second": round(seconds[readers[0].name] / seconds[reader.name], 3),
        }
    best = min(seconds[reader.name] for reader in readers[:-1])
    yield {"case": "service of the best raw one", "share": round(best / seconds["service"], 3)}
    settled = [megabytes for count, megabytes in curve if count >= SETTLED]
    growth = round(settled[-1] - settled[0], 1) if settled else None
    yield {"case": "memory of the service", "megabytes": curve, "growth_after_30_mb": growth}


# --- raw rapidocr


def _raw(stack: ExitStack) -> Iterator[Reader]:
    for name, workers, start in (
        ("rapidocr", 1, _as_it_comes),
        (f"rapidocr x{CORES}", CORES, _as_we_have_it),
    ):
        context = get_context("spawn")
        pool = stack.enter_context(ProcessPoolExecutor(workers, context, start))

        def read(chunk: Sequence[bytes], pool: ProcessPoolExecutor = pool) -> object:
            return list(pool.map(_read, chunk))

        def members(pool: ProcessPoolExecutor = pool) -> Sequence[int]:
            return list(pool._processes)  # noqa: SLF001 - there is no public name for it

        yield Reader(name, read, members)


_reader: Any = None


def _as_it_comes() -> None:
    global _reader
    from rapidocr import RapidOCR

    _reader = RapidOCR(params={"Global.log_level": "critical"})


def _as_we_have_it() -> None:
    global _reader
    from airflow_provider_jdocr.server.recognise import _loaded

    _reader = _loaded()


def _read(picture: bytes) -> int:
    return len(_reader(picture).txts or ())


# --- the service


def _service(stack: ExitStack) -> Reader:
    home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jdocr-service-")))
    port = free_port()
    module = [sys.executable, "-m", "airflow_provider_jdocr.server", "--port", str(port)]
    options = ["--qps", "0", "--daily-limit", "-1", "--workers", str(CORES)]
    env = {**os.environ, "JDOCR_SERVER_KEY": KEY, "JDOCR_SERVER_SECRET": SECRET}
    running = stack.enter_context(process(module + options, home / "log", env))
    url = f"http://127.0.0.1:{port}"
    while running.poll() is None:
        try:
            wait_for(url, lambda: running.poll() is None)
            break
        except AssertionError:  # it loads its models, and the machine may be busy
            continue
    callers = stack.enter_context(ThreadPoolExecutor(CORES))

    def call(picture: bytes) -> None:
        answer = send_alone(signed(OCR, url, picture, time.time()), TIMEOUT_SECONDS)
        assert answer.json()["code"] == "10000", answer.text

    return Reader("service", lambda chunk: list(callers.map(call, chunk)), lambda: [running.pid])


def _cpu_seconds(pids: Sequence[int]) -> float:
    stats = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids)
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / _TICKS


def _megabytes(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.service", description=__doc__)
    parser.add_argument("--size", choices=tuple(PICTURES), default="full", help="small: to see that it works")
    parser.add_argument("--count", type=int, help="pictures [full: 300]")
    parser.add_argument("--seed", type=int, default=1, help="of the pictures [1]")
    options = parser.parse_args(argv)
    for row in run(options.size, options.seed, progress(), options.count):
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
