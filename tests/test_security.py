"""SECURITY.md promises nothing that no test holds, and says it in both languages."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "SECURITY.zh-CN.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def _promises() -> list[tuple[str, str]]:
    """The rows of the table: promise, and the tests that hold it."""
    table = TEXT.split("| promise | held by |\n", 1)[1].split("\n\n", 1)[0]
    rows = [line.strip("|").split(" | ") for line in table.splitlines()[1:]]
    return [(row[0].strip(), row[1]) for row in rows if not row[0].strip().startswith("**")]


def _functions(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("promise", "held_by"), _promises(), ids=lambda value: value[:40])
def test_every_promise_names_tests_that_there_are(promise: str, held_by: str) -> None:
    named = NAMED.findall(held_by)
    assert named, promise
    assert NAMED.sub("", held_by).strip() == "", "something stands there that is no test"
    assert not [f"{path}::{name}" for path, name in named if name not in _functions(path)]


def test_the_table_was_read() -> None:
    assert len(_promises()) >= 20


def test_both_languages_have_the_same_parts() -> None:
    def parts(text: str) -> int:
        return len(re.findall(r"^## ", text, re.MULTILINE))

    assert parts(TEXT) == parts(CHINESE) == 3
    groups = re.findall(r"^\| \*\*", TEXT, re.MULTILINE)
    promised = CHINESE.split("## 承诺", 1)[1].split("## ", 1)[0]
    assert len(re.findall(r"^- \*\*", promised, re.MULTILINE)) == len(groups)
