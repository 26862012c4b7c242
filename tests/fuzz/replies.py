"""A reply of the service, whatever it is: a verdict, and from there rows that every database takes.

Declared: ``read_reply`` gives a ``Reading`` for any bytes; what it calls a success can be parsed; an answer
becomes rows, with findings for what cannot be read. Nothing is raised.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import fields
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from airflow_provider_jdocr.core.client import MAX_REPLY_BYTES
from airflow_provider_jdocr.core.documents import (
    HEADER_NUMBERS,
    LINE_NUMBERS,
    LOADING_FINDINGS,
    Rows,
    rows_of,
)
from airflow_provider_jdocr.core.endpoints import ENDPOINTS
from airflow_provider_jdocr.core.errors import CODES, Verdict
from airflow_provider_jdocr.core.findings import CHECKS
from airflow_provider_jdocr.core.ledger import Identity, StoredAnswer
from airflow_provider_jdocr.core.loading import read
from airflow_provider_jdocr.core.parsing import INTSIG_COLUMNS, INTSIG_LINE_COLUMNS, OCR_INVOICE_COLUMNS
from airflow_provider_jdocr.core.replies import Reading, read_reply
from tests.fuzz import mutate
from tests.fuzz.run import Breach, Outcome

REPLIES = Path(__file__).parents[1] / "core" / "replies"
TODAY = date(2026, 3, 1)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

WORDS: tuple[str, ...] = (
    *("code", "charge", "msg", "message", "result", "error", "status", "requestId", "request_id"),
    *("remain", "remainTimes", "remainSeconds", "cost_time", "type", "invoice_type", "class"),
    *("item_list", "product_list", "image_angle", "key", "value", "position", "confidence", "description"),
    *(key for keys in OCR_INVOICE_COLUMNS.values() for key in keys),
    *(key for keys in INTSIG_COLUMNS.values() for key in keys),
    *INTSIG_LINE_COLUMNS.values(),
    *("vat_invoice_total_print", "vat_invoice_zhuan_yong_flag", "vat_invoice_qr_code"),
)
_STATUSES = (
    200,
    200,
    200,
    200,
    200,
    200,
    400,
    401,
    403,
    404,
    413,
    429,
    500,
    502,
    503,
    504,
    100,
    204,
    299,
    599,
)
_WORDS_OF_CODE: tuple[Any, ...] = (
    *(code.code for code in CODES.values()),
    *(int(code.code) for code in CODES.values() if code.code.isdigit()),
    *(10000.0, 200.0, True, False, None, "", " 10000 ", "１００００", "10000.0", -1, [], {}),
)
_WORDS_OF_CHARGE: tuple[Any, ...] = (
    *(True, False, None, "", "true", "false", "TRUE", "False", " true", 0, 1, 1.0, 0.0, "0", "1", "no"),
    *([], [True], {}, "@nan", "ｔｒｕｅ"),
)
# How many bytes of rows one byte of a reply may give rise to, beside a constant.
_MOST_ROWS_PER_BYTE, _ROWS_OF_NOTHING = 80, 100_000
_MOST_BRACKETS = 50_000
"""What Python's own reader makes of more would be counted as the product's memory."""

Given = tuple[str, int, bytes]
"""Endpoint, HTTP status, body."""


class Replies:
    """Bytes with a status → a reading → rows."""

    name = "replies"
    seconds = 10.0
    megabytes = 400

    def seeds(self) -> list[Given]:
        found = [(path.name.split(".")[0], 200, path.read_bytes()) for path in sorted(REPLIES.iterdir())]
        return [*found, *((name, 502, b"<html>Bad Gateway</html>") for name in ENDPOINTS)]

    def new(self, rng: random.Random, seeds: Sequence[Given]) -> Given:
        endpoint, status, body = rng.choice(seeds)
        if rng.random() < 0.05:
            endpoint = rng.choice(tuple(ENDPOINTS))
        if rng.random() < 0.3:
            status = rng.choice(_STATUSES)
        return endpoint, status, new_body(rng, body)

    def judge(self, given: Given) -> Outcome:
        endpoint, status, body = given
        reading = read_reply(ENDPOINTS[endpoint], status, body)
        check_reading(reading, status, body)
        answer = stored(endpoint, status, body, reading)
        rows = rows_of(read(answer, ["s3://b/a.jpg"], today=TODAY))
        check_rows(rows, len(body))
        if reading.verdict is Verdict.SUCCESS and rows.document["state"] != "recognised":
            raise Breach("a success that cannot be parsed")
        findings = frozenset(each.code for each in rows.findings)
        kind = f"{reading.verdict}, {rows.document['state']}"
        code = reading.code if (reading.layer, reading.code) in CODES else "unknown"
        return Outcome(kind, (reading.layer, code, reading.charged, findings, bool(rows.lines)))


def new_body(rng: random.Random, body: bytes) -> bytes:
    """Most often a structural change, since a broken bracket ends all reading at once."""
    if rng.random() < 0.15:
        for _ in range(rng.choice((1, 1, 2, 5))):
            body = mutate.mutated_bytes(rng, body, (b"\0", b"\xff\xfe", b"\\u0000", b"\\ud800", b'"', b"}"))
        return body[:MAX_REPLY_BYTES]
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = {"code": "10000", "charge": True, "result": {}}
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        value = _changed(rng, value)
    return mutate.encoded(rng, mutate.spelled(rng, value))[:MAX_REPLY_BYTES]


def _changed(rng: random.Random, value: Any) -> Any:
    match rng.randrange(12):
        case 0 if isinstance(value, dict):
            value["charge"] = deepcopy(rng.choice(_WORDS_OF_CHARGE))
        case 1 if isinstance(value, dict):
            layer = value.get("result") if rng.random() < 0.6 else value
            (layer if isinstance(layer, dict) else value)["code"] = deepcopy(rng.choice(_WORDS_OF_CODE))
        case 2 if rng.random() < 0.5:
            code, charge = deepcopy((rng.choice(_WORDS_OF_CODE), rng.choice(_WORDS_OF_CHARGE)))
            return {"code": code, "charge": charge, "result": value}
        case 2 if isinstance(value, dict):
            return value.get("result", value)
        case _:
            return mutate.mutated_json(rng, value, WORDS)
    return value


# ── what was promised ──


def check_reading(reading: Reading, status: int, body: bytes) -> None:
    """The rules of money, and texts that a ledger can keep."""
    again = reading.verdict in (Verdict.AGAIN, Verdict.AGAIN_ONCE, Verdict.SLOW_DOWN)
    if again and reading.charged is not False:
        raise Breach(f"sent again although charged is {reading.charged}")
    if (reading.layer, reading.code) not in CODES and reading.verdict not in (
        Verdict.SETTLE_FAILED,
        Verdict.IN_DOUBT,
    ):
        raise Breach(f"the unknown code {reading.code!r} leads to {reading.verdict}")
    word = _charge_said_plainly(body)
    if word is not None and reading.charged is not word:
        raise Breach(f"the envelope says charge {word}, the reading {reading.charged}")
    if status >= 500 and reading.verdict is not Verdict.IN_DOUBT and not body.strip(b"\0 \r\n"):
        raise Breach(f"an empty {status} is {reading.verdict}")
    for text in (reading.layer, reading.code, reading.message, reading.request_id or ""):
        check_text(text, most=500)
    for number in (reading.quota.remaining, reading.quota.seconds_left):
        if number is not None and not 0 <= number < 2**63:
            raise Breach(f"no column holds {number}")


def _charge_said_plainly(body: bytes) -> bool | None:
    """What the outermost object says by JSON's own true or false; by Python's own reader, with its limits."""
    if sum(map(body.count, (b"[", b"{"))) > _MOST_BRACKETS:
        return None
    try:
        value = json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    charge = value.get("charge") if isinstance(value, dict) and depth(value) < 60 else None
    return charge if isinstance(charge, bool) else None


def depth(value: Any) -> int:
    level, here = 0, [value]
    while here:
        level += 1
        here = [
            inner
            for one in here
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
    return level


def stored(endpoint: str, status: int, body: bytes, reading: Reading, name: str = "a" * 64) -> StoredAnswer:
    """What the ledger would give back of a reply."""
    failed = reading.verdict not in (Verdict.SUCCESS, Verdict.IN_DOUBT)
    return StoredAnswer(
        Identity("jd", endpoint, name),
        name[:32],
        NOON,
        "failed" if failed else "recognised",
        reading.code,
        reading.message,
        status,
        body,
    )


def check_rows(rows: Rows, size: int) -> None:
    _check_columns(rows.document, HEADER_NUMBERS)
    for line in rows.lines:
        _check_columns(line, LINE_NUMBERS)
    for finding in rows.findings:
        if finding.code not in CHECKS and finding.code not in LOADING_FINDINGS:
            raise Breach(f"a finding of no table: {finding.code}")
        for name in (field.name for field in fields(finding)):
            value = getattr(finding, name)
            for text in value if isinstance(value, tuple) else (value,):
                check_text(text or "", most=65_535)
    for name in ("evidence", "details"):
        json.loads(rows.document[name], parse_constant=_no_number)
    total = len(json.dumps([rows.document, rows.lines, list(map(repr, rows.findings))], default=str))
    if total > _MOST_ROWS_PER_BYTE * size + _ROWS_OF_NOTHING:
        raise Breach(f"{total} bytes of rows from {size} bytes of reply")


def _no_number(text: str) -> None:
    raise Breach(f"{text} is no JSON")


def _check_columns(row: Mapping[str, Any], numbers: Mapping[str, Any]) -> None:
    for name, value in row.items():
        if isinstance(value, str):
            # What MySQL's TEXT holds; evidence and details are LONGTEXT.
            check_text(value, most=None if name in ("evidence", "details") else 65_535)
        if isinstance(value, Decimal):
            number = numbers[name]
            if not value.is_finite() or abs(value) >= number.limit or value != value.quantize(number.step):
                raise Breach(f"{name} does not fit: {value}")


def check_text(text: str, *, most: int | None) -> None:
    """Text that PostgreSQL, MySQL and SQLite take: no NUL, no half surrogate, not too long."""
    if "\0" in text:
        raise Breach(f"a NUL in {text[:80]!r}")
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        raise Breach(f"half a surrogate in {text[:80]!r}") from None
    if most is not None and length > most * (4 if most == 500 else 1):
        raise Breach(f"{length} bytes in a column of {most}: {text[:80]!r}")
