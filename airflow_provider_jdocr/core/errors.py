"""What can go wrong, and whose fault it is.

Two questions are asked of every error: whose fault is it, and may the picture be sent again? The second is
answered by ``CODES``, the one table of every code that JD, its gateway or the wire can give. The first is
answered by the class of an exception::

    JdOcrError
    ├── ConfigurationError      the connection or the operator's arguments            permanent
    ├── ImageRejected           the picture, found before any call                    permanent
    ├── ServiceError            the service said no; verdict, code, request id
    │   ├── QuotaExhausted      nothing left until the reset, or until topped up
    │   └── InDoubt             sent, no answer known: it may have been charged
    ├── ParseError              the answer is stored, but could not be read           permanent
    ├── BatchFailed             more items failed than the author allowed
    ├── StorageError            the pictures could not be listed or read
    ├── LedgerError
    │   ├── LedgerUnavailable   the database is not there right now
    │   └── LedgerSchemaError   the ledger was made by another version                permanent
    ├── WarehouseError          rows could not be written
    └── ReviewRefused           a person's decision that cannot be carried out        permanent

``permanent`` says that a retry without a person's help must give the same error. No error carries a secret, a
signed URL or a picture's bytes: evidence is codes, ids, URIs and counts. Every error survives pickling.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any


class Verdict(StrEnum):
    """What a reply, or the lack of one, means for the picture that was sent."""

    SUCCESS = "success"
    SETTLE_FAILED = "settle_failed"
    AGAIN = "again"
    AGAIN_ONCE = "again_once"
    SLOW_DOWN = "slow_down"
    QUOTA_RESET = "quota_until_reset"
    QUOTA_TOPUP = "quota_until_topped_up"
    CONFIGURATION = "configuration"
    IN_DOUBT = "in_doubt"


@dataclass(frozen=True, slots=True)
class Code:
    """One row of the table: a code, what its author says it means, and what follows.

    ``chargeable`` is false only where the request is turned away before the service does any work. A
    chargeable code that says "again" is obeyed only when the reply itself says that it cost nothing.
    """

    layer: str
    code: str
    meaning: str
    verdict: Verdict
    chargeable: bool
    source: str
    advice: str = ""


_OK = Verdict.SUCCESS
_FAILED = Verdict.SETTLE_FAILED
_AGAIN = Verdict.AGAIN
_ONCE = Verdict.AGAIN_ONCE
_SLOW = Verdict.SLOW_DOWN
_RESET = Verdict.QUOTA_RESET
_TOPUP = Verdict.QUOTA_TOPUP
_CONFIG = Verdict.CONFIGURATION
_DOUBT = Verdict.IN_DOUBT

# Turned away at the door: neither the rate, the quota nor a wrong connection is ever billed.
_NEVER_CHARGED = frozenset({_SLOW, _RESET, _TOPUP, _CONFIG})

_KEYS = "Check login and password of the connection: they are the application's key and secret."
_SIGN = "The request was signed wrongly: check password, and `auth`, `region` and `service` in the extras."
_BUY = "Order the interface for this account, then run again."
_CLOCK = "The clock of this machine is more than five minutes off: synchronise it (NTP)."
_FORM = "Check host, `endpoint`, `auth` and `body_encoding` of the connection."
_TOP_UP = "Buy more calls for this account, then run again: nothing is sent before."
_TOMORROW = "Wait for the reset (`reset_time`, `reset_timezone`), or raise the account's daily limit."
_RATE = "Lower `qps` on the connection if this happens often."
_NETWORK = "Check the host of the connection, the network and the proxy."
_ADDRESS = "Have this machine's address admitted, or leave by another."
_SCAN = "Scan or convert the picture again."

_Row = tuple[str, str, Verdict] | tuple[str, str, Verdict, str]

_SYSTEM: tuple[_Row, ...] = (
    ("10000", "查询成功", _OK),
    ("10001", "错误的请求appkey", _CONFIG, _KEYS),
    ("10003", "不存在相应的数据信息", _FAILED),
    ("10004", "URL上appkey参数不能为空", _CONFIG, _KEYS),
    ("10010", "接口需要付费，请充值", _TOPUP, _TOP_UP),
    ("10020", "系统繁忙，请稍后再试", _AGAIN),
    ("10030", "调用网关失败，请与NeuHub联系", _AGAIN),
    ("10040", "超过每天限量，请明天继续", _RESET, _TOMORROW),
    ("10041", "URL上timestamp参数不能为空", _CONFIG, _FORM),
    ("10042", "URL上sign参数不能为空", _CONFIG, _FORM),
    ("10043", "超过QPS限额，请降低调用频率或与NeuHub联系", _SLOW, _RATE),
    ("10044", "集群QPS超限额，请与NeuHub联系", _SLOW),
    ("10045", "timestamp参数无效，请检查timestamp距离当前时间是否超过5分钟", _CONFIG, _CLOCK),
    ("10046", "timestamp参数格式错误", _CONFIG, _FORM),
    ("10047", "请求签名sign无效，请检查签名信息", _CONFIG, _SIGN),
    ("10048", "无接口权限，请下单购买", _CONFIG, _BUY),
    ("10050", "用户已被禁用", _CONFIG, "JD has disabled this account: ask JD."),
    ("10060", "发布方设置调用权限，请联系发布方", _CONFIG, "The publisher restricts this interface: ask JD."),
    ("11010", "发布方接口调用异常，请稍后再试", _AGAIN),
    ("11030", "发布方接口返回格式有误", _ONCE),
)

_OCR_INVOICE: tuple[_Row, ...] = (
    ("0", "success", _OK),
    ("12001", "picture missing or empty", _FAILED, _FORM),
    ("12002", "picture unreadable", _FAILED, _SCAN),
    ("12003", "picture format not accepted", _FAILED, _SCAN),
    ("12004", "picture over 5 MB", _FAILED, _SCAN),
    ("12005", "RPC failure", _AGAIN),
    ("12006", "program failure", _AGAIN),
)

_ASK_AGAIN = "请再次请求, 如果持续出现此类错误,请联系技术支持团队"
_OVERDRAWN = (
    "App has been overdrawn by 5% of the total count. Please use it after recharging. "
    "实例额度已透支总额度的5%,请充值后使用"
)
_WRONG_FORMAT = (
    "Image format error 上传的图片格式错误,现阶段我们支持的图片格式为:PNG、JPG、JPEG、BMP,"
    "请进行转码或更换图片"
)

_INTSIG_INVOICE: tuple[_Row, ...] = (
    ("200", "Success 请求成功", _OK),
    ("500", "Server error 服务器内部错误", _AGAIN),
    ("40001", f"Access server error 验证服务器错误,{_ASK_AGAIN}", _AGAIN),
    ("40002", f"Service temporarily unavailable 服务暂不可用,{_ASK_AGAIN}", _AGAIN),
    ("40003", "Unsupported openapi method 调用的API不存在,请检查后重新尝试", _CONFIG, _FORM),
    ("40004", "Open api request limit reached 集群超限额", _SLOW),
    ("40017", "Open api daily request limit reached 每天请求量超限额", _RESET, _TOMORROW),
    ("40018", "Open api qps request limit reached QPS超限额", _SLOW, _RATE),
    ("40019", "Open api total request limit reached 请求总量超限额", _TOPUP, _TOP_UP),
    ("40020", "Open api daily testing limit reached. 今日测试次数已达上限", _RESET, _TOMORROW),
    ("40100", "Empty App key or app secret app_key 或 app_secret 为空", _CONFIG, _KEYS),
    ("40101", "App does not exist 实例不存在,请检查 app_key", _CONFIG, _KEYS),
    ("40102", "Invalid app secret 实例验证失败,请检查 app_secret", _CONFIG, _KEYS),
    ("40103", "Invalid App 实例已失效", _CONFIG, _BUY),
    ("40104", "App has expired 实例已超过有效期", _CONFIG, _BUY),
    ("40105", "Invalid IP source 无效的IP来源", _CONFIG, _ADDRESS),
    ("40106", "App does not match service 实例与service不匹配", _CONFIG, _BUY),
    ("40107", _OVERDRAWN, _TOPUP, _TOP_UP),
    ("40110", "App key or app secret invalid app_key 或 app_secret无效", _CONFIG, _KEYS),
    ("40200", "Internal error 服务器内部错误", _ONCE),
    ("40201", "Not enough param 缺少必须的参数,请检查参数是否有遗漏", _FAILED, _FORM),
    ("40202", "Service not support 请求了不支持的服务,请检查调用的url", _CONFIG, _FORM),
    ("40300", "Empty image 图片为空,请检查后重新尝试", _FAILED, _FORM),
    ("40301", _WRONG_FORMAT, _FAILED, _SCAN),
    ("40302", "Image size error 上传的图片大小错误", _FAILED, _SCAN),
    ("40303", "File type unsupport 文件类型不支持", _FAILED, _SCAN),
    ("40400", "Recognize error 识别错误,请再次请求", _AGAIN),
    ("40401", "Image recognize error 图像识别错误", _FAILED, _SCAN),
    ("40500", "Classify failed 未能成功分类", _FAILED, "The picture may not show a VAT invoice."),
    ("40600", "Missing request body 缺少 request body", _FAILED, _FORM),
    ("50001", "Time out 超时", _AGAIN),
    ("90099", "Unknown error 未知错误", _ONCE),
)

_GATEWAY: tuple[_Row, ...] = (
    ("400", "the request's form is not accepted", _CONFIG, _FORM),
    ("401", "the signature is not accepted (ACCESS_ERROR, UNAUTHENTICATED)", _CONFIG, _SIGN),
    ("403", "this account may not call the interface", _CONFIG, _BUY),
    ("404", "no such interface at this address", _CONFIG, _FORM),
    ("405", "the address takes no POST", _CONFIG, _FORM),
    ("407", "a proxy on the way wants credentials", _CONFIG, _NETWORK),
    ("408", "the request did not arrive in time", _AGAIN),
    ("413", "the request is too large", _FAILED, _SCAN),
    ("414", "the address is too long", _CONFIG, _FORM),
    ("415", "the content type is not accepted", _CONFIG, _FORM),
    ("429", "too many requests in this minute", _SLOW, _RATE),
    ("500", "internal error of the gateway", _AGAIN),
    ("502", "the service behind the gateway failed", _AGAIN),
    ("503", "the service is not available", _AGAIN),
    ("504", "the service did not answer in time (DEADLINE_EXCEEDED)", _AGAIN),
    ("RATE_LIMIT_EXCEEDED", "too many requests in this minute", _SLOW, _RATE),
    ("QUOTA_EXCEEDED", "the quota is used up", _RESET, _TOMORROW),
)

_CERTIFICATES = "Check the certificates of this machine."
_PATIENCE = "Raise `read_timeout_seconds` on the connection."

_WIRE: tuple[_Row, ...] = (
    ("name_resolution", "the host's name has no address", _AGAIN, _NETWORK),
    ("connection_refused", "nothing listens at the host", _AGAIN, _NETWORK),
    ("connect_timeout", "the host did not accept the connection in time", _AGAIN, _NETWORK),
    ("tls_handshake", "no trusted TLS connection came about", _AGAIN, _CERTIFICATES),
    ("read_timeout", "sent, and no answer came in time", _DOUBT, _PATIENCE),
    ("connection_broken", "the connection broke after the request had left", _DOUBT),
    ("reply_too_large", "the reply is larger than a reply may be", _DOUBT),
    ("redirect", "the host answers with another address, which is not followed", _DOUBT, _FORM),
    ("reply_truncated", "the reply ended before it was complete", _DOUBT),
    ("reply_unreadable", "the reply is empty, or is not what the service documents", _DOUBT),
    ("reply_without_result", "the reply says success and holds no result", _ONCE),
)

_NEVER_REACHED = frozenset({"name_resolution", "connection_refused", "connect_timeout", "tls_handshake"})

_SEED_INTSIG = "https://aiapi.jd.com/INTSIG/invoice, section 五 of JD's description"
_SEED_OCR = "https://aiapi.jdcloud.com/jdai/ocr_invoice, JD's fuller documentation of the codes"
_TABLES: tuple[tuple[str, tuple[_Row, ...], str], ...] = (
    ("gateway", _GATEWAY, "JD Cloud API gateway, HTTP status and error.status"),
    ("system", _SYSTEM, "JD AI, system codes of both hosts"),
    ("ocr_invoice", _OCR_INVOICE, _SEED_OCR),
    ("intsig_invoice", _INTSIG_INVOICE, _SEED_INTSIG),
    ("wire", _WIRE, "this client: what urllib3 or the reply's text showed"),
)
LAYERS: tuple[str, ...] = tuple(layer for layer, _, _ in _TABLES)


def _chargeable(layer: str, code: str, verdict: Verdict) -> bool:
    if verdict in _NEVER_CHARGED or code in _NEVER_REACHED:
        return False
    # The gateway turns a 4xx away before the service sees it; after a 5xx nobody knows.
    return not (layer == "gateway" and code.startswith("4"))


def _code(layer: str, row: _Row, source: str) -> Code:
    code, meaning, verdict, *advice = row
    return Code(layer, code, meaning, verdict, _chargeable(layer, code, verdict), source, *advice)


CODES: Mapping[tuple[str, str], Code] = MappingProxyType(
    {(layer, row[0]): _code(layer, row, source) for layer, rows, source in _TABLES for row in rows}
)


def code_for(layer: str, code: str) -> Code:
    """The row of a code; for a code in no table, a conservative row that keeps the code verbatim.

    Unknown business and system codes fail the picture and are never sent again blindly; an unknown wire
    failure and an unknown HTTP 5xx may have been charged.
    """
    known = CODES.get((layer, code))
    if known is not None:
        return known
    doubtful = layer == "wire" or (layer == "gateway" and not code.startswith("4"))
    verdict = Verdict.IN_DOUBT if doubtful else Verdict.SETTLE_FAILED
    chargeable = _chargeable(layer, code, verdict)
    return Code(layer, code, "in no table", verdict, chargeable, "unknown", "Ask JD what this code means.")


class JdOcrError(Exception):
    """Everything this package raises on purpose. The message is one sentence with its way out."""

    permanent: bool = False

    def __init__(self, message: str = "", **evidence: Any) -> None:
        super().__init__(message)
        for name, value in evidence.items():
            setattr(self, name, value)


class ConfigurationError(JdOcrError):
    """A connection or an argument that cannot work: the field, the rule it breaks, the way out."""

    permanent = True

    def __init__(self, message: str = "", *, field: str = "", rule: str = "", advice: str = "") -> None:
        super().__init__(message, field=field, rule=rule, advice=advice)

    field: str
    rule: str
    advice: str


class ImageRejected(JdOcrError):  # noqa: N818  the name says what happened
    """A picture that is not worth a call; ``code`` is one of preflight's."""

    permanent = True

    def __init__(self, message: str = "", *, code: str = "", uri: str = "") -> None:
        super().__init__(message, code=code, uri=uri)

    code: str
    uri: str


class ServiceError(JdOcrError):
    """The service answered, and not with a result. Permanent unless its verdict says "again"."""

    def __init__(
        self,
        message: str = "",
        *,
        verdict: Verdict = Verdict.SETTLE_FAILED,
        layer: str = "",
        code: str = "",
        request_id: str | None = None,
        uri: str = "",
    ) -> None:
        permanent = verdict in _PERMANENT
        super().__init__(
            message,
            verdict=verdict,
            layer=layer,
            code=code,
            request_id=request_id,
            uri=uri,
            permanent=permanent,
        )

    verdict: Verdict
    layer: str
    code: str
    request_id: str | None
    uri: str


_PERMANENT = frozenset({_FAILED, _CONFIG, _TOPUP})


class QuotaExhausted(ServiceError):  # noqa: N818  the name says what happened
    """No calls are left. ``seconds`` is the time until the reset, None where only topping up helps."""

    def __init__(
        self,
        message: str = "",
        *,
        verdict: Verdict = Verdict.QUOTA_RESET,
        layer: str = "",
        code: str = "",
        seconds: float | None = None,
    ) -> None:
        super().__init__(message, verdict=verdict, layer=layer, code=code)
        self.seconds = seconds


class InDoubt(ServiceError):  # noqa: N818  the name says what happened
    """A request left and no answer is known; asking again may be paid twice."""

    def __init__(
        self,
        message: str = "",
        *,
        layer: str = "wire",
        code: str = "",
        request_id: str | None = None,
        uri: str = "",
    ) -> None:
        super().__init__(
            message, verdict=Verdict.IN_DOUBT, layer=layer, code=code, request_id=request_id, uri=uri
        )


class ParseError(JdOcrError):
    """A stored answer that does not hold a result in a documented shape; ``reason`` is a stable word."""

    permanent = True

    def __init__(self, message: str = "", *, reason: str = "") -> None:
        super().__init__(message, reason=reason)

    reason: str


class BatchFailed(JdOcrError):  # noqa: N818  the name says what happened
    """More items failed than the author allowed; ``manifest`` holds the counts."""

    def __init__(
        self, message: str = "", *, manifest: Mapping[str, Any] | None = None, permanent: bool = False
    ) -> None:
        super().__init__(message, manifest=dict(manifest or {}), permanent=permanent)

    manifest: dict[str, Any]


class StorageError(JdOcrError):
    """Pictures that could not be listed or read, for a reason other than not being there."""

    def __init__(self, message: str = "", *, uri: str = "", permanent: bool = False) -> None:
        super().__init__(message, uri=uri, permanent=permanent)

    uri: str


class LedgerError(JdOcrError):
    """The ledger could not do what was asked of it; nothing is sent without it."""


class LedgerUnavailable(LedgerError):  # noqa: N818  the name says what happened
    """The ledger's database cannot be reached, or stays locked."""


class LedgerSchemaError(LedgerError):
    """The ledger's tables are of another version than this code; both versions are named."""

    permanent = True

    def __init__(self, message: str = "", *, found: int | None = None, expected: int | None = None) -> None:
        super().__init__(message, found=found, expected=expected)

    found: int | None
    expected: int | None


class WarehouseError(JdOcrError):
    """Rows that could not be written to the warehouse; the answers are safe in the ledger."""

    def __init__(self, message: str = "", *, table: str = "", permanent: bool = False) -> None:
        super().__init__(message, table=table, permanent=permanent)

    table: str


class ReviewRefused(JdOcrError):  # noqa: N818  the name says what happened
    """A person's decision about a document that cannot be carried out; nothing was changed by it."""

    permanent = True

    def __init__(self, message: str = "", *, document_id: str = "", field: str = "") -> None:
        super().__init__(message, document_id=document_id, field=field)

    document_id: str
    field: str
