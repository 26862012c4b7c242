"""What a recognised picture costs of a processor, and where that goes.

A process lists a prefix in S3, recognises the pictures through a ledger and reads the answers back, parsed
and checked. Its own time is counted, over all its threads; that of the service, the storage and the
database is not. Beside it, in processes of their own: the bare signed POST of the same bytes, which nothing
can beat, and a loop as it is written by hand. All over TLS.

No QR code is searched for: what that takes is a matter of the pictures, and stands in docs/operators.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

from airflow_provider_jdocr.core import batch
from airflow_provider_jdocr.core.batch import Policy, QrRules, recognise_batch
from airflow_provider_jdocr.core.client import Client
from airflow_provider_jdocr.core.ledger import RunKey
from airflow_provider_jdocr.core.loading import read
from airflow_provider_jdocr.core.preflight import preflight
from airflow_provider_jdocr.core.sources import select
from tests.benchmarks import today
from tests.benchmarks.measure import Probe, apart, measuring
from tests.benchmarks.rows import Row, Size
from tests.benchmarks.scans import scan
from tests.benchmarks.stage import (
    FASTEST_QPS,
    QUIET,
    Database,
    Service,
    bucket,
    database,
    kinds,
    ledger_of,
    service,
)

PICTURE_BYTES = 300_000
IMAGES = {"small": 40, "full": 1_000}
WAITING_QPS = 10.0
"""A rate at which the task mostly waits, as in production."""
RUN = RunKey("benchmark", "run", "recognise")
_PARTS = ("listing", "storage", "preflight", "http", "ledger")


@dataclass(frozen=True, slots=True)
class Job:
    service: Service
    database: Database
    images: str
    qps: float = FASTEST_QPS


def run(size: Size, seed: int, say: Callable[[str], None]) -> Iterator[Row]:
    count = IMAGES[size]
    files = ((f"{number:06}.jpg", scan(number, PICTURE_BYTES)) for number in range(count))
    few = max(10, count // 4)
    with service(tls=True) as target, bucket(files) as prefix:
        for name, floor in FLOORS.items():
            say(f"{name}, {count} pictures")
            yield {"case": name, "images": count, **apart(floor, target, prefix, count)}
        for kind in kinds():
            with database(kind) as books:
                say(f"ours, ledger in {books.name}, {count} pictures")
                found = apart(ours, Job(target, books, prefix))
                yield {"case": "ours", "ledger": kind, "server": books.name, "qps": None, **found}
        with database("postgresql") as books:
            say(f"ours at {WAITING_QPS:g} QPS, {few} pictures")
            found = apart(ours, Job(target, books, [f"{prefix}{n:06}.jpg" for n in range(few)], WAITING_QPS))  # type: ignore[arg-type]
            yield {"case": "ours", "ledger": "postgresql", "server": books.name, "qps": WAITING_QPS, **found}


def ours(job: Job) -> dict[str, Any]:
    """Milliseconds a picture, in all and by part."""
    from airflow_provider_jdocr.storage import open_storage

    probe, account = Probe(), job.service.account(qps=job.qps)
    with ledger_of(job.database.url) as ledger, Client(account) as client:
        with measuring() as sent, patch.object(batch, "preflight", probe.timed("preflight", preflight)):
            storage = probe.around("storage", open_storage(job.images))
            manifest = recognise_batch(
                probe.stream("listing", select(job.images, storage)),
                storage=storage,
                account=account,
                ledger=probe.around("ledger", ledger, apart=True),
                run=RUN,
                policy=Policy(qr=QrRules(read=False)),
                client=probe.around("http", client),
                log=QUIET,
            )
        with measuring() as checked:
            names = [outcome.identity for outcome in ledger.outcomes(RUN) if outcome.identity]
            for start in range(0, len(names), 500):
                for answer in ledger.answers(names[start : start + 500]):
                    read(answer, ["s3://here"], today=datetime.now(UTC).date())
    assert manifest.recognised == manifest.inputs, manifest.summary()
    return _per_image(probe, sent.cpu_seconds, checked.cpu_seconds, manifest.recognised, sent.seconds)


def _per_image(probe: Probe, sent: float, checked: float, images: int, seconds: float) -> dict[str, Any]:
    def ms(of: float) -> float:
        return round(1000 * of / images, 3)

    ledger = {name: of for name, of in probe.seconds.items() if name.startswith("ledger.")}
    parts: dict[str, float] = {name: probe.seconds[name] for name in _PARTS} | {
        "ledger": sum(ledger.values())
    }
    parts["rest"] = sent - sum(parts.values())
    return {
        "images": images,
        "cpu_ms": ms(sent + checked),
        "parts_ms": {name: ms(of) for name, of in parts.items()} | {"parse and check": ms(checked)},
        "ledger_ms": {name.removeprefix("ledger."): ms(of) for name, of in ledger.items()},
        "ledger_calls": {
            name.removeprefix("ledger."): round(count / images, 3)
            for name, count in probe.calls.items()
            if name.startswith("ledger.")
        },
        "images_a_second": round(images / seconds, 1),
    }


def bare_posts(target: Service, _prefix: str, count: int, *, session: bool = True) -> dict[str, Any]:
    """The same bytes, drawn before, one after the other."""
    pictures = [scan(number, PICTURE_BYTES) for number in range(min(count, 200))]
    post = today.poster(target.account(), session=session)
    post(pictures[0])
    with measuring() as used:
        for number in range(count):
            assert today.is_good(post(pictures[number % len(pictures)]))
    return {
        "cpu_ms": round(1000 * used.cpu_seconds / count, 3),
        "images_a_second": round(count / used.seconds, 1),
    }


def bare_posts_without_session(target: Service, prefix: str, count: int) -> dict[str, Any]:
    return bare_posts(target, prefix, count, session=False)


def loop_by_hand(target: Service, prefix: str, count: int) -> dict[str, Any]:
    """One S3 client, one Session, the answer's JSON; no ledger, no preflight, no check."""
    from airflow_provider_jdocr.storage import open_storage

    post = today.poster(target.account(), session=True)
    with measuring() as used:
        storage = open_storage(prefix)
        for found in storage.list(prefix, None, None):
            assert today.is_good(post(storage.read(found.uri)))
    return {
        "cpu_ms": round(1000 * used.cpu_seconds / count, 3),
        "images_a_second": round(count / used.seconds, 1),
    }


FLOORS: dict[str, Callable[[Service, str, int], dict[str, Any]]] = {
    "bare POST, one Session": bare_posts,
    "bare POST, no Session": bare_posts_without_session,
    "loop by hand, one Session": loop_by_hand,
}
