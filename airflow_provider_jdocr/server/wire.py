"""Below HTTP: what a caller may take of the service, TLS, and replies that end the connection or never end.

uvicorn has no bound on connections, none on the time that a request may take to arrive, and no way to drop a
connection. So its protocol is extended: it counts connections, it watches those that owe it something, and a
request finds the transport of its connection in its scope. For that reason ``uvicorn_config`` is the one way
to start the service.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import h11
import uvicorn
from fastapi import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

_LINGER_NOT_AT_ALL = struct.pack("ii", 1, 0)
_SHUTDOWN_SECONDS = 2
# JD's code for more calls than it can serve. A bare 503 would leave open whether it was charged.
_FULL_BODY = b'{"code": "10044", "charge": false, "msg": "too many connections"}'
_FULL = (
    b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(_FULL_BODY), _FULL_BODY)
)
# Forward secrecy and authenticated encryption only; those of TLS 1.3 all are that.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What callers may take, known or not: connections, and the time and the bytes of a request."""

    connections: int = 256
    """As many again are told that there are too many; more than that are closed unheard."""
    head_seconds: float = 10.0
    """From the connection, or from the first byte of a later request, to the end of the headers."""
    head_bytes: int = 16 * 1024
    body_seconds: float = 60.0
    keep_alive_seconds: float = 75.0


class GuardedConnection(H11Protocol):
    """HTTP/1.1 that ends what a caller drags out, and whose requests can reach their connection."""

    def __init__(self, bounds: Bounds, **options: Any) -> None:
        super().__init__(**options)
        self._bounds = bounds
        self._patience: asyncio.TimerHandle | None = None
        self._turned_away = False

    # H11Protocol narrows the type of asyncio.Protocol in the same way.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport, "bounds": self._bounds}
        if len(self.connections) > 2 * self._bounds.connections:
            transport.abort()
        elif len(self.connections) > self._bounds.connections:
            self._turn_away()
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        if not self._turned_away:
            super().data_received(data)
            self._watch()

    def _turn_away(self) -> None:
        """Says so at once, and takes in what the caller still sends, unread: a connection that is closed over
        it would be reset, and the caller left in doubt.
        """
        self._turned_away = True
        self.transport.write(_FULL)
        self._patience = self.loop.call_later(self._bounds.head_seconds, self.transport.abort)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forgive()

    def _watch(self) -> None:
        if not self._owes():
            self._forgive()
        elif self._patience is None:
            self._patience = self.loop.call_later(self._bounds.head_seconds, self.transport.abort)

    def _owes(self) -> bool:
        """Whether the caller owes headers it has begun, or the rest of a body that was answered unread."""
        if self.conn.their_state is h11.IDLE:
            return self.cycle is None or bool(self.conn.trailing_data[0])
        return self.conn.their_state is h11.SEND_BODY and self.cycle.response_complete

    def _forgive(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


def uvicorn_config(
    app: ASGIApp,
    *,
    host: str,
    port: int,
    certfile: str | None = None,
    keyfile: str | None = None,
    bounds: Bounds | None = None,
) -> uvicorn.Config:
    """How this service is run.

    No access log: the query of a signed URL is as good as a key for minutes. No forwarded headers: whoever
    sends one could call himself loopback. Raises OSError for a certificate or key that cannot be used.
    """
    bounds = bounds or Bounds()
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=partial(GuardedConnection, bounds),  # type: ignore[arg-type]  # it is called, nothing else
        loop="asyncio",
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=bounds.keep_alive_seconds,  # type: ignore[arg-type]  # any number of seconds
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        h11_max_incomplete_event_size=bounds.head_bytes,
    )
    config.load()
    if certfile and keyfile:
        config.ssl = tls_context(certfile, keyfile)
    return config


def tls_context(certfile: str, keyfile: str) -> ssl.SSLContext:
    """TLS 1.2 or newer. Raises OSError where the files cannot be used; never asks for a password."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.load_cert_chain(certfile, keyfile, password="")
    return context


@dataclass(frozen=True, slots=True)
class BodyRefused:
    """Why a body was not taken in, as an HTTP status."""

    status: int
    message: str


async def bounded_body(request: Request, limit_bytes: int) -> bytes | BodyRefused:
    """The body, when it is not too long and does not take too long; memory is bounded by the limit."""
    too_long = BodyRefused(413, f"the body is longer than {limit_bytes} bytes")
    if int(request.headers.get("content-length", "0")) > limit_bytes:
        return too_long
    seconds = getattr(request.state, "bounds", Bounds()).body_seconds
    parts: list[bytes] = []
    left = limit_bytes
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                left -= len(part)
                if left < 0:
                    return too_long
                parts.append(part)
    except TimeoutError:
        return BodyRefused(408, f"the body was not complete after {seconds:g} seconds")
    return b"".join(parts)


class HangUp(Response):
    """No reply: the connection ends, where ``whole`` is given in the middle of its body."""

    def __init__(self, *, reset: bool, whole: Response | None = None) -> None:
        super().__init__()
        self._reset = reset
        self._whole = whole

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._whole is not None:
            await send(
                {
                    "type": "http.response.start",
                    "status": self._whole.status_code,
                    "headers": self._whole.raw_headers,
                }
            )
            body = bytes(self._whole.body)
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        _end(scope["state"]["transport"], reset=self._reset)
        # Once the loss is noticed, uvicorn does not put a 500 of its own in the place of the missing reply.
        while (await receive())["type"] != "http.disconnect":
            pass


def _end(transport: asyncio.Transport, *, reset: bool) -> None:
    if not reset:
        transport.close()
        return
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT_AT_ALL)
    transport.abort()


async def blanks_for_ever(every_seconds: float) -> AsyncIterator[bytes]:
    """A body without an end."""
    while True:
        yield b" "
        await asyncio.sleep(every_seconds)


async def blanks(count: int) -> AsyncIterator[bytes]:
    """A long body, in pieces."""
    piece = b" " * 65_536
    while count > 0:
        yield piece[:count]
        count -= len(piece)


class Stamped:
    """An application whose every reply carries one more header."""

    def __init__(self, app: ASGIApp, name: bytes, value: bytes) -> None:
        self._app = app
        self._header = (name, value)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def stamping(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), self._header]
            await send(message)

        await self._app(scope, receive, stamping)
