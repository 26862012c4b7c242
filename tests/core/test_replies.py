"""What a reply means for money."""

import json
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jdocr.core.endpoints import ENDPOINTS, Endpoint
from airflow_provider_jdocr.core.errors import CODES, ParseError, Verdict
from airflow_provider_jdocr.core.parsing import Invoice, parse
from airflow_provider_jdocr.core.replies import QuotaNews, Reading, business_result, read_reply

REPLIES = Path(__file__).parent / "replies"
OCR, INTSIG = ENDPOINTS["ocr_invoice"], ENDPOINTS["intsig_invoice"]
QUIET = QuotaNews()

SAMPLES: dict[str, tuple[int, Verdict, bool | None, str, QuotaNews]] = {
    "ocr_invoice.seed.json": (200, Verdict.SUCCESS, None, "0", QUIET),
    "ocr_invoice.enveloped.json": (200, Verdict.SUCCESS, True, "0", QuotaNews(4998, False, 86399)),
    "ocr_invoice.result_in_a_string.json": (200, Verdict.SUCCESS, True, "0", QUIET),
    "ocr_invoice.odd_envelope.json": (200, Verdict.SUCCESS, None, "0", QuotaNews(None, True)),
    "ocr_invoice.business_failure_charged.json": (200, Verdict.SETTLE_FAILED, True, "12005", QuotaNews(12)),
    "ocr_invoice.busy.json": (200, Verdict.AGAIN, False, "10020", QUIET),
    "ocr_invoice.topped_out.json": (200, Verdict.QUOTA_TOPUP, False, "10010", QuotaNews(0)),
    "ocr_invoice.gateway_signature.json": (401, Verdict.CONFIGURATION, False, "401", QUIET),
    "ocr_invoice.gateway_quota.json": (429, Verdict.QUOTA_RESET, False, "QUOTA_EXCEEDED", QUIET),
    "intsig_invoice.seed.json": (200, Verdict.SUCCESS, None, "200", QUIET),
    "intsig_invoice.seed_failure.json": (200, Verdict.CONFIGURATION, False, "40101", QUIET),
    "intsig_invoice.two_lines.json": (200, Verdict.SUCCESS, True, "200", QuotaNews(1305)),
    "intsig_invoice.no_invoice.json": (200, Verdict.SUCCESS, True, "200", QuotaNews(4)),
    "intsig_invoice.wrong_appkey.json": (200, Verdict.CONFIGURATION, False, "10001", QUIET),
    "intsig_invoice.recognise_again.json": (200, Verdict.AGAIN, False, "40400", QuotaNews(4)),
    "intsig_invoice.recognise_again_silent.json": (200, Verdict.IN_DOUBT, None, "40400", QUIET),
}


def _of(name: str) -> Endpoint:
    return ENDPOINTS[name.split(".")[0]]


def _read(endpoint: Endpoint, reply: object, status: int = 200) -> Reading:
    return read_reply(endpoint, status, json.dumps(reply).encode())


def test_every_sample_reply_has_its_reading() -> None:
    assert {path.name for path in REPLIES.iterdir()} == SAMPLES.keys()
    assert {_of(name) for name in SAMPLES} == set(ENDPOINTS.values())


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_reply_reads_as_expected(name: str) -> None:
    status, verdict, charged, code, quota = SAMPLES[name]
    reading = read_reply(_of(name), status, (REPLIES / name).read_bytes())
    assert (reading.verdict, reading.charged, reading.code, reading.quota) == (verdict, charged, code, quota)


@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_read_as_a_success_can_be_parsed_and_nothing_else_can(name: str) -> None:
    body = (REPLIES / name).read_bytes()
    if SAMPLES[name][1] is Verdict.SUCCESS:
        assert parse(_of(name), body).endpoint == _of(name).name
    else:
        with pytest.raises(ParseError):
            parse(_of(name), body)


# ── every code, in every place it can stand in, with every word about money ──

SILENT: dict[str, Any] = {}
FREE: dict[str, Any] = {"charge": False}
PAID: dict[str, Any] = {"charge": True}
UNSAID: dict[str, Any] = {"charge": ""}

failures = [code for code in CODES.values() if code.verdict is not Verdict.SUCCESS]
bodied = [code for code in failures if code.layer.endswith("_invoice") or code.layer == "system"]


def _expected(verdict: Verdict, chargeable: bool, word: dict[str, Any]) -> Verdict:
    """The law in four lines, told apart from the code under test."""
    if verdict not in {Verdict.AGAIN, Verdict.AGAIN_ONCE, Verdict.SLOW_DOWN}:
        return verdict
    if word == PAID:
        return Verdict.SETTLE_FAILED
    return verdict if word == FREE or not chargeable else Verdict.IN_DOUBT


@pytest.mark.parametrize("word", [SILENT, FREE, PAID, UNSAID], ids=["silent", "free", "paid", "unsaid"])
@pytest.mark.parametrize("kind", [int, str])
@pytest.mark.parametrize("code", bodied, ids=lambda code: f"{code.layer}-{code.code}")
def test_again_is_obeyed_only_for_what_cost_nothing(code: Any, kind: type, word: dict[str, Any]) -> None:
    endpoint = ENDPOINTS.get(code.layer, OCR)
    expected = _expected(code.verdict, code.chargeable, word)
    inner = {"code": kind(code.code), "message": "no"}
    places = [{**word, **inner}, {"code": "10000", "msg": "查询成功", **word, "result": inner}]
    for reply in places:
        reading = _read(endpoint, reply)
        assert (reading.layer, reading.code, reading.verdict) == (code.layer, code.code, expected)
        assert reading.message == "no"


@pytest.mark.parametrize("code", [c for c in failures if c.layer == "gateway"], ids=lambda code: code.code)
def test_the_gateway_is_believed_by_its_status_and_never_sent_again_after_a_5xx(code: Any) -> None:
    status = int(code.code) if code.code.isdigit() else 429
    word = "ANYTHING" if code.code.isdigit() else code.code
    reply = {"requestId": "r-1", "error": {"code": status, "status": word, "message": "no"}}
    reading = _read(OCR, reply, status)
    expected = Verdict.IN_DOUBT if code.code.startswith("5") else code.verdict
    assert (reading.layer, reading.code, reading.verdict) == ("gateway", code.code, expected)
    assert (reading.message, reading.request_id) == ("no", "r-1")


@pytest.mark.parametrize("status", [500, 502, 503, 504, 599])
@pytest.mark.parametrize("body", [b"", b"<html>Bad Gateway</html>", b'{"code": ', b"[]"])
def test_a_5xx_without_a_word_about_money_is_in_doubt(status: int, body: bytes) -> None:
    reading = read_reply(INTSIG, status, body)
    assert (reading.verdict, reading.charged) == (Verdict.IN_DOUBT, None)


@pytest.mark.parametrize(
    "body", [b"", b" ", b"null", b"[]", b"12", b'"text"', b"<html/>", b'{"code":"10000","cha']
)
def test_a_200_that_says_nothing_is_in_doubt(body: bytes) -> None:
    reading = read_reply(OCR, 200, body)
    assert (reading.verdict, reading.code, reading.charged) == (Verdict.IN_DOUBT, "reply_unreadable", None)


@pytest.mark.parametrize(
    ("word", "verdict"),
    [
        (SILENT, Verdict.IN_DOUBT),
        (UNSAID, Verdict.IN_DOUBT),
        (PAID, Verdict.SETTLE_FAILED),
        (FREE, Verdict.AGAIN_ONCE),
    ],
)
@pytest.mark.parametrize("result", [None, {}, [], "", "not json"])
def test_a_success_without_a_result_is_settled_by_its_charge(
    result: object, word: dict[str, Any], verdict: Verdict
) -> None:
    reading = _read(INTSIG, {"code": "10000", **word, "msg": "查询成功", "result": result})
    assert (reading.verdict, reading.code) == (verdict, "reply_without_result")


@pytest.mark.parametrize("code", [1000, "1001", "0", 0, "", None, "10000", 10000, 10000.0])
@pytest.mark.parametrize("word", [SILENT, FREE, PAID])
@pytest.mark.parametrize("endpoint", [OCR, INTSIG], ids=lambda endpoint: endpoint.name)
def test_a_result_inside_is_a_success_whatever_odd_code_stands_outside(
    endpoint: Endpoint, code: object, word: dict[str, Any]
) -> None:
    inner = json.loads((REPLIES / f"{endpoint.name}.seed.json").read_text())
    for result in (inner, inner["result"], json.dumps(inner), json.dumps(inner["result"])):
        reply = {"code": code, "msg": "查询成功", **word, "result": result}
        for body in (reply, json.dumps(reply)):
            reading = _read(endpoint, body)
            assert (reading.verdict, reading.charged) == (Verdict.SUCCESS, word.get("charge"))
            assert business_result(endpoint, json.dumps(body).encode()).items() >= inner["result"].items()


def test_an_unknown_code_fails_the_picture_and_is_kept_verbatim() -> None:
    reading = _read(OCR, {"code": "10999", "msg": "新的错误", "charge": False})
    assert (reading.verdict, reading.code, reading.message) == (Verdict.SETTLE_FAILED, "10999", "新的错误")


def test_what_stops_a_batch_stops_it_even_when_it_claims_to_have_cost_something() -> None:
    for code in ("40101", "40017", "40019"):
        assert _read(INTSIG, {"code": code, "charge": True}).verdict is CODES["intsig_invoice", code].verdict


# ── quota ──


@pytest.mark.parametrize(
    ("envelope", "news"),
    [
        ({"remain": 5}, QuotaNews(5)),
        ({"remain": "5"}, QuotaNews(5)),
        ({"remain": 5.0}, QuotaNews(5)),
        ({"remain": 7, "remainTimes": 5}, QuotaNews(5)),
        ({"remain": 0, "remainTimes": 5}, QuotaNews(5)),
        ({"remain": 0}, QUIET),
        ({"remain": -1}, QuotaNews(unlimited=True)),
        ({"remain": -1, "remainTimes": 5}, QuotaNews(5)),
        ({"remain": -7}, QUIET),
        ({"remain": True}, QUIET),
        ({"remain": 10**25}, QUIET),
        ({"remain": None, "remainSeconds": ""}, QUIET),
        ({"remain": [1]}, QUIET),
        ({"remainSeconds": 60}, QuotaNews(seconds_left=60)),
        ({"remainSeconds": -1}, QUIET),
        ({"remainSeconds": 0}, QUIET),
    ],
)
def test_what_a_success_says_about_the_calls_left(envelope: dict[str, Any], news: QuotaNews) -> None:
    result = {"code": 0, "message": "success", "result": {"invoice_no": "1"}}
    assert _read(OCR, {"code": "10000", "charge": True, **envelope, "result": result}).quota == news


def test_a_zero_is_believed_beside_a_quota_code_only() -> None:
    assert _read(OCR, {"code": "10040", "charge": False, "remain": 0}).quota == QuotaNews(0)
    assert _read(OCR, {"code": "10040", "charge": False, "remain": -1}).quota == QUIET
    assert _read(OCR, {"code": "10020", "charge": False, "remain": 0}).quota == QUIET


# ── totality ──

BOMBS: dict[str, bytes] = {
    "lists": b"[" * 100_000,
    "objects": b'{"result":' * 100_000,
    "closed": b'{"result":' * 900 + b"1" + b"}" * 900,
    "strings": json.dumps(json.dumps(json.dumps(json.dumps(json.dumps({"result": {}}))))).encode(),
    "digits": b'{"code":' + b"9" * 1_000_000 + b',"charge":true}',
    "minus": b'{"remain":-' + b"9" * 4301 + b"}",
    "infinite": b'{"code":1e999999,"charge":NaN,"remain":Infinity}',
    "invalid utf-8": b'{"code":"10020","charge":false,"msg":"\xff\xfe\xfd"}',
    "nul": b'{"code":"10020","msg":"a\\u0000b"}',
    "surrogate": b'{"code":"10020","msg":"\\ud800"}',
    "utf-16": '{"code":"10020"}'.encode("utf-16"),
    "error list": b'{"error":[1],"code":[],"charge":{},"result":[[]]}',
    "error empty": b'{"error":{}}',
    "error text": b'{"error":"Not Found","status":404}',
    "many lists": b'{"code":"10020","charge":true,"result":[' + b"[[[]]]," * 500_000 + b"0]}",
    "long": b'{"code":"10020","msg":"' + b"x" * 3_000_000 + b'"}',
}


@pytest.mark.parametrize("name", BOMBS)
def test_hostile_bytes_get_a_verdict_in_a_blink(name: str) -> None:
    for endpoint in ENDPOINTS.values():
        started = time.perf_counter()
        reading = read_reply(endpoint, 200, BOMBS[name])
        assert time.perf_counter() - started < 2
        assert reading.verdict is not Verdict.SUCCESS
        assert "\0" not in reading.message
        assert len(reading.message.encode()) < 2_000


def test_a_reply_of_a_million_lists_takes_no_more_memory_than_a_long_one() -> None:
    tracemalloc.start()
    try:
        read_reply(OCR, 200, BOMBS["many lists"])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * 2**20


WORDS = (
    *("code", "charge", "msg", "message", "result", "error", "status", "remain"),
    *("item_list", "key", "value", "position", "invoice_no", "type"),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(WORDS) | st.text(), inner),
    max_leaves=12,
)


def _survives(endpoint: Endpoint, status: int, body: bytes) -> None:
    reading = read_reply(endpoint, status, body)
    reading.message.encode()
    try:
        invoice = parse(endpoint, body)
    except ParseError:
        assert reading.verdict is not Verdict.SUCCESS
    else:
        assert isinstance(invoice, Invoice)
        json.dumps(invoice.details).encode()


@given(st.sampled_from(sorted(ENDPOINTS)), st.integers(100, 599), st.binary())
def test_any_bytes_get_a_verdict(endpoint: str, status: int, body: bytes) -> None:
    _survives(ENDPOINTS[endpoint], status, body)


@given(st.sampled_from(sorted(ENDPOINTS)), st.integers(100, 599), json_values)
def test_any_json_gets_a_verdict_and_every_success_can_be_parsed(
    endpoint: str, status: int, value: object
) -> None:
    _survives(ENDPOINTS[endpoint], status, json.dumps(value).encode())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "gbk", "utf-16"])
def test_chinese_is_read_in_every_encoding_that_occurs(encoding: str) -> None:
    body = (REPLIES / "ocr_invoice.seed.json").read_text().encode(encoding)
    assert business_result(OCR, body)["saler_name"] == "山东阳谷振璃工艺制品司"


def test_one_broken_byte_loses_one_character_and_not_the_answer() -> None:
    body = (REPLIES / "ocr_invoice.seed.json").read_text().encode()
    broken = body.replace("谷".encode(), b"\xe8")
    assert business_result(OCR, broken)["saler_name"] == "山东阳\ufffd振璃工艺制品司"
