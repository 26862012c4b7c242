"""One try of a task in a process of its own: recognise the batch, note the manifest, load what is answered.

The parts are the product's: ledger, client, batch, loading. They are watched (every step goes into the
journal, and may be the one at which the process is killed), and given what Airflow would give them: a
storage, a stop, a log. Only waiting is not real: see `world`.
"""

from __future__ import annotations

import faulthandler
import gc
import hashlib
import logging
import os
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from random import Random
from typing import Any, NoReturn

import sqlalchemy as sa

from airflow_provider_jdocr.core import batch
from airflow_provider_jdocr.core.account import Account, account_from_parts
from airflow_provider_jdocr.core.batch import Budget, Manifest, Policy, recognise_batch
from airflow_provider_jdocr.core.client import Client, Reply, WireFailure
from airflow_provider_jdocr.core.engines import engine_for
from airflow_provider_jdocr.core.errors import JdOcrError, StorageError
from airflow_provider_jdocr.core.ledger import Attempt, Identity, Ledger, RunKey
from airflow_provider_jdocr.core.loading import load_answers
from airflow_provider_jdocr.core.sources import Missing, Source
from airflow_provider_jdocr.core.warehouse import Warehouse
from tests.torture.draw import Plan, StorageFaults, Strike, Try
from tests.torture.world import Journal, World

KEY, SECRET = "torture-key", "torture-secret"
QPS = 500
LARGEST_REPLY = 256 * 1024
LEDGER_PATIENCE_SECONDS = 20.0
"""How long a process tries a ledger that is away: much longer than any outage of a trial."""
SUCCESS, RETRY, FAILED, UNDECLARED = 0, 1, 2, 3
"""Exit codes: Airflow's success, failed with tries left, failed for good; and an exception that nobody
declared.
"""


@dataclass(frozen=True, slots=True)
class File:
    """A file of the inbox as it is listed now; `content` None: it is not there."""

    etag: str
    content: bytes | None


@dataclass(frozen=True, slots=True)
class Order:
    """What a process is to do. `load_only` is the loading task by itself."""

    number: int
    run: RunKey
    plan: Plan
    doing: Try
    storage_faults: StorageFaults
    files: dict[str, File]
    service_url: str
    ledger_url: str
    warehouse_url: str
    load_only: tuple[RunKey, ...] = ()

    def account(self) -> Account:
        host, _, port = self.service_url.removeprefix("http://").partition(":")
        extra = {
            "endpoint": self.plan.endpoint,
            "qps": QPS,
            "connect_timeout_seconds": self.plan.connect_timeout,
            "read_timeout_seconds": self.plan.read_timeout,
        }
        return account_from_parts(
            login=KEY, password=SECRET, host=host, port=int(port), schema="http", extra=extra
        )

    def policy(self) -> Policy:
        plan = self.plan
        return Policy(
            max_in_flight=plan.max_in_flight,
            max_failed=plan.max_failed,
            in_doubt=plan.in_doubt,
            wait_for_quota=plan.wait_for_quota,
            budget=Budget(max_calls=plan.max_calls),
        )


def run(order: Order, world: World, pipe: int) -> NoReturn:
    """Does what is ordered and ends the process, whatever happens in it."""
    journal = Journal(pipe)
    code = UNDECLARED
    try:
        code = _Work(order, world, journal).do()
    except BaseException as error:  # noqa: BLE001 - nothing may get past the end of this process
        journal("undeclared", error=type(error).__name__, text=str(error), trace=traceback.format_exc())
    finally:
        os._exit(code)


class _Work:
    def __init__(self, order: Order, world: World, journal: Journal) -> None:
        self._order, self._world, self._journal = order, world, journal
        self._killed = threading.Event()
        self._steps = Steps(order.doing.strikes)
        faulthandler.register(signal.SIGUSR1, all_threads=True)
        # As the operator does: a signal's handler may run inside the event's own lock.
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=self._stop).start())
        batch.STORE_SECONDS, batch.STORE_PAUSE_SECONDS = LEDGER_PATIENCE_SECONDS, 0.05
        gc.disable()

    def _stop(self) -> None:
        self._journal("fault", kind="stop")
        self._killed.set()

    def do(self) -> int:
        self._steps("start")
        try:
            if self._order.load_only:
                self._load(self._order.load_only)
                return SUCCESS
            manifest = self._recognise()
            self._load((self._order.run,))
        except JdOcrError as error:
            self._journal("failed", error=type(error).__name__, text=str(error), permanent=error.permanent)
            return FAILED if error.permanent else RETRY
        if reason := manifest.verdict():
            self._journal("failed", error="BatchFailed", text=reason, permanent=manifest.permanent())
            return FAILED if manifest.permanent() else RETRY
        return SUCCESS

    def _recognise(self) -> Manifest:
        order, account = self._order, self._order.account()
        ledger = WatchedLedger(self._engine(order.ledger_url), self._world, self._journal, self._steps)
        ledger.create()
        storage = Inbox(
            order.files,
            order.storage_faults,
            order.plan.name.random(f"storage {order.number}"),
            self._journal,
        )
        client = Client(account, clock=self._world.worker_now, max_reply_bytes=LARGEST_REPLY)
        manifest = recognise_batch(
            storage.listed(),
            storage=storage,
            account=account,
            ledger=ledger,
            run=order.run,
            policy=order.policy(),
            client=WatchedClient(client, ledger, self._journal, self._steps),  # type: ignore[arg-type]
            log=self._log(),
            stop=self._killed,
            pause=self._pause,
        )
        self._journal("manifest", **manifest.to_dict())
        return manifest

    def _load(self, runs: tuple[RunKey, ...]) -> None:
        self._steps("load")
        order = self._order
        warehouse = Warehouse(self._engine(order.warehouse_url))
        ledger = Ledger(self._engine(order.ledger_url))
        warehouse.create()
        items = [item for each in runs for item in _answered(ledger, each)]
        report = load_answers(ledger, warehouse, items, today=date(2026, 1, 1), log=self._log())
        self._journal("loaded", **asdict(report))

    def _engine(self, url: str) -> sa.Engine:
        engine = engine_for(url)
        watch_commits(engine, self._order.doing, self._steps, self._journal)
        if engine.dialect.name == "sqlite":
            let_the_disk_be_full(engine, self._world)
        return engine

    def _pause(self, seconds: float) -> None:
        """The main thread pauses with nothing in flight, so the world's time may be skipped. A worker's pause
        is made short instead: others are on their way meanwhile.
        """
        if threading.current_thread() is threading.main_thread():
            self._world.wait(self._order.number, seconds, self._killed)
        else:
            self._killed.wait(min(seconds, 0.2 + seconds / 100))

    def _log(self) -> logging.Logger:
        log = logging.getLogger("torture")
        log.handlers, log.propagate = [_ToJournal(self._journal)], False
        log.setLevel(logging.INFO)
        logging.getLogger().handlers = log.handlers  # what the libraries have to say
        return log


def _answered(ledger: Ledger, run: RunKey) -> Iterator[tuple[Identity, str]]:
    for outcome in ledger.outcomes(run):
        if outcome.identity and outcome.outcome in ("recognised", "reused", "failed"):
            yield outcome.identity, outcome.uri


class Steps:
    """Counts the steps of a process, and strikes it at those that its plan names."""

    def __init__(self, strikes: tuple[Strike, ...]) -> None:
        self._strikes: dict[tuple[str, int], Strike] = {(each.step, each.count): each for each in strikes}
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, step: str) -> None:
        with self._lock:
            self._counts[step] += 1
            strike = self._strikes.get((step, self._counts[step]))
        if strike is None:
            return
        send = partial(os.kill, os.getpid(), signal.SIGKILL if strike.how == "kill" else signal.SIGTERM)
        if strike.delay:
            later = threading.Timer(strike.delay, send)
            later.daemon = True
            later.start()
        else:
            send()


class WatchedLedger(Ledger):
    """The ledger, by its database's clock plus what the world has skipped and what was put wrong."""

    def __init__(self, engine: sa.Engine, world: World, journal: Journal, steps: Steps) -> None:
        self._world, self._journal, self._steps = world, journal, steps
        super().__init__(engine)
        self._own = threading.local()

    @property
    def attempt(self) -> str:
        """The attempt that this thread is about to send, or has sent."""
        return str(self._own.attempt)

    def _clock_expression(self) -> sa.ColumnElement[float]:
        # Looked at each time that a statement runs.
        ahead = sa.bindparam(None, callable_=lambda: self._world.database_ahead, type_=sa.Double)
        return super()._clock_expression() + ahead

    def begin(self, claim: Any, *args: Any, **more: Any) -> Any:
        begun = super().begin(claim, *args, **more)
        if isinstance(begun, Attempt):
            self._own.attempt = begun.id
            self._journal("begun", attempt=begun.id, sha256=claim.identity.sha256)
            self._steps("begun")
        return begun

    def settle(self, attempt: Attempt, account: Account, reading: Any, reply: Reply | None) -> None:
        super().settle(attempt, account, reading, reply)
        self._journal("settled", attempt=attempt.id, verdict=reading.verdict, code=reading.code)
        self._steps("settled")


class WatchedClient:
    """The client; what it brings is noted before anybody else has it."""

    def __init__(self, client: Client, ledger: WatchedLedger, journal: Journal, steps: Steps) -> None:
        self._client, self._ledger, self._journal, self._steps = client, ledger, journal, steps

    def send(self, picture: bytes, sha256: str | None = None) -> Reply | WireFailure:
        attempt = self._ledger.attempt
        self._journal("send", attempt=attempt)
        self._steps("send")
        answer = self._client.send(picture, sha256)
        if isinstance(answer, Reply):
            body = hashlib.sha256(answer.body).hexdigest()
            self._journal("reply", attempt=attempt, status=answer.status, body=body)
        else:
            self._journal("wire", attempt=attempt, code=answer.code, reached=answer.reached)
        self._steps("reply")
        return answer


class Inbox:
    """The storage: files that may be slow, may fail, and may be others by now than they were when listed."""

    def __init__(
        self, files: dict[str, File], faults: StorageFaults, random: Random, journal: Journal
    ) -> None:
        self._files, self._faults, self._random, self._journal = files, faults, random, journal

    def listed(self) -> Iterator[Source | Missing]:
        for uri, file in self._files.items():
            if file.content is None:
                yield Missing(uri, "MISSING", "not there")
            else:
                yield Source(uri, 1, file.etag)

    def list(self, prefix: str, after: str | None, until: str | None) -> Iterator[Source]:
        raise NotImplementedError

    def stat(self, uri: str) -> Source | Missing:
        raise NotImplementedError

    def read(self, uri: str) -> bytes:
        luck = self._random.randrange(1000)
        if luck < self._faults.failing:
            self._journal("fault", kind="storage failed")
            raise StorageError(f"{uri}: the storage is away", uri=uri)
        if luck >= 1000 - self._faults.slow:
            self._journal("fault", kind="storage slow")
            time.sleep(self._faults.slow_seconds)
        content = self._files[uri].content
        if content is None:
            raise StorageError(f"{uri}: gone", uri=uri)
        return content


def watch_commits(engine: sa.Engine, doing: Try, steps: Steps, journal: Journal) -> None:
    """Before and after a commit is where a kill hurts. A commit that is planned to fail is not made; one that
    is planned to stay unacknowledged is made, and its connection breaks before anybody hears of it.
    """
    commit, numbers, lock = engine.dialect.do_commit, Counter[str](), threading.Lock()

    def watched(connection: Any) -> None:
        with lock:
            numbers["commit"] += 1
            number = numbers["commit"]
        steps("commit")
        if number in doing.failing_commits:
            journal("fault", kind="commit failed")
            raise _broken(engine)
        commit(connection)
        steps("committed")
        if number in doing.unacknowledged_commits:
            journal("fault", kind="commit unacknowledged")
            connection.dbapi_connection.close()
            raise _broken(engine)

    @sa.event.listens_for(engine, "handle_error")
    def _noted(context: sa.engine.ExceptionContext) -> None:
        journal("database", error=str(context.original_exception).partition("\n")[0])

    engine.dialect.do_commit = watched  # type: ignore[method-assign, assignment]


def _broken(engine: sa.Engine) -> Exception:
    dbapi = engine.dialect.dbapi
    assert dbapi is not None
    error: Exception = dbapi.OperationalError("the connection broke during the commit")
    return error


def let_the_disk_be_full(engine: sa.Engine, world: World) -> None:
    """While the switch is on, the file cannot grow: SQLite says that the disk is full, as on a full disk."""

    @sa.event.listens_for(engine, "checkout")
    def _checked_out(connection: Any, *_: object) -> None:
        most = 1 if world.disk_is_full else 2**32 - 2  # never less than there are already
        connection.execute(f"PRAGMA max_page_count={most}").close()


class _ToJournal(logging.Handler):
    def __init__(self, journal: Callable[..., None]) -> None:
        super().__init__()
        self._to = journal

    def emit(self, record: logging.LogRecord) -> None:
        self._to("log", level=record.levelname, text=record.getMessage())
