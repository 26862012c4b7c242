"""Accidents: what bytes, texts and JSON suffer on their way, and what somebody may do to them on purpose.

Every function draws from the ``rng`` it is given and from nothing else, so a seed repeats a run.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

NUMBERS = (0, 1, 2, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

TEXTS: tuple[str, ...] = (
    *("", " ", "\t\r\n", "\0", "a\0b", "\x7f", "\x85", "\u2028", "\ufeff", "\ufffd"),
    *("\ud800", "\udfff", "a\udcffb", "\ud83d\ude00", "𠮷", "\U0010ffff", "\uffff"),
    *("０１２３４５６７", "２０２３年０１月０２日", "٠١٢٣٤٥٦٧", "१२३४५६७८", "²³", "①②", "Ⅷ", "½", "〇一二"),
    *("\u202e87654321", "\u200f", "\u200b1\u200b2", "e\u0301", "\u0301", "ﷺ", "ß", "İ", "ı", "ﬀ", "㍿"),
    *("¥1,2,3.00", "￥1,234.50", "¥-1.00", "-¥1.00", "(1.00)", "1.", ".5", ".", "-", "+", "--1", "1,", "1e5"),
    *("1e400", "NaN", "Infinity", "-0", "-0.00", "0x10", "1_000", "9" * 30, "9" * 5_000, "0." + "3" * 60),
    *("0000-00-00", "2023-02-30", "20230230", "9999年99月99日", "2023 1 2", "2023-01-02T25:61", "00000000"),
    *("true", "false", "null", "None", "{}", "[]", '{"code":0}', '"', '"{\\"a\\":1}"', "{" * 100, "[" * 100),
    *("免税", "***", "¥*", "13%", "0.13", "13", "1300%", "-6%", "壹佰圆整", "负壹圆", "壹亿亿亿圆", "⊗壹圆"),
    *(
        "10000",
        "10020",
        "200",
        "40400",
        "0",
        "12005",
        "4xx",
        "'; DROP TABLE x; --",
        "%s%n{0}$(x)",
        "\\",
        "\\u0000",
    ),
    *(
        "3700081650",
        "012002000211",
        "01599485",
        "23312000000012345678",
        "372569065123562",
        "91110000600007307X",
    ),
    *("a" * 300, "票" * 300, "\n" * 1_100, "1\n2\n3", "6%\n13%", "x\r\ny\rz"),
)
HUGE_TEXTS: tuple[str, ...] = ("x" * 70_000, "ﷺ" * 20_000, "\n1" * 50_000, "(" * 50_000, "0" * 100_000)

# What Python's own values cannot say: written as a text of this name, spelled out by `spelled`.
_RAW: dict[str, str] = {
    "@huge": "1e400",
    "@minushuge": "-1e400",
    "@tiny": "1e-400",
    "@nan": "NaN",
    "@infinity": "Infinity",
    "@digits": "9" * 5_000,
    "@manydigits": "-" + "8" * 100_000,
    "@deep63": "[" * 63 + "]" * 63,
    "@deep66": '{"result":' * 66 + "1" + "}" * 66,
    "@deep1000": "[" * 1_000 + "]" * 1_000,
    "@deep100000": "[" * 100_000 + "]" * 100_000,
    "@deepobject": '{"result":' * 20_000 + "1" + "}" * 20_000,
    "@open": "[" * 10_000,
    "@nul": '"a\\u0000b"',
    "@surrogate": '"\\ud83d"',
    "@badescape": '"\\x41"',
    "@control": '"a\nb\x00"',
    "@bare": "undefined",
    "@single": "'10000'",
}
_RAW_TEXT = re.compile('"(@[a-z0-9]+)"')
_TWICE = re.compile(r"@twice[0-9]*\"")


def some_bytes(rng: random.Random, longest: int = 64) -> bytes:
    return rng.randbytes(rng.randint(0, longest))


def some_text(rng: random.Random) -> str:
    """A text worth trying: one of the table, or a few of them, or characters from anywhere."""
    match rng.randrange(8):
        case 0 | 1 | 2 | 3:
            return rng.choice(TEXTS)
        case 4:
            return "".join(rng.choices(TEXTS, k=rng.randint(2, 4)))
        case 5 if rng.random() < 0.02:
            return rng.choice(HUGE_TEXTS)
        case 5 | 6:
            return "".join(rng.choices("0123456789.,-¥%年月日 /:", k=rng.randint(1, 24)))
    return "".join(
        chr(rng.choice((rng.randrange(0x300), rng.randrange(0x11000)))) for _ in range(rng.randint(1, 12))
    )


def mutated_text(rng: random.Random, text: str) -> str:
    match rng.randrange(6):
        case 0:
            return some_text(rng)
        case 1:
            return text + some_text(rng)
        case 2:
            at = rng.randint(0, len(text))
            return text[:at] + some_text(rng) + text[at:]
        case 3:
            at = rng.randint(0, len(text))
            return text[:at] + text[at + rng.randint(1, 4) :]
        case 4:
            return text[: rng.randint(0, len(text))]
    return "".join(chr(0xFEE0 + ord(one)) if "!" <= one <= "~" else one for one in text)  # full width


def some_value(rng: random.Random) -> Any:
    """A JSON value of any type, odd ones above all."""
    match rng.randrange(10):
        case 0:
            return None
        case 1:
            return rng.choice((True, False))
        case 2:
            return rng.choice((*NUMBERS, -1, 200, 10_000, 10_020, 10**18, 2**63, -(2**63), 10**25))
        case 3:
            return rng.choice((0.0, -0.0, 1.0, 200.0, 0.1, 1e22, 1e300, -1e-300, 10000.0, 1.5))
        case 4:
            return rng.choice(([], {}, [[]], [{}], {"": None}, [None] * 20, [0.5] * 8, [0] * 17))
        case 5:
            return rng.choice(tuple(_RAW))
    return some_text(rng)


def mutated_json(rng: random.Random, value: Any, words: Sequence[str]) -> Any:
    """The value with one thing in it changed; ``words`` are keys with a meaning. ``value`` is used up."""
    places = list(_places(value))
    if not places:
        return some_value(rng)
    holder, key = rng.choice(places)
    here = holder[key]
    match rng.randrange(12):
        case 0 | 1 | 2:
            holder[key] = some_value(rng)
        case 3 | 4:
            holder[key] = mutated_text(rng, here) if isinstance(here, str) else some_text(rng)
        case 5:
            del holder[key]
        case 6:
            other_holder, other_key = rng.choice(places)
            holder[key], other_holder[other_key] = other_holder[other_key], here
        case 7 if len(places) < _MANY:
            holder[key] = rng.choice(([here], {rng.choice(words): here}, [here, deepcopy(here)], [[here]]))
        case 8:
            holder[key] = json.dumps(here)
        case 9 if isinstance(holder, dict):
            holder[rng.choice(words)] = holder.pop(key)
        case 10 if isinstance(here, list) and len(places) < _MANY:
            times = rng.choice((2, 3, 30) if len(places) > 50 else (2, 30, 1_200))
            holder[key] = [deepcopy(one) for _ in range(times) for one in here or [some_value(rng)]]
        case _:
            _insert(rng, holder, here, words)
    return value


def _insert(rng: random.Random, holder: Any, here: Any, words: Sequence[str]) -> None:
    inside = here if isinstance(here, dict | list) else holder
    if isinstance(inside, list):
        inside.insert(rng.randint(0, len(inside)), some_value(rng))
    else:
        word = rng.choice((rng.choice(words), some_text(rng)))
        inside[f"{word}@twice{rng.randrange(9)}" if rng.random() < 0.3 else word] = some_value(rng)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) below a value."""
    todo = [value]
    while todo:
        holder = todo.pop()
        keys = (
            list(holder)
            if isinstance(holder, dict)
            else range(len(holder) if isinstance(holder, list) else 0)
        )
        for key in keys:
            yield holder, key
            if isinstance(holder[key], dict | list):
                todo.append(holder[key])


def spelled(rng: random.Random, value: Any) -> str:
    """JSON, or nearly: with duplicate keys, numbers that are none, nesting without end, as drawn before."""
    text = json.dumps(value, ensure_ascii=rng.random() < 0.3)
    return _TWICE.sub('"', _RAW_TEXT.sub(lambda found: _RAW.get(found[1], found[0]), text))


_MANY = 3_000
"""Values in one JSON text, from which on it grows no more."""

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "gbk", "gb18030", "big5", "latin-1")


def encoded(rng: random.Random, text: str) -> bytes:
    encoding = "utf-8" if rng.random() < 0.85 else rng.choice(ENCODINGS)
    how = "surrogatepass" if encoding.startswith("utf") and rng.random() < 0.5 else "replace"
    return text.encode(encoding, how)


def mutated_bytes(rng: random.Random, content: bytes, words: Sequence[bytes] = (b"\0",)) -> bytes:
    """The content with one accident."""
    here, size = bytearray(content), len(content)
    at = rng.randint(0, size)
    few = min(size, rng.choice((1, 2, 4, 16, 256, 4_096)))
    match rng.randrange(10):
        case 0 if size:
            here[rng.randrange(size)] ^= 1 << rng.randrange(8)
        case 1 if size:
            for _ in range(rng.randint(1, 16)):
                here[rng.randrange(size)] = rng.randrange(256)
        case 2:
            return content[: rng.randint(0, size)]
        case 3:
            return content[at:]
        case 4:
            del here[at : at + few]
        case 5:
            here[at:at] = here[max(0, at - few) : at]
        case 6:
            here[at:at] = some_bytes(rng, few or 8)
        case 7:
            here[at:at] = rng.choice(words)
        case 8:
            width, order = rng.choice((2, 4)), rng.choice(("little", "big"))
            number = rng.choice(NUMBERS) & ((1 << 8 * width) - 1)
            here[at : at + width] = number.to_bytes(width, "little" if order == "little" else "big")
        case _:
            here[at : at + few] = bytes([rng.choice((0, 255, 32, rng.randrange(256)))]) * few
    return bytes(here)
