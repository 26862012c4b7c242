"""The two ends of the line inside Airflow: recognise what a storage holds, load what a ledger holds.

Here stands what a DAG file needs of them. What a task needs when it runs, clients and databases and all,
is imported when it runs: a scheduler parses a DAG file over and over.

What only a person can put right becomes an `AirflowFailException`, which ends the retries; every other error
keeps its own class, for retry policies to match.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator, Context, conf

from airflow_provider_jdocr.arguments import DEFAULT_CONN_ID
from airflow_provider_jdocr.failures import permanent_errors_end_retries

if TYPE_CHECKING:
    from airflow_provider_jdocr.core.batch import Budget, QrRules, Stop
    from airflow_provider_jdocr.core.examining import Expectations
    from airflow_provider_jdocr.core.sources import Images

ON_QUOTA = ("wait", "stop", "fail")
RETURN_VALUE = "return_value"


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
        jdocr_conn_id: str = DEFAULT_CONN_ID,
        storage_conn_id: str | None = None,
        ignore: str | Sequence[str] = (),
        max_in_flight: int | str = 4,
        max_failed: int | str = 0,
        on_quota: str = "wait",
        in_doubt: str = "resend",
        resend: str = "none",
        budget: Budget | Mapping[str, Any] | str | None = None,
        escalate_to: str | None = None,
        checks: Expectations | Mapping[str, Any] | str | None = None,
        qr: QrRules | Mapping[str, Any] | str | None = None,
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
        from airflow_provider_jdocr.tasks import recognising

        self._kill = self._kill or threading.Event()
        with permanent_errors_end_retries():
            manifest = recognising.recognise(self, context, self._kill)
            if self.on_quota == "wait" and (waits := recognising.reset_to_wait_for(manifest)):
                self._defer(*waits)
            return recognising.conclude(self, manifest, context)

    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:  # noqa: ARG002 - by contract
        """After the reset: the ledger knows what is left to do, so the same task simply goes on."""
        return self.execute(context)

    def on_kill(self) -> None:
        """Begins nothing more; answers in flight are still written down."""
        # Airflow calls this from a signal handler, in the thread that may be inside the event's own lock.
        self._kill = self._kill or threading.Event()
        threading.Thread(target=self._kill.set).start()

    def _defer(self, stop: Stop, waiting: int) -> None:
        from airflow_provider_jdocr.triggers import JdOcrQuotaTrigger

        now = time.time()
        self.log.info("%s; %d images wait, without a worker slot.", stop.message, waiting)
        self.defer(
            trigger=JdOcrQuotaTrigger(now + (stop.seconds or 0.0), now), method_name="execute_complete"
        )


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
        jdocr_conn_id: str = DEFAULT_CONN_ID,
        storage_conn_id: str | None = None,
        checks: Expectations | Mapping[str, Any] | str | None = None,
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
        from airflow_provider_jdocr.tasks import loading

        with permanent_errors_end_retries():
            return loading.load(self, self._inputs_given, context)
