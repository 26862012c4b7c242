"""The tables of the documents, made from the code: `python -m tests.docs_tables --write` writes them.

A document marks the place of a table with a pair of comments, `<!-- table: NAME -->` and
`<!-- end of table -->`; a test holds what stands between them against what the code gives now. A page in
Chinese has the tables of `CHINESE`, and all others as they are.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from functools import cache, partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from airflow_provider_jdocr.core.auditing import RULES
from airflow_provider_jdocr.core.documents import HEADER, LOADING_FINDINGS
from airflow_provider_jdocr.core.endpoints import ENDPOINTS, Endpoint
from airflow_provider_jdocr.core.engines import DIALECTS
from airflow_provider_jdocr.core.errors import CODES, LAYERS
from airflow_provider_jdocr.core.examining import REPAIRS
from airflow_provider_jdocr.core.findings import CHECKS
from airflow_provider_jdocr.core.parsing import OCR_INVOICE_KINDS, Invoice, InvoiceKind, parse
from airflow_provider_jdocr.core.planning import FATES, PARTS
from airflow_provider_jdocr.core.prices import PACKS, price_of
from airflow_provider_jdocr.core.pruning import KINDS
from airflow_provider_jdocr.core.tables import Tables
from airflow_provider_jdocr.core.warehouse import Warehouse
from airflow_provider_jdocr.server.contracts import DESCRIPTIONS
from tests.benchmarks import chinese as benchmarks_in_chinese
from tests.benchmarks import tables as benchmarks
from tests.docs_chinese import FINDINGS, chinese
from tests.docs_columns import KINDS as KINDS_IN_CHINESE
from tests.docs_columns import meaning

DOCS = Path(__file__).resolve().parent.parent / "docs"
MARKED = re.compile(r"(<!-- table: ([a-z_]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)

# The documented keys with JD's own words for them, in JD's order.
OCR_INVOICE_KEYS = {
    "buyer_name": "购买方名称",
    "buyer_tax_no": "购买方税号",
    "code": "发票代码",
    "invoice_amount": "发票金额",
    "invoice_date": "开票日期",
    "invoice_no": "发票号码",
    "invoice_type": "发票类型",
    "saler_name": "销售方名称",
    "saler_tax_no": "销售方税号",
    "tax_amount": "发票税额",
    "total_amount": "价格合计",
    "verify_code": "校验码",
}
KEYS = {"ocr_invoice": OCR_INVOICE_KEYS, "intsig_invoice": DESCRIPTIONS}


def table(headings: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table; a bar inside a cell is escaped."""
    heads = list(headings)
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(
        f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines
    )


_ENDPOINT = (
    "endpoint",
    "URL",
    "auth",
    "body",
    "formats",
    "bytes, fewer than",
    "shorter side, px",
    "limits from",
)
_IN_CHINESE = ("接口", "URL", "auth", "body", "格式", "字节数，小于", "短边，像素", "限制出自")


def endpoints(heads: Iterable[str] = _ENDPOINT) -> str:
    rows = (
        (
            f"`{row.name}`",
            f"`{row.base_url}{row.path}`",
            f"`{row.auth}`",
            f"`{row.body_encoding}`",
            ", ".join(sorted(row.formats)),
            f"{row.max_bytes:_}",
            row.min_side_pixels,
            row.limits_source,
        )
        for row in ENDPOINTS.values()
    )
    return table(heads, rows)


def doors(heads: Iterable[str] = ("endpoint", "auth", "URL")) -> str:
    rows = (
        (f"`{row.name}`", f"`{auth}`", f"`{base_url}{row.path}`")
        for row in ENDPOINTS.values()
        for auth, base_url in ((row.auth, row.base_url), *row.other_doors)
    )
    return table(heads, rows)


def codes(layer: str) -> str:
    rows = (
        (
            f"`{code.code}`",
            code.meaning,
            f"`{code.verdict}`",
            "may be" if code.chargeable else "never",
            code.advice,
        )
        for code in CODES.values()
        if code.layer == layer
    )
    return table(("code", "meaning", "verdict", "charged", "what to do"), rows)


def checks() -> str:
    rows = ((f"`{code}`", f"`{rule.severity}`", rule.meaning) for code, rule in CHECKS.items())
    return table(("code", "severity", "meaning"), rows)


def loading_findings() -> str:
    rows = ((f"`{code}`", f"`{severity}`", meaning) for code, (severity, meaning) in LOADING_FINDINGS.items())
    return table(("code", "severity", "meaning"), rows)


def repairs() -> str:
    return table(("finding", "what is done"), ((f"`{code}`", what) for code, what in REPAIRS.items()))


def chinese_repairs() -> str:
    return table(("问题", "怎么改"), ((f"`{code}`", chinese(what)) for code, what in REPAIRS.items()))


def chinese_codes(layer: str) -> str:
    rows = (
        (
            f"`{code.code}`",
            chinese(code.meaning),
            f"`{code.verdict}`",
            "可能" if code.chargeable else "从不",
            chinese(code.advice),
        )
        for code in CODES.values()
        if code.layer == layer
    )
    return table(("代码", "含义", "判定", "扣费", "怎么办"), rows)


def chinese_findings(severities: Mapping[str, object]) -> str:
    rows = ((f"`{code}`", f"`{severity}`", FINDINGS[code]) for code, severity in severities.items())
    return table(("代码", "程度", "含义"), rows)


def packs() -> str:
    """The same for readers of English and of Chinese."""
    rows = (
        (f"`{name}`", f"{calls:_}", f"{yuan:_}", f"{price_of(name).normalize():f}")
        for name, (calls, yuan) in PACKS.items()
    )
    return table(("pack 套餐", "calls 次数", "yuan 元", "yuan a call 元/次"), rows)


def prunable() -> str:
    rows = (
        (f"`{kind.name}`", kind.what, kind.lost, "only by name" if kind.by_name_only else "yes")
        for kind in KINDS.values()
    )
    return table(("what", "is", "lost", "by default"), rows)


def fates() -> str:
    rows = ((f"`{name}`", meaning) for name, meaning in {**FATES, **PARTS}.items())
    return table(("fate", "an image that"), rows)


def audit_rules() -> str:
    return table(("code", "what holds"), ((f"`{code}`", rule) for code, rule in RULES.items()))


@cache
def warehouse_columns() -> Mapping[str, tuple[sa.Column[Any], ...]]:
    """Tables and view of the warehouse with their columns; what documents and invoices share is `header`."""
    tables = Tables(None, "")
    parts = {
        name: tuple(getattr(tables, name).columns)
        for name in ("documents", "invoices", "lines", "findings", "reviews")
    }
    own = {
        name: tuple(each for each in columns if each.name not in HEADER)
        if name in ("documents", "invoices")
        else columns
        for name, columns in parts.items()
    }
    return {**own, "header": tuple(tables.invoices.columns[name] for name in HEADER)}


@cache
def view_columns() -> tuple[str, ...]:
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    Warehouse(engine).create()
    return tuple(column["name"] for column in sa.inspect(engine).get_columns("jdocr_tax_check"))


def _type(column: sa.Column[Any], dialect: str) -> str:
    return column.type.compile(dialect=DIALECTS[dialect]())


def _whether(column: sa.Column[Any]) -> tuple[str, str]:
    if column.primary_key:
        return "key", "键"
    return ("may be empty", "可为空") if column.nullable else ("", "")


def columns(table_name: str, language: int) -> str:
    rows = (
        (
            f"`{each.name}`",
            f"`{_type(each, 'postgresql')}`",
            _whether(each)[language],
            meaning(table_name, each.name, language),
        )
        for each in warehouse_columns()[table_name]
    )
    return table((("column", "type", "", "meaning"), ("列", "类型", "", "含义"))[language], rows)


def tax_check_columns(language: int) -> str:
    rows = ((f"`{name}`", meaning("tax_check", name, language)) for name in view_columns())
    return table((("column", "meaning"), ("列", "含义"))[language], rows)


def column_types() -> str:
    """How each type is called in each database; the same for readers of English and of Chinese."""
    every = [each for found in warehouse_columns().values() for each in found]
    rows = {
        tuple(f"`{_type(each, name)}`" for name in ("postgresql", "mysql", "sqlite")): None for each in every
    }
    return table(("PostgreSQL", "MySQL, MariaDB", "SQLite"), sorted(rows))


def invoice_kinds() -> str:
    digits = {kind: text for text, kind in OCR_INVOICE_KINDS.items()}
    rows = ((f"`{kind}`", digits.get(kind, ""), KINDS_IN_CHINESE[kind]) for kind in InvoiceKind)
    return table(("`kind`", "`invoice_type`", "发票种类"), rows)


@cache
def tried_out() -> list[dict[str, Any]]:
    """Every bad input with what it led to; takes some twenty seconds."""
    command = [sys.executable, "-m", "tests.bad_input"]
    done = subprocess.run(command, cwd=DOCS.parent, check=True, stdout=subprocess.PIPE)
    rows: list[dict[str, Any]] = json.loads(done.stdout[done.stdout.index(b"[\n {") :])
    return rows


def bad_input() -> str:
    return "\n".join(
        f"**{row['what']}**: {row['calls']} calls, {row['charged']} charged, the task {row['ending']}\n"
        + ("\n```text\n" + "\n".join(row["says"]) + "\n```\n" if row["says"] else "")
        for row in tried_out()
    )


def chinese_bad_input() -> str:
    return "\n".join(
        f"**{chinese(row['what'])}**：调用 {row['calls']} 次，扣费 {row['charged']} 次，"
        f"任务{chinese(row['ending'])}\n"
        + ("\n```text\n" + "\n".join(row["says"]) + "\n```\n" if row["says"] else "")
        for row in tried_out()
    )


def _reply(endpoint: Endpoint, key: str, text: str) -> bytes:
    if endpoint.parser == "ocr_invoice":
        business: dict[str, Any] = {"code": 0, "message": "success", "result": {key: text}}
    else:
        item = {"key": key, "value": text, "position": [], "confidence": 1, "description": ""}
        business = {"code": 200, "message": "success", "result": {"item_list": [item]}}
    return json.dumps(business).encode()


def _sample(key: str) -> str:
    """A text that a field of this name can hold."""
    if "date" in key:
        return "2024年05月06日"
    if key == "exist_stample":
        return "1"
    if "rate" in key and "payer" not in key:
        return "13%"
    if "cover_tax" in key and "digits" not in key:
        return "壹佰圆整"
    if re.search(r"amount|total|price|tax_list|quantity|digits", key) and "note" not in key:
        return "100.00"
    return "04" if key == "invoice_type" else "样本"


def places(endpoint: Endpoint, key: str) -> list[str]:
    """Where the value of a key is found after parsing, tried out: fields of the invoice or of its lines."""
    empty, filled = (
        parse(endpoint, _reply(endpoint, "", "")),
        parse(endpoint, _reply(endpoint, key, _sample(key))),
    )
    names = [
        field.name
        for field in fields(Invoice)
        if field.name not in {"evidence", "details", "problems", "lines"}
    ]
    found = [f"`{name}`" for name in names if getattr(filled, name) != getattr(empty, name)]
    if filled.lines:
        line = filled.lines[0]
        found += [
            f"lines: `{f.name}`"
            for f in fields(line)
            if f.name != "number" and getattr(line, f.name) is not None
        ]
    if key in filled.details:
        found.append("`details`")
    return found


def keys(endpoint: str) -> str:
    row = ENDPOINTS[endpoint]
    return table(
        ("key", "JD's description", "goes to"),
        ((f"`{key}`", meaning, ", ".join(places(row, key))) for key, meaning in KEYS[endpoint].items()),
    )


def chinese_keys(endpoint: str) -> str:
    row = ENDPOINTS[endpoint]
    return table(
        ("键", "京东的说明", "写到哪里"),
        (
            (f"`{key}`", said, "、".join(places(row, key)).replace("lines: ", "明细行 "))
            for key, said in KEYS[endpoint].items()
        ),
    )


TABLES: Mapping[str, Callable[[], str]] = {
    "endpoints": endpoints,
    "doors": doors,
    "bad_input": bad_input,
    "packs": packs,
    "prunable": prunable,
    "audit_rules": audit_rules,
    "fates": fates,
    "checks": checks,
    "loading_findings": loading_findings,
    "repairs": repairs,
    **{f"{endpoint}_keys": partial(keys, endpoint) for endpoint in KEYS},
    **{f"{layer}_codes": partial(codes, layer) for layer in LAYERS},
    **{f"columns_of_{name}": partial(columns, name, 0) for name in warehouse_columns()},
    "columns_of_tax_check": partial(tax_check_columns, 0),
    "column_types": column_types,
    "invoice_kinds": invoice_kinds,
    **{f"bench_{name}": partial(benchmarks.table, name) for name in benchmarks.TABLES},
}


CHINESE: Mapping[str, Callable[[], str]] = {
    "bad_input": chinese_bad_input,
    "checks": lambda: chinese_findings({code: rule.severity for code, rule in CHECKS.items()}),
    "loading_findings": lambda: chinese_findings(
        {code: each for code, (each, _) in LOADING_FINDINGS.items()}
    ),
    "repairs": chinese_repairs,
    **{f"{layer}_codes": partial(chinese_codes, layer) for layer in LAYERS},
    "endpoints": partial(endpoints, _IN_CHINESE),
    "doors": partial(doors, ("接口", "auth", "URL")),
    **{f"{endpoint}_keys": partial(chinese_keys, endpoint) for endpoint in KEYS},
    **{f"columns_of_{name}": partial(columns, name, 1) for name in warehouse_columns()},
    "columns_of_tax_check": partial(tax_check_columns, 1),
    **{f"bench_{name}": partial(benchmarks_in_chinese.table, name) for name in benchmarks.TABLES},
}


def filled_in(path: Path) -> str:
    """A document with its tables as the code gives them now."""
    tables = {**TABLES, **CHINESE} if path.name.endswith(".zh-CN.md") else TABLES
    text = path.read_text(encoding="utf-8")
    return MARKED.sub(lambda found: f"{found[1]}{tables[found[2]]()}{found[3]}", text)


def main() -> None:
    if sys.argv[1:] != ["--write"]:
        raise SystemExit("usage: python -m tests.docs_tables --write")
    for path in sorted(DOCS.glob("*.md")):
        path.write_text(filled_in(path), encoding="utf-8")


if __name__ == "__main__":
    main()
