"""Signatures are held against what JD published, at every stage; our own outputs are no evidence."""

import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_jdocr.core import signing

_VECTORS = Path(__file__).with_name("vectors")
_JDCLOUD2: dict[str, Any] = json.loads((_VECTORS / "jdcloud2.json").read_text("utf-8"))
_APPKEY: dict[str, Any] = json.loads((_VECTORS / "appkey.json").read_text("utf-8"))


def _stages(given: dict[str, Any]) -> dict[str, str]:
    """Every stage of one request by the public functions, under the names the vectors use."""
    body = bytes.fromhex(given["body_hex"]) if "body_hex" in given else given["body"].encode()
    hashed = given.get("payload_hash_override") or signing.payload_hash(body)
    signed = {name: given["headers"][name] for name in given["signed_headers"]}
    request = signing.canonical_request(given["method"], given["path"], given["query"], signed, hashed)
    scope = signing.credential_scope(given["timestamp"], given["region"], given["service"])
    text = signing.string_to_sign(given["timestamp"], scope, request)
    keys = signing.key_chain(given["secret_key"], given["timestamp"], given["region"], given["service"])
    signature = signing.signature(keys.signing, text)
    return {
        "payload_hash": hashed,
        "canonical_request": request,
        "canonical_request_sha256": hashlib.sha256(request.encode()).hexdigest(),
        "string_to_sign": text,
        "k_date": keys.date.hex(),
        "k_region": keys.region.hex(),
        "k_service": keys.service.hex(),
        "k_signing": keys.signing.hex(),
        "signature": signature,
        "authorization": signing.authorization(
            given["access_key"], scope, signing.signed_names(signed), signature
        ),
    }


def _requests() -> list[Any]:
    published = [
        pytest.param({**case["computed"], **case["expected"]}, case["input"], id=f"published-{case['id']}")
        for case in _JDCLOUD2["requests"]
    ]
    cross_checks = [
        pytest.param(case["computed"], case["input"], id=f"cross-check-{case['id']}")
        for case in _JDCLOUD2["unpublished"]
    ]
    return published + cross_checks


@pytest.mark.parametrize(("expected", "given"), _requests())
def test_every_stage_of_every_vector_matches(expected: dict[str, str], given: dict[str, Any]) -> None:
    stages = _stages(given)
    assert expected.keys() == stages.keys(), "a stage of the vector was left out"
    assert stages == expected


def test_published_and_reproduced_stages_agree_in_the_vectors_themselves() -> None:
    for case in _JDCLOUD2["requests"]:
        assert case["expected"].items() <= case["computed"].items(), case["id"]


@pytest.mark.parametrize("case", _JDCLOUD2["canonical_query"]["cases"], ids=lambda case: case["uri"])
def test_canonical_query_matches_the_published_cases(case: dict[str, str]) -> None:
    assert signing.canonical_query(urlsplit(case["uri"]).query) == case["expected"]


@pytest.mark.parametrize(
    "case", _JDCLOUD2["canonical_header_value"]["cases"], ids=lambda case: repr(case["value"])
)
def test_canonical_header_matches_the_published_cases(case: dict[str, str]) -> None:
    assert signing.canonical_header(case["header"], case["value"]) == case["expected_line"]


@pytest.mark.parametrize(
    "case", _JDCLOUD2["canonical_request"]["cases"], ids=lambda case: case["expected"][:40]
)
def test_canonical_request_matches_the_published_cases(case: dict[str, Any]) -> None:
    uri = urlsplit(case["uri"])
    hashed = signing.payload_hash(case["body"].encode())
    made = signing.canonical_request(case["method"], uri.path, uri.query, case["headers"], hashed)
    assert made == case["expected"]


def test_names_are_sorted_before_values_even_when_one_is_the_start_of_the_other() -> None:
    assert signing.canonical_query("a-b=1&a=2") == "a=2&a-b=1"


@pytest.mark.parametrize("vector", _APPKEY["vectors"], ids=lambda vector: vector["sign"][:8])
def test_appkey_sign_matches_the_derived_vectors_and_keeps_leading_zeros(vector: dict[str, str]) -> None:
    assert signing.appkey_sign(vector["secret_key"], vector["timestamp"]) == vector["sign"]


def test_one_reading_of_the_clock_serves_stamp_and_signature() -> None:
    query = signing.appkey_query("key&1", "testsecret", 1600000000.635)
    assert query == "appkey=key%261&timestamp=1600000000635&sign=00bde0b986ce00d7dc35c3a282040b67"


def test_the_date_is_utc_and_has_no_fraction() -> None:
    assert signing.signed_at(1234567890.999) == "20090213T233130Z"


def test_the_headers_of_a_call_sign_the_body_and_the_token() -> None:
    """What a call sends is what the cross-check vector with a session token has."""
    case = next(case for case in _JDCLOUD2["unpublished"] if case["id"] == "derived-binary-sts")
    given = case["input"]
    headers = signing.jdcloud2_headers(
        signing.Credentials(
            given["access_key"], given["secret_key"], given["region"], given["service"], "tok"
        ),
        method=given["method"],
        host=given["headers"]["host"],
        path=given["path"],
        query="",
        content_type=given["headers"]["content-type"],
        hashed=signing.payload_hash(bytes.fromhex(given["body_hex"])),
        date=given["timestamp"],
        nonce=given["headers"]["x-jdcloud-nonce"],
    )
    assert headers["Authorization"] == case["computed"]["authorization"]
    assert headers["x-jdcloud-algorithm"] == signing.ALGORITHM
    assert {name.lower(): value for name, value in headers.items()}.items() >= given["headers"].items()


def test_credentials_show_no_secret() -> None:
    shown = repr(signing.Credentials("AK", "s3cret", "r", "s", "t0ken"))
    assert "s3cret" not in shown
    assert "t0ken" not in shown
