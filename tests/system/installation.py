"""A whole Airflow of the tests' own: API server, scheduler, DAG processor, triggerer and workers, with an S3
server and the stub service.

Everything is asked over HTTP or read from files; connections are a JSON file that a test may rewrite at
any time. Each part is a process group of its own, to be killed and started again. All that is secret in the
connections is a text that occurs nowhere else.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import boto3
import requests
import sqlalchemy as sa

from airflow_provider_jdocr.server.__main__ import KEY_VARIABLE, SECRET_VARIABLE
from tests.databases import postgres_server
from tests.demo.services import free_port, run_airflow, s3_server, server
from tests.system.parts import Part, parts
from tests.system.s3_door import S3Door, s3_door

# With letters that an encoding changes, so that every spelling of them is another text.
KEY, SECRET = "Canary+Key=Kq7Zx2W9hJ", "Canary+Secret/Vn4=tB8&m1Ls"
AWS_KEY, AWS_SECRET = "CANARYAWSKEY5RT9", "Canary+Aws/Secret=Yd3&k6Pw"
ROOT = Path(__file__).resolve().parents[2]
DAGS = Path(__file__).parent / "dags"
METADATA = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
EVERYTHING_LOGGED = {
    "AIRFLOW__OPENLINEAGE__DISABLED": "False",
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
    "AIRFLOW__LOGGING__NAMESPACE_LEVELS": " ".join(
        f"{name}=DEBUG"
        for name in ("urllib3", "requests", "botocore", "boto3", "sqlalchemy.engine", "psycopg")
    ),
}
LINEAGE = "openlineage.jsonl"
PATIENCE_SECONDS = 60.0
"""How long one answer of a server may take: the machine may be busy."""
FINISHED = frozenset({"success", "failed", "upstream_failed", "skipped"})
_T = TypeVar("_T")


def until(ask: Callable[[], _T | None], what: str, seconds: float = 90.0) -> _T:
    """What `ask` gives once it gives something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := ask():
            return found
        time.sleep(0.2)
    raise TimeoutError(f"{what} did not come about within {seconds:.0f} s")


@dataclass(frozen=True, slots=True)
class Run:
    """A DAG run that was triggered over the API."""

    airflow: "Installation"
    dag_id: str
    run_id: str

    def task(self, task_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.airflow.get(
            f"dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances/{task_id}"
        )
        return found

    def await_state(self, task_id: str, *states: str, seconds: float = 120.0) -> dict[str, Any]:
        def now() -> dict[str, Any] | None:
            task = self.task(task_id)
            return task if task["state"] in states else None

        return until(now, f"{self.dag_id}.{task_id} in {' or '.join(states)}", seconds)

    @property
    def has_ended(self) -> bool:
        """Whether the scheduler has put the run away: until then it may take no notice of a clear."""
        state = self.airflow.get(f"dags/{self.dag_id}/dagRuns/{self.run_id}")["state"]
        return state in ("success", "failed")

    def finish(self, seconds: float = 120.0) -> dict[str, str]:
        """The state of each task once the run has ended."""
        until(lambda: self.has_ended or None, f"the end of {self.dag_id} {self.run_id}", seconds)
        return {task: self.task(task)["state"] for task in ("recognise", "load")}

    def manifest(self, map_index: int = -1) -> dict[str, Any]:
        entry = self.airflow.get(
            f"dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances/recognise/xcomEntries/return_value"
            f"?deserialize=false&stringify=false&map_index={map_index}"
        )
        value = entry["value"]
        found: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
        return found

    def clear(self, *task_ids: str) -> None:
        body = {"dry_run": False, "dag_run_id": self.run_id, "task_ids": task_ids, "only_failed": False}
        self.airflow.post(f"dags/{self.dag_id}/clearTaskInstances", body)

    def reason(self, task_id: str) -> tuple[str, str]:
        """The class and the text of the error that ended the task's last try, as its log shows them."""
        entries = [json.loads(line) for line in self.log(task_id).splitlines() if '"error_detail"' in line]
        last = entries[-1]["error_detail"][0]
        return last["exc_type"], last["exc_value"]

    def log(self, task_id: str) -> str:
        """What an author reads in the task's log, over all tries."""
        folder = self.airflow.home / "airflow" / "logs" / f"dag_id={self.dag_id}" / f"run_id={self.run_id}"
        return "\n".join(path.read_text() for path in sorted((folder / f"task_id={task_id}").glob("*.log")))


@dataclass(frozen=True, slots=True)
class Installation:
    home: Path
    api: str
    token: str
    s3_url: str
    s3: S3Door
    ocr_url: str
    parts: Mapping[str, Part]
    metadata: sa.URL

    def get(self, path: str) -> Any:
        return self._checked(requests.get(f"{self.api}/api/v2/{path}", headers=self._headers(), timeout=120))

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._checked(
            requests.post(f"{self.api}/api/v2/{path}", headers=self._headers(), json=body, timeout=120)
        )

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._checked(
            requests.patch(f"{self.api}/api/v2/{path}", headers=self._headers(), json=body, timeout=30)
        )

    def await_api(self) -> None:
        until(lambda: _token(self.api), "the API server")

    def has_dags(self) -> bool:
        path = f"{self.api}/api/v2/dags/deferring"
        return requests.get(path, headers=self._headers(), timeout=PATIENCE_SECONDS).ok

    def trigger(self, dag_id: str, **params: Any) -> Run:
        run = self.post(f"dags/{dag_id}/dagRuns", {"logical_date": None, "conf": params})
        return Run(self, dag_id, run["dag_run_id"])

    def put(self, prefix: str, files: Mapping[str, bytes]) -> str:
        """Puts files below a prefix of the bucket; gives the prefix."""
        s3 = _s3_client(self.s3_url)
        for name, content in files.items():
            s3.put_object(Bucket="invoices", Key=f"{prefix}/{name}", Body=content)
        s3.close()
        return f"s3://invoices/{prefix}/"

    def connect(self, **connections: Mapping[str, Any]) -> None:
        """Defines connections, beside those that there are."""
        path = self.home / "connections.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        aside = path.with_suffix(".new")
        aside.write_text(json.dumps(known | connections))
        aside.replace(path)

    def connect_database(self, conn_id: str, url: str, password: str | None = None) -> None:
        """Defines a connection to a database of the test's own, with another password where one is given."""
        parts = sa.make_url(url)
        if (backend := parts.get_backend_name()) == "sqlite":
            self.connect(**{conn_id: {"conn_type": "sqlite", "host": parts.database}})
            return
        host = parts.host or parts.query.get("host")
        where = {"host": host, "port": parts.port, "schema": parts.database}
        who = {"login": parts.username, "password": password or parts.password}
        kind = {"postgresql": "postgres", "mysql": "mysql", "mariadb": "mysql"}[backend]
        self.connect(**{conn_id: {"conn_type": kind, **where, **who}})

    def account(self, ledger: str, **extra: Any) -> dict[str, Any]:
        """A `jdocr` connection to the stub service."""
        return {
            "conn_type": "jdocr",
            "login": KEY,
            "password": SECRET,
            "host": self.ocr_url,
            "extra": {"ledger_conn_id": ledger, "qps": 100, **extra},
        }

    def behave(self, **change: Any) -> None:
        requests.post(f"{self.ocr_url}/-/behave", json=change, timeout=PATIENCE_SECONDS).raise_for_status()

    def echo(self, *names: str) -> None:
        """What the next calls are answered with; see `listening_service`."""
        requests.post(f"{self.ocr_url}/-/echo", json=names, timeout=PATIENCE_SECONDS).raise_for_status()

    def heard(self) -> list[dict[str, Any]]:
        """Queries and headers of all calls, since the service was started."""
        found: list[dict[str, Any]] = requests.get(f"{self.ocr_url}/-/heard", timeout=PATIENCE_SECONDS).json()
        return found

    def health(self) -> dict[str, Any]:
        found: dict[str, Any] = requests.get(f"{self.ocr_url}/-/health", timeout=PATIENCE_SECONDS).json()
        return found

    def bill(self) -> list[str]:
        """The SHA-256 of each picture that was billed."""
        return [
            item["sha256"] for item in requests.get(f"{self.ocr_url}/-/bill", timeout=PATIENCE_SECONDS).json()
        ]

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def _checked(self, answer: requests.Response) -> Any:
        assert answer.ok, f"{answer.status_code} {answer.text[:500]}"
        return answer.json()


def environment(home: Path, port: int) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "AWS_"))}
    backend = "airflow.secrets.local_filesystem.LocalFilesystemBackend"
    arguments = json.dumps({"connections_file_path": str(home / "connections.json")})
    return {
        **ours,
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(DAGS.parent / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__PARALLELISM": "3",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__SECRETS__BACKEND": backend,
        "AIRFLOW__SECRETS__BACKEND_KWARGS": arguments,
        "AIRFLOW__WORKERS__SECRETS_BACKEND": backend,
        "AIRFLOW__WORKERS__SECRETS_BACKEND_KWARGS": arguments,
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": "one-for-all-parts-" * 4,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        **_lineage(home),
        "TMPDIR": str(home / "tmp"),
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


def _lineage(home: Path) -> dict[str, str]:
    """OpenLineage's events go to a file, if anybody wants them: each costs a task a process."""
    transport = {"type": "file", "log_file_path": str(home / LINEAGE), "append": True}
    return {
        "AIRFLOW__OPENLINEAGE__DISABLED": "True",
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
    }


@contextmanager
def installation(
    home: Path, settings: Mapping[str, str] | None = None, login: tuple[str, str] | None = None
) -> Iterator[Installation]:
    """Starts everything, in a folder of its own; nothing of it runs on afterwards.

    `settings`: variables of Airflow's environment, beside and above those of `environment`. `login`: name and
    password, where not everybody may do everything.
    """
    port = free_port()
    api = f"http://127.0.0.1:{port}"
    (home / "tmp").mkdir()
    with ExitStack() as stack:
        env = environment(home, port) | dict(settings or {})
        if METADATA not in env:
            # A server of its own: restarts of the one that the ledgers are in are not restarts of Airflow's.
            env[METADATA] = stack.enter_context(postgres_server()).render_as_string(hide_password=False)
        s3_url = stack.enter_context(s3_server(home / "servers.log"))
        door = stack.enter_context(s3_door(s3_url))
        ocr_url = stack.enter_context(_listening_service(home / "servers.log"))
        _s3_client(s3_url).create_bucket(Bucket="invoices")
        assert run_airflow(["db", "migrate"], home / "migrate.log", env) == 0
        running = stack.enter_context(parts(home, env))
        token = until(lambda: _token(api, login), "a token")
        airflow = Installation(home, api, token, s3_url, door, ocr_url, running, sa.make_url(env[METADATA]))
        airflow.connect(
            aws_default={
                "conn_type": "aws",
                "login": AWS_KEY,
                "password": AWS_SECRET,
                "extra": {"endpoint_url": door.url, "region_name": "us-east-1"},
            },
            warehouse_default={"conn_type": "sqlite", "host": str(home / "warehouse.db")},
            ledger_default={"conn_type": "sqlite", "host": str(home / "ledger.db")},
            jdocr_default=airflow.account("ledger_default"),
        )
        until(airflow.has_dags, "the DAGs")
        yield airflow


@contextmanager
def _listening_service(log: Path) -> Iterator[str]:
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "tests.system.listening_service", str(port)]
    env = {**os.environ, KEY_VARIABLE: KEY, SECRET_VARIABLE: SECRET, "PYTHONPATH": str(ROOT)}
    with server(command, f"{url}/-/health", log, env):
        yield url


def _s3_client(url: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="y",
    )


def _token(api: str, login: tuple[str, str] | None = None) -> str | None:
    who = dict(zip(("username", "password"), login, strict=True)) if login else None
    try:
        verb = "POST" if who else "GET"
        answer = requests.request(verb, f"{api}/auth/token", json=who, timeout=PATIENCE_SECONDS)
    except requests.ConnectionError:
        return None
    token: str | None = answer.json().get("access_token") if answer.ok else None
    return token
