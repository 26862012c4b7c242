"""What a listener of Airflow is given of a task, written down: lineage and monitoring plugins see no more."""

import json
import os
import traceback
from pathlib import Path
from typing import Any

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin


class Overhearing:
    """Writes a line to ``overheard.jsonl`` beside the Airflow home for each change of a task."""

    @hookimpl
    def on_task_instance_running(self, previous_state: Any, task_instance: Any) -> None:
        _write("running", task_instance)

    @hookimpl
    def on_task_instance_success(self, previous_state: Any, task_instance: Any) -> None:
        _write("success", task_instance)

    @hookimpl
    def on_task_instance_failed(self, previous_state: Any, task_instance: Any, error: Any) -> None:
        _write("failed", task_instance, error)


def _write(event: str, task_instance: Any, error: Any = None) -> None:
    task = getattr(task_instance, "task", None)
    seen = {
        "event": event,
        "task_instance": repr(task_instance),
        "task": repr(task),
        "attributes": {name: repr(value) for name, value in vars(task).items()} if task else {},
        "error": repr(error),
        "trace": traceback.format_exception(error) if isinstance(error, BaseException) else [],
    }
    with (Path(os.environ["AIRFLOW_HOME"]).parent / "overheard.jsonl").open("a") as lines:
        lines.write(json.dumps(seen) + "\n")


class OverhearPlugin(AirflowPlugin):
    name = "overhear"
    listeners = [Overhearing()]  # noqa: RUF012 - Airflow declares it so
