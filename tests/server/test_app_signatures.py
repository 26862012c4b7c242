"""The service's verifier holds against what JD published; it shares no code with the client's signer."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_jdocr.server import signatures
from airflow_provider_jdocr.server.signatures import Keys, Nonces, SignedRequest

_VECTORS = Path(__file__).parent.parent / "core" / "vectors"
_JDCLOUD2: dict[str, Any] = json.loads((_VECTORS / "jdcloud2.json").read_text("utf-8"))
_APPKEY: dict[str, Any] = json.loads((_VECTORS / "appkey.json").read_text("utf-8"))
_REQUESTS: list[dict[str, Any]] = _JDCLOUD2["requests"]
# A published request that signs neither date nor nonce: a check of the text only, no gateway would accept it.
_WHOLE = [vector for vector in _REQUESTS if "x-jdcloud-date" in vector["input"]["signed_headers"]]
_BINARY: list[dict[str, Any]] = _JDCLOUD2["unpublished"]
_WINDOW = 900.0


def _request(vector: dict[str, Any]) -> SignedRequest:
    given = vector["input"]
    body = bytes.fromhex(given["body_hex"]) if "body_hex" in given else given["body"].encode()
    signature = vector.get("expected", vector["computed"])["signature"]
    scope = f"{given['timestamp'][:8]}/{given['region']}/{given['service']}/jdcloud2_request"
    names = ";".join(sorted(given["signed_headers"]))
    authorization = (
        f"JDCLOUD2-HMAC-SHA256 Credential={given['access_key']}/{scope}, SignedHeaders={names}, "
        f"Signature={signature}"
    )
    headers = {**given["headers"], "authorization": authorization}
    return SignedRequest(given["method"], given["path"], given["query"], headers, body)


def _keys(vector: dict[str, Any]) -> Keys:
    return Keys(vector["input"]["access_key"], vector["input"]["secret_key"])


def _at(vector: dict[str, Any]) -> float:
    return datetime.fromisoformat(vector["input"]["timestamp"]).timestamp()


def _refusal(vector: dict[str, Any], request: SignedRequest, now: float | None = None) -> str | None:
    at = _at(vector) if now is None else now
    return signatures.jdcloud2_refusal(request, _keys(vector), at, _WINDOW)


def _with_header(request: SignedRequest, name: str, value: str) -> SignedRequest:
    return replace(request, headers={**request.headers, name: value})


def _id(vector: dict[str, Any]) -> str:
    return str(vector["id"])


@pytest.mark.parametrize("vector", _WHOLE, ids=_id)
def test_every_published_signature_is_accepted(vector: dict[str, Any]) -> None:
    assert _refusal(vector, _request(vector)) is None


@pytest.mark.parametrize("vector", _REQUESTS, ids=_id)
def test_every_published_stage_is_reproduced(vector: dict[str, Any]) -> None:
    given, expected = vector["input"], vector["expected"]
    request = SignedRequest(
        given["method"], given["path"], given["query"], given["headers"], given["body"].encode()
    )
    canonical = signatures.canonical_request(request, given["signed_headers"])
    day = given["timestamp"][:8]
    scope = f"{day}/{given['region']}/{given['service']}/jdcloud2_request"
    found = {
        "payload_hash": hashlib.sha256(request.body).hexdigest(),
        "canonical_request": canonical,
        "canonical_request_sha256": hashlib.sha256(canonical.encode()).hexdigest(),
        "string_to_sign": signatures.string_to_sign(given["timestamp"], scope, canonical),
        "k_signing": signatures.signing_key(
            given["secret_key"], day, given["region"], given["service"]
        ).hex(),
    }
    published = {name: value for name, value in expected.items() if name in found}
    assert published == {name: found[name] for name in published}


@pytest.mark.parametrize("case", _JDCLOUD2["canonical_query"]["cases"], ids=lambda case: case["uri"])
def test_queries_are_brought_into_the_published_order_and_encoding(case: dict[str, str]) -> None:
    query = case["uri"].partition("?")[2].partition("#")[0]
    assert signatures.canonical_query(query) == case["expected"]


@pytest.mark.parametrize("case", _JDCLOUD2["canonical_header_value"]["cases"], ids=repr)
def test_header_values_are_trimmed_as_published(case: dict[str, str]) -> None:
    name = case["header"].lower()
    assert signatures.canonical_headers({name: case["value"]}, [name]) == case["expected_line"]


@pytest.mark.parametrize("vector", _BINARY, ids=_id)
def test_a_binary_body_is_verified_by_its_own_hash(vector: dict[str, Any]) -> None:
    """Also where the header with the hash is there and not signed. UNSIGNED-PAYLOAD protects nothing."""
    refusal = _refusal(vector, _request(vector))
    unsigned = vector["id"] == "derived-binary-unsigned-payload"
    assert refusal == ("x-jdcloud-content-sha256 is not the hash of the body" if unsigned else None)


@pytest.mark.parametrize("vector", _WHOLE, ids=_id)
@pytest.mark.parametrize("part", ["key", "secret", "body", "date", "nonce", "path", "query", "method"])
def test_one_changed_byte_is_refused(vector: dict[str, Any], part: str) -> None:
    request, keys = _request(vector), _keys(vector)
    changed = {
        "body": replace(request, body=request.body + b"x"),
        "date": _with_header(request, "x-jdcloud-date", request.headers["x-jdcloud-date"][:-2] + "9Z"),
        "nonce": _with_header(request, "x-jdcloud-nonce", request.headers["x-jdcloud-nonce"] + "x"),
        "path": replace(request, path=request.path + "x"),
        "query": replace(request, query=request.query + "x"),
        "method": replace(request, method="PUT"),
    }
    if part == "key":
        keys = replace(keys, access_key=keys.access_key + "x")
    if part == "secret":
        keys = replace(keys, secret_key=keys.secret_key + "x")
    at = _at(vector)
    refusal = signatures.jdcloud2_refusal(changed.get(part, request), keys, at, _WINDOW)
    assert refusal == "sign result is not same [gw]"


@pytest.mark.parametrize(("seconds", "accepted"), [(900, True), (-900, True), (901, False), (-901, False)])
def test_the_date_may_be_a_quarter_of_an_hour_off_and_no_more(seconds: float, accepted: bool) -> None:
    vector = _WHOLE[0]
    refusal = _refusal(vector, _request(vector), _at(vector) + seconds)
    assert (refusal is None) is accepted


@pytest.mark.parametrize(
    ("header", "value", "says"),
    [
        ("authorization", "", "missing"),
        ("authorization", "JDCLOUD2-HMAC-SHA256 Credential=a, SignedHeaders=b, Signature=c", "missing"),
        ("x-jdcloud-nonce", " ", "empty"),
        ("x-jdcloud-algorithm", "JDCLOUD3-HMAC-SHA256", "another algorithm"),
        ("x-jdcloud-date", "2019-02-14", "form"),
        ("x-jdcloud-date", "20190215T000000Z", "day"),
        ("x-jdcloud-security-token", "tok", "not signed: x-jdcloud-security-token"),
        ("x-jdcloud-content-sha256", "0" * 64, "not the hash of the body"),
    ],
)
def test_what_is_wrong_with_a_header_is_said(header: str, value: str, says: str) -> None:
    vector = _WHOLE[0]
    refusal = _refusal(vector, _with_header(_request(vector), header, value))
    assert refusal is not None
    assert says in refusal


def test_a_header_that_is_signed_must_be_there() -> None:
    vector = _WHOLE[0]
    request = _request(vector)
    headers = {name: value for name, value in request.headers.items() if name != "x-my-header"}
    assert _refusal(vector, replace(request, headers=headers)) == "signed but not sent: x-my-header"


def test_a_signature_that_does_not_cover_date_and_nonce_is_refused() -> None:
    vector = next(one for one in _REQUESTS if one not in _WHOLE)
    request = _request(vector | {"expected": {"signature": "0" * 64}})
    assert _refusal(vector, request) == "not signed: x-jdcloud-date, x-jdcloud-nonce"


def test_a_nonce_is_good_once_until_its_date_is_out_of_the_window() -> None:
    nonces = Nonces(1800.0)
    assert nonces.first_use("a", 0.0)
    assert not nonces.first_use("a", 1800.0)
    assert nonces.first_use("b", 1.0)
    assert nonces.first_use("a", 1800.1)


_FIRST = _APPKEY["vectors"][0]
_QUERY = {"appkey": "key", "timestamp": _FIRST["timestamp"], "sign": _FIRST["sign"]}


def _appkey_refusal(**changed: str | None) -> str | None:
    given = {name: value for name, value in {**_QUERY, **changed}.items() if value is not None}
    query = "&".join(f"{name}={value}" for name, value in given.items())
    now = int(_FIRST["timestamp"]) / 1000
    return signatures.appkey_refusal(query, Keys("key", _FIRST["secret_key"]), now, 300.0)


@pytest.mark.parametrize("vector", _APPKEY["vectors"], ids=lambda vector: vector["sign"])
def test_every_known_sign_is_accepted(vector: dict[str, str]) -> None:
    query = f"appkey=key&timestamp={vector['timestamp']}&sign={vector['sign']}"
    keys = Keys("key", vector["secret_key"])
    assert signatures.appkey_refusal(query, keys, int(vector["timestamp"]) / 1000, 300.0) is None


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"appkey": None}, "10004"),
        ({"appkey": ""}, "10004"),
        ({"appkey": "kez"}, "10001"),
        ({"timestamp": None}, "10041"),
        ({"timestamp": "1525325127"}, "10046"),
        ({"timestamp": "1525325127001"}, "10047"),
        ({"timestamp": "1525325427001"}, "10045"),
        ({"timestamp": "1525324826999"}, "10045"),
        ({"sign": None}, "10042"),
        ({"sign": "154ce593faefe086a695e703c2d03553"}, "10047"),
        ({"sign": "054CE593FAEFE086A695E703C2D03553"}, "10047"),
        ({"sign": "54ce593faefe086a695e703c2d03553"}, "10047"),
    ],
)
def test_each_fault_of_a_query_has_its_code(changed: dict[str, str | None], code: str) -> None:
    assert _appkey_refusal(**changed) == code


def test_a_key_does_not_show_in_a_repr() -> None:
    assert "hidden" not in repr(Keys("key", "hidden"))


def test_keys_and_digests_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown key and a wrong signature are told apart by JD's codes at most, not by the clock."""
    compared: list[int] = []
    honest = hmac.compare_digest

    def counting(left: bytes, right: bytes) -> bool:
        compared.append(len(left))
        return honest(left, right)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    vector, counts = _WHOLE[0], []
    right = _keys(vector)
    for keys in (right, replace(right, access_key="x"), replace(right, secret_key="x")):
        compared.clear()
        signatures.jdcloud2_refusal(_request(vector), keys, _at(vector), _WINDOW)
        counts.append(len(compared))
    assert len(set(counts)) == 1
    assert counts[0] >= 2
    for changed in ({}, {"appkey": "kez"}, {"sign": "0" * 32}):
        compared.clear()
        _appkey_refusal(**changed)
        assert len(compared) == 2
