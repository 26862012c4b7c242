"""``python -m tests.demo.look FOLDER``: pictures of one's own through the whole line, and what came of each.

The local OCR service really reads them; ledger and warehouse are SQLite files in a folder that is removed
in the end, unless it is named. Both endpoints are asked, one after the other. Shown are the row, the
findings and what the QR code says beside what was read. Nothing leaves this machine.
"""

from __future__ import annotations

import argparse
import json
import logging
import secrets
import sqlite3
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow_provider_jdocr.core.account import Account, account_from_parts
from airflow_provider_jdocr.core.batch import Manifest, Policy, QrRules, recognise_batch
from airflow_provider_jdocr.core.engines import engine_for
from airflow_provider_jdocr.core.ledger import Ledger, RunKey
from airflow_provider_jdocr.core.loading import load_answers
from airflow_provider_jdocr.core.qr import AmountIs, InvoiceCode, parse_code
from airflow_provider_jdocr.core.sources import Source
from airflow_provider_jdocr.core.warehouse import LoadReport, Warehouse
from tests.demo.services import ENDPOINTS, ocr_service

QUIET = logging.getLogger("jdocr.look")
SHOWN = (
    *("kind", "code", "number", "issue_date", "check_code", "amount", "tax", "tax_rate_text", "total"),
    *("total_in_words", "buyer_name", "buyer_tax_id", "seller_name", "seller_tax_id", "takes_back"),
)
BY_CODE = ("code", "number", "issue_date", "check_code", "seller_tax_id")
AMOUNTS = {AmountIs.BEFORE_TAX: "amount", AmountIs.TOTAL: "total"}


class Folder:
    """Files of this machine, under their names."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def list(self, prefix: str, after: str | None = None, until: str | None = None) -> Iterator[Source]:
        for path in sorted(each for each in self._root.rglob("*") if each.is_file()):
            yield self.stat(path.relative_to(self._root).as_posix())

    def stat(self, uri: str) -> Source:
        found = (self._root / uri).stat()
        return Source(uri, found.st_size, modified=found.st_mtime)

    def read(self, uri: str) -> bytes:
        return (self._root / uri).read_bytes()


@dataclass(frozen=True, slots=True)
class Looked:
    """What one endpoint made of the folder."""

    manifest: Manifest
    loaded: LoadReport
    billed: int


def look(folder: Path, home: Path, rules: QrRules, endpoints: Sequence[str] = ENDPOINTS) -> dict[str, Looked]:
    """The line for each endpoint; the rows are in ``home/warehouse.db``."""
    key, secret = secrets.token_hex(16), secrets.token_hex(16)
    ledger = Ledger(engine_for(f"sqlite:///{home / 'ledger.db'}"))
    warehouse = Warehouse(engine_for(f"sqlite:///{home / 'warehouse.db'}"))
    ledger.create()
    warehouse.create()
    looked = {}
    with ocr_service(home / "look.log", key, secret) as url:
        for endpoint in endpoints:
            manifest = _recognise(folder, ledger, _account(url, key, secret, endpoint), rules)
            found = ((each.identity, each.uri) for each in ledger.outcomes(manifest.run) if each.identity)
            loaded = load_answers(ledger, warehouse, found, today=datetime.now(UTC).date(), log=QUIET)
            with urllib.request.urlopen(f"{url}/-/bill", timeout=10) as answer:
                billed = sum(call["endpoint"] == endpoint for call in json.load(answer))
            looked[endpoint] = Looked(manifest, loaded, billed)
    return looked


def _recognise(folder: Path, ledger: Ledger, account: Account, rules: QrRules) -> Manifest:
    storage, run = Folder(folder), RunKey("look", account.endpoint.name, "recognise")
    policy = Policy(qr=rules)
    return recognise_batch(
        storage.list(""), storage=storage, account=account, ledger=ledger, run=run, policy=policy, log=QUIET
    )


def _account(url: str, key: str, secret: str, endpoint: str) -> Account:
    host, _, port = url.removeprefix("http://").partition(":")
    # Reading takes a second or two here, and much longer when the machine is busy elsewhere.
    extra = {"endpoint": endpoint, "read_timeout_seconds": 180}
    return account_from_parts(
        login=key, password=secret, host=host, port=int(port), schema="http", extra=extra, name="look"
    )


def told(home: Path, endpoint: str) -> Iterator[str]:
    """Each document: its row, its findings, its code beside what was read."""
    with closing(sqlite3.connect(home / "warehouse.db")) as db:
        db.row_factory = sqlite3.Row
        query = "SELECT * FROM jdocr_documents WHERE endpoint = ? ORDER BY uris"
        for row in map(dict, db.execute(query, [endpoint])):
            yield f"\n{', '.join(json.loads(row['uris']))}: {row['state']}, {row['review_status']}"
            yield from (f"  {name:16} {_shown(row[name])}" for name in SHOWN if row[name] is not None)
            yield f"  {'lines':16} {row['line_count']}"
            yield from _codes(row)
            findings = "SELECT * FROM jdocr_findings WHERE document_id = ? ORDER BY position"
            for each in db.execute(findings, [row["document_id"]]):
                parts = (each["severity"], each["code"], each["fields"], each["message"], each["proposal"])
                yield "  ! " + " | ".join(filter(None, parts))


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.2f}"


def _codes(row: Mapping[str, Any]) -> Iterator[str]:
    printed = json.loads(row["evidence"]).get("qr_code")
    if printed is None:
        yield "  QR               none was read"
        return
    for text in printed["text"].split("\n"):
        yield f"  QR               {text}"
        said = parse_code(text)
        if not isinstance(said, InvoiceCode):
            yield f"    which is       {said.what}"
            continue
        for name, value in _facts(said):
            read = row[name]
            same = float(value) == read if name in AMOUNTS.values() else value == read
            yield f"    {name:14} {'agrees' if same else f'DIFFERS: the code says {value}, read was {read}'}"


def _facts(code: InvoiceCode) -> Iterator[tuple[str, str]]:
    pairs = [(name, getattr(code, name)) for name in BY_CODE]
    pairs += [(AMOUNTS[code.amount_is], code.amount)] if code.amount_is in AMOUNTS else []
    yield from ((name, str(value)) for name, value in pairs if value is not None)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.demo.look", description=__doc__)
    add = parser.add_argument
    add("folder", type=Path)
    add("--same-invoice", choices=("send", "reuse"), default="send")
    add("--no-invoice", choices=("send", "reject"), default="send")
    add("--keep", type=Path, metavar="FOLDER", help="where ledger and warehouse are to stay")
    options = parser.parse_args(argv)
    rules = QrRules(same_invoice=options.same_invoice, no_invoice=options.no_invoice)
    with tempfile.TemporaryDirectory(prefix="jdocr-look-") as removed:
        home = options.keep or Path(removed)
        home.mkdir(parents=True, exist_ok=True)
        for endpoint, found in look(options.folder, home, rules).items():
            print(f"\n=== {endpoint}: {found.manifest.summary()}; {found.billed} billed")
            print(*told(home, endpoint), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
