"""The parts of an Airflow, each a process group of its own that may be killed and started again."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.demo.services import end

NAMES = ("api-server", "scheduler", "dag-processor", "triggerer")


class Part:
    """One long-running `airflow` command. `log` is where its output goes, over all its lives."""

    def __init__(self, name: str, log: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        self._env = dict(env)
        self._lives: list[subprocess.Popen[bytes]] = []

    @property
    def pid(self) -> int:
        return self._lives[-1].pid

    @property
    def started(self) -> bool:
        return bool(self._lives)

    @property
    def alive(self) -> bool:
        return self._lives[-1].poll() is None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self._lives.append(
                subprocess.Popen(
                    [sys.executable, "-m", "airflow", self.name],
                    stdout=output,
                    stderr=output,
                    stdin=subprocess.DEVNULL,
                    env=self._env,
                    start_new_session=True,
                )
            )

    def members(self) -> set[int]:
        """All processes of its groups, those of earlier lives too."""
        groups = {life.pid for life in self._lives}
        return {pid for pid in _processes() if _group_of(pid) in groups}

    def kill(self) -> None:
        """kill -9 of the process alone: what it started lives on."""
        os.kill(self.pid, signal.SIGKILL)
        self._lives[-1].wait()

    def kill_with_all_its_children(self) -> None:
        """kill -9 of the whole group, as when its machine is lost."""
        os.killpg(self.pid, signal.SIGKILL)
        self._lives[-1].wait()

    def ask_to_stop(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGTERM)

    def close(self) -> None:
        """Ends every life of it, and what those left behind."""
        for life in self._lives:
            end(life)


def _processes() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


@contextmanager
def parts(folder: Path, env: Mapping[str, str]) -> Iterator[dict[str, Part]]:
    """All parts, started; nothing of them runs on afterwards."""
    made = {name: Part(name, folder / f"{name}.log", env) for name in NAMES}
    try:
        for part in made.values():
            part.start()
        yield made
    finally:
        started = [part for part in made.values() if part.started]
        for part in started:
            part.ask_to_stop()
        for part in started:
            part.close()
