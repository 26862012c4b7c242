"""What the processes of a trial share besides ledger and service: the clocks, a switch, their journals.

Time. The world's clock is the machine's plus what was skipped. It is skipped by the conductor alone, and only
when every process that is alive waits with nothing in flight: an hour of waiting takes no time and ends no
lease of a call that is on its way. Clocks that are put wrong are put wrong on top of it.

A journal is a pipe: what was written stays when the writer is killed.
"""

from __future__ import annotations

import json
import mmap
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PROCESSES = 64
_SKIPPED, _DATABASE, _WORKER, _SERVICE, _FULL, _WAITS = range(6)


class World:
    """Shared by forking. Each cell has one writer: the conductor, or the process whose wait it is."""

    def __init__(self, skipped: float = 0.0) -> None:
        self._cells = memoryview(mmap.mmap(-1, 8 * (_WAITS + PROCESSES))).cast("d")
        self._cells[_SKIPPED] = skipped

    def now(self) -> float:
        return time.time() + self._cells[_SKIPPED]

    @property
    def database_ahead(self) -> float:
        """By how much the database's clock is ahead of the machine's."""
        return self._cells[_SKIPPED] + self._cells[_DATABASE]

    @property
    def service_ahead(self) -> float:
        return self._cells[_SKIPPED] + self._cells[_SERVICE]

    def worker_now(self) -> float:
        return self.now() + self._cells[_WORKER]

    def skip(self, seconds: float) -> None:
        self._cells[_SKIPPED] += seconds

    def put_wrong(self, whose: str, seconds: float) -> None:
        self._cells[{"database": _DATABASE, "worker": _WORKER, "service": _SERVICE}[whose]] += seconds

    def put_right(self) -> None:
        """Those clocks that a caller must have right; the database's stays as it is."""
        self._cells[_WORKER] = self._cells[_SERVICE] = 0.0

    @property
    def disk_is_full(self) -> bool:
        return self._cells[_FULL] > 0

    @disk_is_full.setter
    def disk_is_full(self, full: bool) -> None:
        self._cells[_FULL] = float(full)

    def waits_until(self, process: int) -> float:
        """The moment that a process waits for; 0 while it is at work."""
        return self._cells[_WAITS + process % PROCESSES]

    def wait(self, process: int, seconds: float, ended: threading.Event) -> None:
        """Lets `seconds` of the world pass, in which the process has nothing in flight."""
        cell, until = _WAITS + process % PROCESSES, self.now() + seconds
        self._cells[cell] = until
        while self.now() < until and not ended.wait(0.003):
            pass
        self._cells[cell] = 0.0

    def forget(self, process: int) -> None:
        """A process that was killed waits for nothing."""
        self._cells[_WAITS + process % PROCESSES] = 0.0


@dataclass(frozen=True, slots=True)
class Line:
    """What a process noted, and when, by the clock that all processes of a machine share."""

    process: int
    at: float
    what: str
    more: Mapping[str, Any]


class Journal:
    """The writing end."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def __call__(self, what: str, **more: Any) -> None:
        line = json.dumps([time.monotonic(), what, more], default=str).encode() + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self._pipe, line) :]


class Reader:
    """The reading end, which never waits. A line that was being written at a kill is left out."""

    def __init__(self, process: int, pipe: int) -> None:
        os.set_blocking(pipe, False)
        self._process, self.pipe = process, pipe
        self._rest = b""

    def lines(self) -> list[Line]:
        found: list[Line] = []
        while chunk := self._read():
            *whole, self._rest = (self._rest + chunk).split(b"\n")
            found += [Line(self._process, *json.loads(line)) for line in whole]
        return found

    def close(self) -> None:
        os.close(self.pipe)

    def _read(self) -> bytes:
        try:
            return os.read(self.pipe, 1 << 16)
        except BlockingIOError:
            return b""
