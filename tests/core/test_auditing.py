"""A sound ledger has no fault, whatever state its images are in; each thing that cannot be is noticed."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from airflow_provider_jdocr.core import schema
from airflow_provider_jdocr.core.auditing import RULES, audit
from airflow_provider_jdocr.core.doubts import Matching, settle
from airflow_provider_jdocr.core.ledger import Ledger
from tests.core import books
from tests.core.books import LOST, UNREACHED, begun, called, ended, noted
from tests.core.ledgers import BUSY, FAILED, GOOD, OTHER_RUN, Clock, identity


@pytest.fixture
def clock() -> Clock:
    return Clock()


def with_every_state(ledger: Ledger, clock: Clock) -> Ledger:
    """One image in every state that there is."""
    for name, answer in (("good", GOOD), ("failed", FAILED), ("busy", BUSY)):
        called(ledger, answer, name)
    called(ledger, UNREACHED, "unreached")
    called(ledger, LOST, "given up")
    settle(ledger, Matching(prefix=books.uri("given up")), "give-up", charged=True, by="li.wei", reason="")
    called(ledger, LOST, "lost")
    late = begun(ledger, "late")
    clock.pass_(3600)
    ledger.claim(identity("late"), OTHER_RUN)
    ended(ledger, late, GOOD)
    begun(ledger, "expired")
    clock.pass_(3600)
    begun(ledger, "on its way")
    ledger.claim(identity("claimed"), OTHER_RUN)
    noted(ledger, "reused", "good", OTHER_RUN)
    return ledger


def test_a_sound_ledger_has_no_fault(database_url: str, clock: Clock) -> None:
    with books.opened(database_url, clock) as ledger:
        found = audit(with_every_state(ledger, clock), replies=True)
    assert found.faults == ()
    assert found.rows["jdocr_recognition"] == 10
    assert set(found.rows) == set(schema.metadata.tables)


HARM = {
    "ANSWER_MISSING": "UPDATE jdocr_recognition SET answer_id = 'gone' WHERE settled = 'answered'",
    "ANSWER_OF_ANOTHER": "UPDATE jdocr_attempt SET state = 'in_doubt' WHERE verdict = 'success'",
    "SETTLED_BY_NOBODY": "UPDATE jdocr_recognition SET answer_id = NULL WHERE settled = 'answered'",
    "ANSWER_UNSETTLED": "UPDATE jdocr_recognition SET settled = NULL WHERE answer_id IS NOT NULL",
    "STATE_UNKNOWN": "UPDATE jdocr_recognition SET state = 'paused' WHERE state = 'idle'",
    "LEASE_WITHOUT_HOLDER": "UPDATE jdocr_recognition SET lease_token = NULL WHERE state = 'claimed'",
    "LEASE_TOO_LONG": "UPDATE jdocr_recognition SET lease_until = 9e9 WHERE state = 'claimed'",
    "SEND_WITHOUT_LEASE": "UPDATE jdocr_recognition SET state = 'in_doubt' WHERE state = 'sending'",
    "SENDING_NOTHING": "UPDATE jdocr_attempt SET state = 'in_doubt' WHERE state = 'sending'",
    "CALL_OF_NOTHING": "UPDATE jdocr_attempt SET service = 'another'",
    "CALL_OF_NO_RUN": "UPDATE jdocr_attempt SET run_digest = 'gone'",
    "RECEIVED_WITHOUT_TIME": "UPDATE jdocr_attempt SET ended_at = NULL WHERE state = 'answered'",
    "OUTCOME_OF_NO_RUN": "UPDATE jdocr_outcome SET run_digest = 'gone' WHERE outcome = 'reused'",
    "OUTCOME_WITHOUT_ANSWER": "UPDATE jdocr_outcome SET sha256 = 'gone' WHERE outcome = 'reused'",
    "DECISION_OF_NOTHING": "DELETE FROM jdocr_recognition WHERE settled = 'failed'",
    "REPLY_DAMAGED": "UPDATE jdocr_attempt SET reply = 'not zlib'",
}
# Foreign keys keep these out of a server; a file that was put together from pieces may hold them.
KEPT_OUT = {"DECISION_OF_NOTHING"}


def test_every_rule_is_tried() -> None:
    assert set(HARM) == set(RULES)


@pytest.mark.parametrize("code", sorted(set(HARM) - KEPT_OUT))
def test_what_cannot_be_is_noticed(sqlite_url: str, clock: Clock, code: str) -> None:
    with books.opened(sqlite_url, clock) as ledger:
        with_every_state(ledger, clock)
        with ledger.engine.begin() as db:
            assert db.execute(sa.text(HARM[code])).rowcount > 0
        found = {fault.code: fault for fault in audit(ledger, replies=True).faults}
    assert code in found
    assert found[code].rows >= len(found[code].examples) > 0


def test_a_decision_without_its_image_is_noticed(sqlite_url: str, clock: Clock) -> None:
    with books.opened(sqlite_url, clock) as ledger:
        called(ledger, LOST)
        settle(ledger, Matching(), "give-up", by="li.wei", reason="")
        with ledger.engine.connect() as db:
            db.exec_driver_sql("PRAGMA foreign_keys=OFF")
            db.rollback()
            raw = db.connection.driver_connection
            assert raw is not None
            raw.execute("PRAGMA foreign_keys=OFF")
            raw.execute(HARM["DECISION_OF_NOTHING"])
            raw.execute("PRAGMA foreign_keys=ON")
        assert "DECISION_OF_NOTHING" in {fault.code for fault in audit(ledger).faults}
