"""Poke, reschedule and deferral ask one question; a trigger only waits."""

import asyncio
import gc
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout, TaskDeferred

from airflow_provider_jdocr.operators import JdOcrRecognizeInvoicesOperator
from airflow_provider_jdocr.sensors import JdOcrQuotaSensor
from airflow_provider_jdocr.triggers import JdOcrQuotaTrigger
from tests.shell.pictures import folder_of
from tests.shell.service import Service, invoice, system
from tests.shell.test_operators import TaskInstance

CONTEXT: Any = {"ti": TaskInstance()}


def sensor(**arguments: Any) -> JdOcrQuotaSensor:
    return JdOcrQuotaSensor(task_id="quota", **arguments)


def answered_once(service: Service, tmp_path: Path, remain: int | None) -> None:
    """One call was made, after which so many are left; None: the quota is used up."""
    service.answer = lambda _: system("10040") if remain is None else invoice(remain)
    task = JdOcrRecognizeInvoicesOperator(
        task_id="x", images=folder_of(tmp_path / "scans", 1), on_quota="stop"
    )
    task.execute(CONTEXT)


@pytest.mark.usefixtures("account")
class TestSensor:
    def test_what_is_not_known_passes_and_costs_no_call(self, service: Service) -> None:
        assert sensor(calls=1_000_000).poke(CONTEXT)
        assert sensor(calls=1_000_000, deferrable=True).execute(CONTEXT) is None
        assert not service.calls

    @pytest.mark.parametrize(
        ("remain", "calls", "passes"), [(30, 30, True), (30, "30", True), (30, 31, False), (None, 1, False)]
    )
    def test_poke_and_deferral_agree(
        self, remain: int | None, calls: Any, passes: bool, service: Service, tmp_path: Path
    ) -> None:
        answered_once(service, tmp_path, remain)
        assert sensor(calls=calls).poke(CONTEXT) is passes
        if passes:
            assert sensor(calls=calls, deferrable=True).execute(CONTEXT) is None
        else:
            with pytest.raises(TaskDeferred):
                sensor(calls=calls, deferrable=True).execute(CONTEXT)
        assert len(service.calls) == 1

    def test_a_poke_is_one_query(self, service: Service, tmp_path: Path) -> None:
        answered_once(service, tmp_path, 30)
        asked: list[str] = []

        def asking(*given: Any) -> None:
            asked.append(given[2])

        sa.event.listen(sa.Engine, "before_cursor_execute", asking)
        try:
            assert sensor(calls=30).poke(CONTEXT)
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", asking)
        assert [each.split()[0] for each in asked] == ["BEGIN", "SELECT"]
        assert len(service.calls) == 1

    def test_a_poke_leaves_no_connection_open(
        self, service: Service, tmp_path: Path, ledger_path: Path
    ) -> None:
        answered_once(service, tmp_path, 30)
        gc.collect()
        for _ in range(3):
            sensor().poke(CONTEXT)
        files = [entry.resolve() for entry in Path("/proc/self/fd").iterdir()]
        assert not [path for path in files if str(path).startswith(str(ledger_path))]

    def test_a_deferral_lasts_until_what_is_known_expires(self, service: Service, tmp_path: Path) -> None:
        answered_once(service, tmp_path, None)
        with pytest.raises(TaskDeferred) as deferred:
            sensor(deferrable=True, timeout=86_400 * 2).execute(CONTEXT)
        trigger = deferred.value.trigger
        assert isinstance(trigger, JdOcrQuotaTrigger)
        assert 0 < trigger.moment - time.time() <= 86_400

    def test_a_wait_ends_at_its_timeout_however_often_it_was_deferred(
        self, service: Service, tmp_path: Path
    ) -> None:
        answered_once(service, tmp_path, None)
        task = sensor(deferrable=True, timeout=100)
        with pytest.raises(TaskDeferred) as deferred:
            task.execute_complete(CONTEXT, {"since": time.time() - 90})
        trigger = deferred.value.trigger
        assert isinstance(trigger, JdOcrQuotaTrigger)
        assert trigger.moment - time.time() <= 10
        with pytest.raises(AirflowSensorTimeout, match="No calls within 100 s"):
            task.execute_complete(CONTEXT, {"since": time.time() - 101})

    @pytest.mark.parametrize(
        ("argument", "value"), [("calls", 0), ("calls", "some"), ("jdocr_conn_id", "nobody")]
    )
    def test_a_wrong_argument_ends_the_retries(self, argument: str, value: Any) -> None:
        with pytest.raises(AirflowFailException, match=rf"^{argument}: "):
            sensor(**{argument: value}).poke(CONTEXT)


def fired(trigger: JdOcrQuotaTrigger) -> Any:
    async def first() -> Any:
        async for event in trigger.run():
            return event.payload
        return None

    return asyncio.run(first())


def test_a_trigger_fires_at_its_moment_and_hands_back_when_the_wait_began() -> None:
    moment = time.time() + 0.05
    assert fired(JdOcrQuotaTrigger(moment, since=3.0)) == {"since": 3.0}
    assert time.time() >= moment


def test_a_trigger_whose_moment_passed_while_nobody_ran_it_fires_at_once() -> None:
    assert fired(JdOcrQuotaTrigger(time.time() - 3600, since=3.0)) == {"since": 3.0}


def test_a_trigger_comes_back_from_the_database_as_it_was() -> None:
    path, arguments = JdOcrQuotaTrigger(5.0, since=3.0).serialize()
    assert path == "airflow_provider_jdocr.triggers.JdOcrQuotaTrigger"
    assert JdOcrQuotaTrigger(**arguments).serialize() == (path, arguments)
