"""Which mistakes are seen: every one is examined at both endpoints, with and without the QR code."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_jdocr.core.endpoints import ENDPOINTS
from airflow_provider_jdocr.core.examining import examine
from airflow_provider_jdocr.core.findings import Finding, Severity, texts_of_repair
from airflow_provider_jdocr.core.parsing import parse, read_text
from airflow_provider_jdocr.core.qr import InvoiceCode, parse_code
from tests.injection.invoices import TODAY, Printed, draw, reply
from tests.injection.mistakes import CODES, MONEY, TAX_IDS, Mistake, mistakes

WAYS: tuple[tuple[str, bool], ...] = tuple((name, qr) for name in sorted(ENDPOINTS) for qr in (False, True))
"""Endpoint, and whether the picture's QR code was read."""


@dataclass(frozen=True, slots=True)
class Made:
    """One mistake, examined in one way. ``held``: a QR code was there, and holds this field; ``alone``: no QR
    code holds an amount, and the answer has the total and nothing that makes it up.
    """

    mistake: str
    field: str
    way: tuple[str, bool]
    form: str
    held: bool
    alone: bool
    seen: bool
    flagged: bool
    proposed: bool | None


@dataclass(slots=True)
class Share:
    of: int = 0
    seen: int = 0
    flagged: int = 0
    right: int = 0
    wrong: int = 0

    def add(self, made: Made) -> None:
        self.of += 1
        self.seen += made.seen
        self.flagged += made.flagged
        self.right += made.proposed is True
        self.wrong += made.proposed is False

    def __str__(self) -> str:
        return f"{100 * self.seen / self.of:.2f} %" if self.of else "–"


@dataclass(slots=True)
class Tally:
    """The counts of a run; ``missed`` has the first few of each cell, for whoever wants to know why."""

    invoices: Counter[str] = field(default_factory=Counter)
    made: int = 0
    cells: dict[tuple[str, str, tuple[str, bool]], Share] = field(default_factory=lambda: defaultdict(Share))
    goals: dict[str, Share] = field(default_factory=lambda: {name: Share() for name in GOALS})
    alarms: dict[tuple[str, bool], Share] = field(default_factory=lambda: {way: Share() for way in WAYS})
    alarm_codes: Counter[str] = field(default_factory=Counter)
    missed: list[dict[str, Any]] = field(default_factory=list)

    def short_of(self) -> list[str]:
        """The goals that were not reached."""
        wanted = {name: share for name, (share, _) in GOALS.items() if share is not None}
        short = [name for name in wanted if self.goals[name].seen < wanted[name] * self.goals[name].of]
        alarms = sum(each.seen for each in self.alarms.values())
        allowed = MOST_FALSE_ALARMS * sum(each.of for each in self.alarms.values())
        return short + (["false alarms"] if alarms > allowed else [])


MOST_FALSE_ALARMS = 0.005
_SURE = (*CODES, "issue_date")
# Name → the share that has to be seen (None: only to be shown), and which mistakes it is about.
GOALS: dict[str, tuple[float | None, Callable[[Made], bool]]] = {
    "amount, tax, total, without a QR code": (
        0.995,
        lambda made: made.field in MONEY and not made.way[1] and not made.alone,
    ),
    "amount, tax, total, with one": (
        0.995,
        lambda made: made.field in MONEY and made.way[1] and not made.alone,
    ),
    "the total of a roll, where nothing else in answer or code says what it is": (
        None,
        lambda made: made.field in MONEY and made.alone,
    ),
    "look-alikes in tax ids of 18 characters": (
        1.0,
        lambda made: made.field in TAX_IDS and made.form == "18" and made.mistake == "look-alike",
    ),
    "other mistakes in tax ids of 18 characters": (
        None,
        lambda made: made.field in TAX_IDS and made.form == "18" and made.mistake != "look-alike",
    ),
    "mistakes in tax ids of 15 and 20 characters": (
        None,
        lambda made: made.field in TAX_IDS and made.form != "18",
    ),
    "code, number, date, check code, where a QR code holds them": (
        1.0,
        lambda made: made.field in _SURE and made.held,
    ),
    "code, number, date, check code, without a QR code": (
        None,
        lambda made: made.field in _SURE and not made.way[1],
    ),
}


def run(seed: int, tally: Tally) -> None:
    """One invoice: untouched, and with every mistake."""
    printed, rng = draw(seed), random.Random(f"mistakes/{seed}")
    tally.invoices[printed.kind] += 1
    for way, findings in _examined(printed, printed.code):
        share = tally.alarms[way]
        share.of, share.seen = share.of + 1, share.seen + _has(findings, Severity.ERROR)
        share.flagged += _has(findings, Severity.ERROR, Severity.WARNING)
        tally.alarm_codes.update(each.code for each in findings if each.severity is not Severity.INFO)
    for mistake in mistakes(rng, printed):
        for way, findings in _examined(mistake.printed, printed.code):
            _note(tally, mistake, _made(mistake, printed, way, findings), seed)


def _examined(printed: Printed, code: str) -> Iterator[tuple[tuple[str, bool], Sequence[Finding]]]:
    for endpoint in sorted(ENDPOINTS):
        invoice = parse(ENDPOINTS[endpoint], reply(endpoint, printed))
        yield (endpoint, False), examine(invoice, today=TODAY)[1]
        yield (endpoint, True), examine(invoice, today=TODAY, codes=(code,))[1]


def _has(findings: Sequence[Finding], *severities: Severity) -> bool:
    return any(each.severity in severities for each in findings)


def _made(mistake: Mistake, right: Printed, way: tuple[str, bool], findings: Sequence[Finding]) -> Made:
    holds_amount = way[1] and _holds(right.code, "amount")
    return Made(
        mistake.kind,
        mistake.field,
        way,
        form=str(len(right.fields[mistake.field])),
        held=way[1] and _holds(right.code, mistake.field),
        alone=way[0] == "ocr_invoice" and "amount" not in right.fields and not holds_amount,
        seen=_has(findings, Severity.ERROR),
        flagged=_has(findings, Severity.ERROR, Severity.WARNING),
        proposed=_proposed(mistake.field, right, findings),
    )


def _holds(code: str, name: str) -> bool:
    said = parse_code(code)
    return isinstance(said, InvoiceCode) and getattr(said, name, None) is not None


def _proposed(name: str, right: Printed, findings: Sequence[Finding]) -> bool | None:
    """Whether what is proposed for the field is what is printed; None: nothing is proposed."""
    repairs = [texts_of_repair(each.proposal or "") for each in findings]
    values = {read_text(name, texts[name]) for texts in repairs if name in texts}
    return values == {read_text(name, right.fields[name])} if values else None


def _note(tally: Tally, mistake: Mistake, made: Made, seed: int) -> None:
    tally.made += 1
    tally.cells[made.mistake, made.field, made.way].add(made)
    for name, (_, about) in GOALS.items():
        if about(made):
            tally.goals[name].add(made)
    if not made.seen and sum(each["cell"] == [made.mistake, made.field] for each in tally.missed) < _SHOWN:
        shown = {
            "cell": [made.mistake, made.field],
            "way": made.way,
            "seed": seed,
            "kind": mistake.printed.kind,
        }
        tally.missed.append(shown | {"fields": dict(mistake.printed.fields)})


_SHOWN = 5


# ── what is printed ──


def table(tally: Tally) -> str:
    """The figures as Markdown."""
    drawn = f"{sum(tally.invoices.values()):_} invoices of {len(tally.invoices)} kinds"
    lines = [
        f"{drawn}, {tally.made:_} mistakes examined.",
        "",
        *_rows(("goal", "wanted", "seen", "of"), _goals(tally)),
        "",
        *_rows(("untouched", "go to review", "have a warning or an error", "of"), _alarms(tally)),
        "",
        f"What was said of untouched ones: {dict(tally.alarm_codes.most_common())}",
        "",
        *_rows(("field", "mistake", *map(_named, WAYS), "proposed rightly", "wrongly"), _cells(tally)),
    ]
    return "\n".join(lines)


def _rows(heads: Sequence[str], rows: Iterator[Sequence[object]]) -> Iterator[str]:
    for row in (heads, ["---"] * len(heads), *rows):
        yield f"| {' | '.join(map(str, row))} |"


def _named(way: tuple[str, bool]) -> str:
    return f"{way[0]}{' + QR' if way[1] else ''}"


def _goals(tally: Tally) -> Iterator[Sequence[object]]:
    for name, share in tally.goals.items():
        wanted = GOALS[name][0]
        yield name, "–" if wanted is None else f"{100 * wanted:g} %", share, f"{share.of:_}"


def _alarms(tally: Tally) -> Iterator[Sequence[object]]:
    for way, share in tally.alarms.items():
        flagged = f"{100 * share.flagged / max(share.of, 1):.2f} %"
        yield _named(way), share, flagged, f"{share.of:_}"


def _cells(tally: Tally) -> Iterator[Sequence[object]]:
    for name in (*CODES, "issue_date", *MONEY, *TAX_IDS):
        for mistake in dict.fromkeys(kind for kind, where, _ in tally.cells if where == name):
            shares = [tally.cells[mistake, name, way] for way in WAYS]
            proposed = (sum(each.right for each in shares), sum(each.wrong for each in shares))
            yield name, mistake, *shares, *proposed
