"""The QR code that is printed on an invoice: what it says, before any call is paid.

``read_codes`` gives the texts of the codes on a picture, ``parse_code`` what one of them says. Both are
total: any accepted picture and any text have an outcome. Error correction makes a code that decodes exact, so
what it says is a second opinion on whatever OCR reads; which amount it holds depends on the kind of invoice.

Time and memory are bounded: a picture is searched at no more than `MOST_PIXELS`, because a page full of
finder patterns takes the search a time that grows with the square of its pixels. Where the decoder is not
installed, `unavailable` says so; nothing is read then, and nothing else changes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from urllib.parse import parse_qs, urlsplit

from PIL import Image as Pillow

from airflow_provider_jdocr.core.numerals import money, plain
from airflow_provider_jdocr.core.preflight import Image, greyscale

try:
    import zxingcpp
except ImportError as error:  # a platform without a wheel, or a package without its dependencies
    _MISSING: str | None = str(error)
else:
    _MISSING = None

MOST_PIXELS = 4_000_000
"""A4 at 200 dpi: a module of the printed code is five pixels wide. The worst page takes four seconds."""
MOST_CODES = 8
LONGEST_CODE = 1_000
"""Characters kept of a code; an invoice's has about eighty."""


class AmountIs(StrEnum):
    """Which of the printed amounts a code holds. ``either``: nobody measured it for this kind."""

    BEFORE_TAX = "before_tax"
    TOTAL = "total"
    EITHER = "either"


@dataclass(frozen=True, slots=True)
class InvoiceCode:
    """A code that says which invoice it stands on; None where it leaves a field empty, or holds none there.

    ``kind`` is the two digits of the tax offices, as `ocr_invoice` answers them, or ``blockchain``.
    """

    text: str
    kind: str
    code: str | None
    number: str
    amount: Decimal | None
    amount_is: AmountIs
    issue_date: date | None
    check_code: str | None
    seller_tax_id: str | None = None

    @property
    def invoice_key(self) -> str | None:
        """``code:number``, or the 20 digits of a fully digital invoice; None: the code tells no key."""
        if len(self.number) == 20:
            return self.number
        return f"{self.code}:{self.number}" if self.code else None


class Says(StrEnum):
    """What a code says that is no VAT invoice's."""

    OTHER_DOCUMENT = "other_document"
    UNKNOWN_KIND = "unknown_kind"
    MALFORMED = "malformed"
    LINK = "link"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class OtherCode:
    """A code that is no VAT invoice's. Only ``other_document`` says that the picture shows none; a shop's
    link stands on invoices, too.
    """

    text: str
    says: Says
    what: str


@dataclass(frozen=True, slots=True)
class Codes:
    """All codes of one picture. Two that name the same invoice count once."""

    invoices: tuple[InvoiceCode, ...] = ()
    others: tuple[OtherCode, ...] = ()

    @property
    def invoice(self) -> InvoiceCode | None:
        """The only invoice that is named; None when there is none, or several."""
        return self.invoices[0] if len(self.invoices) == 1 else None

    @property
    def other_document(self) -> OtherCode | None:
        """What the picture shows instead of a VAT invoice, when a code says that and none says otherwise."""
        documents = [other for other in self.others if other.says is Says.OTHER_DOCUMENT]
        return documents[0] if documents and not self.invoices else None


# ── from a picture to texts ──


def unavailable() -> str | None:
    """Why no code can be read here, and the way out; None when codes are read."""
    if _MISSING is None:
        return None
    return f"QR codes are not read: {_MISSING}. Install zxing-cpp where this runs; all other checks are made."


def read_codes(image: Image) -> tuple[str, ...]:
    """The texts of at most `MOST_CODES` QR codes on the picture; none where no decoder is installed."""
    if _MISSING is not None:
        return ()
    grey = greyscale(image, most_pixels=MOST_PIXELS)
    texts = dict.fromkeys(_searched(grey)) if grey else {}
    return tuple(texts)[:MOST_CODES]


def _searched(grey: Pillow.Image) -> Iterator[str]:
    only = zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCode)
    try:
        found = zxingcpp.read_barcodes(grey, formats=only, text_mode=zxingcpp.TextMode.Plain)
    except (IndexError, RuntimeError, ValueError):  # errors of the search itself, as its issues tell
        return
    yield from (each.text[:LONGEST_CODE] for each in found if each.text)


def to_text(codes: Iterable[str]) -> str:
    """The codes of a picture as one text, to be stored; the other way round is `from_text`."""
    return json.dumps(list(codes), ensure_ascii=True)


def from_text(text: str | None) -> tuple[str, ...]:
    """The codes that `to_text` stored; none for None, which stands for a picture that nobody searched."""
    stored = json.loads(text) if text else []
    return tuple(stored)


# ── from a text to what it says ──

_KINDS: Mapping[str, AmountIs] = MappingProxyType(
    {
        "01": AmountIs.BEFORE_TAX,
        "04": AmountIs.BEFORE_TAX,
        "08": AmountIs.EITHER,
        "10": AmountIs.BEFORE_TAX,
        "11": AmountIs.EITHER,
        "14": AmountIs.EITHER,
        "31": AmountIs.TOTAL,
        "32": AmountIs.TOTAL,
    }
)
BLOCKCHAIN = "blockchain"
OTHER_DOCUMENTS: Mapping[str, str] = MappingProxyType(
    {
        "03": "机动车销售统一发票 (sale of a motor vehicle)",
        "15": "二手车销售统一发票 (sale of a used car)",
        "51": "铁路电子客票 (railway ticket)",
        "61": "航空运输电子客票行程单 (air ticket)",
    }
)
"""Kinds with a tax office's code that are no VAT invoice of either endpoint."""

_NUMBERED = re.compile(r"01,[0-9]{2},")
_CODE = re.compile(r"[0-9]{10}|[0-9]{12}")
_CHECK_CODE = re.compile(r"[0-9]{20}")
_TAX_ID = re.compile(r"[0-9A-Z]{15}|[0-9A-Z]{17,18}|[0-9A-Z]{20}")
_LINK = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def all_codes(texts: Iterable[str]) -> Codes:
    """What the codes of one picture say, taken together."""
    parsed = [parse_code(text) for text in texts]
    invoices = {(each.code, each.number): each for each in parsed if isinstance(each, InvoiceCode)}
    return Codes(tuple(invoices.values()), tuple(each for each in parsed if isinstance(each, OtherCode)))


def parse_code(text: str) -> InvoiceCode | OtherCode:
    """What a code says. Blanks, full-width forms, a comma more or less at the end change nothing."""
    text = text[:LONGEST_CODE]
    bare = plain(text)
    if _LINK.match(bare):
        return _link(text, bare)
    if not _NUMBERED.match(bare):
        return OtherCode(text, Says.TEXT, "a text")
    kind, *values = bare.split(",")[1:]
    if kind in OTHER_DOCUMENTS:
        return OtherCode(text, Says.OTHER_DOCUMENT, OTHER_DOCUMENTS[kind])
    if kind not in _KINDS:
        return OtherCode(text, Says.UNKNOWN_KIND, f"kind {kind} of a tax office's document")
    return _invoice(text, kind, values)


def _invoice(text: str, kind: str, values: list[str]) -> InvoiceCode | OtherCode:
    code, number, *rest = [*values, *[""] * 6][: max(6, len(values))]
    if not _names_an_invoice(code, number):
        return OtherCode(text, Says.MALFORMED, "an invoice's code without an invoice's number")
    # A blockchain invoice's code has the seller's tax id before the amount.
    seller = rest.pop(0) if _TAX_ID.fullmatch(rest[0]) and _date(rest[2]) else None
    amount, issued, check_code = [*rest, "", ""][:3]
    return InvoiceCode(
        text,
        BLOCKCHAIN if seller else kind,
        code or None,
        number,
        money(amount),
        AmountIs.EITHER if seller else _amount_is(kind, code),
        _date(issued),
        check_code if _CHECK_CODE.fullmatch(check_code) else None,
        seller,
    )


def _amount_is(kind: str, code: str) -> AmountIs:
    """What was measured of this kind. The codes of toll invoices end in 12, and their QR codes say 10."""
    odd = (kind in _DIGITAL) == bool(code) or (len(code) == 12 and code.endswith("12"))
    return AmountIs.EITHER if odd else _KINDS[kind]


_DIGITAL = frozenset({"31", "32"})


def _names_an_invoice(code: str, number: str) -> bool:
    digits = number.isascii() and number.isdecimal()
    return digits and (len(number) == 20 if not code else len(number) == 8 and bool(_CODE.fullmatch(code)))


def _date(text: str) -> date | None:
    digits = re.sub(r"[-/.年月日]", "", text)
    if not re.fullmatch(r"[0-9]{8}", digits):
        return None
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return None


# ── links ──


def _link(text: str, bare: str) -> InvoiceCode | OtherCode:
    try:
        host, query = urlsplit(bare).hostname or "", parse_qs(urlsplit(bare).query, max_num_fields=20)
    except ValueError:
        return OtherCode(text, Says.LINK, "a link")
    reader = _READERS.get(host)
    found = reader(text, {name: values[0] for name, values in query.items()}) if reader else None
    return found or OtherCode(text, Says.LINK, f"a link to {host[:100]}")


def _shenzhen(text: str, query: Mapping[str, str]) -> InvoiceCode | None:
    """Blockchain invoices of Shenzhen link to a page of their own: number, and total in cents."""
    number, cents = query.get("bill_num", ""), query.get("total_amount", "")
    if not re.fullmatch(r"[0-9]{8}", number):
        return None
    total = Decimal(cents).scaleb(-2) if re.fullmatch(r"[0-9]{1,16}", cents) else None
    return InvoiceCode(text, BLOCKCHAIN, None, number, total, AmountIs.TOTAL, None, None)


_READERS: Mapping[str, Callable[[str, Mapping[str, str]], InvoiceCode | None]] = MappingProxyType(
    {"bcfp.shenzhen.chinatax.gov.cn": _shenzhen}
)
