"""`make demo`: scans in a bucket become checked rows, at both endpoints, in Airflow; then again, for nothing.

An S3 server and the local OCR service are started on loopback and stopped at the end, however it ends. The
pictures are those of tests/specimens/pictures, really read; the DAG is dags/invoices_to_warehouse.py,
unchanged. The exit code is 0 when every specimen has a row with the right code, number, date, amount, tax and
total at both endpoints and the second run was billed nothing.
"""

import json
import secrets
import shutil
import signal
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import boto3

from tests.demo.compare import Comparison, cell, compare, compare_lines, query, table
from tests.demo.services import ENDPOINTS, airflow_environment, ocr_service, process, run_airflow, s3_server

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "tests" / "specimens" / "pictures"
HOME = ROOT / "build" / "demo"
LOG = HOME / "demo.log"
WAREHOUSE = HOME / "warehouse.db"
DAG = "invoices_to_warehouse"
BUCKET, PREFIX = "invoices", "inbox/"
DAG_RUN_SECONDS = 900.0
_LINES = """
SELECT sha256, jdocr_lines.*
FROM jdocr_lines JOIN jdocr_documents USING (document_id)
WHERE endpoint = ?
"""
_FINDINGS = """
SELECT sha256, jdocr_findings.code, severity, message
FROM jdocr_findings JOIN jdocr_documents USING (document_id)
WHERE endpoint = ? ORDER BY sha256, position
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the demo plays: the servers, and the environment in which Airflow runs."""

    ocr_url: str
    env: Mapping[str, str]

    def bill(self) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{self.ocr_url}/-/bill", timeout=10) as answer:
            bill: list[dict[str, Any]] = json.load(answer)
        return bill


def main() -> int:
    began = time.monotonic()
    signal.signal(signal.SIGTERM, _stop)
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    truth = json.loads((PICTURES / "truth.json").read_text(encoding="utf-8"))
    key, secret = secrets.token_hex(16), secrets.token_hex(16)
    say(f"Starting an S3 server and the local OCR service; what they and Airflow say goes to {shown(LOG)}.")
    with s3_server(LOG) as s3_url, ocr_service(LOG, key, secret, "--keep", "100") as ocr_url:
        put_pictures(s3_url, truth)
        stage = Stage(ocr_url, airflow_environment(HOME, s3_url, ocr_url, key, secret))
        say("Making Airflow's metadata database.")
        airflow(["db", "migrate"], stage.env)
        good = first_run(stage, truth) and second_run(stage)
    say(f"\nThe rows are in {shown(WAREHOUSE)}. Nothing is left running; {time.monotonic() - began:.0f} s.")
    say("The demo passed." if good else f"THE DEMO FAILED; see above and {shown(LOG)}.")
    return 0 if good else 1


def first_run(stage: Stage, truth: Sequence[Mapping[str, Any]]) -> bool:
    say("\nFirst run: the DAG at each endpoint.")
    for endpoint in ENDPOINTS:
        run_dag(endpoint, stage, len(truth))
    right = [report(endpoint, truth) for endpoint in ENDPOINTS]
    billed = {entry["sha256"] for entry in stage.bill()}
    say(f"\nBilled: {len(stage.bill())} calls for {len(billed)} pictures at {len(ENDPOINTS)} endpoints.")
    return all(right) and len(stage.bill()) == len(truth) * len(ENDPOINTS)


def second_run(stage: Stage) -> bool:
    say("\nSecond run: the same DAG, the same pictures.")
    before = len(stage.bill())
    for endpoint in ENDPOINTS:
        run_dag(endpoint, stage, 0)
    calls = len(stage.bill()) - before
    say(f"\nBilled in the second run: {calls} calls.")
    return calls == 0


def run_dag(endpoint: str, stage: Stage, expected: int) -> None:
    """Runs the DAG to its end, with the number of pictures read so far while it works."""
    began, before, spoken = time.monotonic(), len(stage.bill()), -1
    command = [sys.executable, "-m", "airflow", "dags", "test", DAG, "--conf", json.dumps(dag_conf(endpoint))]
    with process(command, LOG, stage.env) as running:
        while running.poll() is None:
            if time.monotonic() - began > DAG_RUN_SECONDS:
                raise RuntimeError(f"the DAG took longer than {DAG_RUN_SECONDS:.0f} s; see {shown(LOG)}")
            if expected and (read := len(stage.bill()) - before) >= spoken + 4:
                say(f"  {endpoint}: {read} of {expected} pictures read, {time.monotonic() - began:.0f} s")
                spoken = read
            time.sleep(0.5)
    result = "done" if running.returncode == 0 else f"failed with exit code {running.returncode}"
    say(f"  {endpoint}: the DAG run is {result}, {time.monotonic() - began:.0f} s")
    if running.returncode:
        raise RuntimeError(f"the DAG run failed; see {shown(LOG)}")


def report(endpoint: str, truth: Sequence[Mapping[str, Any]]) -> bool:
    """Prints the rows of an endpoint, what differs from the truth, and the findings."""
    rows = query(WAREHOUSE, "SELECT * FROM jdocr_documents WHERE endpoint = ?", endpoint)
    names = {specimen["sha256"]: specimen["file"] for specimen in truth}
    rows.sort(key=lambda row: names.get(row["sha256"], ""))
    say(f"\nRows read by {endpoint}\n")
    heads = ("code", "number", "issue_date", "amount", "tax", "total", "review_status")
    say(
        table(
            ("picture", *heads),
            ([names.get(row["sha256"], "?"), *map(cell, (row[head] for head in heads))] for row in rows),
        )
    )
    comparison = compare(truth, rows, endpoint)
    say_differences(comparison)
    if endpoint == "intsig_invoice":  # the other endpoint tells nothing of lines
        right, shown = compare_lines(truth, query(WAREHOUSE, _LINES, endpoint))
        say(f"  {right} of {shown} values of the lines are what the picture shows, but for blanks.")
    say_findings(endpoint, names)
    return not comparison.must_be_right


def say_differences(comparison: Comparison) -> None:
    wrong = [found for found in comparison.differences if not found.in_blanks_only]
    blanks = len(comparison.differences) - len(wrong)
    right = comparison.fields - len(comparison.differences)
    say(
        f"\n  {right} of {comparison.fields} fields are what the picture shows, {blanks} more but for blanks."
    )
    if wrong:
        say(table(("picture", "field", "shows", "row"), ((d.file, d.field, d.printed, d.row) for d in wrong)))


def say_findings(endpoint: str, names: Mapping[str, str]) -> None:
    found = query(WAREHOUSE, _FINDINGS, endpoint)
    if not found:
        say("  No findings.")
        return
    say(f"\n  {len(found)} findings")
    heads = ("picture", "finding", "severity", "message")
    say(table(heads, ((names.get(f["sha256"], "?"), f["code"], f["severity"], f["message"]) for f in found)))


def put_pictures(s3_url: str, truth: Sequence[Mapping[str, Any]]) -> None:
    say(f"Putting {len(truth)} pictures into s3://{BUCKET}/{PREFIX}")
    keys = {
        "aws_access_key_id": "demo-key",
        "aws_secret_access_key": "demo-secret",
        "region_name": "us-east-1",
    }
    s3 = boto3.client("s3", endpoint_url=s3_url, **keys)
    s3.create_bucket(Bucket=BUCKET)
    for specimen in truth:
        picture = (PICTURES / specimen["file"]).read_bytes()
        s3.put_object(Bucket=BUCKET, Key=PREFIX + specimen["file"], Body=picture)


def dag_conf(endpoint: str) -> dict[str, str]:
    return {"images": f"s3://{BUCKET}/{PREFIX}", "jdocr_conn_id": f"jdocr_{endpoint}"}


def airflow(arguments: Sequence[str], env: Mapping[str, str]) -> None:
    if code := run_airflow(arguments, LOG, env):
        raise RuntimeError(f"airflow {' '.join(arguments)} ended with {code}; see {shown(LOG)}")


def say(text: str) -> None:
    print(text, flush=True)


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _stop(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RuntimeError as error:
        sys.exit(f"THE DEMO FAILED: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
