"""Everything that can go wrong with a secret at hand, done to a real Airflow: what `canaries` then searches.

A drive is a DAG run under a condition that makes some part of it speak: an error, a refusal, a service that
repeats what it was sent. Each says what its log must show, so that a drive that drove nothing is noticed.
"""

import os
import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from tests.system.installation import AWS_KEY, AWS_SECRET, KEY, SECRET, Installation, Run, until
from tests.system.pictures import stub_picture
from tests.system.s3_door import Fault

LEDGER_PASSWORD = "Canary+Ledger/Pg=Xw4&r8Tb"
WAREHOUSE_PASSWORD = "Canary+Warehouse/Pg=Jc7&n2Qf"
AWS_TOKEN = "Canary+Token/Aws=Hh5&v9Zs"
SECURITY_TOKEN = "Canary+Token/Jd=Pm3&u6Wa"
MISPLACED = "CanaryMisplacedGt8Ry4Ko2"
"""A secret that was typed into the wrong field: no part of Airflow knows that it is one."""

SECRETS: Mapping[str, str] = {
    "key": KEY,
    "secret": SECRET,
    "security token": SECURITY_TOKEN,
    "aws key": AWS_KEY,
    "aws secret": AWS_SECRET,
    "aws token": AWS_TOKEN,
    "ledger's password": LEDGER_PASSWORD,
    "warehouse's password": WAREHOUSE_PASSWORD,
    "misplaced secret": MISPLACED,
}

_pictures = count(700_000)
_AT_A_TIME = 4


@dataclass(frozen=True, slots=True)
class Drive:
    """`says`: a pattern that the log of `task` must hold. The rest: what the run is given.

    `account` and `extra` change the connection of the account. `echoes`, `behave` and `s3` need the service
    or the storage for this run alone; the other drives may run at the same time.
    """

    says: str
    task: str = "recognise"
    images: int = 1
    account: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    ledger: Mapping[str, Any] | None = None
    warehouse: Mapping[str, Any] | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    echoes: Sequence[str] = ()
    behave: Mapping[str, Any] | None = None
    s3: Fault | None = None
    kill: bool = False
    clear: bool = False

    @property
    def alone(self) -> bool:
        return bool(self.echoes or self.behave or self.s3 or self.kill)


_APPKEY = {"endpoint": "intsig_invoice"}
_HASTE = {"connect_timeout_seconds": 1, "read_timeout_seconds": 1}
_NOWHERE = {"conn_type": "postgres", "host": "127.0.0.1", "port": 9, "schema": "books", "login": "clerk"}
_LONG_LIST = (
    "again",
    "charged failure",
    "no word of charge",
    "no word of charge",
    "printed on the invoice",
    "request id",
    "garbage",
    "garbage",
    "html",
    "html",
    "redirect",
    "redirect",
    "server error",
)


def _misplaced(name: str, extra: Mapping[str, Any] | None = None, **account: Any) -> dict[str, Drive]:
    return {f"secret in {name}": Drive("", account=account, extra=extra or {})}


DRIVES: Mapping[str, Drive] = {
    "nothing wrong": Drive("recognised"),
    "nothing wrong, appkey": Drive("recognised", extra=_APPKEY),
    "security token": Drive("recognised", extra={"security_token": SECURITY_TOKEN}),
    "wrong secret": Drive("401", account={"password": SECRET + "x"}),
    "wrong secret, appkey": Drive("10047", account={"password": SECRET + "x"}, extra=_APPKEY),
    "wrong key, appkey": Drive("10001", account={"login": KEY + "x"}, extra=_APPKEY),
    "refused connection": Drive("connection_refused", account={"host": "http://127.0.0.1:9"}, extra=_APPKEY),
    "unreachable host": Drive(
        "connect_timeout|connection_refused|name_resolution",
        account={"host": "https://192.0.2.1"},
        extra=_HASTE,
    ),
    "unknown host": Drive("name_resolution", account={"host": "https://nowhere.invalid"}, extra=_APPKEY),
    "no TLS there": Drive("tls_handshake", account={"tls": True}, extra=_APPKEY),
    "blank after the secret": Drive("must be the secret key", account={"password": SECRET + " "}),
    "comma in the key": Drive("must be the access key", account={"login": KEY + ","}),
    **_misplaced("endpoint", {"endpoint": MISPLACED}),
    **_misplaced("region", {"region": f"{MISPLACED}/{SECRET}"}),
    **_misplaced("time zone", {"reset_timezone": MISPLACED}),
    **_misplaced("rate", {"qps": MISPLACED}),
    **_misplaced("reset time", {"reset_time": MISPLACED}),
    **_misplaced("security token of an appkey", {"security_token": MISPLACED, **_APPKEY}),
    **_misplaced("an unknown extra", {"secret_key": MISPLACED}),
    **_misplaced("the name of an extra", {MISPLACED: ""}),
    **_misplaced("the name of an extra that says more", {MISPLACED: "x"}),
    **_misplaced("schema", schema=MISPLACED),
    **_misplaced("host, before an @", host=f"https://user:{MISPLACED}@127.0.0.1"),
    **_misplaced("host, as query", host=f"https://127.0.0.1/?sign={MISPLACED}"),
    **_misplaced("host, the same", host=SECRET),
    **_misplaced("ledger connection, the same", {"ledger_conn_id": SECRET}),
    "ledger away": Drive("cannot be reached", ledger=_NOWHERE | {"password": LEDGER_PASSWORD}),
    "ledger of odd options": Drive(
        "", ledger=_NOWHERE | {"password": LEDGER_PASSWORD, "extra": {"pasword": LEDGER_PASSWORD}}
    ),
    "warehouse away": Drive(
        "OperationalError", "load", warehouse=_NOWHERE | {"password": WAREHOUSE_PASSWORD}
    ),
    "no bucket": Drive("no such bucket", params={"images": "s3://no-such-bucket/inbox/"}),
    "session token of the storage": Drive("recognised", params={"storage_conn_id": "aws_token"}),
    "storage away": Drive("while talking to S3", params={"storage_conn_id": "aws_away"}),
    "echoes": Drive("failed", images=9, echoes=_LONG_LIST, extra=_HASTE),
    "echoes, appkey": Drive("failed", images=9, echoes=_LONG_LIST, extra=_HASTE | _APPKEY),
    "gateway echoes": Drive("401", echoes=("gateway error",)),
    "gateway echoes, appkey": Drive("401", echoes=("gateway error",), extra=_APPKEY),
    "system code echoes": Drive("10047", echoes=("system code",)),
    "system code echoes, appkey": Drive("10047", echoes=("system code",), extra=_APPKEY),
    "late, half, garbage, without end": Drive(
        "IN_DOUBT",
        images=6,
        extra=_HASTE | _APPKEY,
        behave={
            "faults": [
                {"fault": "late", "seconds": 3, "count": 2},
                {"fault": "half", "count": 2},
                {"fault": "garbage", "count": 2},
                {"fault": "chunk_forever", "count": 2},
                {"fault": "close_after_billing", "how": "reset"},
                {"fault": "html_502"},
                {"fault": "redirect"},
            ]
        },
    ),
    "no quota": Drive("top the account up", behave={"total_limit": 0}, extra=_APPKEY),
    "S3 says no": Drive("", s3="error"),
    "S3 breaks off": Drive("", s3="cut"),
    "S3 hangs up": Drive("", s3="refuse"),
    "killed and cleared": Drive(
        "recognised", images=12, behave={"latency": 0.3}, extra=_HASTE | _APPKEY, kill=True, clear=True
    ),
}

SHORT = (
    "nothing wrong",
    "wrong secret, appkey",
    "secret in an unknown extra",
    "ledger away",
    "warehouse away",
    "echoes, appkey",
    "gateway echoes",
)


def drive(airflow: Installation, names: Sequence[str], postgres_url: str | None = None) -> None:
    """Runs these drives to their end and checks that each did what it is for. `postgres_url`: a database for
    ledger and warehouse of the drives that have none of their own, which accepts any password.
    """
    ledger, warehouse = (f"sqlite:///{airflow.home}/leak_{what}.db" for what in ("ledger", "warehouse"))
    airflow.connect_database("leak_ledger", postgres_url or ledger, LEDGER_PASSWORD)
    airflow.connect_database("leak_warehouse", postgres_url or warehouse, WAREHOUSE_PASSWORD)
    airflow.connect(
        aws_token=_aws(airflow.s3.url),
        aws_away=_aws("http://127.0.0.1:9"),
    )
    together = [name for name in names if not DRIVES[name].alone]
    for first in range(0, len(together), _AT_A_TIME):
        runs = {name: _start(airflow, name) for name in together[first : first + _AT_A_TIME]}
        for name, run in runs.items():
            _finish(run, name)
    for name in names:
        if DRIVES[name].alone:
            with _conditions(airflow, DRIVES[name]):
                run = _start(airflow, name)
                if DRIVES[name].kill:
                    until(lambda: airflow.bill(), "a bill")
                    os.kill(run.task("recognise")["pid"], signal.SIGKILL)
                _finish(run, name)
                if DRIVES[name].clear:
                    run.clear("recognise")
                    _finish(run, name)


def _aws(endpoint_url: str) -> dict[str, Any]:
    extra = {"endpoint_url": endpoint_url, "region_name": "us-east-1", "aws_session_token": AWS_TOKEN}
    return {"conn_type": "aws", "login": AWS_KEY, "password": AWS_SECRET, "extra": extra}


@contextmanager
def _conditions(airflow: Installation, what: Drive) -> Iterator[None]:
    airflow.behave(reset=True, **(what.behave or {}))
    airflow.echo(*what.echoes)
    airflow.s3.fault = what.s3
    try:
        yield
    finally:
        airflow.s3.fault = None
        airflow.echo()
        airflow.behave(reset=True)


def _start(airflow: Installation, name: str) -> Run:
    what, slug = DRIVES[name], re.sub(r"\W+", "_", f"leak {name}")
    connections: dict[str, Mapping[str, Any]] = {}
    if what.ledger:
        connections[f"{slug}_ledger"] = what.ledger
    if what.warehouse:
        connections[f"{slug}_warehouse"] = what.warehouse
    account = airflow.account(f"{slug}_ledger" if what.ledger else "leak_ledger")
    changes = dict(what.account)
    if changes.pop("tls", False):
        changes["host"] = airflow.ocr_url.replace("http://", "https://")
    connections[slug] = {**account, "extra": account["extra"] | dict(what.extra), **changes}
    airflow.connect(**connections)
    files = {f"{number}.png": stub_picture(next(_pictures)) for number in range(what.images)}
    warehouse = f"{slug}_warehouse" if what.warehouse else "leak_warehouse"
    params = {"images": airflow.put(slug, files), "max_in_flight": 1, **what.params}
    return airflow.trigger("batch", jdocr_conn_id=slug, warehouse_conn_id=warehouse, **params)


def _finish(run: Run, name: str) -> None:
    what = DRIVES[name]
    run.finish(seconds=240)
    log = run.log(what.task)
    assert re.search(what.says, log), f"{name}: the log of {what.task} does not show {what.says!r}"
