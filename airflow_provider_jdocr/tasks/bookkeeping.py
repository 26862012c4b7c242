"""What the tasks do that settle images in doubt and read the bill, when they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, cast, get_args

from airflow.providers.common.compat.sdk import Context

from airflow_provider_jdocr import arguments
from airflow_provider_jdocr.bookkeeping import REPORT
from airflow_provider_jdocr.cli.printing import table
from airflow_provider_jdocr.core.bill import COUNTS, MONEY, Span, as_dict, bill, day_of, total
from airflow_provider_jdocr.core.doubts import Doubt, Matching, age_seconds, doubts, settle
from airflow_provider_jdocr.core.errors import ConfigurationError
from airflow_provider_jdocr.core.ledger import Decision
from airflow_provider_jdocr.core.prices import CURRENCY
from airflow_provider_jdocr.hooks import JdOcrHook, run_key_of

if TYPE_CHECKING:
    from airflow_provider_jdocr.bookkeeping import JdOcrBillOperator, JdOcrSettleDoubtsOperator

LINES_AT_MOST = 1000
"""Lines that go through XCom. More of them are for SQL, or for ``airflow jdocr bill --output csv``."""
IMAGES_SHOWN = 20
_TEXTS = ("dag_id", "run_id", "task_id", "prefix")


def settle_doubts(task: JdOcrSettleDoubtsOperator, context: Context) -> dict[str, Any]:
    """Counts, and the first images."""
    decision, charged = _decision(task.decision), _charged(task.charged)
    hook = JdOcrHook(task.jdocr_conn_id)
    ledger, matching = hook.get_ledger(), _matching(task.matching, hook)
    found = doubts(ledger, matching)
    counts = {"matched": len(found), "resolved": 0, "busy": 0, "charges": 0}
    if decision:
        run = run_key_of(context["ti"])
        by = f"task {run.dag_id}.{run.task_id} of run {run.run_id}"
        done = settle(ledger, matching, decision, charged=charged, by=by, reason=task.reason)
        counts = asdict(done)
    task.log.info("Images in doubt: %s", ", ".join(f"{count} {name}" for name, count in counts.items()))
    return {"decision": task.decision, **counts, "images": list(map(_shown, found[:IMAGES_SHOWN]))}


def read_bill(task: JdOcrBillOperator) -> dict[str, Any]:
    """The lines, their total and what they were made with."""
    hook = JdOcrHook(task.jdocr_conn_id)
    account, ledger = hook.get_account(), hook.get_ledger()
    groups = _groups(task.group_by)
    price = arguments.price("price_per_call", task.price_per_call, account.price_per_call)
    since, until = (
        _day(name, value, ledger.now(), account.reset_timezone)
        for name, value in (("since", task.since), ("until", task.until))
    )
    span = Span(since, until, account.service, account.endpoint.name, **_texts(task.matching, _TEXTS))
    lines = bill(ledger.engine, span, groups, price=price, timezone=account.reset_timezone)
    if len(lines) > LINES_AT_MOST:
        raise ConfigurationError(
            f"group_by: {len(lines)} lines are more than the {LINES_AT_MOST} that go through XCom. "
            "Narrow it down, group by less, or ask the view jdocr_bill.",
            field="group_by",
        )
    rows, whole = [as_dict(line, groups) for line in lines], replace(total(lines), price=price)
    shown = [*rows, dict.fromkeys(groups, "") | as_dict(whole, ())]
    task.log.info("The bill:\n%s", table(shown, (*groups, *COUNTS, *MONEY)))
    return {
        "since": since and str(since),
        "until": until and str(until),
        "timezone": account.reset_timezone,
        "currency": CURRENCY,
        "price_per_call": None if price is None else f"{price.normalize():f}",
        "lines": rows,
        "total": as_dict(whole, ()),
    }


def _decision(given: object) -> Decision | None:
    chosen = arguments.choice("decision", given, (REPORT, *get_args(Decision)))
    return None if chosen == REPORT else cast(Decision, chosen)


def _charged(given: object) -> bool | None:
    if given in arguments.EMPTY:
        return None
    if given not in ("yes", "no"):
        raise ConfigurationError(f"charged: {given!r} is neither yes nor no. Correct it.", field="charged")
    return given == "yes"


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
        return None if given in arguments.EMPTY else day_of(str(given), now, timezone)
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
