"""Review as tasks: what is asked, what an answer means, and what is never taken for an answer."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from airflow_provider_jdocr import review_answers, review_form
from airflow_provider_jdocr.core.engines import engine_for
from airflow_provider_jdocr.core.errors import ConfigurationError, ReviewRefused
from airflow_provider_jdocr.core.parsing import FieldEvidence
from airflow_provider_jdocr.core.review import CORRECTABLE, Doubtful, doubtful
from airflow_provider_jdocr.core.warehouse import Warehouse
from airflow_provider_jdocr.reviewing import (
    JdOcrApplyReviewOperator,
    JdOcrDoubtfulInvoicesOperator,
    JdOcrReviewInvoiceOperator,
)
from airflow_provider_jdocr.tasks.reviewing import NOBODY
from tests.core.test_review import WRONG, document
from tests.shell.conftest import Connect

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LI_LEI = {"id": "7", "name": "li.lei"}


@pytest.fixture
def warehouse(connect: Connect, tmp_path: Path) -> Warehouse:
    """With two documents in doubt, as the connection `warehouse`."""
    connect("warehouse", conn_type="sqlite", host=str(tmp_path / "warehouse.db"))
    found = Warehouse(engine_for(f"sqlite:///{tmp_path / 'warehouse.db'}"))
    found.create()
    found.load([document("a")])
    found.load([document("b", None, state="failed", code="12002", body=b"")])
    return found


def listed(**arguments: Any) -> list[dict[str, str]]:
    task = JdOcrDoubtfulInvoicesOperator(task_id="x", warehouse_conn_id="warehouse", **arguments)
    return task.execute({})


def answered(
    warehouse: Warehouse,
    option: str,
    user: dict[str, str] | None = LI_LEI,
    of: dict[str, str] | None = None,
    **typed: Any,
) -> dict[str, Any]:
    """What the task makes of an answer to the first document's form, some fields of which were typed anew."""
    form = review_form.form(doubtful(warehouse, limit=1)[0])
    event = {
        "chosen_options": [option],
        "params_input": {**{name: entry["value"] for name, entry in form.items()}, **typed},
        "responded_at": NOON,
        "responded_by_user": user,
    }
    task = JdOcrReviewInvoiceOperator(
        task_id="ask", document=of or listed()[0], warehouse_conn_id="warehouse"
    )
    return task.execute_complete({}, event)


def apply(decision: Any) -> dict[str, Any]:
    task = JdOcrApplyReviewOperator(task_id="apply", decision=decision, warehouse_conn_id="warehouse")
    return task.execute({})


def row(warehouse: Warehouse, table: str) -> Any:
    with warehouse.reading() as db:
        found: sa.Table = getattr(warehouse.tables, table)
        return db.execute(sa.select(found).order_by(*found.primary_key.columns)).mappings().first()


# --- which documents


def test_a_page_of_documents_goes_through_xcom_by_name_only(warehouse: Warehouse) -> None:
    found = listed()
    assert [set(each) for each in found] == [{"document_id", "seen", "label"}] * 2
    assert found[0]["label"] == "044001900111 12345678 · 天津远帆示例机械设备有限公司 · ¥118.00 · 2 errors"
    assert found[1]["label"] == "b.jpg · 1 error"
    assert len(listed(limit="1")) == 1


@pytest.mark.parametrize("limit", [0, 101, "many"])
def test_a_page_has_its_bounds(limit: Any, warehouse: Warehouse) -> None:
    with pytest.raises(AirflowFailException, match="limit"):
        listed(limit=limit)


# --- what an answer means


def test_corrections_are_what_the_form_says_otherwise_than_the_reading(warehouse: Warehouse) -> None:
    decision = answered(warehouse, review_answers.CORRECT, note="seen")
    assert decision == {
        "document_id": listed()[0]["document_id"],
        "seen": listed()[0]["seen"],
        "decision": "correct",
        "reviewed_by": "li.lei (7)",
        "reviewed_at": "2026-03-01T12:00:00+00:00",
        "changes": {"total": "113.00"},
        "note": "seen",
    }
    done = apply(decision)
    assert (done["review_status"], done["changed"], done["still_wrong"]) == ("corrected", ["total"], [])
    assert row(warehouse, "invoices")["reviewed_by"] == "li.lei (7)"
    assert apply(decision)["review_id"] == done["review_id"], "a retry adds nothing"


def test_approving_takes_what_was_read_although_a_proposal_stands_in_the_form(warehouse: Warehouse) -> None:
    decision = answered(warehouse, review_answers.APPROVE)
    assert (decision["decision"], decision["changes"]) == ("approve", {})
    done = apply(decision)
    assert set(done["still_wrong"]) == {"TOTAL_NOT_SUM", "WORDS_DISAGREE"}
    assert row(warehouse, "invoices")["review_status"] == "approved"


def test_rejecting_asks_for_no_values(warehouse: Warehouse) -> None:
    decision = answered(warehouse, review_answers.REJECT, total="whatever")
    assert apply(decision)["review_status"] == "rejected"


def test_later_decides_nothing(warehouse: Warehouse) -> None:
    with pytest.raises(AirflowSkipException, match="next run"):
        answered(warehouse, review_answers.LATER, shown=None)


def test_what_nobody_answered_is_nobodys_decision(warehouse: Warehouse) -> None:
    assert answered(warehouse, review_answers.REJECT, user=None)["reviewed_by"] == NOBODY


# --- what is not taken for an answer


def test_a_bad_value_is_asked_for_again(warehouse: Warehouse) -> None:
    """The error keeps its class, which lets the task be tried again."""
    with pytest.raises(ReviewRefused, match=r"^total: '86,33' is not an amount in yuan"):
        answered(warehouse, review_answers.CORRECT, total="86,33")


def test_an_answer_that_contradicts_its_form_is_asked_for_again(warehouse: Warehouse) -> None:
    with pytest.raises(ReviewRefused, match="seller_name: changed in the form, and 'Approve as read'"):
        answered(warehouse, review_answers.APPROVE, seller_name="某某有限公司")
    with pytest.raises(ReviewRefused, match="the form says what was read"):
        answered(warehouse, review_answers.CORRECT, total="118.00")


def test_an_answer_to_another_form_is_never_applied_to_this_document(warehouse: Warehouse) -> None:
    """Airflow goes on showing what a task asked before it was cleared."""
    first, second = listed()
    with pytest.raises(AirflowFailException, match="what an earlier try asked"):
        answered(warehouse, review_answers.REJECT, of=second)
    old = {**first, "seen": "0" * 32}
    with pytest.raises(AirflowFailException, match="Trigger a new run"):
        answered(warehouse, review_answers.REJECT, of=old)
    with pytest.raises(AirflowFailException, match="without the form"):
        answered(warehouse, review_answers.REJECT, shown=None)


def test_a_document_that_changed_since_is_refused_with_the_reason(warehouse: Warehouse) -> None:
    early, late = (answered(warehouse, option) for option in (review_answers.REJECT, review_answers.CORRECT))
    apply(early)
    with pytest.raises(AirflowFailException, match=r"it was rejected by li.lei \(7\) at 2026-03-01 12:00"):
        apply(late)
    assert row(warehouse, "documents")["review_status"] == "rejected"


@pytest.mark.parametrize("given", [None, "approve", {}, {"decision": "approve"}])
def test_only_a_decision_is_applied(given: Any, warehouse: Warehouse) -> None:
    with pytest.raises(AirflowFailException, match="decision"):
        apply(given)


# --- the form


def shown(warehouse: Warehouse) -> Doubtful:
    return doubtful(warehouse, limit=1)[0]


def test_what_is_in_doubt_comes_first_in_the_form_with_the_proposal(warehouse: Warehouse) -> None:
    form = review_form.form(shown(warehouse))
    assert list(form)[:4] == ["amount", "tax", "total", "total_in_words"]
    assert form["total"]["value"] == "113.00"
    assert form["total"]["description"] == "Proposed 建议值. Read as 识别为: 118.00"
    assert form["total"]["schema"]["title"] == "▲ 价税合计 Total"
    assert form["number"]["value"] == "12345678"
    assert form[review_form.SHOWN]["schema"]["const"], "hidden, and it comes back"


def test_the_text_has_every_value_as_printed_read_and_proposed(warehouse: Warehouse) -> None:
    body = review_form.body(shown(warehouse))
    assert "| ▲ 价税合计 Total | ￥118\\.00 | 118\\.00 | **113\\.00** |" in body
    assert "| 发票类型 Kind |  | 增值税电子普通发票 |  |" in body
    assert "TOTAL\\_NOT\\_SUM" in body


def test_a_document_without_any_value_can_be_asked_about(warehouse: Warehouse) -> None:
    _, failed = doubtful(warehouse, limit=2)
    assert "RECOGNITION\\_FAILED" in review_form.body(failed)
    assert review_form.form(failed)["number"]["value"] is None


HOSTILE = (
    "| a | b |",
    "[click](https://evil.example)",
    "![x](https://evil.example/p.png)",
    "<script>alert(1)</script>",
    "https://evil.example/p",
    "www.evil.example",
    "`code` **bold** _x_ # head",
    "line\nbreak\u2028and\x0bmore",
    "{{ conn.jdocr_default.password }}",
    "x" * 5000,
)


@pytest.mark.parametrize("printed", HOSTILE)
def test_what_an_invoice_prints_is_text_and_nothing_else(printed: str, warehouse: Warehouse) -> None:
    evidence = {"seller_name": FieldEvidence(printed, "k", None, None)}
    warehouse.load([document("c", _named(printed, evidence))])
    found = doubtful(warehouse, limit=3)[2]
    body = review_form.body(found)
    (row,) = [line for line in body.split("\n") if line.startswith("| 销售方名称")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 5, "four columns"
    assert len(row) < 1000
    assert not re.search(r"(?<!\\)[\[\]<>`_#]", row)
    assert "https:/" not in row.replace("\\", "")
    assert "www." not in row.replace("\\", "")
    assert "\n" not in review_form.subject(found)


def _named(printed: str, evidence: Any) -> Any:
    return replace(WRONG, number="87654321", seller_name=printed[:4000], evidence=evidence)


def test_only_the_uri_of_an_object_is_shown_never_a_signature(warehouse: Warehouse) -> None:
    signed = "https://user:pass-phrase@store.example/a.png?X-Amz-Signature=a1b2#part"
    body = review_form.body(replace(shown(warehouse), uris=(signed,)))
    assert r"store\.example\/a\.png" in body
    for secret in ("user", "phrase", "Signature", "a1b2", "part"):
        assert secret not in body


def test_a_picture_is_shown_where_the_author_says_it_can_be_seen() -> None:
    template = "https://pictures.example.com/{bucket}/{key}"
    assert review_form.link(template, "s3://scans/a b/发票(1).png") == (
        "https://pictures.example.com/scans/a%20b/%E5%8F%91%E7%A5%A8%281%29.png"
    )


@pytest.mark.parametrize(
    "template",
    ["{key}", "ftp://x/{key}", "https://x/{name}", "https://x/{", "https://x/ {key}", "https://{0}"],
)
def test_a_bad_address_of_pictures_is_named(template: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^picture_url: .*\{bucket\}"):
        review_form.link(template, "s3://scans/a.png")


def test_every_field_that_can_be_corrected_has_its_label() -> None:
    assert set(review_form.LABELS) == set(CORRECTABLE)
