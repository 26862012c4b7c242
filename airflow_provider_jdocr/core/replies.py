"""What a reply means for money, and where in it the result is: the layers of a reply, outermost first.

A reply has up to three layers: an error of the gateway, JD's envelope (code, charge, what is left), and the
service's own result, which may be bare, and any of which may be JSON inside a JSON string. ``read_reply`` is
total: any status and any bytes get a verdict, in time linear in their number.

Money follows one rule. ``charge`` is the only authority: a failure that was charged is settled. A code that
says "again" is obeyed where the reply says ``charge: false`` or where the code is never charged; where
nothing is said, the picture is in doubt. Verdicts that stop everything (quota, configuration) stand whatever
``charge`` says, since going on is what would cost.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_jdocr.core.client import WireFailure
from airflow_provider_jdocr.core.endpoints import Endpoint
from airflow_provider_jdocr.core.errors import CODES, Code, ParseError, Verdict, code_for

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class QuotaNews:
    """What a reply says about the calls left; all empty when it says nothing that can be believed.

    ``remaining`` is the smaller of ``remain`` and ``remainTimes``. A 0 is believed only beside a quota code:
    paid plans show 0 on a success. ``unlimited`` is JD's -1.
    """

    remaining: int | None = None
    unlimited: bool = False
    seconds_left: int | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reply means for the picture and for the bill. ``charged`` None: the reply does not say.

    ``layer`` and ``code`` name the row of ``errors.CODES`` that decided. The verdict may be stricter than the
    row's: an "again" that was charged is settled, an "again" without a word about it is in doubt.
    """

    verdict: Verdict
    charged: bool | None
    layer: str
    code: str
    message: str
    request_id: str | None
    quota: QuotaNews


def read_reply(endpoint: Endpoint, status: int, body: bytes) -> Reading:
    """What an HTTP status and a body mean; never raises."""
    try:
        layers = _layers(endpoint, _decoded(body))
    except ValueError:
        layers = []
    charged = _charge(layers)
    code = _deciding(endpoint, status, layers)
    verdict = _by_charge(code, charged)
    if charged is None and not code.chargeable:
        charged = False
    return Reading(
        verdict=verdict,
        charged=charged,
        layer=code.layer,
        code=code.code,
        message=_said(layers, code, _MESSAGES) or code.meaning,
        request_id=_said(layers, code, _REQUEST_IDS) or None,
        quota=_quota(layers, code.verdict),
    )


def read_failure(failure: WireFailure) -> Reading:
    """What the lack of a reply means: in doubt once the server was reached, free to send again before
    that.
    """
    code = code_for("wire", failure.code)
    verdict = Verdict.IN_DOUBT if failure.reached else Verdict.AGAIN
    charged = None if failure.reached else False
    return Reading(verdict, charged, code.layer, code.code, failure.detail, None, QuotaNews())


def business_result(endpoint: Endpoint, body: bytes) -> Object:
    """The innermost result of a reply, for the parser; ``ParseError`` when there is none.

    INTSIG's ``cost_time``, one level up, comes along when the result has none of its own.
    """
    try:
        layers = _layers(endpoint, _decoded(body))
    except ValueError as error:
        raise ParseError(f"The stored reply is not JSON: {error}", reason="not_json") from None
    if not layers or not _is_result(endpoint, layers):
        raise ParseError("The stored reply holds no result of an invoice.", reason="no_result")
    outer = layers[-2] if len(layers) > 1 else {}
    carried = {key: outer[key] for key in ("cost_time",) if key in outer}
    return {**carried, **layers[-1]}


# ── the layers ──

_RESULT_KEYS: Mapping[str, frozenset[str]] = {
    # Without "code", which is a status as well as an invoice's code.
    "ocr_invoice": frozenset(
        {
            "buyer_name",
            "buyer_tax_no",
            "invoice_amount",
            "invoice_date",
            "invoice_no",
            "invoice_type",
            "saler_name",
            "saler_tax_no",
            "tax_amount",
            "total_amount",
            "verify_code",
        }
    ),
    "intsig_invoice": frozenset({"item_list", "product_list", "image_angle"}),
}
_ODD_SUCCESS = frozenset({"", "0", "1000", "1001"})
"""Outer codes of JD's own samples that no table holds; a success where a result is inside."""
_LAYER_KEYS = frozenset({"msg", "message", "result"})
_MOST_LAYERS = 4


def _layers(endpoint: Endpoint, root: Any) -> list[dict[str, Any]]:
    """The objects from the envelope to the result, each found under ``result`` of the one before."""
    found: list[dict[str, Any]] = []
    inner = _unquoted(root)
    while isinstance(inner, dict) and len(found) < _MOST_LAYERS:
        found.append(inner)
        if _is_result(endpoint, found):
            break
        inner = _unquoted(inner.get("result"))
    return found


def _is_result(endpoint: Endpoint, layers: list[dict[str, Any]]) -> bool:
    """Whether the innermost layer is a result: by its keys, or by its place under the service's own success.

    By its place even without a key that is known, or without any: then nothing was recognised.
    """
    innermost = layers[-1]
    if not _RESULT_KEYS[endpoint.parser].isdisjoint(innermost):
        return True
    success = len(layers) > 1 and _code_text(layers[-2]) == _SUCCESS[endpoint.parser]
    unknown = _row(endpoint, _code_text(innermost)).source == "unknown"
    return success and unknown and _LAYER_KEYS.isdisjoint(innermost)


def _unquoted(value: Any) -> Any:
    """What a JSON text inside a JSON string says; anything else as it is."""
    for _ in range(_MOST_LAYERS):
        if not isinstance(value, str) or value.lstrip()[:1] not in ("{", '"'):
            break
        try:
            value = _parsed(value)
        except ValueError:
            break
    return value


# ── the verdict ──


def _deciding(endpoint: Endpoint, status: int, layers: list[dict[str, Any]]) -> Code:
    """The row of the table that says what happened."""
    code = _inner(endpoint, layers)
    error = _gateway_error(layers)
    if error and not (code and code.verdict is Verdict.SUCCESS):
        return _gateway(status, error)
    if status >= 400 and (code is None or code.source == "unknown"):
        return _gateway(status, {})
    return code or CODES["wire", "reply_unreadable"]


def _gateway_error(layers: list[dict[str, Any]]) -> Object:
    error = layers[0].get("error") if layers else None
    return error if isinstance(error, dict) else {}


def _gateway(status: int, error: Object) -> Code:
    """By the HTTP status, whatever word stands beside it, except that a quota word is a quota stop."""
    word = _text(error.get("status"))
    if ("gateway", word) in CODES:
        return CODES["gateway", word]
    return code_for("gateway", str(status) if status >= 400 else _code_text(error))


def _inner(endpoint: Endpoint, layers: list[dict[str, Any]]) -> Code | None:
    """The outermost failure, or success where a result is; None where no layer says anything."""
    declared = False
    for layer in layers:
        here = layer is layers[-1] and _is_result(endpoint, layers)
        text = "" if here and endpoint.parser == "ocr_invoice" else _code_text(layer)
        code = _row(endpoint, text)
        declared = declared or code.verdict is Verdict.SUCCESS
        odd = text in _ODD_SUCCESS and (here or not text or layer is not layers[-1])
        if code.verdict is not Verdict.SUCCESS and not odd:
            return code
        if here:
            return CODES[endpoint.parser, _SUCCESS[endpoint.parser]]
    return CODES["wire", "reply_without_result"] if declared else None


_SUCCESS: Mapping[str, str] = {"ocr_invoice": "0", "intsig_invoice": "200"}


def _row(endpoint: Endpoint, code: str) -> Code:
    """A code's row. No code is in two tables, so it is known by itself which layer said it."""
    known = CODES.get(("system", code)) or CODES.get((endpoint.parser, code))
    return known or code_for(endpoint.parser, code)


def _by_charge(code: Code, charged: bool | None) -> Verdict:
    """Law: "again" only for what cost nothing; what was charged is settled; silence is doubt."""
    if code.verdict not in _SENT_AGAIN:
        return code.verdict
    if charged is True:
        return Verdict.SETTLE_FAILED
    if charged is False or not code.chargeable:
        return code.verdict
    return Verdict.IN_DOUBT


_SENT_AGAIN = frozenset({Verdict.AGAIN, Verdict.AGAIN_ONCE, Verdict.SLOW_DOWN})


# ── what the envelope says ──

_MESSAGES = ("msg", "message")
_REQUEST_IDS = ("requestId", "request_id")
_LONGEST_TEXT = 500
_LARGEST = 2**63 - 1


def _said(layers: list[dict[str, Any]], code: Code, keys: tuple[str, ...]) -> str:
    """The first text under these keys: from the layer that gave the code, else from the outermost."""
    deciding = [layer for layer in layers if _code_text(layer) == code.code]
    places = (_gateway_error(layers), *deciding, *layers)
    return next((text for place in places for key in keys if (text := _text(place.get(key)))), "")


def _code_text(layer: Object) -> str:
    return _text(layer.get("code")).removesuffix(".0")


def _charge(layers: list[dict[str, Any]]) -> bool | None:
    said = next((layer["charge"] for layer in layers if "charge" in layer), None)
    return {"true": True, "false": False}.get(_text(said).lower())


def _quota(layers: list[dict[str, Any]], verdict: Verdict) -> QuotaNews:
    envelope = next((layer for layer in layers if not _QUOTA_KEYS.isdisjoint(layer)), {})
    calls = [_integer(envelope.get(key)) for key in ("remain", "remainTimes")]
    spent = verdict in (Verdict.QUOTA_RESET, Verdict.QUOTA_TOPUP)
    believed = [call for call in calls if call is not None and (call > 0 or (call == 0 and spent))]
    seconds = _integer(envelope.get("remainSeconds"))
    return QuotaNews(
        remaining=min(believed, default=None),
        unlimited=-1 in calls and not believed and not spent,
        seconds_left=seconds if seconds is not None and seconds > 0 else None,
    )


_QUOTA_KEYS = frozenset({"remain", "remainTimes", "remainSeconds"})


def _integer(value: Any) -> int | None:
    """An integer given as a number or as a text; None for anything else, and for what no column holds."""
    text = _text(value).removesuffix(".0")
    if len(text) > 20 or not text.removeprefix("-").isdecimal():
        return None
    number = int(text)
    return number if abs(number) <= _LARGEST else None


def _text(value: Any) -> str:
    """A scalar as JSON would print it, without blanks around it; nothing for lists, objects and null."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value).strip()[:_LONGEST_TEXT]
    return ""


# ── bytes to objects ──

_MOST_CONTAINERS = 50_000
"""Lists and objects of one reply; an invoice of a hundred lines has a few hundred."""
_DEEPEST = 64
_LONGEST_INTEGER = 30


def _decoded(body: bytes) -> Any:
    """What the bytes say as JSON; ``ValueError`` when they say nothing."""
    try:
        return _parsed(body.decode(json.detect_encoding(body)))
    except UnicodeDecodeError:
        return _parsed(_repaired(body))


def _repaired(body: bytes) -> str:
    """UTF-8 with a broken byte here and there, or else GB 18030, which accepts nearly everything."""
    text = body.decode("utf-8", "replace")
    foreign = sum(character > "\x7f" for character in text)
    if text.count("\ufffd") * 4 < foreign:
        return text
    return body.decode("gb18030", "replace")


def _parsed(text: str) -> Any:
    """JSON that a database can store again; ``ValueError`` for everything else, nesting bombs included."""
    if sum(map(text.count, "[{")) > _MOST_CONTAINERS:
        # In memory each is a hundred times as large as its bracket.
        raise ValueError("too many lists and objects")
    try:
        value = json.loads(text, parse_int=_whole, parse_float=_real, parse_constant=_nothing)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return _storable(value, _DEEPEST)


def _whole(text: str) -> int | str:
    # Converting takes quadratic time, and thousands of digits are refused: no number of ours is that long.
    return int(text) if len(text) <= _LONGEST_INTEGER else text


def _real(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else text


def _nothing(_: str) -> None:
    return None


def _storable(value: Any, deepest: int) -> Any:
    """The same value without what no database takes: NUL, half surrogates, nesting without end."""
    if isinstance(value, str):
        if value.isprintable():
            return value
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
    if not isinstance(value, dict | list):
        return value
    if not deepest:
        raise ValueError("nested too deeply")
    if isinstance(value, list):
        return [_storable(one, deepest - 1) for one in value]
    return {_storable(key, deepest - 1): _storable(one, deepest - 1) for key, one in value.items()}
