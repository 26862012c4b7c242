"""The audit finds what an index reports, and does not take an index that is silent for good news."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests import audit
from tests.audit import Pin, Report, Vulnerability

ROOT = Path(__file__).resolve().parent.parent
BAD = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fixed_in": ["1.1"], "withdrawn": None}
PINS = "good==1.0\nbad-one==1.0 ; sys_platform == 'linux'\n# a comment\nBad_One==1.0\n"


class Index:
    """An index of packages: path → status and body."""

    def __init__(self) -> None:
        self.pages: dict[str, Any] = {}
        self.asked: list[str] = []
        self.url = ""

    def knows(self, name: str, *vulnerabilities: Any) -> None:
        self.pages[f"/pypi/{name}/1.0/json"] = {"info": {}, "vulnerabilities": vulnerabilities}


@pytest.fixture
def index() -> Iterator[Index]:
    index = Index()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            index.asked.append(self.path)
            page = index.pages.get(self.path)
            body = page if isinstance(page, bytes) else json.dumps(page).encode()
            self.send_response(404 if page is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        index.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield index
        server.shutdown()


def _run(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    (tmp_path / "constraints.txt").write_text(PINS)
    monkeypatch.setenv("JDOCR_AUDIT_INDEX", index.url)
    monkeypatch.setattr(audit, "needed", dict)
    return audit.main([str(tmp_path / "constraints.txt")])


def test_every_pin_is_asked_for_once_and_nothing_known_is_success(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.knows("good")
    index.knows("bad-one", BAD | {"withdrawn": "2026-01-01"})
    assert _run(index, tmp_path, monkeypatch) == 0
    assert index.asked == ["/pypi/bad-one/1.0/json", "/pypi/good/1.0/json"]


def test_a_known_vulnerability_fails_and_is_named_with_the_version_that_mends_it(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    index.knows("good")
    index.knows("bad-one", BAD)
    assert _run(index, tmp_path, monkeypatch) == 1
    assert "bad-one 1.0: PYSEC-1, CVE-1, mended in 1.1" in capsys.readouterr().out


@pytest.mark.parametrize("page", [None, b"<html>", b"{}", b"{"], ids=["404", "HTML", "without", "cut"])
def test_an_index_that_cannot_be_asked_is_no_success(
    page: bytes | None,
    index: Index,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if page is not None:
        index.pages = dict.fromkeys(("/pypi/good/1.0/json", "/pypi/bad-one/1.0/json"), page)
    assert _run(index, tmp_path, monkeypatch) == 2
    assert "does not tell of 2 of 2: nothing is known of these" in capsys.readouterr().out


def test_an_index_that_answers_nothing_is_not_asked_for_everything(index: Index) -> None:
    report = audit.ask(index.url, [Pin(f"p{number}", "1.0") for number in range(50)])
    assert len(index.asked) == audit.FIRST_TRIES
    assert len(report.unknown) == 50


def test_what_is_ignored_does_not_fail_until_it_is_gone() -> None:
    report = Report((Vulnerability(Pin("a", "1"), ("PYSEC-1", "CVE-1"), ()),), (), 1)
    assert report.against({}) == ["a 1: PYSEC-1, CVE-1, not mended in any version"]
    assert report.against({"CVE-1": "why"}) == []
    assert report.against({"CVE-1": "why", "CVE-2": "why"}) == [
        "CVE-2 is ignored and not reported any more: take it out"
    ]


def test_the_constraints_of_both_lines_are_read_whole() -> None:
    for path in (ROOT / "constraints").glob("*.txt"):
        text = path.read_text()
        lines = {line.partition(";")[0].strip() for line in text.splitlines() if not line.startswith("#")}
        assert len(audit.pins([text])) == len(lines - {""}) > 100


def test_no_licence_of_what_is_needed_binds_what_imports_it() -> None:
    packages = {name: audit.licence(installed) for name, installed in audit.needed().items()}
    assert len(packages) > 50, "nothing was looked at"
    assert not {name: said for name, said in packages.items() if audit.binds(name, said)}


@pytest.mark.parametrize(
    ("said", "binding"),
    [
        ("MIT", False),
        ("MIT AND (Apache-2.0 OR BSD-2-Clause)", False),
        ("MIT License; Apache Software License", False),
        ("GPL-3.0-only", True),
        ("MIT AND GPL-2.0-or-later", True),
        ("AGPL-3.0-only", True),
        ("", True),
        ("Proprietary", True),
    ],
)
def test_a_licence_that_is_not_known_to_be_permissive_has_to_be_looked_at(said: str, binding: bool) -> None:
    assert audit.binds("some-package", said) is binding
