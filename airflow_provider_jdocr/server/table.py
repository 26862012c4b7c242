"""The table of goods: which word belongs to which column of which line.

Columns are known by their headings, lines by their amounts. Each column becomes one string with one line
of text for each line of goods, empty where it has nothing, so that the columns stay aligned.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from statistics import median

from airflow_provider_jdocr.server.page import COLUMN_NAMES, MONEY, NUMBER, RATE, STARS, Page
from airflow_provider_jdocr.server.words import Found, Word

NUMERIC = ("quantity", "price", "amount", "tax")
LIST_KEYS = {
    "goods": "vat_invoice_goods_list",
    "specification": "vat_invoice_plate_specific",
    "unit": "vat_invoice_electrans_unit",
    "quantity": "vat_invoice_electrans_quantity",
    "price": "vat_invoice_electrans_unit_price",
    "amount": "vat_invoice_price_list",
    "rate": "vat_invoice_tax_rate_list",
    "tax": "vat_invoice_tax_list",
}


def headings_of(page: Page) -> dict[str, tuple[float, float]]:
    """Left and right edge of each heading. Headings may be read together or character by character."""
    row = [word for word in page.row(page.table_y, 0.6) if not MONEY.search(word.plain)]
    chars = [
        (word.part(place, place + 1))
        for word in row
        for place in range(len(word.text))
        if word.text[place].strip()
    ]
    chars.sort(key=lambda char: char.left)
    text = "".join(char.plain for char in chars)
    matches = {name: pattern.search(text) for name, pattern in COLUMN_NAMES.items()}
    return {
        name: (chars[match.start()].left, chars[match.end() - 1].right)
        for name, match in matches.items()
        if match
    }


def distance(word: Word, column: tuple[float, float]) -> float:
    """How far the word is from the heading: the gap between them, and a little for not being centred."""
    left, right = column
    gap = max(0.0, left - word.right, word.left - right)
    return gap + 0.25 * abs(word.x - (left + right) / 2)


def read_table(page: Page) -> dict[str, Found | None]:
    headings = headings_of(page)
    if "amount" not in headings and "goods" not in headings:
        return {}
    body = _body(page)
    cells = [(name, word) for row in rows_of(page, body) for name, word in _cells(row, headings, page)]
    starts = sorted(word.y for name, word in cells if name == "amount")
    if not starts:
        starts = sorted(word.y for name, word in cells if name == "goods")
    lines: list[dict[str, list[Word]]] = [{} for _ in starts]
    for name, word in cells:
        place = _line_of(word, name, starts, page.line)
        if place is not None:
            lines[place].setdefault(name, []).append(word)
    found = {key: _column(name, lines) for name, key in LIST_KEYS.items()}
    return found | {"vat_invoice_tax_rate": _only_rate(found["vat_invoice_tax_rate_list"])}


def _body(page: Page) -> list[Word]:
    """Words between headings and sums that lie within the table, numbers that ran together taken apart."""
    between = [
        word
        for word in page.printed
        if page.table_y + 0.55 * page.line < word.y < page.sums_y - 0.6 * page.line and word.left < page.right
    ]
    return [piece for word in between if word.plain not in ("合", "计", "合计") for piece in _apart(word)]


def _apart(word: Word) -> list[Word]:
    """A box that holds several numbers or rates side by side becomes one word each."""
    tokens = list(re.finditer(r"\S+", word.plain))
    numeric = all(NUMBER.fullmatch(token.group()) or RATE.fullmatch(token.group()) for token in tokens)
    return [word.part(*token.span()) for token in tokens] if numeric and len(tokens) > 1 else [word]


def rows_of(page: Page, words: Iterable[Word]) -> list[list[Word]]:
    """Words whose middles lie within half a line belong to one row."""
    rows: list[list[Word]] = []
    for word in sorted(words, key=lambda w: w.y):
        if rows and word.y - median(other.y for other in rows[-1]) < 0.5 * page.line:
            rows[-1].append(word)
        else:
            rows.append([word])
    return rows


def _cells(
    row: Sequence[Word], headings: Mapping[str, tuple[float, float]], page: Page
) -> Iterator[tuple[str, Word]]:
    """Each word of a row with its column: by what it is first, by where it stands second."""
    goods_end = _middle(headings, "goods", page.width * 0.15)
    unit_x = _middle(headings, "unit", page.width * 0.4)
    amount_x = headings.get("amount", (page.width * 0.6, 0))[0]
    numbers: list[Word] = []
    for word in sorted(row, key=lambda w: w.left):
        text = re.sub(r"\s", "", word.plain)
        if word.left < goods_end:
            yield "goods", word
        elif RATE.fullmatch(text) and word.left > amount_x:
            yield "rate", word
        elif STARS.fullmatch(text) and word.left > amount_x:
            yield "tax", word
        elif NUMBER.fullmatch(text) and word.x > unit_x:
            numbers.append(word)
        elif word.x < amount_x:
            choice = {
                name: distance(word, headings[name]) for name in ("specification", "unit") if name in headings
            }
            if choice:
                yield min(choice, key=lambda name: choice[name]), word
    yield from _numbers(numbers, headings)


def _middle(headings: Mapping[str, tuple[float, float]], name: str, default: float) -> float:
    return sum(headings[name]) / 2 if name in headings else default


def _numbers(
    words: Sequence[Word], headings: Mapping[str, tuple[float, float]]
) -> Iterator[tuple[str, Word]]:
    """Numbers keep the order of the columns; of all ways to place them, the nearest to the headings."""
    names = [name for name in NUMERIC if name in headings]
    ways = list(combinations(names, len(words)))
    if ways:
        best = min(
            ways, key=lambda way: sum(distance(w, headings[n]) for w, n in zip(words, way, strict=True))
        )
        yield from zip(best, words, strict=True)


def _line_of(word: Word, name: str, starts: Sequence[float], line: float) -> int | None:
    """The line of goods a cell belongs to; a name goes on below its first row until the next line starts."""
    if name == "goods":
        above = [place for place, y in enumerate(starts) if y < word.y + 0.6 * line]
        return above[-1] if above else None
    near = min(range(len(starts)), key=lambda place: abs(starts[place] - word.y), default=None)
    return near if near is not None and abs(starts[near] - word.y) < 0.8 * line else None


def _column(name: str, lines: Sequence[Mapping[str, Sequence[Word]]]) -> Found | None:
    """One line of text for each line of goods, empty where it has nothing in this column."""
    texts = [_cell(name, line.get(name, ())) for line in lines]
    words = [word for line in lines for word in line.get(name, ())]
    return Found("\n".join(texts), tuple(words)) if words else None


def _cell(name: str, words: Sequence[Word]) -> str:
    ordered = sorted(words, key=lambda w: (w.y, w.left))
    if name in ("goods", "specification", "unit"):
        return "".join(word.text.strip() for word in ordered)
    text = re.sub(r"[\s,]", "", "".join(word.plain for word in ordered))
    return "***" if STARS.fullmatch(text) else text


def _only_rate(rates: Found | None) -> Found | None:
    """The rate of the whole invoice, if its lines agree."""
    if rates is None:
        return None
    texts = set(rates.text.split("\n"))
    return Found(texts.pop(), rates.words) if len(texts) == 1 else None
