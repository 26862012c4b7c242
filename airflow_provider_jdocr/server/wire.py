"""Below HTTP: replies that end the connection, replies that never end, and how much of a body is taken in.

uvicorn offers no way to drop a connection, so its protocol is extended by one thing: a request finds the
transport of its connection in its scope. For that reason ``uvicorn_config`` is the one way to start the
service.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator

import uvicorn
from fastapi import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

_LINGER_NOT_AT_ALL = struct.pack("ii", 1, 0)
_KEEP_ALIVE_SECONDS = 75
_SHUTDOWN_SECONDS = 2


class TransportInScope(H11Protocol):
    """HTTP/1.1 whose requests can reach the connection they came over."""

    # H11Protocol narrows the type of asyncio.Protocol in the same way.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


def uvicorn_config(
    app: ASGIApp, *, host: str, port: int, certfile: str | None = None, keyfile: str | None = None
) -> uvicorn.Config:
    """How this service is run. No access log: the query of a signed URL is as good as a key for minutes."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=TransportInScope,
        loop="asyncio",
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        ssl_certfile=certfile,
        ssl_keyfile=keyfile,
    )


async def bounded_body(request: Request, limit_bytes: int) -> bytes | None:
    """The body, or None when it is longer; reading stops there, so memory is bounded by the limit."""
    if int(request.headers.get("content-length", "0")) > limit_bytes:
        return None
    parts: list[bytes] = []
    left = limit_bytes
    async for part in request.stream():
        left -= len(part)
        if left < 0:
            return None
        parts.append(part)
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
