"""What the tests of ledger and batch share: an account, replies and a clock that moves when told."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_jdocr.core.account import Account, account_from_parts
from airflow_provider_jdocr.core.client import Reply
from airflow_provider_jdocr.core.ledger import Identity, RunKey
from airflow_provider_jdocr.core.replies import Reading, read_reply

RUN = RunKey("dag", "run", "recognise")
OTHER_RUN = RunKey("dag", "next run", "recognise")
START = 1_760_000_000.0


@dataclass(slots=True)
class Clock:
    """Seconds since the epoch, standing still between calls of `pass_`."""

    now: float = START

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


def account(**changes: Any) -> Account:
    extra = {"endpoint": "ocr_invoice", "qps": 50, "read_timeout_seconds": 10, **changes}
    return account_from_parts(
        login="key", password="secret", host=None, port=None, schema=None, extra=extra, name="jdocr_test"
    )


def identity(name: str = "a", service: str = "jd") -> Identity:
    return Identity(service, "ocr_invoice", name.ljust(64, "-"))


def reply(
    code: str = "10000", *, charge: object = True, result: object = None, status: int = 200, **more: object
) -> Reply:
    envelope = {"code": code, "charge": charge, "msg": "said", "result": result, **more}
    body = json.dumps({key: value for key, value in envelope.items() if value is not None}).encode()
    return Reply(
        status=status, body=body, content_type="application/json", request_id=None, elapsed_seconds=0.1
    )


GOOD = reply(result={"code": "0", "message": "success", "result": {"invoice_no": "12345678"}})
FAILED = reply(result={"code": "12002", "message": "unreadable"})
TOO_FAST = reply("10043", charge=False)
BUSY = reply("10020", charge=False)
DAY_IS_OVER = reply("10040", charge=False)
NO_MONEY = reply("10010", charge=False)
WRONG_KEY = reply("10001", charge=False)


def read(answer: Reply, of: Account) -> Reading:
    return read_reply(of.endpoint, answer.status, answer.body)


def left(answer: Reply, remain: int) -> Reply:
    """The same reply, saying how many calls are left."""
    return replace(answer, body=json.dumps({**json.loads(answer.body), "remain": remain}).encode())
