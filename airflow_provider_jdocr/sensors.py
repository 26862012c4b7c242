"""Waits until an account has calls left. Costs no call and only advises: the operator asks before each
one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSensorTimeout, BaseSensorOperator, Context, conf

from airflow_provider_jdocr.arguments import DEFAULT_CONN_ID
from airflow_provider_jdocr.failures import permanent_errors_end_retries

if TYPE_CHECKING:
    from airflow_provider_jdocr.core.quotas import NotYet


class JdOcrQuotaSensor(BaseSensorOperator):
    """Passes when at least `calls` calls are left, or when what is known of the quota has expired.

    :param jdocr_conn_id: the account, whose ledger is asked.
    :param calls: how many calls must be left.
    :param deferrable: wait without a worker slot, until what is known expires; `poke` and `reschedule` ask
        every `poke_interval`. All of them ask the same question.
    """

    template_fields: Sequence[str] = ("jdocr_conn_id", "calls")
    ui_color = "#f7f1d8"

    def __init__(
        self,
        *,
        jdocr_conn_id: str = DEFAULT_CONN_ID,
        calls: int | str = 1,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.jdocr_conn_id = jdocr_conn_id
        self.calls = calls
        self.deferrable = deferrable

    def poke(self, context: Context) -> bool:  # noqa: ARG002 - Airflow's signature
        return self._not_yet() is None

    def execute(self, context: Context) -> Any:
        if not self.deferrable:
            return super().execute(context)
        return self._pass_or_defer(since=time.time())

    def execute_complete(self, context: Context, event: Any = None) -> None:  # noqa: ARG002 - by contract
        """Asks again: what was known when the wait began has expired, or the account was topped up."""
        self._pass_or_defer(since=(event or {}).get("since", time.time()))

    def _pass_or_defer(self, since: float) -> None:
        from airflow_provider_jdocr.triggers import JdOcrQuotaTrigger

        if (not_yet := self._not_yet()) is None:
            return
        now = time.time()
        left = self.timeout - (now - since)
        if left <= 0:
            raise AirflowSensorTimeout(f"No calls within {self.timeout:.0f} s: {not_yet.message}")
        # Not before the poke interval: a ledger that is a moment behind must not make a busy loop.
        moment = now + min(max(not_yet.seconds, 1.0), left)
        self.defer(
            trigger=JdOcrQuotaTrigger(moment, since),
            method_name="execute_complete",
            timeout=timedelta(seconds=left + self.poke_interval),
        )

    def _not_yet(self) -> NotYet | None:
        """Why it has to wait; None: there are enough calls."""
        from airflow_provider_jdocr.tasks import waiting

        with permanent_errors_end_retries():
            return waiting.not_yet(self)
