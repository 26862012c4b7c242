"""Whatever JD or the way to it can do wrong, the service does when it is told to."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import urllib3

from airflow_provider_jdocr.server.contracts import SYSTEM_MESSAGES
from tests.server.app_client import JPEG, PNG, Book, Running, send_alone, serving

PICTURE = JPEG + b"an invoice"
# The table of the endpoint's description.
# fmt: off
_SEED_INTSIG = (
    500, 40001, 40002, 40003, 40004, 40017, 40018, 40019, 40020, 40100, 40101, 40102, 40103, 40104,
    40105, 40106, 40107, 40110, 40200, 40201, 40202, 40300, 40301, 40302, 40303, 40400, 40401,
    40500, 40600, 50001, 90099,
)
# fmt: on


@pytest.fixture(scope="module")
def started() -> Iterator[Running]:
    with serving(Book(), qps=0.0, daily_limit=500) as service:
        yield service


@pytest.fixture
def service(started: Running) -> Running:
    started.behave(reset=True)
    return started


def _told(service: Running, fault: str, **values: Any) -> None:
    service.behave(faults=[{"fault": fault, **values}])


def _code(service: Running, **values: Any) -> dict[str, Any]:
    _told(service, "code", **values)
    answer: dict[str, Any] = service.ocr(PICTURE).json()
    return answer


@pytest.mark.parametrize("code", sorted(SYSTEM_MESSAGES))
def test_every_system_code_can_be_had_in_its_shape(service: Running, code: str) -> None:
    _told(service, "code", code=code, count=2)
    for envelope in (service.ocr(PICTURE).json(), service.intsig(PICTURE).json()):
        assert (envelope["code"], envelope["charge"]) == (code, False)
        assert envelope["msg"] == SYSTEM_MESSAGES[code]
    assert service.bill() == []


@pytest.mark.parametrize("code", [12001, 12002, 12003, 12004, 12005, 12006, 99999])
def test_every_business_code_of_ocr_invoice_can_be_had(service: Running, code: int) -> None:
    envelope = _code(service, layer="business", code=code, charge=True, msg="as it is worded")
    assert (envelope["code"], envelope["charge"], envelope["remain"]) == ("10000", True, 499)
    assert (envelope["result"]["code"], envelope["result"]["message"]) == (code, "as it is worded")
    assert [billed["code"] for billed in service.bill()] == [str(code)]


@pytest.mark.parametrize("code", _SEED_INTSIG)
def test_every_business_code_of_intsig_can_be_had(service: Running, code: int) -> None:
    _told(service, "code", layer="business", code=code)
    envelope = service.intsig(PICTURE).json()
    assert (envelope["code"], envelope["charge"], envelope["result"]["code"]) == ("10000", False, code)
    assert set(envelope["result"]) == {"code", "message"}


def test_a_business_code_can_come_bare(service: Running) -> None:
    _told(service, "code", layer="business", code=40101, msg="App does not exist", envelope=False)
    assert service.intsig(PICTURE).json() == {"code": 40101, "message": "App does not exist"}


@pytest.mark.parametrize(("charge", "billed"), [(True, 1), (False, 0), ("", 0), (None, 0)])
def test_what_a_code_says_of_the_charge_is_chosen(service: Running, charge: object, billed: int) -> None:
    envelope = _code(service, code="10003", charge=charge)
    assert envelope.get("charge") == charge
    assert ("charge" in envelope) is (charge is not None)
    assert len(service.bill()) == billed


def test_a_call_can_be_billed_whatever_the_answer_says(service: Running) -> None:
    assert _code(service, code="10020", charge=None, billed=True)["code"] == "10020"
    assert len(service.bill()) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 414, 429, 500, 502, 503, 504])
def test_every_status_of_the_gateway_can_be_had(service: Running, status: int) -> None:
    _told(service, "status", http_status=status)
    response = service.ocr(PICTURE)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (status, status)
    assert service.bill() == []


def test_the_word_of_a_gateway_error_is_chosen(service: Running) -> None:
    _told(service, "status", http_status=429, word="QUOTA_EXCEEDED", msg="配额不足")
    assert service.ocr(PICTURE).json()["error"] == {
        "code": 429,
        "status": "QUOTA_EXCEEDED",
        "message": "配额不足",
    }


def test_an_error_can_come_without_a_body_or_as_a_page(service: Running) -> None:
    service.behave(faults=[{"fault": "status", "http_status": 503, "empty": True}, {"fault": "html_502"}])
    empty, page = service.ocr(PICTURE), service.ocr(PICTURE)
    assert (empty.status_code, empty.content) == (503, b"")
    assert (page.status_code, page.headers["content-type"]) == (502, "text/html; charset=utf-8")


def test_a_redirect_names_another_place(service: Running) -> None:
    _told(service, "redirect", location="http://127.0.0.1:9/elsewhere", http_status=307)
    response = service.ocr(PICTURE)
    assert (response.status_code, response.headers["location"]) == (307, "http://127.0.0.1:9/elsewhere")


def test_busy_is_the_system_code_for_it(service: Running) -> None:
    _told(service, "busy")
    assert service.ocr(PICTURE).json()["code"] == "10020"


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize(
    ("fault", "billed"), [("close_before_body", 0), ("close_before_billing", 0), ("close_after_billing", 1)]
)
def test_a_closed_connection_gives_no_reply_at_all(
    service: Running, fault: str, how: str, billed: int
) -> None:
    _told(service, fault, how=how)
    with pytest.raises(requests.ConnectionError) as caught:
        service.ocr(PICTURE)
    assert isinstance(caught.value.args[0], urllib3.exceptions.ProtocolError)
    assert len(service.bill()) == billed
    assert service.ocr(PICTURE).json()["code"] == "10000"


def test_a_closed_connection_is_the_end_of_that_connection_only(service: Running) -> None:
    service.behave(faults=[{"fault": "close_before_billing", "endpoint": "intsig_invoice"}])
    assert service.ocr(PICTURE).json()["code"] == "10000"
    with pytest.raises(requests.ConnectionError):
        service.intsig(PICTURE)


def test_half_an_answer_is_cut_off_by_the_end_of_the_connection(service: Running) -> None:
    _told(service, "half")
    with pytest.raises(requests.exceptions.ChunkedEncodingError) as caught:
        service.ocr(PICTURE)
    assert "IncompleteRead" in str(caught.value)
    assert len(service.bill()) == 1


def test_truncated_json_is_a_complete_reply(service: Running) -> None:
    _told(service, "truncated_json")
    response = service.ocr(PICTURE)
    assert response.status_code == 200
    with pytest.raises(requests.exceptions.JSONDecodeError):
        response.json()
    assert len(service.bill()) == 1


def test_garbage_is_no_json_and_billed(service: Running) -> None:
    _told(service, "garbage")
    response = service.ocr(PICTURE)
    assert response.status_code == 200
    with pytest.raises(ValueError, match=r"codec|Expecting"):
        json.loads(response.content)
    assert len(service.bill()) == 1


def test_a_huge_answer_is_as_long_as_told(service: Running) -> None:
    _told(service, "huge", bytes=300_000)
    assert len(service.ocr(PICTURE).content) == 300_000


def test_an_endless_answer_never_ends(service: Running) -> None:
    """Its blanks keep a read timeout from striking; the caller has to count."""
    _told(service, "chunk_forever", seconds=0.001)

    def first_blanks(prepared: requests.PreparedRequest) -> requests.Response:
        with requests.Session() as session, session.send(prepared, stream=True, timeout=10) as response:
            pieces = response.iter_content(1)
            assert [next(pieces) for _ in range(20)] == [b" "] * 20
            return response

    assert service.ocr(PICTURE, send=first_blanks).status_code == 200


def test_a_late_answer_is_billed_before_anyone_waits(service: Running) -> None:
    _told(service, "late", seconds=0.5)
    with pytest.raises(requests.ReadTimeout):
        service.ocr(PICTURE, send=lambda prepared: send_alone(prepared, timeout=0.2))
    assert len(service.bill()) == 1


def test_the_envelope_can_be_left_out(service: Running) -> None:
    _told(service, "drop_envelope", count=2)
    assert service.ocr(PICTURE).json()["result"]["invoice_no"] == "01599485"
    assert service.intsig(PICTURE).json()["code"] == 200
    assert len(service.bill()) == 2


def test_the_result_can_be_json_in_a_string(service: Running) -> None:
    _told(service, "result_as_string")
    envelope = service.ocr(PICTURE).json()
    assert json.loads(envelope["result"])["result"]["invoice_no"] == "01599485"


def test_the_envelope_can_have_any_of_the_spellings_seen(service: Running) -> None:
    changed = {"code": 1000, "charge": "", "remain": 0, "remainSeconds": -1}
    _told(service, "envelope", set=changed, unset=["msg"])
    envelope = service.ocr(PICTURE).json()
    assert changed.items() <= envelope.items()
    assert "msg" not in envelope


def test_texts_can_be_misread(service: Running) -> None:
    right = service.ocr(PICTURE).json()["result"]["result"]
    _told(service, "misread", set={"total_amount": "1.00"})
    wrong = service.ocr(PICTURE).json()["result"]["result"]
    assert wrong == right | {"total_amount": "1.00"}
    _told(service, "misread", set={"vat_invoice_haoma": "00000000"})
    items = service.intsig(PICTURE).json()["result"]["result"]["item_list"]
    assert [item["value"] for item in items if item["key"] == "vat_invoice_haoma"] == ["00000000"]


def test_faults_come_in_order_and_as_often_as_told(service: Running) -> None:
    faults = [{"fault": "busy", "count": 2}, {"fault": "code", "code": 10030}]
    assert service.behave(faults=faults)["faults_waiting"] == 3
    codes = [service.ocr(PICTURE).json()["code"] for _ in range(4)]
    assert codes == ["10020", "10020", 10030, "10000"]


def test_a_fault_can_wait_for_its_picture_or_its_endpoint(service: Running) -> None:
    sha256 = "0d8e6ab51f5b2f6a9d8e7e5e8d0f1c8f"  # of no picture
    service.behave(
        faults=[
            {"fault": "busy", "sha256": sha256},
            {"fault": "code", "code": "10003", "endpoint": "intsig_invoice"},
        ]
    )
    assert service.ocr(PICTURE).json()["code"] == "10000"
    assert service.intsig(PICTURE).json()["code"] == "10003"
    (billed,) = service.bill()
    service.behave(faults=[{"fault": "busy", "sha256": billed["sha256"]}])
    assert service.ocr(PNG + b"another").json()["code"] == "10000"
    assert service.ocr(PICTURE).json()["code"] == "10020"


def test_a_call_that_is_refused_anyway_uses_up_no_fault(service: Running) -> None:
    _told(service, "busy")
    service.behave(daily_limit=0)
    assert service.ocr(PICTURE).json()["code"] == "10040"
    assert service.ocr(PICTURE, secret="x").status_code == 401
    assert service.behave(daily_limit=-1)["faults_waiting"] == 1


def test_a_fault_that_is_not_billed_uses_up_no_call(service: Running) -> None:
    service.behave(daily_limit=1, faults=[{"fault": "busy"}, {"fault": "garbage"}])
    service.ocr(PICTURE)
    service.ocr(PICTURE)
    assert service.ocr(PICTURE).json()["code"] == "10040"


def test_every_fault_is_described_where_it_is_defined() -> None:
    from airflow_provider_jdocr.server import faults

    described = set(re.findall(r"^([a-z_0-9]+) {2,}\S", faults.__doc__ or "", re.MULTILINE))
    assert described == set(faults.FaultName.__args__)  # type: ignore[attr-defined]  # of a Literal
