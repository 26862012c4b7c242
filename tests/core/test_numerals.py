"""Digits and words, exactly."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jdocr.core.numerals import decimal_of, from_words, money, rate, to_words

amounts = st.integers(min_value=-(10**18) + 1, max_value=10**18 - 1).map(
    lambda cents: Decimal(cents).scaleb(-2)
)


@given(amounts)
def test_what_is_written_in_words_is_read_as_the_same_amount(amount: Decimal) -> None:
    assert from_words(to_words(amount)) == amount


@given(amounts)
def test_every_habit_of_writing_gives_the_same_amount(amount: Decimal) -> None:
    words = to_words(amount)
    yuan = words.replace("圆", "元")
    assert from_words(yuan) == amount
    assert from_words(yuan.removesuffix("整")) == amount
    assert from_words(f"⊗{words.replace('整', '正')}") == amount


@pytest.mark.parametrize(
    ("words", "amount"),
    [
        ("柒仟零壹拾捌圆捌角叁分", "7018.83"),
        ("伍拾贰圆柒角", "52.70"),
        ("柒拾玖元捌角", "79.80"),
        ("元零壹角玖分", "0.19"),
        ("玖角", "0.90"),
        ("壹万陆仟圆整", "16000.00"),
        ("⊗ 壹万 陆仟 圆整", "16000.00"),
        ("X壹万陆仟圆整", "16000.00"),
        ("@壹万陆仟圆整", "16000.00"),
        ("8壹万陆仟元正", "16000.00"),
        ("⊗负壹佰圆整", "-100.00"),
        ("拾伍元整", "15.00"),
        ("壹佰零伍万元整", "1050000.00"),
        ("壹亿零壹圆零伍分", "100000001.05"),
        ("零圆整", "0.00"),
        ("价税合计（大写）贰佰圆整", "200.00"),
        ("一千二百三十四元五角六分", "1234.56"),
    ],
)
def test_words_as_they_are_printed_and_read(words: str, amount: str) -> None:
    assert from_words(words) == Decimal(amount)


@pytest.mark.parametrize(
    "words", ["", "壹佰", "圆万壹", "壹佰圆贰佰圆", "万圆整", "abc", "壹" * 1000, "壹佰圆整整整"]
)
def test_words_that_are_no_amount_are_not_guessed(words: str) -> None:
    assert from_words(words) is None


@given(st.text())
def test_any_text_is_either_an_amount_or_none(text: str) -> None:
    for value in (from_words(text), money(text), rate(text)):
        assert value is None or value.is_finite()


@given(amounts)
def test_amounts_are_read_with_or_without_separators_and_signs(amount: Decimal) -> None:
    for text in (f"{amount}", f"¥{amount}", f"￥ {amount:,}", f"{amount:,.2f}"):
        assert money(text) == amount


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("４６．６２", "46.62"),
        ("-¥5.00", "-5.00"),
        ("¥-5.00", "-5.00"),
        ("−5", "-5.00"),
        ("(1,234.50)", "-1234.50"),
        ("52.7元", "52.70"),
        (".5", "0.50"),
        ("46. 62", "46.62"),
        ("-0.00", "0.00"),
    ],
)
def test_amounts_in_the_forms_they_are_printed(text: str, value: str) -> None:
    assert str(money(text)) == value


@pytest.mark.parametrize(
    "text",
    ["46,62", "1,2345", "1e5", "1e999999", "Infinity", "NaN", "***", "12.345", "9" * 17, "1.2.3", "٣", ""],
)
def test_what_could_be_two_amounts_or_none_is_not_read(text: str) -> None:
    assert money(text) is None


def test_digits_are_bounded_on_both_sides_of_the_point() -> None:
    assert decimal_of("72091.7358490566", whole=12, part=12) == Decimal("72091.7358490566")
    assert decimal_of("1234567", whole=6, part=2) is None
    assert decimal_of("0.123", whole=6, part=2) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("13%", "0.13"),
        ("17％", "0.17"),
        ("1.5 %", "0.015"),
        ("0.09", "0.09"),
        ("13", "0.13"),
        ("0%", "0"),
        ("1", "0.01"),
    ],
)
def test_rates_are_fractions(text: str, value: str) -> None:
    assert rate(text) == Decimal(value)


@pytest.mark.parametrize("text", ["免税", "不征税", "***", "-3%", "130%0", "1.23456%", ""])
def test_words_and_stars_are_no_rates(text: str) -> None:
    assert rate(text) is None
