"""A page and its Chinese translation say the same: the same sections, tables, code and names."""

import re
from pathlib import Path

import pytest

from tests import docs_tables

ROOT = Path(__file__).resolve().parent.parent
TRANSLATED = sorted(
    path for path in (*ROOT.glob("*.zh-CN.md"), *(ROOT / "docs").glob("*.zh-CN.md")) if path.is_file()
)
OTHERWISE = ("README", "SECURITY", "operations", "reliability")
"""Translated with other tables: held by tests of their own, or not word for word."""
IN_STEP = [path for path in TRANSLATED if not path.name.startswith(OTHERWISE)]
PAGES = pytest.mark.parametrize("page", IN_STEP, ids=lambda page: page.name)


def original(page: Path) -> Path:
    return page.with_name(page.name.replace(".zh-CN", ""))


def both(page: Path) -> tuple[str, str]:
    return original(page).read_text("utf-8"), page.read_text("utf-8")


def written(text: str) -> str:
    """The page as people wrote it: of a generated table only its name, of code nothing."""
    named = docs_tables.MARKED.sub(lambda found: f"<{found[2]}>\n", text)
    return re.sub(r"^ *```.*?^ *```$", "", named, flags=re.DOTALL | re.MULTILINE)


def shape(text: str) -> list[str]:
    """Headings by level, rows of tables by their columns, generated tables by name; in their order."""
    lines = re.findall(r"^(#+(?= )|<[a-z_]+>$|\|.*\|$)", written(text), re.MULTILINE)
    return [f"{line.count('|') - 1} columns" if line.startswith("|") else line for line in lines]


def blocks(text: str) -> list[str]:
    return re.findall(r"^ *```(?:bash|python|sql)\n.*?^ *```$", text, re.DOTALL | re.MULTILINE)


def names(text: str) -> set[str]:
    """What stands in code marks: arguments, columns, codes, files."""
    return {mark for mark in re.findall(r"`([^`\n]+)`", written(text)) if mark.isascii()}


@PAGES
def test_a_translation_has_the_sections_and_the_tables_of_its_original(page: Path) -> None:
    english, chinese = both(page)
    assert shape(chinese) == shape(english)


@PAGES
def test_a_translation_shows_the_same_code(page: Path) -> None:
    english, chinese = both(page)
    assert blocks(chinese) == blocks(english)


@PAGES
def test_a_translation_names_the_same_things(page: Path) -> None:
    english, chinese = both(page)
    assert names(chinese) ^ names(english) == set()


@PAGES
def test_a_translation_cites_the_same_sources(page: Path) -> None:
    english, chinese = (re.findall(r"^\[\^([\w-]+)\]:", text, re.MULTILINE) for text in both(page))
    assert chinese == english


@pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: page.name)
def test_a_page_and_its_translation_lead_to_each_other(page: Path) -> None:
    english, chinese = both(page)
    assert f"]({page.name})" in english
    assert f"]({original(page).name})" in chinese


@pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: page.name)
def test_a_translation_leads_to_translations_where_there_are_any(page: Path) -> None:
    links = re.findall(r"\]\(([\w./-]+\.md)(?:#[^)]*)?\)", page.read_text("utf-8"))
    others = {(page.parent / link).resolve() for link in links} - {original(page)}
    assert not [path.name for path in others if path.with_suffix(".zh-CN.md").is_file()]
