"""``airflow jdocr`` as a person uses it: shown before it is done, and one line where it cannot be done."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_jdocr.cli import commands, printing
from airflow_provider_jdocr.cli.definition import get_commands
from airflow_provider_jdocr.core.doubts import doubts
from airflow_provider_jdocr.core.engines import engine_for
from airflow_provider_jdocr.core.ledger import GIVEN_UP, Ledger
from airflow_provider_jdocr.core.planning import COUNTS
from airflow_provider_jdocr.get_provider_info import get_provider_info
from airflow_provider_jdocr.hooks import JdOcrHook
from tests.shell.conftest import Connect
from tests.shell.pictures import folder_of, picture
from tests.shell.service import Service, invoice
from tests.shell.test_operators import TaskInstance, recognise

Run = Callable[..., int]


def parser() -> argparse.ArgumentParser:
    """The commands as Airflow makes them of the definition."""
    whole = argparse.ArgumentParser(prog="airflow")
    groups = whole.add_subparsers(required=True)
    for group in get_commands():
        commands = groups.add_parser(group.name, help=group.help).add_subparsers(required=True)
        for command in group.subcommands:  # type: ignore[union-attr]  # ours is a group
            made = commands.add_parser(command.name, help=command.help, description=command.description)
            for argument in command.args:
                argument.add_to_parser(made)
            made.set_defaults(func=command.func)
    return whole


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command without a person and gives its exit code."""
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
    # The commands set it for their own process, which is this one here.
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "")

    def in_this_process(*words: str) -> int:
        try:
            args = parser().parse_args(["jdocr", *words])
            args.func(args)
        except SystemExit as end:
            if isinstance(end.code, str):
                sys.stderr.write(end.code)
                return 1
            return end.code or 0
        return 0

    return in_this_process


@pytest.fixture
def ledger(account: str, service: Service, tmp_path: Path) -> Ledger:
    """One picture was answered; of two nobody knows whether they were charged. Their names are Chinese."""
    inbox = folder_of(tmp_path / "发票", 1)
    recognise(images=inbox)
    service.answer = lambda _: (200, b"")
    folder_of(tmp_path / "发票", 3)
    recognise(TaskInstance(run_id="tomorrow"), images=inbox, in_doubt="hold", max_failed=2)
    service.answer = lambda _: invoice()
    return JdOcrHook(account).get_ledger()


def test_airflow_is_told_where_the_commands_are_and_finds_each(run: Run) -> None:
    assert get_provider_info()["cli"] == [f"{get_commands.__module__}.{get_commands.__name__}"]
    (group,) = get_commands()
    for command in group.subcommands:  # type: ignore[union-attr]  # ours is a group
        assert callable(getattr(commands, command.name))


def test_images_in_doubt_are_listed_for_people_and_for_programs(
    run: Run, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("doubts") == 0
    table = capsys.readouterr().out
    assert table.count("发票/") == 2
    assert run("doubts", "-o", "json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert {Path(row["uri"]).name for row in rows} == {"0001.png", "0002.png"}
    assert {(row["dag_id"], row["run_id"], row["code"], row["calls"]) for row in rows} == {
        ("dag", "tomorrow", "reply_unreadable", 1)
    }
    assert run("doubts", "-o", "csv", "--calls", "--run-id", "tomorrow") == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert (head.split(",")[:2], len(lines)) == (["sent_at", "seconds_ago"], 2)
    assert run("doubts", "--older-than", "1d") == 0
    assert "No image is in doubt." in capsys.readouterr().out


def test_nothing_is_settled_before_somebody_agrees(
    run: Run, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("settle", "give-up", "--all", "--reason", "the year is closed") == 1
    said = capsys.readouterr()
    assert said.out.count("发票/") == 2
    assert "nothing was changed; add --yes to settle 2 images: give-up" in said.err
    assert len(doubts(ledger)) == 2


@pytest.mark.parametrize(("answer", "left"), [("y", 0), ("n", 2), ("", 2)])
def test_a_person_at_the_keyboard_is_asked(
    run: Run, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, answer: str, left: int
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: answer)
    run("settle", "give-up", "--all", "--reason", "the year is closed")
    assert len(doubts(ledger)) == left


def test_ask_again_sends_it_once_more_in_the_next_run_also_under_hold(
    run: Run, ledger: Ledger, service: Service, tmp_path: Path
) -> None:
    inbox, calls = f"file://{tmp_path}/发票/", len(service.calls)
    assert run("settle", "ask-again", "--prefix", inbox, "--reason", "not on the bill", "--yes") == 0
    manifest = recognise(TaskInstance(run_id="third"), images=inbox, in_doubt="hold")
    assert (manifest["recognised"], manifest["reused"], len(service.calls) - calls) == (2, 1, 2)


def test_what_was_given_up_fails_with_a_code_of_its_own_and_is_not_sent(
    run: Run, ledger: Ledger, service: Service, tmp_path: Path
) -> None:
    inbox, calls = f"file://{tmp_path}/发票/", len(service.calls)
    assert run("settle", "give-up", "--run-id", "tomorrow", "--reason", "typed in by hand", "-y") == 0
    manifest = recognise(TaskInstance(run_id="third"), images=inbox, max_failed=2)
    assert {problem["code"] for problem in manifest["problems"]} == {GIVEN_UP}
    assert (manifest["failed"], len(service.calls)) == (2, calls)


def test_one_image_is_named_by_the_beginning_of_its_digest(run: Run, ledger: Ledger) -> None:
    digest = doubts(ledger)[0].call.identity.sha256
    assert run("settle", "give-up", "--sha256", digest[:12], "--reason", "lost", "--yes") == 0
    assert [doubt.call.identity.sha256 == digest for doubt in doubts(ledger)] == [False]


def test_what_jd_charged_is_corrected_with_and_without_a_decision(
    run: Run, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    first = doubts(ledger)[0]
    why = ("--reason", "the bill of May", "--by", "wang.fang", "--yes")
    assert run("settle", "charge", "--charged", "no", "--call-id", first.call.call_id, *why) == 0
    assert run("settle", "give-up", "--charged", "yes", "--all", *why) == 0
    capsys.readouterr()
    assert run("bill", "--group-by", "run_id", "-o", "json", "--price-per-call", "10k") == 0
    rows = {row["run_id"]: row for row in json.loads(capsys.readouterr().out)}
    assert {name: rows["tomorrow"][name] for name in ("charged", "maybe_charged", "not_charged", "yuan")} == {
        "charged": 1,
        "maybe_charged": 0,
        "not_charged": 1,
        "yuan": "0.048",
    }


@pytest.mark.parametrize(
    "words",
    [
        ("settle", "ask-again", "--reason", "why not"),
        ("settle", "charge", "--all", "--reason", "why not"),
        ("settle", "ask-again", "--all"),
        ("settle", "forget", "--all", "--reason", "why not"),
        ("doubts", "--older-than", "yesterday"),
        ("bill", "--since", "May"),
        ("bill", "--price-per-call", "480"),
        ("plan", "s3://invoices/", "--price-per-call", "480"),
        ("plan", "s3://invoices/", "--ledger-conn-id", "ledger"),
        ("plan",),
        ("prune", "--days", "0"),
        ("backup",),
        ("pay",),
    ],
)
def test_a_command_line_that_cannot_be_meant_is_refused_with_exit_code_2(
    run: Run, ledger: Ledger, words: tuple[str, ...]
) -> None:
    assert run(*words) == 2
    assert len(doubts(ledger)) == 2


def test_a_bill_has_lines_and_a_total_and_yuan_where_a_price_is_known(
    run: Run, ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recognise(TaskInstance(run_id="third"), images=[f"file://{tmp_path}/发票/0000.png"])
    capsys.readouterr()
    assert run("bill", "--group-by", "run_id") == 0
    said = capsys.readouterr()
    assert [line.split() for line in said.out.splitlines()] == [
        ["run_id", "calls", "charged", "maybe_charged", "not_charged", "reused"],
        ["run", "1", "1", "0", "0", "0"],
        ["third", "0", "0", "0", "0", "1"],
        ["tomorrow", "2", "0", "2", "0", "1"],
        ["total", "3", "1", "2", "0", "2"],
    ]
    assert "No price is known" in said.err
    assert run("bill", "--group-by", "--price-per-call", "0.048", "-o", "csv") == 0
    head, line = capsys.readouterr().out.splitlines()
    assert dict(zip(head.split(","), line.split(","), strict=True)) == {
        "calls": "3",
        "charged": "1",
        "maybe_charged": "2",
        "not_charged": "0",
        "reused": "2",
        "yuan": "0.048",
        "yuan_maybe": "0.096",
        "yuan_saved": "0.096",
    }


def test_a_plan_tells_what_a_run_would_do_without_a_call(
    run: Run, ledger: Ledger, service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inbox, calls = f"file://{tmp_path}/发票/", len(service.calls)
    for number in (3, 4):
        (tmp_path / "发票" / f"{number:04}.png").write_bytes(picture(number))
    (tmp_path / "发票" / "text.png").write_text("no picture")
    capsys.readouterr()
    assert run("plan", inbox, "--price-per-call", "10k") == 0
    said = capsys.readouterr().out
    counts = dict(zip(*map(str.split, said.splitlines()[:2]), strict=True))
    assert (counts["images"], counts["answered"], counts["to_send"], counts["unjudged"]) == (
        "6",
        "1",
        "5",
        "3",
    )
    assert "0.24 yuan at most, 0.096 at least; 0.048 saved" in said
    assert "2 are in doubt and are asked for once more" in said
    assert run("plan", inbox, "--read", "--in-doubt", "hold", "-o", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert {name: found[name] for name in ("to_send", "held", "rejected", "unjudged", "yuan")} == {
        "to_send": 2,
        "held": 2,
        "rejected": 1,
        "unjudged": 0,
        "yuan": None,
    }
    assert run("plan", inbox, "--ignore", "*.png", "-o", "csv") == 0
    assert capsys.readouterr().out.splitlines() == [",".join(("folder", *COUNTS))]
    assert len(service.calls) == calls


def test_a_plan_of_several_folders_has_a_line_for_each(
    run: Run, account: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, count in (("2024", 1), ("2025", 3)):
        folder_of(tmp_path / "old" / name, count)
    assert run("plan", f"file://{tmp_path}/old/") == 0
    lines = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[:4]]
    base = f"file://{tmp_path}/old/"
    assert lines == [["folder", "images"], [f"{base}2024/", "1"], [f"{base}2025/", "3"], ["total", "4"]]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "0 s"), (61, "1 min 1 s"), (3 * 3600 + 60, "3 h 1 min"), (515_000, "5 d 23 h")],
)
def test_a_duration_has_its_two_largest_units(seconds: float, shown: str) -> None:
    assert printing.duration(seconds) == shown


def test_a_ledger_moves_is_backed_up_checked_and_pruned(
    run: Run, ledger: Ledger, connect: Connect, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    connect("new_ledger", conn_type="sqlite", host=str(tmp_path / "new.db"))
    assert run("check") == 0
    assert run("copy", "--to-conn-id", "new_ledger") == 0
    assert "Now name new_ledger as ledger_conn_id" in capsys.readouterr().out
    assert run("copy", "--to-conn-id", "new_ledger") == 1
    assert "holds rows" in capsys.readouterr().err
    assert run("check", "--ledger-conn-id", "new_ledger", "--replies") == 0
    assert run("backup", str(tmp_path / "backup.db")) == 0
    assert run("backup", str(tmp_path / "backup.db")) == 1
    assert run("prune", "--days", "1") == 0
    assert "Nothing was removed. Add --yes" in capsys.readouterr().out
    assert run("prune", "--days", "1", "--what", "replies", "--yes") == 0
    assert run("prune", "--days", "1", "--what", "recognitions") == 1


def test_a_fault_is_printed_and_is_exit_code_1(
    run: Run, ledger: Ledger, ledger_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with engine_for(f"sqlite:///{ledger_path}").begin() as db:
        db.exec_driver_sql("UPDATE jdocr_recognition SET answer_id = NULL WHERE settled = 'answered'")
    assert run("check") == 1
    assert "SETTLED_BY_NOBODY" in capsys.readouterr().out
    assert run("check", "-o", "json") == 1
    assert json.loads(capsys.readouterr().out)[0]["rows"] == 1


def test_no_ledger_is_made_where_none_was(
    run: Run, account: str, connect: Connect, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    connect("elsewhere", conn_type="sqlite", host=str(tmp_path / "elsewhere.db"))
    assert run("check", "--ledger-conn-id", "elsewhere") == 1
    assert "there is no ledger at connection 'elsewhere'" in capsys.readouterr().err
    assert not (tmp_path / "elsewhere.db").exists()


def test_what_cannot_be_done_is_one_line_without_a_secret(
    run: Run, connect: Connect, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("doubts", "--jdocr-conn-id", "nobody") == 1
    database = {"host": "127.0.0.1", "port": 1, "login": "u", "password": "CANARY-1", "schema": "d"}
    connect("away", conn_type="postgres", **database)
    extra = {"ledger_conn_id": "away"}
    connect("unreachable", conn_type="jdocr", login="key", password="CANARY-2", extra=extra)
    assert run("doubts", "--jdocr-conn-id", "unreachable") == 1
    assert run("plan", "file:///tmp/", "--jdocr-conn-id", "unreachable") == 1
    assert run("check", "--ledger-conn-id", "away") == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.split("jdocr: ")) == 5
    assert "CANARY" not in said.err
    assert "Traceback" not in said.err


def test_a_files_name_cannot_move_the_cursor() -> None:
    assert "\x1b" not in printing.table([{"uri": "s3://b/\x1b[2J.jpg"}], ("uri",))


def test_columns_stand_under_each_other_in_chinese_too() -> None:
    text = printing.table([{"uri": "发票", "rows": 1}, {"uri": "abcd", "rows": 10}], ("uri", "rows"))
    assert text.splitlines() == ["uri   rows", "发票     1", "abcd    10"]


def test_airflow_itself_runs_the_commands(ledger: Ledger, tmp_path: Path) -> None:
    """By the entry point that an installed provider has."""
    info = tmp_path / "installed" / "airflow_provider_jdocr-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: airflow-provider-jdocr\nVersion: 0\n")
    where = "airflow_provider_jdocr.get_provider_info:get_provider_info"
    (info / "entry_points.txt").write_text(f"[apache_airflow_provider]\nprovider_info = {where}\n")
    path = os.pathsep.join((str(info.parent), str(Path(__file__).resolve().parents[2])))
    command = [sys.executable, "-W", "ignore", "-m", "airflow", "jdocr", "doubts", "--output", "json"]
    env = {**os.environ, "PYTHONPATH": path, "AIRFLOW__CORE__UNIT_TEST_MODE": "False"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=True)
    assert len(json.loads(done.stdout)) == 2
