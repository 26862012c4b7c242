"""A price is an exact number of yuan a call, or nobody knows it."""

from decimal import Decimal

import pytest

from airflow_provider_jdocr.core.prices import PACKS, price_of


@pytest.mark.parametrize(
    ("value", "price"),
    [
        ("10k", "0.048"),
        ("50k", "0.042"),
        ("100k", "0.036"),
        ("200k", "0.03"),
        ("500k", "0.024"),
        ("1M", "0.02"),
        ("5M", "0.017"),
        ("0.048", "0.048"),
        (0.048, "0.048"),
        (1, "1"),
        ("0", "0"),
    ],
)
def test_a_pack_or_a_number_is_a_price_to_the_last_digit(value: object, price: str) -> None:
    assert price_of(value) == Decimal(price)


def test_a_larger_pack_is_cheaper_by_the_call() -> None:
    prices = [price_of(pack) for pack in PACKS]
    assert prices == sorted(prices, reverse=True)


@pytest.mark.parametrize(
    "value", [-1, "-0.1", "480", 480, True, None, "", "free", "nan", "inf", [0.1], "10K "]
)
def test_what_is_no_price_of_one_call_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"0\.048.*10k"):
        price_of(value)
