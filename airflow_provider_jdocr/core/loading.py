"""From ledger to warehouse: what is answered there and not yet here is read, checked and loaded.

The pairs are streamed. For each chunk the warehouse and the ledger's index are asked first; only the answers
that this warehouse lacks, or has from an older reader, are fetched and parsed. Costs no call.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import date
from itertools import islice
from typing import Protocol

from airflow_provider_jdocr.core.documents import PARSE_FAILED, Document, finding
from airflow_provider_jdocr.core.endpoints import ENDPOINTS
from airflow_provider_jdocr.core.errors import ParseError
from airflow_provider_jdocr.core.examining import Expectations, checking, examine, reading_version
from airflow_provider_jdocr.core.ledger import Identity, StoredAnswer
from airflow_provider_jdocr.core.parsing import parse
from airflow_provider_jdocr.core.qr import from_text
from airflow_provider_jdocr.core.warehouse import CHUNK_SIZE, LoadReport, Warehouse, is_missing

_LOG_EVERY = 10_000


class HasAnswerId(Protocol):
    @property
    def answer_id(self) -> str | None: ...


class Answers(Protocol):
    """The part of the ledger that loading reads."""

    def recognitions(self, identities: Iterable[Identity]) -> Mapping[Identity, HasAnswerId]:
        """The known ones among `identities`; `answer_id` None: not settled."""
        ...

    def answers(self, identities: Sequence[Identity]) -> list[StoredAnswer]:
        """Their settling answers, bodies and all; at most 500 identities a call."""
        ...


def load_answers(
    ledger: Answers,
    warehouse: Warehouse,
    items: Iterable[tuple[Identity, str]],
    *,
    today: date,
    log: logging.Logger,
    expectations: Expectations = Expectations(),  # noqa: B008 - frozen
) -> LoadReport:
    """Loads the answers to these (identity, URI) pairs, a transaction for each chunk of at most 500.

    Only URIs given here reach the warehouse. A repeated load, after a failure too, reads what is missing, and
    what was read with other expectations.
    """
    report = LoadReport()
    logged = 0
    for chunk in _chunks(items):
        report += _load_chunk(ledger, warehouse, chunk, today, expectations)
        if report.considered - logged >= _LOG_EVERY:
            logged = report.considered
            log.info("Loading: %s", _said(report))
    log.info("Loaded: %s", _said(report))
    return report


def read(
    answer: StoredAnswer,
    uris: Iterable[str],
    *,
    today: date,
    expectations: Expectations = Expectations(),  # noqa: B008 - frozen
) -> Document:
    """An answer, parsed and examined. An unreadable one is a finding, not an error."""
    version = reading_version(expectations)
    if answer.state == "failed":
        return Document(answer, tuple(uris), version=version)
    try:
        invoice = parse(ENDPOINTS[answer.identity.endpoint], answer.body)
    except ParseError as error:
        unread = finding(PARSE_FAILED, str(error), found=error.reason)
        return Document(answer, tuple(uris), None, (unread,), version)
    codes = from_text(answer.codes)
    invoice, findings = examine(invoice, today=today, codes=codes, expectations=expectations)
    return Document(answer, tuple(uris), invoice, findings, version)


def _load_chunk(
    ledger: Answers,
    warehouse: Warehouse,
    named: Mapping[Identity, set[str]],
    today: date,
    expectations: Expectations,
) -> LoadReport:
    known = ledger.recognitions(list(named))
    answered = {each: row.answer_id for each, row in known.items() if row.answer_id is not None}
    there = warehouse.loaded(named)
    version = reading_version(expectations)
    missing = [
        each for each, answer_id in answered.items() if is_missing(there.get(each), answer_id, version)
    ]
    answers = ledger.answers(missing) if missing else []
    documents = [
        read(answer, sorted(named[answer.identity]), today=today, expectations=expectations)
        for answer in answers
    ]
    fetched = {answer.identity for answer in answers}
    renamed = {
        each: uris
        for each, uris in named.items()
        if each in there and each not in fetched and not uris <= set(there[each].uris)
    }
    written = warehouse.load(documents, also_named=renamed, check=checking(today, expectations))
    rest = [each for each in named if each not in fetched]
    loaded_already = sum(each in there for each in rest)
    return written + LoadReport(
        considered=len(rest), already_loaded=loaded_already, not_answered=len(rest) - loaded_already
    )


def _chunks(items: Iterable[tuple[Identity, str]]) -> Iterator[dict[Identity, set[str]]]:
    stream = iter(items)
    while pairs := list(islice(stream, CHUNK_SIZE)):
        chunk: dict[Identity, set[str]] = {}
        for identity, uri in pairs:
            chunk.setdefault(identity, set()).add(uri)
        yield chunk


def _said(report: LoadReport) -> str:
    counts = ((each.name.replace("_", " "), getattr(report, each.name)) for each in fields(report))
    return ", ".join(f"{count} {name}" for name, count in counts if count or name == "considered")
