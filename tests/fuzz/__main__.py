"""Hostile input at full size: ``python -m tests.fuzz replies --count 1000000 --seed 1``.

A run goes on in pieces, each a process of its own that begins with the seeds of the one before: an input that
kills the process or never ends is a failure like any other, and memory is measured from a clean start. Inputs
that failed are kept below ``build/fuzz`` in a readable form; ``--replay FILE`` judges one again.

The exit code is 0 when every outcome was a declared one.
"""

from __future__ import annotations

import argparse
import json
import logging
import marshal
import mmap
import multiprocessing
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.fuzz.run import Failure, Given, Tally, Target, fuzz, kept, replay

KEPT = Path(__file__).resolve().parents[2] / "build" / "fuzz"
_LARGEST_LAST = 64 * 2**20
"""Bytes kept of the input that is judged at the moment, for whoever finds the process dead."""

# Name → what makes the target, how many inputs a full run has, how many a piece.
TARGETS: dict[str, tuple[str, int, int]] = {
    "replies": ("replies:Replies", 1_000_000, 50_000),
    "images": ("images:Images", 100_000, 10_000),
    "pictures": ("images:Pictures", 20_000, 5_000),
    "codes": ("codes:Codes", 1_000_000, 250_000),
    "uris": ("uris:Uris", 100_000, 10_000),
    "connections": ("connections:Connections", 100_000, 25_000),
    "wire": ("wire:Wire", 20_000, 5_000),
    "requests": ("requests:Requests", 20_000, 5_000),
    "warehouse": ("warehouse:on_every_database", 1_000, 250),
}


@contextmanager
def opened(name: str) -> Iterator[Target]:
    """The target, with the servers that it needs."""
    module, _, maker = TARGETS[name][0].partition(":")
    made = getattr(import_module(f"tests.fuzz.{module}"), maker)()
    with made if isinstance(made, AbstractContextManager) else nullcontext(made) as target:
        yield target


def main() -> int:
    arguments = _parser().parse_args()
    warnings.simplefilter("error", FutureWarning)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # it warns of what it makes the best of
    logging.disable(logging.CRITICAL)
    if arguments.replay:
        with opened(arguments.target) as target:
            print(replay(target, arguments.replay.read_text(encoding="utf-8")))
        return 0
    names = list(TARGETS) if arguments.target == "all" else [arguments.target]
    failed = 0
    for name in names:
        count = arguments.count or TARGETS[name][1]
        tally = in_pieces(name, count, arguments.seed, arguments.piece_seconds)
        report(name, arguments.seed, tally)
        failed += tally.failed
    return int(failed > 0)


def in_pieces(name: str, count: int, seed: int, most_seconds: float) -> Tally:
    """``count`` inputs, a process for each piece of them, none longer than so many seconds."""
    piece_size, whole, began = TARGETS[name][2], Tally(), time.monotonic()
    number = 0
    while whole.inputs < count and number * piece_size < count:
        size = min(piece_size, count - number * piece_size)
        piece = _piece(name, size, f"{seed}/{number}", whole if number else None, most_seconds)
        whole.add(piece)
        for at, failure in enumerate(piece.failures):
            keep(name, f"{seed}-{number}-{at}", failure)
        number += 1
        print(f"{name}: {whole.inputs} inputs, {whole.failed} failed", file=sys.stderr, flush=True)
    whole.wall_seconds = time.monotonic() - began
    return whole


def _piece(name: str, size: int, seed: str, known: Tally | None, most_seconds: float) -> Tally:
    last = mmap.mmap(-1, _LARGEST_LAST)
    ours, theirs = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_run_piece, args=(name, size, seed, known, last, theirs))
    process.start()
    theirs.close()
    if not ours.poll(most_seconds):
        process.kill()
        process.join()
        return _lost(known, last, f"a piece ({seed}) was not done after {most_seconds:g} s")
    try:
        tally: Tally = ours.recv()
    except EOFError:
        process.join()
        return _lost(known, last, f"the process ended with {process.exitcode} (piece {seed})")
    process.join()
    return tally


def _run_piece(
    name: str, size: int, seed: str, known: Tally | None, last: mmap.mmap, answer: Connection
) -> None:
    def remember(given: Given) -> None:
        text = marshal.dumps(given)
        if len(text) <= _LARGEST_LAST:
            last.seek(0)
            last.write(text)

    with opened(name) as target:
        answer.send(fuzz(target, size, seed, known=known, before=remember))


def _lost(known: Tally | None, last: mmap.mmap, said: str) -> Tally:
    """A piece that never came back: one failure, with the input that it was at."""
    tally = Tally(pairs=known.pairs if known else set(), seeds=known.seeds if known else [])
    last.seek(0)
    try:
        given = marshal.loads(last.read())  # noqa: S302 - written by our own child
    except (EOFError, ValueError, TypeError):
        given = None
    tally.fail(-1, given, said)
    return tally


def report(name: str, seed: int, tally: Tally) -> None:
    """The figures of a run as JSON."""
    figures: dict[str, Any] = {
        "target": name,
        "seed": seed,
        "inputs": tally.inputs,
        "undeclared": tally.failed,
        "outcomes": dict(tally.kinds.most_common()),
        "different outcomes": len(tally.pairs),
        "slowest seconds (processor)": round(tally.slowest_seconds, 3),
        "slowest": tally.slowest,
        "memory of one input at most MB": round(tally.grown_megabytes),
        "by": tally.largest,
        "peak MB": round(tally.peak_megabytes),
        "processor seconds": round(tally.cpu_seconds, 1),
        "inputs a processor second": round(tally.inputs / max(tally.cpu_seconds, 0.001)),
        "wall seconds": round(tally.wall_seconds, 1),
    }
    text = json.dumps(figures, ensure_ascii=False, indent=1).encode("utf-8", "backslashreplace").decode()
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(text, flush=True)


def keep(name: str, which: str, failure: Failure) -> None:
    """Writes an input that failed where a person finds it, and says where."""
    KEPT.mkdir(parents=True, exist_ok=True)
    path = KEPT / f"{name}-{which}.txt"
    path.write_text(kept(failure), encoding="utf-8")
    print(f"{path}: {failure.said.strip().splitlines()[-1][:200]}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=[*TARGETS, "all"])
    parser.add_argument("--count", type=int, help="inputs; without it as many as a full run has")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--piece-seconds", type=float, default=3_600.0, help="the longest a piece may take")
    parser.add_argument("--replay", type=Path, help="judge one kept input again")
    return parser


if __name__ == "__main__":
    sys.exit(main())
