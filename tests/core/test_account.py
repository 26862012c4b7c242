"""A connection is wrong before the first call or not at all; what is wrong is named, and a value
that may be a secret is not repeated.
"""

import dataclasses
import hashlib
from datetime import time
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_jdocr.core.account import EXTRAS, Account, account_from_parts
from airflow_provider_jdocr.core.errors import ConfigurationError
from tests.certificates import certificate

_SECRET = "SK"


def _account(
    host: str | None = None,
    port: int | None = None,
    schema: str | None = None,
    login: str | None = "AK",
    password: str | None = _SECRET,
    **extra: Any,
) -> Account:
    return account_from_parts(
        login=login, password=password, host=host, port=port, schema=schema, extra=extra, name="jdocr_tests"
    )


def _refused(*args: Any, **kwargs: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        _account(*args, **kwargs)
    message = str(caught.value)
    assert "jdocr_tests" in message
    assert caught.value.__cause__ is None, "a cause would repeat the value"
    return message


def test_a_key_and_a_secret_are_enough() -> None:
    account = _account()
    assert account.url == "https://aiapi.jdcloud.com/jdai/ocr_invoice"
    assert (account.service, account.auth, account.body_encoding) == ("jd", "jdcloud2", "raw")
    assert (account.qps, account.daily_limit) == (2.0, None)
    assert (account.reset_time, account.reset_timezone) == (time(0, 0), "Asia/Shanghai")
    assert (account.region, account.signing_service) == ("cn-north-1", "apigateway")
    assert account.read_timeout_seconds >= 10, "a shorter timeout bills twice"


def test_numbers_may_be_given_as_text_as_forms_and_environments_do() -> None:
    account = _account(
        qps="2.5",
        daily_limit="500",
        read_timeout_seconds=" 45 ",
        connect_timeout_seconds=3,
        reset_time="23:59:30",
    )
    assert (account.qps, account.daily_limit) == (2.5, 500)
    assert (account.read_timeout_seconds, account.connect_timeout_seconds) == (45.0, 3.0)
    assert account.reset_time == time(23, 59, 30)


def test_a_blank_extra_is_not_given() -> None:
    for blank in ("", "  ", None):
        every: dict[str, Any] = dict.fromkeys(EXTRAS, blank)
        assert _account(**every) == _account()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("endpoint", "ocr_invoce"),
        ("endpoint", 5),
        ("auth", "basic"),
        ("body_encoding", "BASE64"),
        ("region", "cn north"),
        ("region", "cn/north"),
        ("service", "a,b"),
        ("service", " api"),
        ("security_token", "two words"),
        ("security_token", "line\nend"),
        ("qps", 0),
        ("qps", -1),
        ("qps", "nan"),
        ("qps", "inf"),
        ("qps", True),
        ("qps", "two"),
        ("qps", [2]),
        ("qps", 10**400),
        ("qps", 5e-324),
        ("qps", 1e300),
        ("daily_limit", 0),
        ("daily_limit", "2.5"),
        ("daily_limit", False),
        ("daily_limit", 1e300),
        ("daily_limit", "1e10"),
        ("reset_time", "24:00"),
        ("reset_time", "7:00"),
        ("reset_time", "07:00:00.5"),
        ("reset_time", 700),
        ("reset_timezone", "Asia/Beijing"),
        ("reset_timezone", "America"),
        ("reset_timezone", "../etc/passwd"),
        ("reset_timezone", "a\0b"),
        ("read_timeout_seconds", 0),
        ("read_timeout_seconds", 601),
        ("connect_timeout_seconds", "-5"),
        ("connect_timeout_seconds", 1e-300),
        ("connect_timeout_seconds", True),
        ("ledger_conn_id", 7),
        ("price_per_call", "480 yuan"),
        ("price_per_call", True),
    ],
)
def test_an_extra_that_cannot_work_is_named_with_the_way_out(name: str, value: Any) -> None:
    message = _refused(**{name: value})
    assert f"extra {name}: " in message
    assert any(way in message for way in ("Correct it", "Leave it out", "Paste it"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("endpoint", "ocr_invoce"),
        ("body_encoding", "BASE64"),
        ("qps", 0),
        ("qps", True),
        ("daily_limit", "2.5"),
        ("reset_time", "7:00"),
        ("reset_timezone", "Asia/Shangai"),
        ("price_per_call", "10K"),
        ("read_timeout_seconds", 601),
    ],
)
def test_a_number_a_time_and_a_misspelt_name_are_repeated(name: str, value: Any) -> None:
    assert _refused(**{name: value}).endswith(f" It is {value!r}.")


ANY_WORD = {"region", "service", "security_token", "ledger_conn_id"}


@pytest.mark.parametrize("name", sorted(EXTRAS - ANY_WORD))
@pytest.mark.parametrize("value", ["CANARY7f3e", "ocr_invoiceCANARY7f3e", "CANARYAsia/Shanghai", ["CANARY"]])
def test_nothing_else_of_an_extra_is_repeated(name: str, value: Any) -> None:
    assert "CANARY" not in _refused(**{name: value})


def test_an_unknown_extra_is_an_error_that_names_it_and_those_there_are() -> None:
    message = _refused(qsp="CANARY", region="cn-north-1")
    assert "'qsp'" in message
    assert "CANARY" not in message
    assert all(name in message for name in EXTRAS)


@pytest.mark.parametrize("name", ["CANARY7f3e", "a" * 41, "a secret", "密钥"])
def test_the_name_of_an_extra_that_looks_like_a_secret_is_not_repeated(name: str) -> None:
    extra: dict[str, Any] = {"qsp": 1, name: ""}
    with pytest.raises(ConfigurationError) as caught:
        _account(**extra)
    assert "'qsp'" in str(caught.value)
    assert "one that is no name" in str(caught.value)
    assert name not in f"{caught.value!r} {vars(caught.value)}"


@pytest.mark.parametrize(
    "fields",
    [
        {"host": "canary7f3e"},
        {"host": "https://canary7F3E.example.com"},
        {"schema": "CANARY7f3e"},
        {"region": "CANARY7f3e"},
        {"service": "CANARY7f3e"},
        {"ledger_conn_id": "jdocr-CANARY7f3e"},
    ],
)
def test_a_secret_in_a_second_field_is_refused_before_it_is_looked_up_or_written_down(
    fields: dict[str, str],
) -> None:
    message = _refused(password="CANARY7f3e", **fields)
    assert f"{next(iter(fields))}: holds the secret key" in message
    assert "canary7f3e" not in message.lower()


@pytest.mark.parametrize("login", [None, "", "A K", "AK\n", "A/K", "A,K", "钥匙"])
def test_a_login_that_is_no_key_is_refused(login: str | None) -> None:
    assert "login: " in _refused(login=login)


@pytest.mark.parametrize("password", [None, "", " ", "CANARY\n", " CANARY", "CAN\0ARY"])
def test_a_password_that_is_no_secret_is_refused_and_not_shown(password: str | None) -> None:
    message = _refused(password=password)
    assert "password: " in message
    assert "CAN" not in message


@pytest.mark.parametrize(
    ("parts", "base_url", "service"),
    [
        (("https://ocr.example.com",), "https://ocr.example.com", "ocr.example.com"),
        (("https://OCR.example.com/",), "https://ocr.example.com", "ocr.example.com"),
        (("ocr.example.com",), "https://ocr.example.com", "ocr.example.com"),
        (("ocr.example.com", 8443), "https://ocr.example.com:8443", "ocr.example.com:8443"),
        (("ocr.example.com:8443",), "https://ocr.example.com:8443", "ocr.example.com:8443"),
        (("ocr.example.com", 443), "https://ocr.example.com", "ocr.example.com"),
        (("http://127.0.0.1:8600",), "http://127.0.0.1:8600", "127.0.0.1:8600"),
        (("127.0.0.1", 8600, "http"), "http://127.0.0.1:8600", "127.0.0.1:8600"),
        (("127.8.9.10", 80, "http"), "http://127.8.9.10", "127.8.9.10"),
        (("localhost", 8600, "http"), "http://localhost:8600", "localhost:8600"),
        (("::1", 8600, "http"), "http://[::1]:8600", "[::1]:8600"),
        (("http://[::1]:8600",), "http://[::1]:8600", "[::1]:8600"),
    ],
)
def test_a_host_may_be_a_name_or_a_url(parts: tuple[Any, ...], base_url: str, service: str) -> None:
    account = _account(*parts)
    assert (account.base_url, account.service) == (base_url, service)
    assert account.url == base_url + "/jdai/ocr_invoice"


@pytest.mark.parametrize(
    "parts",
    [
        ("http://ocr.example.com",),
        ("http://10.0.0.1:8600",),
        ("http://127.0.0.1.example.com",),
        ("http://127.0.0.1.nip.io",),
        ("http://localhost.example.com",),
        ("http://localhost.",),
        ("http://127.0.0.1@CANARY.example.com",),
        ("http://127.0.0.1:8600@CANARY.example.com",),
        ("http://127.0.0.1\\@CANARY.example.com",),
        ("http://127.0.0.1%2f.CANARY.example.com",),
        ("http://[::ffff:127.0.0.1]",),
        ("http://[::ffff:7f00:1]",),
        ("http://[::]",),
        ("http://[::1%25lo]",),
        ("http://0.0.0.0",),
        ("http://0",),
        ("http://2130706433",),
        ("http://0x7f000001",),
        ("http://0177.0.0.1",),
        ("http://127.1",),
        ("http://128.0.0.1",),
        ("http://\uff11\uff12\uff17.0.0.1",),
        ("http:///127.0.0.1",),
        ("ocr.example.com", None, "http"),
        ("ftp://ocr.example.com",),
        ("ocr.example.com", None, "ftp"),
        ("https://ocr.example.com", None, "http"),
        ("https://CANARY:CANARY@ocr.example.com",),
        ("https://ocr.example.com/CANARY",),
        ("https://ocr.example.com?CANARY=1",),
        ("https://ocr.example.com#CANARY",),
        ("https://ocr.example.com\\CANARY",),
        ("ocr.example.com\nCANARY",),
        ("CANARY CANARY",),
        ("京东.example.com",),
        ("https://",),
        ("a..b",),
        ("CANARY." * 36 + "cn",),
        ("https://[::1",),
        ("https://ocr.example.com:port",),
        ("https://ocr.example.com:99999",),
        ("ocr.example.com", 0),
        ("ocr.example.com:1", 2),
        (None, 8600),
        ("", None, "http"),
    ],
)
def test_a_host_that_could_leak_or_lead_astray_is_refused_and_not_shown(parts: tuple[Any, ...]) -> None:
    assert "CANARY" not in _refused(*parts)


@pytest.mark.parametrize("content", [None, b"", b"CANARY", b"-----BEGIN CERTIFICATE-----\nQ0FOQVJZ\n"])
def test_authorities_that_cannot_be_read_are_an_error_before_the_first_call(
    content: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "CANARY.pem"
    if content is not None:
        path.write_bytes(content)
    message = _refused("https://ocr.example.com", ca_bundle=str(path))
    assert "extra ca_bundle: must be" in message
    assert "CANARY" not in message


def test_authorities_need_an_absolute_path_and_https(tmp_path: Path) -> None:
    made = certificate(tmp_path)
    assert _account("https://ocr.example.com", ca_bundle=made.chain).ca_bundle == made.chain
    # For JD itself too: a proxy of the company's may open TLS.
    assert _account(ca_bundle=made.chain).ca_bundle == made.chain
    assert "absolute path" in _refused("https://ocr.example.com", ca_bundle="authorities.pem")
    # Which would be read without end.
    assert "absolute path" in _refused("https://ocr.example.com", ca_bundle="/dev/zero")
    assert "no use with http" in _refused("http://127.0.0.1:8600", ca_bundle=made.chain)


def test_jd_typed_by_hand_is_still_jd() -> None:
    """Or the answers of one service would be kept under two names, and paid for twice."""
    assert _account("https://aiapi.jdcloud.com").service == "jd"
    assert _account("aiapi.jd.com", 443, auth="appkey").service == "jd"
    assert _account("aiapi.jd.com", 8443, auth="appkey").service == "aiapi.jd.com:8443"


def test_a_way_to_sign_that_jd_has_no_door_for_needs_a_host() -> None:
    assert "give the host" in _refused(endpoint="intsig_invoice", auth="jdcloud2")
    own = _account("http://127.0.0.1:8600", endpoint="intsig_invoice", auth="jdcloud2")
    assert own.url == "http://127.0.0.1:8600/INTSIG/invoice"


def test_a_session_token_that_could_not_be_signed_is_refused() -> None:
    assert "jdcloud2" in _refused(auth="appkey", security_token="CANARY")
    assert _account(security_token="token").security_token == "token"


def test_no_secret_is_in_the_repr_and_nothing_can_be_changed() -> None:
    account = _account(login="CANARYkey", password="CANARYsecret", security_token="CANARYtoken")
    assert "CANARY" not in f"{account!r} {account}"
    with pytest.raises(dataclasses.FrozenInstanceError):
        account.qps = 100.0  # type: ignore[misc]  # that is the point


def test_the_fingerprint_names_the_key_without_showing_it() -> None:
    expected = hashlib.sha256(b"jdocr-account:AK").hexdigest()[:16]
    assert _account().fingerprint == expected
    assert _account(password="other", qps=9).fingerprint == expected
    assert _account(login="AK2").fingerprint != expected
