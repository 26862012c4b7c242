"""One picture, one POST: a Reply, or a WireFailure that says whether the service can have seen it.

Whether a failed call may have been charged is decided by what happened on the connection, not by the name of
an exception: once the first byte of a request may have left (``reached``), every failure is in doubt. urllib3
reports a timeout of the TLS handshake as a read timeout, and a TLS error inside a reply as a TLS error; by
name each would be taken for the other.

Nothing is sent twice by this module: no retries, no redirects, no netrc, no cookies. Each call is signed
anew.
The query that signs an appkey call joins the URL where the request line is written, so that no log line,
exception or trace of requests and urllib3 has it. What remains is ``http.client``'s own ``debuglevel``, which
prints all that is sent, headers and all; no logging level turns it on.
Keys and signatures that a service repeats in its reply are made unreadable before anybody sees them, byte for
byte: all else in the reply stays as it came.

A reply is bounded: each wait for more of it by the read timeout, all of them together by twice that, and its
size before and after unpacking.

Proxies of the environment are honoured, and its certificate bundle where the connection names none; for this
machine no proxy is asked. Nothing switches the verification of certificates off.
"""

import base64
import io
import json
import re
import socket
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from http.client import HTTPException, HTTPResponse, IncompleteRead
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Self
from urllib.parse import quote, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from airflow_provider_jdocr.core import signing
from airflow_provider_jdocr.core.account import SHORTEST_SECRET, Account, is_loopback
from airflow_provider_jdocr.core.preflight import format_of

Clock = Callable[[], float]
Nonce = Callable[[], str]

MAX_REPLY_BYTES = 4 * 1024 * 1024
_CHUNK_BYTES = 64 * 1024
_QUERY_HEADER = "X-Jdocr-Query"
"""How the signed query travels inside this module; the connection takes it out."""

# Everything that a connection can throw; anything else is a bug of ours and is not hidden.
_WIRE_ERRORS = (requests.RequestException, urllib3.exceptions.HTTPError, HTTPException, OSError)


@dataclass(frozen=True, slots=True)
class Reply:
    """What the service answered, decoded from its content encoding. Its meaning is not looked at here."""

    status: int
    body: bytes = field(repr=False)
    content_type: str = ""
    request_id: str | None = None
    elapsed_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class WireFailure:
    """No usable reply: a wire code of the error table, and whether the service may have seen the request."""

    code: str
    reached: bool
    detail: str
    elapsed_seconds: float = 0.0


class Jdcloud2Auth(AuthBase):
    """Signs each request with a fresh date and nonce, JDCLOUD2-HMAC-SHA256.

    ``hashed``: the hash of the body, where somebody took it before.
    """

    def __init__(
        self, credentials: signing.Credentials, clock: Clock, nonce: Nonce, hashed: str | None = None
    ) -> None:
        self._credentials = credentials
        self._clock = clock
        self._nonce = nonce
        self._hashed = hashed

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        url = urlsplit(str(request.url))
        body = request.body if isinstance(request.body, bytes) else b""
        headers = signing.jdcloud2_headers(
            self._credentials,
            method=str(request.method),
            host=url.netloc,
            path=url.path,
            query=url.query,
            content_type=request.headers["Content-Type"],
            hashed=self._hashed or signing.payload_hash(body),
            date=signing.signed_at(self._clock()),
            nonce=self._nonce(),
        )
        request.headers.update(headers)
        return request


class AppkeyAuth(AuthBase):
    """Stamps and signs each request anew; the query is handed to the connection, not written into the URL."""

    def __init__(self, appkey: str, secret_key: str, clock: Clock) -> None:
        self._appkey = appkey
        self._secret_key = secret_key
        self._clock = clock

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers[_QUERY_HEADER] = signing.appkey_query(self._appkey, self._secret_key, self._clock())
        return request


class Client:
    """Sends pictures for one account; any number of threads may share it. Close it when they are done."""

    def __init__(
        self,
        account: Account,
        *,
        clock: Clock = time.time,
        nonce: Nonce = lambda: str(uuid.uuid4()),
        max_reply_bytes: int = MAX_REPLY_BYTES,
    ) -> None:
        self._account = account
        self._sign = _signer(account, clock, nonce)
        self._max_reply_bytes = max_reply_bytes
        self._own = threading.local()
        self._sessions: list[requests.Session] = []
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, picture: bytes, sha256: str | None = None) -> Reply | WireFailure:
        """POST one picture in the account's encoding; a failure of the wire is a value, not an exception.
        `sha256`: the picture's, where somebody took it before.
        """
        session = self._session()
        _attempt.begin(self._account.read_timeout_seconds)
        started = time.monotonic()
        answer: Reply | WireFailure
        try:
            with self._post(session, picture, sha256) as response:
                answer = self._answer(response)
        except _WIRE_ERRORS as error:
            answer = _failure(error, reached=_attempt.reached)
        return replace(answer, elapsed_seconds=time.monotonic() - started)

    def close(self) -> None:
        """Close every thread's connections. Calls in flight still get their answer; new ones are refused."""
        with self._lock:
            self._closed = True
            sessions, self._sessions = self._sessions, []
        for session in sessions:
            session.close()

    def _session(self) -> requests.Session:
        with self._lock:
            if self._closed:
                raise RuntimeError("This client is closed: no more pictures can be sent with it.")
            session: requests.Session | None = getattr(self._own, "session", None)
            if session is None:
                session = self._own.session = _new_session()
                self._sessions.append(session)
            return session

    def _post(self, session: requests.Session, picture: bytes, sha256: str | None) -> requests.Response:
        account = self._account
        body = encode_body(picture, account)
        host = urlsplit(account.base_url).hostname or ""
        return session.post(
            account.url,
            data=body,
            headers={"Content-Type": account.endpoint.content_type, "Accept-Encoding": "identity"},
            auth=self._sign(sha256 if body is picture else None),
            timeout=(account.connect_timeout_seconds, account.read_timeout_seconds),
            allow_redirects=False,
            stream=True,
            verify=account.ca_bundle or True,
            proxies={"no_proxy": host} if is_loopback(host) else None,
        )

    def _answer(self, response: requests.Response) -> Reply | WireFailure:
        if 300 <= response.status_code < 400:
            return _in_doubt("redirect", f"HTTP {response.status_code} points to another address")
        body = _read_body(response, self._max_reply_bytes)
        if isinstance(body, WireFailure):
            return body
        hide = _hiding(self._account, response.request.headers)
        content_type = hide(response.headers.get("Content-Type", "").encode()).decode()[:200]
        request_id = hide((_request_id(response.headers) or "").encode()).decode() or None
        return Reply(response.status_code, hide(body), content_type, request_id)


def encode_body(picture: bytes, account: Account) -> bytes:
    """The bytes to post: the file as it is, its base64 text, or that text as a data URI."""
    if account.body_encoding == "raw":
        return picture
    text = base64.b64encode(picture)
    if account.body_encoding == "base64":
        return text
    return b"data:image/%b;base64,%b" % ((format_of(picture) or "jpeg").encode(), text)


def _signer(account: Account, clock: Clock, nonce: Nonce) -> Callable[[str | None], AuthBase]:
    """What signs a call, given the hash of its body where that is known."""
    if account.auth == "appkey":
        by_appkey = AppkeyAuth(account.access_key, account.secret_key, clock)
        return lambda _: by_appkey
    credentials = signing.Credentials(
        account.access_key,
        account.secret_key,
        account.region,
        account.signing_service,
        account.security_token,
    )
    return partial(Jdcloud2Auth, credentials, clock, nonce)


def _hiding(account: Account, sent: Mapping[str, str]) -> Callable[[bytes], bytes]:
    """Puts asterisks in the place of keys and signatures that a service repeats in its reply, as some do in
    an error's text: what comes back is stored, logged and loaded.
    """
    signed = f"{sent.get('Authorization', '')}&{sent.get(_QUERY_HEADER, '')}"
    texts = {account.access_key, account.secret_key, account.security_token or "", *_DIGESTS.findall(signed)}
    spelled = {
        spelling.encode()
        for text in texts
        for spelling in (text, quote(text, safe=""), json.dumps(text)[1:-1], text.replace("/", "\\/"))
        if len(text) >= SHORTEST_SECRET
    }
    needles = [text.lower() for text in spelled]

    def hide(received: bytes) -> bytes:
        found = received.lower()
        if not any(needle in found for needle in needles):
            return received
        # The longest first: one may begin with another.
        anywhere = b"|".join(re.escape(text) for text in sorted(spelled, key=len, reverse=True))
        return re.sub(anywhere, lambda secret: b"*" * len(secret[0]), received, flags=re.IGNORECASE)

    return hide


_DIGESTS = re.compile("[0-9a-f]{32,}")


def _request_id(headers: Mapping[str, str]) -> str | None:
    value = headers.get("x-jdcloud-request-id") or headers.get("x-request-id")
    return value[:128] if value and value.isprintable() else None


# The connection: it knows when the request may have begun to leave, and it alone writes the signed query.


class _Attempt(threading.local):
    """What this thread's attempt has come to. A thread has one attempt at a time."""

    reached = False
    send_timeout_seconds = 0.0

    def begin(self, send_timeout_seconds: float) -> None:
        self.reached = False
        self.send_timeout_seconds = send_timeout_seconds


_attempt = _Attempt()


class _Waits(io.RawIOBase):
    """What a socket receives, under its timeout for each wait and twice that for all of them.

    The standard library bounds the single wait only: headers that drip, and interim answers without end,
    would hold a thread for ever.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._received = sock.makefile("rb", buffering=0)
        self._longest = sock.gettimeout() or 0.0
        self._ends = time.monotonic() + 2 * self._longest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("the reply was not complete in time")
        self._sock.settimeout(min(left, self._longest))
        count: int | None = self._received.readinto(buffer)
        return count

    def close(self) -> None:
        self._received.close()
        super().close()


class _BoundedSocket:
    """The one thing that a response asks of its socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Waits(self._sock))


class _BoundedResponse(HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
        super().__init__(_BoundedSocket(sock), *args, **options)  # type: ignore[arg-type]  # see there


class _Connection(HTTPConnection):
    response_class = _BoundedResponse
    _signed_query = ""

    def request(
        self,
        method: str,
        url: str,
        body: Any = None,
        headers: Any = None,
        **options: Any,
    ) -> None:
        own = dict(headers or {})
        query = own.pop(_QUERY_HEADER, "")
        self._signed_query = f"?{query}" if query else ""
        if self.sock is None:
            self.connect()
        # Otherwise the connect timeout would bound the upload of the whole picture.
        self.timeout = _attempt.send_timeout_seconds
        _attempt.reached = True
        super().request(method, url, body, own, **options)

    def putrequest(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        # urllib3 keeps what request() was given, and logs it when a reply's headers are malformed.
        super().putrequest(method, url + self._signed_query, *args, **kwargs)


class _TlsConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


_POOLS = {"http": _Pool, "https": _TlsPool}


class _Adapter(HTTPAdapter):
    """One kept connection, no retries, the pools above."""

    def __init__(self) -> None:
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager


class _Session(requests.Session):
    def get_redirect_target(self, _: requests.Response) -> str | None:
        """Nowhere. requests looks even where it must not follow: it reads all of the reply for that, however
        long, and stumbles over an address that is none.
        """
        return None


def _new_session() -> requests.Session:
    session = _Session()
    adapter = _Adapter()
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
    return session


# Reading the reply.


def _read_body(response: requests.Response, most: int) -> bytes | WireFailure:
    """The body, bounded in size before and after its content encoding; the connection bounds its time."""
    body = bytearray()
    # read1 returns with what is there, so that the bound on the size is asked often.
    while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=False):
        body += chunk
        if len(body) > most:
            return _in_doubt("reply_too_large", f"more than {most} bytes")
    return _decoded(bytes(body), response.headers.get("Content-Encoding", ""), most)


def _decoded(body: bytes, encoding: str, most: int) -> bytes | WireFailure:
    """Undo gzip and deflate, which were not asked for; another encoding is left for the reader to refuse."""
    if encoding.strip().lower() not in ("gzip", "x-gzip", "deflate") or not body:
        return body
    # 32 + 15: zlib finds out by itself whether the header is gzip's or its own.
    unpacker = zlib.decompressobj(47)
    try:
        plain = unpacker.decompress(body, most + 1)
    except zlib.error:
        return _in_doubt("reply_truncated", "the packed data of the reply is broken")
    if len(plain) > most:
        return _in_doubt("reply_too_large", f"more than {most} bytes when unpacked")
    if not unpacker.eof:
        return _in_doubt("reply_truncated", "the packed data of the reply ends too early")
    return plain


def _in_doubt(code: str, detail: str) -> WireFailure:
    return WireFailure(code, True, detail)


# Telling failures apart. The first row of which any cause is an instance decides.

_Rows = tuple[tuple[type[BaseException], str], ...]

_REACHED: _Rows = (
    (urllib3.exceptions.ReadTimeoutError, "read_timeout"),
    (IncompleteRead, "reply_truncated"),
    (BaseException, "connection_broken"),
)

_NEVER_REACHED: _Rows = (
    # To urllib3 an unknown name is a failed connection, and a failed connection is a connect timeout.
    (urllib3.exceptions.NameResolutionError, "name_resolution"),
    (urllib3.exceptions.LocationValueError, "name_resolution"),
    (urllib3.exceptions.NewConnectionError, "connection_refused"),
    (urllib3.exceptions.ConnectTimeoutError, "connect_timeout"),
    (urllib3.exceptions.ProxyError, "connection_refused"),
    # What is left broke on an open connection before the request: the handshake.
    (BaseException, "tls_handshake"),
)


def _failure(error: BaseException, *, reached: bool) -> WireFailure:
    causes = tuple(_causes(error))
    code = next(
        code
        for kind, code in (_REACHED if reached else _NEVER_REACHED)
        if any(isinstance(cause, kind) for cause in causes)
    )
    through = (
        "at the proxy: " if any(isinstance(cause, urllib3.exceptions.ProxyError) for cause in causes) else ""
    )
    return WireFailure(code, reached, through + _described(causes[-1]))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and what it wraps: in its arguments, in ``reason``, or as its cause."""
    seen: list[BaseException] = []
    todo = [error]
    while todo:
        cause = todo.pop(0)
        if any(cause is known for known in seen):
            continue
        seen.append(cause)
        yield cause
        inner = (*cause.args, getattr(cause, "reason", None), cause.__cause__)
        todo += [item for item in inner if isinstance(item, BaseException)]


def _described(cause: BaseException) -> str:
    """Class and system's words; the exception's own text is not repeated, because it may hold an address."""
    words = getattr(cause, "verify_message", "") or getattr(cause, "strerror", "") or ""
    return f"{type(cause).__name__}: {words}" if words else type(cause).__name__
