"""What a planning task does when it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast, get_args

from airflow_provider_jdocr import arguments
from airflow_provider_jdocr.cli.printing import planned
from airflow_provider_jdocr.core.ledger import InDoubt, Resend
from airflow_provider_jdocr.core.planning import Terms, plan
from airflow_provider_jdocr.core.sources import folder_above, select, validate_images
from airflow_provider_jdocr.hooks import JdOcrHook
from airflow_provider_jdocr.storage import open_storage

if TYPE_CHECKING:
    from airflow_provider_jdocr.planning import JdOcrPlanOperator


def run(task: JdOcrPlanOperator) -> dict[str, Any]:
    """The plan for XCom, logged as well."""
    validate_images(task.images)
    terms, ignore = _terms(task), arguments.globs("ignore", task.ignore)
    hook = JdOcrHook(task.jdocr_conn_id)
    account = hook.get_account()
    price = arguments.price("price_per_call", task.price_per_call, account.price_per_call)
    storage = open_storage(task.images, task.storage_conn_id or None)
    found = plan(
        select(task.images, storage, ignore),
        folder=folder_above(task.images),
        storage=storage,
        account=account,
        ledger=hook.get_ledger(),
        terms=terms,
        price=price,
        log=task.log,
    ).to_dict()
    task.log.info("The plan:\n%s", planned(found))
    return found


def _terms(task: JdOcrPlanOperator) -> Terms:
    return Terms(
        in_doubt=cast(InDoubt, arguments.choice("in_doubt", task.in_doubt, get_args(InDoubt))),
        resend=cast(Resend, arguments.choice("resend", task.resend, get_args(Resend))),
        read=arguments.flag("read", task.read),
    )
