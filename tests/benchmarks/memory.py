"""The most memory that a task holds, above a process that has imported the same and does nothing.

Pictures lie in S3, the ledger is PostgreSQL. A batch that keeps what it has read, or one line a picture,
shows as a peak that grows with the number of pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from airflow_provider_jdocr.core.batch import Policy, recognise_batch
from airflow_provider_jdocr.core.ledger import RunKey
from airflow_provider_jdocr.core.sources import select
from tests.benchmarks.measure import apart, peak_megabytes
from tests.benchmarks.rows import Row, Size
from tests.benchmarks.scans import scan
from tests.benchmarks.stage import QUIET, Database, Service, bucket, database, ledger_of, service
from tests.system.pictures import stub_picture

SMALL_BYTES = 20_000


@dataclass(frozen=True, slots=True)
class Load:
    images: int
    picture_bytes: int
    max_in_flight: int = 4


LOADS = {
    "small": [Load(20, SMALL_BYTES), Load(200, SMALL_BYTES), Load(20, 300_000), Load(8, 4_900_000)],
    "full": [
        Load(200, SMALL_BYTES),
        Load(10_000, SMALL_BYTES),
        Load(200, 300_000),
        Load(5_000, 300_000),
        Load(200, 4_900_000),
        Load(200, 4_900_000, max_in_flight=16),
    ],
}


def run(size: Size, seed: int, say: Callable[[str], None]) -> Iterator[Row]:
    nothing = apart(peak_of_nothing)
    yield {"case": "nothing", "peak_mb": nothing}
    with service() as target:
        for load in LOADS[size]:
            say(f"{load.images} pictures of {load.picture_bytes} bytes, {load.max_in_flight} in flight")
            with bucket(_files(load)) as prefix, database("postgresql") as books:
                found = apart(peak_of_a_batch, target, books, prefix, load.max_in_flight)
            asked = {"images": load.images, "picture_bytes": load.picture_bytes}
            above = round(found["peak_mb"] - nothing, 1)
            yield {"case": "batch", **asked, "max_in_flight": load.max_in_flight, **found, "above_mb": above}


def _files(load: Load) -> Iterator[tuple[str, bytes]]:
    for number in range(load.images):
        if load.picture_bytes == SMALL_BYTES:
            yield f"{number:06}.png", stub_picture(number, least_bytes=load.picture_bytes)
        else:
            yield f"{number:06}.jpg", scan(number, load.picture_bytes)


def peak_of_nothing() -> float:
    import airflow_provider_jdocr.operators  # noqa: F401 - what the file of a DAG imports

    return round(peak_megabytes(), 1)


def peak_of_a_batch(target: Service, books: Database, prefix: str, max_in_flight: int) -> dict[str, Any]:
    import airflow_provider_jdocr.operators  # noqa: F401 - likewise
    from airflow_provider_jdocr.storage import open_storage

    with ledger_of(books.url) as ledger:
        storage = open_storage(prefix)
        manifest = recognise_batch(
            select(prefix, storage),
            storage=storage,
            account=target.account(),
            ledger=ledger,
            run=RunKey("benchmark", hashlib.sha256(prefix.encode()).hexdigest(), "recognise"),
            policy=Policy(max_in_flight=max_in_flight),
            log=QUIET,
        )
        assert manifest.recognised == manifest.inputs, manifest.summary()
        return {"peak_mb": round(peak_megabytes(), 1), "seconds": manifest.seconds}
