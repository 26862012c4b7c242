"""The two ends of the line inside Airflow: recognise what a storage holds, load what a ledger holds.

An operator renders its templates, resolves connections and clients on the main thread, calls the core and
hands its counts on. What only a person can put right becomes an `AirflowFailException`, which ends the
retries; every other error keeps its own class, for retry policies to match.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime
from functools import partial
from itertools import islice
from typing import Any, cast, get_args
from zoneinfo import ZoneInfo

from airflow.providers.common.compat.sdk import BaseOperator, Context, conf

from airflow_provider_jdocr import arguments
from airflow_provider_jdocr.core.account import Account
from airflow_provider_jdocr.core.batch import Budget, Manifest, Policy, QrRules, Stop
from airflow_provider_jdocr.core.errors import BatchFailed, ConfigurationError
from airflow_provider_jdocr.core.escalation import recognise_escalating, refuse_same
from airflow_provider_jdocr.core.examining import Expectations
from airflow_provider_jdocr.core.ledger import LOOKUP_SIZE, Identity, InDoubt, Ledger, Resend
from airflow_provider_jdocr.core.loading import load_answers
from airflow_provider_jdocr.core.sources import Images, Source, select, validate_images
from airflow_provider_jdocr.core.warehouse import LoadReport, Warehouse
from airflow_provider_jdocr.databases import database
from airflow_provider_jdocr.failures import permanent_errors_end_retries
from airflow_provider_jdocr.hooks import JdOcrHook, run_key_of
from airflow_provider_jdocr.storage import open_storage
from airflow_provider_jdocr.triggers import JdOcrQuotaTrigger

ON_QUOTA = ("wait", "stop", "fail")
_RETURN_VALUE = "return_value"


class JdOcrRecognizeInvoicesOperator(BaseOperator):
    """Recognises every image once and pushes a manifest of what became of each.

    Fails, after the whole batch was tried and the manifest was pushed, when more than `max_failed` images
    were rejected, failed or are held in doubt. A retry goes on where the ledger stands and pays nothing
    twice.

    :param images: a prefix (``s3://bucket/inbox/``), a glob, a list of URIs, or a key range of
        `split_prefix`.
    :param jdocr_conn_id: the account, the endpoint and, in its extras, the ledger.
    :param storage_conn_id: the connection that reads the images; empty for Airflow's ``aws_default``.
    :param ignore: globs of images to leave out; one without a slash is about the file's name.
    :param max_in_flight: images in memory and on their way at once. The rate is the account's, not this.
    :param max_failed: how many rejected, failed and held images the task may have and still succeed.
    :param on_quota: what to do when the quota is used up until its reset: ``wait`` for it, ``stop`` and
        succeed with the rest `waiting`, or ``fail``, to be retried.
    :param in_doubt: images that may have been charged without an answer: ``resend`` once, or ``hold`` them.
    :param resend: pay again for images that have an answer: ``none``, ``failed`` or ``all``; once a task
        instance.
    :param budget: ``{"max_calls": …, "keep_remaining": …}``: calls that this task instance may make, and
        calls that it leaves in the account.
    :param escalate_to: a ``jdocr`` connection to another endpoint, with the same ledger, which is asked once
        for each image whose answer the checks doubt; empty for none. What is said above holds for both
        endpoints, `max_failed` and ``max_calls`` for both together.
    :param checks: with which the answers are doubted for `escalate_to`; as of `JdOcrLoadInvoicesOperator`.
    :param qr: ``{"read": …, "same_invoice": …, "no_invoice": …}``: whether QR codes are read from the
        pictures for the checks; ``reuse`` takes the answer to another picture of the same invoice in place of
        a call; ``reject`` sends no picture of another document.
    :param deferrable: wait for the quota without a worker slot.
    """

    template_fields: Sequence[str] = (
        "images",
        "jdocr_conn_id",
        "storage_conn_id",
        "ignore",
        "max_in_flight",
        "max_failed",
        "on_quota",
        "in_doubt",
        "resend",
        "budget",
        "escalate_to",
        "checks",
        "qr",
    )
    ui_color = "#fde8e4"
    _kill: threading.Event | None = None

    def __init__(
        self,
        *,
        images: Images,
        jdocr_conn_id: str = JdOcrHook.default_conn_name,
        storage_conn_id: str | None = None,
        ignore: str | Sequence[str] = (),
        max_in_flight: int | str = 4,
        max_failed: int | str = 0,
        on_quota: str = "wait",
        in_doubt: str = "resend",
        resend: str = "none",
        budget: Budget | Mapping[str, Any] | None = None,
        escalate_to: str | None = None,
        checks: Expectations | Mapping[str, Any] | None = None,
        qr: QrRules | Mapping[str, Any] | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.images = images
        self.jdocr_conn_id = jdocr_conn_id
        self.storage_conn_id = storage_conn_id
        self.ignore = ignore
        self.max_in_flight = max_in_flight
        self.max_failed = max_failed
        self.on_quota = on_quota
        self.in_doubt = in_doubt
        self.resend = resend
        self.budget = budget
        self.escalate_to = escalate_to
        self.checks = checks
        self.qr = qr
        self.deferrable = deferrable

    def execute(self, context: Context) -> dict[str, Any]:
        with permanent_errors_end_retries():
            manifest = self._recognise(context)
            if self.on_quota == "wait" and (waits := _reset_to_wait_for(manifest)):
                self._defer(*waits)
            return self._conclude(manifest, context)

    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:  # noqa: ARG002 - by contract
        """After the reset: the ledger knows what is left to do, so the same task simply goes on."""
        return self.execute(context)

    def on_kill(self) -> None:
        """Begins nothing more; answers in flight are still written down."""
        # Airflow calls this from a signal handler, in the thread that may be inside the event's own lock.
        self._kill = self._kill or threading.Event()
        threading.Thread(target=self._kill.set).start()

    def _recognise(self, context: Context) -> Manifest:
        policy, expectations = self._policy(), Expectations.of(self.checks)
        hook = JdOcrHook(self.jdocr_conn_id)
        account = hook.get_account()
        second = _second_account(hook, self.escalate_to)
        storage = open_storage(self.images, self.storage_conn_id or None)
        self._kill = self._kill or threading.Event()
        return recognise_escalating(
            select(self.images, storage, arguments.globs("ignore", self.ignore)),
            storage=storage,
            account=account,
            second=second,
            ledger=hook.get_ledger(),
            run=run_key_of(context["ti"]),
            policy=policy,
            today=today(),
            expectations=expectations,
            log=self.log,
            stop=self._kill,
        )

    def _policy(self) -> Policy:
        """The rendered arguments, checked. Raises `ConfigurationError` naming the argument."""
        validate_images(self.images)
        on_quota = arguments.choice("on_quota", self.on_quota, ON_QUOTA)
        return Policy(
            max_in_flight=arguments.whole("max_in_flight", self.max_in_flight, at_least=1),
            max_failed=arguments.whole("max_failed", self.max_failed),
            in_doubt=cast(InDoubt, arguments.choice("in_doubt", self.in_doubt, get_args(InDoubt))),
            resend=cast(Resend, arguments.choice("resend", self.resend, get_args(Resend))),
            wait_for_quota=on_quota == "wait" and not self.deferrable,
            budget=_budget(self.budget),
            qr=_qr_rules(self.qr),
        )

    def _defer(self, stop: Stop, waiting: int) -> None:
        now = time.time()
        self.log.info("%s; %d images wait, without a worker slot.", stop.message, waiting)
        self.defer(
            trigger=JdOcrQuotaTrigger(now + (stop.seconds or 0.0), now), method_name="execute_complete"
        )

    def _conclude(self, manifest: Manifest, context: Context) -> dict[str, Any]:
        pushed = manifest.to_dict()
        reason, permanent = manifest.verdict(), manifest.permanent()
        if reason is None and self.on_quota == "fail" and (waits := _reset_to_wait_for(manifest)):
            stop, waiting = waits
            reason = f"{stop.message}; {waiting} images wait and on_quota is 'fail'"
        if reason is not None:
            # Before the error: what was paid for can still be loaded.
            context["ti"].xcom_push(_RETURN_VALUE, pushed)
            raise BatchFailed(_with_problems(reason, manifest), manifest=pushed, permanent=permanent)
        for part in manifest.parts:
            if part.waiting:
                said = part.stop.message if part.stop else "nobody says why"
                self.log.warning("%d images are left waiting: %s", part.waiting, said)
        return pushed


class JdOcrLoadInvoicesOperator(BaseOperator):
    """Parses, checks and loads what the ledger holds for some images, as an upsert; makes no call.

    Give either `images` or the `manifest` of a recognising task (or those of a mapped one). After loading
    it fails when a manifest says that its task failed, or when a task right above this one failed: under
    ``trigger_rule="all_done"``, which lets what was paid for be loaded, nothing else would tell of it. It
    fails, too, when images were given and none of them has an answer.

    :param images: as of `JdOcrRecognizeInvoicesOperator`; images without an answer are counted as
        `not_answered`, not asked for.
    :param manifest: what a recognising task returned, or a list of that.
    :param jdocr_conn_id: names the ledger and, for `images`, the endpoint whose answers are meant.
    :param warehouse_conn_id: the database of the tables.
    :param checks: ``{"buyers": […], "repairs": […]}``: for whom the invoices can be, each a name, a tax id or
        ``{"name": …, "tax_id": …}``; and the codes of findings whose proposals are carried out.
    :param schema: schema of the tables; empty for the connection's default.
    :param table_prefix: what the names of the tables begin with.
    """

    template_fields: Sequence[str] = (
        "images",
        "manifest",
        "jdocr_conn_id",
        "storage_conn_id",
        "warehouse_conn_id",
        "checks",
        "schema",
        "table_prefix",
    )
    ui_color = "#e4f4e8"

    def __init__(
        self,
        *,
        warehouse_conn_id: str,
        images: Images | None = None,
        manifest: Any = None,
        jdocr_conn_id: str = JdOcrHook.default_conn_name,
        storage_conn_id: str | None = None,
        checks: Expectations | Mapping[str, Any] | None = None,
        schema: str | None = None,
        table_prefix: str = "jdocr_",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.images = images
        self.manifest = manifest
        self.jdocr_conn_id = jdocr_conn_id
        self.storage_conn_id = storage_conn_id
        self.warehouse_conn_id = warehouse_conn_id
        self.checks = checks
        self.schema = schema
        self.table_prefix = table_prefix
        # A manifest that was given may still render to None: its task was skipped, or failed before it had
        # one.
        self._inputs_given = (images is not None) + (manifest is not None)

    def execute(self, context: Context) -> dict[str, Any]:
        with permanent_errors_end_retries():
            if self._inputs_given != 1:
                raise ConfigurationError(
                    f"images, manifest: exactly one of them is wanted; got {self._inputs_given}. "
                    "Pass the output of the recognising task as manifest, or the images.",
                    field="manifest",
                )
            expectations, manifests = Expectations.of(self.checks), _manifests(self.manifest)
            hook = JdOcrHook(self.jdocr_conn_id)
            ledger = hook.get_ledger()
            engine = database(self.warehouse_conn_id, "warehouse_conn_id").engine()
            warehouse = Warehouse(engine, schema=self.schema or None, prefix=self.table_prefix)
            warehouse.create()
            unseen: Counter[str] = Counter()
            items = (
                _of_manifests(ledger, manifests)
                if self.images is None
                else self._of_images(hook, ledger, self.images, unseen)
            )
            log = cast(logging.Logger, self.log)
            report = load_answers(
                ledger, warehouse, items, today=today(), log=log, expectations=expectations
            ) + LoadReport(considered=unseen.total(), not_answered=unseen.total())
            return self._conclude(asdict(report), manifests, context)

    def _of_images(
        self, hook: JdOcrHook, ledger: Ledger, images: Images, unseen: Counter[str]
    ) -> Iterator[tuple[Identity, str]]:
        """The recognitions of the images, by the listing alone where the ledger has seen these files
        before. The others are counted as unseen.
        """
        account = hook.get_account()
        storage = open_storage(images, self.storage_conn_id or None)
        found = select(images, storage)
        while page := list(islice(found, LOOKUP_SIZE)):
            known = ledger.known_sources([source for source in page if isinstance(source, Source)])
            unseen["images"] += len(page) - len(known)
            for uri, sha256 in known.items():
                yield Identity(account.service, account.endpoint.name, sha256), uri
        if unseen.total():
            self.log.warning(
                "%d images have not been recognised as they are now; nothing is loaded of them.",
                unseen.total(),
            )

    def _conclude(
        self, report: dict[str, Any], manifests: Sequence[Manifest], context: Context
    ) -> dict[str, Any]:
        ti = context["ti"]
        reasons = [reason for reason in (manifest.verdict() for manifest in manifests) if reason]
        above = sorted(self.upstream_task_ids)
        # A manifest that is missing cannot tell; a mapped task without one is not even counted.
        states = ["failed", "upstream_failed"]
        failed = (
            ti.get_ti_count(dag_id=ti.dag_id, task_ids=above, run_ids=[ti.run_id], states=states)
            if above
            else 0
        )
        if failed and not reasons:
            reasons = [f"{failed} task instances right above this one failed ({', '.join(above)})"]
        if reasons:
            ti.xcom_push(_RETURN_VALUE, report)
            raise BatchFailed(
                f"What there is was loaded. {'; '.join(reasons[:10])}", manifest=report, permanent=True
            )
        if self.images is not None:
            self._look_for_answers(report, ti)
        return report

    def _look_for_answers(self, report: dict[str, Any], ti: Any) -> None:
        """An inbox may be empty, and images may wait. That all of them do is a wrong connection, or too
        early.
        """
        images = report["considered"]
        if not images:
            self.log.warning("There is no image to load: nothing matches what was asked for")
        elif images == report["not_answered"]:
            ti.xcom_push(_RETURN_VALUE, report)
            raise BatchFailed(
                f"images: none of {images} has an answer of this account's endpoint in the ledger; nothing "
                "was loaded. Run the recognising task first, or name the jdocr_conn_id that it has.",
                manifest=report,
            )


def _with_problems(reason: str, manifest: Manifest) -> str:
    """The reason and the first images that did not make it; the log names them all."""
    problems = [problem for part in manifest.parts for problem in part.problems]
    shown = [f"{problem['uri']}: {problem['code']}: {problem['message']}" for problem in problems[:3]]
    return "\n".join((reason, *shown))


def _reset_to_wait_for(manifest: Manifest) -> tuple[Stop, int] | None:
    """Why images wait that need no more than a reset, and how many: those of the first such endpoint."""
    for part in manifest.parts:
        if part.waiting and part.stop and part.stop.reason == "quota_until_reset":
            return part.stop, part.waiting
    return None


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


def today() -> date:
    """Today where the invoices are issued: a date ahead of it is a finding."""
    return datetime.now(ZoneInfo("Asia/Shanghai")).date()


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
