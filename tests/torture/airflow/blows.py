"""What can be done to a running installation. A blow that cannot fall yet waits for its moment."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.databases import Server
from tests.system.installation import Installation, Run
from tests.system.s3_door import Fault
from tests.torture.airflow.plan import KILLS, Blow

Undo = Callable[[], None]


@dataclass(slots=True)
class Target:
    """What the blows of one trial fall on. `server`: that of the ledger, where it has one."""

    airflow: Installation
    runs: list[Run]
    server: Server | None
    random: Random
    ledger_url: str
    sending: Callable[[str], int]
    """How many calls the ledger at this URL holds to be on their way."""
    in_doubt_at_kills: list[tuple[int, int]] = field(default_factory=list)
    """For each kill: calls on their way, and tasks that were running."""

    def recognising(self) -> list[tuple[Run, dict[str, Any]]]:
        """The recognising tasks that have a process now."""
        tasks = [(run, run.task("recognise")) for run in self.runs]
        return [
            (run, task)
            for run, task in tasks
            if task["state"] == "running" and task["pid"] and _alive(task["pid"])
        ]

    def somebody_waits(self) -> bool:
        return any(run.task("recognise")["state"] == "deferred" for run in self.runs)


def strike(blow: Blow, target: Target) -> Undo | None:
    """Lets a blow fall. Gives what brings things in order again; None: its moment has not come."""
    running = target.recognising()
    if blow.kind in ("kill task", "kill worker", "stop task") and not running:
        return None
    if blow.kind == "kill triggerer" and not target.somebody_waits():
        return None
    undo: Undo = _BLOWS[blow.kind](blow, target, [task["pid"] for _, task in running])
    if blow.kind in KILLS:
        target.in_doubt_at_kills.append((target.sending(target.ledger_url), len(running)))
    return undo


def _nothing() -> None:
    pass


def _kill_task(blow: Blow, target: Target, pids: list[int]) -> Undo:
    _kill(target.random.choice(pids))
    return _nothing


def _kill_worker(blow: Blow, target: Target, pids: list[int]) -> Undo:
    """The supervisor dies; its task is an orphan that nobody hears any more."""
    pid = target.random.choice(pids)
    supervisor = parent_of(pid)
    # An orphan of an earlier blow has no supervisor; its parent is none of ours.
    if supervisor in target.airflow.parts["scheduler"].members():
        _kill(supervisor)
    if blow.how == "with":
        _kill(pid)
    return _nothing


def _kill_scheduler(blow: Blow, target: Target, pids: list[int]) -> Undo:
    part = target.airflow.parts["scheduler"]
    part.kill()
    return part.start


def _lose_the_host(blow: Blow, target: Target, pids: list[int]) -> Undo:
    part = target.airflow.parts["scheduler"]
    part.kill_with_all_its_children()
    for pid in pids:
        _kill(pid)
    return part.start


def _restart_ledger(blow: Blow, target: Target, pids: list[int]) -> Undo:
    assert target.server is not None
    target.server.stop()
    return target.server.start


def _s3_fails(blow: Blow, target: Target, pids: list[int]) -> Undo:
    door = target.airflow.s3
    fault: Fault = blow.how  # type: ignore[assignment]  # drawn from its values
    door.fault = fault

    def undo() -> None:
        door.fault = None

    return undo


def _stop_task(blow: Blow, target: Target, pids: list[int]) -> Undo:
    """As an operating system that is shut down asks: SIGTERM, which the task may follow in order."""
    with suppress(ProcessLookupError):
        os.kill(target.random.choice(pids), signal.SIGTERM)
    return _nothing


def _kill_triggerer(blow: Blow, target: Target, pids: list[int]) -> Undo:
    part = target.airflow.parts["triggerer"]
    part.kill_with_all_its_children()
    return part.start


def _kill_api_server(blow: Blow, target: Target, pids: list[int]) -> Undo:
    """Over when it answers again: without it, nobody here can see what happens either."""
    part = target.airflow.parts["api-server"]
    part.kill_with_all_its_children()
    time.sleep(blow.seconds)
    part.start()
    target.airflow.await_api()
    return _nothing


_BLOWS: dict[str, Callable[[Blow, Target, list[int]], Undo]] = {
    "kill task": _kill_task,
    "kill worker": _kill_worker,
    "kill scheduler": _kill_scheduler,
    "lose the host": _lose_the_host,
    "restart ledger": _restart_ledger,
    "S3 fails": _s3_fails,
    "service fails": lambda blow, target, pids: _nothing,  # its faults are queued from the beginning
    "stop task": _stop_task,
    "kill triggerer": _kill_triggerer,
    "kill API server": _kill_api_server,
}


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _alive(pid: int) -> bool:
    try:
        return _status(pid)[0] != "Z"
    except OSError:
        return False


def parent_of(pid: int) -> int:
    return int(_status(pid)[1])


def _status(pid: int) -> list[str]:
    """State, parent and so on of a process, behind its name, which may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
