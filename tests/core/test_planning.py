"""A plan tells what the run then does, makes no call, changes nothing, and needs no memory for a million."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any, cast

import pytest
import sqlalchemy as sa

from airflow_provider_jdocr.core.batch import Policy, recognise_batch
from airflow_provider_jdocr.core.client import Client
from airflow_provider_jdocr.core.errors import StorageError
from airflow_provider_jdocr.core.ledger import Ledger, Outcome, RunKey
from airflow_provider_jdocr.core.planning import FATES, FOLDERS_SHOWN, OTHER_FOLDERS, Plan, Terms, plan
from airflow_provider_jdocr.core.schema import metadata
from airflow_provider_jdocr.core.sources import Missing, Source
from tests.core import books
from tests.core.books import ACCOUNT, LOST, begun, called
from tests.core.ledgers import DAY_IS_OVER, FAILED, GOOD, NO_MONEY, OTHER_RUN, Clock, identity, left
from tests.core.test_batch import picture


class Shelf:
    """A storage with these contents; it counts how often one is read."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self.contents, self.reads = contents, 0

    def list(self, prefix: str, after: str | None, until: str | None) -> Iterator[Source]:
        for uri, content in sorted(self.contents.items()):
            yield Source(uri, len(content), etag=hashlib.md5(content).hexdigest())  # noqa: S324  as S3 does

    def stat(self, uri: str) -> Source | Missing:
        raise NotImplementedError(uri)

    def read(self, uri: str) -> bytes:
        self.reads += 1
        if not self.contents[uri]:
            raise StorageError(f"{uri} is gone", uri=uri)
        return self.contents[uri]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(database_url: str, clock: Clock) -> Iterator[Ledger]:
    with books.opened(database_url, clock) as opened:
        yield opened


def planned(ledger: Ledger, sources: Any = None, storage: Any = None, **terms: Any) -> Plan:
    account = terms.pop("account", ACCOUNT)
    price = terms.pop("price", None)
    if sources is None:
        sources = storage.list("", None, None)
    return plan(
        sources,
        folder="s3://bucket/",
        storage=storage or Shelf({}),
        account=account,
        ledger=ledger,
        terms=Terms(**terms),
        price=price,
    )


def counts(plan: Plan) -> dict[str, int]:
    return {name: count for name, count in plan.tally.counts.items() if count}


def listed(*names: str, size: int = 1) -> list[Source | Missing]:
    """As `books` has them read."""
    return [Source(books.uri(name), size, etag=name) for name in names]


def everything(ledger: Ledger) -> list[Any]:
    with ledger.engine.connect() as db:
        return [db.execute(sa.select(table)).all() for table in metadata.sorted_tables]


def test_each_image_has_the_fate_that_the_run_would_find(ledger: Ledger, clock: Clock) -> None:
    called(ledger, GOOD, "good")
    called(ledger, FAILED, "failed")
    called(ledger, LOST, "lost")
    called(ledger, LOST, "lost twice")
    called(ledger, LOST, "lost twice", OTHER_RUN)
    clock.pass_(1000)
    begun(ledger, "on its way")
    ledger.remember_sources(
        [(Source(books.uri("not sent"), 1, etag="not sent"), identity("not sent").sha256)]
    )
    ledger.remember_sources([(Source(books.uri("copy"), 1, etag="copy"), identity("not sent").sha256)])
    ledger.remember_sources([(Source(books.uri("cut"), 1, etag="cut"), identity("cut").sha256)])
    ledger.write_outcomes(
        OTHER_RUN, ACCOUNT, [Outcome(books.uri("cut"), identity("cut"), "rejected", "TRUNCATED", "cut")]
    )
    before = everything(ledger)
    names = ("copy", "cut", "failed", "good", "lost", "lost twice", "never read", "not sent", "on its way")
    sources = [
        *listed(*names),
        Missing("s3://bucket/none.jpg", "MISSING", "not there"),
        Source("s3://bucket/huge.png", ACCOUNT.endpoint.max_bytes, etag="h"),
    ]
    found = planned(ledger, sources)
    assert counts(found) == {
        "images": 11,
        "answered": 1,
        "failed": 1,
        "rejected": 3,
        "duplicates": 1,
        "held": 1,
        "busy": 1,
        "to_send": 3,
        "unjudged": 1,
        "in_doubt": 1,
        "bytes_to_send": 3,
    }
    assert found.tally.codes == {"TRUNCATED": 1, "MISSING": 1, "TOO_LARGE": 1}
    assert found.tally.unjudged == [books.uri("never read")]
    assert everything(ledger) == before


def test_the_plan_is_for_the_run_that_will_be(ledger: Ledger) -> None:
    called(ledger, GOOD, "good")
    called(ledger, FAILED, "failed")
    called(ledger, LOST, "lost")
    sources = listed("failed", "good", "lost")
    assert counts(planned(ledger, sources, in_doubt="hold"))["held"] == 1
    assert counts(planned(ledger, sources, resend="failed"))["to_send"] == 2
    assert counts(planned(ledger, sources, resend="all"))["to_send"] == 3


def test_answers_of_another_service_or_endpoint_are_not_ours(ledger: Ledger) -> None:
    called(ledger, GOOD, "good")
    for other in (
        replace(ACCOUNT, service="127.0.0.1:8600"),
        replace(ACCOUNT, endpoint=replace(ACCOUNT.endpoint, name="intsig_invoice")),
    ):
        assert counts(planned(ledger, listed("good"), account=other))["to_send"] == 1


def test_without_being_told_to_no_picture_is_read(ledger: Ledger) -> None:
    shelf = Shelf({f"s3://bucket/{number}.png": picture(number) for number in range(9)})
    found = planned(ledger, storage=shelf)
    assert (found.to_send, found.tally.counts["unjudged"], shelf.reads) == (9, 9, 0)


def test_reading_judges_every_image_and_reads_none_that_the_ledger_knows(ledger: Ledger) -> None:
    contents = {f"s3://bucket/{number}.png": picture(number % 5) for number in range(8)}
    contents |= {"s3://bucket/text.png": b"no picture", "s3://bucket/unreadable.png": b""}
    shelf = Shelf(contents)
    answered = replace(identity(), sha256=hashlib.sha256(picture(0)).hexdigest())
    (first, *_) = shelf.list("", None, None)
    attempt = begun(ledger, "first")
    with ledger.engine.begin() as db:
        table = metadata.tables["jdocr_recognition"]
        db.execute(table.update().values(sha256=answered.sha256))
    books.ended(ledger, attempt, GOOD)
    ledger.remember_sources([(first, answered.sha256)])
    found = planned(ledger, storage=shelf, read=True)
    assert counts(found) == {
        "images": 10,
        "answered": 2,
        "rejected": 2,
        "duplicates": 2,
        "to_send": 4,
        "bytes_to_send": sum(len(picture(number)) for number in range(1, 5)),
    }
    assert found.tally.codes == {"FORMAT_NOT_ACCEPTED": 1, "UNREADABLE": 1}
    assert shelf.reads == 9


def test_the_run_does_what_the_plan_said(ledger: Ledger) -> None:
    class Answering:
        def send(self, content: bytes, _sha256: str) -> Any:
            return GOOD if content != picture(1) else FAILED

    contents = {f"s3://bucket/{number}.png": picture(number % 7) for number in range(20)}
    shelf = Shelf(contents | {"s3://bucket/text.png": b"no picture"})

    def run(name: str) -> Any:
        return recognise_batch(
            shelf.list("", None, None),
            storage=shelf,
            account=ACCOUNT,
            ledger=ledger,
            run=RunKey("dag", name, "recognise"),
            policy=Policy(max_in_flight=1),
            client=cast(Client, Answering()),
            pause=lambda _: None,
        )

    before = planned(ledger, storage=shelf, read=True)
    first = run("first")
    assert (first.calls, first.rejected) == (before.to_send, before.tally.counts["rejected"])
    assert first.inputs == before.tally.counts["images"]
    after = planned(ledger, storage=shelf)
    second = run("second")
    assert (second.calls, second.reused, second.failed, second.rejected) == (
        after.to_send,
        after.tally.counts["answered"],
        after.tally.counts["failed"],
        after.tally.counts["rejected"],
    )
    assert (after.to_send, after.tally.counts["unjudged"]) == (0, 0)


def test_the_fates_add_up_to_the_images_in_every_folder(ledger: Ledger) -> None:
    called(ledger, GOOD, "good")
    sources = [*listed("good"), *(Source(f"s3://bucket/{n % 3}/x/{n}.png", 10, etag="e") for n in range(10))]
    found = planned(ledger, sources).to_dict()
    folders = {each["folder"]: each for each in found["folders"]}
    assert set(folders) == {"s3://bucket/", "s3://bucket/0/", "s3://bucket/1/", "s3://bucket/2/"}
    for row in (found, *folders.values()):
        assert row["images"] == sum(row[name] for name in FATES)
    assert sum(row["images"] for row in folders.values()) == found["images"] == 11
    assert folders["s3://bucket/0/"]["bytes_to_send"] == 40


def test_more_folders_than_fit_are_added_up_in_one_row(ledger: Ledger) -> None:
    found = planned(ledger, (Source(f"s3://bucket/{n}/a.png", 1, etag="e") for n in range(150))).to_dict()
    assert len(found["folders"]) == FOLDERS_SHOWN + 1
    assert (found["folders"][-1]["folder"], found["folders"][-1]["images"]) == (OTHER_FOLDERS, 50)


def test_yuan_are_exact_bounds_and_none_without_a_price(ledger: Ledger) -> None:
    called(ledger, GOOD, "good")
    called(ledger, LOST, "lost")
    found = planned(ledger, listed("good", "lost", "new"), price=Decimal("0.048")).to_dict()
    assert (found["yuan"], found["yuan_at_least"], found["yuan_saved"]) == ("0.096", "0.048", "0.048")
    assert found["purchases"][0] == {"packs": {"10k": 1}, "calls": 10_000, "yuan": 480}
    without = planned(ledger, listed("new")).to_dict()
    assert (without["price_per_call"], without["yuan"]) == (None, None)
    assert "No price is known" in without["notes"][-1]


def test_a_plan_is_json(ledger: Ledger) -> None:
    found = planned(ledger, listed("a", "b"), price=Decimal("0.02")).to_dict()
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ("answer", "said"),
    [(NO_MONEY, "nothing is sent before the account is topped up"), (left(GOOD, 1), "1 calls are left")],
)
def test_a_quota_that_is_too_small_is_said(ledger: Ledger, answer: Any, said: str) -> None:
    called(ledger, answer, "first")
    assert said in " ".join(planned(ledger, listed("a", "b", "c")).notes())


def test_a_day_that_is_over_begins_with_the_reset(ledger: Ledger) -> None:
    called(ledger, DAY_IS_OVER, "first")
    quota = ledger.quota(ACCOUNT)
    assert quota.resets_at is not None
    found = planned(ledger, listed("a"))
    assert found.schedule.seconds == pytest.approx(quota.resets_at - quota.now, abs=1)


def test_years_of_calls_are_not_bought_at_once(ledger: Ledger) -> None:
    slow = replace(ACCOUNT, daily_limit=1)
    found = planned(ledger, listed(*map(str, range(400))), account=slow)
    assert any("365 calls: buy no more" in note for note in found.notes())


class TestAMillion:
    def test_nothing_is_kept_of_an_image(self, ledger: Ledger) -> None:
        images = 30_000
        tracemalloc.start()
        planned(ledger, (Source(f"s3://bucket/{n:07}.png", 1, etag="e") for n in range(images)))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 70 * images, "the shortest text takes as much"

    def test_a_page_is_one_query_where_nothing_is_known(self, ledger: Ledger) -> None:
        asked: list[str] = []
        sa.event.listen(ledger.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
        planned(ledger, (Source(f"s3://bucket/{n:07}.png", 1, etag="e") for n in range(5_000)))
        looks = [each for each in asked if each.startswith("SELECT")]
        assert sum("FROM jdocr_source" in each for each in looks) == 10
        assert len(looks) == 11, "and the quota"
