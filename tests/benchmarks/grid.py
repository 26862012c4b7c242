"""The pacing's decisions in virtual time: every rate with every latency, jitter, way to count and number of
tasks.

What is counted are the calls from the second minute on, as `tests.rate.virtual` plays them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import product

from airflow_provider_jdocr.core.rate import HORIZON_SECONDS
from airflow_provider_jdocr.server.limits import WINDOWS
from tests.benchmarks.rows import Row, Size
from tests.rate.virtual import Scene, play, share, turned_away

QPS = {"small": (2, 10), "full": (2, 10, 50, 200)}
LATENCIES_SECONDS = (0.2, 1.0, 3.0)
JITTERS_SECONDS = (0.0, 0.02, 0.08)
TASKS = (1, 8)
WARM_UP_SECONDS = 60.0
SECONDS = {"small": 120.0, "full": 300.0}


def run(size: Size, seed: int, say: Callable[[str], None]) -> Iterator[Row]:
    for qps, window in product(QPS[size], WINDOWS):
        say(f"{qps} QPS, {window}")
        for latency, jitter, tasks in product(LATENCIES_SECONDS, JITTERS_SECONDS, TASKS):
            scene = Scene(
                qps=qps,
                window=window,
                tasks=tasks,
                threads=threads(qps, latency, tasks),
                latency_seconds=latency,
                jitter_seconds=jitter,
                seconds=SECONDS[size],
                seed=seed,
            )
            yield cell(scene)


def threads(qps: float, latency_seconds: float, tasks: int) -> int:
    """As many as keep the rate: a call holds its thread while it waits for its slot and for its answer."""
    return 1 + math.ceil(1.5 * qps * (latency_seconds + HORIZON_SECONDS) / tasks)


def cell(scene: Scene) -> Row:
    calls = play(scene)
    return {
        "qps": scene.qps,
        "window": scene.window,
        "latency": scene.latency_seconds,
        "jitter": scene.jitter_seconds,
        "tasks": scene.tasks,
        "threads": scene.threads,
        "share": round(share(calls, scene.qps, WARM_UP_SECONDS, scene.seconds), 4),
        "over": round(turned_away(calls, WARM_UP_SECONDS, scene.seconds), 5),
    }
