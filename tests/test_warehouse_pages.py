"""The pages of the warehouse can be followed to the letter: tables, queries, statements."""

import re
import shlex
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import sqlalchemy as sa

from airflow_provider_jdocr.core.review import STATUS
from airflow_provider_jdocr.core.warehouse import Warehouse

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = pytest.mark.parametrize("name", ["warehouse.md", "warehouse.zh-CN.md"])


def blocks(name: str, language: str) -> list[str]:
    text = (DOCS / name).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@PAGES
def test_every_table_and_view_is_named(name: str, sqlite_url: str) -> None:
    engine = sa.create_engine(sqlite_url)
    Warehouse(engine).create()
    found = sa.inspect(engine)
    rows = re.findall(r"^\| `(jdocr_\w+)` \|", (DOCS / name).read_text("utf-8"), re.MULTILINE)
    assert set(rows) == {*found.get_table_names(), *found.get_view_names()}


@PAGES
def test_every_state_of_a_row_is_explained(name: str) -> None:
    table = (DOCS / name).read_text("utf-8").split("| `review_status` | |\n", 1)[1].split("\n\n", 1)[0]
    firsts = " ".join(row.split("|")[1] for row in table.splitlines())
    assert set(re.findall(r"`(\w+)`", firsts)) == {"clear", "review", "settled", *STATUS.values()}


@PAGES
def test_every_query_runs(name: str, database_url: str) -> None:
    engine = sa.create_engine(database_url)
    Warehouse(engine).create()
    queries = blocks(name, "sql")
    assert len(queries) == 4
    with engine.connect() as db:
        for query in queries:
            assert db.execute(sa.text(query)).all() == []
    engine.dispose()


@PAGES
def test_the_statements_are_printed_for_a_first_time_and_for_an_upgrade(name: str) -> None:
    printed = []
    for line in blocks(name, "bash")[0].splitlines():
        python, flag, code = shlex.split(line)
        assert (python, flag) == ("python", "-c")
        with redirect_stdout(StringIO()) as said:
            exec(code, {})  # noqa: S102  the page's own command
        printed.append(said.getvalue())
    assert "CREATE TABLE jdocr_documents" in printed[0].replace('"', "")
    assert "ALTER TABLE jdocr_documents" in printed[1].replace('"', "")
