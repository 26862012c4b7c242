"""What a backfill would do, take and cost, as a task: before anything is sent."""

from collections.abc import Sequence
from typing import Any, cast, get_args

from airflow.providers.common.compat.sdk import BaseOperator, Context

from airflow_provider_jdocr import arguments
from airflow_provider_jdocr.cli.printing import planned
from airflow_provider_jdocr.core.ledger import InDoubt, Resend
from airflow_provider_jdocr.core.planning import Terms, plan
from airflow_provider_jdocr.core.sources import Images, folder_above, select, validate_images
from airflow_provider_jdocr.failures import permanent_errors_end_retries
from airflow_provider_jdocr.hooks import JdOcrHook
from airflow_provider_jdocr.storage import open_storage


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
        jdocr_conn_id: str = JdOcrHook.default_conn_name,
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
        with permanent_errors_end_retries():
            validate_images(self.images)
            terms, ignore = self._terms(), arguments.globs("ignore", self.ignore)
            hook = JdOcrHook(self.jdocr_conn_id)
            account = hook.get_account()
            price = arguments.price("price_per_call", self.price_per_call, account.price_per_call)
            storage = open_storage(self.images, self.storage_conn_id or None)
            found = plan(
                select(self.images, storage, ignore),
                folder=folder_above(self.images),
                storage=storage,
                account=account,
                ledger=hook.get_ledger(),
                terms=terms,
                price=price,
                log=self.log,
            ).to_dict()
            self.log.info("The plan:\n%s", planned(found))
            return found

    def _terms(self) -> Terms:
        return Terms(
            in_doubt=cast(InDoubt, arguments.choice("in_doubt", self.in_doubt, get_args(InDoubt))),
            resend=cast(Resend, arguments.choice("resend", self.resend, get_args(Resend))),
            read=arguments.flag("read", self.read),
        )
