"""The `jdocr` connection becomes an account and a ledger, and one picture an invoice."""

import socket
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseHook
from airflow.sdk import Connection

from airflow_provider_jdocr.core.account import EXTRAS
from airflow_provider_jdocr.core.errors import (
    ConfigurationError,
    ImageRejected,
    LedgerError,
    ParseError,
    QuotaExhausted,
    ServiceError,
)
from airflow_provider_jdocr.get_provider_info import get_provider_info
from airflow_provider_jdocr.hooks import JdOcrHook
from tests.shell.conftest import Connect
from tests.shell.pictures import picture
from tests.shell.service import Service, system


def test_the_connection_form_offers_every_extra_and_no_other() -> None:
    info: Any = get_provider_info()
    (form,) = info["connection-types"]
    assert set(form["conn-fields"]) == EXTRAS
    assert form["hook-class-name"] == f"{JdOcrHook.__module__}.{JdOcrHook.__name__}"
    assert (form["connection-type"], form["hook-name"]) == (JdOcrHook.conn_type, JdOcrHook.hook_name)
    assert issubclass(JdOcrHook, BaseHook)


def test_airflow_accepts_the_providers_metadata() -> None:
    import json
    from importlib.resources import files

    import jsonschema  # type: ignore[import-untyped]  # its types are no need of ours

    schema = json.loads((files("airflow") / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_the_secrets_of_the_form_are_hidden_in_it() -> None:
    info: Any = get_provider_info()
    assert info["connection-types"][0]["conn-fields"]["security_token"]["schema"]["format"] == "password"


def test_a_connection_becomes_an_account(account: str, service: Service) -> None:
    found = JdOcrHook(account).get_account()
    assert found.base_url == service.url
    assert found.service == service.url.removeprefix("http://")
    assert found.qps == 1000
    assert "a-secret-of-the-test" not in repr(found)


def test_what_a_form_sends_for_an_empty_field_counts_as_not_given(connect: Connect) -> None:
    extra = dict.fromkeys(EXTRAS) | {"endpoint": "", "qps": ""}
    connect("empty", conn_type="jdocr", login="key", password="secret", extra=extra)
    assert JdOcrHook("empty").get_account().endpoint.name == "ocr_invoice"


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"extra": {"qsp": 2}}, "extras that this provider does not know: 'qsp'"),
        ({"extra": "{broken"}, "no JSON object"),
        ({"extra": "[1]"}, "no JSON object"),
        ({"conn_type": "http"}, "type 'http', not jdocr"),
        ({"login": None}, "login: must be the access key"),
        ({"password": None}, "password: must be the secret key"),
        ({"extra": {"ledger_conn_id": "nobody"}}, "ledger_conn_id: there is no connection 'nobody'"),
        ({"password": "CANARY7f3e", "extra": {"ledger_conn_id": "CANARY7f3e"}}, "holds the secret key"),
    ],
)
def test_a_connection_that_cannot_work_names_the_field(
    connect: Connect, fields: dict[str, Any], rule: str
) -> None:
    connect("wrong", **({"conn_type": "jdocr", "login": "key", "password": "secret"} | fields))
    hook = JdOcrHook("wrong")
    with pytest.raises(ConfigurationError, match=rule):
        hook.get_account(), hook.get_ledger()


def test_a_ledger_alone_is_not_looked_up_by_a_name_that_is_the_secret(connect: Connect) -> None:
    extra = {"ledger_conn_id": "CANARY7f3e"}
    connect("wrong", conn_type="jdocr", login="key", password="CANARY7f3e", extra=extra)
    with pytest.raises(ConfigurationError, match="extra ledger_conn_id: holds the secret key"):
        JdOcrHook("wrong").get_ledger()


def test_an_extra_that_is_nested_without_end_is_no_json_object() -> None:
    class Nested(JdOcrHook):
        @classmethod
        def get_connection(cls, conn_id: str) -> Connection:
            return Connection(
                conn_id=conn_id, conn_type="jdocr", login="a", password="b", extra="[" * 100_000
            )

    with pytest.raises(ConfigurationError, match="no JSON object"):
        Nested("nested").get_account()


def test_a_connection_that_is_not_there_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="jdocr_conn_id: there is no connection 'nobody'"):
        JdOcrHook("nobody").get_account()


def test_one_picture_becomes_an_invoice_and_is_paid_once(
    account: str, service: Service, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(picture(1))
    hook = JdOcrHook(account)
    for image in (picture(1), tmp_path / "a.png", str(tmp_path / "a.png"), f"file://{tmp_path}/a.png"):
        found = hook.recognize(image)
        assert found.number == "12345678"
        assert str(found.total) == "113.00"
    assert len(service.calls) == 1


def test_a_picture_whose_raw_reply_was_pruned_is_not_paid_for_again(account: str, service: Service) -> None:
    hook = JdOcrHook(account)
    hook.recognize(picture(1))
    with hook.get_ledger().engine.begin() as db:
        db.exec_driver_sql("UPDATE jdocr_attempt SET reply = NULL")
    with pytest.raises(ParseError, match="its raw reply was pruned"):
        hook.recognize(picture(1))
    assert len(service.calls) == 1


def test_a_picture_that_preflight_rejects_costs_nothing(account: str, service: Service) -> None:
    with pytest.raises(ImageRejected) as raised:
        JdOcrHook(account).recognize(b"no picture at all")
    assert raised.value.code
    assert not service.calls


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("10001", ConfigurationError),
        ("10010", QuotaExhausted),
        ("10040", QuotaExhausted),
        ("10003", ServiceError),
    ],
)
def test_a_refusal_is_an_error_of_its_own_class(
    account: str, service: Service, code: str, error: type[Exception]
) -> None:
    service.answer = lambda _: system(code)
    with pytest.raises(error):
        JdOcrHook(account).recognize(picture(1))
    assert len(service.calls) == 1


def test_the_connection_test_reaches_the_host_and_sends_nothing(account: str, service: Service) -> None:
    passed, said = JdOcrHook(account).test_connection()
    assert passed
    assert "not tried" in said
    assert not service.calls


def test_the_connection_test_says_what_is_wrong(connect: Connect, ledger_path: Path) -> None:
    connect("ledger", conn_type="sqlite", host=str(ledger_path))
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        host = f"http://127.0.0.1:{nobody_listens.getsockname()[1]}"
        fields: dict[str, Any] = {"conn_type": "jdocr", "login": "key", "password": "secret", "host": host}
        connect("closed", **fields, extra={"ledger_conn_id": "ledger"})
        passed, said = JdOcrHook("closed").test_connection()
    assert not passed
    assert "cannot be reached" in said
    connect("wrong", **fields, extra={"qsp": 2})
    passed, said = JdOcrHook("wrong").test_connection()
    assert not passed
    assert "'qsp'" in said


def test_a_ledger_that_cannot_be_reached_may_be_tried_again(connect: Connect) -> None:
    connect("away", conn_type="postgres", host="127.0.0.1", port=9, login="x", password="hidden", schema="x")
    connect("jdocr", conn_type="jdocr", login="key", password="secret", extra={"ledger_conn_id": "away"})
    with pytest.raises(LedgerError) as raised:
        JdOcrHook("jdocr").get_ledger()
    assert not raised.value.permanent
    assert "hidden" not in str(raised.value)
