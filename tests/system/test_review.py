"""Review in a real browser: somebody logs in, sees what is in doubt, corrects it, and the warehouse knows."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from airflow_provider_jdocr import review_answers
from tests.system.browser import CHROMIUM_IS_ABSENT, chromium
from tests.system.review_stage import PERSON, PRINTED, READ, ReviewStage, review_stage

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(chromium() is None, reason=CHROMIUM_IS_ABSENT),
]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReviewStage]:
    """With an invoice in doubt and somebody who is logged in."""
    with review_stage(tmp_path_factory.mktemp("review")) as stage:
        stage.load()
        stage.log_in()
        yield stage


def row(stage: ReviewStage, table: str) -> dict[str, Any]:
    """The only row of a table of the warehouse."""
    with closing(sqlite3.connect(stage.airflow.home / "warehouse.db")) as database:
        database.row_factory = sqlite3.Row
        (found,) = database.execute(f"SELECT * FROM jdocr_{table}").fetchall()  # noqa: S608 - ours
        return dict(found)


def test_what_is_put_off_is_asked_again_by_the_next_run(stage: ReviewStage) -> None:
    run = stage.ask()
    stage.open_question()
    stage.answer(review_answers.LATER)
    assert stage.await_end(run) == {"doubtful": "success", "review.ask": "skipped", "review.apply": "skipped"}
    assert row(stage, "documents")["review_status"] == "review"


def test_a_doubtful_invoice_is_corrected_and_the_warehouse_knows_who_changed_what(
    stage: ReviewStage,
) -> None:
    run = stage.ask()
    assert PRINTED not in stage.open_required_actions().first.inner_text()
    stage.open_question()
    shown = stage.page.locator("table", has_text="Printed 票面").inner_text()
    assert "s3://invoices/inbox/electronic_plain.png" in stage.page.content()
    assert stage.page.locator("main img, a img").first.evaluate("picture => picture.naturalWidth") > 500
    assert READ in shown
    assert "TOTAL_NOT_SUM" in stage.page.content()

    assert stage.field("total").input_value() == PRINTED, "the proposal stands in the form"
    stage.field("total").fill("86,33")
    stage.answer(review_answers.CORRECT)
    stage.await_question(run, try_number=2)
    assert row(stage, "documents")["review_status"] == "review", "a bad value changes nothing"
    assert "'86,33' is not an amount in yuan" in "\n".join(
        path.read_text() for path in (stage.airflow.home / "airflow" / "logs").rglob("*review.ask*/**/*.log")
    )

    stage.open_question()
    stage.field("total").fill("￥8,633.30")
    stage.field("note").fill("第三位看错")
    stage.answer(review_answers.CORRECT)
    assert stage.await_end(run) == {"doubtful": "success", "review.ask": "success", "review.apply": "success"}

    document, invoice, review = (row(stage, name) for name in ("documents", "invoices", "reviews"))
    for changed in (document, invoice):
        assert (changed["total"], changed["review_status"]) == (float(PRINTED), "corrected")
        assert (changed["reviewed_by"], changed["review_note"]) == (PERSON, "第三位看错")
    assert json.loads(document["evidence"])["total"]["text"] == READ
    assert (review["decision"], review["reviewed_by"], review["note"]) == ("correct", PERSON, "第三位看错")
    assert json.loads(review["changes"]) == {"total": {"printed": READ, "before": READ, "after": PRINTED}}
    assert review["reviewed_at"] == document["reviewed_at"] == invoice["reviewed_at"]


def test_nothing_is_asked_when_nothing_is_in_doubt(stage: ReviewStage) -> None:
    run = stage.airflow.trigger("review_doubtful_invoices")
    states = stage.await_end(run)
    assert states["doubtful"] == "success"
    assert set(states.values()) == {"success", "skipped"}
