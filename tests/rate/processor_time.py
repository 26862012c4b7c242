"""Who uses the processor: the time that the parts of a trial have taken so far, from /proc."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_SECONDS_A_TICK = 1 / os.sysconf("SC_CLK_TCK")
_PARTS: Sequence[tuple[str, Sequence[str]]] = (
    ("tasks", ("airflow worker", "airflow task", "celery", "multiprocessing.spawn")),
    ("API server", ("api_server", "api-server")),
    (
        "scheduler, DAG processor, triggerer",
        ("airflow scheduler", "airflow dag-processor", "airflow triggerer"),
    ),
    ("OCR service", ("listening_service", "airflow_provider_jdocr.server")),
    ("S3", ("moto.server", "s3_door")),
    ("databases", ("postgres", "mariadbd", "redis-server")),
)


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    parent: int
    command: str
    seconds: float
    ended_children_seconds: float

    @classmethod
    def read(cls, folder: Path) -> _Process:
        """Raises OSError when it has ended meanwhile."""
        after_name = (folder / "stat").read_text().rpartition(")")[2].split()
        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        own, children = (sum(map(int, after_name[place : place + 2])) for place in (11, 13))
        seconds = (own * _SECONDS_A_TICK, children * _SECONDS_A_TICK)
        return cls(int(folder.name), int(after_name[1]), command, *seconds)

    def works_in(self, folder: Path) -> bool:
        try:
            return Path(f"/proc/{self.pid}/cwd").readlink() == folder
        except OSError:
            return False

    @property
    def part(self) -> str:
        for part, marks in _PARTS:
            if any(mark in self.command for mark in marks):
                return part
        return "the trial itself"


def processor_seconds(database_folder: Path) -> Mapping[str, float]:
    """Seconds by part, of this process and all that came from it, and of the PostgreSQL server that works in
    that folder, which leaves its parent. Processes that have ended count no more.
    """
    processes = {process.pid: process for process in _all()}
    seconds: defaultdict[str, float] = defaultdict(float)
    for process in processes.values():
        if _is_of(os.getpid(), process, processes) or process.works_in(database_folder):
            seconds[process.part] += process.seconds
    return seconds


def seconds_of_family(pid: int) -> float:
    """Seconds of a process and all that came from it, those that have ended and were waited for as well."""
    processes = {process.pid: process for process in _all()}
    family = (process for process in processes.values() if _is_of(pid, process, processes))
    return sum(process.seconds + process.ended_children_seconds for process in family)


def _all() -> Iterator[_Process]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                yield _Process.read(folder)
            except OSError:
                continue


def _is_of(pid: int, process: _Process, processes: Mapping[int, _Process]) -> bool:
    while process.pid != pid:
        above = processes.get(process.parent)
        if above is None:
            return False
        process = above
    return True
