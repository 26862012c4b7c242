"""The vocabulary of an invoice, and a page on which it was found: where head, parties, table and sums lie.

Every y that a page tells is the middle of a row on the upright page. What was not read is estimated from
its neighbours or from the usual proportions, so a missing label never stops a reading.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from statistics import median

from airflow_provider_jdocr.server.words import Word, cut

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


def starts_label(word: Word) -> bool:
    return any(match.end() for pattern in _labels() if (match := pattern.match(word.plain)))


SPLIT_AT = re.compile(
    r"发票代码|发票号码|开票日期\s*[:;]|校验码\s*[:;]|(?:收款人|复核人?|开票人|销.{0,3}[方位])\s*[:;]"
)


def prepared(words: Iterable[Word]) -> list[Word]:
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


def anchors(words: Iterable[Word]) -> int:
    """How many different things only an invoice says were read."""
    text = "\n".join(re.sub(r"\s", "", word.plain) for word in words)
    return len(set(ANCHORS.findall(text)))
