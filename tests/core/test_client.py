"""Every way a connection can end gives the right wire failure: money hangs on "reached".

The servers are real sockets on loopback that belong to the test; each hands the bytes it saw back.
"""

import base64
import gzip
import json
import logging
import re
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import pytest
import requests
import urllib3

from airflow_provider_jdocr.core import client as client_module
from airflow_provider_jdocr.core.account import Account, account_from_parts
from airflow_provider_jdocr.core.client import Client, Reply, WireFailure, encode_body
from airflow_provider_jdocr.core.errors import CODES, Verdict
from tests.certificates import Certificate, certificate

_KEY = "CANARYkey"
_SECRET = "CANARYsecret"
_TOKEN = "CANARYtoken"
_SHORT_SECONDS = 0.25
_PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40


Serve = Callable[[socket.socket, "_Server"], None]


@dataclass
class _Server:
    """A TCP server that serves one connection after another with the test's own function."""

    serve: Serve
    port: int = 0
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    released: threading.Event = field(default_factory=threading.Event)

    def read_request(self, peer: socket.socket) -> bytes:
        """One whole request: head and as many bytes as its Content-Length says; b"" at the end."""
        data = b""
        while b"\r\n\r\n" not in data:
            part = peer.recv(65536)
            if not part:
                return b""
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        while len(body) < length:
            body += peer.recv(65536)
        self.requests.append(head + b"\r\n\r\n" + body)
        return self.requests[-1]

    def head(self, number: int = 0) -> str:
        return self.requests[number].partition(b"\r\n\r\n")[0].decode()

    def header(self, name: str, number: int = 0) -> str:
        lines = (line.partition(": ") for line in self.head(number).split("\r\n")[1:])
        return {key.lower(): value for key, _, value in lines}.get(name.lower(), "")

    def body(self, number: int = 0) -> bytes:
        return self.requests[number].partition(b"\r\n\r\n")[2]


@contextmanager
def _serving(serve: Serve) -> Iterator[_Server]:
    server = _Server(serve)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server.port = listener.getsockname()[1]
        done = threading.Event()
        listener.settimeout(0.05)

        def loop() -> None:
            while not done.is_set():
                try:
                    peer, _ = listener.accept()
                except TimeoutError:
                    continue
                server.connections += 1
                peer.settimeout(5)
                with peer:
                    try:
                        serve(peer, server)
                    except OSError:
                        continue  # the client hung up: that is its right

        thread = threading.Thread(target=loop)
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            done.set()
            thread.join()


def _account(base_url: str, **extra: Any) -> Account:
    extra = {"connect_timeout_seconds": _SHORT_SECONDS, "read_timeout_seconds": _SHORT_SECONDS} | extra
    return account_from_parts(
        login=_KEY, password=_SECRET, host=base_url, port=None, schema=None, extra=extra
    )


def _send(base_url: str, *, max_reply_bytes: int = 4096, **extra: Any) -> Reply | WireFailure:
    with Client(_account(base_url, **extra), max_reply_bytes=max_reply_bytes) as client:
        return client.send(_PICTURE)


def _answer(raw: bytes) -> Serve:
    """Read the whole request, send these bytes, close."""

    def serve(peer: socket.socket, server: _Server) -> None:
        if server.read_request(peer):
            peer.sendall(raw)

    return serve


def _http(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


# Failures before the service can have seen anything.


_RESET = b"\x01\0\0\0\0\0\0\0"  # linger on, for no time: closing sends a reset


def _close_unread(peer: socket.socket, server: _Server) -> None:
    """Hang up when the first byte is there, without taking it: the kernel answers with a reset."""
    peer.recv(1, socket.MSG_PEEK)


def _close_at_first_byte(peer: socket.socket, server: _Server) -> None:
    peer.recv(1)
    peer.shutdown(socket.SHUT_WR)
    server.released.wait(5)


def _say_nothing(peer: socket.socket, server: _Server) -> None:
    server.released.wait(5)


def _garbage_at_once(peer: socket.socket, server: _Server) -> None:
    peer.sendall(b"220 mail.example.com ESMTP\r\n")
    server.released.wait(5)


def _assert_never_reached(found: Reply | WireFailure, code: str) -> None:
    assert isinstance(found, WireFailure), found
    assert (found.code, found.reached) == (code, False), found
    assert CODES["wire", found.code].verdict is Verdict.AGAIN
    assert not CODES["wire", found.code].chargeable


def _assert_in_doubt(found: Reply | WireFailure, code: str) -> None:
    assert isinstance(found, WireFailure), found
    assert (found.code, found.reached) == (code, True), found
    assert CODES["wire", found.code].verdict is Verdict.IN_DOUBT
    assert CODES["wire", found.code].chargeable


@pytest.mark.parametrize("auth", ["jdcloud2", "appkey"])
def test_a_refused_connection_never_reached_the_service(auth: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    _assert_never_reached(_send(f"http://127.0.0.1:{port}", auth=auth), "connection_refused")


def test_an_unknown_name_never_reached_the_service() -> None:
    # RFC 6761 promises that .invalid has no address.
    _assert_never_reached(_send("https://ocr.invalid", connect_timeout_seconds=5), "name_resolution")


def test_a_host_that_accepts_nothing_times_out_before_the_request() -> None:
    """A listener whose backlog is full lets a connection wait for ever."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = []
        for _ in range(4):
            peer = socket.socket()
            peer.setblocking(False)
            peer.connect_ex(("127.0.0.1", port))
            waiting.append(peer)
        try:
            _assert_never_reached(_send(f"http://127.0.0.1:{port}"), "connect_timeout")
        finally:
            for peer in waiting:
                peer.close()


@pytest.mark.parametrize("serve", [_close_unread, _close_at_first_byte, _say_nothing, _garbage_at_once])
def test_a_tls_handshake_that_fails_in_any_way_never_reached_the_service(serve: Serve) -> None:
    """urllib3 calls the third one a read timeout; taken at its word it would be in doubt for nothing."""
    with _serving(serve) as server:
        _assert_never_reached(_send(f"https://127.0.0.1:{server.port}"), "tls_handshake")


@contextmanager
def _serving_tls(made: Certificate) -> Iterator[_Server]:
    """Answers each request over TLS; what never got that far is not among its requests."""
    context = made.context()

    def serve(peer: socket.socket, server: _Server) -> None:
        with context.wrap_socket(peer, server_side=True) as secure:
            _keep_answering(secure, server)

    with _serving(serve) as server:
        yield server


def test_an_untrusted_certificate_is_named_and_no_request_leaves(tmp_path: Path) -> None:
    with _serving_tls(certificate(tmp_path)) as server:
        found = _send(f"https://127.0.0.1:{server.port}")
    _assert_never_reached(found, "tls_handshake")
    assert isinstance(found, WireFailure)
    assert "self-signed" in found.detail
    assert server.requests == []


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
@pytest.mark.parametrize("value", ["", " ", "0", "false", "False", "none", "/dev/null"])
def test_no_value_of_the_environment_switches_verification_off(
    name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for other in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv("PYTHONHTTPSVERIFY", "0")
    monkeypatch.setenv(name, value)
    with _serving_tls(certificate(tmp_path)) as server:
        _assert_never_reached(_send(f"https://127.0.0.1:{server.port}"), "tls_handshake")
    assert server.requests == []


def test_the_authority_that_the_connection_names_is_trusted(tmp_path: Path) -> None:
    made = certificate(tmp_path)
    with _serving_tls(made) as server:
        found = _send(f"https://127.0.0.1:{server.port}", ca_bundle=made.chain)
    assert isinstance(found, Reply), found


def test_where_the_connection_names_authorities_no_other_may_vouch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, other = certificate(tmp_path), certificate(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", made.chain)
    with _serving_tls(made) as server:
        url = f"https://127.0.0.1:{server.port}"
        assert isinstance(_send(url), Reply), "as the environment says"
        _assert_never_reached(_send(url, ca_bundle=other.chain), "tls_handshake")


@pytest.mark.parametrize(
    ("flaw", "says"),
    [({"address": "127.0.0.2"}, "127.0.0.1"), ({"ends": timedelta(days=-1)}, "expired")],
    ids=["for another address", "expired"],
)
def test_a_trusted_authority_does_not_vouch_for_everything(
    flaw: dict[str, Any], says: str, tmp_path: Path
) -> None:
    made = certificate(tmp_path, **flaw)
    with _serving_tls(made) as server:
        found = _send(f"https://127.0.0.1:{server.port}", ca_bundle=made.chain)
    _assert_never_reached(found, "tls_handshake")
    assert isinstance(found, WireFailure)
    assert says in found.detail
    assert server.requests == []


def test_a_proxy_sees_the_host_and_nothing_of_a_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []

    def serve(peer: socket.socket, server: _Server) -> None:
        seen.append(peer.recv(65536))
        peer.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        seen.append(peer.recv(65536))

    with _serving(serve) as server:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.port}")
        _assert_never_reached(_send("https://ocr.invalid", auth="appkey"), "tls_handshake")
    connect, hello = seen
    assert connect.startswith(b"CONNECT ocr.invalid:443 HTTP/1.")
    assert hello.startswith(b"\x16\x03"), "a TLS handshake"
    for secret in (_KEY, "sign", "appkey", "Authorization", "jdai"):
        assert secret.encode() not in connect + hello


def test_a_proxy_that_refuses_the_tunnel_never_reached_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    def serve(peer: socket.socket, server: _Server) -> None:
        peer.recv(65536)
        peer.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")

    with _serving(serve) as server:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:CANARYproxy@127.0.0.1:{server.port}")
        found = _send("https://ocr.invalid")
    _assert_never_reached(found, "connection_refused")
    assert "proxy" in str(found)
    assert "CANARY" not in str(found)


def test_a_proxy_that_is_not_there_never_reached_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
    _assert_never_reached(_send("https://ocr.invalid"), "connection_refused")


# Failures after the request may have left.


def _close_after_reading(peer: socket.socket, server: _Server) -> None:
    server.read_request(peer)


def _silent_after_reading(peer: socket.socket, server: _Server) -> None:
    server.read_request(peer)
    server.released.wait(5)


def _stall_inside_the_body(peer: socket.socket, server: _Server) -> None:
    server.read_request(peer)
    peer.sendall(_http(b"{}" + bytes(98))[:-98])
    server.released.wait(5)


def _drip(peer: socket.socket, server: _Server) -> None:
    """Always within the read timeout, never done."""
    server.read_request(peer)
    peer.sendall(_http(bytes(1000))[:-1000])
    while not server.released.wait(0.05):
        peer.sendall(b"x")


def _drip_headers(peer: socket.socket, server: _Server) -> None:
    server.read_request(peer)
    peer.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not server.released.wait(0.05):
        peer.sendall(b"x")


def _continue_for_ever(peer: socket.socket, server: _Server) -> None:
    """Interim answers, of which HTTP allows any number."""
    server.read_request(peer)
    while not server.released.wait(0.05):
        peer.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


def _reset_inside_the_body(peer: socket.socket, server: _Server) -> None:
    server.read_request(peer)
    peer.sendall(_http(bytes(1000))[:-500])
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def _chunked(*chunks: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(chunks)


_PACKED = gzip.compress(b'{"code": "10000"}')
_BOMB = gzip.compress(bytes(50_000_000))


@pytest.mark.parametrize(
    ("serve", "code"),
    [
        pytest.param(_close_unread, "connection_broken", id="closed-before-reading"),
        pytest.param(_close_at_first_byte, "connection_broken", id="closed-at-the-first-byte"),
        pytest.param(_close_after_reading, "connection_broken", id="closed-after-reading"),
        pytest.param(_answer(b"HTTP/1.1 20"), "connection_broken", id="half-a-status-line"),
        pytest.param(_answer(b"\x00\x01 this is not HTTP\r\n\r\n"), "connection_broken", id="garbage"),
        pytest.param(
            _answer(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000), "connection_broken", id="endless-header"
        ),
        pytest.param(_silent_after_reading, "read_timeout", id="no-answer"),
        pytest.param(_stall_inside_the_body, "read_timeout", id="stall-inside-the-body"),
        pytest.param(_drip, "read_timeout", id="drip"),
        pytest.param(_drip_headers, "read_timeout", id="headers-that-drip"),
        pytest.param(_continue_for_ever, "read_timeout", id="interim-answers-for-ever"),
        pytest.param(
            _answer(b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 1000), "connection_broken", id="many-headers"
        ),
        pytest.param(_reset_inside_the_body, "connection_broken", id="reset-inside-the-body"),
        pytest.param(_answer(_http(bytes(1000))[:-1]), "reply_truncated", id="one-byte-missing"),
        pytest.param(_answer(_chunked(b"5\r\nhe")), "reply_truncated", id="half-a-chunk"),
        pytest.param(_answer(_chunked(b"2\r\n{}\r\n")), "reply_truncated", id="no-last-chunk"),
        pytest.param(_answer(_chunked(b"zz\r\n{}\r\n")), "reply_truncated", id="chunk-without-length"),
        pytest.param(_answer(_http(bytes(4097))), "reply_too_large", id="too-large"),
        pytest.param(
            _answer(_chunked(*[b"400\r\n" + bytes(1024) + b"\r\n"] * 8)), "reply_too_large", id="chunks"
        ),
        pytest.param(
            _answer(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(9000)), "reply_too_large", id="unknown-length"
        ),
        pytest.param(
            _answer(_http(_BOMB[:4000], "Content-Encoding: gzip")), "reply_too_large", id="gzip-bomb"
        ),
        pytest.param(
            _answer(_http(_PACKED[:-9], "Content-Encoding: gzip")), "reply_truncated", id="gzip-cut"
        ),
        pytest.param(
            _answer(_http(b"no gzip", "Content-Encoding: gzip")), "reply_truncated", id="gzip-broken"
        ),
        *(
            pytest.param(
                _answer(_http(b"", "Location: http://127.0.0.1:9/CANARY", status=f"{status} Elsewhere")),
                "redirect",
                id=f"redirect-{status}",
            )
            for status in (301, 302, 303, 307, 308)
        ),
        pytest.param(_answer(_http(b"", status="304 Not Modified")), "redirect", id="redirect-nowhere"),
        *(
            pytest.param(
                _answer(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: %b\r\n\r\n" % location),
                "redirect",
                id=f"redirect-to-{name}",
            )
            for name, location in (
                ("no-text", b"\xff\xfe"),
                ("half-an-address", b"http://[::1"),
                ("no-port", b"http://a:b:c/"),
            )
        ),
    ],
)
@pytest.mark.parametrize("auth", ["jdcloud2", "appkey"])
def test_once_the_request_may_have_left_every_failure_is_in_doubt(serve: Serve, code: str, auth: str) -> None:
    with _serving(serve) as server:
        found = _send(f"http://127.0.0.1:{server.port}", auth=auth)
    _assert_in_doubt(found, code)
    assert server.connections == 1, "nothing is sent twice and no redirect is followed"
    assert "CANARY" not in str(found)
    assert "?" not in str(found)


def test_the_body_of_a_redirect_is_not_read() -> None:
    sent: list[int] = []

    def serve(peer: socket.socket, server: _Server) -> None:
        server.read_request(peer)
        peer.sendall(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 100000000\r\n\r\n")
        while sum(sent) < 100_000_000:
            peer.sendall(bytes(100_000))
            sent.append(100_000)

    with _serving(serve) as server:
        _assert_in_doubt(_send(f"http://127.0.0.1:{server.port}"), "redirect")
    assert sum(sent) < 100_000_000, "the client hung up long before"


def test_a_connection_broken_while_the_picture_is_sent_is_in_doubt() -> None:
    """The service may have taken what it got for the whole."""

    def serve(peer: socket.socket, server: _Server) -> None:
        peer.recv(1024)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    with _serving(serve) as server, Client(_account(f"http://127.0.0.1:{server.port}")) as client:
        _assert_in_doubt(client.send(bytes(4_900_000)), "connection_broken")


def test_an_upload_that_stalls_ends_after_the_read_timeout_not_the_connect_timeout() -> None:
    with _serving(_say_nothing) as server:
        account = _account(
            f"http://127.0.0.1:{server.port}", read_timeout_seconds=0.3, connect_timeout_seconds=0.05
        )
        with Client(account) as client:
            found = client.send(bytes(30_000_000))
    assert isinstance(found, WireFailure)
    assert found.reached
    assert 0.25 <= found.elapsed_seconds < 2


def test_a_tls_error_inside_a_reply_is_in_doubt_although_its_name_is_that_of_a_failed_handshake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call was paid for; sent again by the exception's name it would be paid for twice."""
    made = certificate(tmp_path)
    context = made.context()

    def serve(peer: socket.socket, server: _Server) -> None:
        plain = socket.socket(fileno=socket.dup(peer.fileno()))
        with plain, context.wrap_socket(peer, server_side=True) as secure:
            server.read_request(secure)
            secure.sendall(_http(bytes(1000))[:-500])
            plain.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))  # a record that nobody signed
            server.released.wait(5)

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", made.chain)
    with _serving(serve) as server:
        found = _send(f"https://127.0.0.1:{server.port}")
    assert len(server.requests) == 1
    _assert_in_doubt(found, "connection_broken")
    assert isinstance(found, WireFailure)
    assert "SSL" in found.detail


# Replies.


@pytest.mark.parametrize("status", [200, 204, 400, 401, 403, 413, 429, 500, 502, 503, 504])
def test_every_status_but_a_redirect_is_a_reply(status: int) -> None:
    body = b"" if status == 204 else b'{"error": {}}'
    raw = _http(body, "Content-Type: application/json", "X-Jdcloud-Request-Id: r1", status=f"{status} Some")
    with _serving(_answer(raw)) as server:
        found = _send(f"http://127.0.0.1:{server.port}")
    assert isinstance(found, Reply)
    assert (found.status, found.body, found.content_type, found.request_id) == (
        status,
        body,
        "application/json",
        "r1",
    )
    assert found.elapsed_seconds > 0


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        pytest.param(_http(b"x" * 4096), b"x" * 4096, id="of-the-largest-size"),
        pytest.param(_chunked(b"2\r\n{}\r\n", b"0\r\n\r\n"), b"{}", id="chunked"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n{}", b"{}", id="until-the-end"),
        pytest.param(_http(_PACKED, "Content-Encoding: gzip"), b'{"code": "10000"}', id="gzip"),
        pytest.param(_http(zlib.compress(b"{}"), "Content-Encoding: deflate"), b"{}", id="deflate"),
        pytest.param(_http(b"??", "Content-Encoding: zstd"), b"??", id="encoding-that-nobody-asked-for"),
        pytest.param(_http(b"{}") + b"and more than it said", b"{}", id="more-than-it-said"),
    ],
)
def test_a_complete_reply_arrives_as_it_was_meant(raw: bytes, body: bytes) -> None:
    with _serving(_answer(raw)) as server:
        found = _send(f"http://127.0.0.1:{server.port}")
    assert isinstance(found, Reply)
    assert found.body == body


def test_an_early_refusal_of_a_large_picture_is_read() -> None:
    """A service that answers 413 and closes has answered: that is no broken connection."""

    def serve(peer: socket.socket, server: _Server) -> None:
        while server.read_request(peer):
            peer.sendall(_http(b'{"error": {"code": 413}}', "Connection: close", status="413 Too Large"))
            return

    with _serving(serve) as server:
        found = _send(f"http://127.0.0.1:{server.port}")
    assert isinstance(found, Reply)
    assert found.status == 413


# What is sent.


def _keep_answering(peer: socket.socket, server: _Server) -> None:
    while server.read_request(peer):
        peer.sendall(_http(b"{}", "Set-Cookie: tracking=1"))


def test_a_thread_keeps_its_connection_and_each_attempt_is_signed_anew() -> None:
    clock = iter([1550141114.0, 1550141115.0])
    nonce = iter(["one", "two"])
    with _serving(_keep_answering) as server:
        account = _account(f"http://127.0.0.1:{server.port}", security_token=_TOKEN)
        with Client(account, clock=lambda: next(clock), nonce=lambda: next(nonce)) as client:
            assert [type(client.send(_PICTURE)) for _ in range(2)] == [Reply, Reply]
    assert server.connections == 1
    assert [server.header("x-jdcloud-date", n) for n in (0, 1)] == ["20190214T104514Z", "20190214T104515Z"]
    assert [server.header("x-jdcloud-nonce", n) for n in (0, 1)] == ["one", "two"]
    assert server.header("Authorization", 0) != server.header("Authorization", 1)
    assert server.header("Host") == f"127.0.0.1:{server.port}"
    assert server.header("x-jdcloud-security-token") == _TOKEN
    assert server.header("Cookie", 1) == "", "no reply leaves a trace in the next request"
    assert server.body() == _PICTURE


def test_an_appkey_call_carries_its_query_and_nothing_of_the_module_s_own() -> None:
    with _serving(_keep_answering) as server:
        account = _account(f"http://127.0.0.1:{server.port}", endpoint="intsig_invoice")
        with Client(account, clock=lambda: 1525325127.0) as client:
            assert isinstance(client.send(_PICTURE), Reply)
    method, target, _ = server.head().split("\r\n")[0].split(" ")
    path, _, query = target.partition("?")
    assert (method, path) == ("POST", "/INTSIG/invoice")
    assert {name: values[0] for name, values in parse_qs(query).items()} == {
        "appkey": _KEY,
        "timestamp": "1525325127000",
        # md5sum of "CANARYsecret1525325127000"
        "sign": "f78a66507eb9f9fe0d1d338e21d4be29",
    }
    assert "jdocr" not in server.head().lower().replace("jdocr/", "")
    assert base64.b64decode(server.body(), validate=True) == _PICTURE
    assert server.header("Content-Type") == "application/octet-stream"


def test_a_connection_that_the_service_closed_while_idle_is_not_used_again() -> None:
    closed = threading.Event()

    def serve(peer: socket.socket, server: _Server) -> None:
        server.read_request(peer)
        peer.sendall(_http(b"{}"))
        peer.shutdown(socket.SHUT_RDWR)
        closed.set()

    with _serving(serve) as server, Client(_account(f"http://127.0.0.1:{server.port}")) as client:
        for _ in range(3):
            assert isinstance(client.send(_PICTURE), Reply)
            assert closed.wait(5)
            closed.clear()
    assert server.connections == 3


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("raw", _PICTURE),
        ("base64", base64.b64encode(_PICTURE)),
        ("data_uri", b"data:image/png;base64," + base64.b64encode(_PICTURE)),
    ],
)
def test_the_body_is_encoded_as_the_connection_says(encoding: str, expected: bytes) -> None:
    assert encode_body(_PICTURE, _account("", body_encoding=encoding)) == expected


def test_a_netrc_entry_or_a_proxy_of_the_environment_has_no_say_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login other password CANARYnetrc\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    with _serving(_keep_answering) as server:
        found = _send(f"http://127.0.0.1:{server.port}", auth="appkey")
    assert isinstance(found, Reply)
    assert server.header("Authorization") == ""


def test_threads_share_a_client_and_not_a_connection() -> None:
    together = threading.Barrier(2)
    peers: list[threading.Thread] = []

    def serve(peer: socket.socket, server: _Server) -> None:
        # A thread each, or the second connection would wait for the end of the first.
        kept = socket.socket(fileno=socket.dup(peer.fileno()))
        kept.settimeout(5)

        def talk() -> None:
            with kept:
                server.read_request(kept)
                together.wait(5)
                kept.sendall(_http(b"{}"))

        peers.append(threading.Thread(target=talk))
        peers[-1].start()

    found: list[Reply | WireFailure] = []
    with (
        _serving(serve) as server,
        Client(_account(f"http://127.0.0.1:{server.port}", read_timeout_seconds=5)) as client,
    ):
        senders = [threading.Thread(target=lambda: found.append(client.send(_PICTURE))) for _ in range(2)]
        for thread in senders:
            thread.start()
        for thread in (*senders, *peers):
            thread.join()
    assert [type(answer) for answer in found] == [Reply, Reply]
    assert server.connections == 2


def test_a_closed_client_refuses_to_send() -> None:
    client = Client(_account("http://127.0.0.1:9"))
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.send(_PICTURE)


# Nothing secret leaves.


def _repeat_what_was_sent(peer: socket.socket, server: _Server) -> None:
    head = server.read_request(peer).partition(b"\r\n\r\n")[0].decode()
    query = head.partition("?")[2].partition(" ")[0]
    said = f"{query} {server.header('authorization')} {server.header('x-jdcloud-security-token')} {_KEY}"
    shown = json.dumps({"said": said, "upper": said.upper(), "quoted": quote(said), "kept": "12345678"})
    sent_back = f"{said[:100]}", f"text/plain; said={said}"
    headers = (f"x-request-id: {sent_back[0]}", f"Content-Type: {sent_back[1]}", "Connection: close")
    peer.sendall(_http(shown.encode(), *headers))


@pytest.mark.parametrize(
    "extra", [{"auth": "appkey"}, {}, {"security_token": _TOKEN}], ids=["appkey", "jdcloud2", "token"]
)
def test_a_service_that_repeats_keys_and_signatures_is_not_quoted(extra: dict[str, Any]) -> None:
    with _serving(_repeat_what_was_sent) as server:
        found = _send(f"http://127.0.0.1:{server.port}", **extra)
    assert isinstance(found, Reply), found
    signatures = re.findall(
        r"[0-9a-f]{32,}", f"{server.head().splitlines()[0]} {server.header('authorization')}"
    )
    assert signatures
    shown = f"{found.body.decode()} {found.request_id} {found.content_type}".lower()
    for secret in (_KEY, _SECRET, _TOKEN, *signatures):
        assert secret.lower() not in shown
    assert json.loads(found.body)["kept"] == "12345678"


def test_a_reply_without_secrets_is_not_touched() -> None:
    body = bytes(range(256)) * 8
    with _serving(_answer(_http(body))) as server:
        found = _send(f"http://127.0.0.1:{server.port}")
    assert isinstance(found, Reply)
    assert found.body == body


@pytest.mark.parametrize("auth", ["jdcloud2", "appkey"])
@pytest.mark.parametrize(
    "serve",
    [
        _keep_answering,
        _close_after_reading,
        _answer(b"HTTP/1.1 200 OK\r\nBroken Header\r\nContent-Length: 2\r\n\r\n{}"),
        _answer(_http(b"", "Location: /elsewhere", status="302 Found")),
    ],
    ids=["answered", "broken", "broken-header", "redirect"],
)
def test_no_log_line_at_debug_has_a_key_a_signature_or_a_query(
    auth: str, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    extra: dict[str, Any] = {"security_token": _TOKEN} if auth == "jdcloud2" else {}
    with caplog.at_level(logging.DEBUG), _serving(serve) as server:
        found = _send(f"http://127.0.0.1:{server.port}", auth=auth, **extra)
    assert any(record.name.startswith("urllib3") for record in caplog.records), "nothing was logged at all"
    logged = "\n".join(f"{record.getMessage()} {record.args} {record.exc_text}" for record in caplog.records)
    signature = server.head().partition("sign=")[2] or server.head().partition("Signature=")[2]
    assert len(signature) >= 32
    for secret in ("CANARY", signature[:32], "appkey=", "sign=", "?"):
        assert secret not in logged
        assert secret not in repr(found)


def test_an_exception_that_is_no_failure_of_the_wire_is_not_hidden_and_has_no_query(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class BugError(Exception):
        pass

    def bug(*_: Any, **__: Any) -> None:
        raise BugError

    monkeypatch.setattr(client_module, "_read_body", bug)
    with _serving(_keep_answering) as server, pytest.raises(BugError):
        _send(f"http://127.0.0.1:{server.port}", auth="appkey")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (requests.exceptions.SSLError(urllib3.exceptions.SSLError("bad record mac")), "connection_broken"),
        (requests.ReadTimeout(urllib3.exceptions.ReadTimeoutError(None, "/", "x")), "read_timeout"),  # type: ignore[arg-type]  # no pool at hand
        (ssl.SSLEOFError(8, "EOF"), "connection_broken"),
        (requests.exceptions.InvalidHeader("x"), "connection_broken"),
    ],
)
def test_by_name_alone_nothing_that_was_sent_is_called_free(error: Exception, code: str) -> None:
    found = client_module._failure(error, reached=True)  # noqa: SLF001  # no server makes these at will
    _assert_in_doubt(found, code)
