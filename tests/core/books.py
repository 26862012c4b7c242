"""A ledger with a history, for the tests of those who read it: calls with their answers, under names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow_provider_jdocr.core.client import Reply, WireFailure
from airflow_provider_jdocr.core.engines import engine_for
from airflow_provider_jdocr.core.ledger import Attempt, Claim, Ledger, Outcome, RunKey
from airflow_provider_jdocr.core.replies import read_failure
from airflow_provider_jdocr.core.sources import Source
from tests.core import ledgers
from tests.core.ledgers import RUN, Clock, identity, read

ACCOUNT = ledgers.account()
LOST = WireFailure(code="read_timeout", reached=True, detail="no reply in 10 s", elapsed_seconds=10.0)
UNREACHED = WireFailure(code="connection_refused", reached=False, detail="refused", elapsed_seconds=0.0)


@contextmanager
def opened(url: str, clock: Clock) -> Iterator[Ledger]:
    engine = engine_for(url)
    ledger = Ledger(engine, clock=clock)
    ledger.create()
    yield ledger
    engine.dispose()


def begun(ledger: Ledger, name: str = "a", run: RunKey = RUN, **how: str) -> Attempt:
    """A call that is on its way, of a file that was listed as s3://bucket/<name>.jpg."""
    ledger.open_run(run)
    wanted = identity(name)
    ledger.remember_sources([(Source(uri(name), 1, etag=name), wanted.sha256)])
    claim = ledger.claim(wanted, run, **how)  # type: ignore[arg-type]
    assert isinstance(claim, Claim), claim
    attempt = ledger.begin(claim, ACCOUNT, run, sent_sha256=wanted.sha256, asked_since=0.0)
    assert isinstance(attempt, Attempt), attempt
    return attempt


def ended(ledger: Ledger, attempt: Attempt, answer: Reply | WireFailure) -> None:
    if isinstance(answer, WireFailure):
        ledger.settle(attempt, ACCOUNT, read_failure(answer), None)
    else:
        ledger.settle(attempt, ACCOUNT, read(answer, ACCOUNT), answer)


def called(
    ledger: Ledger, answer: Reply | WireFailure, name: str = "a", run: RunKey = RUN, **how: str
) -> Attempt:
    """A call and what came of it, with the outcome of its image."""
    attempt = begun(ledger, name, run, **how)
    ended(ledger, attempt, answer)
    noted(ledger, {"GOOD": "recognised"}.get(_kind(answer), "failed"), name, run)
    return attempt


def noted(
    ledger: Ledger, outcome: str, name: str = "a", run: RunKey = RUN, also_named: str | None = None
) -> None:
    """The outcome of an image in a task instance; `also_named`: the same picture once more."""
    ledger.open_run(run)
    names = [name] if also_named is None else [name, also_named]
    ledger.write_outcomes(run, ACCOUNT, [Outcome(uri(each), identity(name), outcome) for each in names])


def uri(name: str) -> str:
    return f"s3://bucket/{name}.jpg"


def _kind(answer: Reply | WireFailure) -> str:
    return "GOOD" if answer is ledgers.GOOD else ""
