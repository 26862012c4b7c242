"""What an operator promises a DAG author: one outcome per input, the manifest before the error, no call
for a typo.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, TaskDeferred

from airflow_provider_jdocr.core.batch import Budget, QrRules
from airflow_provider_jdocr.core.errors import BatchFailed
from airflow_provider_jdocr.operators import JdOcrLoadInvoicesOperator, JdOcrRecognizeInvoicesOperator
from airflow_provider_jdocr.triggers import JdOcrQuotaTrigger
from tests.shell.conftest import Connect
from tests.shell.pictures import folder_of, picture
from tests.shell.service import Answer, Service, invoice, keyed_invoice, system

SPECIMENS = Path(__file__).parents[1] / "specimens" / "pictures"


@dataclass
class TaskInstance:
    """What the operators use of a task instance."""

    run_id: str = "run"
    dag_id: str = "dag"
    task_id: str = "recognise"
    map_index: int = -1
    failed_above: int = 0
    pushed: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value

    def get_ti_count(self, **asked: Any) -> int:
        assert asked["states"] == ["failed", "upstream_failed"]
        return self.failed_above


def recognise(ti: TaskInstance | None = None, **arguments: Any) -> dict[str, Any]:
    task = JdOcrRecognizeInvoicesOperator(task_id="recognise", **arguments)
    return task.execute({"ti": ti or TaskInstance()})  # type: ignore[typeddict-item]


def load(ti: TaskInstance | None = None, *, above: str = "", **arguments: Any) -> dict[str, Any]:
    task = JdOcrLoadInvoicesOperator(task_id="load", **arguments)
    if above:
        task.upstream_task_ids.add(above)
    return task.execute({"ti": ti or TaskInstance(task_id="load")})  # type: ignore[typeddict-item]


@pytest.fixture
def warehouse(connect: Connect, tmp_path: Path) -> str:
    return connect("warehouse", conn_type="sqlite", host=str(tmp_path / "warehouse.db"))


@pytest.fixture
def second(connect: Connect, service: Service, tmp_path: Path) -> str:
    """The other endpoint, with the same ledger; and `jdocr_elsewhere`, with another one."""
    connect("ledger_elsewhere", conn_type="sqlite", host=str(tmp_path / "elsewhere.db"))
    named = {"jdocr_second": "ledger", "jdocr_elsewhere": "ledger_elsewhere"}
    for conn_id, ledger in named.items():
        connect(
            conn_id,
            conn_type="jdocr",
            login="other-key",
            password="another-secret-of-the-test",
            host=service.url,
            extra={"ledger_conn_id": ledger, "qps": 1000, "endpoint": "intsig_invoice"},
        )
    return "jdocr_second"


def rows(tmp_path: Path, table: str) -> list[Any]:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/warehouse.db")
    with engine.connect() as db:
        found = db.execute(sa.text(f"SELECT * FROM {table}")).all()  # noqa: S608 - a table's name of ours
    engine.dispose()
    return list(found)


@pytest.mark.usefixtures("account")
class TestRecognise:
    def test_every_image_has_one_outcome_and_is_paid_once(self, service: Service, tmp_path: Path) -> None:
        images = folder_of(tmp_path / "scans", 5)
        manifest = recognise(images=images)
        assert (manifest["inputs"], manifest["recognised"], manifest["calls"]) == (5, 5, 5)
        again = recognise(TaskInstance(run_id="tomorrow"), images=images)
        assert (again["inputs"], again["reused"], again["calls"]) == (5, 5, 0)
        assert len(service.calls) == 5

    def test_a_retry_of_the_task_goes_on_with_the_same_outcomes(self, tmp_path: Path) -> None:
        images = folder_of(tmp_path / "scans", 3)
        first, second = recognise(images=images), recognise(images=images)
        assert (second["recognised"], second["reused"]) == (3, 0)
        assert second["calls"] == first["calls"] == 3

    @pytest.mark.parametrize(
        ("images", "found"),
        [
            ("{folder}", 4),
            ("{folder}*1.png", 1),
            (["{folder}0000.png", "{folder}0002.png"], 2),
            ({"prefix": "{folder}", "after": "{folder}0000.png", "until": "{folder}0002.png"}, 2),
        ],
    )
    def test_images_are_a_prefix_a_glob_a_list_or_a_key_range(
        self, images: Any, found: int, tmp_path: Path
    ) -> None:
        def here(value: Any) -> Any:
            if isinstance(value, list):
                return [here(one) for one in value]
            if isinstance(value, dict):
                return {key: here(one) for key, one in value.items()}
            return value.format(folder=folder)

        folder = folder_of(tmp_path / "scans", 4)
        assert recognise(images=here(images))["recognised"] == found

    def test_what_ignore_names_is_left_out(self, tmp_path: Path) -> None:
        assert recognise(images=folder_of(tmp_path / "scans", 4), ignore=["*2.png", "*3.png"])["inputs"] == 2

    def test_the_manifest_is_pushed_before_the_task_fails(self, service: Service, tmp_path: Path) -> None:
        images = folder_of(tmp_path / "scans", 3)
        (tmp_path / "scans" / "text.jpg").write_text("no picture")
        ti = TaskInstance()
        with pytest.raises(AirflowFailException, match="1 of 4 images failed and max_failed is 0"):
            recognise(ti, images=images)
        assert ti.pushed["return_value"]["recognised"] == 3
        assert ti.pushed["return_value"]["rejected"] == 1
        assert len(service.calls) == 3

    def test_an_author_may_accept_failed_images(self, tmp_path: Path) -> None:
        images = folder_of(tmp_path / "scans", 1)
        (tmp_path / "scans" / "empty.png").touch()
        assert recognise(images=images, max_failed=1)["rejected"] == 1

    @pytest.mark.parametrize(
        ("argument", "value"),
        [
            ("images", "inbox/a.png"),
            ("images", None),
            ("images", {"after": "s3://x/a"}),
            ("ignore", 3),
            ("max_in_flight", 0),
            ("max_in_flight", "many"),
            ("max_failed", -1),
            ("max_failed", "10%"),
            ("on_quota", "sleep"),
            ("in_doubt", "drop"),
            ("resend", True),
            ("budget", {"max_call": 1}),
            ("budget", {"max_calls": "all"}),
            ("budget", 7),
            ("checks", {"buyer": "x"}),
            ("checks", "buyers"),
            ("escalate_to", "nobody"),
            ("escalate_to", "jdocr_default"),
            ("escalate_to", "warehouse"),
            ("escalate_to", "jdocr_elsewhere"),
            ("qr", {"red": True}),
            ("qr", {"read": "now and then"}),
            ("qr", {"same_invoice": "maybe"}),
            ("qr", {"no_invoice": True}),
            ("qr", {"read": False, "same_invoice": "reuse"}),
            ("qr", "reuse"),
            ("storage_conn_id", "nobody"),
            ("jdocr_conn_id", "nobody"),
        ],
    )
    def test_a_wrong_argument_fails_at_once_names_itself_and_costs_no_call(
        self, argument: str, value: Any, service: Service, s3: Any, warehouse: str, second: str
    ) -> None:
        s3.put_object(Bucket="scans", Key="a.png", Body=picture(1))
        arguments = {"images": "s3://scans/"} | {argument: value}
        with pytest.raises(AirflowFailException, match=rf"^{argument}\b.*\."):
            recognise(**arguments)
        assert not service.calls

    def test_a_template_may_render_a_number_as_text(self, tmp_path: Path) -> None:
        manifest = recognise(
            images=folder_of(tmp_path / "scans", 3),
            max_in_flight="2",
            max_failed="0",
            budget={"max_calls": "2", "keep_remaining": ""},
        )
        assert (manifest["recognised"], manifest["waiting"]) == (2, 1)

    @pytest.mark.parametrize(
        ("rules", "calls"),
        [
            (None, 2),
            ({"read": "false", "same_invoice": ""}, 2),
            ({"same_invoice": "reuse"}, 1),
            (QrRules(same_invoice="reuse"), 1),
        ],
    )
    def test_two_scans_of_one_invoice_are_one_call_where_the_author_wants_it(
        self, rules: Any, calls: int, service: Service, tmp_path: Path
    ) -> None:
        scan = (SPECIMENS / "electronic_plain.png").read_bytes()
        (inbox := tmp_path / "scans").mkdir()
        (inbox / "one.png").write_bytes(scan)
        (inbox / "other.png").write_bytes(scan + b"\0")
        manifest = recognise(images=f"{inbox.as_uri()}/", qr=rules)
        assert (manifest["recognised"], manifest["reused"]) == (calls, 2 - calls)
        assert len(service.calls) == manifest["calls"] == calls

    def test_a_budget_leaves_the_rest_waiting_and_succeeds(self, service: Service, tmp_path: Path) -> None:
        manifest = recognise(images=folder_of(tmp_path / "scans", 5), budget=Budget(max_calls=2))
        assert (manifest["recognised"], manifest["waiting"], manifest["stop"]["reason"]) == (2, 3, "budget")
        assert len(service.calls) == 2

    def test_a_wrong_secret_costs_one_call_and_ends_the_retries(
        self, service: Service, tmp_path: Path
    ) -> None:
        service.answer = lambda _: system("10001", "错误的请求appkey")
        ti = TaskInstance()
        with pytest.raises(AirflowFailException, match="10001"):
            recognise(ti, images=folder_of(tmp_path / "scans", 9), max_in_flight=4)
        assert len(service.calls) == 1
        assert ti.pushed["return_value"]["waiting"] == 9

    def test_a_kill_ends_the_sending_and_keeps_what_was_answered(
        self, service: Service, tmp_path: Path
    ) -> None:
        task = JdOcrRecognizeInvoicesOperator(
            task_id="recognise", images=folder_of(tmp_path / "scans", 20), max_in_flight=1
        )

        def killing(_: bytes) -> Answer:
            if len(service.calls) == 3:
                task.on_kill()
            return invoice()

        service.answer = killing
        ti = TaskInstance()
        with pytest.raises(BatchFailed) as raised:
            task.execute({"ti": ti})  # type: ignore[typeddict-item]
        assert not raised.value.permanent
        assert len(service.calls) == 3
        assert ti.pushed["return_value"]["recognised"] == 3

    def test_a_kill_before_the_work_began_does_no_harm(self) -> None:
        JdOcrRecognizeInvoicesOperator(task_id="recognise", images="s3://scans/").on_kill()


@pytest.mark.usefixtures("account")
class TestEscalation:
    """The service answers both endpoints with an invoice whose seller has no tax id, which is doubted."""

    @pytest.fixture(autouse=True)
    def both_endpoints(self, service: Service) -> None:
        service.answer = by_endpoint

    def test_what_is_doubted_is_asked_for_at_the_second_endpoint_and_both_are_loaded(
        self, second: str, warehouse: str, service: Service, tmp_path: Path
    ) -> None:
        images = folder_of(tmp_path / "scans", 3)
        manifest = recognise(images=images, escalate_to=second)
        asked = manifest["escalation"]
        assert (manifest["recognised"], asked["inputs"], asked["recognised"], asked["calls"]) == (3, 3, 3, 3)
        assert len(service.calls) == 6
        load(manifest=manifest, warehouse_conn_id=warehouse)
        assert len(rows(tmp_path, "jdocr_documents")) == 6

    @pytest.mark.parametrize("nothing", ["", None, "None"])
    def test_without_a_second_endpoint_nothing_is_asked_twice(
        self, nothing: Any, service: Service, tmp_path: Path
    ) -> None:
        manifest = recognise(images=folder_of(tmp_path / "scans", 2), escalate_to=nothing)
        assert (manifest["escalation"], len(service.calls)) == (None, 2)

    def test_waiting_for_the_second_quota_takes_no_worker_slot_either(
        self, second: str, service: Service, tmp_path: Path
    ) -> None:
        limited(service, 4, by_endpoint)
        task = JdOcrRecognizeInvoicesOperator(
            task_id="recognise",
            images=folder_of(tmp_path / "scans", 3),
            escalate_to=second,
            deferrable=True,
            max_in_flight=1,
        )
        with pytest.raises(TaskDeferred):
            task.execute({"ti": TaskInstance()})  # type: ignore[typeddict-item]
        assert len(service.calls) == 5

    def test_on_quota_fail_is_about_the_second_endpoint_too(
        self, second: str, service: Service, tmp_path: Path
    ) -> None:
        limited(service, 4, by_endpoint)
        ti = TaskInstance()
        images = folder_of(tmp_path / "scans", 3)
        with pytest.raises(BatchFailed, match="2 images wait and on_quota is 'fail'"):
            recognise(ti, images=images, escalate_to=second, on_quota="fail", max_in_flight=1)
        assert ti.pushed["return_value"]["escalation"]["waiting"] == 2

    def test_an_image_that_the_second_endpoint_failed_fails_the_task_after_all_was_tried(
        self, second: str, service: Service, warehouse: str, tmp_path: Path
    ) -> None:
        failed = (200, b'{"code": "10000", "charge": true, "msg": "", "result": {"code": 500}}')
        service.answer = lambda body: failed if len(service.calls) == 3 else by_endpoint(body)
        ti = TaskInstance()
        with pytest.raises(AirflowFailException, match="1 of 2 images failed and max_failed is 0"):
            recognise(ti, images=folder_of(tmp_path / "scans", 2), escalate_to=second, max_in_flight=1)
        pushed = ti.pushed["return_value"]
        assert (pushed["recognised"], pushed["escalation"]["failed"]) == (2, 1)
        with pytest.raises(AirflowFailException, match="What there is was loaded"):
            load(manifest=pushed, warehouse_conn_id=warehouse)
        assert len(rows(tmp_path, "jdocr_documents")) == 4


def by_endpoint(body: bytes) -> Answer:
    """Pictures come as they are to the one endpoint, in base64 to the other."""
    return invoice() if body.startswith(b"\x89PNG") else keyed_invoice()


def limited(service: Service, calls: int, answered: Callable[[bytes], Answer] = lambda _: invoice()) -> None:
    """The service answers so many calls and then has no more for today."""
    lock = threading.Lock()

    def answer(body: bytes) -> Answer:
        with lock:
            over = len(service.calls) > calls
            return system("10040", "超过每天限量，请明天继续") if over else answered(body)

    service.answer = answer


@pytest.mark.usefixtures("account")
class TestQuota:
    def test_stop_succeeds_with_the_rest_waiting(self, service: Service, tmp_path: Path) -> None:
        limited(service, 2)
        manifest = recognise(images=folder_of(tmp_path / "scans", 5), on_quota="stop", max_in_flight=1)
        assert (manifest["recognised"], manifest["waiting"]) == (2, 3)
        assert manifest["stop"]["reason"] == "quota_until_reset"
        assert len(service.calls) == 3

    def test_fail_pushes_the_manifest_and_leaves_the_retries(self, service: Service, tmp_path: Path) -> None:
        limited(service, 2)
        ti = TaskInstance()
        with pytest.raises(BatchFailed, match="3 images wait and on_quota is 'fail'") as raised:
            recognise(ti, images=folder_of(tmp_path / "scans", 5), on_quota="fail", max_in_flight=1)
        assert not raised.value.permanent
        assert ti.pushed["return_value"]["recognised"] == 2

    def test_wait_defers_to_the_reset_and_then_goes_on(self, service: Service, tmp_path: Path) -> None:
        limited(service, 2)
        images = folder_of(tmp_path / "scans", 5)
        task = JdOcrRecognizeInvoicesOperator(
            task_id="recognise", images=images, on_quota="wait", deferrable=True, max_in_flight=1
        )
        with pytest.raises(TaskDeferred) as deferred:
            task.execute({"ti": TaskInstance()})  # type: ignore[typeddict-item]
        trigger = deferred.value.trigger
        assert isinstance(trigger, JdOcrQuotaTrigger)
        assert 0 < trigger.moment - trigger.since <= 86_400
        assert deferred.value.method_name == "execute_complete"
        assert "secret" not in str(trigger.serialize())

    def test_a_prepaid_quota_that_is_used_up_ends_the_retries(self, service: Service, tmp_path: Path) -> None:
        service.answer = lambda _: system("10010", "接口需要付费，请充值")
        for on_quota in ("stop", "wait", "fail"):
            with pytest.raises(AirflowFailException, match="top"):
                recognise(
                    TaskInstance(run_id=on_quota), images=folder_of(tmp_path / "scans", 3), on_quota=on_quota
                )


@pytest.mark.usefixtures("account")
class TestLoad:
    def test_a_manifest_loads_what_its_task_asked_for(self, warehouse: str, tmp_path: Path) -> None:
        manifest = recognise(images=folder_of(tmp_path / "scans", 3))
        recognise(TaskInstance(run_id="other"), images=folder_of(tmp_path / "more", 8))
        load(manifest=manifest, warehouse_conn_id=warehouse)
        assert len(rows(tmp_path, "jdocr_documents")) == 3

    def test_images_load_by_their_listing(self, warehouse: str, service: Service, tmp_path: Path) -> None:
        images = folder_of(tmp_path / "scans", 3)
        recognise(images=images, budget={"max_calls": 2})
        report = load(images=images, warehouse_conn_id=warehouse, table_prefix="fapiao_")
        assert len(rows(tmp_path, "fapiao_documents")) == 2
        assert len(service.calls) == 2
        assert (report["considered"], report["loaded"], report["not_answered"]) == (3, 2, 1)

    def test_an_invoice_for_nobody_whom_the_author_named_is_for_review(
        self, warehouse: str, tmp_path: Path
    ) -> None:
        manifest = recognise(images=folder_of(tmp_path / "scans", 1))
        load(manifest=manifest, warehouse_conn_id=warehouse, checks={"buyers": ["某某科技有限公司"]})
        assert "BUYER_UNKNOWN" in [row.code for row in rows(tmp_path, "jdocr_findings")]
        assert [row.review_status for row in rows(tmp_path, "jdocr_documents")] == ["review"]

    @pytest.mark.parametrize("checks", [{"buyer": "x"}, "buyers", ["x"]])
    def test_wrong_checks_fail_at_once_and_load_nothing(
        self, checks: Any, warehouse: str, tmp_path: Path
    ) -> None:
        manifest = recognise(images=folder_of(tmp_path / "scans", 1))
        with pytest.raises(AirflowFailException, match=r"^checks: .*got "):
            load(manifest=manifest, warehouse_conn_id=warehouse, checks=checks)

    def test_images_of_which_none_is_answered_fail_and_a_retry_may_help(
        self, warehouse: str, service: Service, tmp_path: Path
    ) -> None:
        images, loading = folder_of(tmp_path / "scans", 3), TaskInstance(task_id="load")
        with pytest.raises(
            BatchFailed, match=r"none of 3 has an answer .* Run the recognising task"
        ) as raised:
            load(loading, images=images, warehouse_conn_id=warehouse)
        assert not raised.value.permanent
        assert loading.pushed["return_value"]["not_answered"] == 3
        assert not service.calls

    def test_images_that_another_endpoint_answered_fail(
        self, warehouse: str, service: Service, connect: Connect, tmp_path: Path
    ) -> None:
        images = folder_of(tmp_path / "scans", 2)
        recognise(images=images)
        extra = {"ledger_conn_id": "ledger", "endpoint": "intsig_invoice"}
        other = connect(
            "other", conn_type="jdocr", login="key", password="a-secret", host=service.url, extra=extra
        )
        with pytest.raises(BatchFailed, match="none of 2 has an answer"):
            load(images=images, jdocr_conn_id=other, warehouse_conn_id=warehouse)

    def test_an_empty_inbox_is_a_warning(
        self, warehouse: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        report = load(images=folder_of(tmp_path / "scans", 0), warehouse_conn_id=warehouse)
        assert not report["considered"]
        assert "no image to load" in capsys.readouterr().out

    def test_loading_again_changes_nothing(self, warehouse: str, tmp_path: Path) -> None:
        manifest = recognise(images=folder_of(tmp_path / "scans", 3))
        load(manifest=manifest, warehouse_conn_id=warehouse)
        before = rows(tmp_path, "jdocr_documents")
        load(manifest=manifest, warehouse_conn_id=warehouse)
        assert rows(tmp_path, "jdocr_documents") == before

    def test_the_manifests_of_a_mapped_task_load_together_and_gaps_are_passed_over(
        self, warehouse: str, tmp_path: Path
    ) -> None:
        folder_of(tmp_path / "scans", 4)
        manifests = [
            recognise(TaskInstance(map_index=index), images=[f"file://{tmp_path}/scans/{index:04}.png"])
            for index in range(3)
        ]
        load(manifest=[manifests[0], None, manifests[2]], warehouse_conn_id=warehouse)
        assert len(rows(tmp_path, "jdocr_documents")) == 2

    def test_loading_carries_the_verdict_on_after_it_loaded(self, warehouse: str, tmp_path: Path) -> None:
        images = folder_of(tmp_path / "scans", 2)
        (tmp_path / "scans" / "empty.png").touch()
        ti, loading = TaskInstance(), TaskInstance(task_id="load")
        with pytest.raises(AirflowFailException):
            recognise(ti, images=images)
        with pytest.raises(AirflowFailException, match=r"What there is was loaded\. 1 of 3 images failed"):
            load(loading, manifest=ti.pushed["return_value"], warehouse_conn_id=warehouse)
        assert len(rows(tmp_path, "jdocr_documents")) == 2
        assert loading.pushed["return_value"]

    def test_a_task_above_that_failed_without_a_manifest_is_not_hidden(self, warehouse: str) -> None:
        with pytest.raises(AirflowFailException, match="1 task instances right above this one failed"):
            load(
                TaskInstance(failed_above=1), above="recognise", manifest=[None], warehouse_conn_id=warehouse
            )

    def test_a_task_above_that_was_skipped_is_nothing_to_load(self, warehouse: str) -> None:
        with DAG("dag"):
            above = JdOcrRecognizeInvoicesOperator(task_id="recognise", images="s3://scans/")
            task = JdOcrLoadInvoicesOperator(
                task_id="load", manifest=above.output, warehouse_conn_id=warehouse
            )
        task.manifest = None  # what the template renders to
        task.execute({"ti": TaskInstance()})  # type: ignore[typeddict-item]

    @pytest.mark.parametrize(
        ("arguments", "rule"),
        [
            ({}, "exactly one of them is wanted; got 0"),
            ({"images": "file:///a/", "manifest": {}}, "exactly one of them is wanted; got 2"),
            ({"manifest": "{'run': …}"}, "manifest: what a recognising task returned is wanted; got str"),
            ({"manifest": {"inputs": 3}}, r"manifest\.run is missing: this is not what a recognising task"),
            ({"manifest": [{"key": 3}]}, r"manifest\.key is not known to this version"),
            (
                {"images": "file:///a/", "warehouse_conn_id": "nobody"},
                "warehouse_conn_id: there is no connection",
            ),
        ],
    )
    def test_a_wrong_argument_ends_the_retries(
        self, arguments: dict[str, Any], rule: str, warehouse: str
    ) -> None:
        with pytest.raises(AirflowFailException, match=rule):
            load(**({"warehouse_conn_id": warehouse} | arguments))

    def test_a_manifest_of_another_ledger_is_refused(
        self, warehouse: str, connect: Connect, tmp_path: Path
    ) -> None:
        manifest = recognise(images=folder_of(tmp_path / "scans", 2))
        connect("ledger", conn_type="sqlite", host=str(tmp_path / "another.db"))
        with pytest.raises(AirflowFailException, match="the ledger knows nothing of the 2 images"):
            load(manifest=manifest, warehouse_conn_id=warehouse)

    def test_ledger_and_warehouse_may_share_a_database(
        self, connect: Connect, ledger_path: Path, tmp_path: Path
    ) -> None:
        connect("shared", conn_type="sqlite", host=str(ledger_path))
        load(manifest=recognise(images=folder_of(tmp_path / "scans", 2)), warehouse_conn_id="shared")
