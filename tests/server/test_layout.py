"""The layout rules on words that were placed by hand: no picture, no OCR."""

import math
import random
from collections.abc import Sequence

import pytest

from airflow_provider_jdocr.server.layout import read_layout
from airflow_provider_jdocr.server.words import Word, upright

SIZE = (1400, 860)
Placed = tuple[float, float, str]

HEAD: list[Placed] = [
    (500, 60, "上海增值税电子普通发票"),
    (1010, 40, "发票代码：031001900311"),
    (1010, 70, "发票号码:12345678"),
    (1010, 100, "开票日期：2019年05月08日"),
    (1010, 130, "校验码:12345 67890 12345 67890"),
]
BUYER: list[Placed] = [
    (140, 190, "名"),
    (260, 190, "称:甲示例有限公司"),
    (140, 220, "纳税人识别号:91310115MA1K4XQ20J"),
    (140, 250, "地址、电话:上海市人民路1号 021-5550"),
    (140, 280, "开户行及账号:示例银行 6222"),
]
HEADINGS: list[Placed] = [
    (140, 320, "货物或应税劳务、服务名称"),
    (420, 320, "规格型号"),
    (525, 320, "单位"),
    (610, 320, "数量"),
    (740, 320, "单价"),
    (920, 320, "金额"),
    (1045, 320, "税率"),
    (1180, 320, "税额"),
]
LINES: list[Placed] = [
    (100, 350, "*文具*中性笔"),
    (410, 350, "0.5mm"),
    (535, 350, "支"),
    (670, 350, "2"),
    (790, 350, "50.00"),
    (960, 350, "100.00"),
    (1050, 350, "13%"),
    (1260, 350, "13.00"),
]
SUMS: list[Placed] = [
    (170, 580, "合"),
    (280, 580, "计"),
    (940, 580, "¥100.00"),
    (1230, 580, "¥13.00"),
    (150, 630, "价税合计(大写)"),
    (410, 630, "⊗壹佰壹拾叁圆整"),
    (960, 630, "(小写)¥113.00"),
]
SELLER: list[Placed] = [
    (140, 670, "名"),
    (260, 670, "称:乙示例（上海）有限公司"),
    (140, 700, "纳税人识别号:91310115MA1K4XQ39N"),
    (140, 730, "地址、电话:上海市中山路2号 021-5551"),
    (140, 760, "开户行及账号:示例银行 6223"),
    (860, 690, "备"),
    (860, 740, "注"),
    (900, 690, "订单号:77"),
]
FOOT: list[Placed] = [(110, 810, "收款人:王芳"), (420, 810, "复核:李强"), (700, 810, "开票人:张敏")]
WHOLE = [*HEAD, *BUYER, *HEADINGS, *LINES, *SUMS, *SELLER, *FOOT]


def _width(text: str) -> float:
    return sum(10 if ord(char) < 0x2000 else 19 for char in text)


def _corners(x: float, y: float, text: str) -> tuple[float, ...]:
    right, top, bottom = x + _width(text), y - 11, y + 11
    return x, top, right, top, right, bottom, x, bottom


def _words(placed: Sequence[Placed], degrees: float = 0) -> list[Word]:
    return upright((text, 0.99, _turned(_corners(x, y, text), degrees), False) for x, y, text in placed)


def _turned(corners: Sequence[float], degrees: float) -> tuple[float, ...]:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    points = zip(corners[0::2], corners[1::2], strict=True)
    return tuple(value for x, y in points for value in (x * cos - y * sin, x * sin + y * cos))


def _read(placed: Sequence[Placed], degrees: float = 0) -> dict[str, str]:
    _, fields = read_layout(_words(placed, degrees), *SIZE)
    return {field.key.removeprefix("vat_invoice_"): field.text for field in fields}


def _instead(old: Placed, *new: Placed) -> list[Placed]:
    assert old in WHOLE
    return [place for place in WHOLE if place != old] + list(new)


EXPECTED = {
    "daima": "031001900311",
    "haoma": "12345678",
    "issue_date": "2019年05月08日",
    "correct_code": "12345678901234567890",
    "payer_name": "甲示例有限公司",
    "rate_payer_id": "91310115MA1K4XQ20J",
    "payer_addr_tell": "上海市人民路1号 021-5550",
    "payer_bank_account": "示例银行 6222",
    "seller_name": "乙示例（上海）有限公司",
    "seller_id": "91310115MA1K4XQ39N",
    "seller_addr_tell": "上海市中山路2号 021-5551",
    "seller_bank_account": "示例银行 6223",
    "total": "100.00",
    "tax_total": "13.00",
    "total_cover_tax": "壹佰壹拾叁圆整",
    "total_cover_tax_digits": "113.00",
    "goods_list": "*文具*中性笔",
    "plate_specific": "0.5mm",
    "electrans_unit": "支",
    "electrans_quantity": "2",
    "electrans_unit_price": "50.00",
    "price_list": "100.00",
    "tax_rate_list": "13%",
    "tax_list": "13.00",
    "tax_rate": "13%",
    "total_note": "订单号:77",
    "payee": "王芳",
    "review": "李强",
    "drawer": "张敏",
    "type": "增值税电子普通发票",
    "zhuan_yong_flag": "普票",
}


@pytest.mark.parametrize("degrees", [0, 1.5, -1.5, 4])
def test_a_tilted_page_is_read_like_an_upright_one(degrees: float) -> None:
    assert _read(WHOLE, degrees) == EXPECTED


def test_label_and_value_may_be_two_boxes() -> None:
    apart = [
        piece
        for x, y, text in WHOLE
        for piece in (
            [
                (x, y, text.split(":")[0] + ":"),
                (x + _width(text.split(":")[0]) + 20, y, text.split(":", 1)[1]),
            ]
            if ":" in text and "小写" not in text and "订单号" not in text
            else [(x, y, text)]
        )
    ]
    assert _read(apart) == EXPECTED


@pytest.mark.parametrize("mark", ["⊗", "X", "@", "8", "⊗ ", ""])
def test_the_mark_before_the_words_is_dropped_however_it_was_read(mark: str) -> None:
    said = _read(_instead((410, 630, "⊗壹佰壹拾叁圆整"), (410, 630, f"{mark}壹佰壹拾叁圆整")))
    assert said["total_cover_tax"] == "壹佰壹拾叁圆整"


@pytest.mark.parametrize(
    "printed", ["开票日期:2019 05 08", "开票日期:2019-05-08", "开票日期:2019年5月8日", "开票日期:20190508"]
)
def test_a_date_is_one_date_however_it_is_printed(printed: str) -> None:
    assert (
        _read(_instead((1010, 100, "开票日期：2019年05月08日"), (1010, 100, printed)))["issue_date"]
        == "2019年05月08日"
    )


@pytest.mark.parametrize(
    ("printed", "read"), [("¥1,234.00", "1234.00"), ("￥ 1234.00", "1234.00"), ("¥-1234.00", "-1234.00")]
)
def test_currency_sign_commas_and_blanks_are_no_part_of_an_amount(printed: str, read: str) -> None:
    assert _read(_instead((940, 580, "¥100.00"), (920, 580, printed)))["total"] == read


@pytest.mark.parametrize("stars", ["***", "★★★", "★*★", "* * *", "…"])
def test_stars_for_no_tax_are_stars_however_they_were_read(stars: str) -> None:
    assert _read(_instead((1230, 580, "¥13.00"), (1250, 580, stars)))["tax_total"] == "***"


def test_text_in_the_margin_is_no_remark_but_names_the_sheet() -> None:
    margin = [(1330, 560 + 28 * place, char) for place, char in enumerate("第三联：发票联")]
    said = _read([*WHOLE, *margin])
    assert (said["total_note"], said["page_number"]) == ("订单号:77", "第三联：发票联")


def test_a_missing_sum_of_tax_hides_no_cell_of_the_table() -> None:
    assert _read([place for place in WHOLE if place[2] != "¥13.00"])["tax_list"] == "13.00"


def test_an_amount_alone_in_the_row_of_sums_is_the_one_it_stands_under() -> None:
    said = _read([place for place in WHOLE if place != (1230, 580, "¥13.00")])
    assert (said["total"], said.get("tax_total")) == ("100.00", None)


def test_a_wrapped_name_stays_one_line_and_a_discount_keeps_its_place() -> None:
    more = [
        (100, 377, "六十支装"),
        (100, 404, "*文具*中性笔"),
        (960, 404, "-10.00"),
        (1050, 404, "13%"),
        (1265, 404, "-1.30"),
        (100, 431, "*纸制品*复印纸"),
        (670, 431, "1"),
        (790, 431, "20.00"),
        (970, 431, "20.00"),
        (1050, 431, "6%"),
        (1270, 431, "1.20"),
    ]
    said = _read([*WHOLE, *more])
    assert said["goods_list"] == "*文具*中性笔六十支装\n*文具*中性笔\n*纸制品*复印纸"
    assert said["price_list"] == "100.00\n-10.00\n20.00"
    assert said["electrans_quantity"] == "2\n\n1"
    assert said["tax_rate_list"] == "13%\n13%\n6%"
    assert "tax_rate" not in said, "several rates have no single one"


def test_units_that_were_read_as_one_tall_box_go_to_their_lines() -> None:
    second = [(100, 377, "*纸制品*复印纸"), (960, 377, "20.00"), (1050, 377, "13%"), (1265, 377, "2.60")]
    words = _words([place for place in [*WHOLE, *second] if place[2] != "支"])
    tall = upright([("支包", 0.9, (535, 338, 557, 338, 557, 390, 535, 390), False)])
    _, fields = read_layout([*words, *tall], *SIZE)
    assert {field.key: field.text for field in fields}["vat_invoice_electrans_unit"] == "支\n包"


def test_an_address_that_runs_over_belongs_to_its_label() -> None:
    said = _read(
        _instead(
            (140, 250, "地址、电话:上海市人民路1号 021-5550"),
            (140, 245, "地址、电话:上海市人民路1号"),
            (280, 261, "021-5550"),
        )
    )
    assert said["payer_addr_tell"] == "上海市人民路1号021-5550"


def test_people_that_ran_together_are_taken_apart() -> None:
    placed = [
        *(place for place in WHOLE if place not in FOOT),
        (110, 810, "收款人:王芳 复核:李强 开票人:张敏"),
    ]
    said = _read(placed)
    assert (said["payee"], said["review"], said["drawer"]) == ("王芳", "李强", "张敏")


def test_headings_that_ran_together_still_name_their_columns() -> None:
    placed = [place for place in WHOLE if place[2] not in ("规格型号", "单位", "数量")]
    assert _read([*placed, (420, 320, "规格型号   单位    数量")]) == EXPECTED


def test_the_text_of_a_seal_is_no_remark() -> None:
    seal = [(1050, 720, "91310115MA1K4XQ39N"), (1080, 745, "发票专用章")]
    assert _read([*WHOLE, *seal])["total_note"] == "订单号:77"


def test_red_text_is_no_value() -> None:
    red = upright([("国家税务总局", 0.9, _corners(950, 690, "国家税务总局"), True)])
    _, fields = read_layout([*_words(WHOLE), *red], *SIZE)
    assert {field.key: field.text for field in fields}["vat_invoice_total_note"] == "订单号:77"


def test_a_value_lies_where_its_part_of_the_box_lies() -> None:
    _, fields = read_layout(_words(WHOLE), *SIZE)
    x1, y1, x2, _, _, y3, _, _ = next(field.position for field in fields if field.key == "vat_invoice_haoma")
    assert 1010 + _width("发票号码") < x1 < x2 <= 1010 + _width("发票号码:12345678") + 1
    assert (y1, y3) == (59, 81)


def test_a_misread_value_is_left_as_it_was_read() -> None:
    """Look-alikes are for the checks to find, with the printed text at hand."""
    said = _read(
        _instead((140, 220, "纳税人识别号:91310115MA1K4XQ20J"), (140, 220, "纳税人识别号:9131O115MA1K4XQ2OJ"))
    )
    assert said["rate_payer_id"] == "9131O115MA1K4XQ2OJ"


PAPER: list[Placed] = [
    (230, 50, "3100191130"),
    (960, 55, "No87654321"),
    (1210, 45, "3100191130"),
    (1210, 68, "87654321"),
    (985, 150, "开票日期:2019年05月08日"),
]


def test_a_paper_invoice_has_its_numbers_without_labels() -> None:
    said = _read([(500, 60, "上海增值税专用发票"), *PAPER, *(place for place in WHOLE if place not in HEAD)])
    assert said["daima"] == said["daima_right_side"] == "3100191130"
    assert said["haoma"] == said["haoma_right_side"] == said["haoma_large_size"] == "87654321"
    assert "correct_code" not in said


@pytest.mark.parametrize(
    ("title", "kind"),
    [
        ("上海增值税专用发票", "vat_special_invoice"),
        ("上海增值税普通发票", "vat_common_invoice"),
        ("上海增值税电子普通发票", "vat_electronic_invoice"),
        ("上海增值税电子专用发票", "vat_electronic_special_invoice"),
        ("电子发票（普通发票）", "vat_electronic_invoice_new"),
        ("电子发票（增值税专用发票）", "vat_electronic_special_invoice_new"),
        ("深圳区块链电子普通发票", "blockchain_electronic_invoice"),
        ("通行费增值税电子普通发票", "vat_electronic_toll_invoice"),
    ],
)
def test_the_title_tells_the_type(title: str, kind: str) -> None:
    large = upright([(title, 0.99, (450, 40, 950, 40, 950, 85, 450, 85), False)])
    words = _words([place for place in WHOLE if place[2] != HEAD[0][2]])
    assert read_layout([*large, *words], *SIZE)[0] == kind


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("031001900311", "vat_electronic_invoice"),
        ("031001900313", "vat_electronic_special_invoice"),
        ("031001900312", "vat_electronic_toll_invoice"),
        ("031001900304", "vat_common_invoice"),
        ("3100191130", "vat_special_invoice"),
        ("3100193620", "vat_common_invoice"),
    ],
)
def test_without_a_title_the_code_tells_the_type(code: str, kind: str) -> None:
    placed = [place for place in _instead(HEAD[1], (1010, 40, f"发票代码:{code}")) if place != HEAD[0]]
    assert read_layout(_words(placed), *SIZE)[0] == kind


DIGITAL: list[Placed] = [
    (500, 60, "电子发票（普通发票）"),
    (1010, 60, "发票号码：25312000000012345678"),
    (1010, 95, "开票日期：2025年01月02日"),
    (144, 220, "名称：甲示例有限公司"),
    (754, 220, "名称：乙示例有限公司"),
    (144, 262, "统一社会信用代码/纳税人识别号：91310115MA1K4XQ20J"),
    (754, 262, "统一社会信用代码/纳税人识别号：91310115MA1K4XQ39N"),
    (190, 320, "项目名称"),
    *HEADINGS[1:6],
    (1030, 320, "税率/征收率"),
    HEADINGS[7],
    *LINES,
    *SUMS,
    (144, 690, "订单号:77"),
    (97, 690, "备"),
    (97, 740, "注"),
    (150, 810, "开票人：张敏"),
]


def test_a_fully_digital_invoice_has_buyer_and_seller_side_by_side() -> None:
    said = _read(DIGITAL)
    assert said["haoma"] == "25312000000012345678"
    assert "daima" not in said, "it has no code"
    assert (said["payer_name"], said["rate_payer_id"]) == ("甲示例有限公司", "91310115MA1K4XQ20J")
    assert (said["seller_name"], said["seller_id"]) == ("乙示例有限公司", "91310115MA1K4XQ39N")
    assert (said["total"], said["tax_total"], said["total_cover_tax_digits"]) == ("100.00", "13.00", "113.00")
    assert (said["total_note"], said["drawer"]) == ("订单号:77", "张敏")


def test_a_person_as_buyer_has_no_id() -> None:
    said = _read(
        [place for place in DIGITAL if place[:2] != (144, 262)]
        + [(144, 262, "统一社会信用代码/纳税人识别号：")]
    )
    assert "rate_payer_id" not in said
    assert said["seller_id"] == "91310115MA1K4XQ39N"


@pytest.mark.parametrize("placed", [[], [(10, 10, "收据")], [(10, 10, "税率"), (10, 50, "菜单 13% ¥46.00")]])
def test_other_pages_are_no_invoice(placed: list[Placed]) -> None:
    assert read_layout(_words(placed), *SIZE) == ("other", ())


@pytest.mark.parametrize("missing", range(len(WHOLE)))
def test_any_box_may_be_missing(missing: int) -> None:
    """What was not read costs its own value, never the reading."""
    said = _read(WHOLE[:missing] + WHOLE[missing + 1 :])
    assert len(said) >= len(EXPECTED) - 9


@pytest.mark.parametrize("seed", range(60))
def test_no_arrangement_of_words_breaks_a_reading(seed: int) -> None:
    rng = random.Random(seed)
    texts = [text for _, _, text in (*WHOLE, *DIGITAL)] + [
        "",
        " ",
        "¥",
        ":",
        "…",
        "%",
        "№",
        "负",
        "名",
        "9" * 60,
    ]
    placed = [
        (rng.uniform(-20, 1400), rng.uniform(-20, 860), rng.choice(texts)) for _ in range(rng.randint(0, 90))
    ]
    kind, fields = read_layout(_words(placed, rng.uniform(-20, 20)), *SIZE)
    assert kind == "other" or all(field.text for field in fields)
