"""What a benchmark found, as it was found: a file of JSON lines, a head and then a row for each thing
measured.

The head says what was run, on what kind of machine. It names no host, no user and no path: it is published.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import Any, Literal

Size = Literal["small", "full"]
Row = Mapping[str, Any]
PACKAGES = (
    *("apache-airflow", "apache-airflow-providers-amazon", "apache-airflow-providers-http"),
    *("sqlalchemy", "psycopg", "pymysql", "requests", "urllib3", "boto3", "pillow", "moto"),
    *("aiohttp", "aiolimiter", "tenacity", "rapidocr", "onnxruntime"),
)


@dataclass(frozen=True, slots=True)
class Found:
    head: Row
    rows: Sequence[Row]

    def having(self, **values: Any) -> list[Row]:
        """The rows that say this."""
        return [row for row in self.rows if all(row.get(name) == value for name, value in values.items())]

    def the(self, **values: Any) -> Row | None:
        """The first such row, where there is one."""
        return next(iter(self.having(**values)), None)


def keep(path: Path, head: Row, rows: Iterable[Row]) -> None:
    """Writes each row as soon as it is there, under the name `broken_off` until all of them are: nobody takes
    a part for the whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with broken_off(path).open("w", encoding="utf-8") as file:
        for row in chain((head,), rows):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
    broken_off(path).replace(path)


def broken_off(path: Path) -> Path:
    return path.with_suffix(".part.jsonl")


def read(path: Path) -> Found:
    head, *rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return Found(head, rows)


def head(benchmark: str, size: Size, seed: int, command: str) -> Row:
    return {
        "benchmark": benchmark,
        "size": size,
        "seed": seed,
        "command": command,
        "began": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": machine(),
    }


def machine() -> Row:
    """The kind of machine, and the versions of what takes part; a database says its own in the rows."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": os.cpu_count(),
        "memory": f"{memory / 1e9:.0f} GB",
        "processor": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        **{name: known for name in PACKAGES if (known := _version(name))},
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
