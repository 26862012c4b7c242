"""The bill counts every call once, under one name and one day, and invents no yuan."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from airflow_provider_jdocr.core.bill import GROUPS, Line, Span, as_dict, bill, total
from airflow_provider_jdocr.core.errors import ConfigurationError
from airflow_provider_jdocr.core.ledger import Ledger, RunKey
from tests.core import books, ledgers
from tests.core.books import LOST, UNREACHED, begun, called, ended, noted
from tests.core.ledgers import BUSY, FAILED, GOOD, OTHER_RUN, RUN, Clock

EVERYTHING = Span()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(database_url: str, clock: Clock) -> Iterator[Ledger]:
    with books.opened(database_url, clock) as opened:
        yield opened


def counts(line: Line) -> tuple[int, int, int, int, int]:
    return line.calls, line.charged, line.maybe_charged, line.not_charged, line.reused


def whole(ledger: Ledger, span: Span = EVERYTHING) -> tuple[int, int, int, int, int]:
    (line,) = bill(ledger.engine, span, ())
    return counts(line)


def test_an_empty_ledger_has_a_bill_of_nothing(ledger: Ledger) -> None:
    assert bill(ledger.engine, EVERYTHING) == []
    assert whole(ledger) == (0, 0, 0, 0, 0)


def test_every_call_that_reached_the_service_is_charged_not_charged_or_maybe(ledger: Ledger) -> None:
    called(ledger, GOOD, "good")
    called(ledger, FAILED, "failed")
    called(ledger, BUSY, "busy")
    called(ledger, LOST, "lost")
    called(ledger, UNREACHED, "unreached")
    begun(ledger, "on its way")
    noted(ledger, "reused", "good", OTHER_RUN)
    assert whole(ledger) == (5, 2, 2, 1, 1)


def test_the_bill_of_a_task_is_what_its_manifest_says(ledger: Ledger) -> None:
    called(ledger, GOOD)
    called(ledger, LOST, "b", OTHER_RUN)
    for run in (RUN, OTHER_RUN):
        cost = ledger.cost(run)
        line = whole(ledger, Span(dag_id=run.dag_id, run_id=run.run_id, task_id=run.task_id))
        assert line[:3] == (cost.calls, cost.charged, cost.charged_unknown)


def test_a_day_is_one_of_the_accounts_time_zone(ledger: Ledger, clock: Clock) -> None:
    """Half past midnight in Beijing is the afternoon of the day before in London."""
    clock.now = 1_760_027_400.0  # 2025-10-09 16:30 UTC
    called(ledger, GOOD)

    def days(timezone: str) -> list[Any]:
        return [line.group for line in bill(ledger.engine, EVERYTHING, timezone=timezone)]

    assert days("Asia/Shanghai") == [("2025-10-10",)]
    assert days("Europe/London") == days("America/New_York") == [("2025-10-09",)]
    assert days("Asia/Kathmandu") == [("2025-10-09",)]
    tenth = Span(since=date(2025, 10, 10), until=date(2025, 10, 10))
    assert whole(ledger, tenth)[0] == 1
    assert [line.calls for line in bill(ledger.engine, tenth, (), timezone="Europe/London")] == [0]


@pytest.mark.parametrize(("seconds", "day"), [(-0.001, "2025-10-09"), (0.0, "2025-10-10")])
def test_a_day_begins_at_its_first_instant(ledger: Ledger, clock: Clock, seconds: float, day: str) -> None:
    clock.now = 1_760_025_600.0 + seconds  # midnight in Beijing
    called(ledger, GOOD)
    assert [line.group for line in bill(ledger.engine, EVERYTHING)] == [(day,)]


def test_the_days_add_up_to_the_whole(ledger: Ledger, clock: Clock) -> None:
    for number in range(6):
        called(ledger, GOOD if number % 2 else LOST, f"image {number}")
        clock.pass_(43_200)
    lines = bill(ledger.engine, EVERYTHING)
    assert len(lines) == 4
    assert counts(total(lines)) == whole(ledger) == (6, 3, 3, 0, 0)
    assert [line.group for line in lines] == sorted(line.group for line in lines)


def test_it_can_be_grouped_by_everything_that_a_call_has(ledger: Ledger) -> None:
    called(ledger, GOOD)
    expected = {
        "day": "2025-10-09",
        "dag_id": "dag",
        "run_id": "run",
        "task_id": "recognise",
        "service": "jd",
        "endpoint": "ocr_invoice",
        "account": books.ACCOUNT.fingerprint,
    }
    for group in GROUPS:
        (line,) = bill(ledger.engine, EVERYTHING, (group,))
        assert line.group == (expected[group],)


def test_groups_can_be_combined(ledger: Ledger, clock: Clock) -> None:
    called(ledger, GOOD)
    called(ledger, GOOD, "b", RunKey("another", "run", "recognise"))
    clock.pass_(86_400)
    noted(ledger, "reused", "b", OTHER_RUN)
    lines = bill(ledger.engine, EVERYTHING, ("day", "dag_id"))
    assert [(line.group, line.calls, line.reused) for line in lines] == [
        (("2025-10-09", "another"), 1, 0),
        (("2025-10-09", "dag"), 1, 0),
        (("2025-10-10", "dag"), 0, 1),
    ]


@pytest.mark.parametrize("group_by", [("year",), ("day", "day"), ("uri",)])
def test_what_it_cannot_be_grouped_by_is_named(ledger: Ledger, group_by: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match="group_by: each of day, dag_id"):
        bill(ledger.engine, EVERYTHING, group_by)


def test_a_prefix_is_taken_to_the_letter(ledger: Ledger) -> None:
    """No wildcard, and upper and lower case are two."""
    called(ledger, GOOD, "in_box/a")
    called(ledger, GOOD, "in-box/a")
    called(ledger, GOOD, "IN_BOX/a")
    assert whole(ledger, Span(prefix="s3://bucket/in_box/"))[0] == 1
    assert whole(ledger, Span(prefix="s3://bucket/in%"))[0] == 0
    assert whole(ledger, Span(prefix="s3://bucket/"))[0] == 3


def test_a_call_for_one_picture_under_two_names_is_booked_once(ledger: Ledger) -> None:
    called(ledger, GOOD, "b")
    noted(ledger, "recognised", "b", also_named="a")
    first, second = (whole(ledger, Span(prefix=books.uri(name)))[0] for name in ("a", "b"))
    assert (first, second) == (1, 0)


def test_a_call_whose_task_was_killed_is_booked_under_the_name_it_was_read_by(ledger: Ledger) -> None:
    begun(ledger)
    assert whole(ledger, Span(prefix=books.uri("a")))[0] == 1


def test_yuan_are_the_calls_times_the_price(ledger: Ledger) -> None:
    for number in range(3):
        called(ledger, GOOD, f"image {number}")
    called(ledger, LOST, "lost")
    noted(ledger, "reused", "image 1", OTHER_RUN)
    (line,) = bill(ledger.engine, EVERYTHING, (), price=Decimal("0.017"))
    assert as_dict(line, ()) == {
        "calls": 4,
        "charged": 3,
        "maybe_charged": 1,
        "not_charged": 0,
        "reused": 1,
        "yuan": "0.051",
        "yuan_maybe": "0.017",
        "yuan_saved": "0.017",
    }
    assert total([line, line]).yuan == Decimal("0.102")


def test_without_a_price_there_are_no_yuan(ledger: Ledger) -> None:
    called(ledger, GOOD)
    (line,) = bill(ledger.engine, EVERYTHING)
    assert as_dict(line, ("day",))["yuan"] is None
    assert (line.yuan, line.yuan_maybe, line.yuan_saved) == (None, None, None)


def test_the_view_shows_day_and_time_as_in_beijing(ledger: Ledger, clock: Clock) -> None:
    clock.now = 1_760_027_400.0
    attempt = begun(ledger)
    ended(ledger, attempt, GOOD)
    with ledger.engine.connect() as db:
        row = db.execute(sa.text("SELECT * FROM jdocr_bill")).mappings().one()
    assert (str(row["day"]), str(row["sent_at"])[:19]) == ("2025-10-10", "2025-10-10 00:30:00")
    assert (row["entry"], row["call_id"], row["uri"]) == ("call", attempt.id, books.uri("a"))
    assert (row["sha256"], row["dag_id"], row["map_index"]) == (ledgers.identity().sha256, "dag", -1)
