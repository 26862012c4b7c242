"""The mistakes that OCR makes, each at a place that is drawn; one that changes nothing is none.

A mistake is made in the printed text, before any of it is parsed, and counts only when the value that is read
is another one or cannot be read at all.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from airflow_provider_jdocr.core.parsing import read_text
from tests.injection.invoices import Printed

CODES = ("code", "number", "check_code")
MONEY = ("amount", "tax", "total")
TAX_IDS = ("buyer_tax_id", "seller_tax_id")
LOOK_ALIKES: Mapping[str, tuple[str, ...]] = {
    alike[0]: tuple(alike[1:].split())
    for alike in (
        *("0O D 8", "1I 7 L", "2Z 7", "38", "4A", "5S 6", "6G 5", "71 T", "8B 3", "9g 4", "A4", "B8", "CG"),
        *("D0", "EF", "FE", "G6", "HN", "JI", "KX", "L1", "MN", "NM", "PR", "QO", "RP", "T7", "UV", "WVV"),
        *("XK", "YV"),
    )
}
_TRIES = 20


@dataclass(frozen=True, slots=True)
class Mistake:
    """``field`` is what was misread, ``printed`` the invoice as the service then sees it."""

    kind: str
    field: str
    printed: Printed


def _places(text: str, of: str) -> list[int]:
    return [place for place, character in enumerate(text) if character in of]


_DIGITS = "0123456789"
_LETTERS = "ABCDEFGHJKLMNPQRTUWXY"


def _changed(rng: random.Random, text: str) -> str:
    """One character becomes another of its sort."""
    place = rng.choice(_places(text, _DIGITS + _LETTERS))
    return text[:place] + rng.choice(_DIGITS if text[place] in _DIGITS else _LETTERS) + text[place + 1 :]


def _swapped(rng: random.Random, text: str) -> str:
    """Two characters beside each other change places."""
    both = [place for place in range(len(text) - 1) if text[place : place + 2].isalnum()]
    place = rng.choice(both)
    return text[:place] + text[place + 1] + text[place] + text[place + 2 :]


def _look_alike(rng: random.Random, text: str) -> str:
    place = rng.choice(_places(text, "".join(LOOK_ALIKES)))
    return text[:place] + rng.choice(LOOK_ALIKES[text[place]]) + text[place + 1 :]


def _dropped(rng: random.Random, text: str) -> str:
    place = rng.choice(_places(text, _DIGITS + _LETTERS))
    return text[:place] + text[place + 1 :]


def _point_lost(_: random.Random, text: str) -> str:
    return text.replace(".", "")


_CHANGES: Mapping[str, Callable[[random.Random, str], str]] = {
    "character changed": _changed,
    "two swapped": _swapped,
    "look-alike": _look_alike,
    "one dropped": _dropped,
}


def mistakes(rng: random.Random, printed: Printed) -> list[Mistake]:
    """One of every kind in every field, as far as this invoice has them."""
    made = [
        _one(rng, printed, kind, name, change)
        for kind, change in _CHANGES.items()
        for name in (*CODES, *MONEY, *TAX_IDS, "issue_date")
    ]
    made += [_one(rng, printed, "point lost", name, _point_lost) for name in MONEY]
    made += [_amount_and_tax(printed), _other_day(rng, printed), *_number_elsewhere(printed)]
    return [each for each in made if each is not None]


def _one(
    rng: random.Random, printed: Printed, kind: str, name: str, change: Callable[[random.Random, str], str]
) -> Mistake | None:
    text = printed.fields.get(name)
    if text is None or not any(character in _DIGITS for character in text):
        return None
    for _ in range(_TRIES):
        wrong = change(rng, text)
        if read_text(name, wrong) != read_text(name, text):
            return Mistake(kind, name, printed.with_fields(**{name: wrong}))
    return None


def _amount_and_tax(printed: Printed) -> Mistake | None:
    amount, tax = printed.fields.get("amount"), printed.fields.get("tax", "***")
    if amount is None or not read_text("tax", tax):
        return None  # there is nothing to swap, or 0.00
    return Mistake("amount and tax swapped", "amount", printed.with_fields(amount=tax, tax=amount))


def _other_day(rng: random.Random, printed: Printed) -> Mistake:
    day = read_text("issue_date", printed.fields["issue_date"])
    other = day + timedelta(days=rng.choice((-1, 1)) * rng.choice((1, 2, 7, 9, 10, 20, 28, 30, 31, 60, 365)))
    return Mistake("another day", "issue_date", printed.with_fields(issue_date=f"{other:%Y年%m月%d日}"))


def _number_elsewhere(printed: Printed) -> list[Mistake]:
    """What services do to the 20 digits of a fully digital invoice."""
    number = printed.fields["number"]
    if len(number) != 20:
        return []
    rest = {name: text for name, text in printed.fields.items() if name != "number"}
    alone = Printed(printed.kind, {**rest, "code": number[-12:]}, printed.columns, printed.code, printed.red)
    return [
        Mistake("number split", "number", printed.with_fields(code=number[:12], number=number[12:])),
        Mistake("number split", "number", printed.with_fields(code=number[:10], number=number[10:])),
        Mistake("tail as code", "number", alone),
    ]
