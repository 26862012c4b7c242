"""What is written where, after a trial: frozen records of bill, ledger, warehouse and journals.

Ledger and warehouse are read with plain SQL, not through the code that wrote them.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import sqlalchemy as sa

from tests.torture.world import Line

End: TypeAlias = Literal["success", "retry", "failed", "undeclared", "killed", "hung"]


@dataclass(frozen=True, slots=True)
class Billed:
    """A line of the service's bill."""

    sha256: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Sent:
    """An attempt of the ledger. `body`: SHA-256 of the reply that it keeps."""

    id: str
    sha256: str
    run: str
    state: str
    verdict: str | None = None
    charged: bool | None = None
    request_id: str | None = None
    body: str | None = None

    @property
    def doubtful(self) -> bool:
        return self.state in ("sending", "in_doubt")

    @property
    def settling(self) -> bool:
        return self.verdict in ("success", "settle_failed")

    @property
    def maybe_charged(self) -> bool:
        return self.state != "never_reached" and self.charged is not False


@dataclass(frozen=True, slots=True)
class Known:
    """A recognition of the ledger."""

    sha256: str
    state: str
    settled: str | None = None
    answer_id: str | None = None


@dataclass(frozen=True, slots=True)
class Noted:
    """What the ledger says became of an input of a task instance."""

    run: str
    uri: str
    outcome: str
    sha256: str | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """A document of the warehouse."""

    sha256: str
    answer_id: str


@dataclass(frozen=True, slots=True)
class Process:
    """One try of a task, by its journal. `begun`: attempts whose commit it saw; `replies`: digests of what
    reached it.
    """

    number: int
    run: str
    end: End
    begun: frozenset[str] = frozenset()
    replies: Mapping[str, str] = field(default_factory=dict)
    settled: Mapping[str, str] = field(default_factory=dict)
    """Attempts that it brought to their end, each with the verdict."""
    manifest: Mapping[str, Any] | None = None
    said: str = ""


@dataclass(frozen=True, slots=True)
class Books:
    """Everything that the laws are about."""

    hold: bool
    max_in_flight: int
    inputs: int
    max_calls: int | None = None
    """Of one task instance; times the processes of it that may run at once."""
    billed: tuple[Billed, ...] = ()
    calls: int = 0
    """Requests that the service counted, whatever it answered."""
    sent: tuple[Sent, ...] = ()
    known: tuple[Known, ...] = ()
    noted: tuple[Noted, ...] = ()
    stored: tuple[Stored, ...] = ()
    processes: tuple[Process, ...] = ()
    reloaded: int = 0
    """Documents that loading everything once more wrote."""
    reload_changed: bool = False

    def attempts(self, sha256: str) -> list[Sent]:
        return [attempt for attempt in self.sent if attempt.sha256 == sha256]

    def last_of_each_run(self) -> dict[str, Process]:
        """The last process of each task instance."""
        return {process.run: process for process in sorted(self.processes, key=lambda each: each.number)}

    def in_doubt_at_kill(self) -> dict[int, int]:
        """For each process that was killed, how many calls the ledger held to be on their way then.

        An attempt of which no journal knows was committed right before a kill: it counts for the first killed
        process of its run.
        """
        doubtful = {attempt.id: attempt.run for attempt in self.sent if attempt.doubtful}
        seen = {attempt for process in self.processes for attempt in process.begun}
        counts: dict[int, int] = {}
        for process in self.processes:
            if process.end == "killed":
                left = process.begun & doubtful.keys() - process.settled.keys()
                counts[process.number] = len(left)
        for attempt, run in doubtful.items():
            killed = [each.number for each in self.processes if each.run == run and each.end == "killed"]
            if attempt not in seen and killed:
                least = min(killed, key=lambda number: counts[number])
                counts[least] += 1
        return counts


def process(number: int, run: str, end: End, lines: Iterable[Line]) -> Process:
    """What a journal says of its process."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        found.setdefault(line.what, []).append(line.more)
    manifests = found.get("manifest", [])
    said = [
        f"{each['error']}: {each['text']}" for each in found.get("undeclared", []) + found.get("failed", [])
    ]
    return Process(
        number=number,
        run=run,
        end=end,
        begun=frozenset(each["attempt"] for each in found.get("begun", [])),
        replies={each["attempt"]: each["body"] for each in found.get("reply", [])},
        settled={each["attempt"]: each["verdict"] for each in found.get("settled", [])},
        manifest=manifests[-1] if manifests else None,
        said="; ".join(said),
    )


_SENT = """
SELECT a.id, r.sha256, a.run_digest, a.state, a.verdict, a.charged, a.request_id, a.reply
FROM jdocr_attempt a JOIN jdocr_recognition r ON r.id = a.recognition_id ORDER BY a.started_at, a.id
"""
_KNOWN = "SELECT sha256, state, settled, answer_id FROM jdocr_recognition"
_NOTED = "SELECT run_digest, uri, outcome, sha256, code FROM jdocr_outcome"
_STORED = "SELECT sha256, answer_id FROM jdocr_documents"
_WAREHOUSE = ("documents", "invoices", "lines", "findings")


def ledger(url: str) -> tuple[tuple[Sent, ...], tuple[Known, ...], tuple[Noted, ...]]:
    """Attempts, recognitions and outcomes."""
    with _connected(url) as db:
        sent = tuple(map(_sent, db.execute(sa.text(_SENT))))
        known = tuple(Known(*row) for row in db.execute(sa.text(_KNOWN)))
        return sent, known, tuple(Noted(*row) for row in db.execute(sa.text(_NOTED)))


def documents(url: str) -> tuple[Stored, ...]:
    with _connected(url) as db:
        return tuple(Stored(*row) for row in db.execute(sa.text(_STORED)))


def everything(url: str) -> str:
    """A digest of every row of the warehouse."""
    with _connected(url) as db:
        rows = [
            sorted(repr(tuple(row)) for row in db.execute(sa.text(f"SELECT * FROM jdocr_{name}")))  # noqa: S608
            for name in _WAREHOUSE
        ]
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def dump(url: str) -> dict[str, list[dict[str, Any]]]:
    """Every row of our tables, to be looked at."""
    with _connected(url) as db:
        names = [name for name in sa.inspect(db).get_table_names() if name.startswith("jdocr_")]
        return {
            name: [dict(row) for row in db.execute(sa.text(f"SELECT * FROM {name}")).mappings()]  # noqa: S608
            for name in names
        }


def _connected(url: str) -> sa.Connection:
    return sa.create_engine(url, poolclass=sa.NullPool).connect()


def _sent(row: sa.Row[Any]) -> Sent:
    return Sent(
        id=row.id,
        sha256=row.sha256,
        run=row.run_digest,
        state=row.state,
        verdict=row.verdict,
        charged=None if row.charged is None else bool(row.charged),
        request_id=row.request_id,
        body=_body(row.reply),
    )


def _body(packed: bytes | None) -> str | None:
    return None if packed is None else hashlib.sha256(zlib.decompress(packed)).hexdigest()
