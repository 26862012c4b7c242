"""The bill: calls, charged, maybe charged, not charged, reused, and what they come to in yuan.

Read as the view `jdocr_bill` shows it, which has one row per call that reached the service and per image that
was reused instead. A day is one of the time zone in which the account's quota is reset. *Maybe charged* is a
call of which nobody said; so the true bill lies between `yuan` and `yuan + yuan_maybe`. Without a price
there are no yuan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from airflow_provider_jdocr.core import engines, views
from airflow_provider_jdocr.core.errors import ConfigurationError

GROUPS = ("day", "dag_id", "run_id", "task_id", "service", "endpoint", "account")
COUNTS = ("calls", "charged", "maybe_charged", "not_charged", "reused")
MONEY = ("yuan", "yuan_maybe", "yuan_saved")

# Every offset from UTC in use is a multiple of this; so a day of any time zone is made of whole ones.
_QUARTER_SECONDS = 900

_TEXTS = ("dag_id", "run_id", "task_id", "service", "endpoint", "account", "uri")
_columns = (
    sa.column("moment", sa.Double),
    *(sa.column(name, sa.Text) for name in _TEXTS),
    *(sa.column(name, sa.Integer) for name in COUNTS),
)


@dataclass(frozen=True, slots=True)
class Span:
    """What a bill is about; None: no bound. `since` and `until` are days, both inclusive."""

    since: date | None = None
    until: date | None = None
    service: str | None = None
    endpoint: str | None = None
    dag_id: str | None = None
    run_id: str | None = None
    task_id: str | None = None
    prefix: str | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the bill. `group` are the values of what it is grouped by, in that order."""

    group: tuple[str | None, ...]
    calls: int
    charged: int
    maybe_charged: int
    not_charged: int
    reused: int
    price: Decimal | None = None

    @property
    def yuan(self) -> Decimal | None:
        return None if self.price is None else self.price * self.charged

    @property
    def yuan_maybe(self) -> Decimal | None:
        return None if self.price is None else self.price * self.maybe_charged

    @property
    def yuan_saved(self) -> Decimal | None:
        return None if self.price is None else self.price * self.reused


def bill(
    engine: sa.Engine,
    span: Span,
    group_by: Sequence[str] = ("day",),
    *,
    price: Decimal | None = None,
    timezone: str = "Asia/Shanghai",
) -> list[Line]:
    """The lines of a bill, in order of their groups; without groups the one line of the total."""
    unknown = [name for name in group_by if name not in GROUPS]
    if unknown or len(set(group_by)) < len(group_by):
        raise ConfigurationError(
            f"group_by: each of {', '.join(GROUPS)}, at most once; got {', '.join(map(str, group_by))}.",
            field="group_by",
        )
    zone = ZoneInfo(timezone)
    sums: dict[tuple[str | None, ...], Counter[str]] = {}
    for row in _rows(engine, span, group_by, zone):
        group = tuple(
            str(_day(row["quarter"], zone)) if name == "day" else row[name] or None for name in group_by
        )
        sums.setdefault(group, Counter()).update({name: int(row[name] or 0) for name in COUNTS})
    if not group_by:
        sums.setdefault((), Counter())
    ordered = sorted(sums.items(), key=lambda each: [value or "" for value in each[0]])
    return [Line(group, **{name: counts[name] for name in COUNTS}, price=price) for group, counts in ordered]


def day_of(text: str, now: float, timezone: str) -> date:
    """A day given as ``YYYY-MM-DD``, ``today`` or ``yesterday``. Raises `ValueError` with the rule."""
    today = datetime.fromtimestamp(now, UTC).astimezone(ZoneInfo(timezone)).date()
    named = {"today": today, "yesterday": today - timedelta(days=1)}
    try:
        return named.get(text) or date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no day: write YYYY-MM-DD, today or yesterday") from None


def total(lines: Iterable[Line]) -> Line:
    """One line that adds up the others, which have one price."""
    counts: Counter[str] = Counter()
    price = None
    for line in lines:
        counts.update({name: getattr(line, name) for name in COUNTS})
        price = line.price
    return Line((), **{name: counts[name] for name in COUNTS}, price=price)


def as_dict(line: Line, group_by: Sequence[str]) -> dict[str, Any]:
    """A line for JSON. Yuan are exact decimal text; None where the price is not known."""
    money = {name: getattr(line, name) for name in MONEY}
    return {
        **dict(zip(group_by, line.group, strict=True)),
        **{name: getattr(line, name) for name in COUNTS},
        **{name: None if value is None else f"{value.normalize():f}" for name, value in money.items()},
    }


def _rows(engine: sa.Engine, span: Span, group_by: Sequence[str], zone: ZoneInfo) -> Iterator[sa.RowMapping]:
    shown = views.query("jdocr_bill", engine.dialect.name, named=bool(span.prefix))
    view = sa.text(shown).columns(*_columns).subquery("bill")
    keys: list[sa.ColumnElement[Any]] = [view.c[name] for name in group_by if name != "day"]
    if "day" in group_by:
        quarters = sa.type_coerce(view.c.moment / float(_QUARTER_SECONDS), sa.Double)
        keys.append(engines.whole(engine.dialect, quarters).label("quarter"))
    sums = [sa.func.sum(view.c[name]).label(name) for name in COUNTS]
    query = sa.select(*keys, *sums).where(*_conditions(view, span, zone)).group_by(*keys)
    with engines.reading(engine) as db:
        yield from db.execute(query).mappings()


def _conditions(view: sa.Subquery, span: Span, zone: ZoneInfo) -> Iterator[sa.ColumnElement[bool]]:
    if span.since:
        yield view.c.moment >= _starts(span.since, zone)
    if span.until:
        yield view.c.moment < _starts(span.until + timedelta(days=1), zone)
    for name in ("service", "endpoint", "dag_id", "run_id", "task_id"):
        if (value := getattr(span, name)) is not None:
            yield view.c[name] == value
    if span.prefix:
        # Not LIKE: an underscore in a key is no wildcard.
        yield sa.func.substr(view.c.uri, 1, len(span.prefix)) == span.prefix


def _starts(day: date, zone: ZoneInfo) -> float:
    return datetime.combine(day, time(), zone).timestamp()


def _day(quarter: Any, zone: ZoneInfo) -> date:
    return datetime.fromtimestamp(int(quarter) * _QUARTER_SECONDS, UTC).astimezone(zone).date()
