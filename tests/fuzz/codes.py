"""The text of a QR code, whatever it is: an invoice's or not, and the same again after it was stored.

Declared: ``parse_code`` gives an ``InvoiceCode`` whose values every column takes, or an ``OtherCode``; one
code seen twice is one invoice.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from decimal import Decimal

from airflow_provider_jdocr.core.qr import (
    InvoiceCode,
    OtherCode,
    Says,
    all_codes,
    from_text,
    parse_code,
    to_text,
)
from tests.fuzz import mutate
from tests.fuzz.run import Breach, Outcome

_FIELDS = (
    *("01", "02", "1", "04", "08", "10", "11", "14", "31", "32", "51", "61", "99", ""),
    *(
        "1100184130",
        "012001800311",
        "144031909110",
        "33207675",
        "23122000000997423667",
        "76939056883466677916",
    ),
    *(
        "46.62",
        "6.2",
        "-6.20",
        "1,000.00",
        "20190508",
        "2019-05-08",
        "20190230",
        "91440300708437873H",
        "E1BD",
    ),
)
_LINK = "https://bcfp.shenzhen.chinatax.gov.cn/verify/scan?hash=0a&bill_num=05830164&total_amount=500"


class Codes:
    """A text → an invoice's code or another."""

    name = "codes"
    seconds = 2.0
    megabytes = 200

    def seeds(self) -> list[str]:
        return [
            "01,10,012001800311,33207675,46.62,20190508,76939056883466677916,E1BD,",
            "01,01,1100184130,33207675,46.62,20190508,,6915",
            "01,32,,23122000000997423667,1529.88,20230619,,9133",
            "01,10,144031909110,01034285,91440300708437873H,5.45,20190320,0a0a0a",
            "01,51,,26339132621000219582,56.00,20260423,,219a",
            _LINK,
        ]

    def new(self, rng: random.Random, seeds: Sequence[str]) -> str:
        text = rng.choice(seeds)
        for _ in range(rng.choice((1, 1, 2, 3))):
            if rng.random() < 0.5:
                fields = text.split(",")
                fields[rng.randrange(len(fields))] = rng.choice(_FIELDS)
                text = ",".join(fields)
            else:
                text = mutate.mutated_text(rng, text)
        return text

    def judge(self, given: str) -> Outcome:
        found = parse_code(given)
        # Decoders give no lone surrogates; two of them beside each other come back as one character.
        decoded = given.encode("utf-8", "replace").decode()
        if from_text(to_text([decoded])) != (decoded,):
            raise Breach("what is stored does not come back")
        if all_codes([given, given]).invoices != ((found,) if isinstance(found, InvoiceCode) else ()):
            raise Breach("one code twice is not one invoice")
        if isinstance(found, OtherCode):
            return Outcome(found.says, found.what if found.says is not Says.LINK else None)
        _check(found)
        empty = tuple(
            value is None for value in (found.code, found.amount, found.issue_date, found.check_code)
        )
        return Outcome("invoice", (found.kind, found.amount_is, len(found.number), empty))


def _check(found: InvoiceCode) -> None:
    digits = [each for each in (found.code, found.number, found.check_code) if each is not None]
    if not all(each.isascii() and each.isdecimal() for each in digits):
        raise Breach(f"no digits: {digits}")
    if found.amount is not None and not (
        abs(found.amount) < Decimal(10**16) and found.amount.as_tuple()[2] == -2
    ):
        raise Breach(f"no amount of money: {found.amount}")
