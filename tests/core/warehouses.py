"""What the tests of the warehouse share: answers to make documents of, and what the tables hold."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from airflow_provider_jdocr.core.ledger import Identity, StoredAnswer
from airflow_provider_jdocr.core.warehouse import Warehouse

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def answer(identity: Identity, answer_id: str) -> StoredAnswer:
    """An answer that came at noon. Its body is nothing: the documents are made without it."""
    return StoredAnswer(identity, answer_id, NOON, "recognised", "10000", "查询成功", 200, b"{}")


def rows(warehouse: Warehouse, name: str) -> list[dict[str, Any]]:
    """A table by the name that `Tables` has for it, in the order of its key."""
    table: sa.Table = getattr(warehouse.tables, name)
    with warehouse.reading() as db:
        query = sa.select(table).order_by(*table.primary_key.columns)
        return [dict(row) for row in db.execute(query).mappings()]
