"""Correct invoices of every kind, as both endpoints print them, and the text of the QR code on each.

They begin as what `tests.specimens.invent` invents. Added is what real ones have besides: kinds that are not
drawn as pictures, every rate, tax that follows from a price with tax (so that rounding puts it a cent off),
several rates, discounts, red invoices, tax ids of the older and rarer forms. Nothing here knows the checks.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, get_args

from airflow_provider_jdocr.core.parsing import (
    INTSIG_COLUMNS,
    INTSIG_KINDS,
    INTSIG_LINE_COLUMNS,
    OCR_INVOICE_COLUMNS,
    InvoiceKind,
)
from tests.specimens import invent
from tests.specimens.invent import Facts, Item, Party, Recipe

TODAY = date(2026, 3, 1)

# Kind → the kind that it is invented as, and the digits by which invoice type and QR code name it.
KINDS: Mapping[InvoiceKind, tuple[invent.Kind, str]] = {
    InvoiceKind.SPECIAL_PAPER: ("special_paper", "01"),
    InvoiceKind.COMMON_PAPER: ("common_paper", "04"),
    InvoiceKind.COMMON_ELECTRONIC: ("common_electronic", "10"),
    InvoiceKind.SPECIAL_ELECTRONIC: ("common_electronic", "08"),
    InvoiceKind.ROLL: ("common_electronic", "11"),
    InvoiceKind.TOLL: ("common_electronic", "14"),
    InvoiceKind.DIGITAL_SPECIAL: ("digital_special", "31"),
    InvoiceKind.DIGITAL_COMMON: ("digital_common", "32"),
    InvoiceKind.BLOCKCHAIN: ("common_electronic", "10"),
}
_ENDINGS = {
    InvoiceKind.SPECIAL_ELECTRONIC: ("13",),
    InvoiceKind.ROLL: ("06", "07"),
    InvoiceKind.TOLL: ("12",),
}
_DIGITAL = (InvoiceKind.DIGITAL_SPECIAL, InvoiceKind.DIGITAL_COMMON)
_SPECIAL = (InvoiceKind.SPECIAL_PAPER, InvoiceKind.SPECIAL_ELECTRONIC, InvoiceKind.DIGITAL_SPECIAL)
_TYPES: Mapping[InvoiceKind, str] = {kind: name for name, kind in INTSIG_KINDS.items()}
_CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Printed:
    """An invoice as it is printed: the text of each field, the columns of its table, and its QR code."""

    kind: InvoiceKind
    fields: Mapping[str, str]
    columns: Mapping[str, tuple[str, ...]]
    code: str
    red: bool = False

    def with_fields(self, **texts: str) -> Printed:
        return replace(self, fields={**self.fields, **texts})


def draw(seed: int) -> Printed:
    """The invoice of this number, always the same one; the kinds take turns."""
    rng = random.Random(f"injection/{seed}")
    kind = list(KINDS)[seed % len(KINDS)]
    facts = _facts(rng, seed, kind)
    red = kind is not InvoiceKind.ROLL and rng.random() < 0.05
    if red:
        facts = replace(facts, items=tuple(map(_taken_back, facts.items)))
    fields, code = _fields(rng, kind, facts, red=red), _code(rng, kind, facts)
    return Printed(kind, fields, _columns(kind, facts), code, red)


def _facts(rng: random.Random, seed: int, kind: InvoiceKind) -> Facts:
    possible = set(get_args(invent.Trait)) - ({"personal"} if kind in _SPECIAL else set())
    traits = frozenset(name for name in sorted(possible) if rng.random() < 0.15)
    facts = invent.invent(seed, Recipe(KINDS[kind][0], rng.choice((1, 1, 1, 2, 3, 5, 8)), traits))
    rates = _rates(rng, facts)
    items = tuple(_priced(rng, item, rates[place % len(rates)]) for place, item in enumerate(facts.items))
    changed: dict[str, Any] = {"items": items, "buyer": _known_as(rng, facts.buyer)}
    changed["seller"] = _known_as(rng, facts.seller)
    if kind in _ENDINGS:
        changed["code"] = facts.code[:10] + rng.choice(_ENDINGS[kind])
    if kind is InvoiceKind.BLOCKCHAIN:
        changed |= {"code": f"14403{facts.issued:%y}0{rng.randint(1, 9)}110", "check_code": ""}
    return replace(facts, **changed)


def _rates(rng: random.Random, facts: Facts) -> tuple[Decimal | None, ...]:
    """Most invoices have the rate that they were invented with; the others any that there is."""
    if rng.random() < 0.6:
        return tuple(item.rate for item in facts.items)
    legal = ("0.13", "0.09", "0.06", "0.05", "0.03", "0.015", "0.01", "0", "0.16", "0.10", "0.17", "0.11")
    return tuple(Decimal(rate) for rate in rng.sample(legal, k=rng.choice((1, 1, 1, 2))))


def _priced(rng: random.Random, item: Item, rate: Decimal | None) -> Item:
    """Some sellers multiply prices without tax, others take the tax out of prices with it."""
    if rate is None or rng.random() < 0.5:
        tax = None if rate is None else _cents(item.amount * rate)
        return replace(item, rate=rate, tax=tax)
    total = _cents(item.amount * (1 + rate))
    amount = _cents(total / (1 + rate))
    price = None
    if item.quantity is not None and item.unit_price is not None:
        places = Decimal(1).scaleb(-rng.choice((2, 6, 8, 10, 12)))
        price = (amount / item.quantity).quantize(places, ROUND_HALF_UP)
    return replace(item, amount=amount, rate=rate, tax=total - amount, unit_price=price)


def _cents(value: Decimal) -> Decimal:
    return value.quantize(_CENT, ROUND_HALF_UP)


def _taken_back(item: Item) -> Item:
    quantity = None if item.quantity is None else -item.quantity
    return replace(item, amount=-item.amount, tax=None if item.tax is None else -item.tax, quantity=quantity)


def _known_as(rng: random.Random, party: Party) -> Party:
    """One in ten has an id of an older or rarer form."""
    if not party.tax_id or rng.random() < 0.9:
        return party
    region, organisation = party.tax_id[2:8], party.tax_id[8:17]
    born = date(1950, 1, 1) + timedelta(days=rng.randrange(18_000))
    person = f"{region}{born:%Y%m%d}{rng.randint(100, 999)}"
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    checked = person + "10X98765432"[sum(int(d) * w for d, w in zip(person, weights, strict=True)) % 11]
    forms = (region + organisation, checked, f"{checked}{rng.randint(10, 99)}")
    return replace(party, tax_id=rng.choice(forms))


# ── as it is printed ──


def _fields(rng: random.Random, kind: InvoiceKind, facts: Facts, *, red: bool) -> dict[str, str]:
    sign, money = rng.choice(("", "¥", "￥")), rng.choice(("{}", "{}", "{:,}"))
    tax = "***" if facts.tax is None else sign + money.format(facts.tax)
    fields = {
        "code": facts.code,
        "number": facts.number,
        "issue_date": facts.issued.strftime(rng.choice(("%Y年%m月%d日", "%Y-%m-%d", "%Y%m%d"))),
        "check_code": facts.check_code,
        "buyer_name": facts.buyer.name,
        "buyer_tax_id": facts.buyer.tax_id,
        "seller_name": facts.seller.name,
        "seller_tax_id": facts.seller.tax_id,
        "amount": sign + money.format(facts.amount),
        "tax": tax,
        "total": sign + money.format(facts.total),
        "total_in_words": ("负" if red else "") + invent.in_words(abs(facts.total)),
        "tax_rate_text": facts.single_rate or "",
        "remarks": _red_remarks(rng, kind) if red else facts.remarks,
    }
    if kind is InvoiceKind.ROLL:  # prices with tax, and their total
        fields |= {"amount": "", "tax": "", "tax_rate_text": ""}
    return {name: text for name, text in fields.items() if text}


def _red_remarks(rng: random.Random, kind: InvoiceKind) -> str:
    def digits(count: int) -> str:
        return "".join(rng.choices("0123456789", k=count))

    if kind in _DIGITAL:
        return f"被红冲蓝字数电票号码：24312000000{digits(9)} 红字发票信息确认单编号：{digits(20)}"
    if kind in _SPECIAL:
        return f"开具红字增值税专用发票信息表编号{digits(16)}"
    return f"对应正数发票代码:0120018003{digits(2)}号码:{digits(8)}"


def _columns(kind: InvoiceKind, facts: Facts) -> dict[str, tuple[str, ...]]:
    items = facts.items
    columns = {
        "name": tuple(item.name for item in items),
        "quantity": tuple("" if item.quantity is None else f"{item.quantity}" for item in items),
        "unit_price": tuple("" if item.unit_price is None else f"{item.unit_price:f}" for item in items),
        "amount": tuple(f"{item.amount}" for item in items),
        "tax_rate_text": tuple(item.rate_text for item in items),
        "tax": tuple(item.tax_text for item in items),
    }
    return {} if kind is InvoiceKind.ROLL else columns


def _code(rng: random.Random, kind: InvoiceKind, facts: Facts) -> str:
    """The payload, in one of the ways in which it is written."""
    if kind is InvoiceKind.ROLL and rng.random() < 0.5:
        return f"01,11,{facts.code},{facts.number},,,,"
    amount = f"{facts.total if kind in (*_DIGITAL, InvoiceKind.ROLL) else facts.amount:f}"
    if rng.random() < 0.1:
        amount = amount.rstrip("0").rstrip(".")
    day = facts.issued.strftime(rng.choice(("%Y%m%d", "%Y%m%d", "%Y-%m-%d")))
    seller = (facts.seller.tax_id,) if kind is InvoiceKind.BLOCKCHAIN else ()
    said = "10" if kind is InvoiceKind.TOLL else KINDS[kind][1]
    parts = ("01", said, facts.code, facts.number, *seller, amount, day, facts.check_code)
    end = rng.choice(("", ",", f",{rng.randrange(65_536):X}", f",{rng.randrange(65_536):x},"))
    return ",".join(parts) + end


# ── as the endpoints answer it ──


def reply(endpoint: str, printed: Printed) -> bytes:
    """What the service would say of it: every text that it has a key for."""
    return {"ocr_invoice": _flat, "intsig_invoice": _keyed}[endpoint](printed)


def _flat(printed: Printed) -> bytes:
    result = {keys[0]: printed.fields.get(name, "") for name, keys in OCR_INVOICE_COLUMNS.items()}
    result["invoice_type"] = KINDS[printed.kind][1]
    return json.dumps({"code": 0, "message": "success", "result": result}).encode()


def _keyed(printed: Printed) -> bytes:
    items = [{"key": INTSIG_COLUMNS[name][0], "value": text} for name, text in printed.fields.items()]
    columns = ((name, "\n".join(texts)) for name, texts in printed.columns.items())
    items += [{"key": INTSIG_LINE_COLUMNS[name], "value": text} for name, text in columns]
    result = {"type": _TYPES[printed.kind], "item_list": items}
    return json.dumps({"code": 200, "message": "success", "result": result}).encode()
