"""What a person sees of a document in doubt: a subject, a text in Markdown, the fields of a form.

What an invoice prints is anybody's text: in the Markdown it is text and nothing else, no link, no picture,
no table of its own. Of an object only its URI is shown, never a signed one. Knows no Airflow.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from airflow_provider_jdocr.core.errors import ConfigurationError
from airflow_provider_jdocr.core.findings import Severity
from airflow_provider_jdocr.core.parsing import InvoiceKind
from airflow_provider_jdocr.core.review import CORRECTABLE, Doubtful, as_typed
from airflow_provider_jdocr.review_answers import APPROVE, CORRECT, LATER, REJECT

NOTE = "note"
SHOWN = "shown"
"""The field that nobody sees: of which document, and of which state of it, the form is."""

LABELS: Mapping[str, str] = {
    "kind": "发票类型 Kind",
    "code": "发票代码 Code",
    "number": "发票号码 Number",
    "issue_date": "开票日期 Issue date",
    "check_code": "校验码 Check code",
    "machine_number": "机器编号 Machine number",
    "buyer_name": "购买方名称 Buyer",
    "buyer_tax_id": "购买方税号 Buyer's tax id",
    "buyer_address_phone": "购买方地址、电话 Buyer's address, phone",
    "buyer_bank_account": "购买方开户行及账号 Buyer's bank account",
    "seller_name": "销售方名称 Seller",
    "seller_tax_id": "销售方税号 Seller's tax id",
    "seller_address_phone": "销售方地址、电话 Seller's address, phone",
    "seller_bank_account": "销售方开户行及账号 Seller's bank account",
    "amount": "金额 Amount before tax",
    "tax": "税额 Tax",
    "total": "价税合计 Total",
    "total_in_words": "价税合计（大写） Total in words",
    "tax_rate": "税率 Tax rate",
    "remarks": "备注 Remarks",
    "payee": "收款人 Payee",
    "reviewer": "复核 Reviewer",
    "drawer": "开票人 Drawer",
    "stamp": "发票专用章 Stamp",
}
"""Every field as the invoice prints it, so that it is found on the picture, and in English."""

_KINDS: Mapping[str, str] = {
    InvoiceKind.SPECIAL_PAPER: "增值税专用发票",
    InvoiceKind.COMMON_PAPER: "增值税普通发票",
    InvoiceKind.COMMON_ELECTRONIC: "增值税电子普通发票",
    InvoiceKind.SPECIAL_ELECTRONIC: "增值税电子专用发票",
    InvoiceKind.ROLL: "增值税普通发票（卷票）",
    InvoiceKind.TOLL: "通行费电子普通发票",
    InvoiceKind.DIGITAL_SPECIAL: "数电票（专用）",
    InvoiceKind.DIGITAL_COMMON: "数电票（普通）",
    InvoiceKind.BLOCKCHAIN: "区块链电子发票",
    InvoiceKind.OTHER: "其他 other",
}
_ALWAYS = (
    *("kind", "code", "number", "issue_date", "check_code", "buyer_name", "buyer_tax_id"),
    *("seller_name", "seller_tax_id", "amount", "tax", "total"),
)
_LONGEST_CELL = 160
_MOST_URIS = 5


def subject(document: Doubtful) -> str:
    """One line that tells this document from the others of a list."""
    read = document.invoice
    number = " ".join(filter(None, (read.code, read.number))) or document.uris[0].rpartition("/")[2]
    errors = sum(each.severity is Severity.ERROR for each in document.findings)
    parts = (number, read.seller_name, read.total and f"¥{read.total}", f"{errors} error{'s'[: errors != 1]}")
    return " · ".join(_one_line(str(part)) for part in parts if part)


def body(document: Doubtful, picture_url: str | None = None) -> str:
    """What is printed, read, found and proposed, and what each answer does, in Markdown."""
    parts = (
        _pictures(document, picture_url),
        _booked(document),
        _values(document),
        _findings(document),
        _WHAT_THE_ANSWERS_DO,
    )
    return "\n\n".join(filter(None, parts))


def fields_of_form(document: Doubtful) -> tuple[str, ...]:
    """What books an invoice, and whatever else is in doubt, in the order of a row."""
    wanted = {*_ALWAYS, *_in_doubt(document)}
    return tuple(name for name in CORRECTABLE if name in wanted)


def _in_doubt(document: Doubtful) -> set[str]:
    """The fields that an error is about, or for which there is a proposal."""
    errors = (each for each in document.findings if each.severity is Severity.ERROR)
    return {*document.proposals, *(name for each in errors for name in each.fields)}


def prefilled(document: Doubtful) -> dict[str, str]:
    """Field → the text that stands in the form: the one proposal, else the value that was read."""
    proposals = document.proposals
    return {name: proposals.get(name, as_typed(document.invoice, name)) for name in fields_of_form(document)}


def form(document: Doubtful) -> dict[str, dict[str, Any]]:
    """Field → what Airflow's form wants to know of it; what is in doubt comes first.

    Texts all, since JavaScript has no 20-digit number.
    """
    doubted, texts = _in_doubt(document), prefilled(document)
    entries = {
        name: {
            "value": texts[name] or None,
            "description": _hint(document, name),
            "schema": {
                "type": ["null", "string"],
                "title": _label(name, doubted),
                **_SCHEMAS.get(name, {}),
            },
        }
        for name in sorted(texts, key=lambda name: name not in doubted)
    }
    note = {"type": ["null", "string"], "title": "审核说明 Your note", "format": "multiline"}
    token = shown(document.document_id, document.seen)
    return {
        **entries,
        NOTE: {"value": None, "description": "Kept with the decision.", "schema": note},
        SHOWN: {"value": token, "description": None, "schema": {"type": "string", "const": token}},
    }


def shown(document_id: str, seen: str) -> str:
    return f"{document_id}/{seen}"


def _label(name: str, doubted: set[str]) -> str:
    return f"{_MARKS[Severity.ERROR]} {LABELS[name]}" if name in doubted else LABELS[name]


def changes(document: Doubtful, answered: Mapping[str, Any]) -> dict[str, str]:
    """What the form says otherwise than the document."""
    texts = {name: _typed(value) for name, value in answered.items() if name in CORRECTABLE}
    return {name: text for name, text in texts.items() if text != as_typed(document.invoice, name)}


def edited(document: Doubtful, answered: Mapping[str, Any]) -> list[str]:
    """The fields that are not as the form came."""
    before = prefilled(document)
    return [name for name, value in answered.items() if name in before and _typed(value) != before[name]]


def _typed(value: object) -> str:
    return "" if value is None else str(value).strip()


_YES_NO = {"yes": "有 yes", "no": "无 no"}
_SCHEMAS: Mapping[str, Mapping[str, Any]] = {
    "stamp": {"enum": [None, *_YES_NO], "values_display": _YES_NO},
    "kind": {"enum": [None, *map(str, InvoiceKind)], "values_display": dict(_KINDS)},
    "issue_date": {"format": "date"},
    "remarks": {"format": "multiline"},
}


def _hint(document: Doubtful, name: str) -> str | None:
    """What stood there before a proposal took its place; how it is to be typed."""
    said = _EXAMPLES.get(name)
    if name in document.proposals:
        said = f"Proposed 建议值. Read as 识别为: {_one_line(as_typed(document.invoice, name)) or '—'}"
    return said


_EXAMPLES: Mapping[str, str] = {
    **dict.fromkeys(("amount", "tax", "total"), "例如 e.g. 1234.50"),
    "tax_rate": "例如 e.g. 13%",
}


# ── the text ──


def _pictures(document: Doubtful, picture_url: str | None) -> str:
    uris = [_shown(uri) for uri in document.uris]
    named = "\n".join(f"- {text(uri)}" for uri in uris[:_MOST_URIS])
    more = f"\n- and {len(uris) - _MOST_URIS} more" if len(uris) > _MOST_URIS else ""
    if not picture_url:
        return named + more
    url = link(picture_url, uris[0])
    return f"[![{text(uris[0])}]({url})]({url})\n\n点击图片放大 Click to enlarge\n\n{named}{more}"


def _shown(uri: str) -> str:
    """Without what may be secret in it: a user's name, a password, a signature."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        return uri
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def link(template: str, uri: str) -> str:
    """The address of an object, such as ``https://pictures.example.com/{bucket}/{key}`` makes it."""
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    values = {"scheme": scheme, "bucket": bucket, "key": key}
    try:
        url = template.format(**{name: quote(value, safe="/") for name, value in values.items()})
    except (KeyError, IndexError, ValueError, AttributeError):
        url = ""
    if not re.fullmatch(r"https?://[^\s()<>]+", url):
        raise ConfigurationError(
            f"picture_url: {template!r} is no address with {{bucket}} and {{key}} in it, such as "
            "https://pictures.example.com/{bucket}/{key}. Correct it.",
            field="picture_url",
        )
    return url


def _booked(document: Doubtful) -> str:
    if (booked := document.booked) is None:
        return ""
    when = f"{booked.reviewed_at:%Y-%m-%d %H:%M} UTC"
    return f"**Its invoice was {booked.review_status} by {text(str(booked.reviewed_by))}** at {when}."


def _values(document: Doubtful) -> str:
    doubted = _in_doubt(document)
    printed, proposals = document.invoice.evidence, document.proposals
    rows = (
        (
            _label(name, doubted),
            text(printed[name].text) if name in printed else "",
            text(_for_people(name, as_typed(document.invoice, name))),
            f"**{text(proposals[name] or '(empty)')}**" if name in proposals else "",
        )
        for name in fields_of_form(document)
    )
    return _table(("▲ = 有疑问 in doubt", "Printed 票面", "Read as 识别为", "Proposed 建议"), rows)


def _for_people(name: str, value: str) -> str:
    return _KINDS.get(value, value) if name == "kind" else value


_MARKS = {Severity.ERROR: "▲", Severity.WARNING: "△", Severity.INFO: "○"}


def _findings(document: Doubtful) -> str:
    ordered = sorted(document.findings, key=lambda each: list(_MARKS).index(each.severity))
    rows = (
        (
            f"{_MARKS[each.severity]} {text(each.code)}",
            text(each.message),
            text(each.found or ""),
            text(each.expected or ""),
        )
        for each in ordered
    )
    return _table(("What the checks found", "", "Found", "Expected"), rows)


_WHAT_THE_ANSWERS_DO = f"""\
- **{APPROVE}** 按识别结果通过: what was read is right; no proposal is taken.
- **{CORRECT}** 按表单保存: the form is right. Proposals stand in it already; correct the rest. A value that
  cannot be read is asked for again, and the log of the task says why.
- **{REJECT}** 驳回: this document is not to be booked.
- **{LATER}** 稍后: nothing is decided, the next run asks again."""


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = tuple(head)
    lines = [head, tuple("---" for _ in head), *map(tuple, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


_MARKUP = re.compile(r"""([!-/:-@\[-`{-~])""")


def text(value: str) -> str:
    """Any text as Markdown that shows it and nothing else."""
    short = _one_line(value)
    short = short if len(short) <= _LONGEST_CELL else f"{short[: _LONGEST_CELL - 1]}…"
    # What looks like an address is made a link of even where every character is escaped.
    unlinked = re.sub(r"(?i)(https?:(?=//)|www(?=\.)|@)", "\\1\u2060", short)
    return _MARKUP.sub(r"\\\1", unlinked)


def _one_line(value: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in value).split())
