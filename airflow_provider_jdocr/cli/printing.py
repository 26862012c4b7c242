"""Rows for people and for programs: a plain table, CSV, or JSON, on standard output."""

import csv
import json
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
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


def planned(plan: Mapping[str, Any]) -> str:
    """A plan, as `Plan.to_dict` gives it: images by folder, then time, then money, then what to know."""
    folders = plan["folders"]
    columns = tuple(folders[0]) if folders else ("folder", "images")
    whole = {name: plan.get(name, "total") for name in columns}
    times = [each | {"duration": duration(each["seconds"])} for each in plan["schedules"]]
    parts = [
        table([*folders, whole] if len(folders) > 1 else [whole], columns),
        table(times, ("name", "qps", "daily_limit", "days", "duration", "ends_at")),
    ]
    if plan["purchases"]:
        parts.append(table(list(map(_bought, plan["purchases"])), ("packs", "calls", "yuan")))
    return "\n\n".join((*parts, "\n".join(_last_lines(plan))))


def duration(seconds: float) -> str:
    """The two largest units: 5 d 21 h, 3 h 20 min, 12 s."""
    minutes, hours, days = (int(seconds // size) for size in (60, 3600, 86_400))
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {seconds % 60:.0f} s" if minutes else f"{seconds:.0f} s"


def _bought(purchase: Mapping[str, Any]) -> dict[str, Any]:
    packs = " + ".join(f"{count} x {name}" for name, count in purchase["packs"].items())
    return {**purchase, "packs": packs}


def _last_lines(plan: Mapping[str, Any]) -> Iterator[str]:
    if plan["rejected_by_code"]:
        yield "rejected: " + ", ".join(f"{count} {code}" for code, count in plan["rejected_by_code"].items())
    if plan["price_per_call"] is not None:
        yield (
            f"at {plan['price_per_call']} yuan a call: {plan['yuan']} yuan at most, "
            f"{plan['yuan_at_least']} at least; {plan['yuan_saved']} saved by answers that are there"
        )
    yield from plan["notes"]


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
