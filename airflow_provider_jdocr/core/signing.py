"""Both ways to sign a call, as small pure functions: the clock and the nonce are arguments, nothing is sent.

JDCLOUD2-HMAC-SHA256 (aiapi.jdcloud.com)::

    canonical request ─▶ string to sign ─▶ signature ─▶ Authorization
                          credential scope   key chain: date ─▶ region ─▶ service ─▶ request

appkey (aiapi.jd.com): ``sign`` is the MD5 of the secret and the time in milliseconds. Neither body nor path
is part of it, so whoever sees the query may call in our name for five minutes: it must not reach a log.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote, unquote, unquote_plus, urlencode

ALGORITHM = "JDCLOUD2-HMAC-SHA256"
_KEY_PREFIX = "JDCLOUD2"
_TERMINATOR = "jdcloud2_request"
_UNRESERVED = "-_.~"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who signs and in which scope."""

    access_key: str
    secret_key: str = field(repr=False)
    region: str
    service: str
    security_token: str | None = field(repr=False, default=None)


class KeyChain(NamedTuple):
    """The raw digests on the way from the secret to the signing key."""

    date: bytes
    region: bytes
    service: bytes
    signing: bytes


def signed_at(clock_seconds: float) -> str:
    """``x-jdcloud-date`` for a time since the epoch: YYYYMMDDTHHMMSSZ, always UTC."""
    return datetime.fromtimestamp(clock_seconds, UTC).strftime("%Y%m%dT%H%M%SZ")


def payload_hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def canonical_uri(path: str) -> str:
    """Each segment decoded once and encoded again, so that both spellings of a path sign alike."""
    return "/".join(quote(unquote(segment), safe=_UNRESERVED) for segment in path.split("/")) or "/"


def canonical_query(query: str) -> str:
    """Sorted by name, then value; a blank is %20 and a name without value gets its ``=``."""
    split = (part.partition("=") for part in query.split("&") if part)
    pairs = sorted((_encoded(name), _encoded(value)) for name, _, value in split)
    return "&".join(f"{name}={value}" for name, value in pairs)


def _encoded(text: str) -> str:
    return quote(unquote_plus(text), safe=_UNRESERVED)


def canonical_header(name: str, value: str) -> str:
    """One header line. Blanks are folded, tabs are not."""
    return f"{name.lower()}:{re.sub(' +', ' ', value).strip(' ')}\n"


def signed_names(names: Iterable[str]) -> str:
    return ";".join(sorted(name.lower() for name in names))


def canonical_request(
    method: str, path: str, query: str, headers: Mapping[str, str], hashed_payload: str
) -> str:
    """The request as both sides must see it. Every header given is signed."""
    lines = "".join(canonical_header(name, headers[name]) for name in sorted(headers, key=str.lower))
    return "\n".join(
        (
            method.upper(),
            canonical_uri(path),
            canonical_query(query),
            lines,
            signed_names(headers),
            hashed_payload,
        )
    )


def credential_scope(date: str, region: str, service: str) -> str:
    return f"{date[:8]}/{region}/{service}/{_TERMINATOR}"


def string_to_sign(date: str, scope: str, request: str) -> str:
    return "\n".join((ALGORITHM, date, scope, hashlib.sha256(request.encode()).hexdigest()))


def key_chain(secret_key: str, date: str, region: str, service: str) -> KeyChain:
    of_date = _hmac((_KEY_PREFIX + secret_key).encode(), date[:8])
    of_region = _hmac(of_date, region)
    of_service = _hmac(of_region, service)
    return KeyChain(of_date, of_region, of_service, _hmac(of_service, _TERMINATOR))


def signature(signing_key: bytes, text: str) -> str:
    return _hmac(signing_key, text).hex()


def authorization(access_key: str, scope: str, names: str, signed: str) -> str:
    return f"{ALGORITHM} Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signed}"


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def jdcloud2_headers(
    credentials: Credentials,
    *,
    method: str,
    host: str,
    path: str,
    query: str,
    content_type: str,
    hashed: str,
    date: str,
    nonce: str,
) -> dict[str, str]:
    """Every header that a signed call must carry, ``Authorization`` among them.

    ``hashed``, the `payload_hash` of the body, is sent and signed: gateways that read the header and gateways
    that hash the body themselves then agree.
    """
    headers = {
        "Content-Type": content_type,
        "Host": host,
        "x-jdcloud-content-sha256": hashed,
        "x-jdcloud-date": date,
        "x-jdcloud-nonce": nonce,
    }
    if credentials.security_token:
        headers["x-jdcloud-security-token"] = credentials.security_token
    scope = credential_scope(date, credentials.region, credentials.service)
    text = string_to_sign(date, scope, canonical_request(method, path, query, headers, hashed))
    keys = key_chain(credentials.secret_key, date, credentials.region, credentials.service)
    signed = signature(keys.signing, text)
    return headers | {
        "x-jdcloud-algorithm": ALGORITHM,
        "Authorization": authorization(credentials.access_key, scope, signed_names(headers), signed),
    }


def appkey_sign(secret_key: str, timestamp: str) -> str:
    """32 lower-case hex digits. MD5 is what JD asks for."""
    return hashlib.md5((secret_key + timestamp).encode(), usedforsecurity=False).hexdigest()


def appkey_query(appkey: str, secret_key: str, clock_seconds: float) -> str:
    """``appkey=…&timestamp=…&sign=…``; one reading of the clock serves both stamp and signature."""
    timestamp = str(round(clock_seconds * 1000))
    return urlencode({"appkey": appkey, "timestamp": timestamp, "sign": appkey_sign(secret_key, timestamp)})
