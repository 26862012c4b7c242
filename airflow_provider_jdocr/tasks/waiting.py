"""What a task that waits for a quota asks when it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_jdocr import arguments
from airflow_provider_jdocr.core.quotas import NotYet, calls_available
from airflow_provider_jdocr.hooks import JdOcrHook

if TYPE_CHECKING:
    from airflow_provider_jdocr.sensors import JdOcrQuotaSensor


def not_yet(task: JdOcrQuotaSensor) -> NotYet | None:
    """Why the task has to wait; None: there are enough calls."""
    needed = arguments.whole("calls", task.calls, at_least=1)
    answer = calls_available(JdOcrHook(task.jdocr_conn_id).get_quota(), needed)
    task.log.info("%s", answer.message)
    return answer if isinstance(answer, NotYet) else None
