"""What an operator tells of the books: counts and yuan, small enough for XCom; and what it settles."""

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_jdocr.bookkeeping import JdOcrBillOperator, JdOcrSettleDoubtsOperator
from airflow_provider_jdocr.core.doubts import doubts
from airflow_provider_jdocr.hooks import JdOcrHook
from airflow_provider_jdocr.planning import JdOcrPlanOperator
from airflow_provider_jdocr.tasks import bookkeeping
from tests.shell.conftest import Connect
from tests.shell.pictures import folder_of
from tests.shell.service import Service, invoice
from tests.shell.test_operators import TaskInstance, recognise


def settle(**arguments: Any) -> dict[str, Any]:
    task = JdOcrSettleDoubtsOperator(task_id="settle", **arguments)
    found = task.execute({"ti": TaskInstance(run_id="of today", task_id="settle")})  # type: ignore[typeddict-item]
    return dict(json.loads(json.dumps(found)))


def bill(**arguments: Any) -> dict[str, Any]:
    found = JdOcrBillOperator(task_id="bill", **arguments).execute({"ti": TaskInstance(task_id="bill")})  # type: ignore[typeddict-item]
    return dict(json.loads(json.dumps(found)))


@pytest.fixture
def inbox(account: str, service: Service, tmp_path: Path) -> str:
    """A folder with an answered picture, and two of which nobody knows whether they were charged."""
    prefix = folder_of(tmp_path / "inbox", 1)
    recognise(images=prefix)
    service.answer = lambda _: (200, b"")
    folder_of(tmp_path / "inbox", 3)
    recognise(TaskInstance(run_id="tomorrow"), images=prefix, in_doubt="hold", max_failed=2)
    service.answer = lambda _: invoice()
    return prefix


def left() -> int:
    return len(doubts(JdOcrHook().get_ledger()))


class TestSettle:
    def test_without_a_decision_it_reports_and_changes_nothing(self, inbox: str) -> None:
        found = settle()
        assert (found["matched"], found["resolved"], len(found["images"])) == (2, 0, 2)
        assert found["images"][0]["uri"].startswith(inbox)
        assert found["images"][0]["run_id"] == "tomorrow"
        assert left() == 2

    def test_ask_again_frees_them_for_the_next_run(self, inbox: str) -> None:
        assert settle(decision="ask-again", reason="every Monday")["resolved"] == 2
        manifest = recognise(TaskInstance(run_id="third"), images=inbox, in_doubt="hold")
        assert (manifest["recognised"], manifest["held"]) == (2, 0)

    def test_the_task_and_the_reason_are_kept(self, inbox: str) -> None:
        settle(decision="give-up", charged="no", reason="every Monday")
        with JdOcrHook().get_ledger().engine.connect() as db:
            rows = db.exec_driver_sql("SELECT DISTINCT decided_by, reason FROM jdocr_decision").all()
        assert [tuple(row) for row in rows] == [("task dag.settle of run of today", "every Monday")]

    @pytest.mark.parametrize(
        ("matching", "count"),
        [
            ({}, 2),
            ({"dag_id": "dag", "run_id": "tomorrow"}, 2),
            ({"run_id": "run"}, 0),
            ({"prefix": "file:///nowhere/"}, 0),
            ({"older_than": "1h"}, 0),
            ({"older_than": "", "run_id": None, "sha256": []}, 2),
        ],
    )
    def test_what_is_meant_is_meant_by_all_that_is_said(
        self, inbox: str, matching: dict[str, Any], count: int
    ) -> None:
        assert settle(decision="give-up", matching=matching)["resolved"] == count
        assert left() == 2 - count

    def test_the_images_of_another_account_are_left_alone(self, inbox: str, connect: Connect) -> None:
        extra = {"ledger_conn_id": "ledger"}
        connect("jd_itself", conn_type="jdocr", login="key", password="a-secret", extra=extra)
        assert settle(decision="give-up", jdocr_conn_id="jd_itself")["matched"] == 0
        assert left() == 2

    @pytest.mark.parametrize(
        ("argument", "value"),
        [
            ("decision", "forget"),
            ("decision", None),
            ("charged", "perhaps"),
            ("charged", True),
            ("matching", {"dag": "typo"}),
            ("matching", ["dag"]),
            ("matching", {"older_than": "yesterday"}),
        ],
    )
    def test_an_argument_that_cannot_be_meant_settles_nothing(
        self, inbox: str, argument: str, value: Any
    ) -> None:
        with pytest.raises(AirflowFailException, match=argument):
            settle(**{"decision": "give-up", argument: value})
        assert left() == 2


class TestBill:
    def test_the_lines_add_up_to_their_total(self, inbox: str) -> None:
        found = bill(group_by=["run_id"], price_per_call="10k")
        assert [(line["run_id"], line["calls"], line["yuan"]) for line in found["lines"]] == [
            ("run", 1, "0.048"),
            ("tomorrow", 2, "0"),
        ]
        assert found["total"] == {
            "calls": 3,
            "charged": 1,
            "maybe_charged": 2,
            "not_charged": 0,
            "reused": 1,
            "yuan": "0.048",
            "yuan_maybe": "0.096",
            "yuan_saved": "0.048",
        }
        assert (found["currency"], found["price_per_call"], found["timezone"]) == (
            "CNY",
            "0.048",
            "Asia/Shanghai",
        )

    def test_the_price_is_the_connections_where_none_is_given(
        self, inbox: str, service: Service, connect: Connect
    ) -> None:
        extra = {"ledger_conn_id": "ledger", "price_per_call": 0.02}
        connect("priced", conn_type="jdocr", login="key", password="a-secret", host=service.url, extra=extra)
        assert bill(jdocr_conn_id="priced")["total"]["yuan"] == "0.02"
        assert bill(jdocr_conn_id="priced", price_per_call="1M")["price_per_call"] == "0.02"

    def test_without_a_price_there_are_no_yuan(self, inbox: str) -> None:
        found = bill()
        assert (found["price_per_call"], found["total"]["yuan"], found["total"]["charged"]) == (None, None, 1)

    def test_days_may_be_named(self, inbox: str) -> None:
        assert bill(since="today", until="today")["total"]["calls"] == 3
        assert bill(since="yesterday", until="yesterday") | {"since": "", "until": ""} == {
            **bill(since="2020-01-01", until="2020-01-01"),
            "since": "",
            "until": "",
        }
        assert bill(since="", until=None, group_by="")["lines"][0]["calls"] == 3

    def test_pictures_are_named_by_their_prefix(self, inbox: str) -> None:
        assert bill(matching={"prefix": inbox})["total"]["calls"] == 3
        assert bill(matching={"prefix": inbox + "0000"})["total"]["calls"] == 1

    def test_what_is_too_long_for_xcom_is_refused(self, inbox: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bookkeeping, "LINES_AT_MOST", 1)
        with pytest.raises(AirflowFailException, match="2 lines are more than the 1"):
            bill(group_by="run_id")

    @pytest.mark.parametrize(
        ("argument", "value"),
        [
            ("since", "May"),
            ("until", "2026-13-01"),
            ("group_by", ["year"]),
            ("group_by", 7),
            ("matching", {"sha256": "abc"}),
            ("price_per_call", "480"),
        ],
    )
    def test_an_argument_that_cannot_be_meant_is_named(self, inbox: str, argument: str, value: Any) -> None:
        with pytest.raises(AirflowFailException, match=argument):
            bill(**{argument: value})


@pytest.mark.parametrize("operator", [JdOcrSettleDoubtsOperator, JdOcrBillOperator, JdOcrPlanOperator])
def test_every_argument_is_templated(operator: Any) -> None:
    import inspect

    given = set(inspect.signature(operator.__init__).parameters) - {"self", "kwargs"}
    assert given == set(operator.template_fields)
