"""A batch in which the first endpoint misreads every tenth picture: what escalation finds, costs and settles.

Drawn fictitious invoices of several kinds are recognised through the real local service, which reads every
picture, and is told to misread one text of every tenth at `ocr_invoice`. Batch, escalation, ledger, loading
and warehouse are the product's. Every value of the warehouse is then held against what was drawn.

    python -m tests.escalation --pictures 300
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import random
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from airflow_provider_jdocr.core.account import Account, account_from_parts
from airflow_provider_jdocr.core.batch import Manifest, Policy
from airflow_provider_jdocr.core.engines import engine_for
from airflow_provider_jdocr.core.escalation import recognise_escalating
from airflow_provider_jdocr.core.ledger import Identity, Ledger, RunKey
from airflow_provider_jdocr.core.loading import load_answers
from airflow_provider_jdocr.core.parsing import OCR_INVOICE_COLUMNS, read_text
from airflow_provider_jdocr.core.prices import price_of
from airflow_provider_jdocr.core.reconciling import meaning
from airflow_provider_jdocr.core.sources import Missing, Source
from airflow_provider_jdocr.core.warehouse import Warehouse
from tests.demo.services import ocr_service
from tests.injection.mistakes import LOOK_ALIKES
from tests.specimens.draw import draw

KEY, SECRET = "a-key-of-this-run", "a-secret-of-this-run"
FIRST, SECOND = "ocr_invoice", "intsig_invoice"
FIELDS = (
    *("code", "number", "issue_date", "check_code", "amount", "tax", "total"),
    *("buyer_name", "buyer_tax_id", "seller_name", "seller_tax_id"),
)
MISREAD = ("total", "seller_tax_id", "amount and tax", "number", "issue_date", "number missing")
"""What is misread, in turn."""
_LOG = logging.getLogger("escalation")


@dataclass(frozen=True, slots=True)
class Picture:
    content: bytes
    truth: Mapping[str, Any]
    misread: str = ""
    told: Mapping[str, str] | None = None

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


class Folder:
    """The pictures as a storage."""

    def __init__(self, pictures: Sequence[Picture]) -> None:
        self._pictures = {f"file:///{index:04}.img": each for index, each in enumerate(pictures)}

    def list(self, prefix: str, after: str | None, until: str | None) -> Iterator[Source]:
        raise NotImplementedError("the sources are given")

    def sources(self) -> Iterator[Source]:
        yield from (Source(uri, len(each.content), each.sha256) for uri, each in self._pictures.items())

    def stat(self, uri: str) -> Source | Missing:
        return Source(uri)

    def read(self, uri: str) -> bytes:
        return self._pictures[uri].content


def drawn(count: int, every: int, seed: int) -> list[Picture]:
    pictures = []
    for index in range(count):
        made = draw(seed * 100_000 + index)
        picture = Picture(made.picture, made.truth["fields"])
        if index % every == every - 1:
            what = MISREAD[index // every % len(MISREAD)]
            picture = Picture(made.picture, picture.truth, what, _misread(what, picture.truth, index))
        pictures.append(picture)
    return pictures


def _misread(what: str, truth: Mapping[str, Any], seed: int) -> dict[str, str]:
    """Texts by the endpoint's own keys."""
    rng = random.Random(f"escalation/{seed}")
    names: dict[str, str] = {}
    if what == "amount and tax" and truth["tax"]:
        names = {"amount": truth["tax"], "tax": truth["amount"]}
    elif what == "number missing":
        names = {"number": ""}
    elif what == "issue_date":
        names = {what: truth[what].replace("-", "")}
        names[what] = _other_digit(rng, names[what], among=range(2, 8))
    else:
        what = what if what in ("total", "number", "seller_tax_id") else "total"
        names = {what: _look_alike(rng, truth[what])}
    return {OCR_INVOICE_COLUMNS[name][0]: text for name, text in names.items()}


def _other_digit(rng: random.Random, text: str, among: range) -> str:
    place = rng.choice(among)
    return text[:place] + rng.choice("0123456789".replace(text[place], "")) + text[place + 1 :]


def _look_alike(rng: random.Random, text: str) -> str:
    place = rng.choice([place for place, character in enumerate(text) if character in LOOK_ALIKES])
    alike = [each for each in LOOK_ALIKES[text[place]] if each.isdigit() or text[0].isalpha()]
    return text[:place] + (alike[0] if alike else "0") + text[place + 1 :]


# ── the run ──


def recognised(folder: Folder, ledger: Ledger, url: str, second: bool, run: str) -> Manifest:
    first = _account(url, FIRST)
    return recognise_escalating(
        folder.sources(),
        storage=folder,
        account=first,
        second=_account(url, SECOND) if second else None,
        ledger=ledger,
        run=RunKey("escalation", run, "recognise"),
        policy=Policy(max_in_flight=2),
        today=date.today(),  # noqa: DTZ011 - of this machine
        log=_LOG,
    )


def _account(url: str, endpoint: str) -> Account:
    return account_from_parts(
        login=KEY,
        password=SECRET,
        host=url,
        port=None,
        schema=None,
        extra={"endpoint": endpoint, "qps": 1000, "read_timeout_seconds": 600},
    )


def loaded(ledger: Ledger, folder: Folder, manifests: Sequence[Manifest], path: Path) -> Warehouse:
    warehouse = Warehouse(engine_for(f"sqlite:///{path}"))
    warehouse.create()
    items = (
        (Identity(outcome.identity.service, outcome.identity.endpoint, outcome.identity.sha256), outcome.uri)
        for manifest in manifests
        for outcome in ledger.outcomes(manifest.run)
        if outcome.identity and outcome.outcome in ("recognised", "reused")
    )
    load_answers(ledger, warehouse, items, today=date.today(), log=_LOG)  # noqa: DTZ011
    return warehouse


def wrong(row: Mapping[str, Any], truth: Mapping[str, Any]) -> list[str]:
    """The fields of a row that are not as they were drawn."""
    return [name for name in FIELDS if _meaning(name, row[name]) != _meaning(name, _drawn(name, truth))]


def _drawn(name: str, truth: Mapping[str, Any]) -> Any:
    return None if truth[name] is None else read_text(name, truth[name])


def _meaning(name: str, value: Any) -> Any:
    return None if value is None else meaning(name, value)


def judged(warehouse: Warehouse, pictures: Sequence[Picture]) -> dict[str, Any]:
    """What the warehouse says of every picture, and whether it is true."""
    tables, counts = warehouse.tables, Counter[str]()
    fates: dict[str, Counter[str]] = {}
    silently: list[dict[str, Any]] = []
    with warehouse.reading() as db:
        documents = [dict(row) for row in db.execute(sa.select(tables.documents)).mappings()]
        invoices = [dict(row) for row in db.execute(sa.select(tables.invoices)).mappings()]
    of_picture: dict[str, set[str]] = {}
    for row in documents:
        of_picture.setdefault(row["sha256"], set()).add(row["invoice_key"])
    by_key = {row["invoice_key"]: row for row in invoices}
    for picture in pictures:
        rows = [by_key[key] for key in of_picture.get(picture.sha256, ()) if key in by_key]
        clear = [row for row in rows if row["review_status"] == "clear"]
        fate = "review"
        if clear:
            false = [name for row in clear for name in wrong(row, picture.truth)]
            fate = "clear and wrong" if false else "clear and right"
            if false:
                silently.append({"misread": picture.misread, "fields": false})
        counts[fate] += 1
        fates.setdefault(picture.misread or "as it was read", Counter())[fate] += 1
    wrong_documents = sum(
        bool(wrong(row, next(each.truth for each in pictures if each.sha256 == row["sha256"])))
        for row in documents
        if row["review_status"] == "clear"
    )
    return {
        "pictures": dict(counts),
        "by_misreading": {name: dict(each) for name, each in sorted(fates.items())},
        "wrong_values_in_clear_invoices": silently,
        "clear_documents_with_a_wrong_value": wrong_documents,
        "documents": dict(Counter(row["review_status"] for row in documents)),
        "invoices": dict(Counter(row["review_status"] for row in invoices)),
    }


def run(count: int, every: int, seed: int, engine: str = "ocr") -> dict[str, Any]:
    pictures = drawn(count, every, seed)
    folder = Folder(pictures)
    with tempfile.TemporaryDirectory() as place, _service(Path(place), engine, count) as url:
        _behave(url, [_fault(each) for each in pictures if each.told])
        ledger = Ledger(engine_for(f"sqlite:///{place}/ledger.db"))
        ledger.create()
        began = time.monotonic()
        alone = recognised(folder, ledger, url, second=False, run="alone")
        without = judged(loaded(ledger, folder, [alone], Path(place) / "alone.db"), pictures)
        both = recognised(folder, ledger, url, second=True, run="both")
        again = recognised(folder, ledger, url, second=True, run="again")
        with_second = judged(loaded(ledger, folder, both.parts, Path(place) / "both.db"), pictures)
        seconds = time.monotonic() - began
        doubted = _doubted(ledger, both, pictures)
    assert both.escalation is not None
    assert again.escalation is not None
    price = price_of("10k")
    return {
        "pictures": count,
        "misread": sum(bool(each.told) for each in pictures),
        "seconds": round(seconds),
        "first": _said(alone),
        "second": _said(both.escalation) | {"doubted": both.escalation.inputs},
        "a second run": {"calls": again.calls + again.escalation.calls},
        "doubted_by_misreading": doubted,
        "yuan": {
            "price_per_call": str(price),
            "first": str(price * alone.charged),
            "second": str(price * both.escalation.charged),
            "both for every picture": str(price * 2 * count),
        },
        "without escalation": without,
        "with escalation": with_second,
    }


def _doubted(ledger: Ledger, manifest: Manifest, pictures: Sequence[Picture]) -> dict[str, str]:
    assert manifest.escalation is not None
    asked = {each.identity.sha256 for each in ledger.outcomes(manifest.escalation.run) if each.identity}
    found, of = Counter[str](), Counter(each.misread or "as it was read" for each in pictures)
    found.update(each.misread or "as it was read" for each in pictures if each.sha256 in asked)
    return {name: f"{found[name]} of {of[name]}" for name in sorted(of)}


def _said(manifest: Manifest) -> dict[str, Any]:
    names = ("recognised", "reused", "failed_items", "waiting", "calls", "charged")
    return {name: getattr(manifest, name) for name in names}


def _fault(picture: Picture) -> dict[str, Any]:
    return {"fault": "misread", "endpoint": FIRST, "sha256": picture.sha256, "set": dict(picture.told or {})}


def _service(place: Path, engine: str, keep: int) -> AbstractContextManager[str]:
    """The local service as a process of its own; gives its address."""
    options = ("--engine", engine, "--keep", str(keep), "--qps", "0", "--daily-limit", "-1")
    return ocr_service(place / "service.log", KEY, SECRET, *options)


def _behave(url: str, faults: list[dict[str, Any]]) -> None:
    body = json.dumps({"faults": faults}).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"{url}/-/behave", body, headers)
    urllib.request.urlopen(request, timeout=30).close()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.escalation", description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--every", type=int, default=10, help="which pictures the first endpoint misreads")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", choices=("ocr", "stub"), default="ocr", help="stub: reads no picture")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    found = run(options.pictures, options.every, options.seed, options.engine)
    sys.stdout.write(json.dumps(found, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
