"""What the commands of ``airflow jdocr`` do: resolve connections, call the core, print.

Nothing is changed without being shown and agreed to first, by ``--yes`` or by hand. What cannot be done is
said in one line, without a traceback and without a secret, with exit code 1.
"""

import getpass
import json
import logging
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from airflow_provider_jdocr.cli.printing import planned, show
from airflow_provider_jdocr.core import auditing, copying, planning, pruning, schema
from airflow_provider_jdocr.core import bill as bills
from airflow_provider_jdocr.core import doubts as in_doubt
from airflow_provider_jdocr.core.bill import COUNTS, MONEY, Line, Span
from airflow_provider_jdocr.core.doubts import Doubt, Matching, MaybeCharged, age_seconds
from airflow_provider_jdocr.core.errors import ConfigurationError, JdOcrError
from airflow_provider_jdocr.core.ledger import Decision, Ledger
from airflow_provider_jdocr.core.planning import Terms
from airflow_provider_jdocr.core.prices import price_of
from airflow_provider_jdocr.core.sources import folder_above, select
from airflow_provider_jdocr.databases import Database, database
from airflow_provider_jdocr.hooks import JdOcrHook
from airflow_provider_jdocr.storage import open_storage

SHOWN = 20
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Books:
    """The ledger that a command is about, whose images of it are meant, and how its days are counted."""

    ledger: Ledger
    service: str | None = None
    endpoint: str | None = None
    timezone: str = "Asia/Shanghai"
    price: Decimal | None = None

    def moment(self, seconds: float) -> str:
        return (
            datetime.fromtimestamp(seconds, UTC).astimezone(ZoneInfo(self.timezone)).isoformat(" ", "seconds")
        )


def _told(run: Callable[[Namespace], int | None]) -> Callable[[Namespace], None]:
    """An error is one line on standard error and an exit code."""

    @wraps(run)
    def told(args: Namespace) -> None:
        # As Airflow's own `connections` commands do: those of its database are looked up as well.
        os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
        _log_to_standard_error()
        try:
            code = run(args)
        except JdOcrError as error:
            sys.exit(f"jdocr: {error}")
        except sa.exc.SQLAlchemyError as error:
            reason = str(getattr(error, "orig", error)).strip().partition("\n")[0]
            sys.exit(f"jdocr: the database says: {reason}")
        if code:
            sys.exit(code)

    return told


@_told
def doubts(args: Namespace) -> None:
    """Lists images in doubt, or calls of which nobody said whether they were charged."""
    books = _books(args)
    if args.calls:
        _show_calls(books, in_doubt.maybe_charged(books.ledger, _matching(args, books)), args.output)
    else:
        _show_doubts(books, in_doubt.doubts(books.ledger, _matching(args, books)), args.output)


@_told
def settle(args: Namespace) -> int:
    """Shows what matches, asks, and carries the decision out on what was shown."""
    if args.decision == "charge" and args.charged is None:
        _usage("settle charge: --charged yes or --charged no is wanted")
    if not (args.all or _narrowed(args)):
        _usage("settle: say which, by --dag-id, --run-id, --prefix, --sha256, --call-id …, or --all")
    books = _books(args)
    who = {"by": args.by or getpass.getuser(), "reason": args.reason}
    if args.decision == "charge":
        return _correct_charges(args, books, who)
    found = in_doubt.doubts(books.ledger, _matching(args, books))
    _show_doubts(books, found, "table")
    if not found:
        return 0
    _agreed(args, f"{len(found)} images: {args.decision}")
    # What came into doubt since was not shown.
    seen = Matching(call_ids=tuple(doubt.call.call_id or "none" for doubt in found))
    decision = cast(Decision, args.decision)
    charged = None if args.charged is None else args.charged == "yes"
    done = in_doubt.settle(books.ledger, seen, decision, charged=charged, **who)
    _say(f"{done.resolved} of {len(found)} images settled, {done.charges} charges corrected.")
    if done.busy:
        _say(f"{done.busy} are being asked for, or were noticed just now: run it again in a while.")
    return 0 if done.resolved == len(found) else 1


def _correct_charges(args: Namespace, books: _Books, who: Mapping[str, str]) -> int:
    calls = in_doubt.maybe_charged(books.ledger, _matching(args, books))
    _show_calls(books, calls, "table")
    if not calls:
        return 0
    _agreed(args, f"{len(calls)} calls: charged {args.charged}")
    done = in_doubt.correct_charges(books.ledger, calls, args.charged == "yes", **who)
    _say(f"{done} of {len(calls)} calls corrected.")
    return 0 if done == len(calls) else 1


@_told
def bill(args: Namespace) -> None:
    """Prints the lines of a bill, and in a table their total."""
    books = _books(args)
    price = books.price
    if args.price_per_call:
        price = _meant("--price-per-call", lambda: price_of(args.price_per_call))
    since, until = _day(books, "since", args.since), _day(books, "until", args.until)
    span = Span(since, until, **_whose(args), **_scope(args, books))
    groups = tuple(args.group_by)
    lines = bills.bill(books.ledger.engine, span, groups, price=price, timezone=books.timezone)
    if args.output == "table":
        rows = [_rounded(line, groups) for line in lines]
        if groups:
            whole = replace(bills.total(lines), group=("total", *[""] * (len(groups) - 1)), price=price)
            rows.append(_rounded(whole, groups))
    else:
        rows = [bills.as_dict(line, groups) for line in lines]
    if price is None:
        _note("No price is known, so there are no yuan: give --price-per-call, or the extra price_per_call.")
    show(rows, args.output, (*groups, *COUNTS, *(MONEY if price is not None else ())))


@_told
def plan(args: Namespace) -> None:
    """Prints what a run over the images would do, take and cost."""
    hook = JdOcrHook(args.jdocr_conn_id)
    account = hook.get_account()
    price = account.price_per_call
    if args.price_per_call:
        price = _meant("--price-per-call", lambda: price_of(args.price_per_call))
    storage = open_storage(args.images, args.storage_conn_id)
    found = planning.plan(
        select(args.images, storage, args.ignore),
        folder=folder_above(args.images),
        storage=storage,
        account=account,
        ledger=hook.get_ledger(),
        terms=Terms(args.in_doubt, args.resend, args.read),
        price=price,
    ).to_dict()
    if args.output == "json":
        _say(json.dumps(found, ensure_ascii=False, indent=2))
    elif args.output == "csv":
        show(found["folders"], args.output, ("folder", *planning.COUNTS))
    else:
        _say(planned(found))


@_told
def copy(args: Namespace) -> None:
    """Copies the ledger and says what to do next."""
    books = _books(args)
    target = database(args.to_conn_id, "to_conn_id").engine()
    copied = copying.copy(books.ledger, target, even_in_use=args.even_in_use)
    show([asdict(each) for each in copied], "table", ("table", "rows", "digest"))
    _say(
        f"The same on both sides. Now name {args.to_conn_id} as ledger_conn_id in every jdocr connection, "
        "before any DAG runs: what is paid for in the old ledger is not known in the new one."
    )


@_told
def backup(args: Namespace) -> int:
    """Writes the file and checks what is in it."""
    path = Path(args.path).absolute()
    size = copying.back_up(_books(args).ledger, path)
    _say(f"{path}: {size} bytes")
    return _report(
        auditing.audit(Ledger(Database(sa.URL.create("sqlite", database=str(path))).engine())), "table"
    )


@_told
def check(args: Namespace) -> int:
    """Prints the counts and the faults; exit code 1 where there are any."""
    return _report(auditing.audit(_books(args).ledger, replies=args.replies), args.output)


@_told
def prune(args: Namespace) -> None:
    """Shows what would go, or removes it."""
    if args.days < 1:
        _usage("prune: --days is a whole number of at least 1")
    ledger, kinds = _books(args).ledger, args.what or pruning.STANDARD
    found = (
        pruning.prune(ledger, args.days, kinds) if args.yes else pruning.prunable(ledger, args.days, kinds)
    )
    rows = [
        {"what": each.kind.name, "rows": each.rows, "about_bytes": each.bytes, "is": each.kind.what}
        | {"lost": each.kind.lost}
        for each in found
    ]
    show(rows, "table", ("what", "rows", "about_bytes", "is", "lost"))
    _say("Removed." if args.yes else "Nothing was removed. Add --yes to remove this.")


# --- what the arguments mean


def _books(args: Namespace) -> _Books:
    if args.ledger_conn_id:
        return _Books(_ledger_at(database(args.ledger_conn_id, "ledger_conn_id"), args.ledger_conn_id))
    hook = JdOcrHook(args.jdocr_conn_id)
    account = hook.get_account()
    return _Books(
        hook.get_ledger(),
        account.service,
        account.endpoint.name,
        account.reset_timezone,
        account.price_per_call,
    )


def _ledger_at(where: Database, conn_id: str) -> Ledger:
    """The ledger of a database; none is made where there is none."""
    path = where.url.database if where.url.get_backend_name() == "sqlite" else None
    engine = None if path and not Path(path).exists() else where.engine()
    if engine is None or not sa.inspect(engine).has_table(schema.meta.name):
        raise ConfigurationError(
            f"ledger_conn_id: there is no ledger at connection {conn_id!r}. Name another.",
            field="ledger_conn_id",
        )
    ledger = Ledger(engine)
    ledger.create()
    return ledger


def _scope(args: Namespace, books: _Books) -> dict[str, str | None]:
    everyone = args.all_accounts
    return {
        "service": None if everyone else books.service,
        "endpoint": None if everyone else books.endpoint,
    }


def _whose(args: Namespace) -> dict[str, str | None]:
    return {name: getattr(args, name) for name in ("dag_id", "run_id", "task_id", "prefix")}


def _matching(args: Namespace, books: _Books) -> Matching:
    age = _meant("--older-than", lambda: age_seconds(args.older_than)) if args.older_than else 0.0
    return Matching(
        **_scope(args, books),
        **_whose(args),
        sha256=tuple(args.sha256),
        call_ids=tuple(getattr(args, "call_id", ())),
        older_than_seconds=age,
    )


def _day(books: _Books, name: str, text: str | None) -> date | None:
    now = books.ledger.now()
    return _meant(f"--{name}", lambda: bills.day_of(text, now, books.timezone)) if text else None


def _narrowed(args: Namespace) -> bool:
    return any((*_whose(args).values(), args.sha256, args.call_id, args.older_than))


def _meant(option: str, read: Callable[[], _T]) -> _T:
    try:
        return read()
    except ValueError as error:
        _usage(f"{option}: {error}")


def _agreed(args: Namespace, what: str) -> None:
    """Returns only when the person at the keyboard, or --yes, says so."""
    if args.yes:
        return
    if not sys.stdin.isatty():
        sys.exit(f"jdocr: nothing was changed; add --yes to settle {what}")
    if input(f"Settle {what}? [y/N] ").strip().lower() not in ("y", "yes"):
        sys.exit("jdocr: nothing was changed")


# --- what is printed


def _log_to_standard_error() -> None:
    """Standard output is for rows; Airflow 3.2 logs there."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stdout:
            handler.setStream(sys.stderr)


def _call_row(books: _Books, call: MaybeCharged, *, short: bool) -> dict[str, Any]:
    digits = 12 if short else None
    return {
        "sent_at": books.moment(call.sent_at),
        "seconds_ago": round(call.seconds_ago),
        "uri": call.uri,
        **asdict(call.run),
        "endpoint": call.identity.endpoint,
        "code": call.code,
        "request_id": call.request_id,
        "sha256": call.identity.sha256[:digits],
        "call_id": call.call_id[:digits],
    }


def _show_doubts(books: _Books, found: Sequence[Doubt], output: str) -> None:
    rows = []
    for doubt in found:
        call = _call_row(books, doubt.call, short=output == "table")
        image = {
            "lease_seconds": round(doubt.lease_seconds),
            "calls": doubt.calls,
            "answered": doubt.answered,
        }
        rows.append({"sent_at": call.pop("sent_at"), "seconds_ago": call.pop("seconds_ago"), **image, **call})
    _show_some(rows, output, "No image is in doubt.")


def _show_calls(books: _Books, found: Sequence[MaybeCharged], output: str) -> None:
    rows = [_call_row(books, call, short=output == "table") for call in found]
    _show_some(rows, output, "There is no call of which nobody said whether it was charged.")


def _show_some(rows: Sequence[Mapping[str, Any]], output: str, none: str) -> None:
    if not rows and output == "table":
        _say(none)
        return
    shown = rows[:SHOWN] if output == "table" else rows
    show(shown, output, tuple(rows[0]) if rows else ())
    if len(shown) < len(rows):
        _say(f"… and {len(rows) - len(shown)} more; --output csv or json shows all")


def _rounded(line: Line, groups: Sequence[str]) -> dict[str, Any]:
    money = {name: getattr(line, name) for name in MONEY}
    rounded = {name: None if value is None else f"{value:.2f}" for name, value in money.items()}
    return bills.as_dict(line, groups) | rounded


def _report(found: auditing.Audit, output: str) -> int:
    faults = [asdict(fault) | {"examples": ", ".join(fault.examples)} for fault in found.faults]
    if output == "table":
        show([{"table": name, "rows": rows} for name, rows in found.rows.items()], output, ("table", "rows"))
        _say("\nNo fault was found." if not faults else "")
    if faults or output != "table":
        show(faults, output, ("code", "rule", "rows", "examples"))
    return 1 if faults else 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _note(text: str) -> None:
    sys.stderr.write(text + "\n")


def _usage(text: str) -> NoReturn:
    _note(f"jdocr: {text}")
    sys.exit(2)
