"""Verifying who calls: JDCLOUD2-HMAC-SHA256 headers and appkey/timestamp/sign, as JD documents them.

Everything is a pure function of the request, the keys and ``now`` (seconds since the epoch), except
``Nonces``, which remembers what it has seen. A verifier names what is wrong, or gives None. Digests are
compared in constant time. Nothing of the client's signer is used here: what shares code shares its errors.
"""

import hashlib
import hmac
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import parse_qs, parse_qsl, quote, unquote

ALGORITHM = "JDCLOUD2-HMAC-SHA256"
TERMINATOR = "jdcloud2_request"

_DATE = "x-jdcloud-date"
_NONCE = "x-jdcloud-nonce"
_CONTENT_SHA256 = "x-jdcloud-content-sha256"
_TOKEN = "x-jdcloud-security-token"  # noqa: S105  the name of a header
_AUTHORIZATION = re.compile(
    ALGORITHM + r" Credential=(?P<credential>[^,]+), *SignedHeaders=(?P<names>[^,]+), *"
    r"Signature=(?P<signature>[0-9a-f]{64})"
)


@dataclass(frozen=True, slots=True)
class Keys:
    """The one account that this service knows."""

    access_key: str
    secret_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What a signature can cover. ``headers`` has lower-case names, ``path`` is as it came over the wire."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Credential:
    """The parts of an ``Authorization`` header."""

    access_key: str
    day: str
    region: str
    service: str
    names: tuple[str, ...]
    signature: str

    @property
    def scope(self) -> str:
        return f"{self.day}/{self.region}/{self.service}/{TERMINATOR}"


class Nonces:
    """The nonces of signed requests, for as long as their date could still be accepted."""

    def __init__(self, lifetime_seconds: float) -> None:
        self._lifetime = lifetime_seconds
        self._seen: OrderedDict[str, float] = OrderedDict()

    def first_use(self, nonce: str, now: float) -> bool:
        """Whether this nonce is new; it is not from now on."""
        while self._seen and next(iter(self._seen.values())) < now - self._lifetime:
            self._seen.popitem(last=False)
        if nonce in self._seen:
            return False
        self._seen[nonce] = now
        return True


def canonical_uri(path: str) -> str:
    """Each segment percent-encoded once, whatever the client had encoded already; an empty path is ``/``."""
    return "/".join(quote(unquote(part), safe="") for part in path.split("/")) or "/"


def canonical_query(query: str) -> str:
    """Pairs in the order of name, then value; blanks are ``%20``; a name alone has an empty value."""
    pairs = sorted(parse_qsl(query, keep_blank_values=True))
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)


def canonical_headers(headers: Mapping[str, str], names: Iterable[str]) -> str:
    """One line for each signed header: outer blanks cut, inner runs of blanks made one."""
    return "".join(f"{name}:{re.sub(' +', ' ', headers[name].strip(' '))}\n" for name in sorted(names))


def canonical_request(request: SignedRequest, names: Iterable[str]) -> str:
    """The text whose hash is signed. The payload's hash is always that of the body received."""
    return "\n".join(
        (
            request.method,
            canonical_uri(request.path),
            canonical_query(request.query),
            canonical_headers(request.headers, names),
            ";".join(sorted(names)),
            hashlib.sha256(request.body).hexdigest(),
        )
    )


def string_to_sign(date: str, scope: str, canonical: str) -> str:
    return "\n".join((ALGORITHM, date, scope, hashlib.sha256(canonical.encode()).hexdigest()))


def signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    key = ("JDCLOUD2" + secret).encode()
    for part in (day, region, service, TERMINATOR):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def read_authorization(header: str) -> Credential | None:
    """The parts of the header, or None when it has another form."""
    match = _AUTHORIZATION.fullmatch(header.strip())
    if match is None:
        return None
    parts = match["credential"].rsplit("/", 4)
    if len(parts) != 5 or not all(parts) or parts[4] != TERMINATOR:
        return None
    names = tuple(match["names"].lower().split(";"))
    return Credential(parts[0], parts[1], parts[2], parts[3], names, match["signature"])


def jdcloud2_refusal(request: SignedRequest, keys: Keys, now: float, window_seconds: float) -> str | None:
    """What is wrong with the signature, or None. Whether the nonce was used before is the caller's to ask."""
    credential = read_authorization(request.headers.get("authorization", ""))
    if credential is None:
        return "the Authorization header is missing or not of the form of " + ALGORITHM
    return (
        _headers_refusal(request, credential)
        or _date_refusal(request.headers[_DATE], credential, now, window_seconds)
        or _digest_refusal(request, credential, keys)
    )


def _headers_refusal(request: SignedRequest, credential: Credential) -> str | None:
    if missing := {_DATE, _NONCE} - set(credential.names):
        return f"not signed: {', '.join(sorted(missing))}"
    if missing := set(credential.names) - set(request.headers):
        return f"signed but not sent: {', '.join(sorted(missing))}"
    if _TOKEN in request.headers and _TOKEN not in credential.names:
        return f"not signed: {_TOKEN}"
    if not request.headers[_NONCE].strip():
        return f"{_NONCE} is empty"
    if request.headers.get("x-jdcloud-algorithm", ALGORITHM) != ALGORITHM:
        return "x-jdcloud-algorithm names another algorithm"
    return None


def _date_refusal(date: str, credential: Credential, now: float, window_seconds: float) -> str | None:
    try:
        at = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return f"{_DATE} is not of the form YYYYMMDDTHHMMSSZ"
    if date[:8] != credential.day:
        return f"the day of {_DATE} is not the day of the credential"
    if abs(at.timestamp() - now) > window_seconds:
        return f"{_DATE} is more than {window_seconds:g} seconds away from the clock of the service"
    return None


def _digest_refusal(request: SignedRequest, credential: Credential, keys: Keys) -> str | None:
    claimed = request.headers.get(_CONTENT_SHA256)
    if claimed is not None and not _same(claimed, hashlib.sha256(request.body).hexdigest()):
        return f"{_CONTENT_SHA256} is not the hash of the body"
    text = string_to_sign(
        request.headers[_DATE], credential.scope, canonical_request(request, credential.names)
    )
    key = signing_key(keys.secret_key, credential.day, credential.region, credential.service)
    signed = _same(credential.signature, hmac.new(key, text.encode(), "sha256").hexdigest())
    if not (_same(credential.access_key, keys.access_key) and signed):
        return "sign result is not same [gw]"
    return None


def appkey_refusal(query: str, keys: Keys, now: float, window_seconds: float) -> str | None:
    """JD's system code for what is wrong with appkey, timestamp and sign, or None."""
    given = {name: values[0] for name, values in parse_qs(query).items() if len(values) == 1}
    for name, code in (("appkey", "10004"), ("timestamp", "10041"), ("sign", "10042")):
        if name not in given:
            return code
    text = keys.secret_key + given["timestamp"]
    expected = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
    # Both before either decides.
    known, signed = _same(given["appkey"], keys.access_key), _same(given["sign"], expected)
    if not known:
        return "10001"
    if not re.fullmatch(r"[0-9]{13}", given["timestamp"]):
        return "10046"
    if abs(int(given["timestamp"]) / 1000 - now) > window_seconds:
        return "10045"
    return None if signed else "10047"


def _same(left: str, right: str) -> bool:
    return hmac.compare_digest(left.encode(), right.encode())
