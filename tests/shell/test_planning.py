"""What an operator tells before anything is sent: a plan that XCom carries, for no call and no reading."""

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_jdocr.planning import JdOcrPlanOperator
from tests.shell.conftest import Connect
from tests.shell.pictures import folder_of, picture
from tests.shell.service import Service
from tests.shell.test_operators import TaskInstance, recognise


def plan(**arguments: Any) -> dict[str, Any]:
    found = JdOcrPlanOperator(task_id="plan", **arguments).execute({"ti": TaskInstance(task_id="plan")})  # type: ignore[typeddict-item]
    return dict(json.loads(json.dumps(found)))


@pytest.mark.usefixtures("account")
class TestPlan:
    def test_what_is_answered_costs_nothing_and_the_rest_a_call(
        self, service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        inbox = folder_of(tmp_path / "inbox", 2)
        recognise(images=inbox)
        folder_of(tmp_path / "inbox" / "new", 3)
        found = plan(images=inbox, price_per_call="10k")
        assert {name: found[name] for name in ("images", "answered", "to_send", "unjudged")} == {
            "images": 5,
            "answered": 2,
            "to_send": 3,
            "unjudged": 3,
        }
        assert (found["yuan"], found["days"], len(service.calls)) == ("0.144", 1, 2)
        assert "0.144 yuan at most" in capsys.readouterr().out

    def test_the_price_and_the_limits_are_the_connections(self, service: Service, connect: Connect) -> None:
        extra = {"ledger_conn_id": "ledger", "price_per_call": 0.02, "qps": 2, "daily_limit": 1}
        connect("slow", conn_type="jdocr", login="key", password="a-secret", host=service.url, extra=extra)
        found = plan(images=["file:///none.png"], jdocr_conn_id="slow")
        assert (found["qps"], found["daily_limit"], found["price_per_call"]) == (2, 1, "0.02")
        assert (found["rejected"], found["to_send"], found["rejected_by_code"]) == (1, 0, {"MISSING": 1})

    def test_a_template_may_render_a_truth_as_text(self, tmp_path: Path) -> None:
        inbox = folder_of(tmp_path / "inbox", 3)
        assert plan(images=inbox, read="True", price_per_call="")["unjudged"] == 0
        assert plan(images=inbox, read="false")["unjudged"] == 3

    def test_it_reads_a_bucket_by_its_listing_alone(self, s3: Any, service: Service) -> None:
        for name in ("a/1.png", "a/2.png", "b/1.png"):
            s3.put_object(Bucket="scans", Key=name, Body=picture(1))
        found = plan(images="s3://scans/")
        assert [(each["folder"], each["images"]) for each in found["folders"]] == [
            ("s3://scans/a/", 2),
            ("s3://scans/b/", 1),
        ]
        assert plan(images="s3://scans/", read=True)["duplicates"] == 2
        assert not service.calls

    @pytest.mark.parametrize(
        ("argument", "value"),
        [
            ("images", "inbox/a.png"),
            ("images", None),
            ("ignore", 3),
            ("read", "perhaps"),
            ("in_doubt", "drop"),
            ("resend", True),
            ("price_per_call", "480"),
            ("storage_conn_id", "nobody"),
            ("jdocr_conn_id", "nobody"),
        ],
    )
    def test_an_argument_that_cannot_be_meant_is_named(self, s3: Any, argument: str, value: Any) -> None:
        with pytest.raises(AirflowFailException, match=rf"^{argument}\b.*\."):
            plan(**{"images": "s3://scans/"} | {argument: value})
