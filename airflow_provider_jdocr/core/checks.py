"""Everything about an invoice that can be checked for free, before anybody pays by it.

An invoice says most things twice: its kind is in its code, its total is in words, its tax follows from a
rate, its tax ids carry check digits. A rule that does not hold is a ``Finding`` with a stable code; it may
propose a repair where exactly one is possible, and never changes a value. Confidence is no rule: it does not
find errors.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType

from stdnum.cn import ric, uscc

from airflow_provider_jdocr.core.numerals import from_words, money, plain, to_words
from airflow_provider_jdocr.core.parsing import (
    INTSIG_COLUMNS,
    INTSIG_LINE_COLUMNS,
    PARSER_VERSION,
    Invoice,
    InvoiceKind,
    read_text,
)

CHECKS_VERSION: int = 1
"""Raised whenever the same invoice gets other findings."""


def reading_version() -> str:
    """The version of everything that turns a stored reply into rows; rows of another version are stale."""
    return f"{PARSER_VERSION}.{CHECKS_VERSION}"


class Severity(StrEnum):
    """``error``: a person must look before the row is used; ``warning``: worth a look; ``info``: no more."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that an invoice breaks. ``proposal`` is a repair that a person may accept."""

    code: str
    severity: Severity
    fields: tuple[str, ...]
    message: str
    found: str | None = None
    expected: str | None = None
    proposal: str | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table of rules."""

    code: str
    severity: Severity
    meaning: str


_E, _W, _I = Severity.ERROR, Severity.WARNING, Severity.INFO

CHECKS: Mapping[str, Rule] = MappingProxyType(
    {
        code: Rule(code, severity, meaning)
        for code, severity, meaning in (
            ("NOT_AN_INVOICE", _E, "the service recognised no VAT invoice on the picture"),
            ("REQUIRED_FIELD_MISSING", _E, "a field that every invoice of this kind prints was not read"),
            ("VALUE_UNPARSABLE", _E, "a code, number, date or amount of the header is printed but is none"),
            ("DETAIL_UNPARSABLE", _W, "another printed value, or one of a line, could not be read"),
            ("UNREADABLE_CHARACTERS", _W, "a text holds characters that were lost on the way"),
            ("NUMBER_SHAPE", _E, "an invoice number has 8 digits, or 20 on a fully digital invoice"),
            ("CODE_SHAPE", _E, "an invoice code has 10 or 12 digits"),
            (
                "DIGITAL_NUMBER_AS_CODE",
                _E,
                "no number, and a code that looks like a digital invoice's number",
            ),
            ("CODE_NOT_EXPECTED", _W, "a fully digital invoice has no code"),
            ("CODE_KIND_UNKNOWN", _W, "the kind of invoice cannot be told from the code"),
            ("KIND_UNKNOWN", _W, "the service named a kind that is in no table"),
            ("KIND_CONFLICTS", _E, "special by one reading and common by another"),
            ("KIND_DIFFERS", _W, "the kind said and the kind that follows from code or number differ"),
            ("CHECK_CODE_SHAPE", _E, "a check code has 20 digits"),
            ("CHECK_CODE_NOT_EXPECTED", _W, "this kind of invoice prints no check code"),
            ("DATE_TOO_EARLY", _E, "there were no VAT invoices before 1994"),
            ("DATE_IN_FUTURE", _E, "the invoice is dated after today"),
            ("CODE_YEAR_AFTER_DATE", _E, "the code was printed in a year after the invoice's"),
            ("CODE_YEAR_OLD", _W, "the code was printed more than three years before the invoice"),
            (
                "NUMBER_YEAR_DISAGREES",
                _E,
                "a fully digital invoice's number begins with the year of its date",
            ),
            ("TOTAL_NOT_SUM", _E, "total is amount plus tax, to the cent"),
            ("AMOUNT_TAX_SWAPPED", _E, "tax and amount make a legal rate only the other way round"),
            ("TAX_RATE_ILLEGAL", _E, "no VAT rate there ever was gives this tax, or is the one printed"),
            ("TAX_RATE_DISAGREES", _E, "amount times the printed rate is not the tax"),
            ("TAX_RATE_UNCERTAIN", _W, "no single rate gives this tax: several rates, or a misreading"),
            ("WORDS_DISAGREE", _E, "the total in words is another than the total in digits"),
            ("WORDS_UNREADABLE", _W, "the total in words could not be read as an amount"),
            ("TAX_ID_LENGTH", _E, "a tax id has 15, 18 or 20 characters"),
            ("TAX_ID_CHARACTERS", _E, "a character that no tax id holds"),
            ("TAX_ID_CHECK_DIGIT", _E, "the check digits of the tax id do not hold (GB 32100, GB 11714)"),
            (
                "TAX_ID_OLD_CHECK_DIGIT",
                _W,
                "the check digit of the organisation code in a 15-digit id does not hold",
            ),
            ("READINGS_DISAGREE", _E, "a fact printed twice was read in two ways"),
            ("READING_UNUSABLE", _I, "the second print of a fact was read as something else"),
            ("LINES_NOT_PAIRED", _W, "the columns of the table count different lines, so no lines were made"),
            ("LINES_SUM_DISAGREES", _W, "the lines do not add up to the header"),
        )
    }
)


def check(invoice: Invoice, *, today: date) -> tuple[Finding, ...]:
    """Hold an invoice against every rule; ``today`` is the last day an invoice may be dated."""
    if _is_no_invoice(invoice):
        what = invoice.kind_text or "nothing"
        return (_finding("NOT_AN_INVOICE", ("kind",), f"The service saw {what} on the picture.", found=what),)
    return tuple(finding for step in _STEPS for finding in step(invoice, today))


def review_status(findings: Iterable[Finding]) -> str:
    """``review`` when a person must look before the row is used, else ``clear``."""
    return "review" if any(finding.severity is Severity.ERROR for finding in findings) else "clear"


def _finding(
    code: str,
    fields: tuple[str, ...],
    message: str,
    *,
    found: object = None,
    expected: object = None,
    proposal: object = None,
) -> Finding:
    texts = [None if value is None else str(value)[:LONGEST_TEXT] for value in (found, expected, proposal)]
    return Finding(code, CHECKS[code].severity, fields, message[:LONGEST_TEXT], *texts)


LONGEST_TEXT = 500
"""Characters of each text of a finding; the whole of it is in the invoice's evidence."""


def _is_no_invoice(invoice: Invoice) -> bool:
    read = (invoice.number, invoice.code, invoice.issue_date, invoice.amount, invoice.total)
    said_other = invoice.kind is InvoiceKind.OTHER and plain(invoice.kind_text or "").lower() == "other"
    return said_other or not any(value is not None for value in read)


# ── kinds and shapes ──

_COMMON_ELECTRONIC_CODES = frozenset({"144031539110", "131001570151", "133011501118", "111001571071"})
_KIND_BY_ENDING: Mapping[str, InvoiceKind] = {
    "04": InvoiceKind.COMMON_PAPER,
    "05": InvoiceKind.COMMON_PAPER,
    "06": InvoiceKind.ROLL,
    "07": InvoiceKind.ROLL,
    "11": InvoiceKind.COMMON_ELECTRONIC,
    "12": InvoiceKind.TOLL,
    "13": InvoiceKind.SPECIAL_ELECTRONIC,
}
_KIND_BY_EIGHTH: Mapping[str, InvoiceKind] = {
    "1": InvoiceKind.SPECIAL_PAPER,
    "5": InvoiceKind.SPECIAL_PAPER,
    "3": InvoiceKind.COMMON_PAPER,
    "6": InvoiceKind.COMMON_PAPER,
}
_SPECIAL = frozenset({InvoiceKind.SPECIAL_PAPER, InvoiceKind.SPECIAL_ELECTRONIC, InvoiceKind.DIGITAL_SPECIAL})
_DIGITAL = frozenset({InvoiceKind.DIGITAL_SPECIAL, InvoiceKind.DIGITAL_COMMON})
_WITHOUT_CHECK_CODE = frozenset({InvoiceKind.SPECIAL_PAPER, *_DIGITAL})


def kind_of_code(code: str) -> InvoiceKind | None:
    """The kind that an invoice code says; None when it says none."""
    if not _digits(code, 10, 12):
        return None
    if len(code) == 10:
        return _KIND_BY_EIGHTH.get(code[7])
    if code in _COMMON_ELECTRONIC_CODES:
        return InvoiceKind.COMMON_ELECTRONIC
    return _KIND_BY_ENDING.get(code[10:]) if code.startswith("0") else None


def _digits(text: str | None, *lengths: int) -> bool:
    return text is not None and len(text) in lengths and text.isascii() and text.isdigit()


def _is_digital(invoice: Invoice) -> bool:
    said = invoice.kind in _DIGITAL and not _digits(invoice.number, 8)
    return said or _digits(invoice.number, 20) or _is_number_in_code(invoice)


def _is_number_in_code(invoice: Invoice) -> bool:
    """How services fail on fully digital invoices: no number, and a piece of it returned as the code."""
    if invoice.number is not None or invoice.code is None:
        return False
    return invoice.kind in _DIGITAL or kind_of_code(invoice.code) is None


def _likely_kind(invoice: Invoice) -> InvoiceKind | None:
    """The kind to hold the invoice against: by its code, else as the service says."""
    told = None if invoice.code is None or _is_digital(invoice) else kind_of_code(invoice.code)
    return told or invoice.kind


def _shapes(invoice: Invoice, _: date) -> Iterator[Finding]:
    code, number = invoice.code, invoice.number
    if _is_number_in_code(invoice) and code is not None:
        proposal = code if _digits(code, 20) else None
        message = "The number is missing and the code looks like a part of a 20-digit number."
        yield _finding("DIGITAL_NUMBER_AS_CODE", ("code", "number"), message, found=code, proposal=proposal)
        return
    if number is not None and not _digits(number, 8, 20):
        yield _finding("NUMBER_SHAPE", ("number",), "Neither 8 nor 20 digits.", found=number)
    if code is not None and not _digits(code, 10, 12):
        yield _finding("CODE_SHAPE", ("code",), "Neither 10 nor 12 digits.", found=code)
    elif code is not None and _digits(number, 20):
        yield _finding("CODE_NOT_EXPECTED", ("code",), "A 20-digit number stands without a code.", found=code)
    elif code is not None and kind_of_code(code) is None and invoice.kind is not InvoiceKind.BLOCKCHAIN:
        yield _finding("CODE_KIND_UNKNOWN", ("code",), "No kind of invoice has such a code.", found=code)


def _kinds(invoice: Invoice, _: date) -> Iterator[Finding]:
    said = invoice.kind
    if said is InvoiceKind.OTHER:
        message = f"The service calls it {invoice.kind_text}."
        yield _finding("KIND_UNKNOWN", ("kind",), message, found=invoice.kind_text)
    flag = _flag_of_kind(invoice)
    if said not in _NEITHER and flag is not None and flag != (said in _SPECIAL):
        yield _conflict(invoice, "专票" if flag else "普票")
    if _is_digital(invoice):
        if _digits(invoice.number, 20) and said not in (*_NEITHER, *_DIGITAL):
            message = "A 20-digit number is a fully digital invoice's."
            yield _finding("KIND_DIFFERS", ("kind", "number"), message, found=said, expected="digital_*")
        return
    told = kind_of_code(invoice.code or "")
    if told is None or said in (*_NEITHER, told):
        return
    if (told in _SPECIAL) != (said in _SPECIAL):
        yield _conflict(invoice, told)
    else:
        message = f"The code says {told}, the service {said}."
        yield _finding("KIND_DIFFERS", ("kind", "code"), message, found=said, expected=told)


_NEITHER = (None, InvoiceKind.OTHER, InvoiceKind.BLOCKCHAIN)


def _conflict(invoice: Invoice, expected: str) -> Finding:
    message = f"The service says {invoice.kind_text}, the invoice itself {expected}."
    return _finding("KIND_CONFLICTS", ("kind",), message, found=invoice.kind, expected=expected)


def _flag_of_kind(invoice: Invoice) -> bool | None:
    """Whether 专票/普票 beside the code says special; None when it says neither."""
    flag = str(invoice.details.get("vat_invoice_zhuan_yong_flag", ""))
    special, common = "专" in flag, "普" in flag
    return special if special != common else None


def _check_codes(invoice: Invoice, _: date) -> Iterator[Finding]:
    check_code = invoice.check_code
    if check_code is None:
        return
    if _is_digital(invoice) or _likely_kind(invoice) in _WITHOUT_CHECK_CODE:
        message = "This kind of invoice prints none."
        yield _finding("CHECK_CODE_NOT_EXPECTED", ("check_code",), message, found=check_code)
    elif not _digits(check_code, 20):
        yield _finding("CHECK_CODE_SHAPE", ("check_code",), "Not 20 digits.", found=check_code)


_PERHAPS_WITHOUT_CHECK_CODE = _WITHOUT_CHECK_CODE | {InvoiceKind.BLOCKCHAIN, InvoiceKind.OTHER}
_ALWAYS = ("issue_date", "total", "seller_name", "seller_tax_id")
_PRINTED_IN_FULL = ("amount", "tax", "buyer_name")


def required_fields(invoice: Invoice) -> tuple[str, ...]:
    """The fields that an invoice of this kind prints, as far as the endpoint reads them."""
    kind = _likely_kind(invoice)
    fields = ["code"] if _is_number_in_code(invoice) else ["number"]
    fields.extend(_ALWAYS)
    if not _is_digital(invoice):
        fields.extend(["code"] if kind in _PERHAPS_WITHOUT_CHECK_CODE else ["code", "check_code"])
    if kind is not InvoiceKind.ROLL:
        fields.extend(_PRINTED_IN_FULL)
    if kind in _SPECIAL:
        fields.append("buyer_tax_id")
    if invoice.endpoint == "intsig_invoice":
        fields.append("total_in_words")
    return tuple(fields)


def _required(invoice: Invoice, _: date) -> Iterator[Finding]:
    for name in required_fields(invoice):
        # What is printed and unreadable is a finding of its own; stars instead of a tax are a value.
        if getattr(invoice, name) is None and name not in invoice.evidence:
            message = f"No {name.replace('_', ' ')} was read."
            yield _finding("REQUIRED_FIELD_MISSING", (name,), message)


_NEEDS_A_PERSON = frozenset({"code", "number", "check_code", "issue_date", "amount", "tax", "total"})


def _problems(invoice: Invoice, _: date) -> Iterator[Finding]:
    for problem in invoice.problems:
        code, message = problem.code, f"Read as “{problem.text[:80]}”."
        if code == "LINES_NOT_PAIRED":
            message = f"Lines counted by column: {problem.text}. The columns are kept as they are."
        elif problem.field not in _NEEDS_A_PERSON:
            code = "DETAIL_UNPARSABLE"
        yield _finding(code, (problem.field,), message, found=problem.text)
    for name, printed in invoice.evidence.items():
        if "\ufffd" in printed.text:
            yield _finding("UNREADABLE_CHARACTERS", (name,), "Some characters were lost.", found=printed.text)


# ── dates ──

_FIRST_YEAR = 1994
_OLDEST_CODE_YEARS = 3


def _dates(invoice: Invoice, today: date) -> Iterator[Finding]:
    issued = invoice.issue_date
    if issued is None:
        return
    if issued.year < _FIRST_YEAR:
        yield _finding("DATE_TOO_EARLY", ("issue_date",), "Before the first VAT invoice.", found=issued)
    if issued > today:
        yield _finding("DATE_IN_FUTURE", ("issue_date",), f"Today is {today}.", found=issued)
    if invoice.number is not None and _digits(invoice.number, 20):
        yield from _number_year(invoice.number, issued)
    elif invoice.code is not None and _digits(invoice.code, 10, 12) and not _is_digital(invoice):
        yield from _code_year(invoice.code, issued)


def _number_year(number: str, issued: date) -> Iterator[Finding]:
    if int(number[:2]) != issued.year % 100:
        message = f"The number is of 20{number[:2]}."
        fields = ("number", "issue_date")
        yield _finding("NUMBER_YEAR_DISAGREES", fields, message, found=issued, expected=f"20{number[:2]}")


def _code_year(code: str, issued: date) -> Iterator[Finding]:
    two = int(code[4:6] if len(code) == 10 else code[5:7])
    printed = 2000 + two if two < _FIRST_YEAR % 100 else 1900 + two
    fields = ("code", "issue_date")
    if printed > issued.year:
        message = f"The code is of {printed}."
        yield _finding("CODE_YEAR_AFTER_DATE", fields, message, found=issued, expected=f"from {printed} on")
    elif issued.year - printed > _OLDEST_CODE_YEARS:
        yield _finding("CODE_YEAR_OLD", fields, f"The code is of {printed}.", found=issued, expected=printed)


# ── amounts ──

LEGAL_RATES: tuple[Decimal, ...] = tuple(
    Decimal(percent) / 100
    for percent in ("0", "1", "1.5", "3", "4", "5", "6", "9", "10", "11", "13", "16", "17")
)
_CENT = Decimal("0.01")
_FEWEST_CENTS = 2  # a real invoice of one line is off by 1.94 (46.62 at 13 %, tax 6.08)
_MOST_LINES = 100
_LINES_WHEN_UNKNOWN = 3  # rounding of unseen lines was measured to reach two cents


def _is_tax_free(invoice: Invoice) -> bool:
    """Stars or 免税 are printed where the tax would be."""
    unread = any(problem.field == "tax" for problem in invoice.problems)
    return invoice.tax is None and "tax" in invoice.evidence and not unread


def _sums(invoice: Invoice, _: date) -> Iterator[Finding]:
    amount, total = invoice.amount, invoice.total
    tax = Decimal(0) if _is_tax_free(invoice) else invoice.tax
    if amount is None or tax is None or total is None or amount + tax == total:
        return
    expected = amount + tax
    words = from_words(invoice.total_in_words or "")
    yield _finding(
        "TOTAL_NOT_SUM",
        ("amount", "tax", "total"),
        f"{amount} + {tax} is {expected}.",
        found=total,
        expected=expected,
        proposal=f"total={expected}" if words == expected else None,
    )


def _words(invoice: Invoice, _: date) -> Iterator[Finding]:
    if invoice.total_in_words is None:
        return
    said = from_words(invoice.total_in_words)
    fields = ("total", "total_in_words")
    if said is None:
        message = "Not an amount in words."
        yield _finding("WORDS_UNREADABLE", fields[1:], message, found=invoice.total_in_words)
    elif invoice.total is not None and said != invoice.total:
        sums = invoice.amount is not None and invoice.amount + (invoice.tax or 0) == said
        yield _finding(
            "WORDS_DISAGREE",
            fields,
            f"The words say {said}; {invoice.total} would be {to_words(invoice.total)}.",
            found=invoice.total,
            expected=said,
            proposal=f"total={said}" if sums else None,
        )


def _rates(invoice: Invoice, _: date) -> Iterator[Finding]:
    amount, tax = invoice.amount, invoice.tax
    printed = _printed_rates(invoice)
    for rate in sorted(printed - set(LEGAL_RATES)):
        message = f"{_percent(rate)} was never a rate."
        yield _finding("TAX_RATE_ILLEGAL", ("tax_rate",), message, found=_percent(rate))
    if amount is None or tax is None or printed - set(LEGAL_RATES):
        return
    tolerance = _CENT * max(_line_count(invoice), _FEWEST_CENTS)
    legal = _best_rate(amount, tax, tolerance)
    if legal is None and amount and (other_way := _best_rate(tax, amount, tolerance)):
        yield _swapped(amount, tax, other_way)
    elif printed or _says_exempt(invoice):
        yield from _against_printed(amount, tax, printed or {Decimal(0)}, tolerance)
    elif legal is None:
        yield _no_rate(amount, tax)


def _printed_rates(invoice: Invoice) -> set[Decimal]:
    """Every rate printed; a line without tax counts as 0 beside lines with a rate."""
    header = {invoice.tax_rate} if invoice.tax_rate is not None else set()
    rates = {line.tax_rate for line in invoice.lines if line.tax_rate is not None} or header
    exempt = any(line.tax_rate is None and line.tax_rate_text for line in invoice.lines)
    return rates | {Decimal(0)} if rates and exempt else rates


def _says_exempt(invoice: Invoice) -> bool:
    return plain(invoice.tax_rate_text or "") in ("免税", "不征税")


def _line_count(invoice: Invoice) -> int:
    columns = [invoice.details.get(key) for key in INTSIG_LINE_COLUMNS.values()]
    counted = [len(column.splitlines()) for column in columns if isinstance(column, str)]
    return min(len(invoice.lines) or max(counted, default=_LINES_WHEN_UNKNOWN), _MOST_LINES)


def _best_rate(amount: Decimal, tax: Decimal, tolerance: Decimal) -> Decimal | None:
    """The legal rate that comes nearest to this tax, within the tolerance; 0 only for no tax at all."""
    if not tax:
        return Decimal(0)
    off = {abs(amount * rate - tax): rate for rate in LEGAL_RATES if rate}
    return off[min(off)] if min(off) <= tolerance else None


def _swapped(amount: Decimal, tax: Decimal, rate: Decimal) -> Finding:
    message = f"{tax} × {_percent(rate)} is {amount}: amount and tax look swapped."
    proposal = f"amount={tax}; tax={amount}"
    return _finding(
        "AMOUNT_TAX_SWAPPED", ("amount", "tax"), message, found=f"{amount}; {tax}", proposal=proposal
    )


def _against_printed(
    amount: Decimal, tax: Decimal, rates: set[Decimal], tolerance: Decimal
) -> Iterator[Finding]:
    lowest, highest = sorted((amount * min(rates), amount * max(rates)))
    if lowest - tolerance <= tax <= highest + tolerance:
        return
    expected = " to ".join(dict.fromkeys(f"{bound:.2f}" for bound in (lowest, highest)))
    message = f"{amount} at {', '.join(map(_percent, sorted(rates)))} is {expected}."
    yield _finding("TAX_RATE_DISAGREES", ("amount", "tax", "tax_rate"), message, found=tax, expected=expected)


def _no_rate(amount: Decimal, tax: Decimal) -> Finding:
    quotient = tax / amount if amount else None
    possible = quotient is not None and 0 <= quotient <= max(LEGAL_RATES)
    code = "TAX_RATE_UNCERTAIN" if possible else "TAX_RATE_ILLEGAL"
    message = "There is no amount to tax." if quotient is None else f"{tax} ÷ {amount} is {quotient:.4f}."
    return _finding(code, ("amount", "tax"), message, found=tax)


def _percent(rate: Decimal) -> str:
    return f"{(rate * 100).normalize():f}%"


def _line_sums(invoice: Invoice, _: date) -> Iterator[Finding]:
    for name in ("amount", "tax"):
        header, values = getattr(invoice, name), [getattr(line, name) for line in invoice.lines]
        read = [value for value in values if value is not None]
        whole = len(read) == len(values) or name == "tax"  # a tax-free line prints stars
        if header is None or not read or not whole or sum(read) == header:
            continue
        message = f"The lines add up to {sum(read)}."
        fields = (name, f"lines.{name}")
        yield _finding("LINES_SUM_DISAGREES", fields, message, found=header, expected=sum(read))


# ── tax ids ──

_ALPHABET = frozenset("0123456789ABCDEFGHJKLMNPQRTUWXY")  # GB 32100: without I O S V Z
_LOOK_ALIKE: Mapping[str, str] = {
    character: group.replace(character, "")
    for group in ("0ODQ", "1IL7T", "2Z", "5S", "8B", "6G", "UV", "CG")
    for character in group
} | {"G": "6C"}
_ORGANISATION_WEIGHTS = (3, 7, 9, 10, 5, 8, 4, 2)


def _tax_ids(invoice: Invoice, _: date) -> Iterator[Finding]:
    for name in ("buyer_tax_id", "seller_tax_id"):
        tax_id = getattr(invoice, name)
        if tax_id is not None:
            yield from _tax_id(name, tax_id)


def _tax_id(name: str, tax_id: str) -> Iterator[Finding]:
    if len(tax_id) not in (15, 18, 20):
        yield _finding("TAX_ID_LENGTH", (name,), f"{len(tax_id)} characters.", found=tax_id)
    elif strange := _strange_characters(tax_id):
        message = f"Not in the alphabet of tax ids: {strange}."
        proposal = repaired_tax_id(tax_id)
        yield _finding("TAX_ID_CHARACTERS", (name,), message, found=tax_id, proposal=proposal)
    elif len(tax_id) == 18 and not _is_valid(tax_id) and not ric.is_valid(tax_id):
        message = "The check digits do not hold."
        proposal = repaired_tax_id(tax_id)
        yield _finding("TAX_ID_CHECK_DIGIT", (name,), message, found=tax_id, proposal=proposal)
    elif len(tax_id) == 15 and not _holds_organisation(tax_id[6:]):
        message = "The organisation code's check digit does not hold (a sole trader's id has none)."
        yield _finding("TAX_ID_OLD_CHECK_DIGIT", (name,), message, found=tax_id)


def _strange_characters(tax_id: str) -> str:
    """What no id of this length holds; ids of natural persons (20) may hold any letter."""
    if len(tax_id) == 18:
        return "".join(sorted(set(tax_id) - _ALPHABET))
    head = tax_id[:6] if len(tax_id) == 15 else ""
    letters = {character for character in head if not character.isdecimal()}
    return "".join(sorted(letters | set(tax_id) - _ALPHABET - frozenset("IOSVZ")))


def _is_valid(tax_id: str) -> bool:
    """GB 32100 over all, and GB 11714 over the organisation code in characters 9 to 17."""
    return bool(uscc.is_valid(tax_id)) and _holds_organisation(tax_id[8:17])


def _holds_organisation(code: str) -> bool:
    values = [int(character, 36) for character in code[:8]]
    remainder = sum(weight * value for weight, value in zip(_ORGANISATION_WEIGHTS, values, strict=True)) % 11
    return code[8] == "0X987654321"[remainder]


def repaired_tax_id(tax_id: str) -> str | None:
    """The one valid id a look-alike away; None when there is none, or several.

    Away is one character taken for another, or every forbidden letter (O, I, S, Z, V) taken for what it
    looks like.
    """
    swaps = {
        f"{tax_id[:place]}{other}{tax_id[place + 1 :]}"
        for place, character in enumerate(tax_id)
        for other in _LOOK_ALIKE.get(character, "")
    }
    swaps = swaps | {tax_id.translate(_FORBIDDEN)} - {tax_id}
    valid = [swap for swap in swaps if len(swap) == 18 and set(swap) <= _ALPHABET and _is_valid(swap)]
    return valid[0] if len(valid) == 1 else None


_FORBIDDEN = str.maketrans("OISZV", "0152U")


# ── facts that are printed twice ──

_TWICE: Mapping[str, tuple[int, ...]] = {"code": (10, 12), "number": (8, 20), "check_code": (20,)}
_PRINTED_TOTAL = "vat_invoice_total_print"


def _duplicates(invoice: Invoice, _: date) -> Iterator[Finding]:
    for name in ("code", "number", "check_code", "issue_date"):
        value = getattr(invoice, name)
        for key in INTSIG_COLUMNS[name]:
            text = invoice.details.get(key)
            if value is not None and isinstance(text, str):
                yield from _second_reading(name, value, key, text)
    text = invoice.details.get(_PRINTED_TOTAL)
    if isinstance(text, str) and invoice.amount is not None:
        yield from _printed_total(invoice, text)


def _second_reading(name: str, value: object, key: str, text: str) -> Iterator[Finding]:
    other = read_text(name, text)
    usable = other is not None and (name not in _TWICE or _digits(str(other), *_TWICE[name]))
    if not usable:
        yield _finding("READING_UNUSABLE", (name, key), f"{key} was read as “{text[:80]}”.", found=text)
    elif other != value:
        message = f"{key} says {other}."
        yield _finding("READINGS_DISAGREE", (name, key), message, found=value, expected=other)


def _printed_total(invoice: Invoice, text: str) -> Iterator[Finding]:
    """JD does not say whether 打印合计 is before tax or after: either will do."""
    other, fields = money(text), ("amount", _PRINTED_TOTAL)
    if other is None:
        yield _finding("READING_UNUSABLE", fields, f"{_PRINTED_TOTAL} was read as “{text[:80]}”.", found=text)
    elif other not in (invoice.amount, invoice.total):
        message = f"{_PRINTED_TOTAL} says {other}."
        yield _finding("READINGS_DISAGREE", fields, message, found=invoice.amount, expected=other)


_STEPS: tuple[Callable[[Invoice, date], Iterator[Finding]], ...] = (
    _required,
    _problems,
    _shapes,
    _kinds,
    _check_codes,
    _dates,
    _sums,
    _rates,
    _words,
    _tax_ids,
    _duplicates,
    _line_sums,
)
