"""What anybody may send to the local service: an answer of its contracts, and never one of 500.

Several requests make an input, so that a change of behaviour is followed by calls that meet it. They go to
the application itself, which stands on a clock of its own and is set back before each input.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import random
import time
from collections.abc import Sequence
from typing import Any, Self

from PIL import Image, PngImagePlugin

from airflow_provider_jdocr.server.app import Settings, create_app
from airflow_provider_jdocr.server.recognise import StubEngine
from airflow_provider_jdocr.server.wire import Bounds
from tests.fuzz import mutate
from tests.fuzz.run import Breach, Outcome
from tests.server.app_client import INTSIG, KEY, OCR, SECRET, appkey_query, jdcloud2_headers

NOW = 1_760_000_000.0
_HOST = "127.0.0.1:8600"
_PATIENCE_SECONDS = 0.25
_MOST_KEPT = 2**20
_CONTROL = ("/-/health", "/-/bill", "/-/calls", "/-/behave")
_PATHS = (
    OCR,
    INTSIG,
    *_CONTROL,
    "/",
    "/jdai/ocr_invoice/",
    "/JDAI/ocr_invoice",
    "/-/",
    "/%2e%2e",
    "/docs",
    "/\xff",
)
_METHODS = ("POST", "POST", "POST", "GET", "HEAD", "PUT", "OPTIONS", "post", "X")
_HEADERS = (
    *(
        "authorization",
        "content-type",
        "content-length",
        "host",
        "x-jdcloud-date",
        "x-jdcloud-nonce",
        "origin",
    ),
    *(
        "x-jdcloud-content-sha256",
        "x-jdcloud-algorithm",
        "x-jdcloud-security-token",
        "x-forwarded-for",
        "forwarded",
    ),
    *("transfer-encoding", "content-encoding", "expect", "range", "cookie", "accept"),
)
_VALUES = (
    *(
        "",
        " ",
        "-1",
        "0",
        "99999999999999999999",
        "１",
        "abc",
        "application/json",
        "application/json; charset=utf-16",
    ),
    *(
        "127.0.0.1",
        "[::1",
        "localhost",
        "evil.example",
        "20251009T090640Z",
        "２0251009T090640Z",
        "00000000T000000Z",
    ),
    *(
        "JDCLOUD2-HMAC-SHA256 Credential=a/b/c/d/jdcloud2_request, SignedHeaders=host, Signature=" + "0" * 64,
        "\xff\x00",
    ),
    *(
        "JDCLOUD2-HMAC-SHA256 Credential=////jdcloud2_request, SignedHeaders=;;;, Signature=" + "f" * 64,
        "gzip",
        "x" * 9_000,
    ),
)
_BEHAVE: tuple[dict[str, Any], ...] = (
    {"qps": 0, "daily_limit": -1},
    {"qps": 2.5, "window": "token"},
    {"window": "fixed", "qps": 1e-300},
    {"latency": 0.0, "daily_limit": 1, "total_limit": 1},
    {"body_encoding": "any", "remain": "zero", "reset_time": "23:59:59"},
    {"clock_offset_seconds": 86_400.5},
    {"faults": [{"fault": "code", "code": 10020, "count": 2}, {"fault": "late", "seconds": 0.0}]},
    {"faults": [{"fault": "code", "layer": "business", "code": "12005", "charge": True, "envelope": False}]},
    {"faults": [{"fault": "envelope", "set": {"charge": "x"}, "unset": ["msg"]}, {"fault": "half"}]},
    {"faults": [{"fault": "status", "http_status": 503, "word": "UNAVAILABLE"}, {"fault": "html_502"}]},
    {"faults": [{"fault": "close_before_body", "how": "reset"}, {"fault": "close_after_billing"}]},
    {
        "faults": [
            {"fault": "huge", "bytes": 100_000},
            {"fault": "garbage"},
            {"fault": "redirect", "location": "/x"},
        ]
    },
    {
        "faults": [
            {"fault": "chunk_forever", "seconds": 0.001},
            {"fault": "drop_envelope"},
            {"fault": "truncated_json"},
        ]
    },
    {"faults": [{"fault": "result_as_string", "endpoint": "ocr_invoice", "sha256": "0" * 64}]},
)
_WORDS = (
    *(
        "reset",
        "latency",
        "qps",
        "window",
        "daily_limit",
        "total_limit",
        "body_encoding",
        "remain",
        "reset_time",
    ),
    *(
        "clock_offset_seconds",
        "faults",
        "fault",
        "count",
        "endpoint",
        "sha256",
        "billed",
        "layer",
        "code",
        "msg",
    ),
    *(
        "charge",
        "envelope",
        "http_status",
        "word",
        "empty",
        "location",
        "bytes",
        "seconds",
        "how",
        "set",
        "unset",
    ),
)

Step = tuple[str, str, str, list[tuple[str, str]], bytes, bool]
"""Method, path, query, headers, body, and whether it is signed as it should be before anything is changed."""
Given = list[Step]


class Requests:
    """Requests → answers of the two contracts and of the controls."""

    name = "requests"
    seconds = 10.0
    megabytes = 400

    def __init__(self) -> None:
        settings = Settings(KEY, SECRET, control=True, qps=0.0, daily_limit=-1, workers=1, uploads=4)
        self._app = create_app(settings, StubEngine(), clock=lambda: NOW, ticks=time.monotonic)
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.close()

    def seeds(self) -> list[Given]:
        picture = _picture()
        calls: list[Step] = [
            ("POST", OCR, "", [], picture, True),
            ("POST", INTSIG, "", [], base64.b64encode(picture), True),
            ("GET", "/-/health", "", [], b"", False),
            ("GET", "/-/bill", "", [], b"", False),
        ]
        changes = [_behave(json.dumps(change).encode()) for change in _BEHAVE]
        return [[call] for call in calls] + [[change, *calls] for change in changes]

    def new(self, rng: random.Random, seeds: Sequence[Given]) -> Given:
        steps = list(rng.choice(seeds if rng.random() < 0.4 else seeds[: 4 + len(_BEHAVE)]))
        for _ in range(rng.choice((1, 1, 2, 3))):
            at = rng.randrange(len(steps))
            steps[at] = _changed(rng, steps[at])
        if rng.random() < 0.1:
            steps.insert(0, rng.choice(rng.choice(seeds)))
        return steps[:6]

    def judge(self, given: Given) -> Outcome:
        asked = [_behave(b'{"reset": true}'), *given, ("GET", "/-/health", "", [], b"", False)]
        return self._loop.run_until_complete(self._ask_all(asked))

    async def _ask_all(self, steps: Sequence[Step]) -> Outcome:
        said: list[str] = []
        told = False
        for step in steps:
            status, headers, body = await self._ask(step)
            if step[1] == "/-/behave" and status == 200:
                told = b'"faults_waiting":0' not in body.replace(b" ", b"") or (
                    told and b'"reset"' not in step[4]
                )
            said.append(str(status))
            if not told:
                _check_answer(step, status, headers, body)
        if said[0] != "200" or said[-1] != "200":
            raise Breach(f"the service is no longer itself: {said}")
        return Outcome(said[-2], tuple(said))

    async def _ask(self, step: Step) -> tuple[int, dict[bytes, bytes], bytes]:
        """The answer; status 0: the connection was closed, 1: it was held back for longer than we wait."""
        scope, messages = _scope(step), [{"type": "http.request", "body": step[4], "more_body": False}]
        status, headers, body = 0, {}, bytearray()

        async def receive() -> dict[str, Any]:
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status, headers = message["status"], dict(message["headers"])
            body.extend(message.get("body", b"")[: _MOST_KEPT - len(body)])
            await asyncio.sleep(0)  # as a connection would, which may be gone by then

        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._app(scope, receive, send)
        except TimeoutError:
            status = status or 1
        return status, headers, bytes(body)


class _Transport:
    """A connection that is closed when told, and is no socket."""

    def close(self) -> None:
        """Nothing is open."""

    abort = close

    def get_extra_info(self, _: str) -> Any:
        return self

    def setsockopt(self, *_: object) -> None:
        """Nor lingers."""


def _scope(step: Step) -> dict[str, Any]:
    method, path, query, headers, body, is_signed = step
    made = {"host": _HOST, "content-length": str(len(body))}
    if is_signed and path == OCR:
        made |= {name.lower(): value for name, value in jdcloud2_headers(path, _HOST, body, NOW).items()}
    if is_signed and path == INTSIG:
        query = "&".join(
            filter(None, (query, *(f"{name}={value}" for name, value in appkey_query(NOW).items())))
        )
    lines = [*made.items(), *headers]
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8", "surrogatepass"),
        "query_string": query.encode("utf-8", "surrogatepass"),
        "root_path": "",
        "headers": [(name.encode(), value.encode("utf-8", "surrogatepass")) for name, value in lines],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8600),
        "state": {"transport": _Transport(), "bounds": Bounds()},
    }


_DECLARED = frozenset({200, 400, 401, 403, 404, 405, 408, 413, 415, 422})


def _check_answer(step: Step, status: int, headers: dict[bytes, bytes], body: bytes) -> None:
    """Where nobody told the service to misbehave."""
    if status == 1:
        return  # latency, as told
    if status not in _DECLARED:
        raise Breach(f"{step[0]} {step[1]} is answered {status}: {body[:300]!r}")
    if step[0] == "HEAD" or status == 405:
        return
    answer = json.loads(body)
    is_call = step[1] in (OCR, INTSIG) and step[0] == "POST"
    if is_call and not ({"code", "charge"} <= answer.keys() or "error" in answer):
        raise Breach(f"in no contract: {body[:300]!r}")
    if SECRET.encode() in body or any(SECRET.encode() in value for value in headers.values()):
        raise Breach("the secret is in the answer")


# ── inputs ──


def _picture() -> bytes:
    info = PngImagePlugin.PngInfo()
    fields = {
        "vat_invoice_daima": "3700081650",
        "vat_invoice_haoma": "01599485",
        "vat_invoice_total": "￥1,234.50",
    }
    info.add_text("jdocr-truth", json.dumps({"type": "vat_special_invoice", "fields": fields}))
    out = io.BytesIO()
    Image.new("RGB", (120, 100)).save(out, "PNG", pnginfo=info)
    return out.getvalue()


def _behave(body: bytes) -> Step:
    return "POST", "/-/behave", "", [("content-type", "application/json")], body, False


def _changed(rng: random.Random, step: Step) -> Step:
    method, path, query, headers, body, is_signed = step
    match rng.randrange(10):
        case 0:
            method = rng.choice(_METHODS)
        case 1:
            path = rng.choice(_PATHS)
        case 2:
            query = rng.choice(
                ("appkey=", "appkey=a&appkey=b", f"appkey={KEY}&timestamp=1&sign=", "&&==", "%", "%ff=%00")
            )
            query += rng.choice(("", mutate.some_text(rng)[:200], "&a=b" * 500))
        case 3 | 4:
            value = rng.choice((*_VALUES, mutate.some_text(rng)[:300]))
            headers = [*headers, (rng.choice(_HEADERS), value)]
        case 5:
            is_signed = not is_signed
        case _ if path == "/-/behave":
            body = _other_behaviour(rng, body)
        case _:
            body = _other_picture(rng, body)
    return method, path, query, headers, body, is_signed


def _other_behaviour(rng: random.Random, body: bytes) -> bytes:
    if rng.random() < 0.15:
        return mutate.mutated_bytes(rng, body)
    try:
        change = json.loads(body)
    except (ValueError, RecursionError):
        change = {}
    changed = mutate.mutated_json(rng, change if isinstance(change, dict) else {}, _WORDS)
    return mutate.encoded(rng, mutate.spelled(rng, changed))


def _other_picture(rng: random.Random, body: bytes) -> bytes:
    """Truths of any kind and depth inside the picture, which the stub answers; or any accident."""
    if rng.random() < 0.5 or b"jdocr-truth" not in body:
        return mutate.mutated_bytes(rng, body, (b"data:image/png;base64,", b"=", b"jdocr-truth\0"))
    truth = {"type": "vat_roll_invoice", "fields": {"vat_invoice_haoma": "1", "vat_invoice_total": "2"}}
    for _ in range(rng.choice((1, 2, 3))):
        truth = mutate.mutated_json(
            rng, truth, ("type", "fields", "vat_invoice_daima", "vat_invoice_issue_date")
        )
    info = PngImagePlugin.PngInfo()
    text = mutate.spelled(rng, truth).encode("latin-1", "replace").decode("latin-1")
    info.add_text("jdocr-truth", text[:50_000])
    out = io.BytesIO()
    Image.new("L", (120, 100)).save(out, "PNG", pnginfo=info)
    return out.getvalue()
