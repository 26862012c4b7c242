"""Every code, every gateway status and every wire failure, as the client meets it at the service.

What is expected is spelled out from JD's descriptions, not taken from the table that is tested.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_jdocr.core.account import Account, account_from_parts
from airflow_provider_jdocr.core.client import Client, WireFailure
from airflow_provider_jdocr.core.errors import CODES
from airflow_provider_jdocr.core.replies import Reading, read_failure, read_reply
from airflow_provider_jdocr.server.wire import Bounds
from tests.server.app_client import KEY, PNG, SECRET, Book, Running, serving

PICTURE = PNG + b"a picture"

SYSTEM = {
    "configuration": "10001 10004 10041 10042 10045 10046 10047 10048 10050 10060",
    "settle_failed": "10003",
    "quota_until_topped_up": "10010",
    "quota_until_reset": "10040",
    "slow_down": "10043 10044",
    "again": "10020 10030 11010",
    "again_once": "11030",
}
OCR_INVOICE = {"settle_failed": "12001 12002 12003 12004", "again": "12005 12006"}
INTSIG_INVOICE = {
    "again": "500 40001 40002 40400 50001",
    "again_once": "40200 90099",
    "slow_down": "40004 40018",
    "quota_until_reset": "40017 40020",
    "quota_until_topped_up": "40019 40107",
    "configuration": "40003 40100 40101 40102 40103 40104 40105 40106 40110 40202",
    "settle_failed": "40201 40300 40301 40302 40303 40401 40500 40600",
}
GATEWAY = {
    "configuration": "400 401 403 404 405 407 414 415",
    "again": "408",
    "settle_failed": "413",
    "slow_down": "429",
    # The gateway's reply has no word about the charge: whether the service behind it billed is not known.
    "in_doubt": "500 502 503 504",
}


def rows(table: dict[str, str]) -> list[tuple[str, str]]:
    return [(code, verdict) for verdict, codes in table.items() for code in codes.split()]


@pytest.fixture(scope="module")
def service() -> Iterator[Running]:
    with serving(Book(), qps=0, daily_limit=-1) as running:
        yield running


def account(url: str, endpoint: str = "ocr_invoice", **extra: Any) -> Account:
    return account_from_parts(
        login=KEY, password=SECRET, host=url, port=None, schema=None, extra={"endpoint": endpoint, **extra}
    )


def asked(service: Running, fault: dict[str, Any], endpoint: str = "ocr_invoice", **extra: Any) -> Reading:
    service.behave(reset=True, faults=[fault])
    return _read(service, endpoint, **extra)


def _read(service: Running, endpoint: str = "ocr_invoice", **extra: Any) -> Reading:
    of = account(service.url, endpoint, **extra)
    with Client(of, clock=service.clock, max_reply_bytes=1 << 20) as client:
        answer = client.send(PICTURE)
    if isinstance(answer, WireFailure):
        return read_failure(answer)
    return read_reply(of.endpoint, answer.status, answer.body)


@pytest.mark.parametrize("endpoint", ["ocr_invoice", "intsig_invoice"])
@pytest.mark.parametrize(("code", "verdict"), rows(SYSTEM))
def test_a_system_code_that_cost_nothing(service: Running, endpoint: str, code: str, verdict: str) -> None:
    reading = asked(service, {"fault": "code", "layer": "system", "code": code}, endpoint)
    assert (reading.layer, reading.code, reading.verdict, reading.charged) == ("system", code, verdict, False)


BUSINESS = [("ocr_invoice", *row) for row in rows(OCR_INVOICE)] + [
    ("intsig_invoice", *row) for row in rows(INTSIG_INVOICE)
]


@pytest.mark.parametrize(("endpoint", "code", "verdict"), BUSINESS)
def test_a_business_code_that_cost_nothing(service: Running, endpoint: str, code: str, verdict: str) -> None:
    reading = asked(service, {"fault": "code", "layer": "business", "code": code}, endpoint)
    assert (reading.layer, reading.code, reading.verdict, reading.charged) == (endpoint, code, verdict, False)


@pytest.mark.parametrize(("endpoint", "code", "verdict"), BUSINESS)
def test_a_failure_that_was_charged_is_settled(
    service: Running, endpoint: str, code: str, verdict: str
) -> None:
    reading = asked(service, {"fault": "code", "layer": "business", "code": code, "charge": True}, endpoint)
    stops = {"quota_until_reset", "quota_until_topped_up", "configuration"}
    assert reading.verdict == (verdict if verdict in stops else "settle_failed")
    assert reading.charged is True


@pytest.mark.parametrize("charge", [None, ""])
@pytest.mark.parametrize(("endpoint", "code", "verdict"), BUSINESS)
def test_an_again_without_a_word_about_the_charge_is_in_doubt(
    service: Running, endpoint: str, code: str, verdict: str, charge: str | None
) -> None:
    fault = {"fault": "code", "layer": "business", "code": code, "charge": charge}
    reading = asked(service, fault, endpoint)
    assert reading.verdict == ("in_doubt" if verdict.startswith("again") else verdict)


def test_who_finds_the_service_full_was_not_charged() -> None:
    with (
        serving(Book(), Bounds(connections=1), qps=0) as service,
        socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2]))),
    ):
        reading = _read(service)
    assert (reading.verdict, reading.code, reading.charged) == ("slow_down", "10044", False)


@pytest.mark.parametrize(("status", "verdict"), rows(GATEWAY))
def test_a_status_of_the_gateway(service: Running, status: str, verdict: str) -> None:
    reading = asked(service, {"fault": "status", "http_status": int(status)})
    assert (reading.layer, reading.verdict) == ("gateway", verdict)
    # The gateway's own word for 429 is in the table too, and says more than the number.
    assert reading.code == (status if status != "429" else "RATE_LIMIT_EXCEEDED")


@pytest.mark.parametrize(
    ("word", "verdict"), [("QUOTA_EXCEEDED", "quota_until_reset"), ("RATE_LIMIT_EXCEEDED", "slow_down")]
)
def test_the_gateways_second_vocabulary(service: Running, word: str, verdict: str) -> None:
    reading = asked(service, {"fault": "status", "http_status": 429, "word": word})
    assert (reading.verdict, reading.charged) == (verdict, False)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"fault": "close_before_billing"}, "connection_broken"),
        ({"fault": "close_after_billing"}, "connection_broken"),
        ({"fault": "close_after_billing", "how": "reset"}, "connection_broken"),
        ({"fault": "late", "seconds": 1}, "read_timeout"),
        ({"fault": "chunk_forever"}, "read_timeout"),
        ({"fault": "huge"}, "reply_too_large"),
        ({"fault": "redirect"}, "redirect"),
        ({"fault": "half"}, "reply_truncated"),
        ({"fault": "garbage"}, "reply_unreadable"),
        ({"fault": "truncated_json"}, "reply_unreadable"),
    ],
    ids=str,
)
def test_a_broken_reply_is_in_doubt(service: Running, fault: dict[str, Any], code: str) -> None:
    reading = asked(service, fault, read_timeout_seconds=0.3)
    assert (reading.layer, reading.code, reading.verdict, reading.charged) == ("wire", code, "in_doubt", None)


@pytest.mark.parametrize("code", ["connection_refused", "name_resolution"])
def test_what_never_reached_the_server_is_free_to_send_again(code: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        closed = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    url = closed if code == "connection_refused" else "https://ocr.invalid"
    with Client(account(url)) as client:
        failure = client.send(PICTURE)
    assert isinstance(failure, WireFailure)
    reading = read_failure(failure)
    assert (reading.code, reading.verdict, reading.charged) == (code, "again", False)


@pytest.mark.parametrize("fault", ["drop_envelope", "result_as_string"])
@pytest.mark.parametrize("endpoint", ["ocr_invoice", "intsig_invoice"])
def test_a_success_in_another_wrapping_is_a_success(service: Running, endpoint: str, fault: str) -> None:
    assert asked(service, {"fault": fault}, endpoint).verdict == "success"


def test_every_code_of_the_table_was_provoked_or_is_a_success_or_is_the_clients_own() -> None:
    business = {("ocr_invoice", code) for code, _ in rows(OCR_INVOICE)}
    business |= {("intsig_invoice", code) for code, _ in rows(INTSIG_INVOICE)}
    provoked = business | {("system", code) for code, _ in rows(SYSTEM)}
    provoked |= {("gateway", code) for code, _ in rows(GATEWAY)}
    provoked |= {("gateway", "QUOTA_EXCEEDED"), ("gateway", "RATE_LIMIT_EXCEEDED")}
    rest = {key for key in CODES if key[0] != "wire"} - provoked
    assert rest == {("system", "10000"), ("ocr_invoice", "0"), ("intsig_invoice", "200")}
