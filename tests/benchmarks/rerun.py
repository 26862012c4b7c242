"""A re-run over pictures that are all answered, in a ledger that holds many more.

The floor is what such a run cannot do without: the listing, and a look at each of its keys in the ledger's
index. Both are measured by themselves, without anything around them, in processes of their own.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import sqlalchemy as sa

from airflow_provider_jdocr.core import schema
from airflow_provider_jdocr.core.account import Account
from airflow_provider_jdocr.core.batch import Policy, recognise_batch
from airflow_provider_jdocr.core.client import Reply
from airflow_provider_jdocr.core.engines import engine_for
from airflow_provider_jdocr.core.ledger import Attempt, Claim, Identity, Ledger, Outcome, RunKey
from airflow_provider_jdocr.core.sources import Source, select
from tests.benchmarks.bulk import fill, parts
from tests.benchmarks.measure import apart, measuring, peak_megabytes
from tests.benchmarks.rows import Row, Size
from tests.benchmarks.stage import BUCKET, QUIET, Kind, Service, connected_to_s3, database, ledger_of
from tests.core.ledgers import GOOD, read
from tests.demo.services import free_port, server

NOWHERE = Service("http://127.0.0.1:9")
"""A run that sends nothing needs nobody who answers."""
PREFIX = f"s3://{BUCKET}/inbox/"
FIRST, AGAIN = RunKey("benchmark", "first", "recognise"), RunKey("benchmark", "again", "recognise")
LOOKED_UP_AT_ONCE = 500
_KEYS = ("uri_digest", "stamp", "sha256")


@dataclass(frozen=True, slots=True)
class Books:
    keys: int
    rows: int


KINDS: Sequence[Kind] = ("sqlite", "postgresql")
BOOKS = {"small": Books(2_000, 10_000), "full": Books(100_000, 1_000_000)}


def run(size: Size, seed: int, say: Callable[[str], None]) -> Iterator[Row]:
    books = BOOKS[size]
    asked = {"keys": books.keys, "ledger_rows": books.rows}
    with listing(books.keys) as url, connected_to_s3(url):
        for kind in KINDS:
            with database(kind) as found:
                say(f"{found.name}: filling a ledger with {books.rows} images")
                with ledger_of(found.url) as ledger:
                    fill_ledger(ledger, books)
                here = {**asked, "ledger": kind, "server": found.name}
                for case, work in (
                    ("listing", partial(list_all, url)),
                    ("look-up", partial(look_up_all, found.url, books.keys)),
                    ("re-run", partial(recognise_again, found.url)),
                ):
                    say(f"{found.name}: {case}")
                    yield {"case": case, **here, **apart(work)}
                with urllib.request.urlopen(f"{url}/-/reads", timeout=10) as answer:
                    yield {"case": "image reads", **here, "reads": int(answer.read())}


@contextmanager
def listing(count: int) -> Iterator[str]:
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "tests.benchmarks.listing_server", str(port), str(count)]
    with (
        tempfile.TemporaryDirectory() as home,
        server(command, f"{url}/-/reads", Path(home) / "log", os.environ),
    ):
        yield url


def source(number: int) -> Source:
    """A file as the listing server lists it."""
    return Source(f"{PREFIX}{number:07}.jpg", 300_000, f"{number:032x}", None, 1_772_366_400.0)


def fill_ledger(ledger: Ledger, books: Books, answer: Reply = GOOD) -> None:
    """One image goes through the ledger as in a batch; its rows, under other names, are all the others."""
    _answer_one(ledger, NOWHERE.account(), answer)
    engine = ledger.engine
    with engine.begin() as db:
        tables = (schema.recognition, schema.attempt, schema.source, schema.outcome)
        like = {table.name: dict(db.execute(table.select()).mappings().one()) for table in tables}
        for table in (schema.source, schema.outcome):
            db.execute(table.delete())
    for table, named in (
        (schema.recognition, _recognition),
        (schema.attempt, _attempt),
        (schema.source, _source),
        (schema.outcome, _outcome),
    ):
        first = 2 if table in (schema.recognition, schema.attempt) else 1
        fill(engine, table, (like[table.name] | named(n) for n in range(first, books.rows + 1)))
    with engine.connect() as db:
        analyse = {"mysql": "ANALYZE TABLE jdocr_source, jdocr_recognition, jdocr_attempt"}
        db.exec_driver_sql(analyse.get(engine.dialect.name, "ANALYZE"))
        db.commit()
    known = ledger.known_sources([source(number) for number in range(min(100, books.keys))])
    assert len(known) == min(100, books.keys), "the ledger does not know what it was filled with"


def _answer_one(ledger: Ledger, account: Account, answer: Reply) -> None:
    identity = Identity(account.service, account.endpoint.name, _sha256(1))
    since = ledger.open_run(FIRST)
    claim = ledger.claim(identity, FIRST)
    assert isinstance(claim, Claim)
    attempt = ledger.begin(claim, account, FIRST, sent_sha256=identity.sha256, asked_since=since)
    assert isinstance(attempt, Attempt)
    ledger.settle(attempt, account, read(answer, account), answer)
    ledger.remember_sources([(source(0), identity.sha256)])
    ledger.write_outcomes(FIRST, account, [Outcome(source(0).uri, identity, "recognised", "10000")])


# Number 1 is the image of the first key.


def _recognition(number: int) -> dict[str, Any]:
    return {"id": number, "sha256": _sha256(number), "answer_id": f"{number:032x}"}


def _attempt(number: int) -> dict[str, Any]:
    return {"id": f"{number:032x}", "recognition_id": number, "sent_sha256": _sha256(number)}


def _source(number: int) -> dict[str, Any]:
    listed = source(number - 1)
    stamp = _digest(str(listed.etag), str(listed.version), str(listed.size), str(listed.modified))
    return {"uri": listed.uri, "uri_digest": _digest(listed.uri), "stamp": stamp, "sha256": _sha256(number)}


def _outcome(number: int) -> dict[str, Any]:
    listed = source(number - 1)
    return {"uri": listed.uri, "uri_digest": _digest(listed.uri), "sha256": _sha256(number)}


def _sha256(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def _digest(*texts: str) -> str:
    """As the ledger makes it; where it does not, `known_sources` knows none of them."""
    return hashlib.sha256("\x1f".join(texts).encode()).hexdigest()


def list_all(url: str) -> dict[str, Any]:
    """boto3's own pages, nothing made of them."""
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "y"}
    s3 = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys)
    with measuring() as used:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="inbox/")
        count = sum(len(page["Contents"]) for page in pages)
    return {"seconds": round(used.seconds, 3), "cpu_seconds": round(used.cpu_seconds, 3), "found": count}


def look_up_all(ledger_url: str, keys: int) -> dict[str, Any]:
    """The keys in the index of the sources, 500 a statement."""
    engine = engine_for(ledger_url)
    names = ", ".join(_KEYS)
    statement = sa.text(f"SELECT {names} FROM jdocr_source WHERE uri_digest IN :some").bindparams(  # noqa: S608
        sa.bindparam("some", expanding=True)
    )
    found = 0
    with measuring() as used, engine.connect() as db:
        for some in parts((_digest(source(number).uri) for number in range(keys)), LOOKED_UP_AT_ONCE):
            found += len(db.execute(statement, {"some": some}).all())
    engine.dispose()
    return {"seconds": round(used.seconds, 3), "cpu_seconds": round(used.cpu_seconds, 3), "found": found}


def recognise_again(ledger_url: str) -> dict[str, Any]:
    from airflow_provider_jdocr.storage import open_storage

    with ledger_of(ledger_url) as ledger:
        storage = open_storage(PREFIX)
        with measuring() as used:
            manifest = recognise_batch(
                select(PREFIX, storage),
                storage=storage,
                account=NOWHERE.account(),
                ledger=ledger,
                run=AGAIN,
                policy=Policy(),
                log=QUIET,
            )
    assert manifest.reused == manifest.inputs, manifest.summary()
    return {
        "seconds": round(used.seconds, 3),
        "cpu_seconds": round(used.cpu_seconds, 3),
        "found": manifest.reused,
        "calls": manifest.calls,
        "peak_mb": round(peak_megabytes(), 1),
    }
