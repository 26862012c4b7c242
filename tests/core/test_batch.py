"""The batch's laws: one outcome per input, one call per image, and an end that keeps what was paid for."""

from __future__ import annotations

import hashlib
import io
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from PIL import Image as Pillow
from sqlalchemy import text

from airflow_provider_jdocr.core import batch
from airflow_provider_jdocr.core.account import Account
from airflow_provider_jdocr.core.batch import (
    FAILURES_IN_A_ROW,
    SENDS_PER_IMAGE,
    Budget,
    Manifest,
    Policy,
    recognise_batch,
)
from airflow_provider_jdocr.core.client import Reply, WireFailure
from airflow_provider_jdocr.core.engines import engine_for
from airflow_provider_jdocr.core.errors import LedgerUnavailable, StorageError
from airflow_provider_jdocr.core.ledger import Ledger, RunKey
from airflow_provider_jdocr.core.sources import Missing, Source
from tests.core import ledgers
from tests.core.ledgers import GOOD, OTHER_RUN, RUN, Clock, left

SIGNED_WRONGLY = Reply(401, b'{"error": {"code": 401, "message": "sign result is not same [gw]"}}')
REFUSED = WireFailure(code="connection_refused", reached=False, detail="refused", elapsed_seconds=0.0)
BROKEN = WireFailure(code="connection_broken", reached=True, detail="closed", elapsed_seconds=0.0)


def picture(number: int) -> bytes:
    drawn = io.BytesIO()
    Pillow.new("RGB", (200, 100), (number % 256, number // 256, 7)).save(drawn, "PNG")
    return drawn.getvalue()


class Memory:
    """A storage of pictures that counts what is read."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.reads: Counter[str] = Counter()

    def list(self, prefix: str, after: str | None, until: str | None) -> Iterator[Source]:
        yield from self.sources()

    def stat(self, uri: str) -> Source | Missing:
        return Source(uri) if uri in self.files else Missing(uri, "MISSING", "not there")

    def read(self, uri: str) -> bytes:
        self.reads[uri] += 1
        content = self.files[uri]
        if content == b"cannot be read":
            raise StorageError(f"{uri}: the storage is away")
        return content

    def sources(self) -> Sequence[Source]:
        etags = {uri: hashlib.sha256(content).hexdigest() for uri, content in self.files.items()}
        return [Source(uri, len(self.files[uri]), etag) for uri, etag in etags.items()]


class Service:
    """A service that bills what it answers as charged; `script` gives the replies, the last one for ever."""

    def __init__(self, *script: Reply | WireFailure) -> None:
        self.script = list(script) or [GOOD]
        self.calls: list[str] = []
        self.together = self.most_together = 0
        self.lock = threading.Lock()
        self.before: Callable[[], object] = lambda: None

    def send(self, content: bytes, sha256: str) -> Reply | WireFailure:
        assert hashlib.sha256(content).hexdigest() == sha256
        with self.lock:
            self.calls.append(sha256)
            self.together += 1
            self.most_together = max(self.most_together, self.together)
            answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        self.before()
        with self.lock:
            self.together -= 1
        return answer


class Bench:
    """A ledger, a storage of `count` pictures and a service, with the batch as the only way between them."""

    def __init__(self, url: str) -> None:
        self.clock = Clock()
        self.engine = engine_for(url)
        self.ledger = Ledger(self.engine, clock=self.clock)
        self.ledger.create()
        self.account = ledgers.account()
        self.killed = threading.Event()

    def run(
        self, storage: Memory, service: Service, run: RunKey = RUN, sources: Any = None, **policy: Any
    ) -> Manifest:
        return recognise_batch(
            storage.sources() if sources is None else sources,
            storage=storage,
            account=self.account,
            ledger=self.ledger,
            run=run,
            policy=Policy(**policy),
            client=service,  # type: ignore[arg-type]
            stop=self.killed,
            pause=self.clock.pass_,
            jitter=lambda: 0.5,
        )


@pytest.fixture
def bench(sqlite_url: str) -> Iterator[Bench]:
    made = Bench(sqlite_url)
    yield made
    made.engine.dispose()


def pictures(count: int) -> Memory:
    return Memory({f"s3://b/{number:05}.png": picture(number) for number in range(count)})


def counts(manifest: Manifest) -> dict[str, int]:
    names = ("recognised", "reused", "rejected", "failed", "held", "waiting")
    assert manifest.adds_up
    return {name: getattr(manifest, name) for name in names if getattr(manifest, name)}


def test_every_image_is_sent_once_and_never_again(bench: Bench) -> None:
    storage, service = pictures(20), Service()
    first = bench.run(storage, service)
    assert (counts(first), first.calls, first.charged) == ({"recognised": 20}, 20, 20)
    again = bench.run(storage, service, OTHER_RUN)
    assert (counts(again), again.calls) == ({"reused": 20}, 0)
    assert len(service.calls) == 20


def test_a_rerun_reads_no_picture(bench: Bench) -> None:
    storage, service = pictures(5), Service()
    bench.run(storage, service)
    storage.reads.clear()
    bench.run(storage, service, OTHER_RUN)
    assert not storage.reads


def test_what_an_earlier_try_of_the_task_recognised_counts_as_recognised(bench: Bench) -> None:
    storage, service = pictures(5), Service()
    bench.run(storage, service)
    assert counts(bench.run(storage, service)) == {"recognised": 5}


def test_one_content_under_several_names_is_paid_once(bench: Bench) -> None:
    storage = Memory({f"s3://b/{name}": picture(1) for name in "abcdef"})
    service = Service()
    manifest = bench.run(storage, service)
    assert len(service.calls) == 1
    assert (manifest.inputs, manifest.recognised) == (6, 6)


def test_a_missed_slot_is_given_up_for_another_and_that_one_is_used_however_late(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots, begin = [], Ledger.begin

    def held_up(self: Ledger, *args: Any, **how: Any) -> Any:
        bench.clock.pass_(1.0)
        slots.append(how["slot"])
        return begin(self, *args, **how)

    monkeypatch.setattr(Ledger, "begin", held_up)
    service = Service()
    assert counts(bench.run(pictures(1), service)) == {"recognised": 1}
    assert (len(slots), len(service.calls)) == (2, 1)


def test_an_attempt_is_committed_earlier_where_commits_take_long(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A begin that takes a fifth of a second, at two calls a second: the wait before it becomes shorter."""
    passed, begin = 0.0, Ledger.begin
    pauses: list[float] = []

    class Recorded(Clock):
        def pass_(self, seconds: float) -> None:
            pauses.append(seconds)
            super().pass_(seconds)

    def slow(self: Ledger, *args: Any, **how: Any) -> Any:
        nonlocal passed
        passed += 0.2
        return begin(self, *args, **how)

    bench.clock = Recorded()
    bench.ledger = Ledger(bench.engine, clock=bench.clock)
    monkeypatch.setattr(Ledger, "begin", slow)
    monkeypatch.setattr("airflow_provider_jdocr.core.batch.time.monotonic", lambda: passed)
    bench.account = ledgers.account(qps=2)
    assert bench.run(pictures(20), Service(), max_in_flight=1).recognised == 20
    waits = [seconds for seconds in pauses if seconds]
    assert waits[0] == pytest.approx(1.03 / 2 - 0.1)
    assert min(waits) < 1.03 / 2 - 0.3


def test_at_most_max_in_flight_are_on_their_way(bench: Bench) -> None:
    service = Service()
    together = threading.Barrier(3)
    first = threading.Event()

    def meet() -> None:
        if first.is_set():
            together.wait(5)
        first.set()

    service.before = meet
    bench.run(pictures(10), service, max_in_flight=3)  # 1 alone, then three times three at once
    assert service.most_together == 3


def test_the_first_call_goes_alone_so_that_a_wrong_secret_costs_one_call(bench: Bench) -> None:
    service = Service(ledgers.WRONG_KEY)
    manifest = bench.run(pictures(50), service, max_in_flight=8)
    assert len(service.calls) == 1
    assert counts(manifest) == {"waiting": 50}
    assert manifest.stop is not None
    assert manifest.stop.reason == "configuration"
    assert "10001" in (manifest.verdict() or "")
    assert manifest.permanent()


def test_a_file_that_is_listed_as_too_large_is_rejected_without_being_read(bench: Bench) -> None:
    """A disk image in an inbox must not fill the memory of the worker."""
    storage, service = Memory({"s3://scans/disk.iso": b"", "s3://scans/a.png": picture(1)}), Service()
    listed = [replace(one, size=10**12) if one.uri.endswith("iso") else one for one in storage.sources()]
    manifest = bench.run(storage, service, sources=listed, max_failed=1)
    assert (manifest.rejected, manifest.recognised) == (1, 1)
    assert manifest.problems[0]["code"] == "TOO_LARGE"
    assert storage.reads == {"s3://scans/a.png": 1}


def test_a_rejected_picture_costs_no_call_and_is_named(bench: Bench) -> None:
    storage = Memory(
        {"s3://b/empty.jpg": b"", "s3://b/text.jpg": b"no picture", "s3://b/good.png": picture(1)}
    )
    service = Service()
    sources = [*storage.sources(), Missing("s3://b/none.jpg", "MISSING", "not there")]
    manifest = bench.run(storage, service, sources=sources)
    assert counts(manifest) == {"recognised": 1, "rejected": 3}
    assert len(service.calls) == 1
    assert {problem["uri"] for problem in manifest.problems} == {
        f"s3://b/{name}.jpg" for name in ("empty", "text", "none")
    }
    assert manifest.permanent()
    assert (manifest.verdict() or "").startswith("3 of 4 images failed")


def test_max_failed_is_the_number_of_failures_that_an_author_accepts(bench: Bench) -> None:
    storage = Memory({"s3://b/empty.jpg": b"", "s3://b/good.png": picture(1)})
    assert bench.run(storage, Service(), max_failed=0).verdict()
    assert bench.run(storage, Service(), max_failed=1).verdict() is None


def test_a_picture_that_cannot_be_read_now_may_be_tried_again(bench: Bench) -> None:
    storage = Memory({"s3://b/a.png": b"cannot be read"})
    manifest = bench.run(storage, Service())
    assert (counts(manifest), manifest.unsettled) == ({"rejected": 1}, 1)
    assert manifest.verdict()
    assert not manifest.permanent()


def test_a_charged_failure_is_never_sent_again(bench: Bench) -> None:
    service = Service(ledgers.FAILED)
    for run in (RUN, OTHER_RUN):
        manifest = bench.run(pictures(1), service, run)
        assert counts(manifest) == {"failed": 1}
        assert manifest.permanent()
    assert len(service.calls) == 1


def test_an_uncharged_again_is_sent_again(bench: Bench) -> None:
    service = Service(ledgers.BUSY, ledgers.BUSY, GOOD)
    assert counts(bench.run(pictures(1), service)) == {"recognised": 1}
    assert len(service.calls) == 3


def test_an_over_limit_answer_fails_no_image(bench: Bench) -> None:
    service = Service(*[ledgers.TOO_FAST] * 30, GOOD)
    assert counts(bench.run(pictures(3), service)) == {"recognised": 3}


def test_a_service_that_is_down_ends_the_batch_early(bench: Bench) -> None:
    service = Service(GOOD, ledgers.BUSY)
    manifest = bench.run(pictures(200), service)
    assert manifest.stop is not None
    assert manifest.stop.reason == "busy"
    assert len(service.calls) <= FAILURES_IN_A_ROW + 4 + 1
    assert not manifest.permanent()


def test_an_unreachable_host_ends_the_batch_without_a_call(bench: Bench) -> None:
    service = Service(REFUSED)
    manifest = bench.run(pictures(50), service, max_in_flight=8)
    assert manifest.calls == 0
    assert len(service.calls) == SENDS_PER_IMAGE
    assert manifest.stop is not None
    assert manifest.stop.reason == "unreachable"


def test_in_doubt_is_sent_once_more_or_held_as_the_author_says(bench: Bench) -> None:
    resent, held = Service(BROKEN, GOOD), Service(BROKEN)
    assert counts(bench.run(pictures(1), resent)) == {"recognised": 1}
    assert counts(bench.run(pictures(2), held, OTHER_RUN, in_doubt="hold")) == {"reused": 1, "held": 1}
    assert (len(resent.calls), len(held.calls)) == (2, 1)


def test_a_quota_that_ends_leaves_the_rest_waiting_and_the_next_run_goes_on(bench: Bench) -> None:
    storage, service = pictures(50), Service(*[GOOD] * 20, ledgers.DAY_IS_OVER)
    manifest = bench.run(storage, service)
    assert counts(manifest) == {"recognised": 20, "waiting": 30}
    assert manifest.verdict() is None
    assert manifest.stop is not None
    assert manifest.stop.seconds
    assert len(service.calls) <= 20 + 4
    asked = len(service.calls)
    assert counts(bench.run(storage, service)) == {"recognised": 20, "waiting": 30}
    assert len(service.calls) == asked, "nobody asks before the reset"
    bench.clock.pass_(86_400)
    assert counts(bench.run(storage, Service())) == {"recognised": 50}


def test_with_wait_the_batch_sleeps_until_the_reset_and_goes_on(bench: Bench) -> None:
    service = Service(*[GOOD] * 5, ledgers.DAY_IS_OVER, GOOD)
    manifest = bench.run(pictures(12), service, wait_for_quota=True, max_in_flight=1)
    assert counts(manifest) == {"recognised": 12}
    assert manifest.stop is None
    assert bench.clock.now > ledgers.START + 60


def test_a_prepaid_quota_that_ends_always_stops(bench: Bench) -> None:
    manifest = bench.run(pictures(9), Service(GOOD, ledgers.NO_MONEY), wait_for_quota=True, max_in_flight=1)
    assert counts(manifest) == {"recognised": 1, "waiting": 8}
    assert manifest.permanent()
    assert "top" in (manifest.verdict() or "")


def test_max_calls_bounds_a_task_instance_over_all_its_tries(bench: Bench) -> None:
    storage, service = pictures(10), Service()
    for _ in range(2):
        manifest = bench.run(storage, service, budget=Budget(max_calls=4))
        assert counts(manifest) == {"recognised": 4, "waiting": 6}
        assert manifest.verdict() is None
    assert len(service.calls) == 4


def test_keep_remaining_leaves_calls_for_others(bench: Bench) -> None:
    service = Service(*[left(GOOD, 9 - number) for number in range(10)])
    manifest = bench.run(pictures(10), service, max_in_flight=1, budget=Budget(keep_remaining=6))
    assert counts(manifest) == {"recognised": 4, "waiting": 6}
    assert manifest.remaining == 6


def test_resend_all_asks_once_more_and_a_retry_of_that_task_does_not(bench: Bench) -> None:
    storage, service = pictures(3), Service()
    bench.run(storage, service)
    for _ in range(2):
        assert counts(bench.run(storage, service, OTHER_RUN, resend="all")) == {"recognised": 3}
    assert len(service.calls) == 6


def test_a_kill_sends_nothing_more_and_keeps_what_was_in_flight(bench: Bench) -> None:
    service = Service()

    def kill() -> None:
        if len(service.calls) == 3:
            bench.killed.set()

    service.before = kill
    manifest = bench.run(pictures(10), service, max_in_flight=1)
    assert counts(manifest) == {"recognised": 3, "waiting": 7}
    bench.killed.clear()
    assert counts(bench.run(pictures(10), service)) == {"recognised": 10}
    assert len(service.calls) == 10


def test_a_listing_that_breaks_loses_no_answer(bench: Bench) -> None:
    storage, service = pictures(4), Service()

    def sources() -> Iterator[Source]:
        for _ in range(200):
            yield from storage.sources()
        raise StorageError("the listing broke off")

    with pytest.raises(StorageError):
        bench.run(storage, service, sources=sources())
    assert counts(bench.run(storage, Service(REFUSED))) == {"recognised": 4}


def test_an_image_that_another_task_is_asking_for_is_awaited_not_paid(bench: Bench) -> None:
    storage, service = pictures(1), Service()
    (source,) = storage.sources()
    other = bench.ledger.claim(
        replace(ledgers.identity(), sha256=hashlib.sha256(storage.files[source.uri]).hexdigest()), OTHER_RUN
    )
    manifest = bench.run(storage, service)
    assert counts(manifest) == {"recognised": 1}
    assert len(service.calls) == 1
    assert bench.clock.now > ledgers.START + 50, "the other one's lease had to end first"
    assert other is not None


def test_a_batch_without_any_image_says_so(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    assert bench.run(Memory({}), Service()).inputs == 0
    assert "nothing matches" in caplog.text


def test_the_manifest_survives_the_way_through_json(bench: Bench) -> None:
    manifest = bench.run(pictures(3), Service(GOOD, ledgers.DAY_IS_OVER), max_in_flight=1)
    assert Manifest.from_dict(manifest.to_dict()) == manifest


def test_the_ledger_names_the_outcome_of_every_input(bench: Bench) -> None:
    storage = Memory({"s3://b/empty.jpg": b"", "s3://b/good.png": picture(1)})
    bench.run(storage, Service())
    assert {row.uri: row.outcome for row in bench.ledger.outcomes(RUN)} == {
        "s3://b/empty.jpg": "rejected",
        "s3://b/good.png": "recognised",
    }


@pytest.mark.parametrize("turned_away", [ledgers.TOO_FAST, ledgers.BUSY, ledgers.WRONG_KEY, REFUSED])
def test_an_answer_that_turns_the_call_away_uses_up_no_resend(
    bench: Bench, turned_away: Reply | WireFailure
) -> None:
    storage = pictures(1)
    bench.run(storage, Service())
    bench.run(storage, Service(turned_away, GOOD), OTHER_RUN, resend="all", max_in_flight=1)
    assert counts(bench.run(storage, Service(), OTHER_RUN, resend="all")) == {"recognised": 1}
    assert bench.ledger.cost(OTHER_RUN).charged == 1


def test_a_retry_whose_budget_is_used_up_still_knows_what_it_recognised(bench: Bench) -> None:
    storage, service = pictures(6), Service()
    bench.run(storage, service)
    how: dict[str, Any] = {"resend": "all", "max_in_flight": 1, "budget": Budget(max_calls=3)}
    assert counts(bench.run(storage, service, OTHER_RUN, **how)) == {"recognised": 3, "waiting": 3}
    more = Memory({"s3://a/new.png": picture(99), **storage.files})
    assert counts(bench.run(more, service, OTHER_RUN, **how)) == {"recognised": 3, "waiting": 4}


def test_a_kill_counts_also_when_the_budget_had_ended_the_sending(bench: Bench) -> None:
    service = Service()
    service.before = bench.killed.set
    manifest = bench.run(pictures(9), service, max_in_flight=4, budget=Budget(max_calls=1))
    assert len(service.calls) == 1
    assert manifest.stop is not None
    assert manifest.stop.reason == "killed"
    assert manifest.verdict()


def test_a_paid_answer_survives_a_ledger_that_is_busy(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "STORE_PAUSE_SECONDS", 0.0)
    settle, away = bench.ledger.settle, iter([LedgerUnavailable("away"), LedgerUnavailable("away")])

    def sometimes(*args: Any) -> None:
        if (error := next(away, None)) is not None:
            raise error
        settle(*args)

    monkeypatch.setattr(bench.ledger, "settle", sometimes)
    assert counts(bench.run(pictures(1), Service())) == {"recognised": 1}


def test_a_progress_line_that_cannot_be_made_does_not_end_the_batch(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "PROGRESS_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(batch, "STORE_PAUSE_SECONDS", 0.0)
    quota, times = bench.ledger.quota, count()

    def sometimes(account: Account) -> Any:
        if next(times) % 2 == 0:
            raise LedgerUnavailable("away")
        return quota(account)

    monkeypatch.setattr(bench.ledger, "quota", sometimes)
    assert counts(bench.run(pictures(10), Service())) == {"recognised": 10}


def test_a_batch_that_breaks_off_leaves_its_outcomes_and_nothing_as_being_sent(bench: Bench) -> None:
    service = Service()

    def break_off() -> None:
        if len(service.calls) == 5:
            raise MemoryError

    service.before = break_off
    with pytest.raises(MemoryError):
        bench.run(pictures(10), service, max_in_flight=1)
    assert Counter(row.outcome for row in bench.ledger.outcomes(RUN))["recognised"] == 4
    with bench.engine.connect() as db:
        states = db.execute(text("SELECT state, count(*) FROM jdocr_recognition GROUP BY state")).all()
    assert dict(map(tuple, states)) == {"idle": 4, "in_doubt": 1}


class Archive(Memory):
    """A storage that lists `count` pictures and draws one when it is read."""

    def __init__(self, count: int) -> None:
        super().__init__({})
        self.count = count

    def sources(self) -> Iterator[Source]:  # type: ignore[override]  # it is as long as a listing may be
        return (Source(f"s3://bucket/{number:05}.png", 1000, f"{number}") for number in range(self.count))

    def read(self, uri: str) -> bytes:
        self.reads[uri] += 1
        return picture(int(uri[-9:-4]))


@pytest.mark.parametrize("answer", [ledgers.WRONG_KEY, SIGNED_WRONGLY], ids=["appkey", "jdcloud2"])
def test_ten_thousand_images_and_a_wrong_secret_are_one_call(bench: Bench, answer: Reply) -> None:
    archive, service = Archive(10_000), Service(answer)
    manifest = bench.run(archive, service, sources=archive.sources(), max_in_flight=16)
    assert len(service.calls) == 1
    assert manifest.calls == 1
    assert (manifest.inputs, manifest.waiting) == (10_000, 10_000)
    assert manifest.stop
    assert manifest.stop.reason == "configuration"
    assert manifest.permanent()
    assert sum(archive.reads.values()) <= 16
