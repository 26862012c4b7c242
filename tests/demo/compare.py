"""The rows of the warehouse against the specimens' truth, as text."""

import sqlite3
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

MUST_BE_RIGHT = ("code", "number", "issue_date", "amount", "tax", "total")
# What ocr_invoice answers; intsig_invoice answers every field of the truth.
OCR_INVOICE_FIELDS = (
    *MUST_BE_RIGHT,
    "kind",
    "check_code",
    "buyer_name",
    "buyer_tax_id",
    "seller_name",
    "seller_tax_id",
)


@dataclass(frozen=True, slots=True)
class Difference:
    file: str
    field: str
    printed: str
    row: str

    @property
    def in_blanks_only(self) -> bool:
        return bool(self.field) and "".join(self.printed.split()) == "".join(self.row.split())


@dataclass(frozen=True, slots=True)
class Comparison:
    fields: int
    differences: tuple[Difference, ...]

    @property
    def must_be_right(self) -> tuple[Difference, ...]:
        return tuple(found for found in self.differences if found.field in MUST_BE_RIGHT or not found.field)


def query(warehouse: Path, statement: str, *values: object) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(f"file:{warehouse}?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute(statement, values)]


def compare(
    truth: Sequence[Mapping[str, Any]], rows: Iterable[Mapping[str, Any]], endpoint: str
) -> Comparison:
    """Field by field; a specimen without a row counts as one difference without a field."""
    by_hash = {row["sha256"]: row for row in rows}
    counted, differences = 0, []
    for specimen in truth:
        row = by_hash.get(specimen["sha256"])
        if row is None:
            differences.append(Difference(specimen["file"], "", "a document", "no row"))
            continue
        fields = OCR_INVOICE_FIELDS if endpoint == "ocr_invoice" else tuple(specimen["fields"])
        counted += len(fields)
        differences += [
            Difference(specimen["file"], field, str(specimen["fields"][field]), str(row[field]))
            for field in fields
            if not same(specimen["fields"][field], row[field])
        ]
    return Comparison(counted, tuple(differences))


def compare_lines(truth: Sequence[Mapping[str, Any]], rows: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    """How many values of the lines are what the pictures show, but for blanks, and how many they show."""
    by_place = {(row["sha256"], row["line_number"]): row for row in rows}
    shown = [
        (value, by_place.get((specimen["sha256"], line["number"]), {}).get(name))
        for specimen in truth
        for line in specimen["lines"]
        for name, value in line.items()
        if name != "number"
    ]
    return sum(1 for value, row in shown if same_on_a_line(value, row)), len(shown)


def same_on_a_line(truth: Any, value: Any) -> bool:
    """SQLite keeps quantities as text: equal as numbers, or as text but for blanks."""
    if truth is None or value is None:
        return truth is value
    try:
        return Decimal(str(truth)) == Decimal(str(value))
    except InvalidOperation:
        return "".join(str(truth).split()) == "".join(str(value).split())


def same(truth: Any, value: Any) -> bool:
    """Equal as numbers where the warehouse keeps a number, else as text."""
    if truth is None or value is None:
        return truth is value
    if isinstance(truth, bool):
        return truth == bool(value)
    if isinstance(value, int | float):  # SQLite gives whole money as an int
        try:
            return Decimal(str(truth)) == Decimal(str(value))
        except InvalidOperation:
            return False
    return str(truth) == str(value)


def cell(value: object) -> str:
    """A value of the warehouse on one line: numbers of the header are money, nothing stands for NULL."""
    if value is None:
        return ""
    return f"{value:.2f}" if isinstance(value, int | float) else " ".join(str(value).split())


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns aligned for a terminal, in which a Chinese character is two wide."""
    cells = [list(headings), *([cell(value) for value in row] for row in rows)]
    widths = [max(_width(line[column]) for line in cells) for column in range(len(headings))]
    lines = [
        "  ".join(text + " " * (width - _width(text)) for text, width in zip(line, widths, strict=True))
        for line in cells
    ]
    return "\n".join(
        f"  {line.rstrip()}" for line in [lines[0], "-" * (sum(widths) + 2 * len(widths) - 2), *lines[1:]]
    )


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
