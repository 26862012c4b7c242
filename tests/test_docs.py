"""The documents say what the code does: tables, defaults, links, commands."""

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
