"""Rows for people and for programs: a plain table, CSV, or JSON, on standard output."""

import csv
import json
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any


def show(rows: Sequence[Mapping[str, Any]], output: str, columns: Sequence[str]) -> None:
    """Prints rows that have these columns."""
    if output == "json":
        _say(json.dumps([dict(row) for row in rows], ensure_ascii=False, indent=2))
    elif output == "csv":
        writer = csv.DictWriter(sys.stdout, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        _say(table(rows, columns))


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Columns under their names, numbers to the right."""
    cells = [list(columns), *([_text(row[name]) for name in columns] for row in rows)]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    right = [bool(rows) and all(_is_number(row[name]) for row in rows) for name in columns]
    padded = ([_padded(*cell) for cell in zip(line, widths, right, strict=True)] for line in cells)
    return "\n".join("  ".join(line).rstrip() for line in padded)


def _text(value: object) -> str:
    if value is None:
        return "-"
    # A name of a file is anybody's text: nothing in it may move the cursor.
    return "".join(sign if sign.isprintable() else "?" for sign in str(value))


def _is_number(value: object) -> bool:
    return value is None or str(value).replace(".", "", 1).lstrip("-").isdigit()


def _width(text: str) -> int:
    """Chinese takes two places."""
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)


def _padded(text: str, width: int, right: bool) -> str:
    blanks = " " * (width - _width(text))
    return blanks + text if right else text + blanks


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
