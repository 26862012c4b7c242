"""Odd answers in real databases: what the ledger is given it gives back, and one bad answer stops no other.

An input is a handful of replies. On each database the first is sent and settled through the ledger; all of
them are loaded into a warehouse, read back, and loaded again, which changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from airflow_provider_jdocr.core.account import Account, account_from_parts
from airflow_provider_jdocr.core.client import Reply
from airflow_provider_jdocr.core.documents import document_id, rows_of, storable
from airflow_provider_jdocr.core.endpoints import ENDPOINTS
from airflow_provider_jdocr.core.engines import engine_for
from airflow_provider_jdocr.core.errors import Verdict
from airflow_provider_jdocr.core.ledger import (
    Attempt,
    Claim,
    Identity,
    Ledger,
    RunKey,
    StoredAnswer,
)
from airflow_provider_jdocr.core.ledger import (
    Outcome as Became,
)
from airflow_provider_jdocr.core.loading import load_answers, read
from airflow_provider_jdocr.core.replies import read_reply
from airflow_provider_jdocr.core.sources import UNSTORABLE, Source
from airflow_provider_jdocr.core.warehouse import Warehouse
from tests import databases
from tests.fuzz import mutate
from tests.fuzz.replies import TODAY, Replies, stored
from tests.fuzz.run import Breach, Outcome

_LOG = logging.getLogger("tests.fuzz.warehouse")
_INPUTS_A_WAREHOUSE = 25
"""Replies of one invoice gather, and each load reads all that there are of it."""

Given = list[tuple[str, str, int, bytes]]
"""Endpoint, name of the file, HTTP status and body of each reply."""


@dataclass(frozen=True, slots=True)
class _Settled:
    answer_id: str | None


@dataclass(frozen=True, slots=True)
class _Answers:
    """A ledger that holds these answers, as loading reads it."""

    stored: Mapping[Identity, StoredAnswer]

    def recognitions(self, identities: Iterable[Identity]) -> Mapping[Identity, _Settled]:
        return {each: _Settled(self.stored[each].answer_id) for each in identities}

    def answers(self, identities: Sequence[Identity]) -> list[StoredAnswer]:
        return [self.stored[each] for each in identities]


class Warehouses:
    """Replies → rows of SQLite, PostgreSQL and, where it is installed, MariaDB."""

    name = "warehouse"
    seconds = 30.0
    megabytes = 500

    def __init__(self, urls: Sequence[str]) -> None:
        """``urls`` of empty databases."""
        self._replies = Replies()
        self._engines = [engine_for(url) for url in urls]
        self._ledgers = [Ledger(engine) for engine in self._engines]
        for ledger in self._ledgers:
            ledger.create()
        self._inputs, self._numbers = 0, count(1)
        self.warehouses: list[_Warehouse] = []

    def seeds(self) -> list[Given]:
        sound = [(endpoint, "s3://b/a.jpg", status, body) for endpoint, status, body in self._replies.seeds()]
        return [sound[at : at + 6] for at in range(0, len(sound), 6)]

    def new(self, rng: random.Random, seeds: Sequence[Given]) -> Given:
        return [self._one(rng, rng.choice(rng.choice(seeds))) for _ in range(rng.randint(1, 12))]

    def _one(self, rng: random.Random, seed: tuple[str, str, int, bytes]) -> tuple[str, str, int, bytes]:
        endpoint, uri, status, body = seed
        if rng.random() < 0.8:
            endpoint, status, body = self._replies.new(rng, [(endpoint, status, body)])
        if rng.random() < 0.3:
            uri = f"s3://b/{mutate.some_text(rng)[:2_000]}"
        return endpoint, uri, status, body

    def judge(self, given: Given) -> Outcome:
        if self._inputs % _INPUTS_A_WAREHOUSE == 0:
            self._start_afresh()
        self._inputs += 1
        answers, names = self._answers_to(given)
        said = []
        for ledger, warehouse in zip(self._ledgers, self.warehouses, strict=True):
            self._settle(ledger, given[0])
            said.append(_load(warehouse, answers, names))
        if len(set(said)) > 1:
            raise Breach(f"one load, other rows on every database: {said}")
        return Outcome("loaded", said[0])

    def _start_afresh(self) -> None:
        prefix = f"f{next(self._numbers)}_"
        for warehouse in self.warehouses:
            with warehouse.engine.begin() as db:
                for table in (
                    *(warehouse.tables.documents, warehouse.tables.invoices, warehouse.tables.lines),
                    *(warehouse.tables.findings, warehouse.tables.meta),
                ):
                    table.drop(db)
        self.warehouses = [_Warehouse(engine, prefix=prefix) for engine in self._engines]
        for warehouse in self.warehouses:
            warehouse.create()

    def _answers_to(self, given: Given) -> tuple[dict[Identity, StoredAnswer], dict[Identity, str]]:
        """The replies as answers to files that nobody has seen before."""
        answers, names = {}, {}
        for endpoint, uri, status, body in given:
            sha256 = hashlib.sha256(b"%d" % next(self._numbers)).hexdigest()
            reading = read_reply(ENDPOINTS[endpoint], status, body)
            answer = stored(endpoint, status, body, reading, sha256)
            answers[answer.identity], names[answer.identity] = answer, uri
        return answers, names

    def _settle(self, ledger: Ledger, reply: tuple[str, str, int, bytes]) -> None:
        """One call through the books, under an account of its own, since a quota code would stop the next."""
        endpoint, uri, status, body = reply
        number = next(self._numbers)
        account = _account(endpoint, number)
        run = RunKey("fuzz", f"run {number}", "recognise")
        identity = Identity(account.service, endpoint, hashlib.sha256(b"%d" % number).hexdigest())
        started = ledger.open_run(run)
        claim = ledger.claim(identity, run)
        if not isinstance(claim, Claim):
            raise Breach(f"a new file cannot be claimed: {claim}")
        attempt = ledger.begin(claim, account, run, sent_sha256=identity.sha256, asked_since=started)
        if not isinstance(attempt, Attempt):
            raise Breach(f"a call of a new account is not begun: {attempt}")
        reading = read_reply(account.endpoint, status, body)
        ledger.settle(attempt, account, reading, Reply(status, body, "text/plain", None, 0.1))
        kept = {answer.identity: answer for answer in ledger.answers([identity])}.get(identity)
        settled = reading.verdict in (Verdict.SUCCESS, Verdict.SETTLE_FAILED)
        if (kept is not None) is not settled:
            raise Breach(f"{reading.verdict}, and the ledger has {kept}")
        if kept is not None and (kept.body, kept.message) != (body, reading.message):
            raise Breach("the ledger gives back another reply than it was given")
        _note(ledger, account, run, uri, identity, reading.code, reading.message)


def _note(
    ledger: Ledger, account: Account, run: RunKey, uri: str, identity: Identity, code: str, message: str
) -> None:
    if UNSTORABLE.search(uri):
        return  # `select` rejects it before anything is written down
    ledger.remember_sources([(Source(uri, 1, "etag", None, 1.0), identity.sha256)])
    outcome = Became(uri, identity, "failed", code, message)
    ledger.write_outcomes(run, account, [outcome])
    (found,) = ledger.outcomes(run)
    if found != replace(outcome, code=found.code):
        raise Breach(f"noted {outcome}, found {found}")


def _account(endpoint: str, number: int) -> Account:
    extra = {"endpoint": endpoint, "qps": 1_000}
    return account_from_parts(
        login=f"key{number}", password="secret", host=None, port=None, schema=None, extra=extra
    )


class _Warehouse(Warehouse):
    """One whose engine can be asked for."""

    def __init__(self, engine: sa.Engine, *, prefix: str) -> None:
        super().__init__(engine, prefix=prefix)
        self.engine = engine


def _load(
    warehouse: Any, answers: Mapping[Identity, StoredAnswer], names: Mapping[Identity, str]
) -> tuple[int, ...]:
    """Loads, reads back, loads again; gives the counts of the first load."""
    ledger = _Answers(answers)
    report = load_answers(ledger, warehouse, names.items(), today=TODAY, log=_LOG)
    if (report.considered, report.loaded) != (len(answers), len(answers)):
        raise Breach(f"of {len(answers)} answers: {report}")
    for identity, answer in answers.items():
        _compare(warehouse, identity, answer, names[identity])
    again = load_answers(ledger, warehouse, names.items(), today=TODAY, log=_LOG)
    if again.already_loaded != len(answers):
        raise Breach(f"a second load is none: {again}")
    return report.failed, report.unparsed, report.invoices_inserted, report.conflicts, report.review


def _compare(warehouse: Any, identity: Identity, answer: StoredAnswer, uri: str) -> None:
    """The rows in the database against those that were handed to it."""
    expected = rows_of(read(answer, [uri], today=TODAY))
    tables, name = warehouse.tables, document_id(identity)
    with warehouse.engine.connect() as db:
        found = (
            db.execute(sa.select(tables.documents).where(tables.documents.c.document_id == name))
            .mappings()
            .one()
        )
        lines = db.execute(sa.select(tables.lines).where(tables.lines.c.document_id == name)).mappings().all()
        own = sa.and_(tables.findings.c.document_id == name, tables.findings.c.position > 0)
        findings = db.execute(sa.select(tables.findings).where(own)).mappings().all()
    changed = {"review_status"}  # by what other documents of the same invoice say
    for key, value in expected.document.items():
        value = json.loads(value) if key in ("evidence", "details") else value
        if key not in changed and not _same(found[key], value):
            raise Breach(f"{warehouse.engine.dialect.name}: {key} {_difference(found[key], value)}")
    by_number = {line["line_number"]: line for line in lines}
    for line in expected.lines:
        if any(not _same(by_number[line["line_number"]][key], value) for key, value in line.items()):
            raise Breach(f"{warehouse.engine.dialect.name}: line {line} is {by_number[line['line_number']]}")
    if [each["code"] for each in sorted(findings, key=lambda each: each["position"])] != [
        each.code for each in expected.findings
    ]:
        raise Breach(f"other findings: {findings}")


def _difference(found: Any, given: Any) -> str:
    if isinstance(found, dict) and isinstance(given, dict):
        keys = [key for key in {**found, **given} if found.get(key) != given.get(key)]
        found, given = {key: found.get(key) for key in keys}, {key: given.get(key) for key in keys}
    return f"was {given!r:.500}, is {found!r:.500}"


def _same(found: Any, given: Any) -> bool:
    """Equal, or as every database takes it; JSONB writes 1e300 with all its zeros, an int to Python."""
    if found == given or found == storable(given):
        return True
    return isinstance(found, dict) and _as_floats(found) == _as_floats(given)


def _as_floats(value: Any) -> Any:
    return json.loads(json.dumps(value), parse_int=float)


@contextmanager
def on_every_database() -> Iterator[Warehouses]:
    """The target with servers of its own: of every kind that there is."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="jdocr-fuzz-"))
        urls = [f"sqlite:///{Path(folder) / 'fuzz.db'}"]
        servers = [
            databases.postgres_server,
            *([databases.mariadb_server] if databases.has_mariadb() else []),
        ]
        started = [stack.enter_context(server()) for server in servers]
        urls += [stack.enter_context(databases.fresh_database(server)) for server in started]
        target = Warehouses(urls)
        yield target
        for warehouse in target.warehouses:
            warehouse.engine.dispose()
