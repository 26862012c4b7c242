"""Numbers as Chinese invoices print them, exactly: digits with signs and separators, and amounts in words.

Everything is ``Decimal``; nothing passes through a float. A text that could be read in two ways is not read.
"""

import re
import unicodedata
from decimal import Decimal

_NUMBER = re.compile(r"(?P<sign>[-+]?)(?P<whole>[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+)?(?:\.(?P<part>[0-9]*))?")
_MINUS = str.maketrans("−–—﹣", "----")
_LONGEST_TEXT = 64


def plain(text: str) -> str:
    """Full-width forms made half-width, all blanks removed."""
    return "".join(unicodedata.normalize("NFKC", text).split())


def decimal_of(text: str, *, whole: int, part: int) -> Decimal | None:
    """A printed number with at most so many digits before and behind the point; None when it is none.

    A currency sign, thousands separators in their places, a sign on either side of ¥ and accounting brackets
    are understood. A comma elsewhere is not: ``46,62`` may be either of two numbers.
    """
    if len(text) > _LONGEST_TEXT:
        return None
    bare = plain(text).translate(_MINUS)
    negative = bare.startswith("(") and bare.endswith(")")
    bare = re.sub(r"^([-+]?)(?:¥|CNY|RMB)", r"\1", bare.strip("()") if negative else bare)
    match = _NUMBER.fullmatch(bare.removesuffix("元"))
    if match is None or not (match["whole"] or match["part"]):
        return None
    digits, behind = (match["whole"] or "0").replace(",", ""), (match["part"] or "").rstrip("0")
    if len(digits.lstrip("0")) > whole or len(behind) > part:
        return None
    value = Decimal(f"{match['sign']}{digits}.{match['part'] or '0'}")
    return -value if negative else value


def money(text: str) -> Decimal | None:
    """An amount in yuan with exactly two decimals, within ``NUMERIC(18,2)``; None when it is none."""
    value = decimal_of(text, whole=16, part=2)
    return None if value is None else Decimal(f"{value:.2f}") + 0  # no minus before a zero


_RATE = Decimal("0.0001")


def rate(text: str) -> Decimal | None:
    """A tax rate as a fraction: ``13%``, ``0.13`` and a bare ``13`` are 0.13; None for 免税 and the like."""
    bare = plain(text)
    value = decimal_of(bare.removesuffix("%"), whole=2, part=4)
    if value is None or value < 0:
        return None
    fraction = value / 100 if bare.endswith("%") or value >= 1 else value
    return Decimal(f"{fraction.normalize():f}") if fraction == fraction.quantize(_RATE) else None


# ── words ──

_FIGURES = "零壹贰叁肆伍陆柒捌玖"
_VARIANTS = str.maketrans(
    "〇○一二三四五六七八九两貳弍貮叄參参弎陸十百千萬億圓元块正",
    "零零壹贰叁肆伍陆柒捌玖贰贰贰贰叁叁叁叁陆拾佰仟万亿圆圆圆整",
)
_LABEL = re.compile(r"^(?:价税合计)?(?:\(大写\))?(?:人民币)?")
_NOISE = re.compile(r"^[^一-鿿]{1,2}")  # ⊗ before the words is read as X, @, 8 and others
_D = f"[{_FIGURES}]"
_SECTION = re.compile(f"零?(?:({_D})仟)?零?(?:({_D})佰)?零?(?:({_D}?)拾)?零?({_D})?")
_AMOUNT = re.compile(
    f"(?P<minus>负?)(?:(?P<yuan>[^圆角分]*)圆)?零?(?:(?P<jiao>{_D})角)?零?(?:(?P<fen>{_D})分)?整?"
)


def from_words(text: str) -> Decimal | None:
    """The amount that 价税合计大写 says, with two decimals; None when it cannot be read as one amount."""
    if len(text) > _LONGEST_TEXT:
        return None
    words = _LABEL.sub("", plain(text).translate(_VARIANTS))
    match = _AMOUNT.fullmatch(_NOISE.sub("", words))
    if match is None or not any(match[unit] is not None for unit in ("yuan", "jiao", "fen")):
        return None
    yuan = _below_1e16(match["yuan"] or "")
    if yuan is None:
        return None
    cents = yuan * 100 + _figure(match["jiao"]) * 10 + _figure(match["fen"])
    return Decimal(-cents if match["minus"] else cents).scaleb(-2)


def _below_1e16(words: str) -> int | None:
    high, hundred_million, low = words.rpartition("亿")
    left = _below_1e8(high) if hundred_million else 0
    right = _below_1e8(low)
    if left is None or right is None or (hundred_million and not left):
        return None
    return left * 10**8 + right


def _below_1e8(words: str) -> int | None:
    high, ten_thousand, low = words.rpartition("万")
    left = _below_1e4(high) if ten_thousand else 0
    right = _below_1e4(low)
    if left is None or right is None or (ten_thousand and not left):
        return None
    return left * 10**4 + right


def _below_1e4(words: str) -> int | None:
    match = _SECTION.fullmatch(words)
    if match is None:
        return None
    thousands, hundreds, tens, ones = match.groups()
    ten = 0 if tens is None else _figure(tens or "壹")  # 拾 alone is ten
    return _figure(thousands) * 1000 + _figure(hundreds) * 100 + ten * 10 + _figure(ones)


def _figure(character: str | None) -> int:
    return _FIGURES.index(character) if character else 0


def to_words(amount: Decimal) -> str:
    """An amount in words as an invoice prints it (圆 and 整); at most two decimals, below 10¹⁶."""
    cents = int(abs(amount).scaleb(2).to_integral_exact())
    yuan, jiao, fen = cents // 100, cents // 10 % 10, cents % 10
    words = f"{_integer_in_words(yuan)}圆" if yuan or not cents else ""
    words += f"{_FIGURES[jiao]}角" if jiao else "零" if fen and yuan else ""
    words += f"{_FIGURES[fen]}分" if fen else "整"
    return f"负{words}" if amount < 0 else words


def _integer_in_words(number: int) -> str:
    if number >= 10**8:
        return _joined(number, 10**8, "亿")
    if number >= 10**4:
        return _joined(number, 10**4, "万")
    words, zero = "", False
    for place, unit in ((1000, "仟"), (100, "佰"), (10, "拾"), (1, "")):
        digit = number // place % 10
        if digit:
            words += ("零" if zero and words else "") + _FIGURES[digit] + unit
        zero = not digit
    return words or "零"


def _joined(number: int, size: int, unit: str) -> str:
    high, low = divmod(number, size)
    between = "零" if 0 < low < size // 10 else ""
    return _integer_in_words(high) + unit + (between + _integer_in_words(low) if low else "")
