"""The `jdocr` connection: one account at one endpoint, and the ledger that keeps what it paid for."""

import hashlib
import json
import socket
import uuid
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import (
    AirflowNotFoundException,
    BaseHook,
    get_current_context,
    mask_secret,
)
from requests.utils import get_environ_proxies, select_proxy

from airflow_provider_jdocr.arguments import DEFAULT_CONN_ID
from airflow_provider_jdocr.core import parsing
from airflow_provider_jdocr.core.account import Account, account_from_parts, refuse_misplaced
from airflow_provider_jdocr.core.batch import Policy, Stop, recognise_batch
from airflow_provider_jdocr.core.errors import (
    ConfigurationError,
    ImageRejected,
    InDoubt,
    JdOcrError,
    LedgerError,
    LedgerUnavailable,
    ParseError,
    QuotaExhausted,
    ServiceError,
    Verdict,
)
from airflow_provider_jdocr.core.ledger import Ledger, Outcome, RunKey
from airflow_provider_jdocr.core.parsing import Invoice
from airflow_provider_jdocr.core.quotas import Quota
from airflow_provider_jdocr.core.sources import Missing, Source, Storage, select
from airflow_provider_jdocr.databases import Database, database, default_ledger
from airflow_provider_jdocr.storage import open_storage


class JdOcrHook(BaseHook):
    """An account of JD's OCR services, as the connection `jdocr_conn_id` describes it.

    The connection's login and password are the key and the secret, its host overrides the address, and its
    extras are a closed set (`core.account.EXTRAS`).
    """

    conn_name_attr = "jdocr_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = "jdocr"
    hook_name = "JD OCR"

    def __init__(self, jdocr_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.jdocr_conn_id = jdocr_conn_id

    def get_conn(self) -> Account:
        return self.get_account()

    def get_account(self) -> Account:
        """The frozen account. Raises `ConfigurationError` naming the field, the rule and the way out."""
        return self._account

    def get_ledger(self) -> Ledger:
        """The ledger that the connection names, its tables created where they were missing."""
        ledger = Ledger(self._ledger_database.engine())
        ledger.create()
        return ledger

    def shares_ledger_with(self, other: "JdOcrHook") -> bool:
        """Whether both connections name the same books. Opens nothing."""
        return self._ledger_database == other._ledger_database  # noqa: SLF001 - of the same class

    def get_quota(self) -> Quota:
        """What is known of the account's quota. One query and no call; nothing is left open."""
        account, ledger = self.get_account(), Ledger(self._ledger_database.engine())
        try:
            return self._quota(ledger, account)
        finally:
            ledger.engine.dispose()

    def _quota(self, ledger: Ledger, account: Account) -> Quota:
        try:
            return ledger.quota(account)
        except LedgerUnavailable:
            raise
        except LedgerError:  # its tables are not there, or older
            ledger.create()
            return ledger.quota(account)

    def recognize(self, image: str | bytes | Path, *, storage_conn_id: str | None = None) -> Invoice:
        """One picture's invoice, given as a URI, a local path or its bytes.

        Through ledger and pacing like everything else: a picture that was answered before costs nothing.
        Waits for a slot, not for a quota. Raises `ImageRejected`, `QuotaExhausted`, `InDoubt` or
        `ServiceError` where there is no answer, `ParseError` where there is one that holds no invoice.
        """
        account, ledger, run = self.get_account(), self.get_ledger(), _run_key()
        storage, uri = _storage_of(image, storage_conn_id)
        manifest = recognise_batch(
            select([uri], storage),
            storage=storage,
            account=account,
            ledger=ledger,
            run=run,
            policy=Policy(max_in_flight=1),
            log=self.log,
        )
        outcome = next((found for found in ledger.outcomes(run) if found.uri == uri), None)
        answers = ledger.answers([outcome.identity]) if outcome and outcome.identity else []
        if outcome is None or outcome.outcome not in ("recognised", "reused") or not answers:
            raise _no_answer(account, uri, outcome, manifest.stop)
        return parsing.parse(account.endpoint, answers[0].body)

    def test_connection(self) -> tuple[bool, str]:
        """Checks what can be checked without a billable call, and says what that leaves open."""
        try:
            account = self.get_account()
            self.get_ledger().now()
            _reach(account)
        except (JdOcrError, OSError) as error:
            return False, str(error)
        return True, (
            f"The connection is well formed, its ledger answers and {account.base_url} can be reached. "
            "Key and secret were not tried: JD has no call for that which is not billed."
        )

    @cached_property
    def _connection(self) -> Any:
        try:
            return self.get_connection(self.jdocr_conn_id)
        except AirflowNotFoundException as error:
            raise ConfigurationError(
                f"jdocr_conn_id: there is no connection {self.jdocr_conn_id!r} in Airflow. "
                "Create it with type jdocr, or name another.",
                field="jdocr_conn_id",
            ) from error

    @cached_property
    def _extra(self) -> Mapping[str, Any]:
        text = self._connection.extra
        try:
            extra = json.loads(text) if text else {}
        except (ValueError, RecursionError):
            extra = None
        if not isinstance(extra, dict):
            # Airflow itself reads broken extras as none at all, and the endpoint would silently be another.
            raise ConfigurationError(
                f"Connection {self.jdocr_conn_id!r}: its extra is no JSON object. Correct it.", field="extra"
            )
        return {name: value for name, value in extra.items() if value is not None and value != ""}

    @cached_property
    def _account(self) -> Account:
        connection = self._connection
        if connection.conn_type != self.conn_type:
            raise ConfigurationError(
                f"jdocr_conn_id: connection {self.jdocr_conn_id!r} is of type "
                f"{connection.conn_type!r}, not jdocr. "
                "Name another, or correct its type.",
                field="jdocr_conn_id",
            )
        for secret in (connection.login, connection.password, self._extra.get("security_token")):
            if isinstance(secret, str) and secret:
                mask_secret(secret)
        return account_from_parts(
            login=connection.login,
            password=connection.password,
            host=connection.host,
            port=connection.port,
            schema=connection.schema,
            extra=self._extra,
            name=self.jdocr_conn_id,
        )

    @property
    def _ledger_database(self) -> Database:
        named = self._extra.get("ledger_conn_id")
        refuse_misplaced(self.jdocr_conn_id, self._connection.password, {}, {"ledger_conn_id": named})
        return database(str(named), "ledger_conn_id") if named else default_ledger()


class _OnePicture:
    """A storage that holds the bytes of one picture."""

    def __init__(self, uri: str, content: bytes) -> None:
        self._uri, self._content = uri, content

    def list(self, prefix: str, after: str | None, until: str | None) -> Iterator[Source]:
        raise NotImplementedError("one picture is asked for by its name")

    def stat(self, uri: str) -> Source | Missing:
        return Source(uri, len(self._content))

    def read(self, uri: str) -> bytes:  # noqa: ARG002 - it holds one
        return self._content


def _storage_of(image: str | bytes | Path, storage_conn_id: str | None) -> tuple[Storage, str]:
    if isinstance(image, bytes):
        uri = f"bytes://{hashlib.sha256(image).hexdigest()}"
        return _OnePicture(uri, image), uri
    uri = image if isinstance(image, str) and "://" in image else f"file://{Path(image).absolute()}"
    return open_storage([uri], storage_conn_id), uri


def _run_key() -> RunKey:
    """The running task, or outside of one a run of its own."""
    try:
        ti = get_current_context()["ti"]
    except RuntimeError:
        return RunKey("", f"hook__{uuid.uuid4().hex}", "recognize")
    return run_key_of(ti)


def run_key_of(ti: Any) -> RunKey:
    """The task instance as the ledger knows it: without its try number, so that a retry goes on."""
    return RunKey(ti.dag_id, ti.run_id, ti.task_id, -1 if ti.map_index is None else ti.map_index)


def _no_answer(account: Account, uri: str, outcome: Outcome | None, stop: Stop | None) -> JdOcrError:
    """Why there is no invoice of a picture, as the error that says whose fault it is."""
    code, message = (outcome.code or "", outcome.message or "") if outcome else ("", "")
    match outcome.outcome if outcome else "waiting":
        case "rejected":
            return ImageRejected(f"{uri}: {code}: {message}", code=code, uri=uri)
        case "held":
            return InDoubt(f"{uri}: {message}", code=code, uri=uri)
        case "recognised" | "reused":
            return ParseError(
                f"{uri}: its raw reply was pruned. resend='all' pays for a new one.", reason="pruned"
            )
        case "waiting" if stop and stop.reason == "configuration":
            return ConfigurationError(stop.message)
        case "waiting" if stop and stop.reason.startswith("quota_"):
            return QuotaExhausted(stop.message, verdict=Verdict(stop.reason), seconds=stop.seconds)
        case "waiting":
            return ServiceError(
                stop.message if stop else f"{uri} was not sent", verdict=Verdict.AGAIN, uri=uri
            )
    return ServiceError(f"{uri}: {code}: {message}", layer=account.endpoint.name, code=code, uri=uri)


def _reach(account: Account) -> None:
    """Opens a TCP connection to where calls would go, which is the proxy where one is set, and closes it."""
    proxy = select_proxy(account.url, get_environ_proxies(account.url))
    address = urlsplit(proxy or account.base_url)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), account.connect_timeout_seconds).close()
    except OSError as error:
        raise ConfigurationError(
            f"Connection, host: {address.hostname}:{port} cannot be reached ({error.strerror or error}). "
            "Check the host, the network and the proxy; nothing was sent."
        ) from error
