"""From words on a page to the fields of an invoice: geometry and labels only, no OCR, no I/O.

`read_layout` takes what an OCR engine saw (words with their corners) and answers the INTSIG type and the
keys that the layout gives. It reads by general rules: a label and what stands behind it, the row of the
sums, the row in words, columns under their headings, the two parties' blocks (one above the other, or
side by side on a fully digital invoice). It never repairs a value: what was misread stays misread, for
the checks to find. Blanks, the currency sign, thousands separators and the mark in front of the words
are layout, and dropped. A list is one string with one line for each line of goods, empty where a line
has nothing in that column.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, pairwise
from statistics import median

from airflow_provider_jdocr.server.words import WIDE, Word, cut


@dataclass(frozen=True, slots=True)
class ReadField:
    """One key of the INTSIG answer; `position` is x1,y1 … x4,y4 in the picture, clockwise from top left."""

    key: str
    text: str
    confidence: float
    position: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """A value and the words it was read from."""

    text: str
    words: tuple[Word, ...]

    def field(self, key: str) -> ReadField:
        confidence = min((word.score for word in self.words), default=0.0)
        return ReadField(key, self.text, round(confidence, 4), _around(self.words))


def _around(words: Sequence[Word]) -> tuple[int, ...]:
    if len(words) == 1:
        return tuple(round(value) for value in words[0].corners)
    xs = [x for word in words for x in word.corners[0::2]]
    ys = [y for word in words for y in word.corners[1::2]]
    if not xs:
        return ()
    left, right, top, bottom = round(min(xs)), round(max(xs)), round(min(ys)), round(max(ys))
    return left, top, right, top, right, bottom, left, bottom


# --- labels ---

HEAD_LABELS = {
    "code": re.compile(r"(?:发\s*)?票\s*代\s*码\s*[:;.]?\s*"),
    "number": re.compile(r"(?:发\s*)?票\s*号\s*码\s*[:;.]?\s*"),
    "date": re.compile(r"开?\s*票?\s*日\s*期\s*[:;.]?\s*"),
    "check": re.compile(r"校\s*验\s*码\s*[:;.]?\s*"),
    "machine": re.compile(r"机?器?编\s*号\s*[:;.]?\s*"),
    "large": re.compile(r"(?:N\s*[oO0ºﬁ°]|№)\s*[.:]?\s*"),
}
PARTY_LABELS = {
    "name": re.compile(r"(?:名\s*)?称\s*[:;]\s*|^名\s*称$|^称$"),
    "id": re.compile(r".*识\s*别\s*号\s*[:;.]?\s*"),
    "address": re.compile(r"地\s*址\s*[、,.]?\s*电?\s*话?\s*[:;.]?\s*"),
    "bank": re.compile(r"开\s*户\s*行\s*及?\s*[账帐]?\s*号?\s*[:;.]?\s*"),
}
PEOPLE_LABELS = {
    "payee": re.compile(r"收\s*款\s*人\s*[:;.]?\s*"),
    "reviewer": re.compile(r"复\s*核\s*人?\s*[:;.]\s*|^复\s*核$"),
    "drawer": re.compile(r"开\s*票\s*人\s*[:;.]\s*|^开\s*票\s*人$"),
    "seal": re.compile(r"销.{0,3}[方位]\s*[:;.]"),
}
COLUMN_NAMES = {
    "goods": re.compile(r"货物或应税劳务|应税劳务|服务名称|项目名称|货物名称"),
    "specification": re.compile(r"规格(?:型号)?"),
    "unit": re.compile(r"单位"),
    "quantity": re.compile(r"数量"),
    "price": re.compile(r"单价"),
    "amount": re.compile(r"金额"),
    "rate": re.compile(r"税率"),
    "tax": re.compile(r"税额"),
}
ANCHORS = re.compile(
    r"发票代码|发票号码|开票日期|价税合计|购买方|销售方|纳税人识别号|规格型号|税率|税额|增值税|电子发票|开户行及[账帐]号"
)
CIPHER = re.compile(r"[0-9+\-*/<>\s]{14,}")
SIDE_LABEL = re.compile(r"[购买方信息销售货貨单位密码区备注]+")
CAPITALS = "零壹贰叁肆伍陆柒捌玖拾佰仟万亿貳參叄陸萬億〇"
IN_WORDS = re.compile(rf"(?:\(?负\)?)?[{CAPITALS}][{CAPITALS}圆圓元角分整正]+")
MONEY = re.compile(r"-?\d[\d,]*\s?\.\s?\d{2}(?!\d)")
STARS = re.compile(r"[*★☆]\s?[*★☆][\s*★☆]*|…+|^[*★☆]$")
NUMBER = re.compile(r"-?[\d,]+(?:\.\d+)?")
RATE = re.compile(r"\d{1,2}(?:\.\d)?\s?%|免\s?税|不征税|出口零税率|普通零税率|零税率")
DAY = re.compile(r"(\d{4})\D{0,3}?(\d{2}|\d(?=\D))\D{0,3}?(\d{2}|\d(?=\D|$))")


def _labels() -> Iterator[re.Pattern[str]]:
    for group in (HEAD_LABELS, PARTY_LABELS, PEOPLE_LABELS):
        yield from group.values()


def _starts_label(word: Word) -> bool:
    return any(match.end() for pattern in _labels() if (match := pattern.match(word.plain)))


# --- the page ---

SPLIT_AT = re.compile(
    r"发票代码|发票号码|开票日期\s*[:;]|校验码\s*[:;]|(?:收款人|复核人?|开票人|销.{0,3}[方位])\s*[:;]"
)


def _prepared(words: Iterable[Word]) -> list[Word]:
    """Takes apart labels that ran together in a row, and characters that stand below each other."""
    return [piece for word in words for whole in _unstacked(word) for piece in _split_at_labels(whole)]


def _unstacked(word: Word) -> list[Word]:
    """A tall box holds characters below each other (units of several lines, labels at the side)."""
    text = word.text.strip()
    if len(text) < 2 or word.height < 1.5 * (word.right - word.left) or SIDE_LABEL.fullmatch(text):
        return [word]
    step = word.height / len(text)
    tops = [word.top + step * place for place in range(len(text))]
    x1, y1, x2, y2, x3, y3, x4, y4 = word.corners
    sides = cut((x1, y1, x4, y4, x3, y3, x2, y2), 0, 1)
    return [
        replace(
            word,
            text=char,
            corners=_stacked_corners(sides, place / len(text), (place + 1) / len(text)),
            top=top,
            bottom=top + step,
        )
        for place, (char, top) in enumerate(zip(text, tops, strict=True))
    ]


def _stacked_corners(sides: Sequence[float], first: float, last: float) -> tuple[float, ...]:
    x1, y1, x4, y4, x3, y3, x2, y2 = cut(sides, first, last)
    return x1, y1, x2, y2, x3, y3, x4, y4


def _split_at_labels(word: Word) -> list[Word]:
    starts = (match.start() for match in SPLIT_AT.finditer(word.plain))
    cuts = [0, *(start for start in starts if start > 1), len(word.text)]
    return [word.part(start, end) for start, end in pairwise(cuts)]


@dataclass(frozen=True)
class Page:
    """Words of one picture and where its parts lie; every y is that of a row's middle."""

    words: tuple[Word, ...]
    width: int
    height: int

    @cached_property
    def line(self) -> float:
        """The height of a usual line of text."""
        heights = [
            word.height for word in self.words if len(word.text) > 3 and word.right - word.left > word.height
        ]
        return median(heights) if heights else self.height / 40

    @cached_property
    def printed(self) -> tuple[Word, ...]:
        return tuple(word for word in self.words if not word.red)

    @cached_property
    def digital(self) -> bool:
        return any(re.search(r"统一社会信用|项目名称|电子发票\s*\(", word.plain) for word in self.words)

    @cached_property
    def table_y(self) -> float:
        """The row of the column headings."""
        rows = self._ys(r"规格型号|货物或应税|应税劳务|服务名称|项目名称|^税\s*率|税率/征收率")
        return median(rows) if rows else self.height * 0.37

    @cached_property
    def words_y(self) -> float:
        """The row of the total in words."""
        rows = [y for y in self._ys(r"价税合计|大写|小写") if y > self.table_y]
        rows = rows or [word.y for word in self.words if len(word.text) > 3 and IN_WORDS.search(word.plain)]
        return median(rows) if rows else self.height * 0.73

    @cached_property
    def sums_y(self) -> float:
        """The row of the sums: the currency sign is the best witness, 合 计 the next."""
        between = [word for word in self.printed if self.table_y < word.y < self.words_y - 0.6 * self.line]
        rows = [word.y for word in between if re.match(r"[¥Y]\s?-?\d", word.plain)]
        rows = rows or [word.y for word in between if re.fullmatch(r"合\s*计|合|计", word.plain)]
        return median(rows) if rows else self.words_y - 2 * self.line

    @cached_property
    def footer_y(self) -> float:
        rows = [y for y in self._ys(r"收款人|复核|开票人") if y > self.words_y]
        return median(rows) if rows else self.height * 0.97

    @cached_property
    def cipher(self) -> tuple[Word, ...]:
        above = [word for word in self.printed if word.y < self.table_y]
        return tuple(
            word for word in above if CIPHER.fullmatch(word.plain) and re.search(r"[+*/<>]", word.text)
        )

    @cached_property
    def head_bottom(self) -> float:
        """Where the buyer's block begins."""
        block = [word.top for word in self.printed if word.y < self.table_y and self._in_party(word)]
        return (
            min([*block, *(word.top for word in self.cipher)], default=self.table_y - 5 * self.line)
            - 0.1 * self.line
        )

    @cached_property
    def head(self) -> tuple[Word, ...]:
        return tuple(word for word in self.printed if word.y < self.head_bottom)

    @cached_property
    def cipher_left(self) -> float:
        """Where the buyer's block ends to the right; 0 to the left of nothing: the page's edge."""
        marks = [word.left for word in self.cipher]
        marks += [word.left for word in self.printed if re.fullmatch(r"密\s*码?\s*区?", word.plain)]
        return min(marks, default=self.width * 0.62)

    @cached_property
    def right(self) -> float:
        """The table's right edge, about: sums and cipher reach to it. What begins beyond is margin."""
        sums = [
            word for word in self.row(self.sums_y) if MONEY.search(word.plain) or STARS.search(word.plain)
        ]
        headings = [word for word in self.row(self.table_y, 0.6) if COLUMN_NAMES["tax"].search(word.plain)]
        edges = [word.right for word in (*sums, *self.cipher)]
        edges += [word.right + 2 * self.line for word in headings]
        return max(edges) if edges else float(self.width)

    @cached_property
    def note_left(self) -> float:
        """Where the remarks begin: behind their label at the side."""
        below = [word for word in self.printed if self.words_y + 0.5 * self.line < word.y < self.footer_y]
        marks = [
            word
            for word in below
            if re.fullmatch(r"备\s*注?|注", word.plain) and word.right - word.left < 3 * self.line
        ]
        if marks:
            return max(word.right for word in marks)
        return self.line * 3 if self.digital else self.cipher_left + 1.5 * self.line

    def _in_party(self, word: Word) -> bool:
        return any(PARTY_LABELS[name].match(word.plain) for name in ("name", "id", "address"))

    def _ys(self, pattern: str) -> list[float]:
        return [word.y for word in self.words if re.search(pattern, word.plain)]

    def row(self, y: float, reach: float = 0.9) -> list[Word]:
        """The printed words of a row, from left to right."""
        near = [word for word in self.printed if abs(word.y - y) < reach * self.line]
        return sorted(near, key=lambda word: word.left)


def read_layout(words: Iterable[Word], width: int, height: int) -> tuple[str, tuple[ReadField, ...]]:
    """The INTSIG type ("other": no invoice) and the fields that were found, in a stable order."""
    page = Page(tuple(_prepared(word for word in words if word.text.strip())), width, height)
    if anchors(page.words) < 3:
        return "other", ()
    found: dict[str, Found | None] = {}
    found |= _head(page)
    found |= _digital_parties(page) if page.digital else _classic_parties(page)
    found |= _sums(page)
    found |= _table(page)
    found |= _rest(page)
    kind = _type(page, found)
    found |= _titles(page, kind)
    return kind, tuple(value.field(key) for key, value in found.items() if value is not None and value.text)


def anchors(words: Iterable[Word]) -> int:
    """How many different things only an invoice says were read."""
    text = "\n".join(re.sub(r"\s", "", word.plain) for word in words)
    return len(set(ANCHORS.findall(text)))


# --- values behind labels ---


def _behind(page: Page, words: Sequence[Word], pattern: re.Pattern[str]) -> list[Word]:
    """What stands behind the label: the rest of its box, then its row up to a wide gap or a label."""
    for word in words:
        match = pattern.match(word.plain)
        if match is None or not match.end():
            continue
        rest = [word.part(match.end())] if word.plain[match.end() :].strip() else []
        row = sorted(
            (w for w in words if w is not word and abs(w.y - word.y) < 0.6 * page.line), key=lambda w: w.left
        )
        edge = word.right
        for neighbour in row:
            if neighbour.x < word.x or neighbour.right < edge:
                continue
            if neighbour.left - edge > 5 * page.line or _starts_label(neighbour):
                break
            rest.append(neighbour)
            edge = neighbour.right
        if rest:
            return rest
    return []


def _joined(words: Sequence[Word], *, keep: Callable[[str], str] = str.strip, glue: str = "") -> Found | None:
    text = keep(glue.join(word.text.strip() for word in words))
    return Found(text, tuple(words)) if text else None


def _narrow(text: str) -> str:
    """For codes and ids: full-width characters narrowed, blanks and closing marks dropped."""
    return re.sub(r"\s", "", text.translate(WIDE)).strip(".,:;、。")


def _digits(text: str) -> str:
    """The first run of digits, blanks inside ignored; all of it when there is none."""
    narrow = _narrow(text)
    match = re.search(r"\d{6,}", narrow)
    return match.group() if match else narrow


def _whole(words: Sequence[Word]) -> Sequence[Word]:
    """The first box alone when it holds a whole code or number, else all: a neighbour is another number."""
    return words[:1] if words and len(_digits(words[0].text)) >= 8 else words


def _day(text: str) -> str:
    narrow = text.translate(WIDE).strip()
    match = DAY.search(narrow)
    return "{}年{:0>2}月{:0>2}日".format(*match.groups()) if match else _narrow(narrow)


# --- the head: codes, numbers, date ---


def _head(page: Page) -> dict[str, Found | None]:
    def behind(name: str) -> list[Word]:
        return _behind(page, page.head, HEAD_LABELS[name])

    def labelled(name: str) -> Found | None:
        return _joined(_whole(behind(name)), keep=_digits)

    loose = [word for word in page.head if re.fullmatch(r"\d{8}|\d{10}|\d{12}|\d{20}", _narrow(word.text))]
    codes = _loose(loose, (10, 12))
    numbers = _loose(loose, (8, 20) if page.digital else (8,))
    large = labelled("large")
    number = labelled("number") or large or _first(numbers)
    code = None if page.digital else labelled("code") or _first(codes)
    printed = [
        found for found in (*codes[1:], *numbers[large is None :]) if found.words[0].x > page.width * 0.7
    ]
    return {
        "vat_invoice_daima": code,
        "vat_invoice_haoma": number,
        "vat_invoice_haoma_large_size": large,
        "vat_invoice_daima_right_side": _first([found for found in printed if len(found.text) in (10, 12)]),
        "vat_invoice_haoma_right_side": _first([found for found in printed if len(found.text) == 8]),
        "vat_invoice_issue_date": _joined(behind("date"), keep=_day, glue=" ") or _loose_day(page),
        "vat_invoice_correct_code": None if page.digital else _joined(behind("check"), keep=_digits),
        "vat_invoice_machine_no": labelled("machine"),
        "vat_invoice_cipher_field": _joined(sorted(page.cipher, key=lambda w: w.y), glue="\n"),
    }


def _loose(words: Iterable[Word], lengths: Sequence[int]) -> list[Found]:
    """Numbers without a label, the largest print first."""
    fitting = [word for word in words if len(_narrow(word.text)) in lengths]
    return [Found(_narrow(word.text), (word,)) for word in sorted(fitting, key=lambda w: -w.height)]


def _first(found: Sequence[Found]) -> Found | None:
    return found[0] if found else None


def _loose_day(page: Page) -> Found | None:
    """A date whose label was not read."""
    for word in page.head:
        if re.search(r"\d{4}\s*年\s*\d{1,2}\s*月", word.plain):
            return Found(_day(word.text), (word,))
    return None


# --- the parties ---

PARTY_KEYS: Mapping[str, tuple[str, str]] = {
    "name": ("vat_invoice_payer_name", "vat_invoice_seller_name"),
    "id": ("vat_invoice_rate_payer_id", "vat_invoice_seller_id"),
    "address": ("vat_invoice_payer_addr_tell", "vat_invoice_seller_addr_tell"),
    "bank": ("vat_invoice_payer_bank_account", "vat_invoice_seller_bank_account"),
}


def _classic_parties(page: Page) -> dict[str, Found | None]:
    """The buyer above the table, left of the cipher; the seller below the words, left of the remarks."""
    buyer = _within(page, page.head_bottom, page.table_y - 0.5 * page.line, 0, page.cipher_left)
    note = page.note_left - 0.6 * page.line
    seller = _within(page, page.words_y + 0.6 * page.line, page.footer_y - 0.6 * page.line, 0, note)
    return _party(page, buyer, 0) | _party(page, seller, 1)


def _digital_parties(page: Page) -> dict[str, Found | None]:
    """Both above the table, the seller right of the buyer."""
    block = _within(page, page.head_bottom, page.table_y - 0.5 * page.line, 0, page.width)
    labels = [
        word
        for word in block
        if PARTY_LABELS["name"].match(word.plain) or PARTY_LABELS["id"].match(word.plain)
    ]
    middle = page.width / 2
    rights = [word.left for word in labels if word.left > middle - 3 * page.line]
    split = min(rights, default=middle) - 0.5 * page.line
    left = [word for word in block if word.left < split]
    return _party(page, left, 0) | _party(page, [word for word in block if word.left >= split], 1)


def _within(page: Page, top: float, bottom: float, left: float, right: float) -> list[Word]:
    return [
        word
        for word in page.printed
        if top < word.y < bottom
        and left <= word.left
        and word.x < right
        and not (SIDE_LABEL.fullmatch(word.plain) and word.right - word.left < 2.2 * page.line)
    ]


def _party(page: Page, block: Sequence[Word], side: int) -> dict[str, Found | None]:
    """Every word belongs to the label whose row is nearest, so a value may run over into a second row."""
    rows = {name: word for name in PARTY_LABELS for word in block if PARTY_LABELS[name].match(word.plain)}
    values: dict[str, list[Word]] = {name: [] for name in rows}
    for word in sorted(block, key=lambda w: (round(w.y / page.line), w.left)):
        near = min(rows, key=lambda name: abs(rows[name].y - word.y), default=None)
        if near is None or abs(rows[near].y - word.y) > 1.3 * page.line:
            continue
        match = PARTY_LABELS[near].match(word.plain) if word is rows[near] else None
        start = match.end() if match else 0
        if word.plain[start:].strip() and (match or word.plain not in ("名", "地址", "、")):
            values[near].append(word.part(start))
    keeps: dict[str, Callable[[str], str]] = {"id": _narrow}
    return {
        PARTY_KEYS[name][side]: _joined(words, keep=keeps.get(name, str.strip))
        for name, words in values.items()
    }


# --- sums and words ---


def _sums(page: Page) -> dict[str, Found | None]:
    columns = _columns(page)
    amount, tax = _amount_and_tax(list(_money(page.row(page.sums_y))), columns)
    row = page.row(page.words_y)
    totals = list(_money(_after_small(row)))
    return {
        "vat_invoice_total": amount,
        "vat_invoice_tax_total": tax,
        "vat_invoice_total_cover_tax": _in_words(row),
        "vat_invoice_total_cover_tax_digits": totals[-1] if totals else None,
    }


def _money(words: Iterable[Word]) -> Iterator[Found]:
    """Amounts, and the stars printed for no tax, from left to right."""
    for word in words:
        for match in re.finditer(f"{MONEY.pattern}|{STARS.pattern}", word.plain):
            text = re.sub(r"[\s,]", "", match.group())
            yield Found(text if text[-1].isdigit() else "***", (word.part(*match.span()),))


def _amount_and_tax(
    row: Sequence[Found], columns: Mapping[str, tuple[float, float]]
) -> tuple[Found | None, Found | None]:
    if len(row) > 1:
        return row[-2], row[-1]
    if not row:
        return None, None
    distances = {
        name: _distance(row[0].words[0], columns[name]) for name in ("amount", "tax") if name in columns
    }
    nearest = min(distances, key=lambda name: distances[name], default="amount")
    return (row[0], None) if nearest == "amount" else (None, row[0])


def _after_small(row: Sequence[Word]) -> list[Word]:
    """The part of the row behind (小写), or the whole row when that was not read."""
    for place, word in enumerate(row):
        if "小写" in word.plain:
            return [word.part(word.plain.index("小写") + 2), *row[place + 1 :]]
    return list(row)


def _in_words(row: Sequence[Word]) -> Found | None:
    """The longest run of capitals in the row: before it stands the mark ⊗, however it was read."""
    runs = [(word, match) for word in row for match in IN_WORDS.finditer(re.sub(r"\s", " ", word.plain))]
    if not runs:
        return None
    word, match = max(runs, key=lambda run: len(run[1].group()))
    return Found(match.group(), (word.part(*match.span()),))


# --- the table of goods ---

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


def _columns(page: Page) -> dict[str, tuple[float, float]]:
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


def _distance(word: Word, column: tuple[float, float]) -> float:
    """How far the word is from the heading: the gap between them, and a little for not being centred."""
    left, right = column
    gap = max(0.0, left - word.right, word.left - right)
    return gap + 0.25 * abs(word.x - (left + right) / 2)


def _table(page: Page) -> dict[str, Found | None]:
    columns = _columns(page)
    if "amount" not in columns and "goods" not in columns:
        return {}
    body = _body(page)
    cells = [(name, word) for row in _rows(page, body) for name, word in _cells(row, columns, page)]
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


def _rows(page: Page, words: Iterable[Word]) -> list[list[Word]]:
    """Words whose middles lie within half a line belong to one row."""
    rows: list[list[Word]] = []
    for word in sorted(words, key=lambda w: w.y):
        if rows and word.y - median(other.y for other in rows[-1]) < 0.5 * page.line:
            rows[-1].append(word)
        else:
            rows.append([word])
    return rows


def _cells(
    row: Sequence[Word], columns: Mapping[str, tuple[float, float]], page: Page
) -> Iterator[tuple[str, Word]]:
    """Each word of a row with its column: by what it is first, by where it stands second."""
    goods_end = _middle(columns, "goods", page.width * 0.15)
    unit_x = _middle(columns, "unit", page.width * 0.4)
    amount_x = columns.get("amount", (page.width * 0.6, 0))[0]
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
                name: _distance(word, columns[name]) for name in ("specification", "unit") if name in columns
            }
            if choice:
                yield min(choice, key=lambda name: choice[name]), word
    yield from _numbers(numbers, columns)


def _middle(columns: Mapping[str, tuple[float, float]], name: str, default: float) -> float:
    return sum(columns[name]) / 2 if name in columns else default


def _numbers(words: Sequence[Word], columns: Mapping[str, tuple[float, float]]) -> Iterator[tuple[str, Word]]:
    """Numbers keep the order of the columns; of all ways to place them, the nearest to the headings."""
    names = [name for name in NUMERIC if name in columns]
    ways = list(combinations(names, len(words)))
    if ways:
        best = min(
            ways, key=lambda way: sum(_distance(w, columns[n]) for w, n in zip(words, way, strict=True))
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


# --- remarks, people, page, seal, type ---


def _rest(page: Page) -> dict[str, Found | None]:
    below = [word for word in page.printed if word.y > page.words_y + 0.6 * page.line]
    people = {
        name: _joined(_behind(page, below, PEOPLE_LABELS[name])) for name in ("payee", "reviewer", "drawer")
    }
    remarks = _remarks(page)
    return {
        "vat_invoice_total_note": remarks,
        "vat_invoice_note_correct_code": _noted_check_code(remarks),
        "vat_invoice_payee": people["payee"],
        "vat_invoice_review": people["reviewer"],
        "vat_invoice_drawer": people["drawer"],
        "vat_invoice_page_number": _page_number(page),
        "vat_invoice_headline_page_number": _headline(page),
        "vat_invoice_dai_kai_flag": _dai_kai(page),
    }


def _remarks(page: Page) -> Found | None:
    """What stands right of 备注, without the seal that is pressed over it."""
    top, bottom = page.words_y + 0.8 * page.line, page.footer_y - 0.8 * page.line
    words = _within(page, top, bottom, page.note_left - 0.3 * page.line, page.width)
    seal = [word for word in words if re.search(r"专用章|用章$", word.plain)]
    ids = {_narrow(word.text) for word in page.words if word.y > page.words_y and "识别号" not in word.plain}
    kept = [
        word
        for word in words
        if word not in seal
        and word.left < page.right
        and word.score > 0.6
        and not (_narrow(word.text) in ids and _looks_like_id(word))
    ]
    if not kept:
        return None
    rows = [sorted(row, key=lambda w: w.left) for row in _rows(page, kept)]
    return Found("\n".join("".join(w.text.strip() for w in row) for row in rows), tuple(kept))


def _looks_like_id(word: Word) -> bool:
    return re.fullmatch(r"(?=.*\d{6})[0-9A-Z]{15,20}", _narrow(word.text)) is not None


def _noted_check_code(remarks: Found | None) -> Found | None:
    match = re.search(r"校验码[:\s]*((?:\d\s*){20})", remarks.text.translate(WIDE)) if remarks else None
    return Found(re.sub(r"\s", "", match[1]), remarks.words) if match and remarks else None


def _page_number(page: Page) -> Found | None:
    """第三联：发票联 …, printed downwards at the right edge."""
    narrow = (word for word in page.printed if word.right - word.left < 1.6 * page.line)
    right = sorted((word for word in narrow if word.left > page.right), key=lambda w: w.y)
    match = re.search(r"第.联[:：]?.{2}联", "".join(word.text.strip() for word in right))
    return Found(match.group(), tuple(right)) if match else None


def _headline(page: Page) -> Found | None:
    for word in page.head:
        if match := re.search(r"(?:抵扣|发票|记账|存根)联", word.plain):
            return Found(match.group(), (word.part(*match.span()),))
    return None


def _dai_kai(page: Page) -> Found | None:
    for word in page.words:
        if word.y < page.table_y and re.fullmatch(r"\(?代\s*开\)?", word.plain):
            return Found("代开", (word,))
    return None


TITLES: tuple[tuple[str, str], ...] = (
    (r"电子发票\(?增值税专", "vat_electronic_special_invoice_new"),
    (r"电子发票\(?普通?", "vat_electronic_invoice_new"),
    (r"区块链", "blockchain_electronic_invoice"),
    (r"通行费", "vat_electronic_toll_invoice"),
    (r"电子专用?发?票?", "vat_electronic_special_invoice"),
    (r"电子普", "vat_electronic_invoice"),
    (r"税专用|专用发票|用发票", "vat_special_invoice"),
    (r"税普通|普通发票|通发票", "vat_common_invoice"),
)
CODES: tuple[tuple[str, str], ...] = (
    (r"0\d{9}11|144031539110|131001570151|133011501118|111001571071", "vat_electronic_invoice"),
    (r"0\d{9}13", "vat_electronic_special_invoice"),
    (r"0\d{9}12", "vat_electronic_toll_invoice"),
    (r"0\d{9}0[45]|\d{7}[36]\d{2}", "vat_common_invoice"),
    (r"\d{7}[15]\d{2}", "vat_special_invoice"),
)
TYPE_NAMES = {
    "vat_special_invoice": "增值税专用发票",
    "vat_common_invoice": "增值税普通发票",
    "vat_electronic_invoice": "增值税电子普通发票",
    "vat_electronic_special_invoice": "增值税电子专用发票",
    "vat_electronic_toll_invoice": "通行费增值税电子普通发票",
    "blockchain_electronic_invoice": "区块链电子发票",
    "vat_electronic_invoice_new": "电子发票（普通发票）",
    "vat_electronic_special_invoice_new": "电子发票（增值税专用发票）",
    "other": "其他",
}


def _type(page: Page, found: Mapping[str, Found | None]) -> str:
    """By the title; when a seal hides it, by the shape of the code, then of the number."""
    title = "".join(re.sub(r"\s", "", word.plain) for word in _title(page))
    for pattern, kind in TITLES:
        if re.search(pattern, title):
            return kind
    code, number = found.get("vat_invoice_daima"), found.get("vat_invoice_haoma")
    for pattern, kind in CODES:
        if code and re.fullmatch(pattern, code.text):
            return kind
    if page.digital or (number and len(number.text) == 20):
        return "vat_electronic_invoice_new"
    return "vat_common_invoice"


def _title(page: Page) -> list[Word]:
    large = (word for word in page.words if word.y < page.head_bottom and word.height > 1.2 * page.line)
    return sorted((word for word in large if not re.search(r"\d{6}", word.plain)), key=lambda w: w.left)


def _titles(page: Page, kind: str) -> dict[str, Found | None]:
    name, words = TYPE_NAMES[kind], tuple(_title(page))
    return {
        "vat_invoice_type": Found(name, words),
        "vat_invoice_zhuan_yong_flag": Found("专票" if "专用" in name else "普票", words),
    }
