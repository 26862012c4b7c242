"""Two endpoints as one: what the first one read and the checks doubt, a second one is asked for once.

After the batch at the first endpoint its answers are read from the ledger, a page at a time, as loading reads
them. An answer is doubted when its document could only go to review; whatever the service itself failed,
preflight rejected or nobody asked for has its outcome already and is not passed on. The doubted images are
the inputs of a second batch:

- it is a task instance of its own in the ledger, so its outcomes, calls and bill stand beside the first's;
- every law of a batch holds for it: once, in doubt, its own account's rate and quota;
- its identities are another endpoint's, so an image that has an answer there is never sent again;
- `max_calls` bounds the calls of both together, `max_failed` what both failed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import date
from functools import partial
from itertools import islice
from typing import Any

from airflow_provider_jdocr.core.account import Account
from airflow_provider_jdocr.core.batch import Manifest, Policy, recognise_batch
from airflow_provider_jdocr.core.documents import Document, rows_of
from airflow_provider_jdocr.core.errors import ConfigurationError
from airflow_provider_jdocr.core.examining import Expectations
from airflow_provider_jdocr.core.ledger import LOOKUP_SIZE, Ledger, RunKey
from airflow_provider_jdocr.core.loading import read
from airflow_provider_jdocr.core.sources import Missing, Source, Storage

_LOG = logging.getLogger(__name__)


def recognise_escalating(
    sources: Iterable[Source | Missing],
    *,
    storage: Storage,
    account: Account,
    second: Account | None,
    ledger: Ledger,
    run: RunKey,
    policy: Policy,
    today: date,
    expectations: Expectations = Expectations(),  # noqa: B008 - frozen
    log: Any = _LOG,
    stop: threading.Event | None = None,
) -> Manifest:
    """`recognise_batch` at `account`, then the images whose answers are doubted at `second`, if there is one.

    Where the first batch ended in a failure that is nobody's image's, the second endpoint is not asked: the
    task fails, and whoever runs it again asks then. Raises `ConfigurationError` before any call where a
    second opinion could only be the first one.
    """
    ask = partial(recognise_batch, storage=storage, ledger=ledger, log=log, stop=stop)
    if second is None:
        return ask(sources, account=account, run=run, policy=policy)
    refuse_same(account, second)
    apart = run_at(second, run)
    made = ledger.cost(apart).calls
    first = ask(sources, account=account, run=run, policy=replace(policy, calls_elsewhere=made))
    if first.is_broken_off:
        return first
    log.info("Asking %s for what the checks doubt", second.endpoint.name)
    images = doubted(ledger, run, today=today, expectations=expectations)
    asked = ask(images, account=second, run=apart, policy=replace(policy, calls_elsewhere=first.calls))
    return replace(first, escalation=asked)


def refuse_same(first: Account, second: Account) -> None:
    """An answer belongs to service and endpoint, whoever paid for it: there the second asking finds it."""
    if (first.service, first.endpoint.name) == (second.service, second.endpoint.name):
        raise ConfigurationError(
            f"escalate_to: this connection asks {second.endpoint.name} of {second.service} as well, at "
            f"{'the same' if first.fingerprint == second.fingerprint else 'another'} account. What it "
            "answered is in the ledger and would not be asked for again. Name a connection to another "
            "endpoint.",
            field="escalate_to",
        )


def run_at(account: Account, run: RunKey) -> RunKey:
    """The task instance as which the second endpoint is asked. No task of Airflow's has such a name."""
    return replace(run, task_id=f"{run.task_id}@{account.endpoint.name}")


def doubted(
    ledger: Ledger,
    run: RunKey,
    *,
    today: date,
    expectations: Expectations = Expectations(),  # noqa: B008 - frozen
) -> Iterator[Source]:
    """The answered images of a task instance whose answers the checks doubt, streamed by page.

    An answer whose raw reply was pruned cannot be read any more, and is not doubted.
    """
    answered = (
        (outcome.identity, outcome.uri)
        for outcome in ledger.outcomes(run)
        if outcome.identity and outcome.outcome in ("recognised", "reused")
    )
    while page := list(islice(answered, LOOKUP_SIZE)):
        answers = ledger.answers([identity for identity, _ in page])
        documents = (read(each, (), today=today, expectations=expectations) for each in answers)
        doubtful = {each.answer.identity for each in documents if is_doubtful(each)}
        yield from (Source(uri, sha256=each.sha256) for each, uri in page if each in doubtful)


def is_doubtful(document: Document) -> bool:
    """Whether the warehouse would send this answer to review, as far as the document alone can tell."""
    return document.answer.state == "recognised" and bool(rows_of(document).document["doubtful"])
