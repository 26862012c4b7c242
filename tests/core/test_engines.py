"""What the databases have in common for whoever asks, however differently they are asked for it."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from airflow_provider_jdocr.core import engines, schema
from airflow_provider_jdocr.core.client import MAX_REPLY_BYTES
from airflow_provider_jdocr.core.engines import engine_for
from airflow_provider_jdocr.core.errors import ConfigurationError
from airflow_provider_jdocr.core.ledger import Attempt, Claim, Identity, Ledger
from tests.core import ledgers
from tests.core.ledgers import GOOD, RUN, identity

ACCOUNT = ledgers.account()


@pytest.fixture
def ledger(engine: sa.Engine) -> Ledger:
    made = Ledger(engine)
    made.create()
    return made


def test_the_databases_clock_is_in_utc_and_goes_on_within_a_transaction(engine: sa.Engine) -> None:
    """The tests' MariaDB lives eight hours east."""
    clock = sa.select(engines.clock(engine.dialect))
    with engine.begin() as db:
        first = db.execute(clock).scalar_one()
        assert abs(first - time.time()) < 60
        time.sleep(0.01)
        assert 0.005 < db.execute(clock).scalar_one() - first < 60


@pytest.mark.parametrize(
    "other",
    [
        Identity("JD", "ocr_invoice", identity().sha256),
        Identity("jd", "ocr_invoice", identity().sha256.upper()),
        Identity("jd", "ocr_inv\u00f3ice", identity().sha256),
    ],
    ids=["service", "hash", "accent"],
)
def test_keys_are_equal_when_every_byte_is(ledger: Ledger, other: Identity) -> None:
    assert isinstance(ledger.claim(identity(), RUN), Claim)
    assert isinstance(ledger.claim(other, RUN), Claim)


def test_the_longest_reply_is_kept_to_the_byte(ledger: Ledger) -> None:
    """As long as the client lets it be, and nothing in it that could be compressed."""
    claim = ledger.claim(identity(), RUN)
    assert isinstance(claim, Claim)
    attempt = ledger.begin(claim, ACCOUNT, RUN, sent_sha256="0" * 64, asked_since=0.0)
    assert isinstance(attempt, Attempt)
    body = os.urandom(MAX_REPLY_BYTES)
    reading = replace(ledgers.read(GOOD, ACCOUNT), message="发票" * 100_000)
    ledger.settle(attempt, ACCOUNT, reading, replace(GOOD, body=body))
    (answer,) = ledger.answers([identity()])
    assert answer.body == body
    assert answer.message == reading.message


def test_a_mysql_that_would_refuse_a_long_reply_is_refused_before_any_call(mariadb_url: str) -> None:
    admin, engine = engine_for(mariadb_url), engine_for(mariadb_url)
    with admin.connect() as db:
        allowed = db.scalar(sa.text("SELECT @@global.max_allowed_packet"))
        db.execute(sa.text("SET GLOBAL max_allowed_packet = 1048576"))
        try:
            with pytest.raises(ConfigurationError, match=r"1048576 bytes \(max_allowed_packet\).*16777216"):
                Ledger(engine).create()
        finally:
            db.execute(sa.text(f"SET GLOBAL max_allowed_packet = {allowed}"))
    for each in (admin, engine):
        each.dispose()


def test_an_upsert_may_keep_the_row_that_is_there(ledger: Ledger, engine: sa.Engine) -> None:
    """The whole row, also where a database sets one column after the other."""
    names = ("uri_digest", "uri", "stamp", "sha256", "seen_at")
    rows = [dict(zip(names, ("u", "first", "kept", "s", 1.0), strict=True))]
    rows += [dict(zip(names, ("v", "first", "not kept", "s", 1.0), strict=True))]
    later = [row | {"uri": "later", "stamp": "new", "sha256": "t", "seen_at": 2.0} for row in reversed(rows)]
    is_kept = schema.source.c.stamp == sa.literal_column("'kept'")
    with engine.begin() as db:
        engines.upsert(db, schema.source, rows)
        engines.upsert(
            db, schema.source, later, unless=lambda new: is_kept & (new.stamp == sa.literal_column("'new'"))
        )
        found = db.execute(sa.select(schema.source).order_by(schema.source.c.uri_digest)).all()
    assert [tuple(row) for row in found] == [
        ("u", "first", "kept", "s", 1.0),
        ("v", "later", "new", "t", 2.0),
    ]


@pytest.mark.parametrize(
    ("alias", "spoken"),
    [
        (True, "AS new ON DUPLICATE KEY UPDATE stamp = new.stamp"),
        (False, "ON DUPLICATE KEY UPDATE stamp = VALUES(stamp)"),
    ],
    ids=["mysql", "mariadb"],
)
def test_mysql_and_mariadb_are_each_spoken_to_in_their_own_words(alias: bool, spoken: str) -> None:
    """No MySQL is at hand: what SQLAlchemy decides when it meets one from 8.0.19 on is set here."""
    dialect: Any = mysql.dialect()
    dialect._requires_alias_for_on_duplicate_key = alias  # noqa: SLF001
    statement = engines._mysql_upsert(schema.source, ["stamp"], None)  # noqa: SLF001
    assert spoken in str(statement.compile(dialect=dialect))


def test_a_mariadb_url_means_the_same_driver() -> None:
    engine = engine_for("mariadb://user@host/database")
    assert (engine.dialect.name, engine.dialect.driver) == ("mysql", "pymysql")
