"""The operations page can be followed to the letter: its queries run, its commands and its tasks are there;
and the Chinese page says the same.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from airflow_provider_jdocr.core.auditing import RULES
from airflow_provider_jdocr.core.planning import FATES, PARTS
from airflow_provider_jdocr.core.pruning import KINDS
from airflow_provider_jdocr.core.warehouse import Warehouse
from tests.core import books
from tests.core.books import LOST, called, noted
from tests.core.ledgers import GOOD, OTHER_RUN, Clock
from tests.shell.test_cli import parser

DOCS = Path(__file__).resolve().parents[2] / "docs"
ENGLISH, CHINESE = (DOCS / name for name in ("operations.md", "operations.zh-CN.md"))
PAGES = pytest.mark.parametrize("page", [ENGLISH, CHINESE], ids=lambda page: page.name)


def blocks(page: Path, language: str) -> list[str]:
    """The code of that language, without the indentation of a list."""
    code = re.compile(rf"^( *)```{language}\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
    found = code.findall(page.read_text("utf-8"))
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def commands(page: Path) -> Iterator[list[str]]:
    """The lines of `airflow jdocr`, as words."""
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", "").splitlines():
            if line.startswith("airflow jdocr"):
                yield shlex.split(line)[1:]


def first_column(page: Path, first: str) -> list[str]:
    """The first column of the table whose first row begins with this cell, from there on."""
    rows = page.read_text("utf-8").partition(f"| {first} |")
    return [row.split("|")[1].strip() for row in "".join(rows[1:]).partition("\n\n")[0].splitlines()]


@PAGES
def test_every_query_runs_on_a_ledger_in_the_warehouses_database(page: Path, database_url: str) -> None:
    with books.opened(database_url, Clock()) as ledger:
        called(ledger, GOOD, "good")
        called(ledger, LOST, "lost")
        noted(ledger, "reused", "good", OTHER_RUN)
        Warehouse(ledger.engine).create()
        with ledger.engine.connect() as db:
            for query in blocks(page, "sql"):
                assert db.execute(sa.text(query)).all() is not None


def test_the_bill_and_the_doubts_are_what_the_queries_show(sqlite_url: str) -> None:
    with books.opened(sqlite_url, Clock()) as ledger:
        called(ledger, GOOD, "good")
        called(ledger, LOST, "lost")
        queries = blocks(ENGLISH, "sql")
        with ledger.engine.connect() as db:
            (day,) = db.execute(sa.text(queries[0].replace("2026-05-01", "2025-01-01"))).mappings()
            assert (day["calls"], day["charged"], day["maybe_charged"]) == (2, 1, 1)
            (doubt,) = db.execute(sa.text(queries[3])).mappings()
            assert doubt["uri"] == books.uri("lost")
            (call,) = db.execute(sa.text(queries[4])).mappings()
            assert call["code"] == "read_timeout"


@PAGES
def test_every_column_of_the_views_is_named(page: Path, sqlite_url: str) -> None:
    values = {"call", "reused"}  # of `entry`, named beside it
    with books.opened(sqlite_url, Clock()) as ledger:
        found = sa.inspect(ledger.engine)
        for name in found.get_view_names():
            columns = {column["name"] for column in found.get_columns(name)}
            (row,) = re.findall(rf"^\| `{name}` \|.*$", page.read_text("utf-8"), re.MULTILINE)
            assert set(re.findall(r"`(\w+)`", row.split("|")[3])) - values == columns - values


@PAGES
def test_every_command_is_one_that_airflow_takes(page: Path) -> None:
    found = list(commands(page))
    for words in found:
        parser().parse_args(words)
    named = {words[1] for words in found}
    assert named == {"doubts", "settle", "bill", "plan", "copy", "backup", "check", "prune"}


@PAGES
def test_every_task_of_the_page_can_be_made(page: Path) -> None:
    made = blocks(page, "python")
    assert len(made) == 3
    for code in made:
        exec(code, {})  # noqa: S102  the page's own example


def test_both_pages_have_the_same_sections_and_the_same_code() -> None:
    headings = [re.findall(r"^(#+) ", page.read_text("utf-8"), re.MULTILINE) for page in (ENGLISH, CHINESE)]
    assert headings[0] == headings[1]
    for language in ("bash", "sql", "python"):
        assert blocks(ENGLISH, language) == blocks(CHINESE, language)
    tables = [page.read_text("utf-8").count("\n|---|") for page in (ENGLISH, CHINESE)]
    generated = 3  # tables that only the English page has from the code, checked below
    assert tables[0] == tables[1] - generated


def test_both_pages_name_the_same_things() -> None:
    """What stands in code marks: arguments, columns, codes, files."""
    marks = [set(re.findall(r"`([^`\n]+)`", page.read_text("utf-8"))) for page in (ENGLISH, CHINESE)]
    assert {mark for mark in marks[0] ^ marks[1] if mark.isascii()} <= {"airflow jdocr backup FILE"}


def test_the_chinese_page_has_every_rule_every_fate_and_everything_that_can_be_pruned() -> None:
    assert first_column(CHINESE, "`ANSWER_MISSING`") == [f"`{code}`" for code in RULES]
    assert first_column(CHINESE, "`runs`") == [f"`{name}`" for name in KINDS]
    assert first_column(CHINESE, "`answered`") == [f"`{name}`" for name in (*FATES, *PARTS)]


def test_the_cost_of_a_crash_is_calculated_right() -> None:
    for page in (ENGLISH, CHINESE):
        text = page.read_text("utf-8")
        assert f"¥{4 * 0.048:.3f}" in text
        assert f"¥{8 * 4 * 0.048:.3f}" in text
