"""One Airflow connection = one account at one endpoint, validated once and frozen.

Login and password are the key and the secret; an empty host means JD itself. The extras are a closed set and
an unknown one is an error. Blank extras count as not given, because a form sends every field it shows.

An error names the connection, the field, the rule and the way out. Of values it repeats numbers, times and
misspelt names alone: whoever pastes a secret into the wrong field must not find it in a log.
"""

import hashlib
import ipaddress
import math
import re
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import time
from decimal import Decimal
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any, cast, get_args
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo, available_timezones

from airflow_provider_jdocr.core.endpoints import ENDPOINTS, AuthScheme, BodyEncoding, Endpoint
from airflow_provider_jdocr.core.errors import ConfigurationError
from airflow_provider_jdocr.core.prices import PACKS, price_of

DEFAULT_ENDPOINT = "ocr_invoice"
# JD documents neither for these hosts; its known verifiers read both from the credential scope.
DEFAULT_REGION = "cn-north-1"
DEFAULT_SIGNING_SERVICE = "apigateway"
SHORTEST_TIMEOUT_SECONDS, LONGEST_TIMEOUT_SECONDS = 0.001, 600.0
LOWEST_QPS, HIGHEST_QPS = 0.001, 10_000.0
MOST_CALLS_A_DAY = 1_000_000_000
LONGEST_HOST = 253
"""Characters of a host name, by the rules of DNS."""
SHORTEST_SECRET = 8
"""Shorter ones are none of JD's, and their letters may occur anywhere."""
_NAME = re.compile("[A-Za-z_-]{1,40}")
# Not `ipaddress`'s own `is_loopback`: some versions of Python count mapped addresses and some do not.
_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))

EXTRAS: frozenset[str] = frozenset(
    {
        "endpoint",
        "auth",
        "region",
        "service",
        "security_token",
        "body_encoding",
        "qps",
        "daily_limit",
        "reset_time",
        "reset_timezone",
        "connect_timeout_seconds",
        "read_timeout_seconds",
        "ca_bundle",
        "ledger_conn_id",
        "price_per_call",
    }
)


@dataclass(frozen=True, slots=True)
class Account:
    """Everything a send needs, and nothing that a thread could change. The secrets are not in the repr."""

    endpoint: Endpoint
    base_url: str
    service: str
    """Whose answers these are: ``jd``, or ``host[:port]`` of an overridden base URL."""
    auth: AuthScheme
    body_encoding: BodyEncoding
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    security_token: str | None = field(repr=False, default=None)
    region: str = DEFAULT_REGION
    signing_service: str = DEFAULT_SIGNING_SERVICE
    qps: float = 2.0
    daily_limit: int | None = None
    reset_time: time = time(0, 0)
    reset_timezone: str = "Asia/Shanghai"
    connect_timeout_seconds: float = 5.0
    read_timeout_seconds: float = 30.0
    ca_bundle: str | None = None
    """PEM file of the only authorities that may vouch for the service; None: those this machine trusts."""
    price_per_call: Decimal | None = None
    """Yuan, for the bill; None: nobody said."""

    @property
    def url(self) -> str:
        """Where pictures are posted; never carries a query."""
        return self.base_url + self.endpoint.path

    @property
    def fingerprint(self) -> str:
        """16 hex digits that stand for the access key in the ledger and in logs."""
        return _fingerprint(self.access_key)


@lru_cache(maxsize=16)
def _fingerprint(access_key: str) -> str:
    """Asked for with every statement on the account."""
    return hashlib.sha256(f"jdocr-account:{access_key}".encode()).hexdigest()[:16]


def account_from_parts(
    *,
    login: str | None,
    password: str | None,
    host: str | None,
    port: int | None,
    schema: str | None,
    extra: Mapping[str, object],
    name: str = "jdocr",
) -> Account:
    """The account that a connection describes. Raises ConfigurationError, which says what to change."""
    fields = _Fields(name, extra)
    fields.refuse_unknown()
    refuse_misplaced(name, password, {"host": host, "schema": schema}, extra)
    endpoint = ENDPOINTS[fields.choice("endpoint", tuple(ENDPOINTS), DEFAULT_ENDPOINT)]
    auth = cast(AuthScheme, fields.choice("auth", get_args(AuthScheme), endpoint.auth))
    base_url = _base_url(fields, host, port, schema) or _door(fields, endpoint, auth)
    fields.text("ledger_conn_id")
    return Account(
        endpoint=endpoint,
        base_url=base_url,
        service=_service(base_url),
        auth=auth,
        body_encoding=cast(
            BodyEncoding, fields.choice("body_encoding", get_args(BodyEncoding), endpoint.body_encoding)
        ),
        access_key=_access_key(fields, login),
        secret_key=_secret_key(fields, password),
        security_token=_security_token(fields, auth),
        region=fields.scope("region", DEFAULT_REGION),
        signing_service=fields.scope("service", DEFAULT_SIGNING_SERVICE),
        qps=fields.number("qps", 2.0, "calls a second", LOWEST_QPS, HIGHEST_QPS),
        daily_limit=fields.count("daily_limit"),
        reset_time=fields.clock_time("reset_time", time(0, 0)),
        reset_timezone=fields.timezone("reset_timezone", "Asia/Shanghai"),
        connect_timeout_seconds=fields.timeout("connect_timeout_seconds", 5.0),
        read_timeout_seconds=fields.timeout("read_timeout_seconds", 30.0),
        ca_bundle=_ca_bundle(fields, base_url),
        price_per_call=fields.price("price_per_call"),
    )


def refuse_misplaced(
    name: str, password: str | None, fields: Mapping[str, object], extra: Mapping[str, object]
) -> None:
    """Raises ConfigurationError where another field of a connection holds its secret: as a host it would be
    asked for in the open, as a name looked up, as a service written into the ledger.
    """
    secret = (password or "").strip().lower()
    places = dict(fields) | {f"extra {key}": value for key, value in extra.items()}
    for place, value in places.items():
        if len(secret) >= SHORTEST_SECRET and isinstance(value, str) and secret in value.lower():
            raise _Fields(name, extra).error(place, "holds the secret key. Take it out, it is the password.")


class _Fields:
    """The extras of one connection, read one by one under its name."""

    def __init__(self, name: str, extra: Mapping[str, object]) -> None:
        self.name = name
        self.extra = extra

    def error(
        self, where: str, rule: str, value: object = None, near: Iterable[str] = ()
    ) -> ConfigurationError:
        message = f"Connection {self.name!r}, {where}: {rule}{_repeated(value, near)}"
        return ConfigurationError(message, field=where.split()[-1])

    def refuse_unknown(self) -> None:
        unknown = sorted(str(key) for key in self.extra if key not in EXTRAS)
        if unknown:
            # A name that looks like none may be a secret that was pasted in front of a colon.
            shown = {key: repr(key) if _NAME.fullmatch(key) else "one that is no name" for key in unknown}
            names = ", ".join(dict.fromkeys(shown.values()))
            raise ConfigurationError(
                f"Connection {self.name!r} has extras that this provider does not know: {names}. "
                f"Remove them or correct the spelling; the extras are {', '.join(sorted(EXTRAS))}.",
                field=next((key for key in unknown if _NAME.fullmatch(key)), "extra"),
            )

    def value(self, key: str) -> Any:
        value = self.extra.get(key)
        return None if isinstance(value, str) and not value.strip() else value

    def text(self, key: str, default: str = "") -> str:
        value = self.value(key)
        if value is None:
            return default
        if not isinstance(value, str) or value != value.strip():
            raise self.error(
                f"extra {key}", "must be text without blanks around it. Correct it or leave it out."
            )
        return value

    def choice(self, key: str, allowed: tuple[str, ...], default: str) -> str:
        value = self.text(key, default)
        if value not in allowed:
            raise self.error(
                f"extra {key}",
                f"must be one of {', '.join(allowed)}. Leave it out for {default}.",
                value,
                allowed,
            )
        return value

    def scope(self, key: str, default: str) -> str:
        """A part of the credential scope: a slash or a comma in it would change the meaning of the header."""
        value = self.text(key, default)
        if not re.fullmatch(r"[A-Za-z0-9._-]+", value):
            raise self.error(
                f"extra {key}",
                f"may hold letters, digits and . _ - only. Correct it or leave it out for {default}.",
            )
        return value

    def number(self, key: str, default: float, unit: str, least: float, most: float) -> float:
        value = self.value(key)
        if value is None:
            return default
        number = _as_number(value)
        if number is None or not least <= number <= most:
            raise self.error(
                f"extra {key}",
                f"must be a number of {unit} from {least:g} to {most:g}. "
                f"Correct it or leave it out for {default:g}.",
                value,
            )
        return number

    def timeout(self, key: str, default: float) -> float:
        return self.number(key, default, "seconds", SHORTEST_TIMEOUT_SECONDS, LONGEST_TIMEOUT_SECONDS)

    def count(self, key: str) -> int | None:
        value = self.value(key)
        if value is None:
            return None
        number = _as_number(value)
        if number is None or not 1 <= number <= MOST_CALLS_A_DAY or number != int(number):
            raise self.error(
                f"extra {key}",
                f"must be a whole number from 1 to {MOST_CALLS_A_DAY}. Leave it out when there is no limit.",
                value,
            )
        return int(number)

    def price(self, key: str) -> Decimal | None:
        value = self.value(key)
        try:
            return None if value is None else price_of(value)
        except ValueError as error:
            raise self.error(f"extra {key}", f"{error}. Correct it or leave it out.", value, PACKS) from None

    def clock_time(self, key: str, default: time) -> time:
        value = self.value(key)
        if value is None:
            return default
        if isinstance(value, str) and re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?", value, re.ASCII):
            return time.fromisoformat(value)
        raise self.error(
            f"extra {key}", "must be a time of day as HH:MM or HH:MM:SS, such as 00:00. Correct it.", value
        )

    def timezone(self, key: str, default: str) -> str:
        value = self.text(key, default)
        try:
            ZoneInfo(value)
        except (OSError, ValueError, LookupError):
            # The cause would repeat the value.
            raise self.error(
                f"extra {key}",
                f"must be a time zone that this machine knows, such as Asia/Shanghai. "
                f"Leave it out for {default}.",
                value,
                available_timezones(),
            ) from None
        return value


_NUMBER_OR_TIME = re.compile(r"[0-9 +.:eE-]{1,12}|True|False")


def _repeated(value: object, near: Iterable[str]) -> str:
    """The value, where it is a number, a time or nearly one of these names. Nothing else is repeated: it may
    be a secret in the wrong place.
    """
    text = value if isinstance(value, str) else repr(value)
    # A name with a secret glued to it is none of nearly the same length.
    names = (name.lower() for name in near if abs(len(name) - len(text)) <= 3)
    told = _NUMBER_OR_TIME.fullmatch(text) or get_close_matches(text.lower(), names, n=1, cutoff=0.8)
    return f" It is {value!r}." if told else ""


def _as_number(value: object) -> float | None:
    """A finite number given as a number or as text; a bool is a mistake, not a number."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _access_key(fields: _Fields, login: str | None) -> str:
    if login and re.fullmatch(r"[\x21-\x7e]+", login) and not set(login) & set(",/"):
        return login
    raise fields.error(
        "login",
        "must be the access key (jdcloud2) or the appkey, in plain letters without blanks, commas or "
        "slashes. Paste it again from JD's console.",
    )


def _secret_key(fields: _Fields, password: str | None) -> str:
    if password and password == password.strip() and password.isprintable():
        return password
    raise fields.error(
        "password",
        "must be the secret key, without blanks or a line end around it. Paste it again from JD's console.",
    )


def _security_token(fields: _Fields, auth: AuthScheme) -> str | None:
    token = fields.text("security_token")
    if not token:
        return None
    if auth != "jdcloud2":
        raise fields.error(
            "extra security_token", f"is of no use with auth {auth}. Remove it, or set auth to jdcloud2."
        )
    # Signers differ in how they fold blanks inside a header value.
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise fields.error(
            "extra security_token", "must be plain letters without blanks or line ends. Paste it again."
        )
    return token


def _ca_bundle(fields: _Fields, base_url: str) -> str | None:
    path = fields.text("ca_bundle")
    if not path:
        return None
    if not base_url.startswith("https://"):
        raise fields.error("extra ca_bundle", "is of no use with http. Remove it, or set the host to https.")
    try:
        # A device would be read without end.
        if not Path(path).is_absolute() or not Path(path).is_file():
            raise ValueError
        ssl.create_default_context(cafile=path)
    except (OSError, ValueError):
        # The cause would repeat the value.
        raise fields.error(
            "extra ca_bundle",
            "must be the absolute path of a PEM file with certificates that this machine can read. Correct "
            "it, or leave it out for the authorities that this machine trusts.",
        ) from None
    return path


def _door(fields: _Fields, endpoint: Endpoint, auth: AuthScheme) -> str:
    base_url = endpoint.base_url_for(auth)
    if base_url is None:
        raise fields.error(
            "extra auth",
            f"no address of JD is known for endpoint {endpoint.name} with {auth}. "
            f"Leave auth out for {endpoint.auth}, or give the host.",
        )
    return base_url


def _service(base_url: str) -> str:
    """The same JD is the same service, whether its address was typed or came from the table."""
    doors = {
        url for row in ENDPOINTS.values() for url in (row.base_url, *(door for _, door in row.other_doors))
    }
    return "jd" if base_url in doors else base_url.partition("://")[2]


_HOST_RULE = (
    "must be a host name or https://host[:port], without user, path, query or fragment. "
    "Correct it, or leave it empty for JD itself."
)


def _base_url(fields: _Fields, host: str | None, port: int | None, schema: str | None) -> str | None:
    """``scheme://host[:port]`` without a default port, or None when no host is given."""
    scheme, parts = _split_host(fields, (host or "").strip(), (schema or "").strip().lower())
    if parts is None:
        if port is not None or scheme == "http":
            raise fields.error("host", "is empty, but a port or http as schema is given. Give all or none.")
        return None
    number = _port(fields, parts, port)
    name = _host_name(fields, parts)
    if scheme != "https" and not is_loopback(name):
        raise fields.error(
            "host", "http is accepted for this machine only (localhost, 127.0.0.1, ::1). Use https."
        )
    shown = f"[{name}]" if ":" in name else name
    default_port = {"https": 443, "http": 80}[scheme]
    return f"{scheme}://{shown}" + ("" if number in (None, default_port) else f":{number}")


def _split_host(fields: _Fields, host: str, schema: str) -> tuple[str, SplitResult | None]:
    """The scheme and the rest of what was typed as host, which may be a URL."""
    if schema not in ("", "http", "https"):
        raise fields.error("schema", "must be https, or http for this machine. Correct it or empty it.")
    if not host:
        return schema, None
    if _is_ipv6(host):
        host = f"[{host}]"
    scheme, mark, rest = host.rpartition("://")
    scheme = scheme.lower() if mark else schema or "https"
    if scheme not in ("http", "https") or (schema and scheme != schema):
        raise fields.error("host", f"{_HOST_RULE} Its scheme must be https or http, as in schema.")
    # urlsplit drops line ends and tabs without a word.
    if re.search(r"[^\x21-\x7e]", rest):
        raise fields.error("host", _HOST_RULE)
    try:
        parts = urlsplit(f"{scheme}://{rest}")
    except ValueError:
        raise fields.error("host", _HOST_RULE) from None
    if "@" in rest or "?" in rest or "#" in rest or parts.path not in ("", "/"):
        raise fields.error("host", _HOST_RULE)
    return scheme, parts


def _port(fields: _Fields, parts: SplitResult, port: int | None) -> int | None:
    try:
        typed = parts.port
    except ValueError:
        raise fields.error("port", "must be a number from 1 to 65535. Correct the one in host.") from None
    if port is not None and typed is not None and port != typed:
        raise fields.error("port", "differs from the port in host. Give it once.")
    number = typed if port is None else port
    if number is not None and not 1 <= number <= 65535:
        raise fields.error("port", "must be a number from 1 to 65535. Correct it or leave it empty.")
    return number


def _host_name(fields: _Fields, parts: SplitResult) -> str:
    name = parts.hostname or ""
    labels = r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*"
    if len(name) > LONGEST_HOST or not (_is_ipv6(name) or re.fullmatch(labels, name)):
        raise fields.error("host", _HOST_RULE)
    return name


def _is_ipv6(host: str) -> bool:
    try:
        return "%" not in host and bool(ipaddress.IPv6Address(host))
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine, judged without asking a name server."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return any(address in network for network in _LOOPBACK)
