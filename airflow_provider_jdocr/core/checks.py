"""Everything about an invoice that can be checked for free, before anybody pays by it.

An invoice says most things twice: its kind is in its code, its total is in words, its tax follows from a
rate, its tax ids carry check digits. A rule that does not hold is a ``Finding`` with a stable code; it may
propose a repair where exactly one is possible, and never changes a value. Confidence is no rule: it does not
find errors.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import date
from decimal import Decimal

from airflow_provider_jdocr.core.findings import Finding, finding, repair
from airflow_provider_jdocr.core.numerals import from_words, money, plain, to_words
from airflow_provider_jdocr.core.parsing import (
    INTSIG_COLUMNS,
    INTSIG_LINE_COLUMNS,
    Invoice,
    InvoiceKind,
    Line,
    read_text,
    red_form,
)
from airflow_provider_jdocr.core.tax_ids import (
    LENGTHS,
    holds,
    holds_organisation,
    repaired_tax_id,
    strange_characters,
)


def check(invoice: Invoice, *, today: date) -> tuple[Finding, ...]:
    """Hold an invoice against itself; ``today`` is the last day an invoice may be dated."""
    if is_no_invoice(invoice):
        what = invoice.kind_text or "nothing"
        return (finding("NOT_AN_INVOICE", ("kind",), f"The service saw {what} on the picture.", found=what),)
    return tuple(each for step in _STEPS for each in step(invoice, today))


def is_no_invoice(invoice: Invoice) -> bool:
    """Whether the service saw none; then there is nothing to check."""
    read = (invoice.number, invoice.code, invoice.issue_date, invoice.amount, invoice.total)
    said_other = invoice.kind is InvoiceKind.OTHER and plain(invoice.kind_text or "").lower() == "other"
    return said_other or not any(value is not None for value in read)


# ── kinds and shapes ──

COMMON_ELECTRONIC_CODES = frozenset({"144031539110", "131001570151", "133011501118", "111001571071"})
KIND_BY_ENDING: Mapping[str, InvoiceKind] = {
    "04": InvoiceKind.COMMON_PAPER,
    "05": InvoiceKind.COMMON_PAPER,
    "06": InvoiceKind.ROLL,
    "07": InvoiceKind.ROLL,
    "11": InvoiceKind.COMMON_ELECTRONIC,
    "12": InvoiceKind.TOLL,
    "13": InvoiceKind.SPECIAL_ELECTRONIC,
}
KIND_BY_EIGHTH: Mapping[str, InvoiceKind] = {
    "1": InvoiceKind.SPECIAL_PAPER,
    "5": InvoiceKind.SPECIAL_PAPER,
    "3": InvoiceKind.COMMON_PAPER,
    "6": InvoiceKind.COMMON_PAPER,
}
SPECIAL = frozenset({InvoiceKind.SPECIAL_PAPER, InvoiceKind.SPECIAL_ELECTRONIC, InvoiceKind.DIGITAL_SPECIAL})
DIGITAL = frozenset({InvoiceKind.DIGITAL_SPECIAL, InvoiceKind.DIGITAL_COMMON})
_WITHOUT_CHECK_CODE = frozenset({InvoiceKind.SPECIAL_PAPER, *DIGITAL})


def kind_of_code(code: str) -> InvoiceKind | None:
    """The kind that an invoice code says; None when it says none."""
    if not _digits(code, 10, 12):
        return None
    if len(code) == 10:
        return KIND_BY_EIGHTH.get(code[7])
    if code in COMMON_ELECTRONIC_CODES:
        return InvoiceKind.COMMON_ELECTRONIC
    if code.startswith("1") and code.endswith("110"):
        return InvoiceKind.BLOCKCHAIN
    return KIND_BY_ENDING.get(code[10:]) if code.startswith("0") else None


_PROVINCES = frozenset(map(str, (*range(11, 16), *range(21, 24), *range(31, 38), *range(41, 47))))
_REGIONS = _PROVINCES | frozenset(map(str, (*range(50, 55), *range(61, 66))))
_PLAN_CITIES = frozenset(map(str, range(91, 96)))
"""Digital numbers name these cities in place of their provinces."""


def _digits(text: str | None, *lengths: int) -> bool:
    return text is not None and len(text) in lengths and text.isascii() and text.isdigit()


def _is_digital(invoice: Invoice) -> bool:
    said = invoice.kind in DIGITAL and not _digits(invoice.number, 8)
    whole = _digits(invoice.number, 20) or _split_number(invoice) is not None
    return said or whole or _is_number_in_code(invoice)


def _is_number_in_code(invoice: Invoice) -> bool:
    """How services fail on fully digital invoices: no number, and a piece of it returned as the code."""
    if invoice.number is not None or invoice.code is None:
        return False
    return invoice.kind in DIGITAL or kind_of_code(invoice.code) is None


def _split_number(invoice: Invoice) -> str | None:
    """The 20 digits whose parts were returned as code and number; None: they are a code and a number."""
    code, number, issued = invoice.code, invoice.number, invoice.issue_date
    whole = f"{code or ''}{number or ''}"
    if not (code and number and _digits(whole, 20)) or (len(number) == 8 and kind_of_code(code)):
        return None
    of_this_year = issued is not None and int(whole[:2]) == issued.year % 100
    return whole if of_this_year and whole[2:4] in _REGIONS | _PLAN_CITIES else None


def _likely_kind(invoice: Invoice) -> InvoiceKind | None:
    """The kind to hold the invoice against: by its code, else as the service says."""
    told = None if invoice.code is None or _is_digital(invoice) else kind_of_code(invoice.code)
    return told or invoice.kind


def _shapes(invoice: Invoice, _: date) -> Iterator[Finding]:
    code, number = invoice.code, invoice.number
    if _is_number_in_code(invoice) and code is not None:
        whole = repair(number=code, code=None) if _digits(code, 20) else None
        message = "The number is missing and the code looks like a part of a 20-digit number."
        yield finding("DIGITAL_NUMBER_AS_CODE", ("code", "number"), message, found=code, proposal=whole)
        return
    if whole := _split_number(invoice):
        yield _split(f"{code}; {number}", whole)
        return
    if number is not None and not _digits(number, 8, 20):
        yield finding("NUMBER_SHAPE", ("number",), "Neither 8 nor 20 digits.", found=number)
    if code is not None and not _digits(code, 10, 12):
        yield finding("CODE_SHAPE", ("code",), "Neither 10 nor 12 digits.", found=code)
    elif code is not None and _digits(number, 20):
        yield finding("CODE_NOT_EXPECTED", ("code",), "A 20-digit number stands without a code.", found=code)
    elif code is not None and kind_of_code(code) is None and invoice.kind is not InvoiceKind.BLOCKCHAIN:
        yield finding("CODE_KIND_UNKNOWN", ("code",), "No kind of invoice has such a code.", found=code)
    yield from _regions(code, number)


def _split(read: str, whole: str) -> Finding:
    message, together = f"Together they are a digital invoice's: {whole}.", repair(number=whole, code=None)
    return finding("DIGITAL_NUMBER_SPLIT", ("code", "number"), message, found=read, proposal=together)


def _regions(code: str | None, number: str | None) -> Iterator[Finding]:
    if number is not None and _digits(number, 20):
        name, text, region, known = "number", number, number[2:4], _REGIONS | _PLAN_CITIES
    elif code is not None and _digits(code, 10, 12):
        name, text, region, known = "code", code, code[:2] if len(code) == 10 else code[1:3], _REGIONS
    else:
        return
    if region not in known:
        yield finding("REGION_UNKNOWN", (name,), f"No region is {region}.", found=text)


def _kinds(invoice: Invoice, _: date) -> Iterator[Finding]:
    said = invoice.kind
    if said is InvoiceKind.OTHER:
        message = f"The service calls it {invoice.kind_text}."
        yield finding("KIND_UNKNOWN", ("kind",), message, found=invoice.kind_text)
    flag = _flag_of_kind(invoice)
    if said not in _NEITHER and flag is not None and flag != (said in SPECIAL):
        yield _conflict(invoice, "专票" if flag else "普票")
    if _is_digital(invoice):
        if _digits(invoice.number, 20) and said not in (*_NEITHER, *DIGITAL):
            message = "A 20-digit number is a fully digital invoice's."
            yield finding("KIND_DIFFERS", ("kind", "number"), message, found=said, expected="digital_*")
        return
    told = kind_of_code(invoice.code or "")
    if told in (None, InvoiceKind.BLOCKCHAIN) or said in (*_NEITHER, told):
        return  # no table says how the flat endpoint calls a blockchain invoice
    if (told in SPECIAL) != (said in SPECIAL):
        yield _conflict(invoice, told)
    else:
        message = f"The code says {told}, the service {said}."
        yield finding("KIND_DIFFERS", ("kind", "code"), message, found=said, expected=told)


_NEITHER = (None, InvoiceKind.OTHER, InvoiceKind.BLOCKCHAIN)


def _conflict(invoice: Invoice, expected: str) -> Finding:
    message = f"The service says {invoice.kind_text}, the invoice itself {expected}."
    return finding("KIND_CONFLICTS", ("kind",), message, found=invoice.kind, expected=expected)


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
        yield finding("CHECK_CODE_NOT_EXPECTED", ("check_code",), message, found=check_code)
    elif not _digits(check_code, 20):
        yield finding("CHECK_CODE_SHAPE", ("check_code",), "Not 20 digits.", found=check_code)


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
    if kind in SPECIAL:
        fields.append("buyer_tax_id")
    if invoice.endpoint == "intsig_invoice":
        fields.append("total_in_words")
    return tuple(fields)


def _required(invoice: Invoice, _: date) -> Iterator[Finding]:
    for name in required_fields(invoice):
        # What is printed and unreadable is a finding of its own; stars instead of a tax are a value.
        if getattr(invoice, name) is None and name not in invoice.evidence:
            message = f"No {name.replace('_', ' ')} was read."
            yield finding("REQUIRED_FIELD_MISSING", (name,), message)


_NEEDS_A_PERSON = frozenset({"code", "number", "check_code", "issue_date", "amount", "tax", "total"})


def _problems(invoice: Invoice, _: date) -> Iterator[Finding]:
    for problem in invoice.problems:
        code, message = problem.code, f"Read as “{problem.text[:80]}”."
        if code == "LINES_NOT_PAIRED":
            message = f"Lines counted by column: {problem.text}. The columns are kept as they are."
        elif problem.field not in _NEEDS_A_PERSON:
            code = "DETAIL_UNPARSABLE"
        yield finding(code, (problem.field,), message, found=problem.text)
    for name, printed in invoice.evidence.items():
        if "\ufffd" in printed.text:
            yield finding("UNREADABLE_CHARACTERS", (name,), "Some characters were lost.", found=printed.text)


# ── dates ──

_FIRST_YEAR = 1994
_OLDEST_CODE_YEARS = 3


def _dates(invoice: Invoice, today: date) -> Iterator[Finding]:
    issued = invoice.issue_date
    if issued is None:
        return
    if issued.year < _FIRST_YEAR:
        yield finding("DATE_TOO_EARLY", ("issue_date",), "Before the first VAT invoice.", found=issued)
    if issued > today:
        yield finding("DATE_IN_FUTURE", ("issue_date",), f"Today is {today}.", found=issued)
    if invoice.number is not None and _digits(invoice.number, 20):
        yield from _number_year(invoice.number, issued)
    elif invoice.code is not None and _digits(invoice.code, 10, 12) and not _is_digital(invoice):
        yield from _code_year(invoice.code, issued)


def _number_year(number: str, issued: date) -> Iterator[Finding]:
    if int(number[:2]) != issued.year % 100:
        message = f"The number is of 20{number[:2]}."
        fields = ("number", "issue_date")
        yield finding("NUMBER_YEAR_DISAGREES", fields, message, found=issued, expected=f"20{number[:2]}")


def _code_year(code: str, issued: date) -> Iterator[Finding]:
    two = int(code[4:6] if len(code) == 10 else code[5:7])
    printed = 2000 + two if two < _FIRST_YEAR % 100 else 1900 + two
    fields = ("code", "issue_date")
    if printed > issued.year:
        message = f"The code is of {printed}."
        yield finding("CODE_YEAR_AFTER_DATE", fields, message, found=issued, expected=f"from {printed} on")
    elif issued.year - printed > _OLDEST_CODE_YEARS:
        yield finding("CODE_YEAR_OLD", fields, f"The code is of {printed}.", found=issued, expected=printed)


# ── amounts ──

LEGAL_RATES: tuple[Decimal, ...] = tuple(
    Decimal(percent) / 100
    for percent in ("0", "1", "1.5", "3", "4", "5", "6", "9", "10", "11", "13", "16", "17")
)
_CENT, _NOTHING = Decimal("0.01"), Decimal(0)
_FEWEST_CENTS = 2  # a real invoice of one line is off by 1.94 (46.62 at 13 %, tax 6.08)
_CENTS_A_LINE = 6  # of one line more: a real discount line is off by 2.26 (−10.02 at 13 %, tax −1.28)
_MOST_LINES = 100
_LINES_WHEN_UNKNOWN = 3  # rounding of unseen lines was measured to reach two cents


def _is_tax_free(invoice: Invoice) -> bool:
    """Stars or 免税 are printed where the tax would be."""
    unread = any(problem.field == "tax" for problem in invoice.problems)
    return invoice.tax is None and "tax" in invoice.evidence and not unread


def _sums(invoice: Invoice, _: date) -> Iterator[Finding]:
    amount, total = invoice.amount, invoice.total
    tax = _NOTHING if _is_tax_free(invoice) else invoice.tax
    if amount is None or tax is None or total is None or amount + tax == total:
        return
    expected, fields = amount + tax, ("amount", "tax", "total")
    message, mended = f"{amount} + {tax} is {expected}.", _the_wrong_one(invoice, amount, tax, total)
    yield finding("TOTAL_NOT_SUM", fields, message, found=total, expected=expected, proposal=mended)


def _the_wrong_one(invoice: Invoice, amount: Decimal, tax: Decimal, total: Decimal) -> str | None:
    """The one of the three that can be wrong alone, by the words and by the rate; None: there are several."""
    said = from_words(invoice.total_in_words or "")
    if said == amount + tax:
        return repair(total=said)
    ways = {
        "amount": (total - tax, tax, total),
        "tax": (amount, total - amount, total),
        "total": (amount, tax, amount + tax),
    }
    fits = {
        name: dict(zip(("amount", "tax", "total"), way, strict=True))[name]
        for name, way in ways.items()
        if said in (None, way[2]) and _makes_a_rate(invoice, *way[:2])
    }
    return repair(**fits) if len(fits) == 1 else None


def _makes_a_rate(invoice: Invoice, amount: Decimal, tax: Decimal) -> bool:
    """Whether this tax follows from the one rate that is printed, or from any where none is."""
    printed = {_NOTHING} if _says_exempt(invoice) else _printed_rates(invoice)
    tolerance = _CENT * max(_line_count(invoice), _FEWEST_CENTS)
    rates = printed or set(LEGAL_RATES) - {_NOTHING}
    return len(printed) < 2 and any(abs(amount * rate - tax) <= tolerance for rate in rates)


def _unconfirmed(invoice: Invoice, _: date) -> Iterator[Finding]:
    """A roll prints one amount, and one endpoint does not read it in words."""
    others = (invoice.amount, invoice.total_in_words)
    if (
        invoice.total is not None
        and others == (None, None)
        and "total_in_words" not in required_fields(invoice)
    ):
        yield finding("TOTAL_UNCONFIRMED", ("total",), "It is read once, and alone.", found=invoice.total)


def _signs(invoice: Invoice, _: date) -> Iterator[Finding]:
    values = {name: getattr(invoice, name) for name in ("amount", "tax", "total")}
    signs = {value > 0 for value in values.values() if value}
    shown = "; ".join(f"{name}={value}" for name, value in values.items() if value is not None)
    if len(signs) > 1:
        yield finding("SIGNS_DISAGREE", tuple(values), "Some are negative and some are not.", found=shown)
    elif signs == {False}:
        yield from _red(invoice)


def _red(invoice: Invoice) -> Iterator[Finding]:
    original, remarks = invoice.takes_back, invoice.remarks
    message = f"It takes back {original}." if original else "All its amounts are negative."
    yield finding("RED_INVOICE", ("total",), message, found=invoice.total, expected=original)
    # Only one of the endpoints reads remarks.
    if invoice.endpoint == "intsig_invoice" and not original and not red_form(remarks or ""):
        message = "Neither an invoice nor a form is named."
        yield finding("RED_WITHOUT_ORIGINAL", ("remarks",), message, found=remarks)


def _words(invoice: Invoice, _: date) -> Iterator[Finding]:
    if invoice.total_in_words is None:
        return
    said = from_words(invoice.total_in_words)
    fields = ("total", "total_in_words")
    if said is None:
        message = "Not an amount in words."
        yield finding("WORDS_UNREADABLE", fields[1:], message, found=invoice.total_in_words)
    elif invoice.total is not None and said != invoice.total:
        sums = invoice.amount is not None and invoice.amount + (invoice.tax or 0) == said
        yield finding(
            "WORDS_DISAGREE",
            fields,
            f"The words say {said}; {invoice.total} would be {to_words(invoice.total)}.",
            found=invoice.total,
            expected=said,
            proposal=repair(total=said) if sums else None,
        )


def _rates(invoice: Invoice, _: date) -> Iterator[Finding]:
    amount, tax = invoice.amount, invoice.tax
    printed = _printed_rates(invoice)
    for rate in sorted(printed - set(LEGAL_RATES)):
        message = f"{_percent(rate)} was never a rate."
        yield finding("TAX_RATE_ILLEGAL", ("tax_rate",), message, found=_percent(rate))
    if amount is None or tax is None or amount * tax < 0 or printed - set(LEGAL_RATES):
        return
    tolerance = _CENT * max(_line_count(invoice), _FEWEST_CENTS)
    legal = _best_rate(amount, tax, tolerance)
    by_lines = _tax_by_lines(invoice)
    if legal is None and amount and _looks_swapped(invoice, amount, tax, tolerance):
        yield _swapped(amount, tax)
    elif by_lines is not None:
        if abs(by_lines - tax) > tolerance:
            message = f"The rates of the lines give {by_lines:.2f}."
            fields = ("tax", "lines.amount", "lines.tax_rate")
            yield finding("TAX_RATE_DISAGREES", fields, message, found=tax, expected=f"{by_lines:.2f}")
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


def _looks_swapped(invoice: Invoice, amount: Decimal, tax: Decimal, tolerance: Decimal) -> bool:
    """The other way round they make a legal rate; or, of several rates, a tax that is not larger than any.

    A swap leaves their sum as it is.
    """
    larger = abs(tax) > abs(amount) and abs(amount) <= abs(tax) * max(LEGAL_RATES)
    sums = invoice.total in (None, amount + tax)
    return sums and (larger or bool(_best_rate(tax, amount, tolerance)))


def _swapped(amount: Decimal, tax: Decimal) -> Finding:
    message = f"{amount} ÷ {tax} is {amount / tax:.4f}: amount and tax look swapped."
    swap = repair(amount=tax, tax=amount)
    return finding("AMOUNT_TAX_SWAPPED", ("amount", "tax"), message, found=f"{amount}; {tax}", proposal=swap)


def _tax_by_lines(invoice: Invoice) -> Decimal | None:
    """What the lines' own rates give, when every line has one and the lines add up to the amount."""
    if not invoice.lines or invoice.amount is None:
        return None
    taxes: list[Decimal] = []
    for line in invoice.lines:
        rate = line.tax_rate if line.tax_rate is not None else Decimal(0) if line.tax_rate_text else None
        if line.amount is None or rate is None:
            return None
        taxes.append(line.amount * rate)
    return sum(taxes, Decimal(0)) if _sum_of(invoice.lines, "amount") == invoice.amount else None


def _against_printed(
    amount: Decimal, tax: Decimal, rates: set[Decimal], tolerance: Decimal
) -> Iterator[Finding]:
    lowest, highest = sorted((amount * min(rates), amount * max(rates)))
    if lowest - tolerance <= tax <= highest + tolerance:
        return
    expected = " to ".join(dict.fromkeys(f"{bound:.2f}" for bound in (lowest, highest)))
    message = f"{amount} at {', '.join(map(_percent, sorted(rates)))} is {expected}."
    yield finding("TAX_RATE_DISAGREES", ("amount", "tax", "tax_rate"), message, found=tax, expected=expected)


def _no_rate(amount: Decimal, tax: Decimal) -> Finding:
    quotient = tax / amount if amount else None
    possible = quotient is not None and 0 <= quotient <= max(LEGAL_RATES)
    code = "TAX_RATE_UNCERTAIN" if possible else "TAX_RATE_ILLEGAL"
    message = "There is no amount to tax." if quotient is None else f"{tax} ÷ {amount} is {quotient:.4f}."
    return finding(code, ("amount", "tax"), message, found=tax)


def _percent(rate: Decimal) -> str:
    return f"{(rate * 100).normalize():f}%"


# ── lines ──


def _line_sums(invoice: Invoice, _: date) -> Iterator[Finding]:
    for name in ("amount", "tax"):
        header, total = getattr(invoice, name), _sum_of(invoice.lines, name)
        if header is None or total is None or total == header:
            continue
        rounded = len(invoice.lines) > 1 and abs(total - header) <= _CENT * len(invoice.lines)
        code = "LINES_SUM_ROUNDED" if rounded else "LINES_SUM_DISAGREES"
        fields = (name, f"lines.{name}")
        yield finding(code, fields, f"The lines add up to {total}.", found=header, expected=total)


def _sum_of(lines: tuple[Line, ...], name: str) -> Decimal | None:
    """None when a line has no amount; a tax-free line has no tax, and prints stars."""
    read = [value for line in lines if (value := getattr(line, name)) is not None]
    whole = len(read) == len(lines) or name == "tax"
    return sum(read, Decimal(0)) if read and whole else None


def _each_line(invoice: Invoice, _: date) -> Iterator[Finding]:
    for line in invoice.lines:
        yield from _line_tax(line)
        yield from _line_product(line)
    yield from _discounts(invoice)


def _line_tax(line: Line) -> Iterator[Finding]:
    if line.amount is None or line.tax is None or line.tax_rate is None:
        return
    expected = line.amount * line.tax_rate
    if abs(expected - line.tax) > _CENT * _CENTS_A_LINE:
        message = f"Line {line.number}: {line.amount} at {_percent(line.tax_rate)} is {expected:.2f}."
        fields = _of_line(line, "amount", "tax", "tax_rate")
        yield finding("LINE_TAX_DISAGREES", fields, message, found=line.tax, expected=f"{expected:.2f}")


def _line_product(line: Line) -> Iterator[Finding]:
    """The unit price may be rounded: half of its last printed place, as often as there are goods."""
    if line.amount is None or line.quantity is None or line.unit_price is None:
        return
    expected = line.quantity * line.unit_price
    exponent = line.unit_price.as_tuple().exponent
    last_place = Decimal(1).scaleb(exponent if isinstance(exponent, int) else 0)
    if abs(expected - line.amount) > _CENT + abs(line.quantity) * last_place / 2:
        fields, product = _of_line(line, "quantity", "unit_price", "amount"), f"{expected:.2f}"
        message = f"Line {line.number}: {line.quantity} × {line.unit_price} is {product}."
        yield finding("LINE_PRODUCT_DISAGREES", fields, message, found=line.amount, expected=product)


def _discounts(invoice: Invoice) -> Iterator[Finding]:
    """A discount stands below what it is a discount on: same name, the other sign, no quantity, not more."""
    red = (invoice.amount or invoice.total or 0) < 0
    for above, line in zip((None, *invoice.lines), invoice.lines, strict=False):
        is_discount = bool(line.amount) and ((line.amount or 0) < 0) is not red
        if is_discount and not (above and line.quantity is None and _takes_off(line, above)):
            message = f"Line {line.number} takes {line.amount} off, and not off the line above it."
            yield finding("DISCOUNT_LINE_ODD", _of_line(line, "amount"), message, found=line.amount)


def _takes_off(discount: Line, line: Line) -> bool:
    same = plain(discount.name or "") == plain(line.name or "")
    return same and abs(discount.amount or _NOTHING) <= abs(line.amount or _NOTHING)


def _of_line(line: Line, *names: str) -> tuple[str, ...]:
    return tuple(f"lines.{line.number}.{name}" for name in names)


# ── tax ids ──


def _tax_ids(invoice: Invoice, _: date) -> Iterator[Finding]:
    for name in ("buyer_tax_id", "seller_tax_id"):
        tax_id = getattr(invoice, name)
        if tax_id is not None:
            yield from _tax_id(name, tax_id)
    if invoice.buyer_tax_id is not None and invoice.buyer_tax_id == invoice.seller_tax_id:
        fields = ("buyer_tax_id", "seller_tax_id")
        yield finding("PARTIES_EQUAL", fields, "Buyer and seller are one.", found=invoice.buyer_tax_id)


def _tax_id(name: str, tax_id: str) -> Iterator[Finding]:
    if len(tax_id) not in LENGTHS:
        yield finding("TAX_ID_LENGTH", (name,), f"{len(tax_id)} characters.", found=tax_id)
    elif strange := strange_characters(tax_id):
        message = f"Not in the alphabet of tax ids: {strange}."
        yield finding("TAX_ID_CHARACTERS", (name,), message, found=tax_id, proposal=_looks_like(name, tax_id))
    elif len(tax_id) == 18 and not holds(tax_id):
        message, mended = "The check digits do not hold.", _looks_like(name, tax_id)
        yield finding("TAX_ID_CHECK_DIGIT", (name,), message, found=tax_id, proposal=mended)
    elif len(tax_id) == 15 and not holds_organisation(tax_id[6:]):
        message = "The organisation code's check digit does not hold (a sole trader's id has none)."
        yield finding("TAX_ID_OLD_CHECK_DIGIT", (name,), message, found=tax_id)


def _looks_like(name: str, tax_id: str) -> str | None:
    mended = repaired_tax_id(tax_id)
    return mended and repair(**{name: mended})


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
        yield finding("READING_UNUSABLE", (name, key), f"{key} was read as “{text[:80]}”.", found=text)
    elif other != value:
        message = f"{key} says {other}."
        yield finding("READINGS_DISAGREE", (name, key), message, found=value, expected=other)


def _printed_total(invoice: Invoice, text: str) -> Iterator[Finding]:
    """JD does not say whether 打印合计 is before tax or after: either will do."""
    other, fields = money(text), ("amount", _PRINTED_TOTAL)
    if other is None:
        yield finding("READING_UNUSABLE", fields, f"{_PRINTED_TOTAL} was read as “{text[:80]}”.", found=text)
    elif other not in (invoice.amount, invoice.total):
        message = f"{_PRINTED_TOTAL} says {other}."
        yield finding("READINGS_DISAGREE", fields, message, found=invoice.amount, expected=other)


_STEPS: tuple[Callable[[Invoice, date], Iterator[Finding]], ...] = (
    _required,
    _problems,
    _shapes,
    _kinds,
    _check_codes,
    _dates,
    _sums,
    _unconfirmed,
    _signs,
    _rates,
    _words,
    _tax_ids,
    _duplicates,
    _line_sums,
    _each_line,
)
