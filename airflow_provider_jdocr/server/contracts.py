"""The replies of the two endpoints in their documented shapes: envelope, business result, gateway error.

``ocr_invoice`` answers ``{code, charge, remain, msg, result{code, message, request_id, result{12 fields}}}``,
``intsig_invoice`` answers ``{code, charge, remainTimes, remainSeconds, msg, result{code, message, cost_time,
result{…, item_list}}}``. A business failure comes under the outer code 10000 and has no inner ``result``.
What is absent is an empty string in the one and no item in the other.

A picture that is no invoice is a success in both (JD bills it): INTSIG says ``type: other`` with an empty
``item_list``, ``ocr_invoice`` gives its twelve fields empty.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_jdocr.server.pictures import Reason
from airflow_provider_jdocr.server.recognise import ReadField, Reading

Json = dict[str, Any]

SUCCESS = "10000"

# JD's wording of the system codes, from its public error-code page.
SYSTEM_MESSAGES: Mapping[str, str] = {
    "10000": "查询成功",
    "10001": "错误的请求appkey",
    "10003": "不存在相应的数据信息",
    "10004": "URL上appkey参数不能为空",
    "10010": "接口需要付费，请充值",
    "10020": "系统繁忙，请稍后再试",
    "10030": "调用网关失败，请与NeuHub联系",
    "10040": "超过每天限量，请明天继续",
    "10041": "URL上timestamp参数不能为空",
    "10042": "URL上sign参数不能为空",
    "10043": "超过QPS限额，请降低调用频率或与NeuHub联系",
    "10044": "集群QPS超限额，请与NeuHub联系",
    "10045": "timestamp参数无效，请检查timestamp距离当前时间是否超过5分钟",
    "10046": "timestamp参数格式错误",
    "10047": "请求签名sign无效，请检查签名信息",
    "10048": "无接口权限，请下单购买",
    "10050": "用户已被禁用",
    "10060": "发布方设置调用权限，请联系发布方",
    "11010": "发布方接口调用异常，请稍后再试",
    "11030": "发布方接口返回格式有误",
}

# How the gateway of jdcloud.com words a status; 401 is [seen], the rest are of its public table.
GATEWAY_WORDS: Mapping[int, str] = {
    400: "INVALID_ARGUMENT",
    401: "ACCESS_ERROR",
    403: "HTTP_FORBIDDEN",
    404: "NOT_FOUND",
    429: "RATE_LIMIT_EXCEEDED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}

OCR_INVOICE_FAILURES: Mapping[Reason, tuple[int, str]] = {
    "no_body": (12001, "missing or empty image"),
    "empty": (12001, "missing or empty image"),
    "unreadable": (12002, "image cannot be read"),
    "format": (12003, "image format not supported"),
    "too_large": (12004, "image too large"),
    "program": (12006, "program error"),
}
INTSIG_FAILURES: Mapping[Reason, tuple[int, str]] = {
    "no_body": (40600, "Missing request body"),
    "empty": (40300, "Empty image"),
    "format": (40301, "Image format error"),
    "too_large": (40302, "Image size error"),
    "unreadable": (40401, "Image recognize error"),
    "program": (500, "Server error"),
}

TYPE_DESCRIPTIONS: Mapping[str, str] = {
    "vat_special_invoice": "增值税专用发票",
    "vat_common_invoice": "增值税普通发票",
    "vat_electronic_invoice": "增值税电子发票",
    "vat_electronic_special_invoice": "增值税电子专用发票",
    "vat_electronic_toll_invoice": "增值税电子普通发票(通行费)",
    "vat_roll_invoice": "增值税普通发票(卷票)",
    "blockchain_electronic_invoice": "区块链电子发票",
    "vat_electronic_invoice_new": "电子发票(普通发票)",
    "vat_electronic_special_invoice_new": "电子发票(增值税专用发票)",
    "other": "其他",
}

DESCRIPTIONS: Mapping[str, str] = {
    "vat_invoice_correct_code": "校验码",
    "vat_invoice_daima": "发票代码",
    "vat_invoice_haoma": "发票号码",
    "vat_invoice_haoma_large_size": "增值税发票No号码",
    "vat_invoice_issue_date": "开票日期",
    "vat_invoice_rate_payer_id": "纳税人识别号",
    "vat_invoice_total": "合计",
    "vat_invoice_tax_rate": "增值税税率",
    "vat_invoice_seller_name": "销售方名称",
    "vat_invoice_seller_bank_account": "销售方开户行及帐号",
    "vat_invoice_seller_id": "销售方纳税人识别号",
    "vat_invoice_seller_addr_tell": "销售方地址、电话",
    "vat_invoice_payer_name": "购买方名称",
    "vat_invoice_payer_bank_account": "购买方开户行及帐号",
    "vat_invoice_payer_addr_tell": "购买方地址、电话",
    "vat_invoice_total_cover_tax": "价税合计大写",
    "vat_invoice_total_cover_tax_digits": "价税合计小写",
    "vat_invoice_tax_total": "税额合计",
    "vat_invoice_goods_list": "货物或服务名称",
    "vat_invoice_price_list": "金额明细",
    "vat_invoice_tax_rate_list": "税率明细",
    "vat_invoice_tax_list": "税额明细",
    "vat_invoice_zhuan_yong_flag": "专票/普票",
    "vat_invoice_dai_kai_flag": "代开(非代开条目为空)",
    "vat_invoice_plate_specific": "规格型号明细",
    "vat_invoice_electrans_unit": "单位明细",
    "vat_invoice_electrans_quantity": "数量明细",
    "vat_invoice_electrans_unit_price": "单价明细",
    "vat_invoice_daima_right_side": "右侧打印发票代码",
    "vat_invoice_haoma_right_side": "右侧打印发票号码",
    "vat_invoice_page_number": "抵扣联/发票联",
    "vat_invoice_type": "发票类型",
    "vat_invoice_total_note": "备注",
    "vat_invoice_cipher_field": "密码区",
    "vat_invoice_drawer": "开票人",
    "vat_invoice_review": "复核",
    "vat_invoice_payee": "收款人",
    "exist_stample": "盖章存在性判断",
    "vat_invoice_headline_page_number": "标题发票联",
    "vat_invoice_corrent_code_print": "打印校验码",
    "vat_invoice_total_print": "打印合计",
    "vat_invoice_note_correct_code": "备注校验码",
    "vat_invoice_machine_no": "机器编号",
    "vat_invoice_daima_print": "打印发票代码",
    "vat_invoice_elec_payment_id": "电子支付标识",
    "vat_invoice_issue_date_print": "右侧打印开票日期",
    "vat_invoice_qr_code": "qr码",
}

_TYPE_NUMBERS: Mapping[str, str] = {
    "vat_special_invoice": "01",
    "vat_common_invoice": "04",
    "vat_electronic_special_invoice": "08",
    "vat_electronic_invoice": "10",
    "vat_roll_invoice": "11",
    "vat_electronic_toll_invoice": "14",
    "vat_electronic_special_invoice_new": "31",
    "vat_electronic_invoice_new": "32",
}
_TWELVE_DIGIT_KINDS: Mapping[str, str] = {
    "04": "04",
    "05": "04",
    "06": "11",
    "07": "11",
    "11": "10",
    "12": "14",
    "13": "08",
}
_TEN_DIGIT_KINDS: Mapping[str, str] = {"1": "01", "5": "01", "3": "04", "6": "04"}
# Early codes of electronic common invoices, from before their last two digits were fixed.
_EARLY_ELECTRONIC = frozenset({"144031539110", "131001570151", "133011501118", "111001571071"})


@dataclass(frozen=True, slots=True)
class Business:
    """What the service made of one picture: the inner object and the code inside it."""

    code: str
    body: Json


def gateway_error(status: int, message: str, request_id: str, word: str | None = None) -> Json:
    """How the gateway of jdcloud.com words an HTTP error."""
    error = {"code": status, "status": word or GATEWAY_WORDS.get(status, "UNKNOWN"), "message": message}
    return {"requestId": request_id, "error": error}


def refusal(endpoint: str, code: str, request_id: str, remaining: int | None = None) -> Json:
    """A system code that costs nothing; ``remaining`` is None where the caller is not known."""
    envelope: Json = {"code": code, "charge": False, "msg": SYSTEM_MESSAGES.get(code, code)}
    if remaining is not None:
        envelope |= quota_news(endpoint, remaining)
    return envelope | {"requestId": request_id}


def success(endpoint: str, business: Business, *, charge: bool, remaining: int) -> Json:
    """The envelope around a business result, good or bad."""
    message = SYSTEM_MESSAGES[SUCCESS] + (",扣费" if charge else "")
    head: Json = {"code": SUCCESS, "charge": charge}
    return head | quota_news(endpoint, remaining) | {"msg": message, "result": business.body}


def quota_news(endpoint: str, remaining: int) -> Json:
    """How many calls are left, in the words of the endpoint."""
    if endpoint == "ocr_invoice":
        return {"remain": remaining}
    return {"remainTimes": remaining, "remainSeconds": -1}


def failed(endpoint: str, reason: Reason, request_id: str) -> Business:
    """A picture that got no reading."""
    table = OCR_INVOICE_FAILURES if endpoint == "ocr_invoice" else INTSIG_FAILURES
    return business_failure(endpoint, *table[reason], request_id)


def business_failure(endpoint: str, code: int | str, message: str, request_id: str) -> Business:
    """Any business code in the shape of the endpoint."""
    body: Json = {"code": code, "message": message}
    if endpoint == "ocr_invoice":
        body["request_id"] = request_id
    return Business(str(code), body)


def recognised(endpoint: str, reading: Reading, request_id: str, cost_milliseconds: int) -> Business:
    """A reading in the shape of the endpoint."""
    if endpoint == "ocr_invoice":
        head: Json = {"code": 0, "message": "success", "request_id": request_id}
        return Business("0", head | {"result": twelve_fields(reading)})
    head = {"code": 200, "message": "success", "cost_time": cost_milliseconds}
    return Business("200", head | {"result": intsig_result(reading)})


def intsig_result(reading: Reading) -> Json:
    """The picture's own fields and ``item_list``."""
    return {
        "image_angle": reading.angle,
        "rotated_image_width": reading.width,
        "rotated_image_height": reading.height,
        "kind": "service",
        "kind_description": "服务",
        "class": "other" if reading.type == "other" else "nation_tax_invoice",
        "type": reading.type,
        "type_description": TYPE_DESCRIPTIONS.get(reading.type, reading.type),
        "item_list": [_item(read) for read in reading.fields],
    }


def _item(read: ReadField) -> Json:
    return {
        "key": read.key,
        "value": read.text,
        "position": list(read.position),
        "confidence": read.confidence,
        "description": DESCRIPTIONS.get(read.key, read.key),
    }


def twelve_fields(reading: Reading) -> dict[str, str]:
    """The flat answer of ``ocr_invoice``: dates as eight digits, amounts without currency sign."""
    texts = {read.key.removeprefix("vat_invoice_"): read.text for read in reading.fields}
    code = _first(texts, "daima", "daima_print", "daima_right_side")
    return {
        "buyer_name": _first(texts, "payer_name"),
        "buyer_tax_no": _first(texts, "rate_payer_id"),
        "code": code,
        "invoice_amount": plain_amount(_first(texts, "total", "total_print")),
        "invoice_date": eight_digits(_first(texts, "issue_date", "issue_date_print")),
        "invoice_no": _first(texts, "haoma", "haoma_large_size", "haoma_right_side"),
        "invoice_type": type_number(code, reading.type),
        "saler_name": _first(texts, "seller_name"),
        "saler_tax_no": _first(texts, "seller_id"),
        "tax_amount": plain_amount(_first(texts, "tax_total")),
        "total_amount": plain_amount(_first(texts, "total_cover_tax_digits")),
        "verify_code": _first(texts, "correct_code", "corrent_code_print", "note_correct_code"),
    }


def plain_amount(text: str) -> str:
    """``￥1,234.50`` → ``1234.50``; what is no number keeps its characters, ``***`` for one."""
    return re.sub(r"[\s,¥￥]", "", unicodedata.normalize("NFKC", text))


def eight_digits(text: str) -> str:
    """``2017年06月06日`` → ``20170606``; a date that cannot be read stays as it was printed."""
    parts = re.fullmatch(r"\s*(\d{4})\D+(\d{1,2})\D+(\d{1,2})\D*", unicodedata.normalize("NFKC", text))
    return "".join((parts[1], parts[2].zfill(2), parts[3].zfill(2))) if parts else text.strip()


def type_number(code: str, kind: str) -> str:
    """The number of an invoice's type: what its code says, else what the picture looks like, else empty."""
    if code in _EARLY_ELECTRONIC:
        return "10"
    if re.fullmatch(r"0\d{11}", code) and code[-2:] in _TWELVE_DIGIT_KINDS:
        return _TWELVE_DIGIT_KINDS[code[-2:]]
    if re.fullmatch(r"\d{10}", code) and code[7] in _TEN_DIGIT_KINDS:
        return _TEN_DIGIT_KINDS[code[7]]
    return _TYPE_NUMBERS.get(kind, "")


def _first(texts: Mapping[str, str], *keys: str) -> str:
    return next((texts[key] for key in keys if texts.get(key)), "")
