"""What the tasks of a review do when they run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, get_args

from airflow.providers.common.compat.sdk import AirflowSkipException
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
from airflow_provider_jdocr.failures import permanent_errors_end_retries
from airflow_provider_jdocr.review_answers import APPROVE, CORRECT, REJECT
from airflow_provider_jdocr.tasks.loading import open_warehouse, today

if TYPE_CHECKING:
    from airflow_provider_jdocr.reviewing import (
        JdOcrApplyReviewOperator,
        JdOcrDoubtfulInvoicesOperator,
        JdOcrReviewInvoiceOperator,
    )

MOST_DOCUMENTS = 100
"""Documents that one run asks about: each is two mapped tasks and a form that somebody has to read."""
NOBODY = "nobody: the time to answer was over"
_VERDICTS: Mapping[str, Verdict] = {APPROVE: "approve", CORRECT: "correct", REJECT: "reject"}


def listed(task: JdOcrDoubtfulInvoicesOperator) -> list[dict[str, str]]:
    """The documents in doubt, to be mapped over."""
    limit = arguments.whole("limit", task.limit, at_least=1)
    if limit > MOST_DOCUMENTS:
        raise ConfigurationError(
            f"limit: {limit} is more than {MOST_DOCUMENTS}. Name fewer: the next run asks about the rest.",
            field="limit",
        )
    warehouse = open_warehouse(task.warehouse_conn_id, task.schema, task.table_prefix)
    warehouse.create()
    found = doubtful(warehouse, limit=limit)
    task.log.info("%d documents are in doubt (at most %d are asked about).", len(found), limit)
    return [
        {"document_id": each.document_id, "seen": each.seen, "label": review_form.subject(each)}
        for each in found
    ]


def question(task: JdOcrReviewInvoiceOperator) -> tuple[str, str, ParamsDict]:
    """Subject, text and form. Skips a document that changed since it was listed."""
    document = _document(task)
    if document.seen != task.document["seen"]:
        raise AirflowSkipException("It is not as it was listed any more: the next run looks at it again.")
    form = review_form.form(document).items()
    params = {
        name: Param(entry["value"], description=entry["description"], **entry["schema"])
        for name, entry in form
    }
    return (
        review_form.subject(document),
        review_form.body(document, task.picture_url or None),
        ParamsDict(params),
    )


def answered(task: JdOcrReviewInvoiceOperator, answer: Mapping[str, Any]) -> dict[str, Any]:
    """The decision for `JdOcrApplyReviewOperator`. Raises `ReviewRefused` for an answer that cannot be taken:
    a retry asks again.
    """
    chosen, typed = answer["chosen_options"][0], answer["params_input"]
    with permanent_errors_end_retries():
        _refuse_an_old_form(task.document, typed)
        document = _document(task)
    changes = review_form.changes(document, typed)
    if document.seen == task.document["seen"]:  # else the decision will be refused, and for that reason
        _refuse_a_contradiction(chosen, document, typed, changes)
        if chosen == CORRECT:
            read_typed(changes)
    return {
        "document_id": document.document_id,
        "seen": task.document["seen"],
        "decision": _VERDICTS[chosen],
        "reviewed_by": _name(answer["responded_by_user"]),
        "reviewed_at": answer["responded_at"].isoformat(),
        "changes": changes if chosen == CORRECT else {},
        "note": typed.get(review_form.NOTE) or None,
    }


def applied(task: JdOcrApplyReviewOperator) -> dict[str, Any]:
    """What became of document and invoice, and the errors that the checks find in it still."""
    decision = _decision(task.decision)
    warehouse = open_warehouse(task.warehouse_conn_id, task.schema, task.table_prefix)
    done = decide(warehouse, decision, today=today())
    task.log.info("Document %s: %s by %s.", done.document_id, done.review_status, decision.reviewed_by)
    for each in done.still_wrong:
        task.log.warning("Still wrong: %s (%s): %s", each.code, ", ".join(each.fields), each.message)
    return {
        "review_id": done.review_id,
        "document_id": done.document_id,
        "invoice_key": done.invoice_key,
        "review_status": done.review_status,
        "changed": sorted(decision.changes),
        "still_wrong": [each.code for each in done.still_wrong],
    }


def _document(task: JdOcrReviewInvoiceOperator) -> Doubtful:
    warehouse = open_warehouse(task.warehouse_conn_id, task.schema, task.table_prefix)
    return shown(warehouse, task.document["document_id"])


def _refuse_an_old_form(document: Mapping[str, str], typed: Mapping[str, Any]) -> None:
    """Of a task that was cleared, Airflow goes on showing what it asked before."""
    given = typed.get(review_form.SHOWN)
    if given != review_form.shown(document["document_id"], document["seen"]):
        about = "came without the form" if given is None else "is about what an earlier try asked"
        raise ReviewRefused(
            f"{review_form.SHOWN}: the answer {about}, so nothing is done. Trigger a new run, which asks "
            "anew.",
            document_id=document["document_id"],
            field=review_form.SHOWN,
        )


def _refuse_a_contradiction(
    chosen: str, document: Doubtful, typed: Mapping[str, Any], changes: Mapping[str, str]
) -> None:
    edited = review_form.edited(document, typed)
    if chosen == APPROVE and edited:
        raise ReviewRefused(
            f"{', '.join(edited)}: changed in the form, and {chosen!r} was chosen, which takes the "
            f"values as they were read. Answer again: {CORRECT!r} takes those of the form.",
            document_id=document.document_id,
            field=edited[0],
        )
    if chosen == CORRECT and not changes:
        raise ReviewRefused(
            f"{chosen!r} was chosen, and the form says what was read. Answer again: {APPROVE!r} takes that.",
            document_id=document.document_id,
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
