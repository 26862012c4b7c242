"""The OCR service of the system tests: the real one with its stub engine, behind ears and a malicious tongue.

It keeps what it was sent beside the pictures, so that a test may look for the signatures in places where they
must not be, and it repeats them in its replies when told to, as a careless or hostile service might.

``GET /-/heard``   the JSON list of queries and headers of the calls, oldest first
``POST /-/echo``   JSON list of names from ``ECHOES``: the next calls are answered by these, one each, with
                   everything that signed the call written into the answer

Started as ``python -m tests.system.listening_service PORT``; key and secret as for the service itself.
"""

import os
import sys
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from airflow_provider_jdocr.server.__main__ import KEY_VARIABLE, SECRET_VARIABLE
from airflow_provider_jdocr.server.app import Settings, create_app
from airflow_provider_jdocr.server.recognise import StubEngine
from airflow_provider_jdocr.server.wire import uvicorn_config

_KEPT_HEADERS = ("authorization", "x-jdcloud-security-token")


def _system_code(said: str) -> Response:
    return JSONResponse({"code": "10047", "charge": False, "msg": said})


def _charged_failure(said: str) -> Response:
    result = {"code": 12002, "message": said, "request_id": said}
    return JSONResponse({"code": "10000", "charge": True, "remain": 9, "msg": said, "result": result})


def _again(said: str) -> Response:
    return JSONResponse({"code": "10020", "charge": False, "msg": said})


def _no_word_of_charge(said: str) -> Response:
    return JSONResponse({"code": "11010", "msg": said})


def _printed_on_the_invoice(said: str) -> Response:
    fields = dict.fromkeys(
        ("code", "invoice_no", "invoice_date", "invoice_type", "invoice_amount", "verify_code"), said
    )
    names = dict.fromkeys(("buyer_name", "saler_name", "buyer_tax_no", "saler_tax_no"), said)
    result = {"code": 0, "message": said, "request_id": said, "result": fields | names}
    return JSONResponse({"code": "10000", "charge": True, "remain": 9, "msg": said, "result": result})


def _gateway(said: str) -> Response:
    return JSONResponse({"error": {"code": 401, "status": said, "message": said}, "requestId": said}, 401)


def _server_error(said: str) -> Response:
    return JSONResponse({"error": {"code": 500, "status": "INTERNAL", "message": said}}, 500)


def _html(said: str) -> Response:
    return Response(f"<html><body>Bad Gateway: {said}</body></html>", 502, media_type="text/html")


def _redirect(said: str) -> Response:
    return Response(status_code=302, headers={"location": f"/elsewhere?{quote(said)}"})


def _request_id(said: str) -> Response:
    return JSONResponse({"code": "10020", "charge": False}, headers={"x-jdcloud-request-id": said})


def _garbage(said: str) -> Response:
    return Response(b"\x00\xff" + said.encode(), media_type=said)


ECHOES: Mapping[str, Callable[[str], Response]] = {
    "system code": _system_code,
    "charged failure": _charged_failure,
    "again": _again,
    "no word of charge": _no_word_of_charge,
    "printed on the invoice": _printed_on_the_invoice,
    "gateway error": _gateway,
    "server error": _server_error,
    "html": _html,
    "redirect": _redirect,
    "request id": _request_id,
    "garbage": _garbage,
}


class Listening:
    """An application that keeps what signed each call, and answers in its place when told to."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._heard: list[dict[str, Any]] = []
        self._echoes: deque[str] = deque()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer: Response | None = None
        if scope["type"] == "http":
            request = Request(scope, receive)
            if scope["path"] == "/-/heard":
                answer = JSONResponse(self._heard)
            elif scope["path"] == "/-/echo":
                self._echoes = deque(await request.json())
                answer = JSONResponse(list(self._echoes))
            elif not scope["path"].startswith("/-/"):
                answer = await self._listen(request)
        await (answer or self._app)(scope, receive, send)

    async def _listen(self, request: Request) -> Response | None:
        query = request.scope["query_string"].decode("latin-1")
        headers = {name: request.headers[name] for name in _KEPT_HEADERS if name in request.headers}
        self._heard.append({"query": query, "headers": headers})
        if not self._echoes:
            return None
        await request.body()
        said = " ".join((query, *headers.values()))
        return ECHOES[self._echoes.popleft()](f"you sent {said}")


def main(port: int) -> None:
    settings = Settings(os.environ[KEY_VARIABLE], os.environ[SECRET_VARIABLE], qps=100, control=True)
    app = Listening(create_app(settings, StubEngine()))
    uvicorn.Server(uvicorn_config(app, host="127.0.0.1", port=port)).run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
