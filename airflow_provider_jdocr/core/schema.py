"""The ledger's tables: what they are called, what they hold, and how they come to be.

One row per recognition, per attempt with its raw reply, per input and task instance, per account, per file
that was read, per decision of a person on an image in doubt; and `views` on them for people. Times are
seconds since the epoch by the database's clock. No secret, signature or image byte has a column.

The tables have a version. They are created and upgraded under a lock, at first use or by whoever may; older
code refuses newer tables, naming both. **What a later version adds says so** (`info=_NEW_IN_2`): a table, an
index, or a column that may be NULL or has a `server_default`. **Nothing goes but an index.** So an upgrade
keeps every row, can be broken off and repeated, and a process of the version before that is still at work
goes on: its statements name their columns, and what it does not know it does not touch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import ExecutableDDLElement

from airflow_provider_jdocr.core import engines, upgrades, views
from airflow_provider_jdocr.core.errors import LedgerSchemaError

SCHEMA_VERSION = 4
_NEW_IN_2 = {"since": 2}
_NEW_IN_3 = {"since": 3}
_NEW_IN_4 = {"since": 4}

metadata = sa.MetaData()
_moment = sa.Double
_digest = sa.String(64)
# MySQL's TEXT and BLOB end at 64 KB.
_text = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")
_bytes = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql")

meta = sa.Table(
    "jdocr_meta", metadata, sa.Column("name", sa.String(50), primary_key=True), sa.Column("value", _text)
)
source = sa.Table(
    "jdocr_source",
    metadata,
    sa.Column("uri_digest", _digest, primary_key=True),
    sa.Column("uri", _text, nullable=False),
    sa.Column("stamp", _digest, nullable=False, comment="of etag, version, size and modification time"),
    sa.Column("sha256", _digest, nullable=False),
    sa.Column("seen_at", _moment, nullable=False),
    sa.Index("jdocr_source_sha256", "sha256", info=_NEW_IN_2),
)
account = sa.Table(
    "jdocr_account",
    metadata,
    sa.Column("service", sa.String(255), primary_key=True),
    sa.Column("endpoint", sa.String(50), primary_key=True),
    sa.Column("fingerprint", sa.String(16), primary_key=True),
    sa.Column("next_slot_at", _moment, nullable=False, default=0.0),
    sa.Column("factor", sa.Double, nullable=False),
    sa.Column("held", sa.Double, nullable=False, server_default="1", info=_NEW_IN_2),
    sa.Column("slowed_at", _moment, nullable=False),
    sa.Column("grown_at", _moment, nullable=False, server_default="0", info=_NEW_IN_2),
    sa.Column("window_ends_at", _moment, nullable=False),
    sa.Column("used", sa.Integer, nullable=False),
    sa.Column("remaining", sa.BigInteger),
    sa.Column("known_at", _moment),
    sa.Column("quota_state", sa.String(20), nullable=False),
    sa.Column("quota_until", _moment),
    sa.Column("quota_at", _moment, nullable=False),
    sa.Column("probe_until", _moment, nullable=False),
)
run = sa.Table(
    "jdocr_run",
    metadata,
    sa.Column("digest", _digest, primary_key=True),
    sa.Column("dag_id", _text, nullable=False),
    sa.Column("run_id", _text, nullable=False),
    sa.Column("task_id", _text, nullable=False),
    sa.Column("map_index", sa.Integer, nullable=False),
    sa.Column("started_at", _moment, nullable=False),
)
recognition = sa.Table(
    "jdocr_recognition",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("service", sa.String(255), nullable=False),
    sa.Column("endpoint", sa.String(50), nullable=False),
    sa.Column("sha256", _digest, nullable=False),
    sa.Column("page", sa.Integer, nullable=False),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("settled", sa.String(10)),
    sa.Column("answer_id", sa.String(32)),
    sa.Column("lease_token", sa.String(32)),
    sa.Column("lease_until", _moment, nullable=False),
    sa.Column("doubts", sa.Integer, nullable=False),
    sa.Column("codes", _text, comment="QR codes of the picture, JSON; none: nobody looked", info=_NEW_IN_3),
    sa.Column("invoice_key", sa.String(32), comment="of the invoice that they name", info=_NEW_IN_3),
    sa.UniqueConstraint("sha256", "service", "endpoint", "page", name="jdocr_recognition_identity"),
    sa.Index("jdocr_recognition_state", "state", info=_NEW_IN_2),
    sa.Index("jdocr_recognition_invoice_key", "invoice_key", info=_NEW_IN_3),
)
attempt = sa.Table(
    "jdocr_attempt",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("recognition_id", sa.ForeignKey("jdocr_recognition.id"), nullable=False, index=True),
    sa.Column("run_digest", _digest, nullable=False, index=True),
    sa.Column("service", sa.String(255), nullable=False),
    sa.Column("endpoint", sa.String(50), nullable=False),
    sa.Column("fingerprint", sa.String(16), nullable=False),
    sa.Column("state", sa.String(13), nullable=False, comment="sending, answered, in_doubt or never_reached"),
    sa.Column("started_at", _moment, nullable=False),
    sa.Column("lease_until", _moment, nullable=False),
    sa.Column("ended_at", _moment),
    sa.Column("elapsed_seconds", sa.Double),
    sa.Column("verdict", sa.String(30)),
    sa.Column("layer", sa.String(30)),
    sa.Column("code", sa.String(100)),
    sa.Column("message", _text),
    sa.Column("charged", sa.Boolean, comment="NULL: nobody said"),
    sa.Column("request_id", sa.String(200)),
    sa.Column("http_status", sa.Integer),
    sa.Column("reply", _bytes, comment="the body as received, zlib-compressed"),
    sa.Column("sent_sha256", _digest, nullable=False, comment="of the picture that was sent"),
    sa.Index("jdocr_attempt_in_flight", "service", "endpoint", "fingerprint", "state"),
    sa.Index("jdocr_attempt_started_at", "started_at", info=_NEW_IN_2),
)
outcome = sa.Table(
    "jdocr_outcome",
    metadata,
    sa.Column("run_digest", _digest, primary_key=True),
    sa.Column("uri_digest", _digest, primary_key=True),
    sa.Column("page", sa.Integer, primary_key=True),
    sa.Column("uri", _text, nullable=False),
    sa.Column("service", sa.String(255), nullable=False),
    sa.Column("endpoint", sa.String(50), nullable=False),
    sa.Column("sha256", _digest),
    sa.Column("outcome", sa.String(12), nullable=False),
    sa.Column("code", sa.String(100)),
    sa.Column("message", _text),
    sa.Column("at", _moment, nullable=False),
    # The run first: what it writes down lies together, however many runs there were.
    sa.Index("jdocr_outcome_run_sha256", "run_digest", "sha256", info=_NEW_IN_4),
    sa.Index("jdocr_outcome_at", "at", info=_NEW_IN_2),
)
decision = sa.Table(
    "jdocr_decision",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("recognition_id", sa.ForeignKey("jdocr_recognition.id"), nullable=False, index=True),
    sa.Column("attempt_id", sa.String(32), comment="of a decision on one call's charge"),
    sa.Column(
        "decision", sa.String(11), nullable=False, comment="ask-again, give-up, charged or not-charged"
    ),
    sa.Column("decided_by", sa.String(255), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("decided_at", _moment, nullable=False),
    info=_NEW_IN_2,
)

_gone_in_4 = sa.Index(
    "jdocr_outcome_sha256", sa.Table(outcome.name, sa.MetaData(), sa.Column("sha256")).c.sha256
)

for _table in metadata.tables.values():
    # Keys are compared byte by byte, as everywhere else.
    _table.dialect_kwargs.update(mysql_engine="InnoDB", mysql_charset="utf8mb4", mysql_collate="utf8mb4_bin")


def create(engine: sa.Engine) -> None:
    """Creates the tables, or upgrades those of an older version, under a lock.

    Where they are there already no right to create is asked for. Raises `LedgerSchemaError` when a newer
    version made them, or when this user may not make them; then it says who prints the statements.
    """
    with engines.reading(engine) as db:
        engines.refuse_small_packets(db, "ledger_conn_id")
        found = _found_version(db)
    if found == SCHEMA_VERSION:
        return
    try:
        with engines.schema_lock(engine) as db:
            _bring_up_to_date(db)
    except sa.exc.DBAPIError as error:
        if not engines.is_forbidden(error):
            raise
        raise _not_allowed(found, engine.dialect.name) from error


def ddl(dialect: engines.Dialect, since: int | None = None) -> str:
    """The statements that `create` runs, for those who may not create tables from Airflow; those that
    upgrade tables of version `since`, where it is given.
    """
    chosen = engines.DIALECTS[dialect]()
    statements = [str(each.compile(dialect=chosen)).strip() for each in _additions(since or 0)]
    row = meta.update().where(meta.c.name == _VERSION) if since else meta.insert().values(name=_VERSION)
    version = row.values(value=str(SCHEMA_VERSION))
    statements.append(str(version.compile(dialect=chosen, compile_kwargs={"literal_binds": True})))
    return "".join(f"{statement};\n" for statement in statements)


class _CreateView(ExecutableDDLElement):
    """``CREATE VIEW …`` of one of `views`, which all came with version 2."""

    def __init__(self, name: str) -> None:
        self.name = name


@compiles(_CreateView)
def _create_view(element: _CreateView, compiler: Any, **_: Any) -> str:
    return views.statements(compiler.dialect.name)[element.name]


_VERSION = "schema_version"


def _additions(since: int) -> Iterator[ExecutableDDLElement]:
    """What makes tables of version `since` into today's; of version 0: nothing is there."""
    yield from upgrades.additions(metadata.sorted_tables, since)
    if _NEW_IN_2["since"] <= since < _NEW_IN_4["since"]:
        yield sa.schema.DropIndex(_gone_in_4)
    if since < _NEW_IN_2["since"]:
        yield from map(_CreateView, views.NAMES)


def _bring_up_to_date(db: sa.Connection) -> None:
    """Adds what is missing, whatever a run that was broken off left; the version is written last."""
    found = _found_version(db)
    if found == SCHEMA_VERSION:
        return  # by another, while we waited for the lock
    upgrades.complete(db, metadata.sorted_tables)
    _gone_in_4.drop(db, checkfirst=True)
    for name in set(views.NAMES) - set(sa.inspect(db).get_view_names()):
        db.execute(_CreateView(name))
    if found is None:
        db.execute(meta.insert().values(name=_VERSION, value=str(SCHEMA_VERSION)))
    else:
        db.execute(meta.update().where(meta.c.name == _VERSION).values(value=str(SCHEMA_VERSION)))


def _found_version(db: sa.Connection) -> int | None:
    """The version of the tables that are there; None: there are none, or nobody finished making them."""
    if not sa.inspect(db).has_table(meta.name):
        return None
    found = db.scalar(sa.select(meta.c.value).where(meta.c.name == _VERSION))
    if found is not None and int(found) > SCHEMA_VERSION:
        raise LedgerSchemaError(
            f"the ledger has schema version {found}, this provider knows {SCHEMA_VERSION}: "
            "upgrade airflow-provider-jdocr wherever it runs",
            found=int(found),
            expected=SCHEMA_VERSION,
        )
    return None if found is None else int(found)


def _not_allowed(found: int | None, dialect: str) -> LedgerSchemaError:
    state = "has no tables yet" if found is None else f"has schema version {found}"
    since = "" if found is None else f", since={found}"
    return LedgerSchemaError(
        f"the ledger {state}, this provider needs {SCHEMA_VERSION}, and its user may not create or alter "
        "tables. Have the statements run that this prints: python -c "
        f"\"from {__name__} import ddl; print(ddl('{dialect}'{since}))\"",
        found=found,
        expected=SCHEMA_VERSION,
    )
