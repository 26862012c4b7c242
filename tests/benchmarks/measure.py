"""Time and memory of this process alone: what a database, a storage or a service uses is not in it."""

from __future__ import annotations

import gc
import multiprocessing
import resource
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


def apart(work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Does it in a process of its own that has done nothing before."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *args, **kwargs).result()


@dataclass(slots=True)
class Used:
    """Filled in when the block of `measuring` has ended."""

    cpu_seconds: float = 0.0
    seconds: float = 0.0


@contextmanager
def measuring() -> Iterator[Used]:
    """What the block uses, all threads of this process together."""
    gc.collect()
    used, began, cpu = Used(), time.perf_counter(), _cpu_seconds()
    yield used
    used.cpu_seconds, used.seconds = _cpu_seconds() - cpu, time.perf_counter() - began


def peak_megabytes() -> float:
    """The most memory that this process has held so far. `ru_maxrss` would be its parent's, where that had
    more.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Probe:
    """Which part of the work the processor's time goes to, over all threads."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()
        self._lock = threading.Lock()

    def timed(self, part: str, function: Callable[_P, _T]) -> Callable[_P, _T]:
        def timed(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            began = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                taken = time.thread_time() - began
                with self._lock:
                    self.seconds[part] += taken
                    self.calls[part] += 1

        return timed

    def stream(self, part: str, items: Iterator[_T]) -> Iterator[_T]:
        """The same items; the time that it takes to get them counts."""
        following = self.timed(part, lambda: next(items, None))
        while (item := following()) is not None:
            yield item

    def around(self, part: str, inner: Any, *, apart: bool = False) -> Any:
        """The same object, its methods timed; `apart`: each as a part of its own."""
        return _Timed(self, part, inner, apart)


class _Timed:
    def __init__(self, probe: Probe, part: str, inner: Any, apart: bool) -> None:
        self._probe, self._part, self._inner, self._apart = probe, part, inner, apart

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found
        return self._probe.timed(f"{self._part}.{name}" if self._apart else self._part, found)
