"""The OCR service: JD's two endpoints over an engine that reads pictures, with what the real ones enforce.

``POST /jdai/ocr_invoice``  JDCLOUD2-HMAC-SHA256 headers, or appkey/timestamp/sign in the query; raw bytes.
``POST /INTSIG/invoice``    appkey/timestamp/sign in the query; base64 text, or as ``body_encoding`` says.

A call goes through, in this order: size of the body (413 beyond the bound, unread) · signature, clock,
nonce (JDCLOUD2: the gateway's 401; appkey: 10001, 10004, 10041, 10042, 10045–10047) · calls a second
(10043) · pack (10010) and day (10040) · body encoding, emptiness, size, format (the endpoint's business
codes) · room for one more reading (10044) · the engine, which reads in the order of arrival. Nothing is
charged until the engine has answered; from then on the call is on the bill, whoever still listens. A picture
that is no invoice is billed, one that cannot be read is not.

``GET /-/health``   200 once the engine is warm: its name, a note when it is no OCR; to this machine also what
                    behaviour holds, how many pictures are being read and are on the bill, replies by code.

Where ``control`` is on, to programs of this machine, not to its browsers nor to a proxy that says so:

``GET /-/bill``     the JSON list of what was billed, the last hundred thousand: ``sha256`` of the decoded
                    picture, ``endpoint``, ``at`` (UTC), ``request_id``, ``code``.
``GET /-/calls``    the JSON list of calls, the last hundred thousand, in the order in which they were
                    answered: ``endpoint``, ``code`` as counted by ``health``, ``at`` (UTC) when it was whole
                    and the rate was asked, ``request_id``. What was refused is there too.
``POST /-/behave``  JSON that changes behaviour or queues faults, see ``faults``; an unknown key is a 422 that
                    names it. Answers what holds now.
"""

import asyncio
import contextlib
import hashlib
import ipaddress
import json
import logging
import time
import uuid
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from datetime import time as time_of_day
from typing import Any, Protocol
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from fastapi import FastAPI, HTTPException, Request
from pydantic import ValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import JSONResponse, Response, StreamingResponse

from airflow_provider_jdocr.core.endpoints import ENDPOINTS, Endpoint
from airflow_provider_jdocr.server import contracts
from airflow_provider_jdocr.server.contracts import Business, Json
from airflow_provider_jdocr.server.faults import Behave, Fault, FaultQueue, RemainShown
from airflow_provider_jdocr.server.limits import Allowance, Quota, Rate, Window
from airflow_provider_jdocr.server.pictures import Encoding, Picture, Reason, decode, open_picture
from airflow_provider_jdocr.server.recognise import Reading, Unreadable
from airflow_provider_jdocr.server.signatures import (
    Keys,
    Nonces,
    SignedRequest,
    appkey_refusal,
    jdcloud2_refusal,
)
from airflow_provider_jdocr.server.wire import (
    BodyRefused,
    HangUp,
    Stamped,
    blanks,
    blanks_for_ever,
    bounded_body,
)

STUB_NOTE = "no OCR: answers come from truth embedded in the picture; for load and crash tests only"
_ENGINE_HEADER = b"x-jdocr-engine"
_CALLS_KEPT = 100_000
_FULL = "10044"
"""Too many calls for all that serve them: never charged, and a caller that heeds it slows down."""
_SHOWN_INSTEAD = {"zero": 0, "unlimited": -1}
_CONTROL_LIMIT_BYTES = 2**20
# What a proxy on this machine adds, by which its callers are told from this machine's own.
_FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")

log = logging.getLogger(__name__)


class Engine(Protocol):
    """Reads a picture. ``read`` runs in several threads and raises Unreadable for what it cannot open.

    An engine that has to load something has a method ``warm`` as well.
    """

    name: str

    def read(self, picture: bytes) -> Reading: ...


@dataclass(frozen=True, slots=True)
class Settings:
    """What the service starts with."""

    access_key: str
    secret_key: str = field(repr=False)
    qps: float = 2.0
    window: Window = "sliding"
    daily_limit: int = 500
    total_limit: int = -1
    latency_seconds: float = 0.0
    reset_time: time_of_day = time_of_day(0, 0)
    reset_timezone: str = "Asia/Shanghai"
    body_encoding: Encoding = "base64"
    remain: RemainShown = "count"
    date_window_seconds: float = 900.0
    timestamp_window_seconds: float = 300.0
    workers: int = 2
    waiting: int = 16
    uploads: int = 32
    """Bodies taken in at once; with ``body_limit_bytes`` the most memory that strangers can fill."""
    body_limit_bytes: int = 8 * 2**20
    control: bool = False
    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        ZoneInfo(self.reset_timezone)


@dataclass(frozen=True, slots=True)
class Bill:
    sha256: str
    endpoint: str
    at: str
    request_id: str
    code: str


@dataclass(frozen=True, slots=True)
class Counted:
    """A call and the code it was answered with, or the fault that took it."""

    endpoint: str
    code: str
    at: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Call:
    """One request on its way through the service. ``at``: seconds since the epoch, by the service's clock."""

    endpoint: Endpoint
    request_id: str
    at: float
    request: Request = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply before it is sent: its JSON and the code it is counted under."""

    code: str
    body: Json
    status: int = 200


class Service:
    """The state behind the endpoints. It is touched on the event loop only; threads just read pictures."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._clock = clock
        self._ticks = ticks
        self._keys = Keys(settings.access_key, settings.secret_key)
        self._readers = ThreadPoolExecutor(settings.workers, thread_name_prefix="read")
        self._uploads = asyncio.Semaphore(settings.uploads)
        self._reading = 0
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._now_holds = self._settings
        self._clock_offset = 0.0
        self._faults = FaultQueue(self._settings.faults)
        self._nonces = Nonces(2 * self._settings.date_window_seconds)
        self._quotas = {name: Quota(self._allowance(), self.now()) for name in ENDPOINTS}
        self._rates = self._new_rates()
        self.bill: deque[Bill] = deque(maxlen=_CALLS_KEPT)
        self._billed = 0
        self.calls: deque[Counted] = deque(maxlen=_CALLS_KEPT)
        self._replies: Counter[tuple[str, str]] = Counter()

    # -- control ---------------------------------------------------------------------------------------------

    def now(self) -> float:
        return self._clock() + self._clock_offset

    async def warm(self) -> None:
        """Have the engine load what it needs; the port is open afterwards only."""
        if warm := getattr(self._engine, "warm", None):
            await asyncio.get_running_loop().run_in_executor(self._readers, warm)

    def close(self) -> None:
        self._readers.shutdown(wait=False, cancel_futures=True)

    def behave(self, change: Behave) -> Json:
        """Take over what is named; gives what holds now."""
        if change.reset:
            self._start_afresh()
        given = change.model_dump(
            include={
                "qps",
                "window",
                "daily_limit",
                "total_limit",
                "reset_time",
                "body_encoding",
                "remain",
            },
            exclude_none=True,
        )
        if change.latency is not None:
            given["latency_seconds"] = change.latency
        self._now_holds = replace(self._now_holds, **given)
        if change.clock_offset_seconds is not None:
            self._clock_offset = change.clock_offset_seconds
        if change.faults is not None:
            self._faults = FaultQueue(change.faults)
        if {"qps", "window"} & given.keys():
            self._rates = self._new_rates()
        for quota in self._quotas.values():
            quota.allowance = self._allowance()
        return self.behaviour()

    def behaviour(self) -> Json:
        holds = self._now_holds
        return {
            "latency": holds.latency_seconds,
            "qps": holds.qps,
            "window": holds.window,
            "daily_limit": holds.daily_limit,
            "total_limit": holds.total_limit,
            "reset_time": holds.reset_time.isoformat(),
            "reset_timezone": holds.reset_timezone,
            "body_encoding": holds.body_encoding,
            "remain": holds.remain,
            "clock_offset_seconds": self._clock_offset,
            "faults_waiting": len(self._faults),
        }

    def health(self, *, in_full: bool) -> Json:
        note = {"note": STUB_NOTE} if self._engine.name == "stub" else {}
        head: Json = {"status": "ok", "engine": self._engine.name, **note}
        return head | self._activity() if in_full else head

    def _activity(self) -> Json:
        replies: dict[str, dict[str, int]] = {name: {} for name in ENDPOINTS}
        for (name, code), count in sorted(self._replies.items()):
            replies[name][code] = count
        return {
            "behaviour": self.behaviour(),
            "reading": self._reading,
            "billed": self._billed,
            "replies": replies,
        }

    def _allowance(self) -> Allowance:
        holds = self._now_holds
        return Allowance(holds.daily_limit, holds.total_limit, holds.reset_time, holds.reset_timezone)

    def _new_rates(self) -> dict[str, Rate]:
        return {name: Rate(self._now_holds.qps, self._now_holds.window) for name in ENDPOINTS}

    # -- one call --------------------------------------------------------------------------------------------

    async def answer(self, endpoint: Endpoint, request: Request) -> Response:
        """The reply to one call, whatever it is worth."""
        call = Call(endpoint, uuid.uuid4().hex, self.now(), request)
        if fault := self._faults.take_on_arrival(endpoint.name):
            self._count(call, fault.fault)
            return HangUp(reset=fault.how == "reset")
        async with self._uploads:
            body = await bounded_body(request, self._settings.body_limit_bytes)
        if isinstance(body, BodyRefused):
            return self._gateway(call, body.status, body.message)
        call = replace(call, at=self.now())
        return self._stop_at_the_door(call, body) or await self._serve(call, body)

    def _stop_at_the_door(self, call: Call, body: bytes) -> Response | None:
        """Why the call is not served; None means that it holds a place of the quota."""
        if response := self._check_signature(call, body):
            return response
        name = call.endpoint.name
        if not self._rates[name].admit(self._ticks()):
            return self._refuse(call, "10043")
        code = self._quotas[name].hold(self.now())
        return self._refuse(call, code) if code else None

    def _check_signature(self, call: Call, body: bytes) -> Response | None:
        request, holds = call.request, self._settings
        query = request.scope["query_string"].decode("latin-1")
        by_header = call.endpoint.auth == "jdcloud2" and (
            "authorization" in request.headers or "appkey=" not in query
        )
        if not by_header:
            code = appkey_refusal(query, self._keys, self.now(), holds.timestamp_window_seconds)
            return self._refuse(call, code, known=False) if code else None
        signed = SignedRequest(
            request.method, request.scope["raw_path"].decode("latin-1"), query, request.headers, body
        )
        wrong = jdcloud2_refusal(signed, self._keys, self.now(), holds.date_window_seconds)
        if wrong is None and not self._nonces.first_use(request.headers["x-jdcloud-nonce"], self.now()):
            wrong = "the nonce was used before"
        return self._gateway(call, 401, wrong) if wrong else None

    async def _serve(self, call: Call, body: bytes) -> Response:
        """The call holds a place of the quota, which is settled here on every path."""
        encoding = self._encoding(call.endpoint)
        sha256 = hashlib.sha256(decode(body, encoding) or body).hexdigest()
        fault = self._faults.take(call.endpoint.name, sha256)
        if fault is not None and fault.in_place_of_the_answer:
            self._settle(call, sha256, fault.is_billed, str(fault.code or fault.fault))
            return self._in_place_of_the_answer(call, fault)
        billed = False
        outcome: Business | None = None
        try:
            outcome, billed = await self._recognise(call, open_picture(body, encoding, call.endpoint))
        finally:
            self._settle(call, sha256, billed, outcome.code if outcome else "")
        if outcome is None:
            return self._refuse(call, _FULL)
        envelope = contracts.success(
            call.endpoint.name, outcome, charge=billed, remaining=self._shown_remaining(call)
        )
        answer = Answer(f"{contracts.SUCCESS}/{outcome.code}", envelope)
        return self._send(call, answer) if fault is None else await self._spoil(call, answer, fault)

    async def _recognise(self, call: Call, picture: Picture | Reason) -> tuple[Business | None, bool]:
        """The business result and whether it is billed; None when there is no room for one more reading."""
        name = call.endpoint.name
        if not isinstance(picture, Picture):
            return contracts.failed(name, picture, call.request_id), False
        await asyncio.sleep(self._now_holds.latency_seconds)
        # Nothing is awaited between this look and the place that is taken.
        if self._reading >= self._settings.workers + self._settings.waiting:
            return None, False
        begun = self._ticks()
        reading = await self._read(picture.content)
        if not isinstance(reading, Reading):
            return contracts.failed(name, reading, call.request_id), False
        cost = round((self._ticks() - begun) * 1000)
        return contracts.recognised(name, reading, call.request_id, cost), True

    async def _read(self, content: bytes) -> Reading | Reason:
        self._reading += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._readers, self._engine.read, content)
        except Unreadable:
            return "unreadable"
        except Exception:  # JD answers its own errors with a code too; the log has the trace
            log.exception("the engine failed")
            return "program"
        finally:
            self._reading -= 1

    def _encoding(self, endpoint: Endpoint) -> Encoding:
        return "raw" if endpoint.body_encoding == "raw" else self._now_holds.body_encoding

    # -- replies ---------------------------------------------------------------------------------------------

    def _settle(self, call: Call, sha256: str, billed: bool, code: str) -> None:
        name, now = call.endpoint.name, self.now()
        self._quotas[name].settle(billed=billed, now=now)
        if billed:
            self._billed += 1
            self.bill.append(Bill(sha256, name, _as_text(now), call.request_id, code))

    def _shown_remaining(self, call: Call) -> int:
        counted = self._quotas[call.endpoint.name].remaining(self.now())
        return _SHOWN_INSTEAD.get(self._now_holds.remain, counted)

    def _refuse(self, call: Call, code: str, *, known: bool = True) -> Response:
        name = call.endpoint.name
        remaining = self._quotas[name].remaining(self.now()) if known else None
        return self._send(call, Answer(code, contracts.refusal(name, code, call.request_id, remaining)))

    def _gateway(self, call: Call, status: int, message: str, word: str | None = None) -> Response:
        body = contracts.gateway_error(status, message, call.request_id, word)
        return self._send(call, Answer(f"HTTP {status}", body, status))

    def _send(self, call: Call, answer: Answer) -> Response:
        self._count(call, answer.code)
        return JSONResponse(answer.body, answer.status, headers=_request_id(call))

    def _count(self, call: Call, code: str) -> None:
        self._replies[call.endpoint.name, code] += 1
        self.calls.append(Counted(call.endpoint.name, code, _as_text(call.at), call.request_id))
        log.info("%s %s %s", call.endpoint.name, code, call.request_id)

    def _in_place_of_the_answer(self, call: Call, fault: Fault) -> Response:
        match fault.fault:
            case "busy":
                return self._refuse(call, "10020")
            case "code":
                return self._send(call, self._any_code(call, fault))
            case "status" if not fault.empty:
                return self._gateway(call, fault.status_code, fault.msg or "as told", fault.word)
        self._count(call, fault.fault)
        return _raw_reply(fault)

    def _any_code(self, call: Call, fault: Fault) -> Answer:
        name, code = call.endpoint.name, fault.code if fault.code is not None else ""
        remaining = self._shown_remaining(call)
        if fault.layer == "business":
            business = contracts.business_failure(name, code, fault.msg or "as told", call.request_id)
            body = contracts.success(name, business, charge=fault.charge is True, remaining=remaining)
            label = f"{contracts.SUCCESS}/{code}"
        else:
            body = contracts.refusal(name, str(code), call.request_id, remaining) | {"code": code}
            body["msg"] = fault.msg or body["msg"]
            label = str(code)
        body["charge"] = fault.charge
        if fault.charge is None:
            del body["charge"]
        return Answer(label, body if fault.envelope else body.get("result", body), fault.status_code)

    async def _spoil(self, call: Call, answer: Answer, fault: Fault) -> Response:
        if fault.fault == "close_after_billing":
            self._count(call, fault.fault)
            return HangUp(reset=fault.how == "reset")
        whole = self._send(call, replace(answer, body=_respelled(answer.body, fault)))
        match fault.fault:
            case "late":
                await asyncio.sleep(fault.wait_seconds)
            case "half":
                return HangUp(reset=fault.how == "reset", whole=whole)
            case "truncated_json":
                text = bytes(whole.body)
                return Response(text[: len(text) // 2], media_type="application/json")
        return whole


def _raw_reply(fault: Fault) -> Response:
    """A reply that has nothing of JD's shapes."""
    status = fault.status_code
    match fault.fault:
        case "status":
            return Response(status_code=status)
        case "redirect":
            return Response(status_code=status, headers={"location": fault.location})
        case "html_502":
            page = f"<html><body><h1>{status} Bad Gateway</h1></body></html>"
            return Response(page, status, media_type="text/html")
        case "garbage":
            return Response(b"\x00\xff\xfe not json", media_type="application/json")
        case "huge":
            return StreamingResponse(blanks(fault.bytes), media_type="application/json")
        case "chunk_forever":
            return StreamingResponse(blanks_for_ever(fault.wait_seconds), media_type="application/json")
    return HangUp(reset=fault.how == "reset")


def _respelled(envelope: Json, fault: Fault) -> Json:
    """The same answer in another dress."""
    match fault.fault:
        case "drop_envelope":
            inner: Json = envelope["result"]
            return inner
        case "result_as_string":
            return envelope | {"result": json.dumps(envelope["result"], ensure_ascii=False)}
        case "envelope":
            kept = {key: value for key, value in envelope.items() if key not in fault.unset}
            return kept | fault.set
        case "misread":
            return _misread(envelope, fault.set)
    return envelope


def _misread(envelope: Json, texts: Mapping[str, Any]) -> Json:
    """The same answer with other texts; one without a reading stays as it is."""
    business: Json = envelope["result"]
    if (read := business.get("result")) is None:
        return envelope
    if "item_list" in read:
        items = [item | {"value": texts.get(item["key"], item["value"])} for item in read["item_list"]]
        read = read | {"item_list": items}
    else:
        read = read | texts
    return envelope | {"result": business | {"result": read}}


def _as_text(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")


def _request_id(call: Call) -> dict[str, str]:
    return {"x-jdcloud-request-id": call.request_id}


def _from_this_machine(request: Request) -> bool:
    """Whether the caller is a program of this machine that called by itself.

    A proxy here calls for others, and most say so; a browser here calls for the pages it shows, be it under a
    name of theirs that leads here.
    """
    return (
        request.client is not None
        and _is_loopback(request.client.host)
        and _is_loopback(_called_by_name(request))
        and not any(name in request.headers for name in (*_FORWARDED, "origin"))
    )


def _called_by_name(request: Request) -> str:
    try:
        name = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    except ValueError:
        return ""
    return "127.0.0.1" if name == "localhost" else name


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.removeprefix("::ffff:")).is_loopback
    except ValueError:
        return False


def _require_control(request: Request, *, switched_on: bool) -> None:
    """Whoever may change behaviour can have the service answer and bill anything."""
    if not switched_on:
        raise HTTPException(403, "the service was started without --control")
    if not _from_this_machine(request):
        raise HTTPException(403, "from this machine only, by its own address and not through a proxy")


def create_app(
    settings: Settings,
    engine: Engine,
    *,
    clock: Callable[[], float] = time.time,
    ticks: Callable[[], float] = time.monotonic,
) -> FastAPI:
    """The application. Run it by ``wire.uvicorn_config``: faults that end a connection need its protocol."""
    service = Service(settings, engine, clock, ticks)

    @contextlib.asynccontextmanager
    async def warm_engine(_: FastAPI) -> AsyncIterator[None]:
        await service.warm()
        yield
        service.close()

    app = FastAPI(
        lifespan=warm_engine, openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    if engine.name == "stub":
        app.add_middleware(Stamped, name=_ENGINE_HEADER, value=b"stub")
    app.add_exception_handler(StarletteHTTPException, _as_gateway_error)
    for endpoint in ENDPOINTS.values():
        app.add_api_route(endpoint.path, _caller(service, endpoint), methods=["POST"])
    _add_control(app, service, switched_on=settings.control)
    return app


def _caller(service: Service, endpoint: Endpoint) -> Callable[[Request], Any]:
    async def call(request: Request) -> Response:
        return await service.answer(endpoint, request)

    return call


def _add_control(app: FastAPI, service: Service, *, switched_on: bool) -> None:
    @app.get("/-/health")
    async def health(request: Request) -> Json:
        return service.health(in_full=_from_this_machine(request))

    @app.get("/-/bill")
    async def bill(request: Request) -> list[Bill]:
        _require_control(request, switched_on=switched_on)
        return list(service.bill)

    @app.get("/-/calls")
    async def calls(request: Request) -> list[Counted]:
        _require_control(request, switched_on=switched_on)
        return list(service.calls)

    @app.post("/-/behave")
    async def behave(request: Request) -> Json:
        _require_control(request, switched_on=switched_on)
        return service.behave(await _change(request))


async def _change(request: Request) -> Behave:
    """The posted change, read here and not by FastAPI, which takes in any length before it asks who calls."""
    # A page can have a browser post anything but JSON without asking first.
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "application/json is wanted")
    body = await bounded_body(request, _CONTROL_LIMIT_BYTES)
    if isinstance(body, BodyRefused):
        raise HTTPException(body.status, body.message)
    try:
        return Behave.model_validate_json(body)
    except ValidationError as error:
        raise HTTPException(422, str(error)) from None


async def _as_gateway_error(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, StarletteHTTPException) else 500
    detail = str(getattr(error, "detail", ""))
    return JSONResponse(contracts.gateway_error(status, detail, uuid.uuid4().hex), status)
