"""The example DAGs, unchanged, by `airflow dags test` on each line of Airflow, with S3 and a real reader."""

import json
import sqlite3
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.demo.services import ENDPOINTS, ROOT, airflow_environment, ocr_service, run_airflow, s3_server

pytestmark = [pytest.mark.system, pytest.mark.dags]

KEY, SECRET = "the-key-of-the-test", "the-secret-of-the-test"
PICTURES = ROOT / "tests" / "specimens" / "pictures"
SPECIMENS = ("digital_common.png", "electronic_plain.png", "special_plain.png")


@dataclass(frozen=True, slots=True)
class Stage:
    home: Path
    ocr_url: str
    env: dict[str, str]

    def run_dag(self, dag: str, **params: Any) -> None:
        log = self.home / "airflow.log"
        code = run_airflow(["dags", "test", dag, "--conf", json.dumps(params)], log, self.env)
        assert code == 0, log.read_text(encoding="utf-8")[-6000:]

    def billed(self) -> int:
        with urllib.request.urlopen(f"{self.ocr_url}/-/bill", timeout=10) as answer:
            return len(json.load(answer))

    def documents(self, endpoint: str) -> dict[str, tuple[Any, ...]]:
        """Number and total of each loaded document, by SHA-256."""
        with closing(sqlite3.connect(self.home / "warehouse.db")) as database:
            statement = "SELECT sha256, number, total FROM jdocr_documents WHERE endpoint = ?"
            return {row[0]: row[1:] for row in database.execute(statement, (endpoint,))}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Two servers, three pictures in an inbox and the same in an archive, and an Airflow of its own."""
    home = tmp_path_factory.mktemp("airflow")
    log = home / "servers.log"
    with s3_server(log) as s3_url, ocr_service(log, KEY, SECRET, "--keep", "100") as ocr_url:
        put_pictures(s3_url)
        env = airflow_environment(home, s3_url, ocr_url, KEY, SECRET)
        assert run_airflow(["db", "migrate"], home / "airflow.log", env) == 0
        yield Stage(home, ocr_url, env)


def put_pictures(s3_url: str) -> None:
    keys = {"aws_access_key_id": "demo-key", "aws_secret_access_key": "demo-secret"}
    s3 = boto3.client("s3", endpoint_url=s3_url, region_name="us-east-1", **keys)
    s3.create_bucket(Bucket="invoices")
    for name in SPECIMENS:
        for folder in ("inbox", "archive/2024"):
            s3.put_object(Bucket="invoices", Key=f"{folder}/{name}", Body=(PICTURES / name).read_bytes())
    s3.close()


def truth() -> dict[str, tuple[str, float]]:
    specimens = json.loads((PICTURES / "truth.json").read_text(encoding="utf-8"))
    return {
        specimen["sha256"]: (specimen["fields"]["number"], float(specimen["fields"]["total"]))
        for specimen in specimens
        if specimen["file"] in SPECIMENS
    }


def test_the_inbox_is_in_the_warehouse_at_both_endpoints_and_its_copy_in_the_archive_costs_nothing(
    stage: Stage,
) -> None:
    for endpoint in ENDPOINTS:
        stage.run_dag("invoices_to_warehouse", jdocr_conn_id=f"jdocr_{endpoint}")
        assert stage.documents(endpoint) == truth()
    billed = stage.billed()
    assert billed == len(ENDPOINTS) * len(SPECIMENS)
    stage.run_dag("backfill_historical_scans", jdocr_conn_id="jdocr_ocr_invoice", every=2)
    assert stage.billed() == billed
