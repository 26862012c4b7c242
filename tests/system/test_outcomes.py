"""In a whole Airflow: what is paid for survives kills, clears and quotas, and bad input costs little and
says why.
"""

import io
import os
import random
import re
import signal
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from PIL import Image

from tests.system.installation import SECRET, Installation, until
from tests.system.pictures import stub_picture

pytestmark = pytest.mark.system

GREEN = {"recognise": "success", "load": "success"}
RED = {"recognise": "failed", "load": "failed"}


def numbered(first: int, count: int) -> dict[str, bytes]:
    return {f"{number:05}.png": stub_picture(number) for number in range(first, first + count)}


def query(url: str, statement: str) -> list[Any]:
    engine = sa.create_engine(url)
    with engine.connect() as db:
        rows = list(db.execute(sa.text(statement)).all())
    engine.dispose()
    return rows


class TestKills:
    """Item by item: what was answered is not billed again; what was in flight is named by the ledger."""

    @pytest.mark.parametrize(("in_doubt", "ledger"), [("resend", "postgres_url"), ("hold", "sqlite_url")])
    def test_a_batch_that_is_killed_and_retried_bills_at_most_what_was_in_flight_again(
        self, in_doubt: str, ledger: str, airflow: Installation, request: pytest.FixtureRequest
    ) -> None:
        database_url: str = request.getfixturevalue(ledger)
        airflow.connect_database("ledger_kill", database_url)
        # Short timeouts, so that the lease of a killed send ends soon.
        airflow.connect(
            jdocr_kill=airflow.account("ledger_kill", connect_timeout_seconds=1, read_timeout_seconds=2)
        )
        images = airflow.put(f"kill-{in_doubt}", numbered(1000, 30))
        airflow.behave(latency=0.3)
        run = airflow.trigger("batch", images=images, jdocr_conn_id="jdocr_kill", in_doubt=in_doubt)
        until(lambda: len(airflow.bill()) >= 9, "some bills")
        os.kill(run.task("recognise")["pid"], signal.SIGKILL)
        answered = {row[0] for row in query(database_url, ANSWERED)}
        in_flight = {row[0] for row in query(database_url, SENDING)}
        airflow.behave(latency=0)
        states = run.finish(seconds=180)
        bills = Counter(airflow.bill())
        twice = {digest for digest, count in bills.items() if count > 1}
        assert run.task("recognise")["try_number"] == 2
        assert len(in_flight) <= 4
        assert not twice & answered
        assert twice <= in_flight
        assert {row[0] for row in query(database_url, IN_DOUBT)} == in_flight
        if in_doubt == "resend":
            assert states == GREEN
            assert len(bills) == 30
        else:
            assert not twice
            assert run.manifest()["held"] == len(in_flight)

    def test_a_running_task_that_is_cleared_bills_nothing_again(
        self, airflow: Installation, sqlite_url: str
    ) -> None:
        airflow.connect_database("ledger_clear", sqlite_url)
        airflow.connect(
            jdocr_clear=airflow.account("ledger_clear", connect_timeout_seconds=1, read_timeout_seconds=2)
        )
        images = airflow.put("clear", numbered(2000, 30))
        airflow.behave(latency=0.3)
        run = airflow.trigger("batch", images=images, jdocr_conn_id="jdocr_clear")
        until(lambda: len(airflow.bill()) >= 9, "some bills")
        run.clear("recognise")
        until(lambda: run.task("recognise")["try_number"] > 1 or None, "another try")
        airflow.behave(latency=0)
        assert run.finish(seconds=180) == GREEN
        bills = Counter(airflow.bill())
        assert len(bills) == 30
        assert max(bills.values()) == 1


ANSWERED = (
    "SELECT r.sha256 FROM jdocr_attempt a JOIN jdocr_recognition r ON r.id = a.recognition_id "
    "WHERE a.state = 'answered'"
)
SENDING = ANSWERED.replace("'answered'", "'sending'")
IN_DOUBT = ANSWERED.replace("'answered'", "'in_doubt'")


@dataclass(frozen=True, slots=True)
class Bad:
    """An input that cannot work: what is wrong, what the log has to say, how many calls it may cost."""

    says: str
    calls: int
    files: dict[str, bytes] | None = None
    images: Any = None
    account: dict[str, Any] | None = None
    tries: int = 1
    behave: dict[str, Any] | None = None
    params: dict[str, Any] | None = None


def large() -> bytes:
    """A scan of 6 MB."""
    content = io.BytesIO()
    Image.frombytes("RGB", (1450, 1450), random.Random(6).randbytes(1450 * 1450 * 3)).save(content, "PNG")
    return content.getvalue()


ONE = {"a.png": stub_picture(3000)}
BAD_INPUTS = {
    "empty file": Bad("EMPTY", 0, files={"a.png": b""}),
    "text named jpg": Bad("UNDECODABLE|FORMAT_NOT_ACCEPTED", 0, files={"a.jpg": b"Not a picture at all."}),
    "scan of 6 MB": Bad("TOO_LARGE", 0, files={"a.png": large()}),
    "missing object": Bad("MISSING", 0, images=["s3://invoices/nothing/here.png"]),
    "missing key": Bad("login: must be the access key", 0, account={"login": None}),
    "wrong secret": Bad("401", 1, account={"password": "another-secret"}),
    "no quota": Bad("top the account up", 1, behave={"total_limit": 0}),
    "no quota today": Bad(
        "on_quota is 'fail'", 1, behave={"daily_limit": 0}, params={"on_quota": "fail"}, tries=2
    ),
    "unknown extra": Bad("'qsp'", 0, account={"extra": {"qsp": 2}}),
    "unreachable host": Bad("connection_refused", 0, account={"host": "http://127.0.0.1:9"}, tries=2),
    "no such bucket": Bad("there is no such bucket", 0, images="s3://no-such-bucket/inbox/"),
}


def replies(airflow: Installation) -> int:
    """How often the service was called, whatever it answered."""
    counted = airflow.health()["replies"]
    return sum(sum(codes.values()) for codes in counted.values())


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_input_says_why_and_costs_next_to_nothing(name: str, airflow: Installation) -> None:
    bad, slug = BAD_INPUTS[name], name.replace(" ", "_")
    airflow.connect_database(f"ledger_{slug}", f"sqlite:///{airflow.home}/{slug}.db")
    account = airflow.account(f"ledger_{slug}")
    given = bad.account or {}
    airflow.connect(
        **{f"jdocr_{slug}": account | given | {"extra": account["extra"] | given.get("extra", {})}}
    )
    if bad.behave:
        airflow.behave(**bad.behave)
    images = bad.images or airflow.put(slug, bad.files or ONE)
    run = airflow.trigger("batch", images=images, jdocr_conn_id=f"jdocr_{slug}", **(bad.params or {}))
    assert run.finish() == RED
    kind, text = run.reason("recognise")
    assert kind == ("BatchFailed" if bad.tries > 1 else "AirflowFailException")
    assert re.search(bad.says, text)
    log = run.log("recognise")
    assert run.task("recognise")["try_number"] == bad.tries
    assert replies(airflow) == bad.calls
    assert not airflow.bill()
    assert SECRET not in log


def test_a_daily_limit_keeps_the_rest_and_a_deferral_to_the_reset_finishes_it(airflow: Installation) -> None:
    reset = (datetime.now(UTC).astimezone(ZoneInfo("Asia/Shanghai")) + timedelta(seconds=50)).strftime(
        "%H:%M:%S"
    )
    airflow.behave(daily_limit=20, reset_time=reset)
    airflow.connect_database("ledger_daily", f"sqlite:///{airflow.home}/daily.db")
    airflow.connect(jdocr_daily=airflow.account("ledger_daily", reset_time=reset))
    images = airflow.put("daily", numbered(4000, 50))
    stopped = airflow.trigger("batch", images=images, jdocr_conn_id="jdocr_daily", on_quota="stop")
    assert stopped.finish() == GREEN
    manifest = stopped.manifest()
    assert (manifest["recognised"], manifest["waiting"], len(airflow.bill())) == (20, 30, 20)
    waiting = airflow.trigger("deferring", images=images, jdocr_conn_id="jdocr_daily", on_quota="wait")
    waiting.await_state("recognise", "deferred")
    airflow.behave(daily_limit=100)
    assert waiting.finish(seconds=180) == GREEN
    manifest = waiting.manifest()
    assert (manifest["recognised"], manifest["reused"], manifest["waiting"]) == (30, 20, 0)
    assert max(Counter(airflow.bill()).values()) == 1
    assert len(airflow.bill()) == 50


def test_two_warehouses_of_one_ledger_have_their_own_images_and_a_loaded_invoice_is_not_overwritten(
    airflow: Installation, postgres_url: str
) -> None:
    here = f"sqlite:///{airflow.home}/here.db"
    airflow.connect_database("warehouse_here", here)
    airflow.connect_database("warehouse_there", postgres_url)
    mine, theirs = airflow.put("mine", numbered(5000, 4)), airflow.put("theirs", numbered(5002, 5))
    for images, warehouse in ((mine, "warehouse_here"), (theirs, "warehouse_there")):
        assert airflow.trigger("batch", images=images, warehouse_conn_id=warehouse).finish() == GREEN
    assert len(airflow.bill()) == 7
    for url, files in ((here, numbered(5000, 4)), (postgres_url, numbered(5002, 5))):
        loaded = {row[0] for row in query(url, "SELECT sha256 FROM jdocr_documents")}
        assert loaded == {sha256(content).hexdigest() for content in files.values()}
    before = query(here, "SELECT invoice_key, total FROM jdocr_invoices ORDER BY 1")
    other = airflow.put("other", {"again.png": stub_picture(5001, total=Decimal("999999.99"))})
    assert airflow.trigger("batch", images=other, warehouse_conn_id="warehouse_here").finish() == GREEN
    assert query(here, "SELECT invoice_key, total FROM jdocr_invoices ORDER BY 1") == before
    assert len(query(here, "SELECT sha256 FROM jdocr_documents")) == 5
    conflicts = query(here, "SELECT code FROM jdocr_findings WHERE code = 'CONFLICTING_DOCUMENT'")
    assert conflicts
