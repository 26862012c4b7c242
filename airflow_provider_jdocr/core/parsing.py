"""From a stored reply to one ``Invoice``, whichever endpoint gave it.

What is printed is kept beside what it was read as (``evidence``); what has no column is kept in ``details``;
what could not be read is ``None`` and named in ``problems``. Nothing is guessed, corrected or dropped: a
value here is what the service said, and whether it can be true is the question of the next step.
"""

from __future__ import annotations  # the steps come before the records they share

import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum
from functools import partial
from typing import Any

from airflow_provider_jdocr.core.endpoints import Endpoint
from airflow_provider_jdocr.core.numerals import decimal_of, money, plain, rate
from airflow_provider_jdocr.core.replies import business_result

PARSER_VERSION: int = 2
"""Raised whenever the same reply is read differently, so that stored replies are read again."""


class InvoiceKind(StrEnum):
    """The kinds of VAT invoice. ``OTHER`` is a kind the service named and this table does not hold."""

    SPECIAL_PAPER = "special_paper"
    COMMON_PAPER = "common_paper"
    COMMON_ELECTRONIC = "common_electronic"
    SPECIAL_ELECTRONIC = "special_electronic"
    ROLL = "roll"
    TOLL = "toll"
    DIGITAL_SPECIAL = "digital_special"
    DIGITAL_COMMON = "digital_common"
    BLOCKCHAIN = "blockchain"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class FieldEvidence:
    """One field as the service gave it: text, the key it came under, how sure, and where on the picture."""

    text: str
    key: str
    confidence: float | None
    position: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the table of goods, counted from 1. ``tax_rate`` is a fraction (0.13)."""

    number: int
    name: str | None = None
    specification: str | None = None
    unit: str | None = None
    quantity: Decimal | None = None
    unit_price: Decimal | None = None
    amount: Decimal | None = None
    tax: Decimal | None = None
    tax_rate: Decimal | None = None
    tax_rate_text: str | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that parsing met and could not turn into a value; ``code`` is one of the checks' codes."""

    code: str
    field: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice:
    """One answer, typed. ``tax_rate`` is set only when one rate holds for the whole invoice."""

    endpoint: str
    kind: InvoiceKind | None = None
    kind_text: str | None = None
    code: str | None = None
    number: str | None = None
    issue_date: date | None = None
    check_code: str | None = None
    machine_number: str | None = None
    buyer_name: str | None = None
    buyer_tax_id: str | None = None
    buyer_address_phone: str | None = None
    buyer_bank_account: str | None = None
    seller_name: str | None = None
    seller_tax_id: str | None = None
    seller_address_phone: str | None = None
    seller_bank_account: str | None = None
    amount: Decimal | None = None
    tax: Decimal | None = None
    total: Decimal | None = None
    total_in_words: str | None = None
    tax_rate: Decimal | None = None
    tax_rate_text: str | None = None
    remarks: str | None = None
    payee: str | None = None
    reviewer: str | None = None
    drawer: str | None = None
    stamp: bool | None = None
    takes_back: str | None = None
    """The key of the invoice that this red one cancels, where its remarks name it."""
    lines: tuple[Line, ...] = ()
    evidence: Mapping[str, FieldEvidence] = field(default_factory=dict)
    """By canonical field name, and by the service's own key for what has no column."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Everything else the reply held, verbatim and JSON-able."""
    problems: tuple[Problem, ...] = ()


def parse(endpoint: Endpoint, body: bytes) -> Invoice:
    """Read a stored reply; raises ``ParseError`` when it holds no result in a documented shape."""
    answer = _ANSWERS[endpoint.parser](business_result(endpoint, body))
    evidence = _evidence(answer)
    values = {name: read_text(name, printed.text) for name, printed in evidence.items()}
    lines, line_problems = _lines(answer.rows)
    if (values.get("total") or values.get("amount") or 0) < 0:
        values["takes_back"] = taken_back(values.get("remarks") or "")
    consumed = {printed.key for printed in evidence.values()}
    left_over = {key: printed for key, printed in answer.printed.items() if key not in consumed}
    return Invoice(
        endpoint=endpoint.name,
        kind=_kind(answer),
        kind_text=answer.kind_text,
        lines=lines,
        evidence={**left_over, **evidence},
        # Columns of lines stay in the details as well: what is printed in them is kept nowhere else.
        details=_details(answer.details, left_over),
        problems=(*_unread(evidence, values), *answer.problems, *line_problems),
        **{**values, **_header_rate(values, lines, answer)},
    )


def _evidence(answer: _Answer) -> dict[str, FieldEvidence]:
    """For each column the first of its keys that is printed."""
    chains = {name: [key for key in keys if key in answer.printed] for name, keys in answer.columns.items()}
    return {name: answer.printed[keys[0]] for name, keys in chains.items() if keys}


def _unread(evidence: Mapping[str, FieldEvidence], values: Mapping[str, Any]) -> list[Problem]:
    return [
        Problem("VALUE_UNPARSABLE", name, printed.text)
        for name, printed in evidence.items()
        if values[name] is None and not _says_nothing(name, printed.text)
    ]


def _details(around: Mapping[str, Any], left_over: Mapping[str, FieldEvidence]) -> dict[str, Any]:
    texts = {f"item:{key}" if key in around else key: printed.text for key, printed in left_over.items()}
    return {**around, **texts}


# ── one answer, whatever its schema ──

_Row = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What both schemas have in common: printed texts by the service's key, and where each one belongs."""

    columns: Mapping[str, tuple[str, ...]]
    kinds: Mapping[str, InvoiceKind]
    kind_text: str | None
    printed: Mapping[str, FieldEvidence]
    rows: tuple[_Row, ...] = ()
    details: Mapping[str, Any]
    problems: tuple[Problem, ...] = ()


def _printed(value: Any) -> str | None:
    """A scalar as text; None for null, blanks, lists and objects."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value) if str(value).strip() else None
    return None


def _kind(answer: _Answer) -> InvoiceKind | None:
    if answer.kind_text is None:
        return None
    return answer.kinds.get(plain(answer.kind_text).lower().zfill(2), InvoiceKind.OTHER)


# ── ocr_invoice: twelve flat fields ──

OCR_INVOICE_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "code": ("code",),
    "number": ("invoice_no",),
    "issue_date": ("invoice_date",),
    "check_code": ("verify_code",),
    "buyer_name": ("buyer_name",),
    "buyer_tax_id": ("buyer_tax_no",),
    "seller_name": ("saler_name",),
    "seller_tax_id": ("saler_tax_no",),
    "amount": ("invoice_amount",),
    "tax": ("tax_amount",),
    "total": ("total_amount",),
}
OCR_INVOICE_KINDS: Mapping[str, InvoiceKind] = {
    "01": InvoiceKind.SPECIAL_PAPER,
    "04": InvoiceKind.COMMON_PAPER,
    "08": InvoiceKind.SPECIAL_ELECTRONIC,
    "10": InvoiceKind.COMMON_ELECTRONIC,
    "11": InvoiceKind.ROLL,
    "14": InvoiceKind.TOLL,
    "31": InvoiceKind.DIGITAL_SPECIAL,
    "32": InvoiceKind.DIGITAL_COMMON,
}


def _ocr_invoice(result: Mapping[str, Any]) -> _Answer:
    keys = {key for chain in OCR_INVOICE_COLUMNS.values() for key in chain}
    texts = {key: text for key in keys if (text := _printed(result.get(key))) is not None}
    kind_text = _printed(result.get("invoice_type"))
    empty = ("", None)
    taken = texts.keys() | ({"invoice_type"} if kind_text is not None else set())
    return _Answer(
        columns=OCR_INVOICE_COLUMNS,
        kinds=OCR_INVOICE_KINDS,
        kind_text=kind_text,
        printed={key: FieldEvidence(text, key, None, None) for key, text in texts.items()},
        details={key: value for key, value in result.items() if key not in taken and value not in empty},
    )


# ── intsig_invoice: keyed items with places and confidences ──

INTSIG_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "code": ("vat_invoice_daima", "vat_invoice_daima_print", "vat_invoice_daima_right_side"),
    "number": ("vat_invoice_haoma", "vat_invoice_haoma_large_size", "vat_invoice_haoma_right_side"),
    "issue_date": ("vat_invoice_issue_date", "vat_invoice_issue_date_print"),
    "check_code": (
        "vat_invoice_correct_code",
        "vat_invoice_corrent_code_print",
        "vat_invoice_note_correct_code",
    ),
    "machine_number": ("vat_invoice_machine_no",),
    "buyer_name": ("vat_invoice_payer_name",),
    "buyer_tax_id": ("vat_invoice_rate_payer_id",),
    "buyer_address_phone": ("vat_invoice_payer_addr_tell",),
    "buyer_bank_account": ("vat_invoice_payer_bank_account",),
    "seller_name": ("vat_invoice_seller_name",),
    "seller_tax_id": ("vat_invoice_seller_id",),
    "seller_address_phone": ("vat_invoice_seller_addr_tell",),
    "seller_bank_account": ("vat_invoice_seller_bank_account",),
    "amount": ("vat_invoice_total",),
    "tax": ("vat_invoice_tax_total",),
    "total": ("vat_invoice_total_cover_tax_digits",),
    "total_in_words": ("vat_invoice_total_cover_tax",),
    "tax_rate_text": ("vat_invoice_tax_rate",),
    "remarks": ("vat_invoice_total_note",),
    "payee": ("vat_invoice_payee",),
    "reviewer": ("vat_invoice_review",),
    "drawer": ("vat_invoice_drawer",),
    "stamp": ("exist_stample",),
}
INTSIG_LINE_COLUMNS: Mapping[str, str] = {
    "name": "vat_invoice_goods_list",
    "specification": "vat_invoice_plate_specific",
    "unit": "vat_invoice_electrans_unit",
    "quantity": "vat_invoice_electrans_quantity",
    "unit_price": "vat_invoice_electrans_unit_price",
    "amount": "vat_invoice_price_list",
    "tax_rate_text": "vat_invoice_tax_rate_list",
    "tax": "vat_invoice_tax_list",
}
INTSIG_KINDS: Mapping[str, InvoiceKind] = {
    "vat_special_invoice": InvoiceKind.SPECIAL_PAPER,
    "vat_common_invoice": InvoiceKind.COMMON_PAPER,
    "vat_electronic_invoice": InvoiceKind.COMMON_ELECTRONIC,
    "vat_electronic_special_invoice": InvoiceKind.SPECIAL_ELECTRONIC,
    "vat_electronic_toll_invoice": InvoiceKind.TOLL,
    "vat_roll_invoice": InvoiceKind.ROLL,
    "vat_electronic_invoice_new": InvoiceKind.DIGITAL_COMMON,
    "vat_electronic_special_invoice_new": InvoiceKind.DIGITAL_SPECIAL,
    "blockchain_electronic_invoice": InvoiceKind.BLOCKCHAIN,
}


_NO_PROBLEMS: tuple[Problem, ...] = ()


def _intsig_invoice(result: Mapping[str, Any]) -> _Answer:
    printed, extras = _items(result.get("item_list"))
    rows, unpaired = _product_rows(result.get("product_list")), _NO_PROBLEMS
    if not rows:
        rows, unpaired = _paired_rows(printed)
    kind_text = _printed(result.get("type"))
    around = {key: value for key, value in result.items() if key not in ("item_list", "type")}
    return _Answer(
        columns=INTSIG_COLUMNS,
        kinds=INTSIG_KINDS,
        kind_text=kind_text,
        printed=printed,
        rows=rows,
        details={**around, **({"items": extras} if extras else {})},
        problems=unpaired,
    )


def _items(item_list: Any) -> tuple[dict[str, FieldEvidence], list[Any]]:
    """Items by key, the first of each; and whole, what is left: repeated, unknown in shape, or labelled."""
    printed: dict[str, FieldEvidence] = {}
    extras: list[Any] = []
    for item in item_list if isinstance(item_list, list) else [item_list]:
        one = _item(item)
        if one is None or one.key in printed:
            extras.extend([] if _is_empty(item) else [item])
        else:
            printed[one.key] = one
            more = _beside(item, one)
            extras.extend([{"key": one.key, **more}] if more else [])
    return printed, extras


def _beside(item: Mapping[str, Any], one: FieldEvidence) -> dict[str, Any]:
    """What an item holds beyond its evidence: JD's label, unknown keys, a place or confidence of no use."""
    kept = {"key", "value"} | {name for name in ("confidence", "position") if getattr(one, name) is not None}
    return {name: value for name, value in item.items() if name not in kept and value not in ("", None, [])}


def _is_empty(item: Any) -> bool:
    value = item.get("value") if isinstance(item, dict) else item
    return value is None or (isinstance(value, str) and not value.strip())


def _item(item: Any) -> FieldEvidence | None:
    if not isinstance(item, dict):
        return None
    key, text = _printed(item.get("key")), _printed(_joined(item.get("value")))
    if key is None or text is None:
        return None
    return FieldEvidence(text, key, _confidence(item.get("confidence")), _position(item.get("position")))


def _joined(value: Any) -> Any:
    """A column given as a list of texts, in the documented form of one text."""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return "\n".join(value)
    return value


def _confidence(value: Any) -> float | None:
    try:
        number = float(_printed(value) or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _position(value: Any) -> tuple[float, ...] | None:
    """Corners as given; None for anything but a flat list of numbers."""
    if not isinstance(value, list) or not value or len(value) > _MOST_COORDINATES:
        return None
    numbers = [one for one in value if isinstance(one, int | float) and not isinstance(one, bool)]
    return tuple(numbers) if len(numbers) == len(value) else None


_MOST_COORDINATES = 16


# ── lines ──


def _paired_rows(printed: Mapping[str, FieldEvidence]) -> tuple[tuple[_Row, ...], tuple[Problem, ...]]:
    """Rows from columns that hold one text each, only when all columns count the same number of lines."""
    columns = {name: printed[key].text for name, key in INTSIG_LINE_COLUMNS.items() if key in printed}
    counts = [_counts(text) for text in columns.values()]
    agreed = {count for count in set.intersection(*counts) if count <= _MOST_LINES} if counts else set()
    if columns and not agreed:
        text = ", ".join(f"{name} {max(_counts(column))}" for name, column in columns.items())
        return (), (Problem("LINES_NOT_PAIRED", "lines", text),)
    count = min(agreed, default=0)
    cells = {name: _split(text, count) for name, text in columns.items()}
    rows = ({name: column[row] for name, column in cells.items()} for row in range(count))
    return tuple(row for row in rows if any(text.strip() for text in row.values())), ()


_MOST_LINES = 1_000  # more is no invoice


def _counts(text: str) -> set[int]:
    """How many lines a column has: with, and without, empty ones at its ends."""
    return {len(_LINE_END.split(text)), len(_LINE_END.split(text.strip("\r\n")))}


def _split(text: str, count: int) -> list[str]:
    cells = _LINE_END.split(text)
    return cells if len(cells) == count else _LINE_END.split(text.strip("\r\n"))


_LINE_END = re.compile(r"\r\n|\n|\r")


def _product_rows(product_list: Any) -> tuple[_Row, ...]:
    """Rows that the service has aligned itself: objects, or lists of keyed items."""
    fits = isinstance(product_list, list) and len(product_list) <= _MOST_LINES
    rows = [_product_row(row) for row in product_list] if fits else []
    return tuple(row for row in rows if row)


def _product_row(row: Any) -> _Row:
    if isinstance(row, list):
        row = {
            item["key"]: item.get("value")
            for item in row
            if isinstance(item, dict) and _is_key(item.get("key"))
        }
    cells = row.items() if isinstance(row, dict) else ()
    named = ((_LINE_NAMES.get(_short(key)), _printed(_cell(value))) for key, value in cells)
    return {name: text for name, text in named if name is not None and text is not None}


def _is_key(key: Any) -> bool:
    return isinstance(key, str)


def _cell(value: Any) -> Any:
    return value.get("value") if isinstance(value, dict) else value


def _short(key: str) -> str:
    return key.removeprefix("vat_invoice_").removeprefix("electrans_").removesuffix("_list")


_LINE_NAMES: Mapping[str, str] = {
    "goods": "name",
    "name": "name",
    "plate_specific": "specification",
    "specification": "specification",
    "unit": "unit",
    "quantity": "quantity",
    "unit_price": "unit_price",
    "price": "amount",
    "amount": "amount",
    "tax_rate": "tax_rate_text",
    "tax": "tax",
}


def _lines(rows: tuple[_Row, ...]) -> tuple[tuple[Line, ...], list[Problem]]:
    problems: list[Problem] = []
    lines = []
    for number, row in enumerate(rows, start=1):
        values: dict[str, Any] = {}
        for name, text in row.items():
            values[name] = _LINE_READERS.get(name, _as_text)(text)
            if values[name] is None and text.strip() and not _says_nothing(name, text):
                problems.append(Problem("VALUE_UNPARSABLE", f"lines[{number}].{name}", text))
        values["tax_rate"] = rate(row.get("tax_rate_text", ""))
        lines.append(Line(number, **values))
    return tuple(lines), problems


def _header_rate(values: Mapping[str, Any], lines: tuple[Line, ...], answer: _Answer) -> dict[str, Any]:
    """The one rate of the whole invoice: from the header, or from the lines where the header has none."""
    header = values.get("tax_rate_text")
    column = answer.printed.get(INTSIG_LINE_COLUMNS["tax_rate_text"])
    texts = [line.tax_rate_text for line in lines] or (column.text.split() if column else [])
    printed = [*texts, *(_RATE_BREAK.split(header) if header else ())]
    rates = {plain(text) for text in printed if text}
    text = header or (next(iter(rates)) if len(rates) == 1 else None)
    distinct = {rate(one) for one in rates}
    return {"tax_rate_text": text, "tax_rate": distinct.pop() if len(distinct) == 1 else None}


_RATE_BREAK = re.compile(r"[\s,，、;；/]+")


# ── texts to values ──


def read_text(name: str, text: str) -> Any:
    """The value that a printed text has in a column of the invoice; None when it has none there."""
    return _READERS.get(name, _as_text)(text)


def _as_text(text: str) -> str | None:
    return text.strip() or None


def _as_id(text: str) -> str | None:
    """Codes, numbers and tax ids: half-width, without blanks, in capitals."""
    return _LABEL.sub("", plain(text).upper()) or None


_LABEL = re.compile(r"^(?:NO|№)[.:]?(?=[0-9])")


def _as_date(text: str) -> date | None:
    spaced = unicodedata.normalize("NFKC", text).strip()
    match = _SPACED.fullmatch(spaced) or _DIVIDED.fullmatch(plain(spaced)) or _SOLID.fullmatch(plain(spaced))
    if match is None:
        return None
    try:
        return date(*map(int, match.groups()))
    except ValueError:
        return None


_SPACED = re.compile(r"([0-9]{4})\s+([0-9]{1,2})\s+([0-9]{1,2})")
_DIVIDED = re.compile(
    r"([0-9]{4})[年./-]([0-9]{1,2})[月./-]([0-9]{1,2})日?(?:T?[0-9]{2}:[0-9]{2}(?::[0-9]{2})?)?"
)
_SOLID = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})日?")


def _as_flag(text: str) -> bool | None:
    return _FLAGS.get(plain(text).lower())


_FLAGS: Mapping[str, bool] = {
    **dict.fromkeys(("1", "true", "yes", "y", "是", "有", "存在"), True),
    **dict.fromkeys(("0", "false", "no", "n", "否", "无", "不存在"), False),
}

_ID_FIELDS = ("code", "number", "check_code", "machine_number", "buyer_tax_id", "seller_tax_id")
_READERS: Mapping[str, Callable[[str], Any]] = {
    **dict.fromkeys(_ID_FIELDS, _as_id),
    **dict.fromkeys(("amount", "tax", "total"), money),
    "issue_date": _as_date,
    "stamp": _as_flag,
}
# Quantities and prices are kept as printed; what a column of the warehouse can hold bounds them.
_LINE_READERS: Mapping[str, Callable[[str], Any]] = {
    "amount": money,
    "tax": money,
    "quantity": partial(decimal_of, whole=10, part=12),
    "unit_price": partial(decimal_of, whole=12, part=16),
}


# ── what a red invoice takes back ──


def taken_back(remarks: str) -> str | None:
    """The key of the invoice that a red one names: ``code:number``, or the 20 digits of a digital one."""
    bare = plain(remarks)
    if digital := _RED_DIGITAL.search(bare):
        return digital[1]
    coded = _RED_CODED.search(bare)
    return f"{coded[1]}:{coded[2]}" if coded else None


def red_form(remarks: str) -> str | None:
    """The number of the form or the confirmation on which a red invoice was issued."""
    found = _RED_FORM.search(plain(remarks))
    return found and found[1]


_RED_DIGITAL = re.compile(r"(?:被红冲|对应)蓝字[^:]{0,12}号码:?([0-9]{20})(?![0-9])")
_RED_CODED = re.compile(
    r"(?:对应正数|被红冲蓝字|对应蓝字)[^:]{0,12}代码:?([0-9]{12}|[0-9]{10})[,;]?(?:发票)?号码:?([0-9]{8})(?![0-9])"
)
_RED_FORM = re.compile(r"(?:信息表|通知单|确认单)(?:编号|号码)?:?([0-9]{16,20})(?![0-9])")


def _says_nothing(name: str, text: str) -> bool:
    """Tax-free invoices print stars, or the word, where the tax would be."""
    return name == "tax" and bool(_TAX_FREE.fullmatch(plain(text)))


_TAX_FREE = re.compile(r"[¥]?[*＊×✱]+|免税|不征税")

_ANSWERS: Mapping[str, Callable[[Mapping[str, Any]], _Answer]] = {
    "ocr_invoice": _ocr_invoice,
    "intsig_invoice": _intsig_invoice,
}
