"""What a caller may take of the service, known or not: connections, bytes and time are bounded."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import requests

from airflow_provider_jdocr.server.wire import Bounds
from tests.server.app_client import INTSIG, JPEG, OCR, Book, Running, serving, signed

PICTURE = JPEG + b"an invoice"
_HEAD_SECONDS = 0.4
_BODY_SECONDS = 0.6
_PATIENCE_SECONDS = 10
"""When a test gives up: far more than any bound, so that a service without one fails."""


@pytest.fixture(scope="module")
def service() -> Iterator[Running]:
    bounds = Bounds(head_seconds=_HEAD_SECONDS, body_seconds=_BODY_SECONDS, keep_alive_seconds=1.0)
    with serving(Book(), bounds, qps=0.0) as running:
        yield running


@contextmanager
def _connected(service: Running) -> Iterator[socket.socket]:
    host, _, port = service.url.partition("//")[2].partition(":")
    with socket.create_connection((host, int(port)), _PATIENCE_SECONDS) as peer:
        yield peer


def _rest(peer: socket.socket) -> bytes:
    """What comes until the service ends the connection; a service that keeps it open fails the test."""
    received = b""
    try:
        while part := peer.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    return received


class _Dripping(threading.Thread):
    """A caller that sends a byte now and then, for as long as it is let."""

    def __init__(self, peer: socket.socket, drop: bytes) -> None:
        super().__init__()
        self._peer, self._drop = peer, drop
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.05):
            try:
                self._peer.sendall(self._drop)
            except OSError:
                return


@contextmanager
def _dripping(peer: socket.socket, drop: bytes) -> Iterator[None]:
    thread = _Dripping(peer, drop)
    thread.start()
    try:
        yield
    finally:
        thread.done.set()
        thread.join()


_HEALTH = b"GET /-/health HTTP/1.1\r\nHost: 127.0.0.1\r\n"


def _ends_within(peer: socket.socket, drop: bytes, seconds: float) -> bytes:
    began = time.monotonic()
    with _dripping(peer, drop):
        received = _rest(peer)
    assert time.monotonic() - began < seconds + 2
    return received


@pytest.mark.parametrize("begun", [b"", b"GET", _HEALTH], ids=["nothing", "a word", "half the headers"])
def test_a_caller_that_does_not_finish_its_headers_is_hung_up_on(service: Running, begun: bytes) -> None:
    with _connected(service) as peer:
        peer.sendall(begun)
        assert _ends_within(peer, b"", _HEAD_SECONDS) == b""


def test_headers_that_drip_end_as_well(service: Running) -> None:
    """Each byte arrives in time; all of them never do."""
    with _connected(service) as peer:
        peer.sendall(_HEALTH + b"X-Slow: ")
        assert _ends_within(peer, b"a", _HEAD_SECONDS) == b""


def test_a_second_request_has_no_more_time_than_the_first(service: Running) -> None:
    with _connected(service) as peer:
        peer.sendall(_HEALTH + b"\r\n" + _HEALTH + b"X-Slow: ")
        received = _ends_within(peer, b"a", 1.0)
    assert received.count(b"HTTP/1.1 200") == 1


def test_an_idle_connection_is_closed(service: Running) -> None:
    with _connected(service) as peer:
        peer.sendall(_HEALTH + b"\r\n")
        assert _rest(peer).count(b"HTTP/1.1 200") == 1


def test_a_body_that_drips_is_answered_408_and_ends(service: Running) -> None:
    with _connected(service) as peer:
        peer.sendall(f"POST {OCR} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n".encode())
        received = _ends_within(peer, b"x", _BODY_SECONDS + _HEAD_SECONDS)
    assert received.startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", OCR, b"413"), ("GET", "/-/health", b"200"), ("POST", "/x", b"404")],
)
def test_a_body_that_nobody_reads_cannot_be_sent_for_ever(
    service: Running, method: str, path: str, status: bytes
) -> None:
    with _connected(service) as peer:
        peer.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n".encode())
        received = _ends_within(peer, b"x", _HEAD_SECONDS)
    assert received.startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(b"X-Long: " + b"a" * 20_000, id="one long header"),
        pytest.param(b"\r\n".join(b"X-%d: a" % n for n in range(3000)), id="many headers"),
        pytest.param(b"X-Folded: a\r\n" + b" a\r\n" * 6000, id="one header on many lines"),
    ],
)
def test_headers_are_bounded_in_bytes(service: Running, headers: bytes) -> None:
    with _connected(service) as peer:
        peer.sendall(_HEALTH + headers)
        assert _rest(peer).startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))


@pytest.mark.parametrize(
    "length", ["-1", "1e9", "+5", "5, 6", "٥", "9" * 30, "9" * 5000], ids=lambda value: value[:10]
)
def test_a_length_that_is_no_number_is_a_bad_request(service: Running, length: str) -> None:
    with _connected(service) as peer:
        peer.sendall(f"POST {OCR} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
        assert _rest(peer).startswith((b"HTTP/1.1 400", b"HTTP/1.1 413"))


@pytest.mark.parametrize("path", ["/-/behave", OCR, INTSIG])
def test_a_body_without_end_is_refused_while_it_is_sent(service: Running, path: str) -> None:
    """FastAPI by itself reads a JSON body whole, whoever sends it."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    with _connected(service) as peer:
        peer.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(9):
            peer.sendall(b"100000\r\n" + bytes(2**20) + b"\r\n")
        assert peer.recv(65536).startswith(b"HTTP/1.1 413")


def test_one_connection_too_many_is_told_so_and_the_others_are_served() -> None:
    with serving(Book(), Bounds(connections=3, head_seconds=1), qps=0.0) as service:
        with _held(service, 3):
            refused = requests.post(f"{service.url}{OCR}", data=bytes(4_000_000), timeout=_PATIENCE_SECONDS)
            assert (refused.status_code, refused.json()["code"]) == (429, "10044")
            assert int(refused.headers["Retry-After"]) > 0
        assert any(_answers(service) for _ in range(100))
        assert service.health()["billed"] == 0


def test_who_comes_in_hordes_is_closed_unheard() -> None:
    with (
        serving(Book(), Bounds(connections=3, head_seconds=60), qps=0.0) as service,
        _held(service, 6),
        _connected(service) as peer,
    ):
        assert _rest(peer) == b""


@contextmanager
def _held(service: Running, count: int) -> Iterator[None]:
    """So many connections of callers that say nothing."""
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(socket.create_connection(_address(service)))
        yield


def _address(service: Running) -> tuple[str, int]:
    host, _, port = service.url.partition("//")[2].partition(":")
    return host, int(port)


def _answers(service: Running) -> bool:
    try:
        return requests.get(f"{service.url}/-/health", timeout=5).ok
    except requests.ConnectionError:
        return False


def test_only_so_many_bodies_are_taken_in_at_once_and_the_rest_wait() -> None:
    with (
        serving(Book(), Bounds(body_seconds=1.0), qps=0.0, uploads=1) as service,
        _connected(service) as slow,
    ):
        slow.sendall(f"POST {OCR} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n".encode())
        # Once this is answered the slow one holds the only place, until its time is over.
        assert service.health()["billed"] == 0
        began = time.monotonic()
        assert service.ocr(PICTURE).json()["code"] == "10000"
        assert time.monotonic() - began > 0.5


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded"])
def test_a_forwarded_header_makes_nobody_loopback_whatever_the_environment_trusts(
    header: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    with serving(Book(), qps=0.0) as service:
        for claimed in ("127.0.0.1", "10.1.2.3", "for=127.0.0.1"):
            reply = requests.get(f"{service.url}/-/bill", headers={header: claimed}, timeout=10)
            assert reply.status_code == 403


def test_bounds_leave_a_slow_but_honest_caller_alone(service: Running) -> None:
    """A picture in several pieces, on a connection that served another before."""
    prepared = signed(OCR, service.url, PICTURE, service.clock())
    lines = [f"{name}: {value}" for name, value in prepared.headers.items()]
    head = "\r\n".join([f"POST {OCR} HTTP/1.1", *lines]).encode() + b"\r\n\r\n"
    with _connected(service) as peer:
        peer.sendall(_HEALTH + b"\r\n")
        assert _until(peer, b"}}}").startswith(b"HTTP/1.1 200")
        for piece in (head[:20], head[20:], PICTURE[:4], PICTURE[4:]):
            time.sleep(_HEAD_SECONDS / 4)  # the pauses are what is tried
            peer.sendall(piece)
        assert b'"10000"' in _until(peer, b"}}}")


def _until(peer: socket.socket, end: bytes) -> bytes:
    received = b""
    while not received.endswith(end):
        part = peer.recv(65536)
        assert part, received
        received += part
    return received
