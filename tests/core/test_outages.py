"""A database that takes transactions back, goes away and comes again: nothing is done twice, nothing is lost,
and nothing is sent that cannot be written down. On real servers, which are stopped and started.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from airflow_provider_jdocr.core import batch, engines
from airflow_provider_jdocr.core.engines import engine_for
from airflow_provider_jdocr.core.errors import LedgerError, LedgerUnavailable
from airflow_provider_jdocr.core.ledger import Attempt, Busy, Claim, Ledger, Outcome, SettledAlready
from airflow_provider_jdocr.core.rate import Slot, nominal_seconds
from airflow_provider_jdocr.core.sources import Source
from tests import databases
from tests.core import ledgers
from tests.core.ledgers import GOOD, OTHER_RUN, RUN, identity, read
from tests.core.test_batch import Bench, Service, counts, pictures

ACCOUNT = ledgers.account(daily_limit=100)
SERVERS: dict[str, Callable[[], AbstractContextManager[databases.Server]]] = {
    "postgresql": databases.running_postgres,
    "mysql": databases.running_mariadb,
}


@pytest.fixture
def ledger(engine: sa.Engine) -> Ledger:
    made = Ledger(engine)
    made.create()
    made.take_slot(ACCOUNT)
    return made


@pytest.fixture(params=list(SERVERS), scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[databases.Server]:
    """A server of these tests' own: nobody else's is stopped."""
    if request.param == "mysql" and not databases.has_mariadb():
        pytest.skip(databases.MARIADB_IS_ABSENT)
    with SERVERS[request.param]() as running:
        yield running


@pytest.fixture
def bench(server: databases.Server) -> Iterator[Bench]:
    with databases.fresh_database(server.url) as url:
        made = Bench(url)
        yield made
        made.engine.dispose()


class Unacknowledged:
    """Commits, and then says that the connection broke: what an outage in the wrong moment looks like."""

    def __init__(self, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self._dialect: Any = engine.dialect
        self._commit = self._dialect.do_commit
        self._times = 0
        monkeypatch.setattr(self._dialect, "do_commit", self._do_commit)
        sa.event.listen(engine, "after_cursor_execute", self._after_statement)

    def next(self, times: int = 1) -> None:
        self._times = times

    def _after_statement(self, db: sa.Connection, _cursor: object, statement: str, *_: object) -> None:
        alone = db.get_execution_options().get("isolation_level") == "AUTOCOMMIT"
        if self._times and alone and statement.startswith("UPDATE"):
            self._break()

    def _break(self) -> None:
        self._times -= 1
        raise self._dialect.loaded_dbapi.OperationalError("the connection broke")

    def _do_commit(self, connection: Any) -> None:
        self._commit(connection)
        if self._times:
            self._break()


@pytest.fixture
def unacknowledged(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> Unacknowledged:
    monkeypatch.setattr(engines, "time", _NoWait())
    return Unacknowledged(engine, monkeypatch)


class _NoWait:
    @staticmethod
    def sleep(_seconds: float) -> None: ...

    @staticmethod
    def monotonic() -> float:
        return 0.0


def claimed(ledger: Ledger, name: str = "a") -> Claim:
    claim = ledger.claim(identity(name), RUN)
    assert isinstance(claim, Claim)
    return claim


def begun(ledger: Ledger, claim: Claim) -> Attempt:
    attempt = ledger.begin(claim, ACCOUNT, RUN, sent_sha256="0" * 64, asked_since=0.0)
    assert isinstance(attempt, Attempt)
    return attempt


def attempts(engine: sa.Engine) -> int:
    with engine.connect() as db:
        return int(db.execute(sa.text("SELECT count(*) FROM jdocr_attempt")).scalar_one())


# --- a commit whose acknowledgement was lost


def test_a_claim_that_was_committed_unheard_is_its_owners(
    ledger: Ledger, unacknowledged: Unacknowledged
) -> None:
    unacknowledged.next()
    claim = claimed(ledger)
    assert isinstance(ledger.claim(identity(), OTHER_RUN), Busy)
    begun(ledger, claim)


def test_an_attempt_that_was_committed_unheard_is_one_attempt_and_no_doubt(
    ledger: Ledger, engine: sa.Engine, unacknowledged: Unacknowledged
) -> None:
    claim = claimed(ledger)
    unacknowledged.next()
    attempt = begun(ledger, claim)
    assert (attempts(engine), ledger.quota(ACCOUNT).used) == (1, 1)
    unacknowledged.next()
    ledger.settle(attempt, ACCOUNT, read(GOOD, ACCOUNT), GOOD)
    assert (ledger.cost(RUN).calls, ledger.cost(RUN).charged) == (1, 1)
    assert isinstance(ledger.claim(identity(), OTHER_RUN), SettledAlready)


def test_who_asks_again_after_an_error_gets_what_was_his(
    ledger: Ledger, engine: sa.Engine, unacknowledged: Unacknowledged
) -> None:
    """As a batch does that waits for a database to come back."""
    token = "f" * 32
    unacknowledged.next(engines.QUICK_TRIES)
    with pytest.raises(LedgerUnavailable, match="the connection broke"):
        ledger.claim(identity(), RUN, token=token)
    claim = ledger.claim(identity(), RUN, token=token)
    assert isinstance(claim, Claim)
    unacknowledged.next(engines.QUICK_TRIES)
    with pytest.raises(LedgerUnavailable):
        begun(ledger, claim)
    begun(ledger, claim)
    assert (attempts(engine), ledger.quota(ACCOUNT).used) == (1, 1)


def test_an_attempt_that_leaves_late_has_its_whole_lease(ledger: Ledger, engine: sa.Engine) -> None:
    claim = claimed(ledger)
    begun(ledger, claim)
    with engine.begin() as db:
        for table in ("jdocr_recognition", "jdocr_attempt"):
            db.execute(sa.text(f"UPDATE {table} SET lease_until = lease_until - 40"))  # noqa: S608
    begun(ledger, claim)
    with engine.connect() as db:
        for table in ("jdocr_recognition", "jdocr_attempt"):
            left = db.execute(sa.text(f"SELECT lease_until FROM {table}")).scalar_one() - ledger.now()  # noqa: S608
            assert left > 40


def test_an_attempt_whose_lease_has_ended_is_not_sent(ledger: Ledger, engine: sa.Engine) -> None:
    """By then another may be asking."""
    claim = claimed(ledger)
    begun(ledger, claim)
    with engine.begin() as db:
        db.execute(sa.text("UPDATE jdocr_recognition SET lease_until = lease_until - 1000"))
    assert ledger.begin(claim, ACCOUNT, RUN, sent_sha256="0" * 64, asked_since=0.0) is None


def test_a_slot_that_was_committed_unheard_is_wasted_and_not_given_twice(
    ledger: Ledger, unacknowledged: Unacknowledged
) -> None:
    before = starts(ledger)
    unacknowledged.next()
    first, second = starts(ledger), starts(ledger)
    assert first - before >= 2 * nominal_seconds(ACCOUNT.qps) - 0.001
    assert second - first >= nominal_seconds(ACCOUNT.qps) - 0.001


def starts(ledger: Ledger) -> float:
    slot = ledger.take_slot(ACCOUNT)
    assert isinstance(slot, Slot)
    return slot.granted_at + slot.seconds


def test_outcomes_that_were_committed_unheard_are_one_row_each(
    ledger: Ledger, unacknowledged: Unacknowledged
) -> None:
    row = Outcome("s3://b/a", identity(), "recognised", "0")
    unacknowledged.next()
    ledger.write_outcomes(RUN, ACCOUNT, [row])
    assert list(ledger.outcomes(RUN)) == [row]


# --- transactions that are taken back


def test_a_commit_that_fails_leaves_no_transaction_open(
    ledger: Ledger, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialect: Any = engine.dialect
    commit, failures = dialect.do_commit, iter([True, False, True, False, True, False])

    def fail_first(connection: Any) -> None:
        if next(failures, False):
            raise dialect.loaded_dbapi.OperationalError("no room")
        commit(connection)

    monkeypatch.setattr(engines, "time", _NoWait())
    claim = claimed(ledger)
    ledger.now()
    monkeypatch.setattr(dialect, "do_commit", fail_first)
    attempt = begun(ledger, claim)
    ledger.settle(attempt, ACCOUNT, read(GOOD, ACCOUNT), GOOD)
    claimed(ledger, "b")
    assert [answer.body for answer in ledger.answers([identity()])] == [GOOD.body]
    assert attempts(engine) == 1


@pytest.mark.parametrize("kind", ["postgres_url", "mariadb_url"])
def test_a_reply_survives_a_deadlock(kind: str, request: pytest.FixtureRequest) -> None:
    """Somebody else's statements lock the same rows the other way round, and the database chooses us."""
    engine = engine_for(request.getfixturevalue(kind))
    ledger = Ledger(engine)
    ledger.create()
    attempt = begun(ledger, claimed(ledger))
    errors: list[sa.engine.ExceptionContext] = []
    halfway = threading.Event()
    sa.event.listen(engine, "handle_error", errors.append)

    @sa.event.listens_for(engine, "after_cursor_execute")
    def _tell(_db: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("UPDATE jdocr_recognition"):
            halfway.set()

    opponent = engine_for(request.getfixturevalue(kind))
    with opponent.begin() as db:
        if opponent.dialect.name == "postgresql":  # who notices is the one to give way
            db.execute(sa.text("SET LOCAL deadlock_timeout = '60s'"))
        db.execute(sa.text("UPDATE jdocr_account SET used = used"))
        for number in range(50):  # and in MySQL who has written less
            row = {"digest": str(number), "seen_at": 0.0}
            values = "(:digest, 'u', 's', 't', :seen_at)"
            db.execute(sa.text(f"INSERT INTO jdocr_source VALUES {values}"), row)  # noqa: S608
        settling = threading.Thread(target=ledger.settle, args=(attempt, ACCOUNT, read(GOOD, ACCOUNT), GOOD))
        settling.start()
        assert halfway.wait(20)
        db.execute(sa.text("UPDATE jdocr_recognition SET doubts = doubts"))
    settling.join(60)
    codes = {engines.code_of(each.sqlalchemy_exception) for each in errors}  # type: ignore[arg-type]
    assert codes == ({"40P01"} if engine.dialect.name == "postgresql" else {1213})
    assert [answer.body for answer in ledger.answers([identity()])] == [GOOD.body]
    for each in (engine, opponent):
        each.dispose()


def test_what_cannot_pass_is_said_at_once_without_a_password(engine: sa.Engine) -> None:
    ledger = Ledger(engine)
    with pytest.raises(LedgerError, match=r"refused: .*jdocr_source") as refused:
        ledger.known_sources([Source("s3://b/a", 1, "etag")])
    assert not isinstance(refused.value, LedgerUnavailable)
    assert has_no_password(engine, str(refused.value))


def has_no_password(engine: sa.Engine, text: str) -> bool:
    return not engine.url.password or str(engine.url.password) not in text


# --- servers that go away


def test_a_batch_goes_on_where_the_database_was_restarted(
    server: databases.Server, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three times, while calls are in flight: each is answered once, and each answer is kept."""
    monkeypatch.setattr(batch, "STORE_PAUSE_SECONDS", 0.05)
    service, restarts = Service(), iter([5, 12, 20])
    next_restart = [next(restarts)]
    one_at_a_time = threading.Lock()

    def restart_now_and_then() -> None:
        with one_at_a_time:
            if len(service.calls) >= next_restart[0]:
                next_restart[0] = next(restarts, 10**6)
                server.stop()
                server.start()

    service.before = restart_now_and_then
    manifest = bench.run(pictures(30), service, max_in_flight=4)
    assert next_restart[0] == 10**6
    assert counts(manifest) == {"recognised": 30}
    assert len(service.calls) == len(set(service.calls)) == 30
    assert (manifest.calls, manifest.charged, manifest.charged_unknown) == (30, 30, 0)


def test_nothing_is_sent_while_the_database_is_away_and_the_task_says_where_it_was(
    server: databases.Server, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "STORE_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(batch, "STORE_SECONDS", 0.5)
    service = Service()
    begin, stops = bench.ledger.begin, iter([server.stop])

    def away(*args: Any, **kwargs: Any) -> Any:
        # It is asked again and again, and a server that is stopped cannot be stopped.
        next(stops, lambda: None)()
        return begin(*args, **kwargs)

    monkeypatch.setattr(bench.ledger, "begin", away)
    try:
        with pytest.raises(LedgerUnavailable) as failed:
            bench.run(pictures(3), service, max_in_flight=1)
    finally:
        server.start()
        monkeypatch.undo()
    assert service.calls == []
    assert str(bench.engine.url.database) in str(failed.value)
    assert has_no_password(bench.engine, str(failed.value))
    bench.clock.pass_(1000)
    assert counts(bench.run(pictures(3), service)) == {"recognised": 3}
    assert len(service.calls) == 3


def test_an_answer_in_hand_waits_for_the_database_to_come_back(
    server: databases.Server, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "STORE_PAUSE_SECONDS", 0.05)
    service = Service()
    comes_back = threading.Timer(1.0, server.start)

    def away() -> None:
        server.stop()
        comes_back.start()

    service.before = away
    assert counts(bench.run(pictures(1), service)) == {"recognised": 1}
    comes_back.join()
    assert len(service.calls) == 1


def test_slots_from_before_an_outage_are_void_behind_it(bench: Bench) -> None:
    """Else all who had one would leave at once."""
    slot = bench.ledger.take_slot(bench.account)
    assert isinstance(slot, Slot)
    claim = claimed(bench.ledger)
    bench.clock.pass_(30)
    asked = {"sent_sha256": "0" * 64, "asked_since": 0.0}
    late = bench.ledger.begin(claim, bench.account, RUN, slot=slot, **asked)  # type: ignore[arg-type]
    assert not isinstance(late, Attempt)
    fresh = bench.ledger.take_slot(bench.account)
    assert isinstance(fresh, Slot)
    sent = bench.ledger.begin(claim, bench.account, RUN, slot=replace(fresh), **asked)  # type: ignore[arg-type]
    assert isinstance(sent, Attempt)
