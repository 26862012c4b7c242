"""The ledger's tables: what they are called, what they hold, and how they come to be.

One row per recognition, per attempt with its raw reply, per input and task instance, per account, per file
that was read. The tables are made under a lock, at first use or by whoever may; they have a version, and
older code refuses newer tables, naming both.

Times are seconds since the epoch by the database's clock. No secret, signature or image byte has a column.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateTable

from airflow_provider_jdocr.core import engines
from airflow_provider_jdocr.core.errors import LedgerSchemaError

SCHEMA_VERSION = 1

metadata = sa.MetaData()
_moment = sa.Double
_digest = sa.String(64)

meta = sa.Table(
    "jdocr_meta", metadata, sa.Column("name", sa.String(50), primary_key=True), sa.Column("value", sa.Text)
)
source = sa.Table(
    "jdocr_source",
    metadata,
    sa.Column("uri_digest", _digest, primary_key=True),
    sa.Column("uri", sa.Text, nullable=False),
    sa.Column("stamp", _digest, nullable=False, comment="of etag, version, size and modification time"),
    sa.Column("sha256", _digest, nullable=False),
    sa.Column("seen_at", _moment, nullable=False),
)
account = sa.Table(
    "jdocr_account",
    metadata,
    sa.Column("service", sa.String(255), primary_key=True),
    sa.Column("endpoint", sa.String(50), primary_key=True),
    sa.Column("fingerprint", sa.String(16), primary_key=True),
    sa.Column("next_slot_at", _moment, nullable=False, default=0.0),
    sa.Column("factor", sa.Double, nullable=False),
    sa.Column("slowed_at", _moment, nullable=False),
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
    sa.Column("dag_id", sa.Text, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("task_id", sa.Text, nullable=False),
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
    sa.UniqueConstraint("sha256", "service", "endpoint", "page", name="jdocr_recognition_identity"),
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
    sa.Column("message", sa.Text),
    sa.Column("charged", sa.Boolean, comment="NULL: nobody said"),
    sa.Column("request_id", sa.String(200)),
    sa.Column("http_status", sa.Integer),
    sa.Column("reply", sa.LargeBinary, comment="the body as received, zlib-compressed"),
    sa.Column("sent_sha256", _digest, nullable=False, comment="of the picture that was sent"),
    sa.Index("jdocr_attempt_in_flight", "service", "endpoint", "fingerprint", "state"),
)
outcome = sa.Table(
    "jdocr_outcome",
    metadata,
    sa.Column("run_digest", _digest, primary_key=True),
    sa.Column("uri_digest", _digest, primary_key=True),
    sa.Column("page", sa.Integer, primary_key=True),
    sa.Column("uri", sa.Text, nullable=False),
    sa.Column("service", sa.String(255), nullable=False),
    sa.Column("endpoint", sa.String(50), nullable=False),
    sa.Column("sha256", _digest),
    sa.Column("outcome", sa.String(12), nullable=False),
    sa.Column("code", sa.String(100)),
    sa.Column("message", sa.Text),
    sa.Column("at", _moment, nullable=False),
)


def create(engine: sa.Engine) -> None:
    """Creates what is missing, under a lock. Raises `LedgerSchemaError` when a newer version made the
    tables.
    """
    with engine.begin() as db:
        engines.lock_schema(db)
        metadata.create_all(db)
        found = db.scalar(sa.select(meta.c.value).where(meta.c.name == "schema_version"))
        if found is None:
            db.execute(meta.insert().values(name="schema_version", value=str(SCHEMA_VERSION)))
        elif int(found) > SCHEMA_VERSION:
            raise LedgerSchemaError(
                f"the ledger has schema version {found}, this provider knows {SCHEMA_VERSION}: "
                "upgrade airflow-provider-jdocr wherever it runs"
            )


def ddl(dialect: engines.Dialect) -> str:
    """The statements that `create` runs, for those who may not create tables from Airflow."""
    chosen = engines.DIALECTS[dialect]()
    statements: list[str] = []
    for table in metadata.sorted_tables:
        statements.append(str(CreateTable(table).compile(dialect=chosen)).strip())
        statements += [str(CreateIndex(index).compile(dialect=chosen)).strip() for index in table.indexes]
    row = meta.insert().values(name="schema_version", value=str(SCHEMA_VERSION))
    version = str(row.compile(dialect=chosen, compile_kwargs={"literal_binds": True}))
    return "".join(f"{statement};\n" for statement in [*statements, version])
