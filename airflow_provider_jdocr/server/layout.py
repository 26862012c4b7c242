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

from airflow_provider_jdocr.server.page import (
    DAY,
    HEAD_LABELS,
    IN_WORDS,
    MONEY,
    PARTY_LABELS,
    PEOPLE_LABELS,
    SIDE_LABEL,
    STARS,
    Page,
    anchors,
    prepared,
    starts_label,
)
from airflow_provider_jdocr.server.table import distance, headings_of, read_table, rows_of
from airflow_provider_jdocr.server.words import WIDE, Found, ReadField, Word


def read_layout(words: Iterable[Word], width: int, height: int) -> tuple[str, tuple[ReadField, ...]]:
    """The INTSIG type ("other": no invoice) and the fields that were found, in a stable order."""
    page = Page(tuple(prepared(word for word in words if word.text.strip())), width, height)
    if anchors(page.words) < 3:
        return "other", ()
    found: dict[str, Found | None] = {}
    found |= _head(page)
    found |= _digital_parties(page) if page.digital else _classic_parties(page)
    found |= _sums(page)
    found |= read_table(page)
    found |= _rest(page)
    kind = _type(page, found)
    found |= _titles(page, kind)
    return kind, tuple(value.field(key) for key, value in found.items() if value is not None and value.text)


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
            if neighbour.left - edge > 5 * page.line or starts_label(neighbour):
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
    amount, tax = _amount_and_tax(list(_money(page.row(page.sums_y))), headings_of(page))
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
    row: Sequence[Found], headings: Mapping[str, tuple[float, float]]
) -> tuple[Found | None, Found | None]:
    if len(row) > 1:
        return row[-2], row[-1]
    if not row:
        return None, None
    distances = {
        name: distance(row[0].words[0], headings[name]) for name in ("amount", "tax") if name in headings
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
    rows = [sorted(row, key=lambda w: w.left) for row in rows_of(page, kept)]
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
