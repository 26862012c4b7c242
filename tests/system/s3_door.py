"""The way to the S3 server that the Airflow of the tests takes: it can be made to fail, and it remembers the
signatures of what went through.

Only reading goes this way (GET, HEAD); tests put their pictures directly.
"""

import http.client
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import urlsplit

Fault = Literal["error", "slow", "cut", "refuse"]
FAULTS: tuple[Fault, ...] = ("error", "slow", "cut", "refuse")
SLOW_SECONDS = 1.5
_BUSY = b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Reduce your rate.</Message></Error>'
_OWN = frozenset({"connection", "transfer-encoding", "content-length", "date", "server"})


class S3Door:
    """Forwards to `s3_url`. `fault`, while it is set, befalls every request; None: nothing is wrong.

    ``error`` answers 503 SlowDown, ``slow`` waits before it answers, ``cut`` ends in the middle of the body,
    ``refuse`` closes the connection without a word.
    """

    def __init__(self, s3_url: str) -> None:
        self.fault: Fault | None = None
        self.signatures: set[str] = set()
        self.faulty_requests = 0
        self._s3 = urlsplit(s3_url).netloc
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def serve(self) -> None:
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        door = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                door.pass_through(self)

            do_HEAD = do_GET  # noqa: N815 - the base class looks for this name

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
                pass

        return Handler

    def pass_through(self, request: BaseHTTPRequestHandler) -> None:
        self.signatures |= set(
            re.findall(r"Signature=([0-9a-f]+)", f"{request.headers['Authorization']} {request.path}")
        )
        fault = self.fault
        self.faulty_requests += fault is not None
        if fault == "refuse":
            request.close_connection = True
            return
        if fault == "slow":
            time.sleep(SLOW_SECONDS)
        status, headers, body = (503, [], _BUSY) if fault == "error" else self._forward(request)
        _answer(request, status, headers, body, whole=fault != "cut")

    def _forward(self, request: BaseHTTPRequestHandler) -> tuple[int, list[tuple[str, str]], bytes]:
        s3 = http.client.HTTPConnection(self._s3, timeout=60)
        try:
            s3.request(request.command, request.path, headers=dict(request.headers))
            answer = s3.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            s3.close()


def _answer(
    request: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], body: bytes, *, whole: bool
) -> None:
    length = next((value for name, value in headers if name.lower() == "content-length"), str(len(body)))
    request.send_response(status)
    for name, value in headers:
        if name.lower() not in _OWN:
            request.send_header(name, value)
    request.send_header("Content-Length", length if request.command == "HEAD" else str(len(body)))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body if whole else body[: len(body) // 2])
    request.close_connection = request.close_connection or not whole


@contextmanager
def s3_door(s3_url: str) -> Iterator[S3Door]:
    door = S3Door(s3_url)
    door.serve()
    try:
        yield door
    finally:
        door.close()
