"""What an author types into a connection: an account that works, or an error that names the field and repeats
no value.

The extras are given as text, as Airflow keeps them, and go through the hook now and then.
"""

from __future__ import annotations

import json
import math
import os
import random
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, time
from typing import Any
from urllib.parse import urlsplit

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="jdocr-fuzz-home-"))
os.environ.setdefault("AIRFLOW__CORE__UNIT_TEST_MODE", "True")

from airflow.sdk import Connection

from airflow_provider_jdocr.core.account import EXTRAS, Account, account_from_parts, is_loopback
from airflow_provider_jdocr.core.errors import ConfigurationError
from airflow_provider_jdocr.core.quotas import Limits
from airflow_provider_jdocr.hooks import JdOcrHook
from tests.fuzz import mutate
from tests.fuzz.run import Breach, Outcome

CANARY = "wEllEnSittIcH"
"""Part of every secret and of many values; no error may hold it."""

_TIMES = (
    "00:00",
    "23:59:59",
    "24:00",
    "7:00",
    "07:00:60",
    "０７:００",
    "07:00Z",
    "07:00+08:00",
    "0700",
    "07:00\n",
)
_ZONES = (
    *("Asia/Shanghai", "UTC", "", "../../etc/passwd", "/etc/localtime", "America", "Asia/", "asia/shanghai"),
    *(
        "posix/UTC",
        "Etc/GMT+14",
        "Factory",
        "zone.tab",
        "tzdata.zi",
        "leapseconds",
        ".",
        "Asia/Shanghai\0",
        "a" * 5_000,
    ),
)
_NUMBERS: tuple[Any, ...] = (
    *(
        2,
        2.0,
        0,
        -1,
        1,
        0.5,
        1e-300,
        5e-324,
        1e300,
        10**30,
        2**63,
        True,
        False,
        "2",
        " 2 ",
        "２",
        "٢",
        "1_000",
    ),
    *(
        "1e3",
        "1e400",
        "nan",
        "-inf",
        "0x10",
        "2,5",
        "",
        " ",
        "²",
        "@nan",
        "@infinity",
        "@huge",
        "@digits",
        "600",
        601,
    ),
)
_HOSTS = (
    *(
        "127.0.0.1",
        "localhost",
        "http://127.0.0.1:8600",
        "https://ocr.example.com",
        "ocr.example.com:8443",
        "::1",
        "[::1]:1",
    ),
    *(
        "https://user:{0}@host",
        "{0}@host",
        "https://host/{0}",
        "https://host?{0}",
        "https://host#{0}",
        "http://host",
    ),
    *(
        "ftp://host",
        "https://",
        "https://host:0",
        "https://host:99999",
        "https://host:１",
        "host\r\nX: {0}",
        "host\thost",
    ),
    *(
        "[::1",
        "[::1%25eth0]",
        "[fe80::1]",
        "1.2.3.4.5",
        "０.0.0.0",
        "票.cn",
        "xn--fiqs8s.cn",
        "a." * 200 + "cn",
        "-",
        ".",
    ),
    *(
        "https://https://host",
        "//host",
        "host:",
        ":443",
        "LOCALHOST",
        "127.1",
        "0x7f.1",
        "[::ffff:127.0.0.1]",
        "a" * 64,
    ),
)
_PORTS = (None, None, None, 443, 80, 8600, 0, -1, 65_535, 65_536, 2**40)
_SCHEMAS = (None, None, "", "https", "http", "HTTPS", " http ", "ftp", "http://", "https\n", "{0}")
_BY_KEY: dict[str, Sequence[Any]] = {
    "endpoint": ("ocr_invoice", "intsig_invoice", "ocr_invoce", "OCR_INVOICE"),
    "auth": ("jdcloud2", "appkey", "basic"),
    "body_encoding": ("raw", "base64", "data_uri", "any"),
    "region": ("cn-north-1", "cn/north", "cn north", "ｃｎ", "x" * 5_000),
    "service": ("apigateway", "a,b", "jd\r\nX: y"),
    "security_token": (f"token-{CANARY}", f"{CANARY}\r\nX: y", "票", "x" * 20_000),
    "reset_time": _TIMES,
    "reset_timezone": _ZONES,
    "ca_bundle": (
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/passwd",
        "/dev/zero",
        "/",
        "a\0b",
        f"/{CANARY}.pem",
    ),
    "ledger_conn_id": ("ledger", " ledger", "票"),
    "price_per_call": ("0.048", "1M", "10k", 0.02, 1e30),
    **dict.fromkeys(("qps", "daily_limit", "connect_timeout_seconds", "read_timeout_seconds"), _NUMBERS),
}

Given = dict[str, Any]
"""login, password, host, port, schema, and extra as the text that Airflow keeps."""


class Connections:
    """The parts of a connection → an account or a ``ConfigurationError``."""

    name = "connections"
    seconds = 5.0
    megabytes = 200

    def seeds(self) -> list[Given]:
        plain: Given = {
            "login": "AK",
            "password": f"secret-{CANARY}",
            "host": None,
            "port": None,
            "schema": None,
        }
        extras: tuple[dict[str, Any], ...] = (
            {},
            {"endpoint": "intsig_invoice"},
            {key: values[0] for key, values in _BY_KEY.items()},
        )
        return [{**plain, "extra": json.dumps(extra)} for extra in extras]

    def new(self, rng: random.Random, seeds: Sequence[Given]) -> Given:
        # Most from the sound ones: a second mistake is not seen behind a first.
        given = dict(rng.choice(seeds if rng.random() < 0.3 else seeds[:3]))
        for _ in range(rng.choice((1, 1, 2, 4))):
            self._change(rng, given)
        return given

    def _change(self, rng: random.Random, given: Given) -> None:
        match rng.randrange(10):
            case 0:
                given["host"] = rng.choice((None, rng.choice(_HOSTS), mutate.some_text(rng))) or None
                given["host"] = given["host"] and given["host"].replace("{0}", CANARY)
            case 1:
                given["port"] = rng.choice(_PORTS)
            case 2:
                given["schema"] = rng.choice(_SCHEMAS)
            case 3:
                name = rng.choice(("login", "password"))
                given[name] = rng.choice(
                    (None, "", f"{CANARY} ", f"{CANARY}\n", mutate.some_text(rng), f"{CANARY}-key")
                )
            case 4:
                given["extra"] = mutate.mutated_text(rng, given["extra"])
            case _:
                given["extra"] = _changed_extra(rng, given["extra"])

    def judge(self, given: Given) -> Outcome:
        try:
            extra = _read(given["extra"])
        except ConfigurationError as error:
            return Outcome("extra refused", _check_error(error))
        try:
            account = account_from_parts(**{**given, "extra": extra}, name="jdocr_fuzz")
        except ConfigurationError as error:
            return Outcome(f"refused {error.field if error.field in EXTRAS else 'else'}", _check_error(error))
        check_account(account)
        return Outcome(
            "account", (account.endpoint.name, account.auth, account.service == "jd", account.qps > 2)
        )


class _Typed(JdOcrHook):
    """The hook of a connection that nobody had to define."""

    text = ""

    @classmethod
    def get_connection(cls, conn_id: str) -> Connection:
        return Connection(
            conn_id=conn_id, conn_type="jdocr", login="AK", password="SK-of-the-test", extra=cls.text
        )


def _read(text: str) -> dict[str, object]:
    """The extras as the hook reads them; what it refuses is refused here."""
    hook = _Typed("jdocr_fuzz")
    hook.__class__.text = text
    extra: dict[str, object] = dict(hook._extra)  # noqa: SLF001 - the step before the account, on its own
    return extra


def _changed_extra(rng: random.Random, text: str) -> str:
    try:
        extra = json.loads(text)
    except (ValueError, RecursionError):
        extra = {}
    if not isinstance(extra, dict) or rng.random() < 0.1:
        extra = {}
    key = rng.choice(tuple(_BY_KEY))
    match rng.randrange(5):
        case 0:
            extra[key] = mutate.some_value(rng)
        case 1:
            extra[
                rng.choice((mutate.some_text(rng), "verify", "proxies", "password", f"{key} ", key.upper()))
            ] = CANARY
        case 2:
            extra[key] = rng.choice(
                (f"{CANARY}", [CANARY], {CANARY: CANARY}, f"{rng.choice(_BY_KEY[key])}{CANARY}")
            )
        case _:
            extra[key] = rng.choice(_BY_KEY[key])
    return mutate.spelled(rng, extra)


# ── what was promised ──


def _check_error(error: ConfigurationError) -> str:
    said = "".join(_told(error))
    unknown = CANARY in str(error) and "does not know" in str(error)
    if CANARY in said and not unknown:
        raise Breach(f"the error repeats a value: {said}")
    if error.field is None or len(said) > 3_000:
        raise Breach(f"the error names no field, or too much: {said[:500]}")
    for word in ("Connection", "jdocr_fuzz"):
        if word not in said:
            raise Breach(f"no word of {word}: {said}")
    return str(error)[:60]


def _told(error: BaseException | None) -> Iterator[str]:
    """All that a traceback would show: the error, its causes, and what it came from unless that is hushed."""
    while error is not None:
        yield f"{type(error).__name__}: {error}\n"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def check_account(account: Account) -> None:
    """Everything that a send, a header, a row of the ledger and a wait would stumble over."""
    parts = urlsplit(account.url)
    host = parts.hostname or ""
    wrong = {
        "scheme": parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)),
        "url": parts.query
        or parts.fragment
        or parts.username
        or not account.url.isascii()
        or " " in account.url,
        "service": len(account.service) > 255,
        "path": parts.path != account.endpoint.path,
        "port": parts.port is not None and not 0 < parts.port < 65_536,
        "qps": not 1e-6 <= account.qps <= 1e6,
        "daily_limit": account.daily_limit is not None and not 0 < account.daily_limit < 2**31,
        "timeouts": not all(
            1e-3 <= seconds <= 600
            for seconds in (account.connect_timeout_seconds, account.read_timeout_seconds)
        ),
        "reset_time": not isinstance(account.reset_time, time) or account.reset_time.tzinfo is not None,
        "price": account.price_per_call is not None and not 0 <= account.price_per_call <= 100,
        "headers": any(
            not text.isascii() or not text.isprintable()
            for text in (
                account.access_key,
                account.region,
                account.signing_service,
                account.security_token or "",
            )
        ),
        "repr": any(
            secret in repr(account)
            for secret in (account.access_key, account.secret_key, account.security_token)
            if secret and CANARY in secret
        ),
    }
    if found := [name for name, is_wrong in wrong.items() if is_wrong]:
        raise Breach(f"accepted with a wrong {found}: {account!r:.400}")
    limits = Limits(account.daily_limit, account.reset_time, account.reset_timezone)
    now = datetime(2026, 3, 29, 1, 30, tzinfo=UTC).timestamp()
    if not now < limits.next_reset(now) <= now + 50 * 3600:
        raise Breach(f"the day ends at {limits.next_reset(now) - now} s from now")
    if not math.isfinite(account.qps):
        raise Breach("a rate without end")
