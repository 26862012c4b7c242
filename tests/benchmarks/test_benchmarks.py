"""Laws of the benchmarks: what they count, and what gets into a document. Small as can be, where they run."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from hashlib import pbkdf2_hmac
from pathlib import Path

import pytest
from PIL import Image

from airflow_provider_jdocr.core.account import account_from_parts
from airflow_provider_jdocr.core.endpoints import ENDPOINTS
from airflow_provider_jdocr.core.preflight import Image as Picture
from airflow_provider_jdocr.core.preflight import preflight
from airflow_provider_jdocr.server.recognise import StubEngine
from tests.benchmarks import __main__ as command
from tests.benchmarks import grid, listing_server, loading, rerun, rows, tables, today
from tests.benchmarks.measure import Probe, apart, measuring, peak_megabytes
from tests.benchmarks.scans import scan
from tests.benchmarks.stage import ledger_of
from tests.rate.virtual import Scene
from tests.server.app_client import KEY, SECRET, Running, serving
from tests.system.pictures import stub_picture

HEAD = {
    "benchmark": "kill",
    "size": "full",
    "command": "a command",
    "began": "a day",
    "machine": rows.machine(),
}
KILLED = {"case": "ours", "images": 200, "billed": 201, "billed_twice": 1, "held": 0}


# --- rows and tables


def test_rows_are_read_as_they_were_kept_and_those_of_a_broken_run_are_kept_apart(tmp_path: Path) -> None:
    def broken() -> Iterator[rows.Row]:
        yield KILLED
        raise RuntimeError("the power is gone")

    path = tmp_path / "build" / "kill.jsonl"
    rows.keep(path, HEAD, [KILLED, KILLED])
    with pytest.raises(RuntimeError):
        rows.keep(path, HEAD, broken())
    assert rows.read(path) == rows.Found(HEAD, [KILLED, KILLED])
    assert rows.read(rows.broken_off(path)) == rows.Found(HEAD, [KILLED])


def test_what_is_published_names_no_host_no_user_and_no_path() -> None:
    said = json.dumps(rows.head("cpu", "full", 1, "python -m tests.benchmarks cpu"))
    assert not [name for name in (socket.gethostname(), str(Path.home()), str(Path.cwd())) if name in said]


def test_only_a_full_run_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.setattr(command, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(command, "PUBLISHED", tmp_path / "published")
    monkeypatch.setattr(command, "DRAWN", tmp_path / "drawn")
    rows.keep(tmp_path / "kept" / "kill.jsonl", HEAD, [KILLED])
    rows.keep(tmp_path / "kept" / "cpu.jsonl", HEAD | {"size": "small"}, [])
    command.main(["--publish"])
    assert [path.name for path in (tmp_path / "published").iterdir()] == ["kill.jsonl"]


def test_a_table_says_what_the_rows_say_and_nothing_where_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MEASURED", tmp_path)
    assert tables.table("kill") == "Not measured yet.\n"
    rows.keep(tmp_path / "kill.jsonl", HEAD, [KILLED])
    said = tables.table("kill")
    assert "| ours | 200 | 201 | 1 | 0 |" in said
    assert "`a command`, a day." in said


def test_every_benchmark_has_a_table_and_every_table_a_benchmark() -> None:
    assert set(tables.TABLES) == {*command.HERE, *command.IN_AIRFLOW}


def test_what_is_larger_than_the_last_step_lies_on_the_line_through_the_last_two() -> None:
    def step(images: int, seconds: float) -> rows.Row:
        return {"server": "a database", "images": images, "ledger_mb": 3.0, "seconds": seconds, "peak_mb": 1}

    said = tables.scale(rows.Found(HEAD, [step(10, 900.0), step(1_000, 60.0), step(100_000, 6_000.0)]))
    assert "| a database | 1_000.0 minutes | 10_000.0 minutes |" in said


def test_the_pictures_are_drawn_from_the_rows_and_the_same_rows_give_the_same_picture(tmp_path: Path) -> None:
    charts = pytest.importorskip("tests.benchmarks.charts", reason="matplotlib is in the group bench only")
    assert charts.CHARTS.keys() == tables.CHARTS
    steps = [{"server": "a database", "images": 10**n, "seconds": 10.0**n} for n in range(3, 6)]
    for path in ("one.svg", "two.svg"):
        charts.draw("scale", rows.Found(HEAD, steps), tmp_path / path)
    one, two = (tmp_path / path for path in ("one.svg", "two.svg"))
    assert one.read_bytes() == two.read_bytes()
    assert "a database" in one.read_text()


# --- what is measured


def test_time_that_other_processes_use_is_not_counted() -> None:
    work = partial(pbkdf2_hmac, "sha256", b"password", b"salt", 1_000_000)
    with measuring() as here:
        work()
    with measuring() as elsewhere:
        apart(work)
    assert elsewhere.cpu_seconds < here.cpu_seconds / 2 < elsewhere.seconds


def test_the_peak_is_that_of_the_process_and_not_of_the_one_that_started_it() -> None:
    held = bytearray(b"x" * 300_000_000)
    assert apart(peak_megabytes) < 150 < peak_megabytes()
    del held


def test_a_probe_counts_the_time_of_each_part_over_all_threads() -> None:
    probe = Probe()
    timed = probe.around("work", _Worker(), apart=True)
    threads = [threading.Thread(target=timed.do, args=(0.1,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(probe.stream("items", iter("abc"))) == ["a", "b", "c"]
    assert probe.seconds["work.do"] > 0.15
    assert (probe.calls["work.do"], timed.name) == (2, "worker")


class _Worker:
    name = "worker"

    def do(self, seconds: float) -> None:
        ends = time.thread_time() + seconds
        while time.thread_time() < ends:
            pass


# --- what they run on


@pytest.mark.parametrize("size_bytes", [300_000, 4_900_000])
def test_a_scan_has_the_size_that_was_asked_for_passes_preflight_and_carries_its_own_invoice(
    size_bytes: int,
) -> None:
    one, other = scan(1, size_bytes), scan(2, size_bytes)
    assert len(one) == len(other) == size_bytes
    assert one != other
    assert isinstance(preflight(one, ENDPOINTS["ocr_invoice"]), Picture)
    assert Image.open(io.BytesIO(one)).width > 1_000
    truth = {field.key: field.text for field in StubEngine().read(other).fields}
    assert truth["vat_invoice_haoma"] == "10000002"


def test_the_listing_server_lists_each_key_once() -> None:
    pages = listing_server.pages(2_500)
    assert [page.count(b"<Key>") for page in pages] == [1_000, 1_000, 500]
    assert [b"<IsTruncated>true" in page for page in pages] == [True, True, False]


def test_the_threads_of_the_grid_keep_the_rate_where_the_service_lets_them() -> None:
    scene = Scene(50, "token", 1, grid.threads(50, 1.0, 1), 1.0, 0.0, 90.0)
    assert grid.cell(scene)["share"] > 0.95


# --- the ways of today


@pytest.fixture(scope="module")
def target() -> Iterator[Running]:
    with serving(StubEngine(), qps=0, daily_limit=-1) as running:
        yield running


def errand(target: Running, pictures: int) -> today.Errand:
    account = account_from_parts(
        login=KEY, password=SECRET, host=target.url, port=None, schema=None, extra={"qps": 200}
    )
    return today.Errand(account, pictures, seconds=30, qps=200, read=stub_picture)


@pytest.mark.parametrize("way", today.WAYS)
def test_every_way_has_an_answer_for_every_picture_where_nothing_is_limited(
    target: Running, way: str
) -> None:
    target.behave(reset=True)
    assert today.WAYS[way](errand(target, 6)) == today.Done(tried=6, good=6)
    assert len(target.bill()) == 6


def test_a_way_without_a_limiter_loses_what_is_turned_away(target: Running) -> None:
    target.behave(reset=True, qps=1)
    try:
        done = today.pool(errand(target, 6))
    finally:
        target.behave(reset=True)
    assert done == today.Done(tried=6, good=1)


# --- those that run in a moment


@pytest.mark.parametrize("case", loading.cases("sqlite"))
def test_every_loader_leaves_the_same_rows(tmp_path: Path, case: str) -> None:
    found = loading.cases("sqlite")[case](f"sqlite:///{tmp_path}/warehouse.db", 20)
    assert found["rows"] == 20 * 4


def test_a_ledger_that_is_filled_knows_its_keys(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    with ledger_of(url) as ledger:
        rerun.fill_ledger(ledger, rerun.Books(keys=700, rows=900))
    assert rerun.look_up_all(url, 700)["found"] == 700
