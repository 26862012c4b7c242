"""What a recognising task does when it runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, cast, get_args

from airflow.providers.common.compat.sdk import Context

from airflow_provider_jdocr import arguments
from airflow_provider_jdocr.core.account import Account
from airflow_provider_jdocr.core.batch import Budget, Manifest, Policy, QrRules, Stop
from airflow_provider_jdocr.core.errors import BatchFailed, ConfigurationError
from airflow_provider_jdocr.core.escalation import recognise_escalating, refuse_same
from airflow_provider_jdocr.core.examining import Expectations
from airflow_provider_jdocr.core.ledger import InDoubt, Resend
from airflow_provider_jdocr.core.sources import select, validate_images
from airflow_provider_jdocr.hooks import JdOcrHook, run_key_of
from airflow_provider_jdocr.operators import ON_QUOTA, RETURN_VALUE
from airflow_provider_jdocr.storage import open_storage
from airflow_provider_jdocr.tasks.loading import today

if TYPE_CHECKING:
    from airflow_provider_jdocr.operators import JdOcrRecognizeInvoicesOperator


def recognise(task: JdOcrRecognizeInvoicesOperator, context: Context, stop: threading.Event) -> Manifest:
    """One outcome for each image of the task; nothing more is begun once `stop` is set."""
    policy, expectations = _policy(task), Expectations.of(task.checks)
    hook = JdOcrHook(task.jdocr_conn_id)
    account = hook.get_account()
    second = _second_account(hook, task.escalate_to)
    storage = open_storage(task.images, task.storage_conn_id or None)
    return recognise_escalating(
        select(task.images, storage, arguments.globs("ignore", task.ignore)),
        storage=storage,
        account=account,
        second=second,
        ledger=hook.get_ledger(),
        run=run_key_of(context["ti"]),
        policy=policy,
        today=today(),
        expectations=expectations,
        log=task.log,
        stop=stop,
    )


def conclude(task: JdOcrRecognizeInvoicesOperator, manifest: Manifest, context: Context) -> dict[str, Any]:
    """The manifest as it is pushed. Raises `BatchFailed`, after pushing it, where the task has to fail."""
    pushed = manifest.to_dict()
    reason, permanent = manifest.verdict(), manifest.permanent()
    if reason is None and task.on_quota == "fail" and (waits := reset_to_wait_for(manifest)):
        stop, waiting = waits
        reason = f"{stop.message}; {waiting} images wait and on_quota is 'fail'"
    if reason is not None:
        # Before the error: what was paid for can still be loaded.
        context["ti"].xcom_push(RETURN_VALUE, pushed)
        raise BatchFailed(_with_problems(reason, manifest), manifest=pushed, permanent=permanent)
    for part in manifest.parts:
        if part.waiting:
            said = part.stop.message if part.stop else "nobody says why"
            task.log.warning("%d images are left waiting: %s", part.waiting, said)
    return pushed


def reset_to_wait_for(manifest: Manifest) -> tuple[Stop, int] | None:
    """Why images wait that need no more than a reset, and how many: those of the first such endpoint."""
    for part in manifest.parts:
        if part.waiting and part.stop and part.stop.reason == "quota_until_reset":
            return part.stop, part.waiting
    return None


def _policy(task: JdOcrRecognizeInvoicesOperator) -> Policy:
    """The rendered arguments, checked. Raises `ConfigurationError` naming the argument."""
    validate_images(task.images)
    on_quota = arguments.choice("on_quota", task.on_quota, ON_QUOTA)
    return Policy(
        max_in_flight=arguments.whole("max_in_flight", task.max_in_flight, at_least=1),
        max_failed=arguments.whole("max_failed", task.max_failed),
        in_doubt=cast(InDoubt, arguments.choice("in_doubt", task.in_doubt, get_args(InDoubt))),
        resend=cast(Resend, arguments.choice("resend", task.resend, get_args(Resend))),
        wait_for_quota=on_quota == "wait" and not task.deferrable,
        budget=_budget(task.budget),
        qr=_qr_rules(task.qr),
    )


def _second_account(hook: JdOcrHook, conn_id: str | None) -> Account | None:
    """The account to escalate to. Raises `ConfigurationError` where its answers would be no second opinion,
    or in other books.
    """
    if conn_id in arguments.EMPTY:
        return None
    other = JdOcrHook(str(conn_id))
    try:
        account = other.get_account()
    except ConfigurationError as error:
        raise ConfigurationError(f"escalate_to: {error}", field="escalate_to") from error
    refuse_same(hook.get_account(), account)
    if not hook.shares_ledger_with(other):
        raise ConfigurationError(
            f"escalate_to: connection {conn_id!r} has another ledger than {hook.jdocr_conn_id!r}. "
            "Two answers to one picture belong into the same books: give both the same ledger_conn_id.",
            field="escalate_to",
        )
    return account


def _with_problems(reason: str, manifest: Manifest) -> str:
    """The reason and the first images that did not make it; the log names them all."""
    problems = [problem for part in manifest.parts for problem in part.problems]
    shown = [f"{problem['uri']}: {problem['code']}: {problem['message']}" for problem in problems[:3]]
    return "\n".join((reason, *shown))


def _budget(value: object) -> Budget:
    names = ("max_calls", "keep_remaining")
    given = arguments.keys("budget", asdict(value) if isinstance(value, Budget) else value, names)
    # A template that was left empty is no bound.
    return Budget(
        **{
            key: arguments.whole(f"budget {key}", given[key])
            for key in names
            if given.get(key) not in arguments.EMPTY
        }
    )


def _qr_rules(value: object) -> QrRules:
    given = arguments.keys("qr", asdict(value) if isinstance(value, QrRules) else value, tuple(_QR))
    chosen = {name: said for name, said in given.items() if said not in arguments.EMPTY}
    rules = QrRules(**{name: _QR[name](f"qr {name}", said) for name, said in chosen.items()})
    if not rules.read and rules != QrRules(read=False):
        raise ConfigurationError(
            "qr: same_invoice and no_invoice go by what the codes say, and read is false. Leave read out.",
            field="qr",
        )
    return rules


_QR: Mapping[str, Callable[[str, object], Any]] = {
    "read": arguments.flag,
    "same_invoice": partial(arguments.choice, allowed=("send", "reuse")),
    "no_invoice": partial(arguments.choice, allowed=("send", "reject")),
}
