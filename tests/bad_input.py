"""What an author reads when something is wrong, and what it costs: tried out, one case after another.

`python -m tests.bad_input` prints the rows as JSON. Each case runs the recognising operator against the local
service and an S3 server, with a ledger of its own; calls are counted by the service. It runs as a process of
its own because Airflow reads its configuration once.
"""

import io
import json
import logging
import os
import random
import re
import secrets
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from PIL import Image, PngImagePlugin

from tests.demo.services import free_port, ocr_service, s3_server

BUCKET = "invoices"
KEY, SECRET = "the-key", secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class Case:
    """`objects`: what lies in the inbox; the rest departs from an operator that would succeed."""

    what: str
    objects: Mapping[str, bytes]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    connection: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    behave: Mapping[str, Any] = field(default_factory=dict)


def picture(number: int, truth: Mapping[str, Any] | None = None) -> bytes:
    """A small picture for the stub engine."""
    info = PngImagePlugin.PngInfo()
    fields = {"vat_invoice_daima": "012002000211", "vat_invoice_haoma": f"{10_000_000 + number}"}
    info.add_text("jdocr-truth", json.dumps(truth or {"type": "vat_electronic_invoice", "fields": fields}))
    content = io.BytesIO()
    Image.new("RGB", (240, 160), (number, 99, 7)).save(content, "PNG", pnginfo=info)
    return content.getvalue()


def large_scan() -> bytes:
    """A scan of about 6 MB."""
    content = io.BytesIO()
    size = (1600, 1250)
    Image.frombytes("RGB", size, random.Random(6).randbytes(size[0] * size[1] * 3)).save(content, "BMP")
    return content.getvalue()


def cases() -> Iterator[Case]:
    five = {f"{number}.png": picture(number) for number in range(5)}
    yield Case("an empty file", {"empty.jpg": b""})
    yield Case("a text file named .jpg", {"notes.jpg": "发票在抽屉里".encode()})
    yield Case("a scan of 6 MB", {"large.bmp": large_scan()}, extra={"endpoint": "intsig_invoice"})
    yield Case("a scan cut off by a broken upload", {"cut.png": picture(1)[:200]})
    yield Case("a key that is not there", {}, {"images": [f"s3://{BUCKET}/inbox/gone.png"]})
    yield Case("a picture of something else", {"cat.png": picture(1, {"type": "other", "fields": {}})})
    yield Case("a wrong secret, five pictures", five, connection={"password": "not-the-secret"})
    yield Case(
        "a wrong secret at the other endpoint, five pictures",
        five,
        connection={"password": "not-the-secret"},
        extra={"endpoint": "intsig_invoice"},
    )
    yield Case("no quota left today, five pictures", five, {"on_quota": "fail"}, behave={"daily_limit": 0})
    yield Case("a prepaid pack used up, five pictures", five, behave={"total_limit": 0})
    yield Case("an unknown extra, five pictures", five, extra={"endpiont": "ocr_invoice"})
    closed = f"http://127.0.0.1:{free_port()}"
    yield Case("an unreachable host, five pictures", five, connection={"host": closed})
    yield Case("a bucket that does not exist", {}, {"images": "s3://invoises/inbox/"})
    yield Case("a connection that does not exist", five, {"jdocr_conn_id": "jdocr_defualt"})


class Service:
    """The local service, told how to behave and asked what it saw."""

    def __init__(self, url: str) -> None:
        self.url = url

    def behave(self, **how: Any) -> None:
        body = json.dumps({"reset": True, "qps": 0, **how}).encode()
        headers = {"Content-Type": "application/json"}
        urllib.request.urlopen(
            urllib.request.Request(f"{self.url}/-/behave", body, headers), timeout=10
        ).close()

    def seen(self) -> tuple[int, int]:
        """How many calls were answered, and how many billed."""
        with urllib.request.urlopen(f"{self.url}/-/health", timeout=10) as answer:
            health = json.load(answer)
        return sum(sum(codes.values()) for codes in health["replies"].values()), health["billed"]


class Log(logging.Handler):
    """The warnings and errors of a task."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class TaskInstance:
    """What the operator uses of one."""

    run_id, dag_id, task_id, map_index = "run", "dag", "recognise", -1

    def xcom_push(self, key: str, value: Any) -> None:
        """Kept by nobody."""


def run(case: Case, service: Service, s3: Any) -> dict[str, Any]:
    service.behave(**case.behave)
    for name, content in case.objects.items():
        s3.put_object(Bucket=BUCKET, Key=f"inbox/{name}", Body=content)
    with tempfile.TemporaryDirectory() as folder:
        connect(case, service.url, Path(folder))
        log = Log()
        ending = execute(case, log)
    for name in case.objects:
        s3.delete_object(Bucket=BUCKET, Key=f"inbox/{name}")
    calls, billed = service.seen()
    says = [_stable(line) for line in log.lines]
    return {"what": case.what, "says": says, "calls": calls, "charged": billed, "ending": ending}


def connect(case: Case, url: str, folder: Path) -> None:
    extra = {"ledger_conn_id": "ledger", "qps": 100, **case.extra}
    account = {"conn_type": "jdocr", "login": KEY, "password": SECRET, "host": url, "extra": extra}
    os.environ["AIRFLOW_CONN_JDOCR_DEFAULT"] = json.dumps({**account, **case.connection})
    os.environ["AIRFLOW_CONN_LEDGER"] = json.dumps({"conn_type": "sqlite", "host": str(folder / "ledger.db")})


def execute(case: Case, log: Log) -> str:
    """Runs the task, its last words included, and says how it ended."""
    from airflow.providers.common.compat.sdk import AirflowFailException

    from airflow_provider_jdocr.operators import JdOcrRecognizeInvoicesOperator

    logger = logging.getLogger(f"tests.bad_input.{case.what}")
    logger.addHandler(log)

    class Logged(JdOcrRecognizeInvoicesOperator):
        log = logger  # type: ignore[assignment]  # the library's logger stands in for Airflow's

    arguments = {"images": f"s3://{BUCKET}/inbox/", **case.arguments}
    try:
        Logged(task_id="recognise", **arguments).execute({"ti": TaskInstance()})  # type: ignore[typeddict-item]
    except Exception as error:  # noqa: BLE001  whatever it is, it is what the author reads
        logger.error("%s: %s", type(error).__name__, error)
        return "fails, no retry" if isinstance(error, AirflowFailException) else "fails, retried"
    return "succeeds"


def _stable(line: str) -> str:
    """Without what differs from run to run: seconds and ports."""
    return re.sub(r"(127\.0\.0\.1:)\d+", r"\g<1>8600", re.sub(r"\d+(?= s\b)", "…", line))


@contextmanager
def stage() -> Iterator[tuple[Service, Any]]:
    """The two servers, and an Airflow home."""
    with tempfile.TemporaryDirectory(prefix="jdocr-bad-input-") as home:
        log = Path(home) / "servers.log"
        os.environ |= {"AIRFLOW_HOME": home, "AIRFLOW__CORE__UNIT_TEST_MODE": "True"}
        with s3_server(log) as s3_url, ocr_service(log, KEY, SECRET, "--engine", "stub") as url:
            store = {"conn_type": "aws", "login": "demo-key", "password": "demo-secret"}
            os.environ["AIRFLOW_CONN_AWS_DEFAULT"] = json.dumps(store | {"extra": {"endpoint_url": s3_url}})
            keys = {"aws_access_key_id": "demo-key", "aws_secret_access_key": "demo-secret"}
            s3 = boto3.client("s3", endpoint_url=s3_url, region_name="us-east-1", **keys)
            s3.create_bucket(Bucket=BUCKET)
            yield Service(url), s3


def main() -> None:
    with stage() as (service, s3):
        rows = [run(case, service, s3) for case in cases()]
    json.dump(rows, sys.stdout, ensure_ascii=False, indent=1)


if __name__ == "__main__":
    main()
