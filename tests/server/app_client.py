"""The OCR service on a port of this machine, and a client of it as a reader of JD's pages would write it.

The signing is spelled out here once more, from the description and for this one request: neither the
package's signer nor the service's verifier has a part in it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import requests
import uvicorn

from airflow_provider_jdocr.server.app import Engine, Settings, create_app
from airflow_provider_jdocr.server.recognise import ReadField, Reading, Unreadable
from airflow_provider_jdocr.server.wire import Bounds, uvicorn_config

KEY = "test-key"
SECRET = "test-secret"
OCR = "/jdai/ocr_invoice"
INTSIG = "/INTSIG/invoice"
JPEG = b"\xff\xd8\xff\xe0"
PNG = b"\x89PNG\r\n\x1a\n"
BMP = b"BM"

_TIMEOUT_SECONDS = 30
_READ = {
    "vat_invoice_daima": "3700081650",
    "vat_invoice_haoma": "01599485",
    "vat_invoice_issue_date": "2009年4月24日",
    "vat_invoice_payer_name": "华电虎林凤力发电有限公司",
    "vat_invoice_rate_payer_id": "372569065123562",
    "vat_invoice_seller_name": "山东阳谷振璃工艺制品司",
    "vat_invoice_seller_id": "372522168018036",
    "vat_invoice_total": "￥13,675.21",
    "vat_invoice_tax_total": "¥2324.79",
    "vat_invoice_total_cover_tax_digits": "¥ 16000.00",
    "vat_invoice_correct_code": "44095028783173850994",
}
BOX = (10, 20, 110, 20, 110, 40, 10, 40)


def reading(kind: str = "vat_common_invoice", **texts: str) -> Reading:
    """What an engine saw; ``texts`` by INTSIG key replace those of the sample."""
    fields = {**_READ, **texts} if kind != "other" else {}
    return Reading(
        type=kind,
        fields=tuple(ReadField(key, text, 0.987, BOX) for key, text in fields.items() if text),
        width=640,
        height=480,
        angle=0,
        engine="book",
    )


class Book:
    """An engine that reads what is written for a picture; it counts, and may be made to wait."""

    name = "book"

    def __init__(self) -> None:
        self.written: dict[bytes, Reading] = {}
        self.seen: list[bytes] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.warmed = False

    def warm(self) -> None:
        self.warmed = True

    def read(self, picture: bytes) -> Reading:
        self.seen.append(picture)
        self.may_answer.wait(_TIMEOUT_SECONDS)
        if b"unreadable" in picture:
            raise Unreadable("nothing to see")
        if b"crash" in picture:
            raise ZeroDivisionError("as told")
        return self.written.get(picture, reading("other" if b"other" in picture else "vat_common_invoice"))


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True, slots=True)
class Running:
    """The service, and what a test wants to turn."""

    url: str
    engine: Any
    clock: Clock
    ticks: Clock

    def post(self, path: str, body: bytes, **how: Any) -> requests.Response:
        """One signed call with a connection of its own; ``how`` goes to the signing."""
        send = how.pop("send", send_alone)
        prepared = signed(path, self.url, body, self.clock(), **how)
        response: requests.Response = send(prepared)
        return response

    def ocr(self, picture: bytes, **how: Any) -> requests.Response:
        return self.post(OCR, picture, **how)

    def intsig(self, picture: bytes, **how: Any) -> requests.Response:
        return self.post(INTSIG, base64.b64encode(picture), **how)

    def behave(self, **change: Any) -> dict[str, Any]:
        response = requests.post(f"{self.url}/-/behave", json=change, timeout=_TIMEOUT_SECONDS)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def bill(self) -> list[dict[str, str]]:
        answer: list[dict[str, str]] = requests.get(f"{self.url}/-/bill", timeout=_TIMEOUT_SECONDS).json()
        return answer

    def calls(self) -> list[dict[str, str]]:
        answer: list[dict[str, str]] = requests.get(f"{self.url}/-/calls", timeout=_TIMEOUT_SECONDS).json()
        return answer

    def health(self) -> dict[str, Any]:
        answer: dict[str, Any] = requests.get(f"{self.url}/-/health", timeout=_TIMEOUT_SECONDS).json()
        return answer


@contextmanager
def serving(engine: Engine, bounds: Bounds | None = None, **settings: Any) -> Iterator[Running]:
    """The service under uvicorn, in a thread of this process, with clocks that stand still."""
    clock, ticks = Clock(time.time()), Clock(1000.0)
    chosen = Settings(KEY, SECRET, **({"control": True} | settings))
    app = create_app(chosen, engine, clock=clock, ticks=ticks)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        server = uvicorn.Server(uvicorn_config(app, host="127.0.0.1", port=port, bounds=bounds))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(url)
            yield Running(url, engine, clock, ticks)
        finally:
            server.should_exit = True
            thread.join(_TIMEOUT_SECONDS)
    assert not thread.is_alive()


def wait_for(url: str, alive: Callable[[], bool] = lambda: True, verify: bool | str = True) -> None:
    """Until the service answers; the socket accepts at once, so the first request does the waiting."""
    ends = time.monotonic() + _TIMEOUT_SECONDS
    while alive() and time.monotonic() < ends:
        try:
            if requests.get(f"{url}/-/health", timeout=_TIMEOUT_SECONDS, verify=verify).ok:
                return
        except requests.ConnectionError:
            threading.Event().wait(0.02)
    raise AssertionError(f"no service at {url}")


def send_alone(prepared: requests.PreparedRequest, timeout: float = _TIMEOUT_SECONDS) -> requests.Response:
    with requests.Session() as session:
        return session.send(prepared, timeout=timeout, allow_redirects=False)


def signed(
    path: str,
    url: str,
    body: bytes,
    now: float,
    *,
    auth: str | None = None,
    key: str = KEY,
    secret: str = SECRET,
    **changed: str,
) -> requests.PreparedRequest:
    """A signed request; ``changed`` are values of the query or headers that are changed after signing."""
    auth = auth or ("jdcloud2" if path == OCR else "appkey")
    if auth == "appkey":
        query = {**appkey_query(now, key, secret), **changed}
        query = {name: value for name, value in query.items() if value != "-"}
        return requests.Request("POST", url + path, params=query, data=body).prepare()
    headers = jdcloud2_headers(path, url.split("//")[1], body, now, key, secret)
    headers |= {name.replace("_", "-"): value for name, value in changed.items()}
    headers = {name: value for name, value in headers.items() if value != "-"}
    return requests.Request("POST", url + path, headers=headers, data=body).prepare()


def appkey_query(now: float, key: str = KEY, secret: str = SECRET) -> dict[str, str]:
    timestamp = str(int(now * 1000))
    sign = hashlib.md5((secret + timestamp).encode(), usedforsecurity=False).hexdigest()
    return {"appkey": key, "timestamp": timestamp, "sign": sign}


def jdcloud2_headers(
    path: str, host: str, body: bytes, now: float, key: str = KEY, secret: str = SECRET
) -> dict[str, str]:
    date = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    payload = hashlib.sha256(body).hexdigest()
    headers = {
        "content-type": "application/octet-stream",
        "host": host,
        "x-jdcloud-content-sha256": payload,
        "x-jdcloud-date": date,
        "x-jdcloud-nonce": uuid.uuid4().hex,
    }
    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    canonical = f"POST\n{path}\n\n{lines}\n{names}\n{payload}"
    scope = f"{date[:8]}/cn-north-1/apigateway/jdcloud2_request"
    text = f"JDCLOUD2-HMAC-SHA256\n{date}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    secret_now = b"JDCLOUD2" + secret.encode()
    for part in scope.split("/"):
        secret_now = hmac.new(secret_now, part.encode(), "sha256").digest()
    signature = hmac.new(secret_now, text.encode(), "sha256").hexdigest()
    authorization = (
        f"JDCLOUD2-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return {**headers, "Authorization": authorization}
