"""Review by people, as tasks: which documents are in doubt, what a person says of each, and that it is done.

The three operators belong together, in a task group that is mapped over the documents, so that each answer
is carried out when it is given. Through XCom go ids and typed texts, never a picture.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, get_args

from airflow.providers.common.compat.sdk import AirflowSkipException, BaseOperator, Context
from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param
from airflow.sdk.definitions.param import ParamsDict

from airflow_provider_jdocr import arguments, review_form
from airflow_provider_jdocr.core.errors import ConfigurationError, ReviewRefused
from airflow_provider_jdocr.core.review import (
    Decision,
    Doubtful,
    Verdict,
    decide,
    doubtful,
    read_typed,
    shown,
)
from airflow_provider_jdocr.core.warehouse import Warehouse
from airflow_provider_jdocr.databases import database
from airflow_provider_jdocr.failures import permanent_errors_end_retries
from airflow_provider_jdocr.operators import today

MOST_DOCUMENTS = 100
"""Documents that one run asks about: each is two mapped tasks and a form that somebody has to read."""
NOBODY = "nobody: the time to answer was over"
_VERDICTS: Mapping[str, Verdict] = {
    review_form.APPROVE: "approve",
    review_form.CORRECT: "correct",
    review_form.REJECT: "reject",
}


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
        with permanent_errors_end_retries():
            limit = arguments.whole("limit", self.limit, at_least=1)
            if limit > MOST_DOCUMENTS:
                raise ConfigurationError(
                    f"limit: {limit} is more than {MOST_DOCUMENTS}. Name fewer: the next run asks about the "
                    "rest.",
                    field="limit",
                )
            warehouse = _warehouse(self.warehouse_conn_id, self.schema, self.table_prefix)
            warehouse.create()
            found = doubtful(warehouse, limit=limit)
            self.log.info("%d documents are in doubt (at most %d are asked about).", len(found), limit)
            return [
                {
                    "document_id": each.document_id,
                    "seen": each.seen,
                    "label": review_form.subject(each),
                }
                for each in found
            ]


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
        defaults: str = review_form.LATER,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            subject="A document in doubt", options=list(review_form.OPTIONS), defaults=defaults, **kwargs
        )
        self.document = document
        self.warehouse_conn_id = warehouse_conn_id
        self.schema = schema
        self.table_prefix = table_prefix
        self.picture_url = picture_url

    def execute(self, context: Context) -> None:
        with permanent_errors_end_retries():
            document = self._document()
            if document.seen != self.document["seen"]:
                raise AirflowSkipException(
                    "It is not as it was listed any more: the next run looks at it again."
                )
            self.subject = review_form.subject(document)
            self.body = review_form.body(document, self.picture_url or None)
            self.params = _params(document)
        super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        answer = super().execute_complete(context, event)
        chosen, answered = answer["chosen_options"][0], answer["params_input"]
        if chosen == review_form.LATER:
            raise AirflowSkipException("Left for later: the next run asks again.")
        with permanent_errors_end_retries():
            self._refuse_an_old_form(answered)
            document = self._document()
        changes = review_form.changes(document, answered) if chosen == review_form.CORRECT else {}
        if document.seen == self.document["seen"]:  # else the decision will be refused, and for that reason
            self._refuse_a_contradiction(chosen, document, answered)
            read_typed(changes)
        return {
            "document_id": document.document_id,
            "seen": self.document["seen"],
            "decision": _VERDICTS[chosen],
            "reviewed_by": _name(answer["responded_by_user"]),
            "reviewed_at": answer["responded_at"].isoformat(),
            "changes": changes,
            "note": answered.get(review_form.NOTE) or None,
        }

    def _document(self) -> Doubtful:
        warehouse = _warehouse(self.warehouse_conn_id, self.schema, self.table_prefix)
        return shown(warehouse, self.document["document_id"])

    def _refuse_an_old_form(self, answered: Mapping[str, Any]) -> None:
        """Of a task that was cleared, Airflow goes on showing what it asked before."""
        given = answered.get(review_form.SHOWN)
        if given != review_form.shown(self.document["document_id"], self.document["seen"]):
            about = "came without the form" if given is None else "is about what an earlier try asked"
            raise ReviewRefused(
                f"{review_form.SHOWN}: the answer {about}, so nothing is done. Trigger a new run, which asks "
                "anew.",
                document_id=self.document["document_id"],
                field=review_form.SHOWN,
            )

    def _refuse_a_contradiction(self, chosen: str, document: Doubtful, answered: Mapping[str, Any]) -> None:
        changed = review_form.edited(document, answered)
        if chosen == review_form.APPROVE and changed:
            raise ReviewRefused(
                f"{', '.join(changed)}: changed in the form, and {chosen!r} was chosen, which takes the "
                f"values as they were read. Answer again: {review_form.CORRECT!r} takes those of the form.",
                document_id=document.document_id,
                field=changed[0],
            )
        if chosen == review_form.CORRECT and not review_form.changes(document, answered):
            raise ReviewRefused(
                f"{chosen!r} was chosen, and the form says what was read. Answer again: "
                f"{review_form.APPROVE!r} takes that.",
                document_id=document.document_id,
            )


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
        with permanent_errors_end_retries():
            decision = _decision(self.decision)
            warehouse = _warehouse(self.warehouse_conn_id, self.schema, self.table_prefix)
            done = decide(warehouse, decision, today=today())
            self.log.info(
                "Document %s: %s by %s.", done.document_id, done.review_status, decision.reviewed_by
            )
            for each in done.still_wrong:
                self.log.warning("Still wrong: %s (%s): %s", each.code, ", ".join(each.fields), each.message)
            return {
                "review_id": done.review_id,
                "document_id": done.document_id,
                "invoice_key": done.invoice_key,
                "review_status": done.review_status,
                "changed": sorted(decision.changes),
                "still_wrong": [each.code for each in done.still_wrong],
            }


def _warehouse(conn_id: str, schema: str | None, prefix: str) -> Warehouse:
    engine = database(conn_id, "warehouse_conn_id").engine()
    return Warehouse(engine, schema=schema or None, prefix=prefix)


def _params(document: Doubtful) -> ParamsDict:
    form = review_form.form(document).items()
    return ParamsDict(
        {
            name: Param(entry["value"], description=entry["description"], **entry["schema"])
            for name, entry in form
        }
    )


def _name(user: Mapping[str, str] | None) -> str:
    if not user:
        return NOBODY
    name, ident = user["name"], user["id"]
    return name if name == ident else f"{name} ({ident})"


def _decision(given: Any) -> Decision:
    names = {"document_id", "seen", "decision", "reviewed_by", "reviewed_at", "changes", "note"}
    if not isinstance(given, Mapping) or set(given) != names or given["decision"] not in get_args(Verdict):
        raise ConfigurationError(
            "decision: what JdOcrReviewInvoiceOperator returned is wanted. Pass its .output.",
            field="decision",
        )
    rest = {name: given[name] for name in names - {"decision", "reviewed_at"}}
    return Decision(
        verdict=given["decision"], reviewed_at=datetime.fromisoformat(given["reviewed_at"]), **rest
    )
