"""A batch of images, each recognised once: listing in, one outcome per input and a manifest of counts out.

The main thread streams the inputs, settles from the ledger whatever is known without reading a picture, and
hands the rest to a bounded pool. A worker takes one image along the line: read, preflight, claim, QR code,
slot, send, settle.

- At most `max_in_flight` pictures are in memory and on their way.
- The first call of a batch goes alone: a wrong secret or an unreachable host costs one call, not
  `max_in_flight`.
- When sending has to end (quota, budget, configuration, a kill) the inputs are still listed and counted:
  what is answered already counts as such, the rest as `waiting`.
- A reply in hand is committed whatever else happens, also while the batch is being stopped.

The batch knows nothing of Airflow; the pause between two looks and its jitter are arguments.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any, Literal, TypeVar

from airflow_provider_jdocr.core.account import Account
from airflow_provider_jdocr.core.client import Client, WireFailure
from airflow_provider_jdocr.core.errors import LedgerError, LedgerUnavailable, StorageError, Verdict, code_for
from airflow_provider_jdocr.core.ledger import (
    Attempt,
    Busy,
    Claim,
    Held,
    Identity,
    InDoubt,
    Ledger,
    Outcome,
    Recognition,
    Resend,
    RunKey,
    Seen,
    Settled,
    SettledAlready,
)
from airflow_provider_jdocr.core.preflight import Image, Rejected, preflight, too_large
from airflow_provider_jdocr.core.qr import all_codes, from_text, read_codes, to_text, unavailable
from airflow_provider_jdocr.core.quotas import Refused
from airflow_provider_jdocr.core.rate import Queued, Slot
from airflow_provider_jdocr.core.records import restored
from airflow_provider_jdocr.core.replies import Reading, read_failure, read_reply
from airflow_provider_jdocr.core.sources import Missing, Source, Storage

PAGE_SIZE = 500
OUTCOMES_AT_ONCE = 5_000
"""Written down together, where none of them is a fresh answer; of those at most a page waits."""
SEARCHES_AT_ONCE = 2
"""Pictures that are searched for QR codes at a time: as many as a core or two can search."""
SENDS_PER_IMAGE = 5
"""Tries of one image in one batch while the service answers "again" or cannot be reached."""
OVERRUNS_PER_IMAGE = 100
"""Over-limit answers for one image before the batch ends and the image waits: the rate adapts long before."""
FAILURES_IN_A_ROW = 20
"""Unsettled answers without a settled one between them: the service is down, sending on helps nobody."""
LEAD_SECONDS, LONGEST_LEAD_SECONDS = 0.1, 0.6
"""How long before its slot an attempt is committed: this, or twice as long as it usually takes."""
RENEW_EVERY_SECONDS = 15.0
PROGRESS_EVERY_SECONDS = 10.0
PROBLEMS_SHOWN = 20
SAME_INVOICE, NOT_A_VAT_INVOICE = "SAME_INVOICE", "NOT_A_VAT_INVOICE"
"""The codes of outcomes that a picture's QR code decided: reused, and rejected."""
STORE_SECONDS = 120.0
STORE_PAUSE_SECONDS = 2.0
"""How long a ledger that is away is tried again, and how often: an answer in hand was paid for."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Bounds of one task instance: sends over all its tries, and calls to leave in the account."""

    max_calls: int | None = None
    keep_remaining: int | None = None


@dataclass(frozen=True, slots=True)
class QrRules:
    """What to do with the QR codes on a picture, before it is paid for.

    `read`: look for them, and keep what they say for the checks. `same_invoice`: a picture of an invoice that
    has an answer takes that answer (`reuse`). `no_invoice`: a picture of another document is rejected
    (`reject`).
    """

    read: bool = True
    same_invoice: Literal["send", "reuse"] = "send"
    no_invoice: Literal["send", "reject"] = "send"


@dataclass(frozen=True, slots=True)
class Policy:
    """How a batch behaves. `max_failed`: rejected, failed and held items that the author accepts."""

    max_in_flight: int = 4
    max_failed: int = 0
    in_doubt: InDoubt = "resend"
    resend: Resend = "none"
    wait_for_quota: bool = False
    budget: Budget = field(default_factory=Budget)
    calls_elsewhere: int = 0
    """Calls that the same task made at another endpoint, which `max_calls` bounds together with these."""
    qr: QrRules = field(default_factory=QrRules)


StopReason = Literal[
    "quota_until_reset",
    "quota_until_topped_up",
    "budget",
    "configuration",
    "unreachable",
    "busy",
    "killed",
    "ledger",
]


@dataclass(frozen=True, slots=True)
class Stop:
    """Why no more was sent. `seconds` until it may go on by itself; None: a person is needed."""

    reason: StopReason
    message: str
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """The counts of a batch; the six outcomes add up to `inputs`. Goes through XCom as `to_dict()`.

    `unsettled` of the failed and rejected items may be tried again without paying twice. `calls`, `charged`
    and `charged_unknown` are sends of this task instance over all its tries.
    """

    run: RunKey
    service: str
    endpoint: str
    inputs: int
    recognised: int
    reused: int
    rejected: int
    failed: int
    held: int
    waiting: int
    unsettled: int
    calls: int
    charged: int
    charged_unknown: int
    remaining: int | None
    max_failed: int
    seconds: float
    stop: Stop | None = None
    problems: tuple[Mapping[str, str | None], ...] = ()
    escalation: Manifest | None = None
    """What became of the doubted of these images at a second endpoint; they are its `inputs`. None: no
    second endpoint was named, or it was not asked.
    """

    @property
    def parts(self) -> tuple[Manifest, ...]:
        return (self,) if self.escalation is None else (self, self.escalation)

    @property
    def failed_items(self) -> int:
        return self.rejected + self.failed + self.held

    @property
    def adds_up(self) -> bool:
        return self.inputs == self.recognised + self.reused + self.failed_items + self.waiting

    @property
    def is_broken_off(self) -> bool:
        """Whether the sending ended for a reason that fails the task."""
        return self.stop is not None and self.stop.reason in _FAILING_STOPS

    def verdict(self) -> str | None:
        """Why the task has to fail; None: it may succeed. An image that failed at the second endpoint had
        an answer at the first: it is counted once.
        """
        for part in self.parts:
            if not part.adds_up:
                return f"the outcomes do not add up to the {part.inputs} inputs: {part.summary()}"
            if part.stop and part.is_broken_off:
                return part.stop.message
        if (failed := sum(part.failed_items for part in self.parts)) > self.max_failed:
            said = f"{failed} of {self.inputs} images failed and max_failed is {self.max_failed}"
            return f"{said}: {self.summary()}"
        return None

    def permanent(self) -> bool:
        """Whether a retry of the task could not change the verdict."""
        for part in self.parts:
            if part.stop and part.is_broken_off:
                return part.stop.reason in ("configuration", "quota_until_topped_up")
        settled = sum(part.failed_items - part.unsettled for part in self.parts)
        return all(part.adds_up for part in self.parts) and settled > self.max_failed

    def summary(self) -> str:
        counts = ", ".join(f"{getattr(self, name)} {name}" for name in OUTCOMES)
        cost = f"{self.calls} calls, {self.charged} charged, {self.charged_unknown} maybe charged"
        if self.escalation is None:
            return f"{counts}; {cost}"
        asked = f"of the {self.escalation.inputs} doubted, at {self.escalation.endpoint}"
        return f"{counts}; {cost}; {asked}: {self.escalation.summary()}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {
            "problems": [dict(problem) for problem in self.problems],
            "escalation": self.escalation and self.escalation.to_dict(),
        }

    @classmethod
    def from_dict(cls, value: object) -> Manifest:
        """What `to_dict` gave. Raises `ConfigurationError` naming the field that is not as it was written."""
        return restored(cls, value, "manifest")


OUTCOMES = ("recognised", "reused", "rejected", "failed", "held", "waiting")
_FAILING_STOPS = frozenset(
    {"configuration", "unreachable", "busy", "killed", "ledger", "quota_until_topped_up"}
)
_T = TypeVar("_T")
_LOG = logging.getLogger(__name__)


def recognise_batch(
    sources: Iterable[Source | Missing],
    *,
    storage: Storage,
    account: Account,
    ledger: Ledger,
    run: RunKey,
    policy: Policy,
    client: Client | None = None,
    log: Any = _LOG,
    stop: threading.Event | None = None,
    pause: Callable[[float], object] | None = None,
    jitter: Callable[[], float] = random.random,
) -> Manifest:
    """Recognises every source once and says what became of each.

    `stop`, when set, ends the sending; `pause` waits that many seconds (default: until `stop` is set).
    Raises `StorageError` when the listing fails and `LedgerError` when the ledger cannot be opened.
    """
    killed = stop or threading.Event()
    used = client or Client(account)
    desk = _Desk(storage, account, ledger, run, policy, used, log, killed, pause or killed.wait, jitter)
    try:
        return _Batch(desk).recognise(sources)
    finally:
        if client is None:
            used.close()


@dataclass(frozen=True, slots=True)
class _Desk:
    """What every step of one batch works with."""

    storage: Storage
    account: Account
    ledger: Ledger
    run: RunKey
    policy: Policy
    client: Client
    log: Any
    killed: threading.Event
    pause: Callable[[float], object]
    jitter: Callable[[], float]

    def identity(self, sha256: str) -> Identity:
        return Identity(self.account.service, self.account.endpoint.name, sha256)


@dataclass(frozen=True, slots=True)
class _Done:
    """An input with its outcome. `unsettled`: not charged, may be tried again by another run of the task."""

    outcome: Outcome
    unsettled: bool = False


@dataclass(frozen=True, slots=True)
class _Later:
    """An input that somebody else is asking for at this moment."""

    source: Source
    seconds: float


class _Traffic:
    """Whether sending goes on: the reasons to stop, the first call alone, the count of calls. Thread-safe."""

    def __init__(self, desk: _Desk, calls: int) -> None:
        self._desk = desk
        self._lock = threading.Lock()
        self._first = threading.Lock()
        self._turn = threading.Lock()
        self._proven = False
        self._begin_seconds = 0.0
        self._calls = calls
        self._in_a_row = 0
        self._stop: Stop | None = None

    @property
    def stop(self) -> Stop | None:
        if self._desk.killed.is_set():
            return Stop("killed", "the task was stopped; answers in flight were kept")
        return self._stop

    @property
    def halted(self) -> bool:
        """Whether a call that was reserved must not leave any more; the end of the budget lets it."""
        return self.stop is not None and self.stop.reason != "budget"

    def end(self, stop: Stop) -> None:
        """Ends the sending. A reason to fail takes the place of one to wait."""
        with self._lock:
            if self._stop is None or (
                stop.reason in _FAILING_STOPS and self._stop.reason not in _FAILING_STOPS
            ):
                self._desk.log.warning("Sending ends: %s", stop.message)
                self._stop = stop

    def break_off(self) -> None:
        """Ends the sending without a word: the error that is on its way up says why."""
        with self._lock:
            self._stop = Stop("killed", "the batch was broken off")

    def go_on(self) -> None:
        """After the reset; whatever else ended the sending stands."""
        with self._lock:
            if self._stop and self._stop.reason == "quota_until_reset":
                self._stop = None

    @contextmanager
    def turn(self, renew: Callable[[], object]) -> Iterator[None]:
        """One thread of the task at a time asks for a slot; the others `renew` what they hold."""
        while not self._turn.acquire(timeout=RENEW_EVERY_SECONDS):
            renew()
        try:
            yield
        finally:
            self._turn.release()

    @property
    def lead(self) -> float:
        """How long before its slot an attempt is committed."""
        return min(LONGEST_LEAD_SECONDS, max(LEAD_SECONDS, 2 * self._begin_seconds))

    @contextmanager
    def timed_begin(self) -> Iterator[None]:
        """Learns how long it takes to commit an attempt: where the database is far, longer."""
        began = time.monotonic()
        yield
        with self._lock:
            self._begin_seconds += (time.monotonic() - began - self._begin_seconds) / 8

    def alone_until_proven(self, send: Callable[[], _T]) -> _T:
        """Runs `send`; one at a time until a call of this batch was settled."""
        with self._first if not self._proven else nullcontext():
            if not self._proven:
                return send()
        return send()

    def reserve_call(self) -> bool:
        """Counts a call against max_calls; False, and the end of the sending, when there is none left."""
        most = self._desk.policy.budget.max_calls
        with self._lock:
            if free := most is None or self._calls < most:
                self._calls += 1
        if not free:
            self.end(Stop("budget", f"max_calls of {most} is reached"))
        return free

    def give_call_back(self) -> None:
        with self._lock:
            self._calls -= 1

    def settled(self) -> None:
        with self._lock:
            self._proven, self._in_a_row = True, 0

    def unsettled(self, code: str, message: str, reached: bool) -> None:
        """Counts a send without a settled answer; too many in a row, or the very first ones, end the
        sending.
        """
        with self._lock:
            self._in_a_row += 1
            most = FAILURES_IN_A_ROW if self._proven else SENDS_PER_IMAGE
            down = self._in_a_row >= most
        if down:
            said = f"{self._in_a_row} sends in a row without a result, the last: {code} {message}"
            if not reached:
                said += f", at {self._desk.account.base_url}. {code_for('wire', code).advice}"
            self.end(Stop("busy" if reached else "unreachable", said))


class _Batch:
    """One run over the inputs. Lives on the main thread, except `_one` and what it calls."""

    def __init__(self, desk: _Desk) -> None:
        self._desk = desk
        self._since = _patiently(desk, partial(desk.ledger.open_run, desk.run))
        calls = _patiently(desk, partial(desk.ledger.cost, desk.run)).calls
        self._traffic = _Traffic(desk, calls + desk.policy.calls_elsewhere)
        self._counts: Counter[str] = Counter()
        self._problems: list[Mapping[str, str | None]] = []
        self._later: deque[_Later] = deque()
        self._finished: list[Outcome] = []
        self._fresh = 0
        self._read: deque[tuple[Source, str]] = deque()
        self._searchers = ThreadPoolExecutor(SEARCHES_AT_ONCE, "jdocr-qr")
        self._started = self._spoke = time.monotonic()
        if desk.policy.qr.read and (missing := unavailable()):
            desk.log.warning("%s", missing)

    def recognise(self, sources: Iterable[Source | Missing]) -> Manifest:
        with self._searchers, ThreadPoolExecutor(self._desk.policy.max_in_flight, "jdocr") as pool:
            running: set[Future[_Done | _Later]] = set()
            try:
                for source in self._unknown(sources):
                    running = self._submit(pool, running, source)
                self._drain(pool, running)
                self._write_down(flush=True)
                return self._manifest()
            except BaseException:
                self._break_off(running)
                raise

    def _break_off(self, running: set[Future[_Done | _Later]]) -> None:
        """Begins nothing new, lets what is in flight come in, and writes down what there is."""
        self._traffic.break_off()
        for future in wait(running).done:
            if future.exception() is None and isinstance(done := future.result(), _Done):
                self._finished.append(done.outcome)
        with suppress(LedgerError):
            self._write_down(flush=True)

    # --- the main thread

    def _unknown(self, sources: Iterable[Source | Missing]) -> Iterator[Source]:
        """The inputs that a worker must look at; the others get their outcome here, a page at a time."""
        for page in _pages(sources):
            self._counts["inputs"] += len(page)
            present = [source for source in page if isinstance(source, Source)]
            known = _patiently(self._desk, partial(self._desk.ledger.known_sources, present))
            known |= {source.uri: source.sha256 for source in present if source.sha256}
            identities = {uri: self._desk.identity(sha256) for uri, sha256 in known.items()}
            rows = _patiently(self._desk, partial(self._desk.ledger.recognitions, identities.values()))
            for source in page:
                if isinstance(source, Missing):
                    self._note(_Done(Outcome(source.uri, None, "rejected", source.code, source.detail)))
                    continue
                row = rows.get(identities[source.uri]) if source.uri in identities else None
                if row and self._is_done(row):
                    self._note(_settled(source, row, self._desk.run))
                else:
                    yield source

    def _is_done(self, row: Recognition) -> bool:
        """Settled, and not to be asked for again: not wanted, or done by this task instance already."""
        ours = row.run_digest == self._desk.run.digest
        return row.settled is not None and (self._desk.policy.resend == "none" or ours)

    def _submit(
        self, pool: ThreadPoolExecutor, running: set[Future[_Done | _Later]], source: Source
    ) -> set[Future[_Done | _Later]]:
        if len(running) >= self._desk.policy.max_in_flight:
            running = self._collect(running)
        if self._await_quota(running):
            running = set()
        if stop := self._traffic.stop:
            self._note(_waiting(source, stop))
            return running
        return running | {pool.submit(self._one, source)}

    def _collect(self, running: set[Future[_Done | _Later]]) -> set[Future[_Done | _Later]]:
        """Waits until at least one worker is done and takes what the finished ones bring."""
        done: set[Future[_Done | _Later]] = set()
        while not done:
            done, running = wait(running, timeout=PROGRESS_EVERY_SECONDS, return_when=FIRST_COMPLETED)
            self._speak()
        for future in done:
            result = future.result()
            if isinstance(result, _Later):
                self._later.append(result)
            else:
                self._note(result)
        return running

    def _drain(self, pool: ThreadPoolExecutor, running: set[Future[_Done | _Later]]) -> None:
        """Finishes what is on its way, then what others were asking for, until nothing is left."""
        while running or self._later:
            while running:
                running = self._collect(running)
            if self._later:
                self._desk.pause(
                    min(1.0, min(later.seconds for later in self._later)) * (0.5 + self._desk.jitter())
                )
            for _ in range(len(self._later)):
                running = self._submit(pool, running, self._later.popleft().source)

    def _await_quota(self, running: set[Future[_Done | _Later]]) -> bool:
        """Where the author said wait: sleeps until the reset, with nothing in flight."""
        stop = self._traffic.stop
        if not (stop and stop.reason == "quota_until_reset" and self._desk.policy.wait_for_quota):
            return False
        while running:
            running = self._collect(running)
        seconds = (stop.seconds or 0.0) + self._desk.jitter()
        self._write_down(flush=True)
        self._desk.log.info("Waiting %.0f s for the quota to reset", seconds)
        self._desk.pause(seconds)
        self._traffic.go_on()
        return True

    def _note(self, done: _Done) -> None:
        outcome = done.outcome
        self._counts[outcome.outcome] += 1
        self._counts["unsettled"] += done.unsettled
        self._finished.append(outcome)
        self._fresh += outcome.outcome == "recognised"
        if outcome.outcome in ("rejected", "failed", "held"):
            self._desk.log.warning(
                "%s: %s %s: %s", outcome.uri, outcome.outcome, outcome.code, outcome.message
            )
            if len(self._problems) < PROBLEMS_SHOWN:
                shown = {
                    "uri": outcome.uri,
                    "outcome": outcome.outcome,
                    "code": outcome.code,
                    "message": outcome.message,
                }
                self._problems.append(shown)
        self._write_down(flush=False)

    def _write_down(self, *, flush: bool) -> None:
        ledger = self._desk.ledger
        enough = self._fresh >= PAGE_SIZE or len(self._finished) >= OUTCOMES_AT_ONCE
        if self._finished and (flush or enough):
            write = partial(ledger.write_outcomes, self._desk.run, self._desk.account)
            _patiently(self._desk, partial(write, self._finished))
            self._finished, self._fresh = [], 0
        if self._read and (flush or len(self._read) >= PAGE_SIZE):
            # Worker threads go on adding at the other end.
            read = [self._read.popleft() for _ in range(len(self._read))]
            _patiently(self._desk, partial(ledger.remember_sources, read))

    def _speak(self) -> None:
        now = time.monotonic()
        if now - self._spoke >= PROGRESS_EVERY_SECONDS:
            self._spoke = now
            with suppress(LedgerError):  # the next line may tell; the work goes on without this one
                self._say("Progress")

    def _say(self, what: str) -> None:
        cost, quota = self._desk.ledger.cost(self._desk.run), self._desk.ledger.quota(self._desk.account)
        done = sum(self._counts[name] for name in OUTCOMES)
        seconds = max(time.monotonic() - self._started, 1e-9)
        self._desk.log.info(
            "%s: %d of %d listed images done (%s), %.2f a second; "
            "%d calls, %d charged, %d on their way or maybe charged; calls left: %s",
            what,
            done,
            self._counts["inputs"],
            ", ".join(f"{self._counts[name]} {name}" for name in OUTCOMES if self._counts[name])
            or "none yet",
            done / seconds,
            cost.calls,
            cost.charged,
            cost.charged_unknown,
            "not known" if quota.remaining is None else quota.remaining,
        )

    def _manifest(self) -> Manifest:
        desk = self._desk
        _patiently(desk, partial(self._say, "Finished"))
        if not self._counts["inputs"]:
            desk.log.warning("There is no image to recognise: nothing matches what was asked for")
        return Manifest(
            run=desk.run,
            service=desk.account.service,
            endpoint=desk.account.endpoint.name,
            inputs=self._counts["inputs"],
            **{name: self._counts[name] for name in OUTCOMES},
            unsettled=self._counts["unsettled"],
            **asdict(_patiently(desk, partial(desk.ledger.cost, desk.run))),
            remaining=_patiently(desk, partial(desk.ledger.quota, desk.account)).remaining,
            max_failed=desk.policy.max_failed,
            seconds=round(time.monotonic() - self._started, 3),
            stop=self._traffic.stop,
            problems=tuple(self._problems),
            escalation=None,
        )

    # --- the worker threads

    def _one(self, source: Source) -> _Done | _Later:
        desk = self._desk
        if stop := self._traffic.stop:
            return self._stopped(source, stop)
        try:
            looked = self._look(source)
            if source.sha256 not in (None, looked.sha256):
                raise StorageError(f"{source.uri} is another file by now; the next run takes it up")
            if looked.sha256:
                self._read.append((source, looked.sha256))
            if isinstance(looked, Rejected):
                identity = desk.identity(looked.sha256) if looked.sha256 else None
                return _Done(Outcome(source.uri, identity, "rejected", looked.code, looked.message))
            return self._ask(source, looked)
        except StorageError as error:
            return _Done(Outcome(source.uri, None, "rejected", "UNREADABLE", str(error)), unsettled=True)
        except LedgerError as error:
            stop = Stop("ledger", str(error))
            self._traffic.end(stop)
            return self._stopped(source, stop)

    def _look(self, source: Source) -> Image | Rejected:
        """What the file is. One that is listed as too large is not brought into memory to find that out."""
        endpoint = self._desk.account.endpoint
        return too_large(source.size or 0, endpoint) or preflight(
            self._desk.storage.read(source.uri), endpoint
        )

    def _ask(self, source: Source, image: Image) -> _Done | _Later:
        """Claims and sends until there is an outcome, within the tries that one image has."""
        overruns, sends, once = 0, 0, False
        while True:
            claim = self._claim(source, image)
            if not isinstance(claim, Claim):
                return claim
            seen = self._seen(claim, image)
            if spared := self._spared(source, claim, seen):
                return spared
            sent = self._traffic.alone_until_proven(partial(self._send, claim, source, image, seen))
            if not isinstance(sent, Reading):
                return sent
            sends += 1
            match sent.verdict:
                case Verdict.SUCCESS:
                    return _Done(Outcome(source.uri, claim.identity, "recognised", sent.code))
                case Verdict.SETTLE_FAILED | Verdict.IN_DOUBT:
                    continue  # the ledger knows what follows: settled, to be sent once more, or held
                case Verdict.SLOW_DOWN:
                    overruns, sends = overruns + 1, sends - 1
                    if overruns >= OVERRUNS_PER_IMAGE:
                        stop = Stop("busy", f"turned away {overruns} times for one image: {sent.message}")
                        self._traffic.end(stop)
                        return self._stopped(source, stop)
                case Verdict.CONFIGURATION:
                    advice = code_for(sent.layer, sent.code).advice
                    said = f"{sent.layer} {sent.code}: {sent.message}. {advice}".strip()
                    stop = Stop("configuration", said)
                    self._traffic.end(stop)
                    return self._stopped(source, stop)
                case Verdict.AGAIN_ONCE if once:
                    sends = SENDS_PER_IMAGE
                case Verdict.AGAIN_ONCE:
                    once = True
            if sends >= SENDS_PER_IMAGE:
                message = f"not answered after {sends} sends, the last: {sent.message}"
                return _Done(
                    Outcome(source.uri, claim.identity, "failed", sent.code, message), unsettled=True
                )
            if sent.verdict in (Verdict.AGAIN, Verdict.AGAIN_ONCE):
                self._desk.pause(min(30.0, 0.5 * 2**sends) * (0.5 + self._desk.jitter()))

    def _claim(self, source: Source, image: Image) -> Claim | _Done | _Later:
        desk = self._desk
        if stop := self._traffic.stop:
            look = partial(desk.ledger.recognitions, [desk.identity(image.sha256)])
            row = _patiently(desk, look).get(desk.identity(image.sha256))
            return _settled(source, row, desk.run) if row and row.settled else self._stopped(source, stop)
        identity = desk.identity(image.sha256)
        resend, in_doubt = desk.policy.resend, desk.policy.in_doubt
        token = uuid.uuid4().hex
        claim = partial(desk.ledger.claim, identity, desk.run, resend=resend, in_doubt=in_doubt, token=token)
        match _patiently(desk, claim):
            case Claim() as claimed:
                return claimed
            case SettledAlready(row):
                return _settled(source, row, desk.run)
            case Held():
                message = "maybe charged, maybe not; `airflow jdocr settle` decides: see the operations page"
                return _Done(Outcome(source.uri, identity, "held", "IN_DOUBT", message))
            case Busy(seconds):
                return _Later(source, seconds)

    def _seen(self, claim: Claim, image: Image) -> Seen | None:
        """The codes on a picture that is to be sent, read once; None: nobody looks for them."""
        if not self._desk.policy.qr.read or (claim.codes is None and unavailable()):
            return None
        texts = self._searched(image) if claim.codes is None else from_text(claim.codes)
        invoice = all_codes(texts).invoice
        return Seen(to_text(texts), invoice.invoice_key if invoice else None)

    def _searched(self, image: Image) -> tuple[str, ...]:
        """By threads of their own: a page takes tens of megabytes, which a thread's allocator keeps."""
        return self._searchers.submit(read_codes, image).result()

    def _spared(self, source: Source, claim: Claim, seen: Seen | None) -> _Done | _Later | None:
        """The outcome of a picture that its own code spares the call, where the author wants that."""
        rules = self._desk.policy.qr
        if (
            seen
            and rules.no_invoice == "reject"
            and (other := all_codes(from_text(seen.codes)).other_document)
        ):
            _patiently(self._desk, partial(self._desk.ledger.release, claim, seen))
            message = f"by its QR code it is no VAT invoice: {other.what}"
            return _Done(Outcome(source.uri, claim.identity, "rejected", NOT_A_VAT_INVOICE, message))
        # Who asks again for an answer wants another one.
        if seen and seen.invoice_key and rules.same_invoice == "reuse" and claim.answer_id is None:
            return self._same_invoice(source, claim, seen)
        return None

    def _same_invoice(self, source: Source, claim: Claim, seen: Seen) -> _Done | _Later | None:
        """The outcome by another picture of the same invoice; None: there is none, or it says otherwise."""
        ledger = self._desk.ledger
        found = _patiently(self._desk, partial(ledger.same_invoice, claim, seen))
        if isinstance(found, Busy):
            _patiently(self._desk, partial(ledger.release, claim))
            return _Later(source, found.seconds)
        other = next((row for row in found if _says_the_same(row.codes, seen.codes)), None)
        if other is None:
            return None
        if not _patiently(self._desk, partial(ledger.adopt, claim, other)):
            return _Later(source, 0.1)
        message = f"a picture of the same invoice was answered: {other.identity.sha256}"
        return _Done(Outcome(source.uri, claim.identity, "reused", SAME_INVOICE, message))

    def _send(
        self, claim: Claim, source: Source, image: Image, seen: Seen | None
    ) -> Reading | _Done | _Later:
        """Waits for a slot, commits the attempt, sends, commits the reply. Anything but a reading: nothing
        was sent.
        """
        desk = self._desk
        attempt = self._begin(claim, image, seen) if self._traffic.reserve_call() else None
        if not isinstance(attempt, Attempt):
            _patiently(desk, partial(desk.ledger.release, claim))
            return self._not_sent(source, attempt)
        try:
            answer = desk.client.send(image.content, image.sha256)
        except BaseException:
            lost = WireFailure("connection_broken", reached=True, detail="the sending thread broke off")
            _patiently(desk, partial(desk.ledger.settle, attempt, desk.account, read_failure(lost), None))
            raise
        if isinstance(answer, WireFailure):
            reading, reply = read_failure(answer), None
        else:
            reading, reply = read_reply(desk.account.endpoint, answer.status, answer.body), answer
        _patiently(desk, partial(desk.ledger.settle, attempt, desk.account, reading, reply))
        self._judge(reading, reached=reply is not None or reading.verdict is Verdict.IN_DOUBT)
        return reading

    def _begin(self, claim: Claim, image: Image, seen: Seen | None) -> Attempt | Refused | None:
        """Commits the attempt a moment before its slot, so that the call leaves on time. A slot from before a
        slow-down is void, as is the first one where it is missed, and another is taken.
        """
        desk, begun, punctual = self._desk, None, True
        while slot := self._slot(claim):
            due = time.monotonic() + slot.seconds
            desk.pause(max(0.0, slot.seconds - self._traffic.lead))
            if self._traffic.halted:
                break
            begin = partial(
                desk.ledger.begin,
                claim,
                desk.account,
                desk.run,
                sent_sha256=image.sha256,
                asked_since=self._since,
                keep_remaining=desk.policy.budget.keep_remaining,
                slot=slot.punctual() if punctual else slot,
                seen=seen,
            )
            with self._traffic.timed_begin():
                begun = _patiently(desk, begin)
            if isinstance(begun, Attempt):
                desk.pause(min(self._traffic.lead, max(0.0, due - time.monotonic())))
                return begun
            if not isinstance(begun, Queued):
                break
            punctual = False
        self._traffic.give_call_back()
        return begun if isinstance(begun, Refused) else None

    def _slot(self, claim: Claim) -> Slot | None:
        """The next slot of the account; None when sending has ended."""
        desk = self._desk
        renew = partial(_patiently, desk, partial(desk.ledger.renew, claim))
        waited = 0.0
        with self._traffic.turn(renew):
            while not self._traffic.halted:
                slot = _patiently(desk, partial(desk.ledger.take_slot, desk.account))
                if isinstance(slot, Slot):
                    return slot
                seconds = min(RENEW_EVERY_SECONDS, slot.seconds) * (0.9 + 0.2 * desk.jitter())
                desk.pause(seconds)
                waited += seconds
                if waited >= RENEW_EVERY_SECONDS:
                    renew()
                    waited = 0.0
        return None

    def _not_sent(self, source: Source, refused: Refused | None) -> _Done | _Later:
        if refused and refused.reason == "probing":
            return _Later(source, refused.seconds or 1.0)
        if refused:
            self._traffic.end(Stop(refused.reason, refused.message, refused.seconds))  # type: ignore[arg-type]
        stop = self._traffic.stop
        return self._stopped(source, stop) if stop else _Later(source, 0.1)

    def _stopped(self, source: Source, stop: Stop) -> _Done | _Later:
        """Waiting for another run; or for later in this one, where the batch itself sleeps until the
        reset.
        """
        comes_back = stop.reason == "quota_until_reset" and self._desk.policy.wait_for_quota
        return _Later(source, 0.1) if comes_back else _waiting(source, stop)

    def _judge(self, reading: Reading, *, reached: bool) -> None:
        if not reached:
            self._traffic.give_call_back()
        if reading.verdict in (Verdict.SUCCESS, Verdict.SETTLE_FAILED):
            self._traffic.settled()
        elif reading.verdict in (Verdict.AGAIN, Verdict.AGAIN_ONCE, Verdict.IN_DOUBT):
            self._traffic.unsettled(reading.code, reading.message, reached)


def _pages(items: Iterable[_T]) -> Iterator[list[_T]]:
    """The items in pages; the next page is listed while the caller works on the last."""
    stream = iter(items)

    def take() -> list[_T]:
        return list(islice(stream, PAGE_SIZE))

    pool = ThreadPoolExecutor(1, "jdocr-listing")
    try:
        following = pool.submit(take)
        while page := following.result():
            following = pool.submit(take)
            yield page
    finally:
        # A kill does not wait for a storage that hangs.
        pool.shutdown(wait=False, cancel_futures=True)


def _patiently(desk: _Desk, ask: Callable[[], _T]) -> _T:
    """Asks the ledger through a database that is away for a while. A kill does not shorten it: what is in
    hand was paid for.
    """
    ends = time.monotonic() + STORE_SECONDS
    while True:
        try:
            return ask()
        except LedgerUnavailable as error:
            if time.monotonic() >= ends:
                raise
            desk.log.warning("Trying again: %s", error)
        time.sleep(STORE_PAUSE_SECONDS)


def _says_the_same(one: str | None, other: str | None) -> bool:
    """Whether two pictures' codes name the same invoice and say nothing else of it, however it is written."""
    told = [all_codes(from_text(text)).invoice for text in (one, other)]
    facts = [each and replace(each, text="") for each in told]
    return facts[0] is not None and facts[0] == facts[1]


def _settled(source: Source, row: Recognition, run: RunKey) -> _Done:
    if row.settled is Settled.FAILED:
        return _Done(Outcome(source.uri, row.identity, "failed", row.code, row.message))
    if row.is_of_another:
        return _Done(Outcome(source.uri, row.identity, "reused", SAME_INVOICE))
    outcome = "recognised" if row.run_digest == run.digest else "reused"
    return _Done(Outcome(source.uri, row.identity, outcome, row.code))


def _waiting(source: Source, stop: Stop) -> _Done:
    return _Done(Outcome(source.uri, None, "waiting", stop.reason, stop.message))
