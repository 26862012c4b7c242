"""Tables that grew over versions: what is to be added to those of an earlier one, as statements or at once.

A table, a column or an index that came later than the first version says since when in its ``info``; a
column that came later may be NULL, so that a row from before stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement


class AddColumn(ExecutableDDLElement):
    """``ALTER TABLE … ADD COLUMN``."""

    def __init__(self, column: sa.Column[Any]) -> None:
        self.column = column


@compiles(AddColumn)
def _add_column(element: AddColumn, compiler: Any, **_: Any) -> str:
    table = compiler.preparer.format_table(element.column.table)
    return f"ALTER TABLE {table} ADD COLUMN {compiler.get_column_specification(element.column)}"


def additions(tables: Iterable[sa.Table], since: int) -> Iterator[ExecutableDDLElement]:
    """What makes tables of version `since` into today's; of version 0: nothing is there."""
    for table in tables:
        new = _since(table) > since
        if new:
            yield CreateTable(table)
        else:
            yield from (AddColumn(column) for column in table.columns if _since(column) > since)
        yield from (CreateIndex(index) for index in _indexes(table) if new or _since(index) > since)


def complete(db: sa.Connection, tables: Iterable[sa.Table]) -> None:
    """Creates what is missing, table after table, whatever a run that was broken off left."""
    there = sa.inspect(db)
    for table in tables:
        if there.has_table(table.name, schema=table.schema):  # wherever the search path finds it
            _add_missing(db, table, {each["name"] for each in there.get_columns(table.name, table.schema)})
        else:
            table.create(db)


def _add_missing(db: sa.Connection, table: sa.Table, columns: set[str]) -> None:
    for column in table.columns:
        if column.name not in columns:
            db.execute(AddColumn(column))
    for index in _indexes(table):
        index.create(db, checkfirst=True)


def _since(item: sa.Table | sa.Column[Any] | sa.Index) -> int:
    return int(item.info.get("since", 1))


def _indexes(table: sa.Table) -> Iterable[sa.Index]:
    return sorted(table.indexes, key=lambda each: str(each.name))
