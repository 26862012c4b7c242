"""The example DAGs: what Airflow's parser and its database make of them."""

import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DAGS = sorted((ROOT / "dags").glob("*.py"))


@pytest.fixture(params=DAGS, ids=lambda path: path.stem)
def dag(request: pytest.FixtureRequest) -> Any:
    return runpy.run_path(str(request.param))["dag"]


def test_a_dag_is_named_as_its_file(dag: Any) -> None:
    assert dag.dag_id in {path.stem for path in DAGS}


def test_a_dag_survives_its_serialisation(dag: Any) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    data = DagSerialization.to_dict(dag)
    DagSerialization.validate_schema(data)
    again = DagSerialization.from_dict(data)
    assert set(again.task_ids) == set(dag.task_ids)


def test_a_dag_does_not_hang_on_a_logical_date(dag: Any) -> None:
    """A run that was triggered by hand has none."""
    from airflow.serialization.serialized_objects import DagSerialization

    text = str(DagSerialization.to_dict(dag))
    assert not [name for name in ("{{ ds", "logical_date }}", "data_interval", "ts_nodash") if name in text]


def test_what_was_paid_for_is_loaded_even_after_a_failure(dag: Any) -> None:
    if "load" in dag.task_ids:
        assert dag.get_task("load").trigger_rule == "all_done"


def test_a_batch_survives_a_deep_copy() -> None:
    """Airflow copies tasks; a lock inside one would end that."""
    import copy

    from airflow_provider_jdocr.operators import JdOcrRecognizeInvoicesOperator

    task = JdOcrRecognizeInvoicesOperator(task_id="x", images="s3://scans/", budget={"max_calls": 3})
    assert copy.deepcopy(task).images == "s3://scans/"
