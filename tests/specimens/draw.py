"""Draws fictitious Chinese VAT invoices, with their truth beside them and inside them.

    python -m tests.specimens.draw --out DIR [--count N --seed S]    any number, with their truth.json
    python -m tests.specimens.draw --out DIR --dozen                 the twelve committed in pictures/

`draw` is deterministic: seed and scene decide every pixel. The truth is also kept in the picture's
metadata (PNG text chunk or JPEG comment, under `jdocr-truth`) for an engine that does not read but
answers. The font is that of the package manimgx-fonts-cjk.
"""

import argparse
import hashlib
import importlib.util
import io
import json
import math
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import segno
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont, PngImagePlugin

from tests.specimens.invent import (
    DIGITAL,
    KINDS,
    Facts,
    Item,
    Kind,
    Party,
    Recipe,
    Trait,
    canonical_fields,
    canonical_lines,
    invent,
)

TRUTH_KEY = "jdocr-truth"
INTSIG_TYPE: dict[Kind, str] = {
    "special_paper": "vat_special_invoice",
    "common_paper": "vat_common_invoice",
    "common_electronic": "vat_electronic_invoice",
    "digital_special": "vat_electronic_special_invoice_new",
    "digital_common": "vat_electronic_invoice_new",
}
TITLE: dict[Kind, str] = {
    "special_paper": "增值税专用发票",
    "common_paper": "增值税普通发票",
    "common_electronic": "增值税电子普通发票",
    "digital_special": "电子发票（增值税专用发票）",
    "digital_common": "电子发票（普通发票）",
}

Color = tuple[int, int, int]
Ink = Literal["colour", "grey"]
WIDTH, HEIGHT = 1400, 860
LEFT, RIGHT = 90, 1310
LABEL: Color = (140, 72, 22)
VALUE: Color = (24, 24, 40)
RED: Color = (214, 30, 30)
ROW = 27


@dataclass(frozen=True, slots=True)
class Scene:
    """How the paper looks: the recipe of its facts, the file format, what a scanner or camera did to it."""

    recipe: Recipe
    format: Literal["png", "jpeg"] = "png"
    ink: Ink = "colour"
    degrees: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    margin: int = 0


@dataclass(frozen=True, slots=True)
class Drawn:
    picture: bytes
    truth: dict[str, Any]


def _scene(kind: Kind, goods: int = 1, traits: Sequence[Trait] = (), **look: Any) -> Scene:
    return Scene(Recipe(kind, goods, frozenset(traits)), **look)


DOZEN: tuple[tuple[str, int, Scene], ...] = (
    ("electronic_plain", 101, _scene("common_electronic")),
    ("electronic_wrapped", 102, _scene("common_electronic", 4, ["wrapped"], format="jpeg")),
    ("electronic_discount_personal", 103, _scene("common_electronic", 2, ["discount", "personal"])),
    ("electronic_tax_free", 104, _scene("common_electronic", 2, ["tax_free"], margin=50)),
    (
        "electronic_two_rates_photo",
        105,
        _scene(
            "common_electronic", 3, ["two_rates"], format="jpeg", degrees=1.2, blur=0.6, noise=4, margin=60
        ),
    ),
    ("special_plain", 106, _scene("special_paper")),
    (
        "special_lines_scan",
        107,
        _scene("special_paper", 5, ["seal", "discount"], format="jpeg", ink="grey", degrees=-0.7, noise=3),
    ),
    ("common_paper", 108, _scene("common_paper", 3, ["seal"], format="jpeg", blur=0.5)),
    ("digital_common", 109, _scene("digital_common")),
    (
        "digital_common_wrapped_personal",
        110,
        _scene("digital_common", 3, ["wrapped", "discount", "personal"]),
    ),
    ("digital_special_two_rates", 111, _scene("digital_special", 4, ["two_rates"])),
    (
        "digital_common_tax_free_scan",
        112,
        _scene("digital_common", 2, ["tax_free"], format="jpeg", degrees=0.5, blur=0.5, noise=3),
    ),
)


def scene_for(seed: int, kind: Kind | None = None) -> Scene:
    """A scene chosen by the seed, of the given kind or any."""
    rng = random.Random(f"scene/{seed}")
    chosen: Kind = rng.choice(KINDS) if kind is None else kind
    chances: tuple[tuple[Trait, float], ...] = (
        ("wrapped", 0.3),
        ("discount", 0.2),
        ("tax_free", 0.0 if chosen in ("special_paper", "digital_special") else 0.15),
        ("two_rates", 0.2),
        ("personal", 0.0 if chosen in ("special_paper", "digital_special") else 0.2),
        ("seal", 0.5),
    )
    traits = [trait for trait, chance in chances if rng.random() < chance]
    scene = _scene(chosen, rng.randint(1, 4), traits, format=rng.choice(("png", "jpeg")))
    if rng.random() < 0.7:
        return scene
    return replace(
        scene,
        format="jpeg",
        ink=rng.choice(("colour", "grey")),
        degrees=rng.uniform(-1.5, 1.5),
        blur=rng.uniform(0.0, 0.7),
        noise=rng.uniform(0.0, 5.0),
        margin=rng.choice((0, 40, 80)),
    )


def draw(seed: int, kind: Kind | None = None, scene: Scene | None = None) -> Drawn:
    """One picture and its truth; the scene follows from the seed unless it is given."""
    scene = scene or scene_for(seed, kind)
    facts = invent(seed, scene.recipe)
    sheet = _digital(facts) if facts.kind in DIGITAL else _classic(facts)
    truth = _truth(facts)
    embedded = json.dumps({"type": truth["type"], "fields": truth["intsig"]}, separators=(",", ":"))
    picture = _save(_age(sheet.image, scene, seed), scene, embedded)
    return Drawn(picture, truth | {"sha256": hashlib.sha256(picture).hexdigest()})


# --- pen and paper ---


@cache
def _font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    spec = importlib.util.find_spec("manimgx_fonts_cjk")
    if spec is None or spec.origin is None:
        raise SystemExit("the drawing needs a font: pip install manimgx-fonts-cjk")
    font = ImageFont.truetype(Path(spec.origin).parent / "NotoSansCJK-VF.otf.ttc", size, index=2)
    font.set_variation_by_name(b"Bold" if bold else b"Regular")
    return font


class Sheet:
    """A white sheet with a pen: text is placed by its middle line, so any size sits on one row."""

    def __init__(self, height: int = HEIGHT) -> None:
        self.image = Image.new("RGB", (WIDTH, height), (254, 254, 252))
        self.pen = ImageDraw.Draw(self.image)

    def text(
        self, at: tuple[float, float], text: str, size: int = 19, color: Color = VALUE, anchor: str = "lm"
    ) -> float:
        """Writes, and answers how wide it became."""
        self.pen.text(at, text, color, _font(size), anchor=anchor)
        return float(_font(size).getlength(text))

    def spread(
        self, x: float, y: float, text: str, width: float, size: int = 19, color: Color = LABEL
    ) -> None:
        """Characters set apart to fill the width, as labels are."""
        step = (width - size) / max(len(text) - 1, 1)
        for place, char in enumerate(text):
            self.text((x + place * step, y), char, size, color)

    def down(
        self, x: float, top: float, bottom: float, text: str, size: int = 19, color: Color = LABEL
    ) -> None:
        """Characters below each other between top and bottom."""
        step = (bottom - top) / len(text)
        for place, char in enumerate(text):
            self.text((x, top + (place + 0.5) * step), char, size, color, "mm")

    def typed(self, x: float, y: float, text: str, pitch: float, size: int = 20) -> None:
        """Every character in a cell of its own, as a printer with a fixed pitch sets it."""
        for place, char in enumerate(text):
            self.text((x + (place + 0.5) * pitch, y), char, size, VALUE, "mm")

    def lines(
        self, points: Sequence[tuple[float, float, float, float]], color: Color = LABEL, width: int = 2
    ) -> None:
        for line in points:
            self.pen.line(line, color, width)

    def label(self, x: float, y: float, text: str, value: str, width: float = 130) -> None:
        """A label set apart to the width, its colon, and the value behind it."""
        self.spread(x, y, text, width)
        self.text((x + width + 1, y), ":", color=LABEL)
        self.text((x + width + 14, y), value)

    def qr(self, x: int, y: int, payload: str, side: int = 120) -> None:
        rows = [[not dark for dark in row] for row in segno.make(payload, error="m", micro=False).matrix]
        code = Image.fromarray(np.array(rows, dtype=np.uint8) * 255)
        scale = max(side // code.width, 1)
        self.image.paste(
            code.resize((code.width * scale, code.height * scale), Image.Resampling.NEAREST), (x, y)
        )

    def circled_cross(self, x: float, y: float, radius: float = 9) -> None:
        arm = radius * 0.7
        self.pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=VALUE, width=2)
        self.lines(((x - arm, y - arm, x + arm, y + arm), (x - arm, y + arm, x + arm, y - arm)), VALUE)

    def seal(self, x: int, y: int, size: tuple[int, int], around: str, inside: Sequence[str]) -> None:
        """A red ellipse pressed over what is printed: what is below shows through."""
        wide, high = size
        stamp = Image.new("RGB", (wide, high), (255, 255, 255))
        pen = ImageDraw.Draw(stamp)
        pen.ellipse((2, 2, wide - 3, high - 3), outline=RED, width=3)
        for place, char in enumerate(around):
            angle = math.pi * (1.08 + (place + 0.5) / len(around) * 0.84)
            at = (wide / 2 + math.cos(angle) * wide * 0.39, high / 2 + math.sin(angle) * high * 0.37)
            pen.text(at, char, RED, _font(13), anchor="mm")
        for place, row in enumerate(inside):
            pen.text((wide / 2, high * (0.52 + 0.21 * place)), row, RED, _font(13), anchor="mm")
        below = self.image.crop((x, y, x + wide, y + high))
        self.image.paste(ImageChops.multiply(below, stamp), (x, y))


# --- the layout in use until the fully digital one ---

COLUMNS: tuple[tuple[int, int, str], ...] = (
    (90, 400, "货物或应税劳务、服务名称"),
    (400, 515, "规格型号"),
    (515, 575, "单位"),
    (575, 690, "数 量"),
    (690, 850, "单 价"),
    (850, 1030, "金 额"),
    (1030, 1100, "税率"),
    (1100, 1310, "税 额"),
)
TOP, GOODS, BODY, SUMS, WORDS, SELLER, BOTTOM = 182, 306, 338, 566, 604, 652, 776


def _classic(facts: Facts) -> Sheet:
    sheet = Sheet()
    _classic_frame(sheet)
    _classic_head(sheet, facts)
    _block(sheet, TOP, ("名称", "纳税人识别号", "地址、电话", "开户行及账号"), facts.buyer)
    _block(sheet, SELLER, ("名称", "纳税人识别号", "地址、电话", "开户行及账号"), facts.seller)
    for place, row in enumerate(facts.cipher):
        sheet.typed(894, TOP + 18 + 29 * place, row, 14)
    _table(sheet, facts, COLUMNS, BODY)
    _classic_sums(sheet, facts)
    _remark(sheet, 900, SELLER + 24, facts.remarks)
    for x, text, name in (
        (110, "收款人", facts.payee),
        (420, "复核", facts.reviewer),
        (700, "开票人", facts.drawer),
    ):
        sheet.text((x + sheet.text((x, BOTTOM + 26), f"{text}:", color=LABEL) + 8, BOTTOM + 26), name)
    sheet.text((960, BOTTOM + 26), "销售方:(章)", color=LABEL)
    sheet.seal(610, 46, (180, 112), "全国统一发票监制章", ("国家税务总局", _office(facts.region)))
    if facts.stamp:
        sheet.seal(1060, SELLER + 30, (210, 150), facts.seller.name, (facts.seller.tax_id, "发票专用章"))
    return sheet


def _classic_frame(sheet: Sheet) -> None:
    across = [(LEFT, y, RIGHT, y) for y in (TOP, GOODS, WORDS, SELLER, BOTTOM)]
    uprights = [(x, TOP, x, BOTTOM) for x in (LEFT, RIGHT)]
    columns = [(start, GOODS, start, WORDS) for start, _, _ in COLUMNS[1:]]
    sides = [(x, top, x, top + 124) for top in (TOP, SELLER) for x in (130, 850, 886)]
    sheet.lines([*across, *uprights, *columns, *sides, (400, WORDS, 400, SELLER)])
    for text, x, top in (
        ("购买方", 110, TOP),
        ("密码区", 868, TOP),
        ("销售方", 110, SELLER),
        ("备注", 868, SELLER),
    ):
        sheet.down(x, top + 4, top + 120, text)


def _classic_head(sheet: Sheet, facts: Facts) -> None:
    title = f"{facts.region}{TITLE[facts.kind]}"
    sheet.spread(700 - 23 * len(title), 74, title, 46 * len(title), 42)
    sheet.lines(((455, 112, 945, 112), (455, 118, 945, 118)))
    if facts.kind == "common_electronic":
        _electronic_head(sheet, facts)
    else:
        _paper_head(sheet, facts)


def _electronic_head(sheet: Sheet, facts: Facts) -> None:
    sheet.qr(110, 20, facts.qr)
    sheet.text((105, 158), "机器编号:", color=LABEL)
    sheet.text((190, 158), facts.machine_number)
    day = facts.issued
    sheet.label(1010, 48, "发票代码", facts.code, 84)
    sheet.label(1010, 80, "发票号码", facts.number, 84)
    sheet.label(1010, 112, "开票日期", f"{day:%Y}年{day:%m}月{day:%d}日", 84)
    sheet.label(1010, 144, "校验码", _in_fives(facts.check_code), 84)


def _paper_head(sheet: Sheet, facts: Facts) -> None:
    sheet.qr(100, 16, facts.qr)
    sheet.text((240, 52), facts.code, 34)
    sheet.text((105, 158), "机器编号:", color=LABEL)
    sheet.text((195, 158), facts.machine_number)
    if facts.check_code:
        sheet.text((360, 158), f"校验码 {_in_fives(facts.check_code)}")
    sheet.text((965, 56), "№", 34, LABEL)
    sheet.text((1015, 56), facts.number, 36)
    sheet.text((1215, 44), facts.code, 15)
    sheet.text((1215, 68), facts.number, 15)
    day = facts.issued
    sheet.label(985, 152, "开票日期", f"{day:%Y}年{day:%m}月{day:%d}日", 84)
    sheet.text((700, 168), _page(facts)[1], 18, LABEL, "mm")
    sheet.down(1336, 300, 720, f"{_page(facts)[0]}购买方记账凭证", 15)


def _page(facts: Facts) -> tuple[str, str]:
    if facts.kind == "common_electronic" or facts.kind in DIGITAL:
        return "", ""
    if facts.kind == "special_paper" and int(facts.number) % 2:
        return "第二联：抵扣联", "抵扣联"
    return ("第三联：发票联" if facts.kind == "special_paper" else "第二联：发票联"), "发票联"


def _office(region: str) -> str:
    return f"{region}{'市' if region in ('北京', '天津', '上海', '重庆') else '省'}税务局"


def _in_fives(digits: str) -> str:
    return " ".join(digits[place : place + 5] for place in range(0, len(digits), 5))


def _block(sheet: Sheet, top: int, labels: Sequence[str], party: Party) -> None:
    values = (party.name, party.tax_id, party.address_phone, party.bank_account)
    for place, (text, value) in enumerate(zip(labels, values, strict=True)):
        sheet.label(142, top + 19 + 29 * place, text, value)


def _classic_sums(sheet: Sheet, facts: Facts) -> None:
    sheet.spread(170, SUMS + 16, "合计", 140)
    sheet.text((1022, SUMS + 16), f"¥{facts.amount}", 20, anchor="rm")
    sheet.text((1300, SUMS + 16), "***" if facts.tax is None else f"¥{facts.tax}", 20, anchor="rm")
    sheet.text((150, WORDS + 24), "价税合计(大写)", 20, LABEL)
    sheet.circled_cross(424, WORDS + 24)
    sheet.text((442, WORDS + 24), facts.words, 20)
    sheet.text((960, WORDS + 24), "(小写)", 20, LABEL)
    sheet.text((1040, WORDS + 24), f"¥{facts.total}", 20)


# --- the fully digital layout ---

DIGITAL_COLUMNS: tuple[tuple[int, int, str], ...] = (
    (90, 400, "项目名称"),
    (400, 515, "规格型号"),
    (515, 590, "单 位"),
    (590, 700, "数 量"),
    (700, 870, "单 价"),
    (870, 1030, "金 额"),
    (1030, 1160, "税率/征收率"),
    (1160, 1310, "税 额"),
)
D_TOP, D_GOODS, D_BODY, D_SUMS, D_WORDS, D_REMARKS, D_BOTTOM = 190, 290, 322, 560, 600, 648, 760


def _digital(facts: Facts) -> Sheet:
    sheet = Sheet()
    _digital_frame(sheet)
    sheet.qr(110, 24, facts.qr)
    title = TITLE[facts.kind]
    sheet.text((700, 74), title, 40, LABEL, "mm")
    sheet.lines(((440, 116, 960, 116), (440, 122, 960, 122)))
    day = facts.issued
    sheet.text((1020, 62), "发票号码：", color=LABEL)
    sheet.text((1112, 62), facts.number, 18)
    sheet.text((1020, 98), "开票日期：", color=LABEL)
    sheet.text((1112, 98), f"{day:%Y}年{day:%m}月{day:%d}日", 18)
    for x, party in ((144, facts.buyer), (754, facts.seller)):
        width = sheet.text((x, D_TOP + 28), "名称：", color=LABEL)
        sheet.text((x + width, D_TOP + 28), party.name)
        width = sheet.text((x, D_TOP + 72), "统一社会信用代码/纳税人识别号：", 17, LABEL)
        sheet.text((x + width, D_TOP + 72), party.tax_id)
    _table(sheet, facts, DIGITAL_COLUMNS, D_BODY)
    _digital_sums(sheet, facts)
    _remark(sheet, 144, D_REMARKS + 24, _digital_remarks(facts))
    sheet.text((150, D_BOTTOM + 34), "开票人：", color=LABEL)
    sheet.text((232, D_BOTTOM + 34), facts.drawer)
    sheet.seal(610, 50, (180, 112), "全国统一发票监制章", ("国家税务总局", _office(facts.region)))
    return sheet


def _digital_remarks(facts: Facts) -> str:
    """The seller's address and account are printed as a remark, if at all."""
    seller = facts.seller
    if not seller.address_phone:
        return facts.remarks
    told = f"销方地址电话:{seller.address_phone}; 销方开户银行:{seller.bank_account}"
    return f"{told}\n{facts.remarks}".strip()


def _digital_frame(sheet: Sheet) -> None:
    across = [(LEFT, y, RIGHT, y) for y in (D_TOP, D_GOODS, D_WORDS, D_REMARKS, D_BOTTOM)]
    uprights = [(x, D_TOP, x, D_BOTTOM) for x in (LEFT, RIGHT)]
    sides = [(x, D_TOP, x, D_GOODS) for x in (130, 700, 740)]
    sheet.lines([*across, *uprights, *sides, (400, D_WORDS, 400, D_REMARKS), (130, D_REMARKS, 130, D_BOTTOM)])
    for text, x, top, bottom in (
        ("购买方信息", 110, D_TOP, D_GOODS),
        ("销售方信息", 720, D_TOP, D_GOODS),
        ("备注", 110, D_REMARKS, D_BOTTOM),
    ):
        sheet.down(x, top + 3, bottom - 3, text, 17)


def _digital_sums(sheet: Sheet, facts: Facts) -> None:
    sheet.spread(170, D_SUMS + 18, "合计", 140)
    sheet.text((1022, D_SUMS + 18), f"¥{facts.amount}", 20, anchor="rm")
    sheet.text((1300, D_SUMS + 18), "***" if facts.tax is None else f"¥{facts.tax}", 20, anchor="rm")
    sheet.text((150, D_WORDS + 24), "价税合计（大写）", 20, LABEL)
    sheet.circled_cross(424, D_WORDS + 24)
    sheet.text((442, D_WORDS + 24), facts.words, 20)
    sheet.text((960, D_WORDS + 24), "（小写）", 20, LABEL)
    sheet.text((1050, D_WORDS + 24), f"¥{facts.total}", 20)


# --- what both layouts share ---


def _table(sheet: Sheet, facts: Facts, columns: Sequence[tuple[int, int, str]], body: int) -> None:
    for start, end, text in columns:
        sheet.text(((start + end) / 2, body - 15), text, 19 if len(text) < 11 else 18, LABEL, "mm")
    y = body + 13.0
    for item in facts.items:
        rows = _wrapped(item.name, columns[0][1] - columns[0][0] - 16)
        for place, row in enumerate(rows):
            sheet.text((columns[0][0] + 8, y + place * ROW), row, 18)
        _cells(sheet, item, columns, y)
        y += ROW * len(rows)


def _cells(sheet: Sheet, item: Item, columns: Sequence[tuple[int, int, str]], y: float) -> None:
    def put(column: int, text: str, align: Literal["left", "middle", "right"]) -> None:
        start, end, _ = columns[column]
        x, anchor = {
            "left": (start + 8, "lm"),
            "middle": ((start + end) / 2, "mm"),
            "right": (end - 8, "rm"),
        }[align]
        sheet.text((x, y), text, 18, VALUE, anchor)

    put(1, item.specification, "left")
    put(2, item.unit, "middle")
    put(3, "" if item.quantity is None else f"{item.quantity}", "right")
    put(4, "" if item.unit_price is None else f"{item.unit_price:f}", "right")
    put(5, f"{item.amount}", "right")
    put(6, item.rate_text, "middle")
    put(7, item.tax_text, "right")


def _wrapped(text: str, width: float) -> list[str]:
    rows = [""]
    for char in text:
        if _font(18).getlength(rows[-1] + char) > width:
            rows.append("")
        rows[-1] += char
    return rows


def _remark(sheet: Sheet, x: float, y: float, text: str) -> None:
    for place, row in enumerate(text.split("\n")):
        sheet.text((x, y + ROW * place), row, 17)


# --- from the sheet to the file ---


def _age(image: Image.Image, scene: Scene, seed: int) -> Image.Image:
    """What a scanner or a camera does: margin, tilt, blur, grey, noise."""
    if scene.margin:
        framed = Image.new("RGB", (WIDTH + 2 * scene.margin, image.height + 2 * scene.margin), (88, 92, 96))
        framed.paste(image, (scene.margin, scene.margin))
        image = framed
    if scene.degrees:
        fill = (88, 92, 96) if scene.margin else (250, 250, 248)
        image = image.rotate(scene.degrees, Image.Resampling.BICUBIC, fillcolor=fill)
    if scene.blur:
        image = image.filter(ImageFilter.GaussianBlur(scene.blur))
    if scene.ink == "grey":
        image = image.convert("L").convert("RGB")
    return _noisy(image, scene.noise, seed) if scene.noise else image


def _noisy(image: Image.Image, noise: float, seed: int) -> Image.Image:
    """Grain, and light that falls off to one side."""
    pixels = np.asarray(image, dtype=np.float32)
    grain = np.random.default_rng(seed).normal(0.0, noise, pixels.shape[:2])
    light = np.linspace(1.0, 0.9, pixels.shape[1], dtype=np.float32)
    lit = pixels * light[None, :, None] + grain[:, :, None]
    return Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))


def _save(image: Image.Image, scene: Scene, embedded: str) -> bytes:
    out = io.BytesIO()
    if scene.format == "jpeg":
        image.save(out, "JPEG", quality=72, comment=f"{TRUTH_KEY}={embedded}".encode("ascii"))
    else:
        info = PngImagePlugin.PngInfo()
        info.add_text(TRUTH_KEY, embedded)
        image.quantize(64, Image.Quantize.FASTOCTREE).save(out, "PNG", pnginfo=info)
    return out.getvalue()


# --- the truth ---


def _truth(facts: Facts) -> dict[str, Any]:
    canonical = canonical_fields(facts)
    if facts.kind in DIGITAL:
        hidden = ("seller_address_phone", "seller_bank_account")
        canonical |= dict.fromkeys(hidden) | {"remarks": _digital_remarks(facts) or None}
    return {
        "kind": facts.kind,
        "type": INTSIG_TYPE[facts.kind],
        "qr": facts.qr,
        "intsig": {key: value for key, value in _intsig(facts, canonical).items() if value},
        "fields": canonical,
        "lines": canonical_lines(facts),
    }


def _intsig(facts: Facts, canonical: dict[str, str | bool | None]) -> dict[str, str]:
    """The same facts under the keys of the INTSIG answer; a list is one string, one line per item."""
    said = {name: value if isinstance(value, str) else "" for name, value in canonical.items()}
    day = f"{facts.issued:%Y}年{facts.issued:%m}月{facts.issued:%d}日"
    paper = facts.kind in ("special_paper", "common_paper")
    page, headline = _page(facts)
    return {
        "vat_invoice_type": TITLE[facts.kind],
        "vat_invoice_zhuan_yong_flag": "专票" if "专用" in TITLE[facts.kind] else "普票",
        "vat_invoice_daima": facts.code,
        "vat_invoice_haoma": facts.number,
        "vat_invoice_daima_right_side": facts.code if paper else "",
        "vat_invoice_haoma_right_side": facts.number if paper else "",
        "vat_invoice_haoma_large_size": facts.number if paper else "",
        "vat_invoice_issue_date": day,
        "vat_invoice_correct_code": facts.check_code,
        "vat_invoice_machine_no": facts.machine_number,
        "vat_invoice_cipher_field": "\n".join(facts.cipher),
        "vat_invoice_page_number": page,
        "vat_invoice_headline_page_number": headline,
        "vat_invoice_payer_name": said["buyer_name"],
        "vat_invoice_rate_payer_id": said["buyer_tax_id"],
        "vat_invoice_payer_addr_tell": said["buyer_address_phone"],
        "vat_invoice_payer_bank_account": said["buyer_bank_account"],
        "vat_invoice_seller_name": said["seller_name"],
        "vat_invoice_seller_id": said["seller_tax_id"],
        "vat_invoice_seller_addr_tell": said["seller_address_phone"],
        "vat_invoice_seller_bank_account": said["seller_bank_account"],
        "vat_invoice_total": said["amount"],
        "vat_invoice_tax_total": said["tax"] or "***",
        "vat_invoice_total_cover_tax": said["total_in_words"],
        "vat_invoice_total_cover_tax_digits": said["total"],
        "vat_invoice_tax_rate": said["tax_rate_text"],
        "vat_invoice_total_note": said["remarks"],
        "vat_invoice_payee": said["payee"],
        "vat_invoice_review": said["reviewer"],
        "vat_invoice_drawer": said["drawer"],
        "exist_stample": "1" if facts.stamp else "0",
        "vat_invoice_qr_code": facts.qr,
        **_intsig_lists(facts),
    }


def _intsig_lists(facts: Facts) -> dict[str, str]:
    columns = {
        "goods_list": [item.name for item in facts.items],
        "plate_specific": [item.specification for item in facts.items],
        "electrans_unit": [item.unit for item in facts.items],
        "electrans_quantity": ["" if item.quantity is None else f"{item.quantity}" for item in facts.items],
        "electrans_unit_price": [
            "" if item.unit_price is None else f"{item.unit_price:f}" for item in facts.items
        ],
        "price_list": [f"{item.amount}" for item in facts.items],
        "tax_rate_list": [item.rate_text for item in facts.items],
        "tax_list": [item.tax_text for item in facts.items],
    }
    return {f"vat_invoice_{key}": "\n".join(rows) if any(rows) else "" for key, rows in columns.items()}


# --- the command ---


def _wanted(arguments: argparse.Namespace) -> Iterator[tuple[str, int, Scene]]:
    if arguments.dozen:
        yield from DOZEN
        return
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        yield f"specimen_{seed:06d}", seed, scene_for(seed)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Draws fictitious VAT invoices.")
    parser.add_argument(
        "--out", type=Path, required=True, help="the directory for the pictures and truth.json"
    )
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1, help="of the first picture; the next ones count on")
    parser.add_argument("--dozen", action="store_true", help="the twelve committed ones instead")
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    truths: list[dict[str, Any]] = []
    started = time.monotonic()
    total = len(DOZEN) if arguments.dozen else arguments.count
    for name, seed, scene in _wanted(arguments):
        drawn = draw(seed, scene=scene)
        file = f"{name}.{'jpg' if scene.format == 'jpeg' else 'png'}"
        (arguments.out / file).write_bytes(drawn.picture)
        truths.append({"file": file} | drawn.truth)
        rate = len(truths) / max(time.monotonic() - started, 1e-9)
        sys.stderr.write(f"\r{len(truths)}/{total} drawn, {rate:.1f} a second")
    sys.stderr.write("\n")
    text = json.dumps(truths, ensure_ascii=False, indent=1) + "\n"
    (arguments.out / "truth.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
