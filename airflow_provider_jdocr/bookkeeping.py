"""The ledger's books inside Airflow: settle images in doubt, and read the bill. Neither makes a call.

Both take the account from `jdocr_conn_id` and see its service and endpoint alone, in the ledger it names.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from airflow.providers.common.compat.sdk import BaseOperator, Context

from airflow_provider_jdocr.arguments import DEFAULT_CONN_ID
from airflow_provider_jdocr.failures import permanent_errors_end_retries

REPORT = "report"


class JdOcrSettleDoubtsOperator(BaseOperator):
    """Counts the images in doubt, and settles them where it is told to. Returns counts and the first images.

    What is being asked for at this moment is left alone and counted as `busy`; an answer that comes after the
    decision still counts.

    :param decision: ``report`` changes nothing; ``ask-again`` lets the next run send each once more, also
        under ``in_doubt="hold"``; ``give-up`` settles each as failed, without an answer.
    :param matching: which ones, by all that is given: ``dag_id``, ``run_id``, ``task_id``, ``prefix``,
        ``sha256`` (a list), ``older_than`` (such as ``12h``). Nothing: all of this service and endpoint.
    :param charged: what JD's bill says of their calls: ``yes`` or ``no``; empty: nobody looked.
    :param reason: why; kept in the ledger with the task's name.
    :param jdocr_conn_id: names the ledger, and the service and endpoint whose images are meant.
    """

    template_fields: Sequence[str] = ("decision", "matching", "charged", "reason", "jdocr_conn_id")
    ui_color = "#efe6f7"

    def __init__(
        self,
        *,
        decision: str = REPORT,
        matching: Mapping[str, Any] | None = None,
        charged: str | None = None,
        reason: str = "",
        jdocr_conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.decision = decision
        self.matching = matching
        self.charged = charged
        self.reason = reason
        self.jdocr_conn_id = jdocr_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        from airflow_provider_jdocr.tasks import bookkeeping

        with permanent_errors_end_retries():
            return bookkeeping.settle_doubts(self, context)


class JdOcrBillOperator(BaseOperator):
    """Reads the bill of some days, DAGs or pictures: calls, charged or not or maybe, reused, and yuan.

    Returns ``lines``, their ``total``, and what they were made with. Yuan are exact decimal texts, None where
    no price is known.

    :param since: first day: ``YYYY-MM-DD``, ``today`` or ``yesterday``, where the account's quota resets.
    :param until: last day, likewise.
    :param group_by: any of ``day``, ``dag_id``, ``run_id``, ``task_id``, ``service``, ``endpoint``,
        ``account``; none: one line.
    :param matching: which calls, by all that is given: ``dag_id``, ``run_id``, ``task_id``, ``prefix``.
    :param price_per_call: yuan a call, or one of JD's packs; empty: what the connection says.
    :param jdocr_conn_id: names the ledger, and the service and endpoint whose calls are meant.
    """

    template_fields: Sequence[str] = (
        "since",
        "until",
        "group_by",
        "matching",
        "price_per_call",
        "jdocr_conn_id",
    )
    ui_color = "#efe6f7"

    def __init__(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        group_by: Sequence[str] = ("day",),
        matching: Mapping[str, Any] | None = None,
        price_per_call: str | float | None = None,
        jdocr_conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.since = since
        self.until = until
        self.group_by = group_by
        self.matching = matching
        self.price_per_call = price_per_call
        self.jdocr_conn_id = jdocr_conn_id

    def execute(self, context: Context) -> dict[str, Any]:  # noqa: ARG002 - Airflow's signature
        from airflow_provider_jdocr.tasks import bookkeeping

        with permanent_errors_end_retries():
            return bookkeeping.read_bill(self)
