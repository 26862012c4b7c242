"""What may be removed from a ledger without any picture ever being paid for again.

Recognitions and their settling calls are never removed: they are why nothing is paid twice. What goes is the
record of old runs, the memory of files that nobody read for long, and calls that reached nobody. The raw
replies go only when asked for by name, because with them goes the chance to read them again for nothing with
a better parser, or to fill another warehouse.

Everything is counted first. Removing is done in small transactions, so that workers go on, and may be broken
off and repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from airflow_provider_jdocr.core import engines, schema
from airflow_provider_jdocr.core.errors import ConfigurationError
from airflow_provider_jdocr.core.ledger import Ledger

_DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Kind:
    """Something that can be pruned. `lost`: what nobody can do any more afterwards."""

    name: str
    what: str
    lost: str
    by_name_only: bool = False


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "runs",
            "task instances whose newest outcome is older, with what became of each of their images",
            "the images of these runs by name; their part in `reused`; loading by one of their manifests",
        ),
        Kind(
            "sources",
            "files that were last read before",
            "a run that finds such a file reads it once more; it is not sent again",
        ),
        Kind("unreached", "calls that never reached the service", "when the network failed"),
        Kind(
            "replies",
            "raw replies that came before",
            "reading these images again for nothing, with a better parser or into another warehouse",
            by_name_only=True,
        ),
    )
}
STANDARD = tuple(kind.name for kind in KINDS.values() if not kind.by_name_only)


@dataclass(frozen=True, slots=True)
class Pruned:
    """Rows of a kind that were found or removed, and about how many bytes their texts and replies take."""

    kind: Kind
    rows: int
    bytes: int


def prunable(ledger: Ledger, days: int, kinds: Sequence[str] = STANDARD) -> list[Pruned]:
    """What `prune` would remove."""
    if unknown := [name for name in kinds if name not in KINDS]:
        raise ConfigurationError(
            f"prune: {', '.join(unknown)} cannot be pruned; what can is {', '.join(KINDS)}.", field="kinds"
        )
    before = ledger.now() - days * _DAY_SECONDS
    with engines.reading(ledger.engine) as db:
        return [_measured(db, KINDS[name], before) for name in KINDS if name in kinds]


def prune(ledger: Ledger, days: int, kinds: Sequence[str] = STANDARD) -> list[Pruned]:
    """Removes what is older than so many days; gives what went."""
    found, before = prunable(ledger, days, kinds), ledger.now() - days * _DAY_SECONDS
    return [
        replace(each, rows=sum(_remove(ledger.engine, cut, before) for cut in _CUTS[each.kind.name]))
        for each in found
    ]


@dataclass(frozen=True, slots=True)
class _Cut:
    """Rows of a table: which ones are `old`, by which `key` they go, and what of them takes room."""

    key: sa.Column[str]
    old: Callable[[float], sa.ColumnElement[bool]]
    room: tuple[sa.Column[str] | sa.Column[bytes], ...]
    emptied: sa.Column[bytes] | None = None
    """What is emptied, where the row itself stays."""
    keys_at_once: int = 500


def _ended(before: float) -> sa.ColumnElement[bool]:
    """Outcomes of task instances of which the newest one is old: a task is forgotten as a whole."""
    newer = schema.outcome.alias("newer")
    still = sa.exists().where(newer.c.run_digest == _outcome.run_digest, newer.c.at >= before)
    return (_outcome.at < before) & ~still


def _left_bare(before: float) -> sa.ColumnElement[bool]:
    """Task instances without a call, and without an outcome once the old ones have gone."""
    called = sa.exists().where(_attempt.run_digest == _run.digest)
    noted = sa.exists().where(_outcome.run_digest == _run.digest, _outcome.at >= before)
    return (_run.started_at < before) & ~called & ~noted


_attempt, _outcome, _run, _source = (
    table.c for table in (schema.attempt, schema.outcome, schema.run, schema.source)
)
_CUTS: Mapping[str, tuple[_Cut, ...]] = {
    "runs": (
        _Cut(_outcome.run_digest, _ended, (_outcome.uri, _outcome.message, _outcome.sha256), keys_at_once=20),
        _Cut(_run.digest, _left_bare, (_run.digest, _run.dag_id, _run.run_id, _run.task_id)),
    ),
    "sources": (
        _Cut(_source.uri_digest, lambda before: _source.seen_at < before, (_source.uri, _source.stamp)),
    ),
    "unreached": (
        _Cut(
            _attempt.id,
            lambda before: (_attempt.state == "never_reached") & (_attempt.started_at < before),
            (_attempt.id, _attempt.run_digest, _attempt.message),
        ),
    ),
    "replies": (
        _Cut(
            _attempt.id,
            lambda before: _attempt.reply.is_not(None) & (_attempt.ended_at < before),
            (_attempt.reply,),
            emptied=_attempt.reply,
        ),
    ),
}


def _measured(db: sa.Connection, kind: Kind, before: float) -> Pruned:
    rows, taken = 0, 0
    for cut in _CUTS[kind.name]:
        lengths = [sa.func.coalesce(sa.func.sum(sa.func.length(column)), 0) for column in cut.room]
        query = sa.select(sa.func.count(), *lengths).select_from(cut.key.table).where(cut.old(before))
        count, *sums = db.execute(query).one()
        rows, taken = rows + int(count), taken + sum(map(int, sums))
    return Pruned(kind, rows, taken)


def _remove(engine: sa.Engine, cut: _Cut, before: float) -> int:
    """A transaction for each few keys, in their order."""
    table, removed = cut.key.table, 0
    for keys in _pages(engine, cut, before):
        change = sa.update(table).values({cut.emptied: None}) if cut.emptied is not None else sa.delete(table)
        with engine.begin() as db:
            removed += db.execute(change.where(cut.key.in_(keys))).rowcount
    return removed


def _pages(engine: sa.Engine, cut: _Cut, before: float) -> Iterator[list[str]]:
    query = sa.select(cut.key).distinct().where(cut.old(before)).order_by(cut.key).limit(cut.keys_at_once)
    keys: list[str] = [""]
    while True:
        with engines.reading(engine) as db:
            keys = list(db.scalars(query.where(cut.key > keys[-1])))
        if not keys:
            return
        yield keys
