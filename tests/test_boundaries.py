"""Imports go one way: server and shell to core, within core along the line, never back."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "airflow_provider_jdocr"

# The line, step by step. A module imports those to its left only; a new one has to be given its place here.
LINE = (
    "endpoints",
    "errors",
    "records",
    "prices",
    "account",
    "sources",
    "preflight",
    "numerals",
    "qr",
    "signing",
    "client",
    "replies",
    "rate",
    "quotas",
    "forecast",
    "engines",
    "upgrades",
    "views",
    "schema",
    "statements",
    "ledger",
    "doubts",
    "bill",
    "pruning",
    "copying",
    "auditing",
    "planning",
    "batch",
    "parsing",
    "findings",
    "tax_ids",
    "checks",
    "opinions",
    "examining",
    "documents",
    "merging",
    "reconciling",
    "tax_check",
    "tables",
    "warehouse",
    "loading",
    "review",
    "escalation",
)


def imports(path: Path) -> Iterator[str]:
    """Every module that a file names in an import, wherever the import stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def within(name: str, *prefixes: str) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def test_every_module_of_the_core_has_its_place_on_the_line() -> None:
    names = {path.stem for path in files(PACKAGE / "core")} - {"__init__"}
    assert names == set(LINE)


@pytest.mark.parametrize("path", files(PACKAGE / "core"), ids=lambda path: path.stem)
def test_the_core_imports_along_the_line_and_never_back(path: Path) -> None:
    place = LINE.index(path.stem) if path.stem in LINE else 0
    earlier = [f"airflow_provider_jdocr.core.{name}" for name in LINE[:place]]
    ours = {name for name in imports(path) if within(name, "airflow_provider_jdocr")}
    assert not [name for name in ours - {"airflow_provider_jdocr.core"} if not within(name, *earlier)]


@pytest.mark.parametrize("path", files(PACKAGE / "core"), ids=lambda path: path.stem)
def test_the_core_knows_no_airflow(path: Path) -> None:
    assert not [name for name in imports(path) if within(name, "airflow")]


@pytest.mark.parametrize("path", files(PACKAGE / "server"), ids=lambda path: path.stem)
def test_the_server_knows_the_endpoint_table_and_nothing_else_of_the_core(path: Path) -> None:
    """Above all not the signer: a stand-in that verifies with the client's own code proves nothing."""
    allowed = ("airflow_provider_jdocr.server", "airflow_provider_jdocr.core.endpoints")
    ours = [name for name in imports(path) if within(name, "airflow_provider_jdocr")]
    assert not [name for name in ours if not within(name, *allowed)]
    assert not [name for name in imports(path) if within(name, "airflow")]


@pytest.mark.parametrize(
    "path",
    sorted(path for folder in (".", "cli", "tasks") for path in PACKAGE.glob(f"{folder}/*.py")),
    ids=lambda path: f"{path.parent.name}/{path.stem}",
)
def test_the_shell_does_not_know_the_server(path: Path) -> None:
    assert not [name for name in imports(path) if within(name, "airflow_provider_jdocr.server")]


@pytest.mark.parametrize("path", files(ROOT / "dags"), ids=lambda path: path.stem)
def test_an_example_dag_uses_the_shell_only(path: Path) -> None:
    forbidden = ("airflow_provider_jdocr.core", "airflow_provider_jdocr.server", "tests")
    assert not [name for name in imports(path) if within(name, *forbidden)]


HEAVY = ("sqlalchemy", "boto3", "botocore", "requests", "PIL", "zxingcpp", "fsspec", "upath")


@pytest.mark.parametrize(
    "module", ["operators", "sensors", "planning", "bookkeeping", "reviewing", "storage"]
)
def test_a_dag_file_imports_none_of_what_only_a_running_task_needs(module: str) -> None:
    """The DAG processor imports the file of each DAG over and over, each time in a process of its own."""
    program = (
        "import sys, airflow.sdk, airflow.providers.standard.operators.hitl\n"
        "before = set(sys.modules)\n"
        f"import airflow_provider_jdocr.{module}\n"
        "print(*(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    imported = done.stdout.split()
    assert f"airflow_provider_jdocr.{module}" in imported
    assert not [name for name in imported if within(name, *HEAVY, "airflow_provider_jdocr.tasks")]


def test_what_every_airflow_command_imports_is_next_to_nothing() -> None:
    """The commands themselves are imported when one of them runs."""
    ours = {
        name for name in imports(PACKAGE / "cli" / "definition.py") if within(name, "airflow_provider_jdocr")
    }
    assert not ours
    assert not list(imports(PACKAGE / "cli" / "__init__.py"))


def test_provider_info_imports_nothing() -> None:
    """Every component of Airflow calls it, the smallest command included."""
    assert not list(imports(PACKAGE / "get_provider_info.py"))
    assert not list(imports(PACKAGE / "__init__.py"))
