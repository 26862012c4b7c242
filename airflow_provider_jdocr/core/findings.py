"""What a rule says when it does not hold: the record, and the table of all rules with their severities.

Codes are stable: a rule may get better, its code keeps its meaning. A proposal is a repair that a person may
accept: ``field=value``, several of them parted by ``; ``, an empty value for a field to be emptied.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

LONGEST_TEXT = 500
"""Characters of each text of a finding; the whole of it is in the invoice's evidence."""


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
            ("DIGITAL_NUMBER_SPLIT", _E, "code and number are the two parts of a digital invoice's number"),
            ("CODE_NOT_EXPECTED", _W, "a fully digital invoice has no code"),
            ("CODE_KIND_UNKNOWN", _W, "the kind of invoice cannot be told from the code"),
            ("REGION_UNKNOWN", _W, "code or digital number names a region that does not exist"),
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
            ("TOTAL_UNCONFIRMED", _W, "nothing else in the answer says what the total is"),
            ("SIGNS_DISAGREE", _E, "amount, tax and total are all negative (a red invoice) or none is"),
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
            ("PARTIES_EQUAL", _W, "buyer and seller have the same tax id"),
            ("BUYER_UNKNOWN", _E, "the buyer is none of those that the author named"),
            ("BUYER_TAX_ID_DIFFERS", _E, "a buyer that the author named, with another tax id"),
            ("BUYER_NAME_DIFFERS", _W, "a buyer that the author named, under another name"),
            ("RED_INVOICE", _I, "a red invoice: it takes back another one"),
            ("RED_WITHOUT_ORIGINAL", _W, "a red invoice whose remarks do not say what it takes back"),
            ("READINGS_DISAGREE", _E, "a fact printed twice was read in two ways"),
            ("READING_UNUSABLE", _I, "the second print of a fact was read as something else"),
            ("QR_DISAGREES", _E, "the QR code says otherwise than the answer"),
            (
                "QR_OTHER_INVOICE",
                _E,
                "the QR code is another invoice's: it agrees in nothing",
            ),
            ("QR_SEVERAL_INVOICES", _E, "the picture shows several invoices, of which one was answered"),
            ("QR_NO_VAT_INVOICE", _E, "by its QR code the picture shows another document"),
            ("QR_HAS_MORE", _I, "the QR code holds a fact that was not read"),
            ("QR_UNUSABLE", _I, "the picture's QR code is none that an answer can be held against"),
            ("LINES_NOT_PAIRED", _W, "the columns of the table count different lines, so no lines were made"),
            ("LINES_SUM_DISAGREES", _W, "the lines do not add up to the header"),
            ("LINES_SUM_ROUNDED", _I, "the lines add up to the header but for a cent a line"),
            ("LINE_TAX_DISAGREES", _W, "amount times rate is not the tax of a line"),
            ("LINE_PRODUCT_DISAGREES", _W, "quantity times unit price is not the amount of a line"),
            ("DISCOUNT_LINE_ODD", _W, "a discount that is none of the line above it"),
            ("REPAIRED", _W, "a value was replaced by a repair that the author switched on"),
        )
    }
)


def finding(
    code: str,
    fields: tuple[str, ...],
    message: str,
    *,
    found: object = None,
    expected: object = None,
    proposal: str | None = None,
) -> Finding:
    """A finding of the table, its texts cut to what a database takes."""
    texts = [None if value is None else str(value)[:LONGEST_TEXT] for value in (found, expected, proposal)]
    return Finding(code, CHECKS[code].severity, fields, message[:LONGEST_TEXT], *texts)


def review_status(findings: Iterable[Finding]) -> str:
    """``review`` when a person must look before the row is used, else ``clear``."""
    return "review" if any(each.severity is Severity.ERROR for each in findings) else "clear"


def repair(**values: object) -> str:
    """A repair as a finding proposes it; None empties a field."""
    return "; ".join(f"{name}={'' if value is None else value}" for name, value in values.items())


def texts_of_repair(proposed: str) -> dict[str, str]:
    """What a repair puts into which field; an empty text empties it."""
    parts = _FIELD.split(proposed)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


_FIELD = re.compile(r"(?:^|; )([a-z_]+)=")
