"""Invents the facts of a fictitious VAT invoice: everything is valid, nothing is real.

The same seed and recipe give the same facts. Every party's name says 示例 (example), every tax id passes
GB 32100 and the organisation code inside it GB 11714, codes and numbers have the shape of their kind,
amounts are exact decimals that add up, and every tax is amount times rate. The QR payload is the one
printed on that kind.
"""

import random
import re
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Literal

Kind = Literal["common_electronic", "special_paper", "common_paper", "digital_special", "digital_common"]
Trait = Literal["wrapped", "discount", "tax_free", "two_rates", "personal", "seal"]

KINDS: tuple[Kind, ...] = (
    "common_electronic",
    "special_paper",
    "common_paper",
    "digital_special",
    "digital_common",
)
DIGITAL: frozenset[Kind] = frozenset({"digital_special", "digital_common"})
QR_TYPE: dict[Kind, str] = {
    "special_paper": "01",
    "common_paper": "04",
    "common_electronic": "10",
    "digital_special": "31",
    "digital_common": "32",
}

CENT = Decimal("0.01")
ID_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
ID_WEIGHTS = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28)
ORGANISATION_WEIGHTS = (3, 7, 9, 10, 5, 8, 4, 2)
CAPITALS = "零壹贰叁肆伍陆柒捌玖"

REGIONS = (
    ("1100", "110108", "北京", "海淀区"),
    ("1200", "120104", "天津", "南开区"),
    ("3100", "310115", "上海", "浦东新区"),
    ("3200", "320106", "江苏", "南京市鼓楼区"),
    ("3300", "330106", "浙江", "杭州市西湖区"),
    ("4400", "440106", "广东", "广州市天河区"),
    ("5000", "500103", "重庆", "渝中区"),
    ("5100", "510107", "四川", "成都市武侯区"),
)
NAMES = ("青禾", "云杉", "远帆", "晨星", "松涛", "海棠", "百川", "竹影", "朝阳", "银杏", "长风", "雨田")
TRADES = ("科技", "贸易", "信息技术", "文化传媒", "机械设备", "食品", "物流", "办公用品")
STREETS = ("人民路", "中山路", "建设路", "文化路", "和平路", "科技园路")
BANKS = ("中国工商银行", "中国建设银行", "中国农业银行", "招商银行", "交通银行")
PEOPLE = ("王芳", "李强", "张敏", "刘洋", "陈静", "赵磊", "孙丽", "周杰", "吴刚", "郑涛")
GOODS = (
    ("*文具*中性笔", "0.5mm", "支"),
    ("*纸制品*复印纸", "A4 80g", "包"),
    ("*计算机配套产品*键盘", "K120", "个"),
    ("*家具*办公椅", "L-208", "把"),
    ("*乳制品*纯牛奶", "250ml", "箱"),
    ("*日用杂品*毛巾", "34*72cm", "条"),
    ("*电子元件*电阻", "10K", "盒"),
    ("*印刷品*项目管理手册", "", "册"),
    ("*机床*数控车床配件", "CK6140", "件"),
)
SERVICES = (
    ("*信息技术服务*软件维护费", "", "项"),
    ("*餐饮服务*餐饮费", "", "次"),
    ("*住宿服务*住宿费", "", "天"),
    ("*研发和技术服务*技术服务费", "", "项"),
    ("*物流辅助服务*收派服务费", "", "次"),
)
LONG_NAMES = (
    ("*计算机外部设备*便携式激光打印一体机自动双面无线网络版", "M233", "台"),
    ("*塑料制品*加厚透明收纳整理箱带盖大号六十升三只装", "60L", "套"),
    ("*照明装置*工业厂房用高亮度防爆照明灯具含安装支架", "LED-100", "盏"),
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to invent: the kind, how many goods, and the peculiarities."""

    kind: Kind
    goods: int = 1
    traits: frozenset[Trait] = frozenset()


@dataclass(frozen=True, slots=True)
class Party:
    name: str
    tax_id: str = ""
    address_phone: str = ""
    bank_account: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    name: str
    specification: str
    unit: str
    quantity: Decimal | None
    unit_price: Decimal | None
    amount: Decimal
    rate: Decimal | None  # None: tax-free
    tax: Decimal | None

    @property
    def rate_text(self) -> str:
        return "免税" if self.rate is None else f"{(self.rate * 100).normalize():f}%"

    @property
    def tax_text(self) -> str:
        return "***" if self.tax is None else f"{self.tax}"


@dataclass(frozen=True, slots=True)
class Facts:
    kind: Kind
    region: str
    code: str
    number: str
    issued: date
    check_code: str
    machine_number: str
    cipher: tuple[str, ...]
    buyer: Party
    seller: Party
    items: tuple[Item, ...]
    remarks: str
    payee: str
    reviewer: str
    drawer: str
    stamp: bool

    @property
    def amount(self) -> Decimal:
        return sum((item.amount for item in self.items), Decimal("0.00"))

    @property
    def tax(self) -> Decimal | None:
        """None when nothing on the invoice is taxed: *** is printed."""
        taxes = [item.tax for item in self.items if item.tax is not None]
        return sum(taxes, Decimal("0.00")) if taxes else None

    @property
    def total(self) -> Decimal:
        return self.amount + (self.tax or 0)

    @property
    def words(self) -> str:
        return in_words(self.total)

    @property
    def single_rate(self) -> str | None:
        texts = {item.rate_text for item in self.items}
        return texts.pop() if len(texts) == 1 else None

    @property
    def qr(self) -> str:
        money = self.total if self.kind in DIGITAL else self.amount
        hex_tail = f"{int(self.number[-8:]) % 65536:04X}"
        parts = ("01", QR_TYPE[self.kind], self.code, self.number, f"{money}", f"{self.issued:%Y%m%d}")
        return ",".join((*parts, self.check_code, hex_tail)) + ("" if self.kind in DIGITAL else ",")


def in_words(amount: Decimal) -> str:
    """An amount in capital characters as invoices print it: 柒仟零壹拾捌圆捌角叁分, 伍拾圆整."""
    yuan, cents = divmod(int(amount * 100), 100)
    jiao, fen = divmod(cents, 10)
    text = f"{_integer_in_words(yuan)}圆" if yuan else ""
    if not cents:
        return f"{text}整"
    if jiao:
        text += f"{CAPITALS[jiao]}角"
    elif yuan:
        text += "零"
    return text + (f"{CAPITALS[fen]}分" if fen else "")


def _integer_in_words(number: int) -> str:
    digits = f"{number:012d}"
    groups = [_group_in_words(digits[place : place + 4]) for place in (0, 4, 8)]
    return "".join(group + unit for group, unit in zip(groups, ("亿", "万", ""), strict=True) if group).strip(
        "零"
    )


def _group_in_words(digits: str) -> str:
    """Four digits: a run of zeros is one 零, a trailing one goes."""
    spelt = [CAPITALS[int(d)] + (unit if d != "0" else "") for d, unit in zip(digits, "仟佰拾 ", strict=True)]
    return re.sub("零+", "零", "".join(spelt)).replace(" ", "").rstrip("零")


def tax_id(rng: random.Random, district: str) -> str:
    """An 18-character id of a company that does not exist, right at both of its check digits."""
    body = "MA" + "".join(rng.choice(ID_ALPHABET) for _ in range(6))
    remainder = 11 - sum(int(c, 36) * w for c, w in zip(body, ORGANISATION_WEIGHTS, strict=True)) % 11
    inner = {10: "X", 11: "0"}.get(remainder, str(remainder))
    first = f"91{district}{body}{inner}"
    outer = -sum(ID_ALPHABET.index(c) * w for c, w in zip(first, ID_WEIGHTS, strict=True)) % 31
    return first + ID_ALPHABET[outer]


def invent(seed: int, recipe: Recipe) -> Facts:
    """The facts for this seed and recipe, always the same ones."""
    text = f"{seed}/{recipe.kind}/{recipe.goods}/{sorted(recipe.traits)}"
    rng = random.Random(text)
    place = rng.choice(REGIONS)
    issued = _day(rng, recipe.kind)
    digital = recipe.kind in DIGITAL
    items = _items(rng, recipe, issued)
    seller = _party(rng, place, full=not digital or rng.random() < 0.3)
    buyer = (
        Party("个人")
        if "personal" in recipe.traits
        else _party(rng, rng.choice(REGIONS), full=_full(rng, recipe))
    )
    return Facts(
        kind=recipe.kind,
        region=place[2],
        code=_code(rng, recipe.kind, place[0], issued),
        number=_number(rng, recipe.kind, place[0], issued),
        issued=issued,
        check_code=_digits(rng, 20) if recipe.kind in ("common_electronic", "common_paper") else "",
        machine_number="" if digital else "66" + _digits(rng, 10),
        cipher=() if digital else tuple("".join(rng.choices("0123456789+-*/<>", k=28)) for _ in range(4)),
        buyer=buyer,
        seller=seller,
        items=items,
        remarks=_remarks(rng),
        payee="" if digital else rng.choice(PEOPLE),
        reviewer="" if digital else rng.choice(PEOPLE),
        drawer=rng.choice(PEOPLE),
        stamp=not digital and ("seal" in recipe.traits or recipe.kind == "common_electronic"),
    )


def _full(rng: random.Random, recipe: Recipe) -> bool:
    return recipe.kind == "special_paper" or (recipe.kind not in DIGITAL and rng.random() < 0.5)


def _digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choices("0123456789", k=count))


def _day(rng: random.Random, kind: Kind) -> date:
    start, days = (date(2023, 1, 3), 900) if kind in DIGITAL else (date(2018, 2, 1), 1100)
    return start + timedelta(days=rng.randrange(days))


def _code(rng: random.Random, kind: Kind, region: str, issued: date) -> str:
    year = f"{issued:%y}"
    match kind:
        case "special_paper":
            return f"{region}{year}{rng.randint(1, 4)}1{rng.choice('23')}0"
        case "common_paper":
            return f"{region}{year}{rng.randint(1, 4)}3{rng.choice('25')}0"
        case "common_electronic":
            return f"0{region}{year}00{rng.randint(1, 4)}11"
    return ""


def _number(rng: random.Random, kind: Kind, region: str, issued: date) -> str:
    if kind in DIGITAL:
        return f"{issued:%y}{region[:2]}2000000{_digits(rng, 9)}"
    return _digits(rng, 8)


def _party(rng: random.Random, place: tuple[str, str, str, str], *, full: bool) -> Party:
    _, district, province, area = place
    name = f"{province}{rng.choice(NAMES)}示例{rng.choice(TRADES)}有限公司"
    number = tax_id(rng, district)
    if not full:
        return Party(name, number)
    street = f"{province}{area}{rng.choice(STREETS)}{rng.randint(1, 300)}号"
    return Party(
        name,
        number,
        f"{street} 0{rng.randint(20, 29)}-5550{_digits(rng, 4)}",
        f"{rng.choice(BANKS)}{area[-3:]}支行 6222{_digits(rng, 15)}",
    )


def _remarks(rng: random.Random) -> str:
    return rng.choice(("", f"订单号:{_digits(rng, 11)}", f"合同编号HT{_digits(rng, 8)}", "感谢惠顾"))


def _rates(issued: date, *, several: bool) -> tuple[Decimal, ...]:
    goods = "0.13" if issued >= date(2019, 4, 1) else "0.16" if issued >= date(2018, 5, 1) else "0.17"
    return (Decimal(goods), Decimal("0.06")) if several else (Decimal(goods),)


def _items(rng: random.Random, recipe: Recipe, issued: date) -> tuple[Item, ...]:
    rates = _rates(issued, several="two_rates" in recipe.traits)
    items: list[Item] = []
    for place in range(max(recipe.goods, len(rates))):
        stock = (
            LONG_NAMES if "wrapped" in recipe.traits and not place else (GOODS, SERVICES)[place % len(rates)]
        )
        rate = None if "tax_free" in recipe.traits else rates[place % len(rates)]
        item = _item(
            rng, rng.choice([goods for goods in stock if goods[0] not in {i.name for i in items}]), rate
        )
        items.append(item)
        if "discount" in recipe.traits and not place:
            items.append(_discount(rng, item))
    return tuple(items)


def _item(rng: random.Random, goods: tuple[str, str, str], rate: Decimal | None) -> Item:
    quantity = Decimal(rng.choice((1, 1, 2, 3, 5, 10, 12, 20)))
    with_tax = Decimal(rng.randint(150, 90_000)) / 100
    unit_price = (with_tax / (1 + (rate or 0))).quantize(Decimal("0.00000001")).normalize()
    amount = _cents(quantity * unit_price)
    tax = None if rate is None else _cents(amount * rate)
    return Item(*goods, quantity, Decimal(f"{unit_price:f}"), amount, rate, tax)


def _discount(rng: random.Random, item: Item) -> Item:
    amount = -_cents(item.amount * Decimal(rng.randint(5, 20)) / 100)
    tax = None if item.rate is None else _cents(amount * item.rate)
    return Item(item.name, "", "", None, None, amount, item.rate, tax)


def _cents(value: Decimal) -> Decimal:
    return value.quantize(CENT, ROUND_HALF_UP)


def canonical_fields(facts: Facts) -> dict[str, str | bool | None]:
    """What a perfect reading ends with, under the names of an invoice's fields; None: not printed."""
    text: dict[str, str | bool | None] = {
        "kind": facts.kind,
        "code": facts.code,
        "number": facts.number,
        "issue_date": facts.issued.isoformat(),
        "check_code": facts.check_code,
        "machine_number": facts.machine_number,
        **_party_fields("buyer", facts.buyer),
        **_party_fields("seller", facts.seller),
        "amount": f"{facts.amount}",
        "tax": None if facts.tax is None else f"{facts.tax}",
        "total": f"{facts.total}",
        "total_in_words": facts.words,
        "tax_rate": _rate_number(facts),
        "tax_rate_text": facts.single_rate,
        "remarks": facts.remarks,
        "payee": facts.payee,
        "reviewer": facts.reviewer,
        "drawer": facts.drawer,
        "stamp": facts.stamp,
    }
    return {name: None if value == "" else value for name, value in text.items()}


def _party_fields(side: str, party: Party) -> dict[str, str | bool | None]:
    return {
        f"{side}_name": party.name,
        f"{side}_tax_id": party.tax_id,
        f"{side}_address_phone": party.address_phone,
        f"{side}_bank_account": party.bank_account,
    }


def _rate_number(facts: Facts) -> str | None:
    rates = {item.rate for item in facts.items}
    only = rates.pop() if len(rates) == 1 else None
    return None if only is None else f"{only}"


def canonical_lines(facts: Facts) -> list[dict[str, Any]]:
    return [
        {
            "number": number,
            "name": item.name,
            "specification": item.specification or None,
            "unit": item.unit or None,
            "quantity": None if item.quantity is None else f"{item.quantity}",
            "unit_price": None if item.unit_price is None else f"{item.unit_price:f}",
            "amount": f"{item.amount}",
            "tax_rate": None if item.rate is None else f"{item.rate}",
            "tax_rate_text": item.rate_text,
            "tax": None if item.tax is None else f"{item.tax}",
        }
        for number, item in enumerate(facts.items, 1)
    ]
