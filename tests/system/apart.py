"""A command in a network of its own, as on another host: nothing there but a loopback of its own, and on it
the ports that are named, which lead to the same ports here.

``python -m tests.system.apart DOORS PORT,PORT… COMMAND…`` is run inside the new network by `command_apart`.
A Unix socket is a file and no part of a network, so one in the folder DOORS carries what a port is given to
the other side. Needs Linux and the right to make a network; `why_not` says what is missing.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1
_UNSHARE = ("unshare", "--net", *(() if os.geteuid() == 0 else ("--map-root-user",)))
_PIECE_BYTES = 65_536

_T = TypeVar("_T")
_Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


def why_not() -> str | None:
    """Why no command can have a network of its own here; None: it can."""
    if not shutil.which("unshare"):
        return "unshare is not installed (Debian: util-linux)"
    tried = subprocess.run([*_UNSHARE, "true"], capture_output=True, text=True, check=False)
    return f"a network of its own is not allowed here: {tried.stderr.strip()}" if tried.returncode else None


@contextmanager
def doors(folder: Path, ports: Sequence[int]) -> Iterator[Path]:
    """This side of the doors: what comes through the folder's sockets goes to the ports of this machine."""
    folder.mkdir()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, loop).result(10)

    listening: list[asyncio.Server] = []
    try:
        listening += [
            run(asyncio.start_unix_server(_relay(_to_port(port)), folder / str(port))) for port in ports
        ]
        yield folder
    finally:
        run(_close(listening))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def command_apart(folder: Path, ports: Sequence[int], command: Sequence[str]) -> list[str]:
    """`command`, to be run in a network of its own that has these ports of this one."""
    named = ",".join(map(str, ports))
    return [*_UNSHARE, sys.executable, "-m", "tests.system.apart", str(folder), named, *command]


def main() -> None:
    folder, named, *command = sys.argv[1:]
    _raise_loopback()
    listening, ready = os.pipe()
    if os.fork() == 0:
        os.close(listening)
        asyncio.run(_serve(Path(folder), [int(port) for port in named.split(",")], ready))
    os.close(ready)
    os.read(listening, 1)
    os.execvp(command[0], command)  # noqa: S606 - becomes the command that it was given


def _raise_loopback() -> None:
    """A new network's loopback is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        _, flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


async def _serve(folder: Path, ports: Sequence[int], ready: int) -> None:
    for port in ports:
        await asyncio.start_server(_relay(_to_socket(folder / str(port))), "127.0.0.1", port)
    os.write(ready, b".")
    await asyncio.Event().wait()


def _to_port(port: int) -> _Connect:
    return lambda: asyncio.open_connection("127.0.0.1", port)


def _to_socket(path: Path) -> _Connect:
    return lambda: asyncio.open_unix_connection(path)


def _relay(connect: _Connect) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """Hands on, both ways, whatever an accepted connection brings."""

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await connect()
        except OSError:
            writer.close()
            return
        await asyncio.gather(_hand_on(reader, back), _hand_on(there, writer))

    return accepted


async def _hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with suppress(ConnectionError):
            while piece := await reader.read(_PIECE_BYTES):
                writer.write(piece)
                await writer.drain()
    finally:
        writer.close()


async def _close(listening: Sequence[asyncio.Server]) -> None:
    for one in listening:
        one.close()
    relaying = asyncio.all_tasks() - {asyncio.current_task()}
    for task in relaying:
        task.cancel()
    await asyncio.gather(*relaying, return_exceptions=True)


if __name__ == "__main__":
    main()
