"""One invoice in three files, really read by the local service."""

from __future__ import annotations

import io
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import pytest
from PIL import Image

from airflow_provider_jdocr.core.batch import QrRules
from tests.demo.look import Looked, look, told

SPECIMEN = Path(__file__).parents[1] / "specimens" / "pictures" / "electronic_plain.png"
ENDPOINT = "intsig_invoice"


def _saved(picture: Image.Image, form: str, **how: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **how)
    return out.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scan, a photo of the sheet, and the scan as somebody else saved it."""
    made = tmp_path_factory.mktemp("three")
    with Image.open(SPECIMEN) as scan:
        photo = scan.convert("L").rotate(2, expand=True, fillcolor=235, resample=Image.Resampling.BICUBIC)
        (made / "1 scan.png").write_bytes(SPECIMEN.read_bytes())
        (made / "2 photo.jpg").write_bytes(_saved(photo, "JPEG", quality=85))
        (made / "3 copy.png").write_bytes(_saved(scan.convert("RGB"), "PNG"))
    return made


def _looked(folder: Path, home: Path, same_invoice: Literal["send", "reuse"]) -> Looked:
    return look(folder, home, QrRules(same_invoice=same_invoice), [ENDPOINT])[ENDPOINT]


def _rows(home: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(home / "warehouse.db")) as db:
        return list(db.execute(query))


@pytest.mark.parametrize(("same_invoice", "calls"), [("send", 3), ("reuse", 1)])
def test_an_invoice_in_three_files_is_one_invoice_and_three_documents(
    folder: Path, tmp_path: Path, same_invoice: Literal["send", "reuse"], calls: int
) -> None:
    looked = _looked(folder, tmp_path, same_invoice)
    assert (looked.manifest.recognised, looked.manifest.reused) == (calls, 3 - calls)
    assert looked.billed == looked.manifest.calls == calls, "the service's own bill says so, too"
    truths = json.loads((SPECIMEN.parent / "truth.json").read_text(encoding="utf-8"))
    (truth,) = (each["fields"] for each in truths if each["file"] == SPECIMEN.name)
    ((code, number, total, status),) = _rows(
        tmp_path, "SELECT code, number, total, review_status FROM jdocr_invoices"
    )
    assert (code, number, f"{total:.2f}", status) == (truth["code"], truth["number"], truth["total"], "clear")
    assert len(_rows(tmp_path, "SELECT document_id FROM jdocr_documents")) == 3
    found = [code for (code,) in _rows(tmp_path, "SELECT code FROM jdocr_findings")]
    assert (found.count("DUPLICATE_DOCUMENT"), found.count("READ_FROM_ANOTHER")) == (2, 3 - calls)
    assert not [line for line in told(tmp_path, ENDPOINT) if "DIFFERS" in line]
