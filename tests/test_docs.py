"""The documents say what the code does: tables, defaults, links, commands. Translations say the same."""

import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from airflow_provider_jdocr.core.account import EXTRAS, Account
from airflow_provider_jdocr.core.documents import LOADING_FINDINGS
from airflow_provider_jdocr.core.endpoints import ENDPOINTS
from airflow_provider_jdocr.core.errors import CODES, Code, Verdict
from airflow_provider_jdocr.core.findings import CHECKS
from tests import docs_chinese, docs_columns, docs_tables
from tests.benchmarks import chinese as chinese_benchmarks
from tests.benchmarks import tables as benchmarks

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / name for name in ("README.md", "README.zh-CN.md", "CONTRIBUTING.md", "CHANGELOG.md")]
DOCUMENTS += [ROOT / "SECURITY.md", ROOT / "SECURITY.zh-CN.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as they are made where Markdown is shown."""
    headings = re.findall(r"^#+ (.+)$", text(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def rows_of_table(document: str, head: str) -> list[list[str]]:
    """The rows of the table whose head begins like this."""
    table = text(ROOT / "docs" / document).split(f"\n{head}", 1)[1].split("\n\n", 1)[0]
    rows = [line.strip("|").split("|") for line in table.splitlines()[2:]]
    return [[cell.strip() for cell in row] for row in rows]


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_the_tables_are_what_the_code_gives(path: Path) -> None:
    """When this fails: make format."""
    assert docs_tables.filled_in(path) == text(path)


def test_every_table_has_its_place_in_the_documents() -> None:
    marked = {name for path in DOCUMENTS for _, name, _ in docs_tables.MARKED.findall(text(path))}
    assert marked == set(docs_tables.TABLES)


def test_every_finding_has_its_chinese() -> None:
    """When this fails: a line in tests/docs_chinese.py."""
    assert set(docs_chinese.FINDINGS) == {*CHECKS, *LOADING_FINDINGS}


def test_every_column_is_explained_and_nothing_else() -> None:
    """When this fails: a line in tests/docs_columns.py."""
    columns = {name: [each.name for each in found] for name, found in docs_tables.warehouse_columns().items()}
    columns["tax_check"] = list(docs_tables.view_columns())
    known = {f"{name}.{column}" for name, found in columns.items() for column in found}
    known |= {column for found in columns.values() for column in found}
    assert not [name for name in docs_columns.MEANINGS if name not in known]
    for name, found in columns.items():
        for column in found:
            assert all(docs_columns.meaning(name, column, language) for language in (0, 1))


@pytest.mark.parametrize("name", benchmarks.TABLES)
def test_every_word_of_a_benchmark_has_its_chinese(name: str) -> None:
    """When this fails: a line in tests/benchmarks/chinese.py."""
    assert chinese_benchmarks.left_in_english(name) == []


@pytest.mark.parametrize("code", CODES.values(), ids=lambda code: f"{code.layer}-{code.code}")
def test_every_code_has_its_chinese(code: Code) -> None:
    assert docs_chinese.chinese(code.meaning)
    assert bool(docs_chinese.chinese(code.advice)) == bool(code.advice)


def test_no_bad_input_costs_more_than_one_call() -> None:
    assert not [row["what"] for row in docs_tables.tried_out() if row["calls"] > 1 or row["charged"] > 1]


@pytest.mark.parametrize("endpoint", ["ocr_invoice", "intsig_invoice"])
def test_every_documented_key_reaches_the_row_or_its_details(endpoint: str) -> None:
    keys, row = docs_tables.KEYS[endpoint], ENDPOINTS[endpoint]
    assert len(keys) == {"ocr_invoice": 12, "intsig_invoice": 47}[endpoint]
    assert not [key for key in keys if not docs_tables.places(row, key)]


@pytest.mark.parametrize(("page", "head"), [("errors.md", "| verdict |"), ("errors.zh-CN.md", "| 判定 |")])
def test_every_verdict_is_explained(page: str, head: str) -> None:
    rows = rows_of_table(page, head)
    assert {row[0].strip("`") for row in rows} == set(Verdict)


@pytest.mark.parametrize(
    ("page", "head"),
    [("connection.md", "| extra | default |"), ("connection.zh-CN.md", "| extra | 默认值 |")],
)
def test_every_extra_of_the_connection_is_explained_with_its_default(page: str, head: str) -> None:
    rows = {row[0].strip("`"): row[1].strip("`") for row in rows_of_table(page, head)}
    assert set(rows) == EXTRAS
    names = {"service": "signing_service"}
    defaults = {field.name: field.default for field in fields(Account) if field.default is not MISSING}
    for extra, said in rows.items():
        default = defaults.get(names.get(extra, extra))
        if default is not None:
            assert said == (f"{default:%H:%M}" if extra == "reset_time" else str(default).removesuffix(".0"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_inside_the_project_leads_somewhere(path: Path) -> None:
    for target in LINK.findall(text(path)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        document = (path.parent / name).resolve() if name else path
        assert document.exists(), target
        assert not anchor or anchor in anchors(document), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_source_that_is_cited_is_given_and_every_one_given_is_cited(path: Path) -> None:
    cited = set(re.findall(r"\[\^([\w-]+)\](?!:)", text(path)))
    assert cited == set(re.findall(r"^\[\^([\w-]+)\]:", text(path), re.MULTILINE))


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("comparison*.md")), ids=lambda path: path.name)
def test_a_comparison_claims_no_check_that_there_is_not(path: Path) -> None:
    ours = {row.split("|")[2] for row in text(path).splitlines() if row.startswith("|")}
    named = {code for cell in ours for code in re.findall(r"`([A-Z_]{6,})`", cell)}
    assert named
    assert named <= {*CHECKS, *LOADING_FINDINGS}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_make_target_that_is_named_is_there(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text(ROOT / "Makefile"), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", text(path))) <= targets
    assert set(re.findall(r"^make ([a-z-]+)", text(path), re.MULTILINE)) <= targets


def test_both_readmes_name_the_same_commands() -> None:
    def commands(name: str) -> list[str]:
        blocks = re.findall(r"```[a-z]*\n(.*?)```", text(ROOT / name), re.DOTALL)
        return [re.sub(r"\s*#.*", "", line) for block in blocks for line in block.splitlines()]

    assert commands("README.md") == commands("README.zh-CN.md")


# ── a page and its Chinese translation say the same ──

TRANSLATED = sorted(
    path for path in (*ROOT.glob("*.zh-CN.md"), *(ROOT / "docs").glob("*.zh-CN.md")) if path.is_file()
)
OTHERWISE = ("README", "SECURITY", "operations", "reliability")
"""Translated with other tables: held by tests of their own, or not word for word."""
IN_STEP = [path for path in TRANSLATED if not path.name.startswith(OTHERWISE)]
TRANSLATIONS = pytest.mark.parametrize("page", IN_STEP, ids=lambda page: page.name)


def original(page: Path) -> Path:
    return page.with_name(page.name.replace(".zh-CN", ""))


def both(page: Path) -> tuple[str, str]:
    return text(original(page)), text(page)


def written(page: str) -> str:
    """The page as people wrote it: of a generated table only its name, of code nothing."""
    named = docs_tables.MARKED.sub(lambda found: f"<{found[2]}>\n", page)
    return re.sub(r"^ *```.*?^ *```$", "", named, flags=re.DOTALL | re.MULTILINE)


def shape(page: str) -> list[str]:
    """Headings by level, rows of tables by their columns, generated tables by name; in their order."""
    lines = re.findall(r"^(#+(?= )|<[a-z_]+>$|\|.*\|$)", written(page), re.MULTILINE)
    return [f"{line.count('|') - 1} columns" if line.startswith("|") else line for line in lines]


def blocks(page: str) -> list[str]:
    return re.findall(r"^ *```(?:bash|python|sql)\n.*?^ *```$", page, re.DOTALL | re.MULTILINE)


def names(page: str) -> set[str]:
    """What stands in code marks: arguments, columns, codes, files."""
    return {mark for mark in re.findall(r"`([^`\n]+)`", written(page)) if mark.isascii()}


@TRANSLATIONS
def test_a_translation_has_the_sections_and_the_tables_of_its_original(page: Path) -> None:
    english, chinese = both(page)
    assert shape(chinese) == shape(english)


@TRANSLATIONS
def test_a_translation_shows_the_same_code(page: Path) -> None:
    english, chinese = both(page)
    assert blocks(chinese) == blocks(english)


@TRANSLATIONS
def test_a_translation_names_the_same_things(page: Path) -> None:
    english, chinese = both(page)
    assert names(chinese) ^ names(english) == set()


@TRANSLATIONS
def test_a_translation_cites_the_same_sources(page: Path) -> None:
    english, chinese = (re.findall(r"^\[\^([\w-]+)\]:", said, re.MULTILINE) for said in both(page))
    assert chinese == english


@pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: page.name)
def test_a_page_and_its_translation_lead_to_each_other(page: Path) -> None:
    english, chinese = both(page)
    assert f"]({page.name})" in english
    assert f"]({original(page).name})" in chinese


@pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: page.name)
def test_a_translation_leads_to_translations_where_there_are_any(page: Path) -> None:
    links = re.findall(r"\]\(([\w./-]+\.md)(?:#[^)]*)?\)", text(page))
    others = {(page.parent / link).resolve() for link in links} - {original(page)}
    assert not [path.name for path in others if path.with_suffix(".zh-CN.md").is_file()]
