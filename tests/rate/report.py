"""How the trials of this package say what they found: a Markdown table to read, JSON to keep."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def end_in_order() -> None:
    """A trial that is asked to stop ends what it started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))


def markdown(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def keep(path: Path | None, found: Mapping[str, Any] | Sequence[Any]) -> None:
    """Writes the figures down, where the caller wants them kept."""
    if path:
        path.write_text(json.dumps(found, indent=1) + "\n")


def progress() -> Callable[[str], None]:
    """Says a line on stderr, with the seconds since this was called."""
    began = time.monotonic()

    def say(text: str) -> None:
        sys.stderr.write(f"{time.monotonic() - began:6.0f} s  {text}\n")
        sys.stderr.flush()

    return say
