"""A ledger as an older version left it: its tables, as they were printed then, and rows in each of them.

Frozen: the statements are those of their time and are not to be made again from today's tables.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tests.core import ledgers
from tests.core.ledgers import DAY_IS_OVER, GOOD, RUN, START, identity

VERSIONS = (1, 2, 3)
_SCHEMAS = Path(__file__).parent / "schemas"
_ACCOUNT = {"service": "jd", "endpoint": "ocr_invoice", "fingerprint": ledgers.account().fingerprint}
_ENDS = START + 3600.0


def create(engine: sa.Engine, version: int) -> None:
    """The tables of that version with the books of a small run."""
    statements = (_SCHEMAS / f"version_{version}.{engine.dialect.name}.sql").read_text(encoding="utf-8")
    with engine.begin() as db:
        for statement in filter(str.strip, statements.split(";\n")):
            db.execute(sa.text(statement))
    for table, rows in rows_of_every_table(version).items():
        insert(engine, table, rows)


def insert(engine: sa.Engine, table: str, rows: list[dict[str, Any]]) -> None:
    """Inserts as a process of that version does: by the names of the columns that it knows."""
    names = list(rows[0])
    with engine.begin() as db:
        db.execute(sa.table(table, *(sa.column(name) for name in names)).insert(), rows)


def rows_of_every_table(version: int, prefix: str = "") -> dict[str, list[dict[str, Any]]]:
    """Rows by table. `prefix` makes those of another run, beside the first."""
    decision: dict[str, Any] = {"id": _id(prefix, "decision"), "recognition_id": _number(prefix, "doubtful")}
    decision |= {"attempt_id": _id(prefix, "doubtful"), "decision": "charged", "decided_by": "kim"}
    decision |= {"reason": "账单", "decided_at": START}
    decided: dict[str, list[dict[str, Any]]] = {"jdocr_decision": [decision]} if version > 1 else {}
    pace: dict[str, Any] = {"held": 0.9, "grown_at": START} if version > 1 else {}
    return {
        "jdocr_source": [
            {"uri_digest": prefix.ljust(64, "0"), "uri": "s3://bucket/发票.jpg", "stamp": "1" * 64}
            | {"sha256": _image(prefix, "answered"), "seen_at": START}
        ],
        "jdocr_account": [
            _ACCOUNT
            | {"fingerprint": _ACCOUNT["fingerprint"] if not prefix else prefix.ljust(16, "0")}
            | {"next_slot_at": START, "factor": 0.5, "slowed_at": START, "window_ends_at": _ENDS}
            | {"used": 4, "remaining": 96, "known_at": START, "quota_state": "open", "quota_until": None}
            | {"quota_at": 0.0, "probe_until": 0.0}
            | pace
        ],
        "jdocr_run": [
            {"digest": RUN.digest if not prefix else prefix.ljust(64, "0"), "dag_id": RUN.dag_id}
            | {"run_id": RUN.run_id, "task_id": RUN.task_id, "map_index": -1, "started_at": START}
        ],
        "jdocr_recognition": [
            _recognition(prefix, "answered", settled="answered", answer_id=_id(prefix, "answered")),
            _recognition(prefix, "failed", settled="failed", answer_id=_id(prefix, "failed")),
            _recognition(prefix, "doubtful", state="in_doubt", doubts=1),
            _recognition(prefix, "claimed", state="claimed", lease_token="c" * 32, lease_until=START + 60),
            _recognition(prefix, "sending", state="sending", lease_token="d" * 32, lease_until=START + 60),
        ],
        "jdocr_attempt": [
            _attempt(prefix, "answered", verdict="success", code="0", reply=GOOD.body, charged=True),
            _attempt(prefix, "failed", verdict="settle_failed", code="12002", reply=b"{}", charged=True),
            _attempt(prefix, "doubtful", state="in_doubt", verdict="in_doubt", code="read_timeout"),
            _attempt(prefix, "sending", state="sending"),
            _attempt(prefix, "again", "claimed", verdict="quota_until_reset", reply=DAY_IS_OVER.body),
        ],
        "jdocr_outcome": [
            {"run_digest": RUN.digest if not prefix else prefix.ljust(64, "0"), "uri_digest": "0" * 64}
            | {"page": 1, "uri": "s3://bucket/发票.jpg", "service": "jd", "endpoint": "ocr_invoice"}
            | {"sha256": _image(prefix, "answered"), "outcome": "recognised", "code": "0", "message": None}
            | {"at": START}
        ],
    } | decided


# Far from where the database counts on, which it does not notice when it is given numbers.
_IMAGES = {"answered": 10_001, "failed": 10_002, "doubtful": 10_003, "claimed": 10_004, "sending": 10_005}


def _number(prefix: str, name: str) -> int:
    return _IMAGES[name] + (1000 if prefix else 0)


def _image(prefix: str, name: str) -> str:
    return identity(prefix + name).sha256


def _id(prefix: str, name: str) -> str:
    return (prefix + name).ljust(32, "0")


def _recognition(prefix: str, name: str, **more: Any) -> dict[str, Any]:
    row = {"id": _number(prefix, name), "service": "jd", "endpoint": "ocr_invoice", "page": 1}
    row |= {"sha256": _image(prefix, name), "state": "idle", "settled": None, "answer_id": None}
    return row | {"lease_token": None, "lease_until": 0.0, "doubts": 0} | more


def _attempt(
    prefix: str, name: str, of: str = "", *, reply: bytes | None = None, **more: Any
) -> dict[str, Any]:
    ended = more.get("state") != "sending"
    row = {"id": _id(prefix, name), "recognition_id": _number(prefix, of or name), "run_digest": RUN.digest}
    row |= _ACCOUNT | {"state": "answered", "started_at": START, "lease_until": START + 60}
    row |= {"ended_at": START + 1 if ended else None, "elapsed_seconds": 0.5, "verdict": None, "layer": None}
    row |= {"code": None, "message": "said", "charged": None, "request_id": None, "http_status": 200}
    return row | {"reply": zlib.compress(reply) if reply else None, "sent_sha256": "2" * 64} | more
