"""The service on a real port: who is let in, what is charged, and in which shape it answers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import http.client
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import datetime
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import requests
from starlette.types import ASGIApp, Message

from airflow_provider_jdocr.server.app import Settings, create_app
from tests.server.app_client import (
    BMP,
    INTSIG,
    JPEG,
    KEY,
    OCR,
    PNG,
    SECRET,
    Book,
    Running,
    send_alone,
    serving,
    signed,
)

PICTURE = JPEG + b"an invoice"


@pytest.fixture(scope="module")
def started() -> Iterator[Running]:
    with serving(Book(), qps=0.0, daily_limit=500) as service:
        yield service


@pytest.fixture
def service(started: Running) -> Running:
    started.behave(reset=True)
    return started


_CALLS = {
    "jdcloud2": (OCR, "jdcloud2", PICTURE),
    "appkey": (OCR, "appkey", PICTURE),
    "intsig": (INTSIG, "appkey", base64.b64encode(PICTURE)),
}


def _call(service: Running, way: str, **changed: str) -> requests.Response:
    path, auth, body = _CALLS[way]
    return service.post(path, body, auth=auth, **changed)


@pytest.mark.parametrize("way", _CALLS)
def test_each_way_in_is_answered_and_billed(service: Running, way: str) -> None:
    response = _call(service, way)
    envelope = response.json()
    assert (response.status_code, envelope["code"], envelope["charge"]) == (200, "10000", True)
    (billed,) = service.bill()
    endpoint = "intsig_invoice" if way == "intsig" else "ocr_invoice"
    assert (billed["sha256"], billed["endpoint"]) == (hashlib.sha256(PICTURE).hexdigest(), endpoint)
    assert billed["request_id"] == response.headers["x-jdcloud-request-id"]


def test_ocr_invoice_answers_in_its_documented_shape(service: Running) -> None:
    envelope = service.ocr(PICTURE).json()
    assert set(envelope) == {"code", "charge", "remain", "msg", "result"}
    assert (envelope["remain"], envelope["msg"]) == (499, "查询成功,扣费")
    business = envelope["result"]
    assert (set(business), business["code"]) == ({"code", "message", "request_id", "result"}, 0)
    assert business["result"]["invoice_no"] == "01599485"


def test_intsig_answers_in_its_documented_shape(service: Running) -> None:
    envelope = service.intsig(PICTURE).json()
    assert set(envelope) == {"code", "charge", "remainTimes", "remainSeconds", "msg", "result"}
    assert (envelope["remainTimes"], envelope["remainSeconds"]) == (499, -1)
    business = envelope["result"]
    assert (set(business), business["code"]) == ({"code", "message", "cost_time", "result"}, 200)
    values = {item["key"]: item["value"] for item in business["result"]["item_list"]}
    assert values["vat_invoice_haoma"] == "01599485"


@pytest.mark.parametrize("way", _CALLS)
def test_a_picture_that_is_no_invoice_is_billed(service: Running, way: str) -> None:
    path, auth, _ = _CALLS[way]
    picture = PNG + b"other"
    envelope = service.post(path, base64.b64encode(picture) if path == INTSIG else picture, auth=auth).json()
    assert (envelope["code"], envelope["charge"], len(service.bill())) == ("10000", True, 1)
    result = envelope["result"]["result"]
    if path == INTSIG:
        assert (result["type"], result["item_list"]) == ("other", [])
    else:
        assert set(result.values()) == {""}


_BAD_PICTURES = {
    "nothing": (b"", 12001, 40600),
    "not_a_picture": (b"just text", 12003, 40301),
    "too_large": (JPEG + bytes(5_000_000), 12004, 40302),
    "unreadable": (PNG + b"unreadable", 12002, 40401),
}


@pytest.mark.parametrize("name", _BAD_PICTURES)
def test_a_bad_picture_gets_its_business_code_and_costs_nothing(service: Running, name: str) -> None:
    content, ocr_code, intsig_code = _BAD_PICTURES[name]
    for envelope, code in ((service.ocr(content), ocr_code), (service.intsig(content), intsig_code)):
        body = envelope.json()
        assert (body["code"], body["charge"], body["result"]["code"]) == ("10000", False, code)
        assert "result" not in body["result"]
    assert service.bill() == []
    assert service.ocr(PICTURE).json()["remain"] == 499


def test_a_bitmap_is_for_intsig_only(service: Running) -> None:
    assert service.intsig(BMP + b"x").json()["result"]["code"] == 200
    assert service.ocr(BMP + b"x").json()["result"]["code"] == 12003


def test_an_error_of_the_engine_has_a_code_and_costs_nothing(service: Running) -> None:
    picture = PNG + b"crash"
    assert service.ocr(picture).json()["result"]["code"] == 12006
    assert service.intsig(picture).json()["result"]["code"] == 500
    assert service.bill() == []


def test_raw_bytes_are_refused_where_base64_is_wanted(service: Running) -> None:
    assert service.post(INTSIG, PICTURE).json()["result"]["code"] == 40301
    service.behave(body_encoding="raw")
    assert service.post(INTSIG, PICTURE).json()["result"]["code"] == 200


@pytest.mark.parametrize(
    "changed",
    [
        {"key": "test-kez"},
        {"secret": "test-secrez"},
        {"x_jdcloud_date": "20260101T000000Z"},
        {"x_jdcloud_nonce": "another"},
        {"x_jdcloud_content_sha256": hashlib.sha256(b"").hexdigest()},
        {"Authorization": "-"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_changed_byte_of_a_signed_header_is_a_gateway_error(
    service: Running, changed: dict[str, str]
) -> None:
    response = _call(service, "jdcloud2", **changed)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["status"]) == (401, 401, "ACCESS_ERROR")
    assert response.json()["requestId"]
    assert service.bill() == []


def test_a_changed_byte_of_the_body_is_refused(service: Running) -> None:
    prepared = signed(OCR, service.url, PICTURE, service.clock())
    prepared.body = PICTURE[:-1] + b"x"
    assert send_alone(prepared).status_code == 401


def test_a_signature_for_another_path_is_refused(service: Running) -> None:
    prepared = signed(OCR + "x", service.url, PICTURE, service.clock(), auth="jdcloud2")
    prepared.url = service.url + OCR
    assert send_alone(prepared).status_code == 401


def test_a_request_is_good_once(service: Running) -> None:
    prepared = signed(OCR, service.url, PICTURE, service.clock())
    first, second = send_alone(prepared), send_alone(prepared)
    assert (first.status_code, second.status_code) == (200, 401)
    assert second.json()["error"]["message"] == "the nonce was used before"
    assert len(service.bill()) == 1


@pytest.mark.parametrize("way", ["appkey", "intsig"])
@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"key": "test-kez"}, "10001"),
        ({"secret": "test-secrez"}, "10047"),
        ({"timestamp": "1525325127000"}, "10045"),
        ({"timestamp": "soon"}, "10046"),
        ({"sign": "0" * 32}, "10047"),
        ({"timestamp": "-"}, "10041"),
        ({"sign": "-"}, "10042"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_a_changed_byte_of_the_query_is_a_system_code(
    service: Running, way: str, changed: dict[str, str], code: str
) -> None:
    response = _call(service, way, **changed)
    envelope = response.json()
    assert (response.status_code, envelope["code"], envelope["charge"]) == (200, code, False)
    assert service.bill() == []


def test_a_call_without_an_appkey_is_told_so(service: Running) -> None:
    assert _call(service, "intsig", appkey="-").json()["code"] == "10004"
    # Of the two ways in, a call that shows neither is a JDCLOUD2 call without its headers.
    assert _call(service, "appkey", appkey="-").status_code == 401


def test_a_clock_that_is_off_is_told_by_both_signatures(service: Running) -> None:
    service.behave(clock_offset_seconds=301)
    assert _call(service, "intsig").json()["code"] == "10045"
    assert _call(service, "jdcloud2").json()["code"] == "10000"
    service.behave(clock_offset_seconds=-901)
    response = _call(service, "jdcloud2")
    assert response.status_code == 401
    assert "900 seconds" in response.json()["error"]["message"]


def test_over_the_rate_a_call_is_refused_free_until_the_second_is_over(service: Running) -> None:
    service.behave(qps=2)
    replies = [service.ocr(PICTURE).json() for _ in range(3)]
    assert [reply["code"] for reply in replies] == ["10000", "10000", "10043"]
    assert (replies[2]["charge"], replies[2]["remain"]) == (False, 498)
    # The two endpoints are two products, each with a rate of its own.
    assert service.intsig(PICTURE).json()["code"] == "10000"
    service.ticks.now += 1.0
    assert service.ocr(PICTURE).json()["code"] == "10000"
    assert len(service.bill()) == 4


def test_each_call_is_listed_with_its_arrival_and_its_answer_refused_ones_too(service: Running) -> None:
    service.behave(qps=1, faults=[{"fault": "close_before_billing"}])
    with pytest.raises(requests.ConnectionError):
        service.ocr(PICTURE)
    began = service.clock.now
    for seconds in (1.0, 1.5, 2.0):
        service.clock.now, service.ticks.now = began + seconds, service.ticks.now + 0.5
        last = service.ocr(PICTURE)
    service.clock.now = began
    calls = service.calls()
    assert [call["code"] for call in calls] == ["close_before_billing", "10043", "10000/0", "10043"]
    arrived = [datetime.fromisoformat(call["at"]).timestamp() - began for call in calls]
    assert arrived == pytest.approx([0.0, 1.0, 1.5, 2.0], abs=0.002)
    assert calls[-1]["request_id"] == last.headers["x-jdcloud-request-id"]
    service.behave(reset=True)
    assert service.calls() == []


def test_after_the_daily_limit_nothing_is_billed_until_the_reset(service: Running) -> None:
    service.behave(daily_limit=2)
    replies = [service.intsig(PICTURE).json() for _ in range(3)]
    assert [reply["remainTimes"] for reply in replies] == [1, 0, 0]
    assert (replies[2]["code"], replies[2]["charge"]) == ("10040", False)
    service.clock.now += 86_400
    assert service.intsig(PICTURE).json()["remainTimes"] == 1
    assert len(service.bill()) == 3


def test_a_reset_a_minute_away_gives_new_calls_a_minute_later(service: Running) -> None:
    in_beijing = datetime.fromtimestamp(service.clock() + 60, ZoneInfo("Asia/Shanghai"))
    service.behave(daily_limit=1, reset_time=in_beijing.strftime("%H:%M:%S"))
    assert [service.ocr(PICTURE).json()["code"] for _ in range(2)] == ["10000", "10040"]
    service.clock.now += 60
    assert [service.ocr(PICTURE).json()["code"] for _ in range(2)] == ["10000", "10040"]


def test_an_empty_pack_wants_to_be_topped_up(service: Running) -> None:
    service.behave(total_limit=1)
    assert [service.ocr(PICTURE).json()["code"] for _ in range(2)] == ["10000", "10010"]
    service.behave(total_limit=2)
    assert service.ocr(PICTURE).json()["remain"] == 0


@pytest.mark.parametrize(("shown", "remain"), [("zero", 0), ("unlimited", -1), ("count", 499)])
def test_what_remains_is_shown_as_told(service: Running, shown: str, remain: int) -> None:
    service.behave(remain=shown)
    assert service.ocr(PICTURE).json()["remain"] == remain


def test_pictures_are_read_in_the_order_in_which_they_came() -> None:
    book = Book()
    book.may_answer.clear()
    pictures = [PICTURE + bytes([number]) for number in range(5)]
    with serving(book, qps=0.0, workers=1, waiting=4) as service, ThreadPoolExecutor(5) as callers:
        answers = []
        for number, picture in enumerate(pictures):
            answers.append(callers.submit(service.ocr, picture))
            assert any(service.health()["reading"] == number + 1 for _ in range(1000))
        book.may_answer.set()
        assert [answer.result().json()["code"] for answer in answers] == ["10000"] * 5
    assert book.seen == pictures


def test_no_more_pictures_wait_than_may_however_many_come_at_once() -> None:
    book = Book()
    book.may_answer.clear()
    with serving(book, qps=0.0, workers=1, waiting=2) as service, ThreadPoolExecutor(12) as callers:
        answers = [callers.submit(service.ocr, PICTURE) for _ in range(12)]
        refused = [answer.result().json()["code"] for answer in islice(as_completed(answers), 9)]
        assert refused == ["10044"] * 9
        book.may_answer.set()
        assert Counter(answer.result().json()["code"] for answer in answers) == {"10000": 3, "10044": 9}


def test_when_it_is_full_a_call_is_over_the_limit_and_is_not_billed() -> None:
    book = Book()
    book.may_answer.clear()
    with (
        serving(book, qps=0.0, workers=1, waiting=1) as service,
        ThreadPoolExecutor(2) as callers,
    ):
        inside = [callers.submit(service.ocr, PICTURE) for _ in range(2)]
        assert any(service.health()["reading"] == 2 for _ in range(1000))
        reply = service.ocr(PICTURE).json()
        book.may_answer.set()
        assert (reply["code"], reply["charge"]) == ("10044", False)
        assert [future.result().json()["code"] for future in inside] == ["10000", "10000"]
        assert len(service.bill()) == 2


def test_a_body_beyond_the_bound_is_refused_unread(service: Running) -> None:
    response = service.ocr(JPEG + bytes(8 * 2**20))
    assert (response.status_code, response.json()["error"]["code"]) == (413, 413)


def test_a_body_without_a_length_is_read_up_to_the_bound_only(service: Running) -> None:
    """A caller that streams for ever is answered while it still sends."""
    connection = http.client.HTTPConnection(service.url.split("//")[1], timeout=10)
    connection.putrequest("POST", OCR)
    connection.putheader("transfer-encoding", "chunked")
    connection.endheaders()
    chunk = b"100000\r\n" + bytes(2**20) + b"\r\n"
    for _ in range(9):
        connection.send(chunk)
    response = connection.getresponse()
    assert response.status == 413
    connection.close()


@pytest.mark.parametrize(("method", "path", "status"), [("GET", OCR, 405), ("POST", "/jdai/other", 404)])
def test_what_is_not_there_is_a_gateway_error(service: Running, method: str, path: str, status: int) -> None:
    response = requests.request(method, service.url + path, timeout=10)
    assert (response.status_code, response.json()["error"]["code"]) == (status, status)


def test_health_tells_the_engine_what_holds_and_what_was_answered(service: Running) -> None:
    service.ocr(PICTURE)
    service.ocr(b"text")
    _call(service, "intsig", sign="-")
    health = service.health()
    assert (health["status"], health["engine"], health["billed"]) == ("ok", "book", 1)
    assert health["replies"] == {
        "ocr_invoice": {"10000/0": 1, "10000/12003": 1},
        "intsig_invoice": {"10042": 1},
    }
    assert health["behaviour"]["qps"] == 0.0
    assert service.engine.warmed


def test_a_stub_says_so_in_health_and_in_every_reply() -> None:
    class Stub(Book):
        name = "stub"

    with serving(Stub()) as service:
        assert "no OCR" in service.health()["note"]
        replies = [service.ocr(PICTURE), service.ocr(b""), _call(service, "jdcloud2", key="x")]
        replies.append(requests.get(service.url + "/nowhere", timeout=10))
        assert {reply.headers["x-jdocr-engine"] for reply in replies} == {"stub"}
        assert "note" in service.health()


def test_a_real_engine_is_not_announced_as_a_stub(service: Running) -> None:
    assert "x-jdocr-engine" not in service.ocr(PICTURE).headers
    assert "note" not in service.health()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"qsp": 1}, "qsp"),
        ({"faults": [{"fault": "late", "second": 1}]}, "second"),
        ({"faults": [{"fault": "late", "code": 1}]}, "late does not use code"),
        ({"faults": [{"fault": "code"}]}, "code needs a code"),
        ({"faults": [{"fault": "vanish"}]}, "vanish"),
        ({"qps": -1}, "qps"),
        ({"qps": 1e300}, "qps"),
        ({"latency": 1e300}, "latency"),
        ({"clock_offset_seconds": 1e300}, "clock_offset_seconds"),  # no calendar goes so far
    ],
)
def test_what_cannot_be_told_is_refused_by_name(service: Running, change: dict[str, Any], named: str) -> None:
    response = requests.post(service.url + "/-/behave", json=change, timeout=10)
    assert response.status_code == 422
    assert named in json.dumps(response.json())


def test_a_reset_brings_back_the_start(service: Running) -> None:
    before = service.health()
    service.behave(qps=9, daily_limit=1, latency=0.001, remain="zero", faults=[{"fault": "busy"}])
    service.intsig(PICTURE)
    assert service.health() != before
    service.behave(reset=True)
    assert service.health() == before


def test_latency_is_added_to_every_answer(service: Running) -> None:
    service.behave(latency=0.2)
    with pytest.raises(requests.ReadTimeout), requests.Session() as session:
        session.send(signed(OCR, service.url, PICTURE, service.clock()), timeout=0.05)
    # The caller has left; the work goes on and is billed.
    assert service.ocr(PICTURE).json()["code"] == "10000"
    assert len(service.bill()) == 2


_CONTROLS = (("GET", "/-/bill"), ("GET", "/-/calls"), ("POST", "/-/behave"))
_JSON = (b"content-type", b"application/json")
_OWN = (b"host", b"127.0.0.1:8600")


@pytest.mark.parametrize(
    ("caller", "status"),
    [("10.1.2.3", 403), ("::ffff:10.1.2.3", 403), ("", 403), ("::1", 200), ("::ffff:127.0.0.1", 200)],
)
def test_the_bill_and_the_controls_are_for_this_machine_only(caller: str, status: int) -> None:
    app = create_app(Settings(KEY, SECRET, control=True), Book())
    for method, path in _CONTROLS:
        assert _reply(app, method, path, caller, _OWN, _JSON)[0] == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param([(b"host", b"localhost:8600"), _JSON], 200, id="localhost"),
        pytest.param([(b"host", b"[::1]:8600"), _JSON], 200, id="IPv6"),
        pytest.param([(b"host", b"[::1]"), _JSON], 200, id="no port"),
        pytest.param([(b"host", b"ocr.example.com"), _JSON], 403, id="a name of the proxy's"),
        pytest.param([(b"host", b"127.0.0.1.example.com:8600"), _JSON], 403, id="rebound name"),
        pytest.param([(b"host", b"[::1"), _JSON], 403, id="broken name"),
        pytest.param([_JSON], 403, id="no name"),
        pytest.param([_OWN, _JSON, (b"x-forwarded-for", b"127.0.0.1")], 403, id="X-Forwarded-For"),
        pytest.param([_OWN, _JSON, (b"x-real-ip", b"127.0.0.1")], 403, id="X-Real-IP"),
        pytest.param([_OWN, _JSON, (b"forwarded", b"for=127.0.0.1")], 403, id="Forwarded"),
        pytest.param([_OWN, _JSON, (b"via", b"1.1 proxy")], 403, id="Via"),
        pytest.param([_OWN, _JSON, (b"origin", b"http://127.0.0.1:8600")], 403, id="a page in a browser"),
        pytest.param([_OWN, (b"content-type", b"text/plain")], 415, id="a form in a browser"),
        pytest.param([_OWN], 415, id="no type"),
    ],
)
def test_a_proxy_or_a_browser_on_this_machine_cannot_reach_the_controls(
    headers: list[tuple[bytes, bytes]], status: int
) -> None:
    """Both call from loopback, for others; the proxy as far as it says so."""
    app = create_app(Settings(KEY, SECRET, control=True), Book())
    assert _reply(app, "POST", "/-/behave", "127.0.0.1", *headers)[0] == status
    if status == 403:
        for path in ("/-/bill", "/-/calls"):
            assert _reply(app, "GET", path, "127.0.0.1", *headers)[0] == status


def test_without_control_nobody_can_change_what_is_answered_or_billed() -> None:
    app = create_app(Settings(KEY, SECRET), Book())
    for method, path in _CONTROLS:
        status, body = _reply(app, method, path, "127.0.0.1", _OWN, _JSON)
        assert (status, "--control" in body["error"]["message"]) == (403, True)


def test_others_are_told_that_the_service_is_well_and_nothing_of_its_work() -> None:
    app = create_app(Settings(KEY, SECRET, control=True), Book())
    assert _reply(app, "GET", "/-/health", "10.1.2.3", _OWN) == (200, {"status": "ok", "engine": "book"})
    assert "billed" in _reply(app, "GET", "/-/health", "127.0.0.1", _OWN)[1]


def _reply(
    app: ASGIApp, method: str, path: str, caller: str, *headers: tuple[bytes, bytes]
) -> tuple[int, Any]:
    """What a caller of another address would be answered; a test's own connection is always from loopback."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": list(headers),
        "client": (caller, 1) if caller else None,
    }

    async def call() -> None:
        await app(scope, receive, send)

    asyncio.run(call())
    return sent[0]["status"], json.loads(sent[1]["body"])
