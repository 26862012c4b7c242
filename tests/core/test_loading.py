"""Laws of loading: what goes from a ledger into a warehouse, and what is not even fetched."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from airflow_provider_jdocr.core.examining import Expectations
from airflow_provider_jdocr.core.ledger import Identity, StoredAnswer
from airflow_provider_jdocr.core.loading import load_answers
from airflow_provider_jdocr.core.qr import to_text
from airflow_provider_jdocr.core.warehouse import LoadReport, Warehouse

TODAY = date(2026, 3, 1)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LOG = logging.getLogger("test.loading")


@dataclass(frozen=True)
class Settled:
    answer_id: str | None


@dataclass
class FakeLedger:
    """Answers in memory, and a memory of which were fetched."""

    stored: dict[Identity, StoredAnswer] = field(default_factory=dict)
    unsettled: set[Identity] = field(default_factory=set)
    fetched: list[Identity] = field(default_factory=list)

    def recognitions(self, identities: Iterable[Identity]) -> Mapping[Identity, Settled]:
        wanted = list(identities)
        found = {each: Settled(self.stored[each].answer_id) for each in wanted if each in self.stored}
        return found | {each: Settled(None) for each in wanted if each in self.unsettled}

    def answers(self, identities: Sequence[Identity]) -> list[StoredAnswer]:
        assert 0 < len(identities) <= 500
        self.fetched += identities
        return [self.stored[each] for each in identities]

    def add(self, name: int, **result: str) -> Identity:
        """The answer to file `name`, as the ``ocr_invoice`` endpoint words it."""
        who = identity(name)
        body = json.dumps(
            {"code": "10000", "charge": True, "msg": "查询成功", "result": reply(name, **result)}
        )
        answer = StoredAnswer(who, f"{name}-1", NOON, "recognised", "10000", "查询成功", 200, body.encode())
        self.stored[who] = answer
        return who

    def change(self, who: Identity, **values: Any) -> None:
        self.stored[who] = replace(self.stored[who], **values)


def identity(name: int) -> Identity:
    return Identity("jd", "ocr_invoice", f"{name:064x}")


def reply(name: int, **result: str) -> dict[str, Any]:
    fields = {
        "buyer_name": "华电虎林凤力发电有限公司",
        "buyer_tax_no": "91110108551385082Q",
        "code": "044001900111",
        "invoice_amount": "100.00",
        "invoice_date": "20200206",
        "invoice_no": f"{name:08}",
        "invoice_type": "10",
        "saler_name": "山东阳谷振璃工艺制品司",
        "saler_tax_no": "91110108551385082Q",
        "tax_amount": "13.00",
        "total_amount": "113.00",
        "verify_code": "44095028783173850994",
    }
    return {"code": "0", "message": "success", "request_id": "r", "result": fields | result}


@pytest.fixture
def warehouse(engine: sa.Engine) -> Warehouse:
    warehouse = Warehouse(engine)
    warehouse.create()
    return warehouse


@pytest.fixture
def ledger() -> FakeLedger:
    return FakeLedger()


def load(
    ledger: FakeLedger,
    warehouse: Warehouse,
    items: Iterable[tuple[Identity, str]],
    today: date = TODAY,
    **options: Any,
) -> LoadReport:
    return load_answers(ledger, warehouse, items, today=today, log=LOG, **options)


def column(engine: sa.Engine, table: sa.Table, name: str) -> list[Any]:
    with engine.connect() as db:
        return list(db.scalars(sa.select(table.c[name]).order_by(*table.primary_key.columns)))


def test_an_answer_becomes_a_parsed_and_checked_row(
    ledger: FakeLedger, warehouse: Warehouse, engine: sa.Engine
) -> None:
    swapped = {"invoice_amount": "13.00", "tax_amount": "100.00"}
    items = [(ledger.add(1), "s3://b/1.jpg"), (ledger.add(2, **swapped), "s3://b/2.jpg")]
    report = load(ledger, warehouse, items)
    assert (report.considered, report.loaded, report.invoices_inserted, report.review) == (2, 2, 2, 1)
    invoices = warehouse.tables.invoices
    assert column(engine, invoices, "invoice_key") == ["044001900111:00000001", "044001900111:00000002"]
    assert column(engine, invoices, "issue_date") == [date(2020, 2, 6)] * 2
    assert column(engine, invoices, "review_status") == ["clear", "review"]


def test_an_answer_is_held_against_the_codes_of_its_picture(
    ledger: FakeLedger, warehouse: Warehouse, engine: sa.Engine
) -> None:
    code = "01,10,044001900111,{},100.00,20200206,44095028783173850994,AB12,"
    for name, printed in ((1, 1), (2, 8)):
        who = ledger.add(name)
        ledger.change(who, codes=to_text([code.format(f"{printed:08}")]))
    ledger.add(3)
    load(ledger, warehouse, [(identity(name), f"s3://scans/{name}.jpg") for name in (1, 2, 3)])
    findings, documents = warehouse.tables.findings, warehouse.tables.documents
    with engine.connect() as db:
        query = sa.select(findings.c.code, findings.c.fields, findings.c.found, findings.c.expected)
        query = query.where(findings.c.code != "PARTIES_EQUAL")
        assert db.execute(query).all() == [("QR_DISAGREES", "number", "00000002", "00000008")]
        evidence = db.scalars(sa.select(documents.c.evidence).order_by(documents.c.sha256)).all()
    assert [each.get("qr_code", {}).get("text") for each in evidence] == [
        code.format("00000001"),
        code.format("00000008"),
        None,
    ]


def test_a_second_load_fetches_nothing_and_changes_nothing(
    ledger: FakeLedger, warehouse: Warehouse, engine: sa.Engine
) -> None:
    items = [(ledger.add(name), f"s3://b/{name}.jpg") for name in range(3)]
    load(ledger, warehouse, items)
    before = column(engine, warehouse.tables.documents, "loaded_at")
    ledger.fetched.clear()
    assert load(ledger, warehouse, items) == LoadReport(considered=3, already_loaded=3)
    assert ledger.fetched == []
    assert column(engine, warehouse.tables.documents, "loaded_at") == before


def test_only_what_this_warehouse_lacks_is_fetched(ledger: FakeLedger, warehouse: Warehouse) -> None:
    items = [(ledger.add(name), f"s3://b/{name}.jpg") for name in range(3)]
    load(ledger, warehouse, items[:2])
    ledger.fetched.clear()
    report = load(ledger, warehouse, items)
    assert ledger.fetched == [identity(2)]
    assert (report.already_loaded, report.loaded) == (2, 1)


def test_a_newer_answer_is_loaded_over_the_older_one(ledger: FakeLedger, warehouse: Warehouse) -> None:
    who = ledger.add(1)
    load(ledger, warehouse, [(who, "s3://b/1.jpg")])
    ledger.change(who, answer_id="1-2", answered_at=NOON + timedelta(days=1))
    assert load(ledger, warehouse, [(who, "s3://b/1.jpg")]).loaded == 1
    assert load(ledger, warehouse, [(who, "s3://b/1.jpg")]).already_loaded == 1


def test_what_an_older_reader_loaded_is_read_again(
    ledger: FakeLedger, warehouse: Warehouse, engine: sa.Engine
) -> None:
    who = ledger.add(1)
    load(ledger, warehouse, [(who, "s3://b/1.jpg")])
    with engine.begin() as db:
        db.execute(warehouse.tables.documents.update().values(reading_version="0.9"))
    assert load(ledger, warehouse, [(who, "s3://b/1.jpg")]).loaded == 1


def test_what_was_read_with_other_expectations_is_read_again_and_the_same_ones_change_nothing(
    ledger: FakeLedger, warehouse: Warehouse, engine: sa.Engine
) -> None:
    items = [(ledger.add(1), "s3://b/1.jpg")]
    ours = Expectations.of({"buyers": ["某某科技有限公司"]})
    load(ledger, warehouse, items)
    assert "BUYER_UNKNOWN" not in column(engine, warehouse.tables.findings, "code")
    assert [load(ledger, warehouse, items, expectations=ours).loaded for _ in range(2)] == [1, 0]
    assert "BUYER_UNKNOWN" in column(engine, warehouse.tables.findings, "code")
    assert column(engine, warehouse.tables.documents, "review_status") == ["review"]
    assert load(ledger, warehouse, items).loaded == 1
    assert "BUYER_UNKNOWN" not in column(engine, warehouse.tables.findings, "code")


def test_an_older_provider_leaves_what_a_newer_one_read_whatever_either_expected(
    ledger: FakeLedger, warehouse: Warehouse, engine: sa.Engine
) -> None:
    items = [(ledger.add(1), "s3://b/1.jpg")]
    load(ledger, warehouse, items)
    with engine.begin() as db:
        db.execute(warehouse.tables.documents.update().values(reading_version="99.1+0badcafe"))
    assert load(ledger, warehouse, items).already_loaded == 1
    ours = Expectations.of({"repairs": "QR_DISAGREES"})
    assert load(ledger, warehouse, items, expectations=ours).already_loaded == 1


def test_a_picture_without_a_settled_answer_is_counted_and_has_no_row(
    ledger: FakeLedger, warehouse: Warehouse, engine: sa.Engine
) -> None:
    ledger.unsettled.add(identity(1))
    report = load(ledger, warehouse, [(identity(1), "s3://b/1.jpg"), (identity(2), "s3://b/2.jpg")])
    assert report == LoadReport(considered=2, not_answered=2)
    assert column(engine, warehouse.tables.documents, "state") == []


def test_failed_and_unreadable_answers_are_rows_with_their_reason(
    ledger: FakeLedger, warehouse: Warehouse, engine: sa.Engine
) -> None:
    failed, unreadable = ledger.add(1), ledger.add(2)
    ledger.change(failed, state="failed", code="12002", body=b'{"code": "10000"}')
    ledger.change(unreadable, body=b"<html>not what was promised")
    report = load(ledger, warehouse, [(failed, "s3://b/1.jpg"), (unreadable, "s3://b/2.jpg")])
    assert report == LoadReport(considered=2, loaded=2, failed=1, unparsed=1, review=1)
    assert sorted(column(engine, warehouse.tables.documents, "state")) == ["failed", "unparsed"]
    assert sorted(column(engine, warehouse.tables.findings, "code")) == ["PARSE_FAILED", "RECOGNITION_FAILED"]
    assert column(engine, warehouse.tables.invoices, "invoice_key") == []


def test_the_names_of_one_content_add_up_within_and_across_chunks(
    ledger: FakeLedger, warehouse: Warehouse, engine: sa.Engine
) -> None:
    who = ledger.add(1)
    names = [f"s3://b/{at:04}.jpg" for at in range(600)]
    report = load(ledger, warehouse, ((who, name) for name in names))
    assert column(engine, warehouse.tables.documents, "uris") == [names]
    assert (report.loaded, report.already_loaded) == (1, 1)


def test_each_warehouse_gets_the_rows_and_the_names_of_its_own_images_only(
    ledger: FakeLedger, engine: sa.Engine
) -> None:
    one, other = Warehouse(engine, prefix="one_"), Warehouse(engine, prefix="other_")
    both = ledger.add(1)
    only_other = ledger.add(2)
    for each in (one, other):
        each.create()
    load(ledger, one, [(both, "s3://one/1.jpg")])
    load(ledger, other, [(both, "s3://other/1.jpg"), (only_other, "s3://other/2.jpg")])
    load(ledger, one, [(both, "s3://one/1.jpg")])
    assert column(engine, one.tables.documents, "uris") == [["s3://one/1.jpg"]]
    assert len(column(engine, other.tables.documents, "uris")) == 2


def test_pairs_are_streamed_in_chunks(ledger: FakeLedger, warehouse: Warehouse, engine: sa.Engine) -> None:
    """What was read from the stream is in the warehouse before the next chunk is read."""
    there: list[int] = []

    def stream() -> Iterator[tuple[Identity, str]]:
        for name in range(1100):
            if name and name % 500 == 0:
                there.append(len(column(engine, warehouse.tables.documents, "state")))
            yield ledger.add(name), f"s3://b/{name}.jpg"

    report = load(ledger, warehouse, stream())
    assert there == [500, 1000]
    assert report.loaded == 1100


def test_the_log_says_what_was_done(
    ledger: FakeLedger, warehouse: Warehouse, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, LOG.name):
        load(ledger, warehouse, [(ledger.add(1), "s3://b/1.jpg"), (identity(2), "s3://b/2.jpg")])
        load(ledger, warehouse, [])
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "Loaded: 2 considered, 1 loaded, 1 not answered, 1 invoices inserted",
        "Loaded: 0 considered",
    ]


def test_the_counts_add_up(ledger: FakeLedger, warehouse: Warehouse) -> None:
    items = [(ledger.add(name), f"s3://b/{name}.jpg") for name in range(4)]
    load(ledger, warehouse, items[:2])
    report = load(ledger, warehouse, [*items, (identity(9), "s3://b/9.jpg")])
    counts = (report.already_loaded, report.loaded, report.unchanged, report.not_answered)
    assert counts == (2, 2, 0, 1)
    assert report.considered == sum(counts)
