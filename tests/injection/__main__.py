"""Error injection: ``python -m tests.injection --invoices 5400 --seed 1``.

Correct invoices of every kind are answered by both endpoints, with and without the QR code of the picture;
then every mistake that OCR makes is made in every field, one at a time. What is printed: the share of
mistakes after which a row goes to review, by field and kind of mistake; how often a proposal is right; and
how many of the untouched invoices go to review. Table and missed mistakes are kept below ``build/injection``.

The exit code is 0 when every goal was reached.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from tests.injection.run import Tally, run, table

KEPT = Path(__file__).resolve().parents[2] / "build" / "injection"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.injection", description=__doc__)
    parser.add_argument("--invoices", type=int, default=5_400, help="nine kinds take turns")
    parser.add_argument("--seed", type=int, default=1, help="other invoices, other mistakes")
    arguments = parser.parse_args()
    began, tally = time.monotonic(), Tally()
    for number in range(arguments.invoices):
        run(arguments.seed * 100_000 + number, tally)
        if number % 500 == 499:
            print(f"{number + 1} invoices, {tally.made} mistakes", file=sys.stderr, flush=True)
    text = table(tally) + f"\n{time.monotonic() - began:.0f} s, seed {arguments.seed}\n"
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / "table.md").write_text(text, encoding="utf-8")
    missed = json.dumps(tally.missed, ensure_ascii=False, indent=1)
    (KEPT / "missed.json").write_text(missed, encoding="utf-8")
    print(text)
    return int(bool(tally.short_of()))


if __name__ == "__main__":
    sys.exit(main())
