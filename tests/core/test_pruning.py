"""Whatever is pruned, nothing is paid for again, and the bill of what was paid stays."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_provider_jdocr.core.auditing import audit
from airflow_provider_jdocr.core.bill import Span, bill
from airflow_provider_jdocr.core.doubts import Matching, doubts, settle
from airflow_provider_jdocr.core.errors import ConfigurationError
from airflow_provider_jdocr.core.ledger import Held, Ledger, RunKey, SettledAlready
from airflow_provider_jdocr.core.pruning import KINDS, STANDARD, prunable, prune
from airflow_provider_jdocr.core.sources import Source
from tests.core import books
from tests.core.books import LOST, UNREACHED, called, noted
from tests.core.ledgers import FAILED, GOOD, OTHER_RUN, RUN, Clock, identity

LATER = RunKey("dag", "much later", "recognise")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(database_url: str, clock: Clock) -> Iterator[Ledger]:
    """A month ago images were asked for and reused; a run of today reuses one of them."""
    with books.opened(database_url, clock) as opened:
        called(opened, GOOD, "good")
        called(opened, FAILED, "failed")
        called(opened, LOST, "lost")
        called(opened, LOST, "given up")
        settle(opened, Matching(prefix=books.uri("given up")), "give-up", by="li.wei", reason="")
        called(opened, UNREACHED, "unreached")
        noted(opened, "reused", "good", OTHER_RUN)
        opened.open_run(RunKey("dag", "of nothing", "recognise"))
        clock.pass_(30 * 86_400.0)
        noted(opened, "reused", "good", LATER)
        yield opened


def rows(ledger: Ledger) -> dict[str, int]:
    return dict(audit(ledger).rows)


def test_nothing_is_asked_for_again_after_everything_was_pruned(ledger: Ledger) -> None:
    prune(ledger, 1, tuple(KINDS))
    for name in ("good", "failed", "given up"):
        assert isinstance(ledger.claim(identity(name), LATER), SettledAlready)
    assert isinstance(ledger.claim(identity("lost"), LATER, in_doubt="hold"), Held)
    assert audit(ledger, replies=True).faults == ()


def test_the_bill_of_what_was_paid_stays_with_its_dag_and_its_day(ledger: Ledger) -> None:
    def paid() -> list[tuple[object, ...]]:
        lines = bill(ledger.engine, Span(), ("day", "dag_id", "run_id"))
        return [(line.group, line.calls, line.charged, line.maybe_charged) for line in lines if line.calls]

    before = paid()
    prune(ledger, 1, tuple(KINDS))
    assert paid() == before != []


def test_what_is_in_doubt_stays_named(ledger: Ledger) -> None:
    prune(ledger, 1, STANDARD)
    (doubt,) = doubts(ledger)
    assert (doubt.call.identity, doubt.call.run) == (identity("lost"), RUN)


def test_what_is_shown_is_what_goes_and_it_goes_once(ledger: Ledger) -> None:
    shown = prunable(ledger, 1, tuple(KINDS))
    assert {each.kind.name: each.rows for each in shown} == {
        "runs": 6 + 2,  # five images and a reused one; the run of nothing and the one that only reused
        "sources": 5,
        "unreached": 1,
        "replies": 2,
    }
    assert all(each.bytes > 0 for each in shown)
    assert [each.rows for each in prune(ledger, 1, tuple(KINDS))] == [each.rows for each in shown]
    assert [each.rows for each in prunable(ledger, 1, tuple(KINDS))] == [0, 0, 0, 0]


def test_what_is_not_old_enough_stays(ledger: Ledger) -> None:
    before = rows(ledger)
    assert [each.rows for each in prune(ledger, 31, tuple(KINDS))] == [0, 0, 0, 0]
    assert rows(ledger) == before


def test_a_run_is_forgotten_as_a_whole_or_not_at_all(ledger: Ledger, clock: Clock) -> None:
    """A task that waited for its quota over days has outcomes of many days."""
    noted(ledger, "recognised", "good", RUN)
    prune(ledger, 1)
    assert len(list(ledger.outcomes(RUN))) == 5
    assert list(ledger.outcomes(OTHER_RUN)) == []
    assert len(list(ledger.outcomes(LATER))) == 1


def test_raw_replies_go_only_by_name(ledger: Ledger) -> None:
    assert "replies" not in {each.kind.name for each in prune(ledger, 1)}
    assert [answer.body for answer in ledger.answers([identity("good")])] == [GOOD.body]


def test_an_answer_without_its_raw_reply_is_not_handed_to_a_reader(ledger: Ledger) -> None:
    """A better parser would find nothing in it, and replace a good row by that."""
    prune(ledger, 1, ("replies",))
    assert ledger.answers([identity("good")]) == []
    assert [answer.state for answer in ledger.answers([identity("failed")])] == ["failed"]


def test_a_file_that_was_forgotten_is_read_and_not_sent(ledger: Ledger) -> None:
    file = Source(books.uri("good"), 1, etag="good")
    assert ledger.known_sources([file])
    prune(ledger, 1, ("sources",))
    assert not ledger.known_sources([file])
    assert isinstance(ledger.claim(identity("good"), LATER), SettledAlready)


def test_what_cannot_be_pruned_is_named(ledger: Ledger) -> None:
    with pytest.raises(ConfigurationError, match="recognitions cannot be pruned; what can is runs"):
        prunable(ledger, 1, ("recognitions",))
