"""Review by people, as tasks: which documents are in doubt, what a person says of each, and that it is done.

The three operators belong together, in a task group that is mapped over the documents, so that each answer
is carried out when it is given. Through XCom go ids and typed texts, never a picture.
"""

from collections.abc import Collection, Sequence
from typing import Any

from airflow.providers.common.compat.sdk import AirflowSkipException, BaseOperator, Context
from airflow.providers.standard.operators.hitl import HITLOperator

from airflow_provider_jdocr.failures import permanent_errors_end_retries
from airflow_provider_jdocr.review_answers import LATER, OPTIONS


class JdOcrDoubtfulInvoicesOperator(BaseOperator):
    """Lists the documents in doubt, those that were loaded first come first.

    Returns for each a mapping of `document_id`, `seen`, which stands for what the warehouse says of it now,
    and `label`. To be mapped over.

    :param warehouse_conn_id: the database of the tables.
    :param schema: as of `JdOcrLoadInvoicesOperator`.
    :param table_prefix: likewise.
    :param limit: how many at most; at most 100.
    """

    template_fields: Sequence[str] = ("warehouse_conn_id", "schema", "table_prefix", "limit")
    ui_color = "#fdf3d8"

    def __init__(
        self,
        *,
        warehouse_conn_id: str,
        schema: str | None = None,
        table_prefix: str = "jdocr_",
        limit: int | str = 20,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.warehouse_conn_id = warehouse_conn_id
        self.schema = schema
        self.table_prefix = table_prefix
        self.limit = limit

    def execute(self, context: Context) -> list[dict[str, str]]:  # noqa: ARG002 - Airflow's signature
        from airflow_provider_jdocr.tasks import reviewing

        with permanent_errors_end_retries():
            return reviewing.listed(self)


class JdOcrReviewInvoiceOperator(HITLOperator):
    """Asks a person about one document in doubt, as one of Airflow's required actions.

    Shows what is printed, read, found and proposed; the form holds the values, and the proposal where there
    is one. Returns the decision for `JdOcrApplyReviewOperator`. ``Later`` skips the task, and so does a
    document that changed since it was listed.

    An answer that cannot be taken (a date that is none …) fails this try and says why: give the task
    retries, and it asks again.

    :param document: one of those that `JdOcrDoubtfulInvoicesOperator` returned.
    :param warehouse_conn_id: the database of the tables.
    :param schema: as of `JdOcrLoadInvoicesOperator`.
    :param table_prefix: likewise.
    :param picture_url: where the people who review can see a picture, with ``{bucket}`` and ``{key}`` of its
        URI: ``https://pictures.example.com/{bucket}/{key}``. Empty: only its URI is shown.
    :param defaults: the answer when `response_timeout` is over.
    """

    template_fields: Collection[str] = (
        "document",
        "warehouse_conn_id",
        "schema",
        "table_prefix",
        "picture_url",
    )
    ui_color = "#fdf3d8"

    def __init__(
        self,
        *,
        document: Any,
        warehouse_conn_id: str,
        schema: str | None = None,
        table_prefix: str = "jdocr_",
        picture_url: str | None = None,
        defaults: str = LATER,
        **kwargs: Any,
    ) -> None:
        super().__init__(subject="A document in doubt", options=list(OPTIONS), defaults=defaults, **kwargs)
        self.document = document
        self.warehouse_conn_id = warehouse_conn_id
        self.schema = schema
        self.table_prefix = table_prefix
        self.picture_url = picture_url

    def execute(self, context: Context) -> None:
        from airflow_provider_jdocr.tasks import reviewing

        with permanent_errors_end_retries():
            self.subject, self.body, self.params = reviewing.question(self)
        super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        from airflow_provider_jdocr.tasks import reviewing

        answer = super().execute_complete(context, event)
        if answer["chosen_options"][0] == LATER:
            raise AirflowSkipException("Left for later: the next run asks again.")
        return reviewing.answered(self, answer)


class JdOcrApplyReviewOperator(BaseOperator):
    """Carries out what a person decided about a document, and writes down who and when.

    Fails, and changes nothing, where the document was read again or reviewed by somebody else since it was
    shown, or where the decision would overwrite what somebody else decided of the invoice. A retry adds
    nothing. Returns what became of document and invoice, and the errors that the checks find in it still.

    :param decision: what `JdOcrReviewInvoiceOperator` returned.
    :param warehouse_conn_id: the database of the tables.
    :param schema: as of `JdOcrLoadInvoicesOperator`.
    :param table_prefix: likewise.
    """

    template_fields: Sequence[str] = ("decision", "warehouse_conn_id", "schema", "table_prefix")
    ui_color = "#e4f4e8"

    def __init__(
        self,
        *,
        decision: Any,
        warehouse_conn_id: str,
        schema: str | None = None,
        table_prefix: str = "jdocr_",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.decision = decision
        self.warehouse_conn_id = warehouse_conn_id
        self.schema = schema
        self.table_prefix = table_prefix

    def execute(self, context: Context) -> dict[str, Any]:  # noqa: ARG002 - Airflow's signature
        from airflow_provider_jdocr.tasks import reviewing

        with permanent_errors_end_retries():
            return reviewing.applied(self)
