"""What a call costs: one of JD's published packs, or whatever the account pays by its contract.

A price is yuan a call, a `Decimal`: money is never a float. Where nobody knows it there is no price, and a
bill counts calls instead of inventing yuan.
"""

from collections.abc import Mapping
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
