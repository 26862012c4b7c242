"""What a backfill would do, take and cost, as a task: before anything is sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator, Context

from airflow_provider_jdocr.arguments import DEFAULT_CONN_ID
from airflow_provider_jdocr.failures import permanent_errors_end_retries

if TYPE_CHECKING:
    from airflow_provider_jdocr.core.sources import Images


class JdOcrPlanOperator(BaseOperator):
    """Says what `JdOcrRecognizeInvoicesOperator` would do with these images: how many are answered already,
    to be sent, rejected …, how many days that takes, and yuan. Makes no call and changes nothing.

    Returns the plan for XCom and logs it. Of a file that nobody has read as it is now the listing tells
    nothing but its size: it counts as to be sent and as `unjudged`.

    :param images: as of `JdOcrRecognizeInvoicesOperator`.
    :param jdocr_conn_id: the account, its rate, daily limit and price, and the ledger.
    :param storage_conn_id: the connection that reads the images.
    :param ignore: globs of images to leave out.
    :param read: read every picture that the ledger does not know, so that none is `unjudged`. Takes as long
        as reading them takes; nothing of them is kept.
    :param in_doubt: as the run will have it: ``resend`` or ``hold``.
    :param resend: as the run will have it: ``none``, ``failed`` or ``all``.
    :param price_per_call: yuan a call, or one of JD's packs; empty: what the connection says.
    """

    template_fields: Sequence[str] = (
        "images",
        "jdocr_conn_id",
        "storage_conn_id",
        "ignore",
        "read",
        "in_doubt",
        "resend",
        "price_per_call",
    )
    ui_color = "#efe6f7"

    def __init__(
        self,
        *,
        images: Images,
        jdocr_conn_id: str = DEFAULT_CONN_ID,
        storage_conn_id: str | None = None,
        ignore: str | Sequence[str] = (),
        read: bool | str = False,
        in_doubt: str = "resend",
        resend: str = "none",
        price_per_call: str | float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.images = images
        self.jdocr_conn_id = jdocr_conn_id
        self.storage_conn_id = storage_conn_id
        self.ignore = ignore
        self.read = read
        self.in_doubt = in_doubt
        self.resend = resend
        self.price_per_call = price_per_call

    def execute(self, context: Context) -> dict[str, Any]:  # noqa: ARG002 - Airflow's signature
        from airflow_provider_jdocr.tasks import planning

        with permanent_errors_end_retries():
            return planning.run(self)
