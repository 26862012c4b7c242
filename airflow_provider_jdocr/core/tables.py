"""The warehouse's tables and their types: what the columns are called and what they can hold.

Exact numbers: PostgreSQL and MySQL have them. SQLite's ``NUMERIC`` keeps a double, which holds the fifteen
digits that money and rates are limited to: they come back exactly, and compare and sum in SQL as numbers.
Quantity and unit price may have more, so in SQLite they are text: ``SUM`` and arithmetic work on it,
comparisons want a ``CAST``. JSON is JSONB in PostgreSQL, elsewhere text with Chinese as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import ExecutableDDLElement
from sqlalchemy.types import TypeDecorator, TypeEngine, UserDefinedType

from airflow_provider_jdocr.core import tax_check, upgrades
from airflow_provider_jdocr.core.documents import (
    HEADER,
    HEADER_NUMBERS,
    LINE,
    LINE_NUMBERS,
    Number,
)


class Exact(TypeDecorator[Decimal]):
    """An exact decimal of the size that `Number` says, on every database."""

    impl = sa.Numeric
    cache_ok = True

    def __init__(self, precision: int, scale: int, *, as_text: bool) -> None:
        super().__init__(precision, scale)
        self.precision, self.scale, self.as_text = precision, scale, as_text
        self._step = Decimal(1).scaleb(-scale)

    def load_dialect_impl(self, dialect: sa.Dialect) -> TypeEngine[Any]:
        if dialect.name != "sqlite":
            return dialect.type_descriptor(sa.Numeric(self.precision, self.scale))
        return dialect.type_descriptor(
            sa.Text() if self.as_text else _SqliteNumeric(self.precision, self.scale)
        )

    def process_bind_param(self, value: Decimal | None, dialect: sa.Dialect) -> Any:
        if value is None or dialect.name != "sqlite":
            return value
        return format(value, "f") if self.as_text else float(value)

    def process_result_value(self, value: Any, _dialect: sa.Dialect) -> Decimal | None:
        if value is None or isinstance(value, Decimal):
            return value
        return Decimal(str(value)).quantize(self._step)


class _SqliteNumeric(UserDefinedType[float]):
    """``NUMERIC(18, 2)`` by name, without SQLAlchemy's warning: what is bound here is a double already."""

    cache_ok = True

    def __init__(self, precision: int, scale: int) -> None:
        self.precision, self.scale = precision, scale

    def get_col_spec(self, **_: Any) -> str:
        return f"NUMERIC({self.precision}, {self.scale})"


class _Jsonb(UserDefinedType[Any]):
    """``JSONB`` by name: what is bound here is encoded already, and once is enough."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "JSONB"


class Moment(TypeDecorator[datetime]):
    """An aware time in UTC; SQLite keeps its text without the offset."""

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> TypeEngine[Any]:
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(sa.DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None or dialect.name == "postgresql":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, _dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Json(TypeDecorator[Any]):
    """JSON that a person can read and search. Takes text that is JSON already, or anything else to encode."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(_Jsonb())
        return dialect.type_descriptor(
            mysql.LONGTEXT() if dialect.name in ("mysql", "mariadb") else sa.Text()
        )

    def process_bind_param(self, value: Any, _dialect: sa.Dialect) -> str | None:
        return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    def process_result_value(self, value: Any, _dialect: sa.Dialect) -> Any:
        return json.loads(value) if isinstance(value, str) else value


class CreateView(ExecutableDDLElement):
    """``CREATE VIEW`` of one of a warehouse's views."""

    def __init__(self, view: sa.Table, invoices: sa.Table) -> None:
        self.view, self.invoices = view, invoices


@compiles(CreateView)
def _create_view(element: CreateView, compiler: Any, **_: Any) -> str:
    name, invoices = map(compiler.preparer.format_table, (element.view, element.invoices))
    return f"CREATE VIEW {name} AS{tax_check.query(compiler.dialect.name, invoices)}"


_NEW_IN_2 = {"since": 2}


class Tables:
    """The tables of one warehouse. No foreign keys: all rows of a document are written in one transaction."""

    def __init__(self, schema: str | None, prefix: str) -> None:
        self.schema, self.prefix = schema, prefix
        self._metadata = sa.MetaData(schema=schema)
        self.documents = self._table("documents", *_document_columns(), _unique_identity(prefix))
        self.invoices = self._table("invoices", *_invoice_columns())
        self.lines = self._table("lines", *_line_columns())
        self.findings = self._table("findings", *_finding_columns())
        self.reviews = self._table("reviews", *_review_columns(), info=_NEW_IN_2)
        self.meta = self._table(
            "warehouse_meta", _key("id", sa.Integer, autoincrement=False), _set("schema_version", sa.Integer)
        )
        sa.Index(f"{prefix}documents_invoice_key", self.documents.c.invoice_key)
        sa.Index(f"{prefix}documents_review_status", self.documents.c.review_status)
        sa.Index(f"{prefix}documents_sha256", self.documents.c.sha256)
        sa.Index(f"{prefix}documents_takes_back", self.documents.c.takes_back, info=_NEW_IN_2)
        sa.Index(f"{prefix}invoices_issue_date", self.invoices.c.issue_date)
        sa.Index(f"{prefix}invoices_review_status", self.invoices.c.review_status)
        sa.Index(f"{prefix}reviews_document_id", self.reviews.c.document_id)
        sa.Index(f"{prefix}reviews_invoice_key", self.reviews.c.invoice_key)
        # Apart from the tables: nobody is to create it as one.
        name = sa.sql.quoted_name(f"{prefix}tax_check", quote=True)
        self.tax_check = sa.Table(name, sa.MetaData(schema=schema))

    def statements(self, since: int = 0) -> Iterator[ExecutableDDLElement]:
        """What makes tables of version `since` into today's; of version 0: nothing is there."""
        yield from upgrades.additions(self._in_order(), since)
        if since < _NEW_IN_2["since"]:
            yield CreateView(self.tax_check, self.invoices)

    def create(self, db: sa.Connection) -> None:
        """Creates what is missing; the one of them that says it is all there comes last."""
        upgrades.complete(db, self._in_order())
        if self.tax_check.name not in sa.inspect(db).get_view_names(self.schema):
            db.execute(CreateView(self.tax_check, self.invoices))

    def _in_order(self) -> tuple[sa.Table, ...]:
        return (self.documents, self.invoices, self.lines, self.findings, self.reviews, self.meta)

    def _table(
        self, name: str, *columns: sa.schema.SchemaItem, info: Mapping[str, int] = MappingProxyType({})
    ) -> sa.Table:
        return sa.Table(
            sa.sql.quoted_name(self.prefix + name, quote=True),
            self._metadata,
            *columns,
            info=dict(info),
            # Keys are compared byte by byte, as everywhere else.
            mysql_engine="InnoDB",
            mysql_charset="utf8mb4",
            mysql_collate="utf8mb4_bin",
        )


# MySQL's TEXT ends at 64 KB.
_text = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")


def _key(name: str, kind: Any, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, primary_key=True, nullable=False, **options)


def _set(name: str, kind: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def _may_be_null(name: str, kind: Any, since: int = 1) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=True, info={"since": since})


def _exact(number: Number) -> Exact:
    # A double keeps fifteen digits and no more.
    return Exact(number.precision, number.scale, as_text=number.digits > 15)


def _value(name: str, numbers: Mapping[str, Number]) -> sa.Column[Any]:
    if name in numbers:
        return _may_be_null(name, _exact(numbers[name]))
    return _may_be_null(name, _KINDS.get(name, _text), _SINCE.get(name, 1))


_KINDS: dict[str, Any] = {"issue_date": sa.Date(), "stamp": sa.Boolean(), "takes_back": sa.String(32)}
_SINCE = {"takes_back": 2}


def _header() -> list[sa.Column[Any]]:
    return [_value(name, HEADER_NUMBERS) for name in HEADER]


def _review() -> list[sa.Column[Any]]:
    return [
        _set("review_status", sa.String(16)),
        _may_be_null("reviewed_at", Moment()),
        _may_be_null("reviewed_by", sa.String(255)),
        _may_be_null("review_note", _text),
        _set("first_loaded_at", Moment()),
        _set("loaded_at", Moment()),
    ]


def _document_columns() -> list[sa.Column[Any]]:
    return [
        _key("document_id", sa.String(32)),
        _set("service", sa.String(260)),
        _set("endpoint", sa.String(32)),
        _set("sha256", sa.String(64)),
        _set("page", sa.Integer),
        _set("state", sa.String(16)),
        _set("answer_code", _text),
        _set("answer_message", _text),
        _set("http_status", sa.Integer),
        _set("answer_id", sa.String(64)),
        _set("answered_at", Moment()),
        _set("reading_version", sa.String(32)),
        _set("uris", Json()),
        _may_be_null("invoice_key", sa.String(32)),
        *_header(),
        _set("line_count", sa.Integer),
        _set("evidence", Json()),
        _set("details", Json()),
        _set("doubtful", sa.Boolean()),
        *_review(),
    ]


def _unique_identity(prefix: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint("service", "endpoint", "sha256", "page", name=f"{prefix}documents_identity")


def _invoice_columns() -> list[sa.Column[Any]]:
    return [
        _key("invoice_key", sa.String(32)),
        *_header(),
        _set("document_id", sa.String(32)),
        _may_be_null("lines_document_id", sa.String(32)),
        _may_be_null("merged_from", Json(), since=2),
        *_review(),
    ]


def _line_columns() -> list[sa.Column[Any]]:
    return [
        _key("document_id", sa.String(32)),
        _key("line_number", sa.Integer, autoincrement=False),
        *(_value(name, LINE_NUMBERS) for name in LINE),
    ]


def _finding_columns() -> list[sa.Column[Any]]:
    return [
        _key("document_id", sa.String(32)),
        _key("position", sa.Integer, autoincrement=False),
        _set("code", sa.String(64)),
        _set("severity", sa.String(16)),
        _set("fields", _text),
        _set("message", _text),
        *(_may_be_null(name, _text) for name in ("found", "expected", "proposal")),
    ]


def _review_columns() -> list[sa.Column[Any]]:
    return [
        _key("review_id", sa.String(32)),
        _set("document_id", sa.String(32)),
        _may_be_null("invoice_key", sa.String(32)),
        _set("decision", sa.String(16)),
        _set("reviewed_by", sa.String(255)),
        _set("reviewed_at", Moment()),
        _may_be_null("note", _text),
        _set("changes", Json()),
    ]
