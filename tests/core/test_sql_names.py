"""Names that an author gives for tables cannot become statements, and no value is built into SQL."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from airflow_provider_jdocr.core.documents import Document
from airflow_provider_jdocr.core.engines import DIALECTS, Dialect, engine_for
from airflow_provider_jdocr.core.errors import ConfigurationError
from airflow_provider_jdocr.core.ledger import Identity, StoredAnswer
from airflow_provider_jdocr.core.loading import read
from airflow_provider_jdocr.core.warehouse import Warehouse, ddl

PACKAGE = Path(__file__).resolve().parents[2] / "airflow_provider_jdocr"
LONGEST_PREFIX = "p" * 32
LONGEST_SCHEMA = "s" * 63
LONGEST_NAME = 63
"""PostgreSQL cuts longer names in silence; MySQL refuses those above 64."""


@pytest.mark.parametrize("argument", ["prefix", "schema"])
@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a b",
        "a.b",
        "a-b",
        "1a",
        "a;",
        "a--",
        'a"b',
        "a'b",
        "a`b",
        "a]b",
        "a%b",
        "a\\b",
        "a:b",
        "a\n",
        "a\0",
        "发票_",
        "ａ_",
        "é",
        "x" * 64,
        'x"; DROP TABLE jdocr_recognition; --',
    ],
    ids=repr,
)
def test_a_name_that_is_none_is_refused_before_anything_is_opened(argument: str, name: str) -> None:
    engine = engine_for("postgresql+psycopg://nobody@127.0.0.1:9/none")
    with pytest.raises(ConfigurationError, match=f"{argument} .* is no name for tables"):
        Warehouse(engine, **{argument: name})  # type: ignore[arg-type]  # one of two arguments of the same type


@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_name_is_longer_than_the_databases_take(dialect: Dialect) -> None:
    printed = ddl(dialect, prefix=LONGEST_PREFIX, schema=LONGEST_SCHEMA)
    names = set(re.findall(rf"\b{LONGEST_PREFIX}\w+", printed))
    assert len(names) >= 10
    assert max(map(len, names)) <= LONGEST_NAME
    assert len({name[:LONGEST_NAME] for name in names}) == len(names)


@pytest.mark.parametrize("prefix", ["select", "Order_", "user", "_", "table_", "p" * 32])
def test_a_reserved_or_mixed_case_prefix_is_quoted_and_loads(prefix: str, database_url: str) -> None:
    engine = engine_for(database_url)
    warehouse = Warehouse(engine, prefix=prefix)
    warehouse.create()
    warehouse.load([_hostile()])
    with engine.connect() as db:
        assert sa.inspect(db).has_table(f"{prefix}documents")
    engine.dispose()


@pytest.mark.parametrize("schema", ["select", "Mixed", "group"])
def test_a_reserved_or_mixed_case_schema_is_quoted_and_loads(schema: str, postgres_url: str) -> None:
    engine = engine_for(postgres_url)
    with engine.begin() as db:
        db.execute(sa.schema.CreateSchema(sa.sql.quoted_name(schema, quote=True)))
    warehouse = Warehouse(engine, schema=schema)
    warehouse.create()
    warehouse.load([_hostile()])
    with engine.connect() as db:
        assert sa.inspect(db).has_table("jdocr_documents", schema=schema)
    engine.dispose()


_HOSTILE = "x'; DROP TABLE jdocr_documents; -- \" ` \\ %s :rows {0} 发票"


def _hostile() -> Document:
    """A document whose every text would break a statement that it were written into."""
    identity = Identity(_HOSTILE, "ocr_invoice", "0" * 64)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    answer = StoredAnswer(identity, "answer", at, "failed", _HOSTILE, _HOSTILE, 200, b"")
    return read(answer, [_HOSTILE], today=date(2026, 1, 1))


def test_hostile_values_are_stored_as_they_are(database_url: str) -> None:
    engine = engine_for(database_url)
    warehouse = Warehouse(engine)
    warehouse.create()
    warehouse.load([_hostile()])
    with engine.connect() as db:
        (row,) = db.execute(sa.select(warehouse.tables.documents)).mappings()
    assert (row["service"], row["answer_code"], row["uris"]) == (_HOSTILE, _HOSTILE, [_HOSTILE])
    engine.dispose()


_RAW = {"text", "exec_driver_sql", "DDL", "literal_column", "execute", "executemany", "executescript"}
# Built of words of the code itself, where no bound value can stand.
_ALLOWED = {("engines.py", "f'PRAGMA {pragma}'"), ("ledger.py", """f"'{word}'\"""")}


def _raw_sql(path: Path) -> Iterator[tuple[str, str]]:
    """Calls that take SQL as text, with an argument that is put together and not written out."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        built = isinstance(node.args[0], ast.JoinedStr | ast.BinOp) or (
            isinstance(node.args[0], ast.Call) and getattr(node.args[0].func, "attr", "") == "format"
        )
        if name in _RAW and built:
            yield path.name, ast.unparse(node.args[0])


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_no_statement_is_put_together_from_texts(path: Path) -> None:
    assert not set(_raw_sql(path)) - _ALLOWED


def test_that_rule_sees_what_it_is_for(tmp_path: Path) -> None:
    code = tmp_path / "code.py"
    code.write_text(
        'db.execute(f"a {b}")\nsa.text("a %s" % b)\ntext("{}".format(b))\ndb.execute("fine", b)\n'
    )
    assert len(list(_raw_sql(code))) == 3
