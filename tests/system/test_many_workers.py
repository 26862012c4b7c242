"""Many workers, one budget: mapped tasks, Celery workers on hosts whose clocks are wrong, two DAGs at the
same time. The service says what was billed and when it was called.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from airflow_provider_jdocr.core import schema
from airflow_provider_jdocr.core.account import account_from_parts
from airflow_provider_jdocr.core.engines import engine_for
from airflow_provider_jdocr.core.ledger import Ledger
from tests import databases
from tests.rate.calls import Calls
from tests.system.apart import why_not
from tests.system.celery_workers import celery_workers, redis_server, why_no_redis
from tests.system.installation import FINISHED, Installation, Run, installation, until
from tests.system.pictures import stub_picture

pytestmark = pytest.mark.system

CLOCKS_OFF_BY_SECONDS = (30.0, -30.0)
QPS = 8
TASKS = 8
IN_FLIGHT = 4
needs_celery = pytest.mark.skipif(why_no_redis() is not None, reason=str(why_no_redis()))


@dataclass(frozen=True, slots=True)
class Crew:
    """An installation with every executor that can be had here, and the process ids of its Celery workers."""

    airflow: Installation
    workers: Sequence[int]


@pytest.fixture(scope="module")
def ledger_ports(request: pytest.FixtureRequest) -> list[int]:
    """Ports of the ledgers' servers; PostgreSQL listens on a file."""
    if not databases.has_mariadb():
        return []
    return [request.getfixturevalue("mariadb_server").port]


@pytest.fixture(scope="module")
def crew(
    postgres_server: sa.URL, ledger_ports: list[int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Crew]:
    home = tmp_path_factory.mktemp("crew")
    settings = {
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": str(2 * TASKS),
        # Eight tasks that start at once on a busy machine import for long.
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",
    }
    workers: Sequence[int] = ()
    with ExitStack() as stack:
        metadata = stack.enter_context(databases.fresh_database(postgres_server))
        settings["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = metadata
        if celery := why_no_redis() is None:
            settings |= stack.enter_context(redis_server(home))
            settings["AIRFLOW__CORE__EXECUTOR"] = "LocalExecutor,CeleryExecutor"
        airflow = stack.enter_context(installation(home, settings))
        if celery:
            start = partial(celery_workers, airflow, settings, clocks_off_by_seconds=CLOCKS_OFF_BY_SECONDS)
            workers = stack.enter_context(
                start(concurrency=TASKS // 2, apart=why_not() is None, ports=ledger_ports)
            )
        yield Crew(airflow, workers)


@pytest.fixture
def airflow(crew: Crew) -> Installation:
    crew.airflow.behave(reset=True, qps=QPS, window="sliding", latency=0.3)
    return crew.airflow


@dataclass(frozen=True, slots=True)
class Budget:
    """One account of the service, whose ledger is a database of the test's own."""

    airflow: Installation
    engine: sa.Engine
    conn_id: str

    def tasks_begun(self) -> int:
        with self.engine.connect() as db:
            return len(db.execute(sa.select(schema.run.c.digest)).all())

    @contextmanager
    def nobody_is_served_before(self, tasks: int) -> Iterator[None]:
        """What is started in the block stands in line until so many tasks do; then all go at once."""
        with self.engine.begin() as db:
            assert db.execute(sa.select(schema.account).with_for_update()).one()
            yield
            until(lambda: self.tasks_begun() >= tasks, f"{tasks} tasks", 240)

    def working_at_once(self) -> int:
        """The most tasks that had calls under way in the same stretch of time, by the database's clock."""
        calls = schema.attempt.c
        query = sa.select(sa.func.min(calls.started_at), sa.func.max(calls.ended_at))
        with self.engine.connect() as db:
            stretches = list(db.execute(query.group_by(calls.run_digest)))
        overlaps: list[int] = [
            sum(begin <= moment <= end for begin, end in stretches) for moment, _ in stretches
        ]
        return max(overlaps)

    def last_answers(self) -> dict[int, float]:
        """When each mapped task had its last answer, by the database's clock."""
        columns = schema.run.c.map_index, sa.func.max(schema.attempt.c.ended_at).label("last")
        ours = schema.run.c.digest == schema.attempt.c.run_digest
        with self.engine.connect() as db:
            rows = db.execute(sa.select(*columns).where(ours).group_by(schema.run.c.map_index))
            return {row.map_index: row.last for row in rows}


@pytest.fixture
def budget(airflow: Installation, request: pytest.FixtureRequest) -> Iterator[Budget]:
    """A budget in the database whose fixture the test names."""
    url: str = request.getfixturevalue(request.param)
    airflow.connect_database("ledger_many", url)
    connection = airflow.account("ledger_many", qps=QPS)
    airflow.connect(jdocr_many=connection)
    kept = {name: connection[name] for name in ("login", "password", "host", "extra")}
    account = account_from_parts(**kept, port=None, schema=None)
    engine = engine_for(url)
    ledger = Ledger(engine)
    ledger.create()
    ledger.take_slot(account)
    yield Budget(airflow, engine, "jdocr_many")
    engine.dispose()


@dataclass(frozen=True, slots=True)
class Books:
    """The mapped tasks of a run, and what each counted."""

    tasks: list[dict[str, Any]]
    manifests: list[dict[str, Any]]

    @classmethod
    def of(cls, run: Run) -> Books:
        path = f"dags/{run.dag_id}/dagRuns/{run.run_id}"
        until(lambda: run.airflow.get(path)["state"] in FINISHED, f"the end of {run.dag_id}", 240)
        tasks = run.airflow.get(f"{path}/taskInstances/recognise/listMapped")["task_instances"]
        return cls(tasks, [run.manifest(task["map_index"]) for task in tasks])

    def sum(self, name: str) -> int:
        return sum(manifest[name] for manifest in self.manifests)

    def states(self) -> set[str]:
        return {task["state"] for task in self.tasks}


def numbered(first: int, count: int) -> dict[str, bytes]:
    return {f"{number:05}.png": stub_picture(number) for number in range(first, first + count)}


def digests(files: dict[str, bytes]) -> set[str]:
    return {sha256(content).hexdigest() for content in files.values()}


def assert_the_rate_was_kept(airflow: Installation) -> None:
    """Generous bounds: the machine may be busy elsewhere. What is exact is measured by `make rate`."""
    calls = Calls.of_service(airflow.ocr_url)
    assert calls.over_limit <= 2 + len(calls) // 8
    assert calls.busiest() <= 1.5 * QPS
    assert len(calls) / (calls.last_at - calls.first_at) >= 0.15 * QPS


@pytest.mark.parametrize("budget", ["postgres_url"], indirect=True)
def test_eight_mapped_tasks_share_one_budget(airflow: Installation, budget: Budget) -> None:
    files = numbered(10_000, 8 * TASKS)
    images = airflow.put("local", files)
    with budget.nobody_is_served_before(TASKS):
        run = airflow.trigger("spread_local", images=images, every=8, jdocr_conn_id=budget.conn_id)
    books = Books.of(run)
    assert (len(books.tasks), books.states()) == (TASKS, {"success"})
    assert books.sum("recognised") == books.sum("inputs") == books.sum("charged") == len(files)
    assert Counter(airflow.bill()) == Counter(digests(files))
    assert budget.working_at_once() >= TASKS // 2
    assert_the_rate_was_kept(airflow)


@needs_celery
@pytest.mark.parametrize("budget", ["mariadb_url"], indirect=True)
def test_two_celery_workers_whose_clocks_are_a_minute_apart_share_one_budget(
    airflow: Installation, budget: Budget
) -> None:
    files = numbered(20_000, 8 * TASKS)
    images = airflow.put("celery", files)
    with budget.nobody_is_served_before(TASKS):
        run = airflow.trigger("spread_celery", images=images, every=8, jdocr_conn_id=budget.conn_id)
    books = Books.of(run)
    assert (len(books.tasks), books.states()) == (TASKS, {"success"})
    assert books.sum("recognised") == books.sum("inputs") == books.sum("charged") == len(files)
    assert Counter(airflow.bill()) == Counter(digests(files))
    assert budget.working_at_once() >= TASKS // 2
    assert_the_rate_was_kept(airflow)
    # A task's end is told by its worker's clock: each worker had its tasks, and its tasks its clock.
    last = budget.last_answers()
    ended = {task["map_index"]: datetime.fromisoformat(task["end_date"]).timestamp() for task in books.tasks}
    off_by_seconds = [ended[index] - last[index] for index in last]
    assert max(off_by_seconds) - min(off_by_seconds) > 30


@pytest.mark.parametrize("budget", ["postgres_url"], indirect=True)
def test_two_dags_on_one_account_bill_an_image_once_and_end_together_with_the_day(
    airflow: Installation, crew: Crew, budget: Budget
) -> None:
    limit = 40
    airflow.behave(daily_limit=limit)
    prefixes = [airflow.put("mine", numbered(30_000, 32)), airflow.put("yours", numbered(30_016, 32))]
    dags = ["spread_local", "spread_celery" if crew.workers else "spread_local"]
    with budget.nobody_is_served_before(TASKS):
        runs = [
            airflow.trigger(dag, images=images, every=8, jdocr_conn_id=budget.conn_id, on_quota="stop")
            for dag, images in zip(dags, prefixes, strict=True)
        ]
    all_books = [Books.of(run) for run in runs]
    assert [(len(books.tasks), books.states()) for books in all_books] == [(TASKS // 2, {"success"})] * 2
    bills = Counter(airflow.bill())
    assert (len(bills), max(bills.values())) == (limit, 1)
    assert sum(books.sum("recognised") for books in all_books) == limit
    for books in all_books:
        assert (
            books.sum("recognised") + books.sum("reused") + books.sum("waiting") == books.sum("inputs") == 32
        )
    refused = [call for call in Calls.of_service(airflow.ocr_url).calls if call.code == "10040"]
    assert 1 <= len(refused) <= TASKS * IN_FLIGHT


@needs_celery
def test_each_celery_worker_is_a_process_group_of_its_own(crew: Crew) -> None:
    assert len(crew.workers) == 2
    assert [os.getpgid(pid) for pid in crew.workers] == list(crew.workers)


@needs_celery
@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_each_celery_worker_has_a_network_of_its_own(crew: Crew) -> None:
    networks = {Path(f"/proc/{pid}/ns/net").readlink() for pid in (*crew.workers, os.getpid())}
    assert len(networks) == 3
