"""What a call costs: one of JD's published packs, or whatever the account pays by its contract.

A price is yuan a call, a `Decimal`: money is never a float. Where nobody knows it there is no price, and a
bill counts calls instead of inventing yuan.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from types import MappingProxyType

CURRENCY = "CNY"
HIGHEST_PRICE = Decimal(100)
"""Yuan. More for one call is a typing error, such as the price of the whole pack."""

# Pack → calls, yuan. JD's price list for `ocr_invoice`: valid for a year, no refund.
_PACKS = {
    "10k": (10_000, 480),
    "50k": (50_000, 2_100),
    "100k": (100_000, 3_600),
    "200k": (200_000, 6_000),
    "500k": (500_000, 12_000),
    "1M": (1_000_000, 20_000),
    "5M": (5_000_000, 85_000),
}
PACKS: Mapping[str, tuple[int, int]] = MappingProxyType(_PACKS)
PACK_DAYS = 365
"""How long a pack is valid."""
OFFERED_FOR = "ocr_invoice"
"""The endpoint whose packs and tiers are published."""


@dataclass(frozen=True, slots=True)
class Tier:
    """What an account may do without asking JD: calls a second, and a day; None: no limit is published."""

    name: str
    qps: float
    daily_limit: int | None


# JD's limits of `ocr_invoice`: free up to so many calls a day; whoever buys calls may buy rate beside them.
TIERS = (
    Tier("free, personal", 2, 500),
    Tier("free, enterprise", 2, 1_000),
    Tier("packs", 2, None),
    Tier("packs, 10 a second", 10, None),
    Tier("packs, 50 a second", 50, None),
)


@dataclass(frozen=True, slots=True)
class Purchase:
    """Packs to buy: how many of each, the calls that they hold, and yuan."""

    packs: Mapping[str, int]
    calls: int
    yuan: int


def purchase(packs: Mapping[str, int]) -> Purchase:
    """What so many of each pack hold and cost."""
    calls, yuan = (sum(count * PACKS[name][part] for name, count in packs.items()) for part in (0, 1))
    return Purchase(packs, calls, yuan)


def cheapest(calls: int) -> Purchase:
    """The packs that hold at least so many calls for the fewest yuan."""
    unit = min(size for size, _ in PACKS.values())
    # Of the last pack chosen for each number of units, and what it comes to.
    best: list[tuple[int, str]] = [(0, "")]
    for units in range(1, -(-calls // unit) + 1):
        best.append(
            min((best[max(0, units - size // unit)][0] + yuan, name) for name, (size, yuan) in PACKS.items())
        )
    chosen: Counter[str] = Counter()
    units = len(best) - 1
    while units > 0:
        name = best[units][1]
        chosen[name] += 1
        units -= PACKS[name][0] // unit
    return purchase(dict(sorted(chosen.items(), key=lambda each: -PACKS[each[0]][0])))


def price_of(value: object) -> Decimal:
    """Yuan a call, given as the name of a pack, a number or its text. Raises `ValueError` with the rule."""
    if isinstance(value, str) and value in PACKS:
        calls, yuan = PACKS[value]
        return Decimal(yuan) / calls
    try:
        price = Decimal("NaN") if isinstance(value, bool) else Decimal(str(value))
    except InvalidOperation:
        price = Decimal("NaN")
    if not price.is_finite() or not 0 <= price <= HIGHEST_PRICE:
        raise ValueError(
            f"must be yuan a call, from 0 to {HIGHEST_PRICE}, such as 0.048, or one of JD's packs: "
            f"{', '.join(PACKS)}"
        )
    return price
