"""Bytes that come back over a connection: a reply or a failure of the wire, bounded in size and time.

A server on loopback takes whatever the client sends and answers with the input, raw. Declared: ``Reply`` with
at most ``MAX_REPLY_BYTES``, whose meaning is then read, or a ``WireFailure`` of the table that says that the
service was reached. Nothing is raised, whatever the bytes are.
"""

from __future__ import annotations

import gzip
import random
import socket
import threading
import zlib
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

from airflow_provider_jdocr.core.account import account_from_parts
from airflow_provider_jdocr.core.client import MAX_REPLY_BYTES, Client, WireFailure
from airflow_provider_jdocr.core.errors import CODES
from airflow_provider_jdocr.core.replies import read_failure, read_reply
from tests.fuzz import mutate
from tests.fuzz.replies import REPLIES, check_reading
from tests.fuzz.run import Breach, Outcome

_TIMEOUT_SECONDS = 0.3
_STATUS_LINES = (
    *(
        b"HTTP/1.1 200 OK",
        b"HTTP/1.0 200 OK",
        b"HTTP/1.1 200",
        b"HTTP/1.1  200  OK",
        b"HTTP/1.1 502 Bad Gateway",
    ),
    *(
        b"HTTP/1.1 302 Found",
        b"HTTP/1.1 301",
        b"HTTP/1.1 100 Continue",
        b"HTTP/1.1 204 No Content",
        b"HTTP/1.1 304 X",
    ),
    *(
        b"HTTP/1.1 999 X",
        b"HTTP/1.1 0 X",
        b"HTTP/1.1 -1 X",
        b"HTTP/1.1 2000 X",
        b"HTTP/1.1 \xef\xbc\x92\xef\xbc\x90\xef\xbc\x90 X",
    ),
    *(
        b"HTTP/2 200",
        b"HTTP/9.9 200 OK",
        b"ICY 200 OK",
        b"SIP/2.0 200 OK",
        b"<html>",
        b"",
        b"HTTP/1.1 200 " + b"x" * 70_000,
    ),
)
_HEADERS = (
    *(
        b"Content-Type: application/json",
        b"Content-Type: \xff\xfe",
        b"Content-Length: 0",
        b"Content-Length: -1",
    ),
    *(
        b"Content-Length: 10",
        b"Content-Length: 99999999999999999999",
        b"Content-Length: 5, 6",
        b"Content-Length: \xd9\xa3",
    ),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: x"),
    *(
        b"Content-Encoding: gzip",
        b"Content-Encoding: deflate",
        b"Content-Encoding: br",
        b"Content-Encoding: gzip, gzip",
    ),
    *(
        b"Location: https://evil.example/",
        b"Location: \xff\xfe",
        b"Location: http://[::1",
        b"Location: //",
        b"Location: \x01",
    ),
    *(
        b"Location: http://a:b:c/",
        b"Location: ",
        b"Location: file:///etc/passwd",
        b"Location: http://" + b"a" * 300 + b"/",
    ),
    *(
        b"Set-Cookie: a=b; Expires=x; Domain=\xff",
        b"Set-Cookie: =;;;=",
        b"Connection: close",
        b"Connection: keep-alive",
    ),
    *(
        b"x-jdcloud-request-id: \xe7\xa5\xa8",
        b"x-jdcloud-request-id: " + b"r" * 5_000,
        b"x-request-id: a\x00b",
    ),
    *(
        b"no colon",
        b": no name",
        b" folded",
        b"\x00: \x00",
        b"WWW-Authenticate: Basic",
        b"Upgrade: h2c",
        b"Trailer: x",
    ),
    *(
        b"Date: " + b"9" * 60_000,
        b"Refresh: 0",
        b"Link: <x>;;;rel=",
        b"Content-Type: text/html; charset=\xff",
    ),
)

Given = tuple[bytes, bool]
"""What the server answers, and whether it keeps the connection open afterwards."""


class Wire:
    """Raw bytes as the answer to a call → a reply or a failure of the wire."""

    name = "wire"
    seconds = 20.0
    megabytes = 300

    def __init__(self) -> None:
        self._server = _Server()
        extra = {"connect_timeout_seconds": 5, "read_timeout_seconds": _TIMEOUT_SECONDS}
        self._account = account_from_parts(
            login="AK", password="SK", host=self._server.url, port=None, schema=None, extra=extra
        )
        self._client = Client(self._account)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._server.close()

    def seeds(self) -> list[Given]:
        bodies = [path.read_bytes() for path in sorted(REPLIES.glob("ocr*"))]
        plain = [_whole(b"HTTP/1.1 200 OK", [b"Content-Length: %d" % len(body)], body) for body in bodies]
        chunked = _whole(b"HTTP/1.1 200 OK", [b"Transfer-Encoding: chunked"], _chunked(bodies[0], 100))
        packed = _whole(b"HTTP/1.1 200 OK", [b"Content-Encoding: gzip"], gzip.compress(bodies[0], mtime=0))
        return [(answer, False) for answer in (*plain, chunked, packed)]

    def new(self, rng: random.Random, seeds: Sequence[Given]) -> Given:
        open_end = rng.random() < 0.002
        if rng.random() < 0.5:
            answer = rng.choice(seeds)[0]
            for _ in range(rng.choice((1, 1, 2, 4))):
                answer = mutate.mutated_bytes(
                    rng, answer, (b"\r\n", b"\r\n\r\n", b"\n", b"\0", b":", b"HTTP/1.1 200 OK\r\n")
                )
            return answer, open_end
        return _answer(rng), open_end

    def judge(self, given: Given) -> Outcome:
        self._server.answer = given
        found = self._client.send(b"picture")
        if isinstance(found, WireFailure):
            if not found.reached or ("wire", found.code) not in CODES or len(found.detail) > 400:
                raise Breach(f"not a failure of a call that was received: {found}")
            reading = read_failure(found)
            return Outcome(found.code, (reading.verdict, found.detail[:40]))
        if len(found.body) > MAX_REPLY_BYTES or len(found.content_type) > 200:
            raise Breach(f"{len(found.body)} bytes of reply, {len(found.content_type)} of its type")
        if found.request_id is not None and (
            len(found.request_id) > 128 or not found.request_id.isprintable()
        ):
            raise Breach(f"a request id of {found.request_id!r}")
        reading = read_reply(self._account.endpoint, found.status, found.body)
        check_reading(reading, found.status, found.body)
        return Outcome("a reply", (found.status, reading.verdict, bool(found.body), bool(found.content_type)))


class _Server:
    """Takes one call a connection and answers it with what it is told."""

    def __init__(self) -> None:
        self.answer: Given = (b"", False)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        # Wakes the thread, which a close alone would not.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    self._one(connection)

    def _one(self, connection: socket.socket) -> None:
        connection.settimeout(5)
        try:
            asked = b""
            while not asked.endswith(b"picture"):
                if not (part := connection.recv(65_536)):
                    return
                asked += part
            answer, open_end = self.answer
            connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)
            if open_end:
                connection.recv(1)
        except OSError:
            """The client had enough."""


def _whole(status: bytes, headers: Sequence[bytes], body: bytes) -> bytes:
    return b"\r\n".join((status, *headers, b"", body))


def _chunked(body: bytes, size: int) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def _answer(rng: random.Random) -> bytes:
    headers = rng.choices(_HEADERS, k=rng.choice((0, 1, 2, 4)))
    headers *= rng.choice((1, 1, 1, 60)) if len(headers) < 3 else 1
    body = rng.choice((b'{"code":"10020","charge":false}', b"", b"<html>", mutate.some_bytes(rng, 2_000)))
    match rng.randrange(12):
        case 0:
            body = _chunked(body, rng.choice((1, 7, 1_000)))
        case 1:
            body = b"%x;%b\r\n%b" % (rng.choice(mutate.NUMBERS), mutate.some_bytes(rng, 9), body)
        case 2:
            body = gzip.compress(body, mtime=0)[: rng.randint(0, 60)]
        case 3 if rng.random() < 0.1:
            body = _packed(rng.choice((1_000_000, 50_000_000)), gzip=rng.random() < 0.5)
        case 4 if rng.random() < 0.1:
            body = b" " * rng.choice((MAX_REPLY_BYTES - 1, MAX_REPLY_BYTES, MAX_REPLY_BYTES + 1, 20_000_000))
        case 5:
            return b"HTTP/1.1 100 Continue\r\n\r\n" * rng.choice((1, 3, 200)) + _whole(
                b"HTTP/1.1 200 OK", headers, body
            )
    return _whole(rng.choice(_STATUS_LINES), headers, body)


def _packed(size: int, *, gzip: bool) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31 if gzip else 15)
    return b"".join(packer.compress(bytes(1_000_000)) for _ in range(size // 1_000_000)) + packer.flush()
