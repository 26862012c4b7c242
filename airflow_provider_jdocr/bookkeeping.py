"""The ledger's books inside Airflow: settle images in doubt, and read the bill. Neither makes a call.

Both take the account from `jdocr_conn_id` and see its service and endpoint alone, in the ledger it names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, date, datetime
from typing import Any, get_args

from airflow.providers.common.compat.sdk import BaseOperator, Context

from airflow_provider_jdocr import arguments
from airflow_provider_jdocr.cli.printing import table
from airflow_provider_jdocr.core.bill import COUNTS, MONEY, Span, as_dict, bill, day_of, total
from airflow_provider_jdocr.core.doubts import Doubt, Matching, age_seconds, doubts, settle
from airflow_provider_jdocr.core.errors import ConfigurationError
from airflow_provider_jdocr.core.ledger import Decision
from airflow_provider_jdocr.core.prices import CURRENCY
from airflow_provider_jdocr.failures import permanent_errors_end_retries
from airflow_provider_jdocr.hooks import JdOcrHook, run_key_of

LINES_AT_MOST = 1000
"""Lines that go through XCom. More of them are for SQL, or for ``airflow jdocr bill --output csv``."""
IMAGES_SHOWN = 20
REPORT = "report"
_TEXTS = ("dag_id", "run_id", "task_id", "prefix")


class JdOcrSettleDoubtsOperator(BaseOperator):
    """Counts the images in doubt, and settles them where it is told to. Returns counts and the first images.

    What is being asked for at this moment is left alone and counted as `busy`; an answer that comes after the
    decision still counts.

    :param decision: ``report`` changes nothing; ``ask-again`` lets the next run send each once more, also
        under ``in_doubt="hold"``; ``give-up`` settles each as failed, without an answer.
    :param matching: which ones, by all that is given: ``dag_id``, ``run_id``, ``task_id``, ``prefix``,
        ``sha256`` (a list), ``older_than`` (such as ``12h``). Nothing: all of this service and endpoint.
    :param charged: what JD's bill says of their calls: ``yes`` or ``no``; empty: nobody looked.
    :param reason: why; kept in the ledger with the task's name.
    :param jdocr_conn_id: names the ledger, and the service and endpoint whose images are meant.
    """

    template_fields: Sequence[str] = ("decision", "matching", "charged", "reason", "jdocr_conn_id")
    ui_color = "#efe6f7"

    def __init__(
        self,
        *,
        decision: str = REPORT,
        matching: Mapping[str, Any] | None = None,
        charged: str | None = None,
        reason: str = "",
        jdocr_conn_id: str = JdOcrHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.decision = decision
        self.matching = matching
        self.charged = charged
        self.reason = reason
        self.jdocr_conn_id = jdocr_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        with permanent_errors_end_retries():
            decision, charged = self._decision(), self._charged()
            hook = JdOcrHook(self.jdocr_conn_id)
            ledger, matching = hook.get_ledger(), _matching(self.matching, hook)
            found = doubts(ledger, matching)
            counts = {"matched": len(found), "resolved": 0, "busy": 0, "charges": 0}
            if decision:
                run = run_key_of(context["ti"])
                by = f"task {run.dag_id}.{run.task_id} of run {run.run_id}"
                done = settle(ledger, matching, decision, charged=charged, by=by, reason=self.reason)
                counts = asdict(done)
            self.log.info(
                "Images in doubt: %s", ", ".join(f"{count} {name}" for name, count in counts.items())
            )
            return {"decision": self.decision, **counts, "images": list(map(_shown, found[:IMAGES_SHOWN]))}

    def _decision(self) -> Decision | None:
        if self.decision == REPORT:
            return None
        for decision in get_args(Decision):
            if self.decision == decision:
                return decision  # type: ignore[no-any-return]  # one of the literal's
        raise ConfigurationError(
            f"decision: {self.decision!r} is not one of {REPORT}, {', '.join(get_args(Decision))}. "
            "Use one of these.",
            field="decision",
        )

    def _charged(self) -> bool | None:
        if self.charged in (None, "", "None"):
            return None
        if self.charged not in ("yes", "no"):
            raise ConfigurationError(
                f"charged: {self.charged!r} is neither yes nor no. Correct it.", field="charged"
            )
        return self.charged == "yes"


class JdOcrBillOperator(BaseOperator):
    """Reads the bill of some days, DAGs or pictures: calls, charged or not or maybe, reused, and yuan.

    Returns ``lines``, their ``total``, and what they were made with. Yuan are exact decimal texts, None where
    no price is known.

    :param since: first day: ``YYYY-MM-DD``, ``today`` or ``yesterday``, where the account's quota resets.
    :param until: last day, likewise.
    :param group_by: any of ``day``, ``dag_id``, ``run_id``, ``task_id``, ``service``, ``endpoint``,
        ``account``; none: one line.
    :param matching: which calls, by all that is given: ``dag_id``, ``run_id``, ``task_id``, ``prefix``.
    :param price_per_call: yuan a call, or one of JD's packs; empty: what the connection says.
    :param jdocr_conn_id: names the ledger, and the service and endpoint whose calls are meant.
    """

    template_fields: Sequence[str] = (
        "since",
        "until",
        "group_by",
        "matching",
        "price_per_call",
        "jdocr_conn_id",
    )
    ui_color = "#efe6f7"

    def __init__(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        group_by: Sequence[str] = ("day",),
        matching: Mapping[str, Any] | None = None,
        price_per_call: str | float | None = None,
        jdocr_conn_id: str = JdOcrHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.since = since
        self.until = until
        self.group_by = group_by
        self.matching = matching
        self.price_per_call = price_per_call
        self.jdocr_conn_id = jdocr_conn_id

    def execute(self, context: Context) -> dict[str, Any]:  # noqa: ARG002 - Airflow's signature
        with permanent_errors_end_retries():
            hook = JdOcrHook(self.jdocr_conn_id)
            account, ledger = hook.get_account(), hook.get_ledger()
            groups = _groups(self.group_by)
            price = arguments.price("price_per_call", self.price_per_call, account.price_per_call)
            since, until = (
                _day(name, value, ledger.now(), account.reset_timezone)
                for name, value in (("since", self.since), ("until", self.until))
            )
            span = Span(since, until, account.service, account.endpoint.name, **_texts(self.matching, _TEXTS))
            lines = bill(ledger.engine, span, groups, price=price, timezone=account.reset_timezone)
            if len(lines) > LINES_AT_MOST:
                raise ConfigurationError(
                    f"group_by: {len(lines)} lines are more than the {LINES_AT_MOST} that go through XCom. "
                    "Narrow it down, group by less, or ask the view jdocr_bill.",
                    field="group_by",
                )
            rows, whole = [as_dict(line, groups) for line in lines], replace(total(lines), price=price)
            shown = [*rows, dict.fromkeys(groups, "") | as_dict(whole, ())]
            self.log.info("The bill:\n%s", table(shown, (*groups, *COUNTS, *MONEY)))
            return {
                "since": since and str(since),
                "until": until and str(until),
                "timezone": account.reset_timezone,
                "currency": CURRENCY,
                "price_per_call": None if price is None else f"{price.normalize():f}",
                "lines": rows,
                "total": as_dict(whole, ()),
            }


def _matching(given: Mapping[str, Any] | None, hook: JdOcrHook) -> Matching:
    texts = _texts(given, (*_TEXTS, "sha256", "older_than"))
    digests, age = texts.pop("sha256", ()), texts.pop("older_than", None)
    try:
        seconds = age_seconds(age) if age else 0.0
    except ValueError as error:
        raise ConfigurationError(f"matching: older_than {error}. Correct it.", field="matching") from None
    account = hook.get_account()
    return Matching(
        service=account.service,
        endpoint=account.endpoint.name,
        sha256=(digests,) if isinstance(digests, str) else tuple(digests),
        older_than_seconds=seconds,
        **texts,
    )


def _texts(given: Mapping[str, Any] | None, names: Sequence[str]) -> dict[str, Any]:
    """What was given under these names. A template that was left empty is no bound."""
    texts = arguments.keys("matching", given, names)
    return {name: value for name, value in texts.items() if value not in (*arguments.EMPTY, [], ())}


def _groups(given: object) -> tuple[str, ...]:
    """Names, as a list or as one text with commas, which is what a template renders to."""
    if isinstance(given, str):
        return tuple(name.strip() for name in given.split(",") if name.strip())
    if isinstance(given, Sequence):
        return tuple(map(str, given))
    raise ConfigurationError(
        f"group_by: names are wanted, as a list; got {arguments.shown(given)}. Correct it.", field="group_by"
    )


def _day(name: str, given: str | None, now: float, timezone: str) -> date | None:
    try:
        return None if given in (None, "", "None") else day_of(str(given), now, timezone)
    except ValueError as error:
        raise ConfigurationError(f"{name}: {error}. Correct it.", field=name) from None


def _shown(doubt: Doubt) -> dict[str, Any]:
    call = doubt.call
    return {
        "uri": call.uri,
        "sha256": call.identity.sha256,
        **asdict(call.run),
        "sent_at": datetime.fromtimestamp(call.sent_at, UTC).isoformat(timespec="seconds"),
        "code": call.code,
        "request_id": call.request_id,
        "lease_seconds": round(doubt.lease_seconds),
    }
