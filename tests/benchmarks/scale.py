"""What a million and ten million scans take, from what thousands take.

Ledgers of a thousand to a hundred thousand images are made, as a batch leaves them, with a reply as JD's
sample is. Measured are their size in the database and a whole re-run over all their pictures: listing,
look-up, memory. What is larger is drawn from the last two steps as a line; how long the sending takes and
what it costs follows from rate and price alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import sqlalchemy as sa

from airflow_provider_jdocr.core.client import Reply
from airflow_provider_jdocr.core.schema import metadata
from tests.benchmarks.measure import apart
from tests.benchmarks.rerun import Books, fill_ledger, listing, recognise_again
from tests.benchmarks.rows import Row, Size
from tests.benchmarks.stage import connected_to_s3, database, kinds, ledger_of

STEPS = {"small": (500, 1_000, 2_000), "full": (1_000, 10_000, 100_000)}
REPLY = Path(__file__).resolve().parents[1] / "core" / "replies" / "ocr_invoice.enveloped.json"


def run(size: Size, seed: int, say: Callable[[str], None]) -> Iterator[Row]:
    answer = Reply(200, REPLY.read_bytes(), "application/json", None, 0.1)
    for images in STEPS[size]:
        with listing(images) as url, connected_to_s3(url):
            for kind in kinds():
                with database(kind) as found:
                    say(f"{found.name}: {images} images")
                    with ledger_of(found.url) as ledger:
                        fill_ledger(ledger, Books(images, images), answer)
                        held = megabytes(ledger.engine)
                    again = apart(recognise_again, found.url)
                    here = {"ledger": kind, "server": found.name, "images": images, "ledger_mb": held}
                    yield {"case": "ledger", **here, "reply_bytes": len(answer.body), **again}


def megabytes(engine: sa.Engine) -> float:
    """Tables and indexes of a ledger, in its database."""
    names = ", ".join(f"'{table}'" for table in metadata.tables)
    asked = {
        "sqlite": "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
        "postgresql": f"SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relname IN ({names})",  # noqa: S608
        "mysql": "SELECT sum(data_length + index_length) FROM information_schema.tables "  # noqa: S608
        f"WHERE table_schema = database() AND table_name IN ({names})",
    }
    with engine.connect() as db:
        return round(float(db.exec_driver_sql(asked[engine.dialect.name]).scalar_one()) / 1e6, 1)
