"""The plan of a backfill: what a run would do with each image, how long it takes and what it costs.

Nothing is sent and nothing is written. By default a plan needs the listing and two look-ups in the ledger a
page, and reads no picture: of a file that nobody has read as it is now it cannot tell whether it will be
rejected, was answered under another name, or is there twice. Those are counted as to be sent and said to be
`unjudged`. Where it is told to read, it reads them, a few at a time, and every image is judged.

The fates add up to the images. What is kept of an image while the listing is streamed is a digest, on disk
where they are many; so a plan of a million images needs no more memory than one of a thousand.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from functools import partial
from itertools import islice
from typing import Any

import sqlalchemy as sa

from airflow_provider_jdocr.core import engines, schema
from airflow_provider_jdocr.core.account import Account
from airflow_provider_jdocr.core.errors import StorageError
from airflow_provider_jdocr.core.forecast import Schedule, purchases, schedules
from airflow_provider_jdocr.core.ledger import (
    LOOKUP_SIZE,
    Busy,
    Identity,
    InDoubt,
    Ledger,
    Recognition,
    Resend,
    Settled,
    State,
    decide,
)
from airflow_provider_jdocr.core.preflight import Rejected, preflight, too_large
from airflow_provider_jdocr.core.prices import CURRENCY, PACK_DAYS, Purchase
from airflow_provider_jdocr.core.quotas import Quota, QuotaState
from airflow_provider_jdocr.core.sources import Missing, Source, Storage

FATES: Mapping[str, str] = {
    "answered": "has an answer, and costs nothing",
    "failed": "was refused by the service or given up, and is not sent again",
    "rejected": "does not pass preflight, or is not there",
    "duplicates": "has the same bytes as another of these images, which is sent",
    "held": "is in doubt, and waits for a person",
    "busy": "is being asked for at this moment",
    "to_send": "costs a call",
}
PARTS: Mapping[str, str] = {
    "unjudged": "is to be sent, as far as can be told: nobody has read the file, so it may yet be another",
    "in_doubt": "is to be sent once more: it may have been charged before, and so be paid twice",
}
COUNTS = ("images", *FATES, *PARTS, "bytes_to_send")
READERS = 4
FOLDERS_SHOWN = 100
OTHER_FOLDERS = "(other folders)"
EXAMPLES = 20
PROGRESS_EVERY_SECONDS = 10.0
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Terms:
    """How the run will be that is planned. `read`: look at every picture that the ledger does not know."""

    in_doubt: InDoubt = "resend"
    resend: Resend = "none"
    read: bool = False


@dataclass(frozen=True, slots=True)
class Fate:
    """What a run would do with one input: a name of `FATES` and, of what is to be sent, one of `PARTS`."""

    name: str
    part: str | None = None
    code: str | None = None
    message: str | None = None


@dataclass(slots=True)
class Tally:
    """The counts of a listing as it is streamed; `folders` by the first name below the common folder."""

    counts: Counter[str] = field(default_factory=Counter)
    folders: dict[str, Counter[str]] = field(default_factory=dict)
    codes: Counter[str] = field(default_factory=Counter)
    rejected: list[dict[str, str | None]] = field(default_factory=list)
    unjudged: list[str] = field(default_factory=list)

    def add(self, folder: str, source: Source | Missing, fate: Fate) -> None:
        size = source.size or 0 if isinstance(source, Source) and fate.name == "to_send" else 0
        known = folder in self.folders or len(self.folders) < FOLDERS_SHOWN
        for counts in (self.counts, self.folders.setdefault(folder if known else OTHER_FOLDERS, Counter())):
            counts.update({"images": 1, fate.name: 1, "bytes_to_send": size})
            if fate.part:
                counts[fate.part] += 1
        if fate.code:
            self.codes[fate.code] += 1
            if len(self.rejected) < EXAMPLES:
                self.rejected.append({"uri": source.uri, "code": fate.code, "message": fate.message})
        if fate.part == "unjudged" and len(self.unjudged) < EXAMPLES:
            self.unjudged.append(source.uri)


@dataclass(frozen=True, slots=True)
class Plan:
    """What was counted, and what it comes to. Goes through XCom as `to_dict()`."""

    service: str
    endpoint: str
    terms: Terms
    tally: Tally
    quota: Quota
    price: Decimal | None
    schedules: tuple[Schedule, ...]
    purchases: tuple[Purchase, ...]

    @property
    def to_send(self) -> int:
        return self.tally.counts["to_send"]

    @property
    def schedule(self) -> Schedule:
        """The connection's own."""
        return self.schedules[0]

    def notes(self) -> Iterator[str]:
        """What a person should know before the run is started."""
        unjudged, in_doubt = (self.tally.counts[name] for name in PARTS)
        if unjudged:
            yield (
                f"{unjudged} of the images to send are known by their listing alone: some may be rejected, "
                "be duplicates, or have an answer under another name. Reading the pictures tells."
            )
        if in_doubt:
            yield f"{in_doubt} are in doubt and are asked for once more: they may be paid twice."
        if self.quota.state is QuotaState.UNTIL_TOPPED_UP:
            yield "The prepaid calls are used up: nothing is sent before the account is topped up."
        elif self.quota.remaining is not None and self.quota.remaining < self.to_send:
            yield f"{self.quota.remaining} calls are left, as far as is known."
        if self.purchases and self.schedule.days > PACK_DAYS:
            a_year = PACK_DAYS * self.schedule.calls_a_day
            yield f"A pack is valid for a year, in which this connection makes {a_year} calls: buy no more."
        if self.price is None:
            yield "No price is known, so there are no yuan."

    def to_dict(self) -> dict[str, Any]:
        """For JSON. Yuan are exact decimal text; None where the price is not known."""
        tally, own = self.tally, asdict(self.schedule)
        return {
            "service": self.service,
            "endpoint": self.endpoint,
            **asdict(self.terms),
            **_counts(tally.counts),
            **{name: own[name] for name in ("qps", "daily_limit", "seconds", "days", "ends_at")},
            "remaining": self.quota.remaining,
            "currency": CURRENCY,
            "price_per_call": None if self.price is None else f"{self.price.normalize():f}",
            "yuan": self._yuan(self.to_send),
            "yuan_at_least": self._yuan(self.to_send - tally.counts["unjudged"]),
            "yuan_saved": self._yuan(tally.counts["answered"]),
            "schedules": [asdict(each) for each in self.schedules],
            "purchases": [asdict(each) for each in self.purchases],
            "folders": [{"folder": name, **_counts(counts)} for name, counts in tally.folders.items()],
            "rejected_by_code": dict(tally.codes.most_common()),
            "rejected_first": tally.rejected,
            "unjudged_first": tally.unjudged,
            "notes": list(self.notes()),
        }

    def _yuan(self, calls: int) -> str | None:
        return None if self.price is None else f"{(self.price * calls).normalize():f}"


def plan(
    sources: Iterable[Source | Missing],
    *,
    folder: str,
    storage: Storage,
    account: Account,
    ledger: Ledger,
    terms: Terms = Terms(),
    price: Decimal | None = None,
    log: Any = _LOG,
) -> Plan:
    """What a run over `sources` would do, take and cost. `folder`: the one above all of them.

    Makes no call and changes nothing. Raises `StorageError` when the listing fails and `LedgerError` when the
    ledger cannot be read.
    """
    tally, spoke = Tally(), time.monotonic()
    with closing(_Survey(storage, account, ledger, terms)) as survey:
        for source, fate in survey.fates(sources):
            tally.add(_below(folder, source.uri), source, fate)
            if time.monotonic() - spoke >= PROGRESS_EVERY_SECONDS:
                spoke = time.monotonic()
                log.info("%d images so far, %d to send", tally.counts["images"], tally.counts["to_send"])
    quota, to_send = ledger.quota(account), tally.counts["to_send"]
    return Plan(
        service=account.service,
        endpoint=account.endpoint.name,
        terms=terms,
        tally=tally,
        quota=quota,
        price=price,
        schedules=tuple(schedules(to_send, account, quota)),
        purchases=tuple(purchases(to_send, account.endpoint.name)),
    )


@dataclass(frozen=True, slots=True)
class _Look:
    """What is known of a file: its digest, and why no call would be spent on it."""

    sha256: str | None = None
    rejected: Rejected | None = None


class _Survey:
    """Judges a listing page by page."""

    def __init__(self, storage: Storage, account: Account, ledger: Ledger, terms: Terms) -> None:
        self._storage, self._account, self._ledger, self._terms = storage, account, ledger, terms
        self._sent = _Contents()
        self._readers = ThreadPoolExecutor(READERS, "jdocr-plan")

    def close(self) -> None:
        self._readers.shutdown(cancel_futures=True)
        self._sent.close()

    def fates(self, sources: Iterable[Source | Missing]) -> Iterator[tuple[Source | Missing, Fate]]:
        stream = iter(sources)
        while page := list(islice(stream, LOOKUP_SIZE)):
            yield from self._fates(page)

    def _fates(self, page: Sequence[Source | Missing]) -> Iterator[tuple[Source | Missing, Fate]]:
        present = [source for source in page if isinstance(source, Source)]
        looks = {uri: _Look(sha256) for uri, sha256 in self._ledger.known_sources(present).items()}
        rows = self._rows(looks.values())
        strange = [source for source in present if looks.get(source.uri, _Look()).sha256 not in rows]
        looks |= self._read(strange) if self._terms.read else self._recalled(strange, looks)
        rows |= self._rows(looks[source.uri] for source in strange if source.uri in looks)
        now = self._ledger.now() if rows else 0.0
        for source in page:
            if isinstance(source, Missing):
                yield source, Fate("rejected", code=source.code, message=source.detail)
            else:
                look = looks.get(source.uri, _Look())
                yield source, self._fate(look, rows.get(look.sha256 or ""), now)

    def _fate(self, look: _Look, row: Recognition | None, now: float) -> Fate:
        """In the order in which a run would find it out."""
        decision = row and decide(
            row,
            now=now,
            asked_in_this_run=False,
            resend=self._terms.resend,
            in_doubt=self._terms.in_doubt,
        )
        if row and decision == "settled":
            return Fate("answered" if row.settled is Settled.ANSWERED else "failed")
        if look.rejected:
            return Fate("rejected", code=look.rejected.code, message=look.rejected.message)
        if look.sha256 is None:
            return Fate("to_send", "unjudged")
        if decision == "held":
            return Fate("held")
        if isinstance(decision, Busy):
            return Fate("busy")
        if not self._sent.add(look.sha256):
            return Fate("duplicates")
        return Fate("to_send", "in_doubt" if row and row.state is State.IN_DOUBT else None)

    def _rows(self, looks: Iterable[_Look]) -> dict[str | None, Recognition]:
        service, endpoint = self._account.service, self._account.endpoint.name
        wanted = {Identity(service, endpoint, look.sha256) for look in looks if look.sha256}
        found = self._ledger.recognitions(wanted) if wanted else {}
        return {identity.sha256: row for identity, row in found.items()}

    # --- files of which the ledger has no recognition

    def _read(self, sources: Sequence[Source]) -> dict[str, _Look]:
        """What preflight says of each; no more than `READERS` pictures are in memory."""
        looks = self._readers.map(self._look_into, sources)
        return {source.uri: look for source, look in zip(sources, looks, strict=True)}

    def _look_into(self, source: Source) -> _Look:
        endpoint = self._account.endpoint
        try:
            found = too_large(source.size or 0, endpoint) or preflight(
                self._storage.read(source.uri), endpoint
            )
        except StorageError as error:
            return _Look(rejected=Rejected(None, "UNREADABLE", str(error)))
        return _Look(found.sha256, found if isinstance(found, Rejected) else None)

    def _recalled(self, sources: Sequence[Source], known: Mapping[str, _Look]) -> dict[str, _Look]:
        """What the listing tells, and what an earlier run found; nothing of most."""
        digests = {look.sha256 for look in (known.get(source.uri) for source in sources) if look}
        refused = engines.repeated(self._ledger.engine, partial(self._refused, digests)) if digests else {}
        looks = {}
        for source in sources:
            sha256 = known.get(source.uri, _Look()).sha256
            rejected = too_large(source.size or 0, self._account.endpoint) or refused.get(sha256)
            looks[source.uri] = _Look(sha256, rejected)
        return looks

    def _refused(self, digests: Iterable[str | None]) -> dict[str | None, Rejected]:
        columns = schema.outcome.c
        query = sa.select(columns.sha256, sa.func.min(columns.code), sa.func.min(columns.message)).where(
            columns.sha256.in_(sorted(filter(None, digests))),
            columns.service == self._account.service,
            columns.endpoint == self._account.endpoint.name,
            columns.outcome == "rejected",
        )
        with engines.reading(self._ledger.engine) as db:
            rows = db.execute(query.group_by(columns.sha256)).all()
        return {sha256: Rejected(sha256, code, message) for sha256, code, message in rows}


class _Contents:
    """Digests, each once. SQLite's own temporary file takes what is more than a few megabytes."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("")
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("PRAGMA cache_size = -16384")
        self._db.execute("CREATE TABLE seen (sha256 TEXT PRIMARY KEY) WITHOUT ROWID")

    def add(self, sha256: str) -> bool:
        """Whether it was not there yet."""
        return self._db.execute("INSERT OR IGNORE INTO seen VALUES (?)", (sha256,)).rowcount == 1

    def close(self) -> None:
        self._db.close()


def _below(folder: str, uri: str) -> str:
    """The folder right below `folder` in which a file lies, or `folder` itself."""
    name, slash, _ = uri.removeprefix(folder).partition("/")
    return f"{folder}{name}/" if slash else folder


def _counts(counts: Counter[str]) -> dict[str, int]:
    return {name: counts[name] for name in COUNTS}
