"""One table of codes, one tree of errors."""

import pickle
import re
from itertools import groupby

import pytest

from airflow_provider_jdocr.core import errors
from airflow_provider_jdocr.core.errors import CODES, LAYERS, JdOcrError, Verdict, code_for

# What JD's documents say, retyped from them: code by code, so that a slip in the table has a witness.
DOCUMENTED = {
    "system": {
        Verdict.SUCCESS: "10000",
        Verdict.CONFIGURATION: "10001 10004 10041 10042 10045 10046 10047 10048 10050 10060",
        Verdict.SETTLE_FAILED: "10003",
        Verdict.QUOTA_TOPUP: "10010",
        Verdict.AGAIN: "10020 11010 10030",
        Verdict.QUOTA_RESET: "10040",
        Verdict.SLOW_DOWN: "10043 10044",
        Verdict.AGAIN_ONCE: "11030",
    },
    "ocr_invoice": {
        Verdict.SUCCESS: "0",
        Verdict.SETTLE_FAILED: "12001 12002 12003 12004",
        Verdict.AGAIN: "12005 12006",
    },
    "intsig_invoice": {
        Verdict.SUCCESS: "200",
        Verdict.AGAIN: "500 40001 40002 40400 50001",
        Verdict.SLOW_DOWN: "40004 40018",
        Verdict.QUOTA_RESET: "40017 40020",
        Verdict.QUOTA_TOPUP: "40019 40107",
        Verdict.CONFIGURATION: "40003 40100 40101 40102 40103 40104 40105 40106 40110 40202",
        Verdict.SETTLE_FAILED: "40201 40300 40301 40302 40303 40401 40500 40600",
        Verdict.AGAIN_ONCE: "40200 90099",
    },
    "gateway": {
        Verdict.CONFIGURATION: "400 401 403 404 405 407 414 415",
        Verdict.SETTLE_FAILED: "413",
        Verdict.SLOW_DOWN: "429 RATE_LIMIT_EXCEEDED",
        Verdict.QUOTA_RESET: "QUOTA_EXCEEDED",
        Verdict.AGAIN: "408 500 502 503 504",
    },
    "wire": {
        Verdict.AGAIN: "name_resolution connection_refused connect_timeout tls_handshake",
        Verdict.IN_DOUBT: (
            "read_timeout connection_broken reply_too_large redirect reply_truncated reply_unreadable"
        ),
        Verdict.AGAIN_ONCE: "reply_without_result",
    },
}


@pytest.mark.parametrize("layer", LAYERS)
def test_the_table_holds_exactly_the_documented_codes_with_their_verdicts(layer: str) -> None:
    by_verdict = {verdict: set(codes.split()) for verdict, codes in DOCUMENTED[layer].items()}
    rows = sorted((row for row in CODES.values() if row.layer == layer), key=lambda row: row.verdict)
    held = {verdict: {row.code for row in some} for verdict, some in groupby(rows, lambda row: row.verdict)}
    assert held == by_verdict


def test_every_row_says_what_it_means_and_where_that_is_from() -> None:
    for key, row in CODES.items():
        assert key == (row.layer, row.code)
        assert row.meaning
        assert row.source


def test_what_stops_a_batch_tells_the_way_out() -> None:
    stopping = {Verdict.CONFIGURATION, Verdict.QUOTA_RESET, Verdict.QUOTA_TOPUP}
    assert not [row.code for row in CODES.values() if row.verdict in stopping and not row.advice]


def test_rate_quota_configuration_and_what_never_reached_the_server_are_never_charged() -> None:
    free = {Verdict.SLOW_DOWN, Verdict.QUOTA_RESET, Verdict.QUOTA_TOPUP, Verdict.CONFIGURATION}
    for row in CODES.values():
        never_reached = row.layer == "wire" and row.verdict is Verdict.AGAIN
        refused = row.layer == "gateway" and row.code.startswith("4")
        assert row.chargeable is not (row.verdict in free or never_reached or refused), row


def test_no_business_code_is_also_a_system_code() -> None:
    system = {code for layer, code in CODES if layer == "system"}
    assert not [code for layer, code in CODES if layer.endswith("_invoice") and code in system]


@pytest.mark.parametrize(
    ("layer", "code", "verdict", "chargeable"),
    [
        ("system", "10099", Verdict.SETTLE_FAILED, True),
        ("intsig_invoice", "49999", Verdict.SETTLE_FAILED, True),
        ("gateway", "418", Verdict.SETTLE_FAILED, False),
        ("gateway", "599", Verdict.IN_DOUBT, True),
        ("wire", "gremlins", Verdict.IN_DOUBT, True),
    ],
)
def test_an_unknown_code_is_never_sent_again_blindly(
    layer: str, code: str, verdict: Verdict, chargeable: bool
) -> None:
    row = code_for(layer, code)
    assert (row.code, row.verdict, row.chargeable, row.source) == (code, verdict, chargeable, "unknown")


def _tree(of: type[JdOcrError]) -> list[type[JdOcrError]]:
    return [of, *(below for child in of.__subclasses__() for below in _tree(child))]


@pytest.mark.parametrize("error", _tree(JdOcrError))
def test_every_error_is_drawn_in_the_tree(error: type[JdOcrError]) -> None:
    assert errors.__doc__
    drawn = re.search(rf"^[ │├└─]*{error.__name__}( .*)?$", errors.__doc__, re.MULTILINE)
    assert drawn
    assert ("permanent" in drawn[0]) == error.permanent


@pytest.mark.parametrize("error", _tree(JdOcrError))
def test_every_error_survives_pickling_with_its_evidence(error: type[JdOcrError]) -> None:
    raised = error("no luck")
    raised.__dict__["evidence"] = "kept"
    copy = pickle.loads(pickle.dumps(raised))  # noqa: S301  our own bytes
    assert type(copy) is error
    assert (str(copy), copy.__dict__) == ("no luck", raised.__dict__)


def test_a_failure_is_permanent_unless_waiting_or_asking_again_can_help() -> None:
    permanent = {verdict for verdict in Verdict if errors.ServiceError("", verdict=verdict).permanent}
    assert permanent == {Verdict.SETTLE_FAILED, Verdict.CONFIGURATION, Verdict.QUOTA_TOPUP}
