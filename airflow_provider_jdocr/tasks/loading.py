"""What a loading task does when it runs."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, cast
from zoneinfo import ZoneInfo

from airflow.providers.common.compat.sdk import Context

from airflow_provider_jdocr.core.batch import Manifest
from airflow_provider_jdocr.core.errors import BatchFailed, ConfigurationError
from airflow_provider_jdocr.core.examining import Expectations
from airflow_provider_jdocr.core.ledger import LOOKUP_SIZE, Identity, Ledger
from airflow_provider_jdocr.core.loading import load_answers
from airflow_provider_jdocr.core.sources import Images, Source, select
from airflow_provider_jdocr.core.warehouse import LoadReport, Warehouse
from airflow_provider_jdocr.databases import database
from airflow_provider_jdocr.hooks import JdOcrHook
from airflow_provider_jdocr.operators import RETURN_VALUE
from airflow_provider_jdocr.storage import open_storage

if TYPE_CHECKING:
    from airflow_provider_jdocr.operators import JdOcrLoadInvoicesOperator


def load(task: JdOcrLoadInvoicesOperator, inputs_given: int, context: Context) -> dict[str, Any]:
    """What was loaded, as counts. Raises `BatchFailed`, after loading, where the task has to fail."""
    if inputs_given != 1:
        raise ConfigurationError(
            f"images, manifest: exactly one of them is wanted; got {inputs_given}. "
            "Pass the output of the recognising task as manifest, or the images.",
            field="manifest",
        )
    expectations, manifests = Expectations.of(task.checks), _manifests(task.manifest)
    hook = JdOcrHook(task.jdocr_conn_id)
    ledger = hook.get_ledger()
    warehouse = open_warehouse(task.warehouse_conn_id, task.schema, task.table_prefix)
    warehouse.create()
    unseen: Counter[str] = Counter()
    items = (
        _of_manifests(ledger, manifests) if task.images is None else _of_images(task, hook, ledger, unseen)
    )
    log = cast(logging.Logger, task.log)
    report = load_answers(
        ledger, warehouse, items, today=today(), log=log, expectations=expectations
    ) + LoadReport(considered=unseen.total(), not_answered=unseen.total())
    return _conclude(task, asdict(report), manifests, context["ti"])


def open_warehouse(conn_id: str, schema: str | None, prefix: str) -> Warehouse:
    """The warehouse behind a connection; its tables may not be there yet."""
    engine = database(conn_id, "warehouse_conn_id").engine()
    return Warehouse(engine, schema=schema or None, prefix=prefix)


def today() -> date:
    """Today where the invoices are issued: a date ahead of it is a finding."""
    return datetime.now(ZoneInfo("Asia/Shanghai")).date()


def _of_images(
    task: JdOcrLoadInvoicesOperator, hook: JdOcrHook, ledger: Ledger, unseen: Counter[str]
) -> Iterator[tuple[Identity, str]]:
    """The recognitions of the task's images, by the listing alone where the ledger has seen these files
    before. The others are counted as unseen.
    """
    account = hook.get_account()
    images = cast(Images, task.images)
    found = select(images, open_storage(images, task.storage_conn_id or None))
    while page := list(islice(found, LOOKUP_SIZE)):
        known = ledger.known_sources([source for source in page if isinstance(source, Source)])
        unseen["images"] += len(page) - len(known)
        for uri, sha256 in known.items():
            yield Identity(account.service, account.endpoint.name, sha256), uri
    if unseen.total():
        task.log.warning(
            "%d images have not been recognised as they are now; nothing is loaded of them.",
            unseen.total(),
        )


def _conclude(
    task: JdOcrLoadInvoicesOperator, report: dict[str, Any], manifests: Sequence[Manifest], ti: Any
) -> dict[str, Any]:
    reasons = [reason for reason in (manifest.verdict() for manifest in manifests) if reason]
    above = sorted(task.upstream_task_ids)
    # A manifest that is missing cannot tell; a mapped task without one is not even counted.
    states = ["failed", "upstream_failed"]
    failed = (
        ti.get_ti_count(dag_id=ti.dag_id, task_ids=above, run_ids=[ti.run_id], states=states) if above else 0
    )
    if failed and not reasons:
        reasons = [f"{failed} task instances right above this one failed ({', '.join(above)})"]
    if reasons:
        ti.xcom_push(RETURN_VALUE, report)
        raise BatchFailed(
            f"What there is was loaded. {'; '.join(reasons[:10])}", manifest=report, permanent=True
        )
    if task.images is not None:
        _look_for_answers(task, report, ti)
    return report


def _look_for_answers(task: JdOcrLoadInvoicesOperator, report: dict[str, Any], ti: Any) -> None:
    """An inbox may be empty, and images may wait. That all of them do is a wrong connection, or too
    early.
    """
    images = report["considered"]
    if not images:
        task.log.warning("There is no image to load: nothing matches what was asked for")
    elif images == report["not_answered"]:
        ti.xcom_push(RETURN_VALUE, report)
        raise BatchFailed(
            f"images: none of {images} has an answer of this account's endpoint in the ledger; nothing "
            "was loaded. Run the recognising task first, or name the jdocr_conn_id that it has.",
            manifest=report,
        )


def _manifests(value: Any) -> list[Manifest]:
    """Those of one task or of a mapped one; tasks that pushed none leave a gap."""
    if value is None:
        return []
    if not isinstance(value, Mapping | Sequence) or isinstance(value, str | bytes):
        raise ConfigurationError(
            f"manifest: what a recognising task returned is wanted; got {type(value).__name__}. Pass "
            "its .output.",
            field="manifest",
        )
    return [Manifest.from_dict(one) for one in ([value] if isinstance(value, Mapping) else value) if one]


def _of_manifests(ledger: Ledger, manifests: Iterable[Manifest]) -> Iterator[tuple[Identity, str]]:
    """The recognitions that the tasks of the manifests asked for, with the URI of each."""
    for manifest in (part for whole in manifests for part in whole.parts):
        missing = manifest.inputs
        for outcome in ledger.outcomes(manifest.run):
            missing -= 1
            if outcome.identity and outcome.outcome in ("recognised", "reused", "failed"):
                yield outcome.identity, outcome.uri
        if missing == manifest.inputs > 0:
            raise ConfigurationError(
                f"manifest: the ledger knows nothing of the {missing} images of task "
                f"{manifest.run.task_id!r}. "
                "Name the same jdocr_conn_id as that task does.",
                field="jdocr_conn_id",
            )
