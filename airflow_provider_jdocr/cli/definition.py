"""What ``airflow jdocr`` takes. Every ``airflow`` command imports this, so it imports no more than it must;
what a command does is in `commands`, imported when one runs.
"""

from collections.abc import Iterable
from typing import Any

from airflow.cli.cli_config import ActionCommand, Arg, CLICommand, GroupCommand, lazy_load_command

_COMMANDS = "airflow_provider_jdocr.cli.commands"

_ACCOUNT = (
    Arg(
        ("--jdocr-conn-id",),
        help="the account whose ledger is meant, and whose images and calls; default: %(default)s",
        default="jdocr_default",
    ),
)
_LEDGER = (
    *_ACCOUNT,
    Arg(
        ("--ledger-conn-id",),
        help="a ledger by its own connection, such as a restored one; then of all accounts",
    ),
)
_ALL_ACCOUNTS = Arg(
    ("--all-accounts",),
    help="everything in that ledger, not this service and endpoint alone",
    action="store_true",
)
_OUTPUT = Arg(
    ("-o", "--output"),
    help="how to print: %(choices)s; default: %(default)s",
    choices=("table", "csv", "json"),
    default="table",
)
_PRICE = Arg(
    ("--price-per-call",),
    help="yuan a call, or one of JD's packs, such as 10k; default: the connection's",
)
_YES = Arg(("-y", "--yes"), help="do it, without asking", action="store_true")
_WHOSE = (
    Arg(("--dag-id",), help="of this DAG only"),
    Arg(("--run-id",), help="of this DAG run only"),
    Arg(("--task-id",), help="of this task only"),
    Arg(("--prefix",), help="pictures whose URI begins so, such as s3://invoices/2026/"),
)
_WHICH = (
    *_WHOSE,
    Arg(("--sha256",), help="pictures with these digests", nargs="+", default=()),
    Arg(("--older-than",), help="sent so long ago at least, such as 30m, 12h or 7d"),
)


def get_commands() -> list[CLICommand]:
    """The group of commands that the provider adds to Airflow's."""
    return [
        GroupCommand(
            name="jdocr",
            help="The ledger of JD OCR: images in doubt, the bill, a plan, moving, pruning, checking it",
            description="The ledger of JD OCR: images in doubt, the bill, a plan, moving, pruning, checking "
            "it. Exit code 0: done; 1: not done, or something is wrong; 2: the command line is.",
            subcommands=(
                _command(
                    "doubts",
                    "List images in doubt: sent, and nobody knows whether they were charged",
                    (
                        *_WHICH,
                        Arg(
                            ("--calls",),
                            help="list every call of which nobody said whether it was charged, also where "
                            "its image was answered since",
                            action="store_true",
                        ),
                        _ALL_ACCOUNTS,
                        _OUTPUT,
                    ),
                ),
                _command(
                    "settle",
                    "Settle images in doubt, or say what JD charged",
                    (
                        Arg(
                            ("decision",),
                            help="ask-again: the next run may send it once more; give-up: it has failed and "
                            "is not sent again; charge: only say what JD charged, with --charged",
                            choices=("ask-again", "give-up", "charge"),
                        ),
                        Arg(("--charged",), help="what JD's bill says of these calls", choices=("yes", "no")),
                        Arg(("--reason",), help="why; kept in the ledger", required=True),
                        Arg(("--by",), help="who; kept in the ledger; default: this user of the system"),
                        *_WHICH,
                        Arg(("--call-id",), help="calls with these ids", nargs="+", default=()),
                        Arg(
                            ("--all",),
                            help="all of them: needed where nothing else says which",
                            action="store_true",
                        ),
                        _ALL_ACCOUNTS,
                        _YES,
                    ),
                    description="Settle images in doubt, or say what JD charged. What is being asked for at "
                    "this moment is left alone, and an answer that comes late still counts.",
                ),
                _command(
                    "bill",
                    "Show calls, charged, maybe charged, not charged, reused, and yuan",
                    (
                        Arg(("--since",), help="first day: YYYY-MM-DD, today or yesterday"),
                        Arg(("--until",), help="last day, likewise"),
                        Arg(
                            ("--group-by",),
                            help="of day, dag_id, run_id, task_id, service, endpoint, account; default: day",
                            nargs="*",
                            default=("day",),
                        ),
                        _PRICE,
                        *_WHOSE,
                        _ALL_ACCOUNTS,
                        _OUTPUT,
                    ),
                ),
                _command(
                    "plan",
                    "Show what a run would do with images: to send, answered, rejected, days, yuan",
                    (
                        Arg(("images",), help="a prefix, such as s3://invoices/archive/, or a glob"),
                        Arg(("--storage-conn-id",), help="the connection that reads the images"),
                        Arg(("--ignore",), help="globs of images to leave out", nargs="+", default=()),
                        Arg(
                            ("--read",),
                            help="also read every picture that the ledger does not know",
                            action="store_true",
                        ),
                        Arg(
                            ("--in-doubt",),
                            help="as the run will have it: %(choices)s; default: %(default)s",
                            choices=("resend", "hold"),
                            default="resend",
                        ),
                        Arg(
                            ("--resend",),
                            help="as the run will have it: %(choices)s; default: %(default)s",
                            choices=("none", "failed", "all"),
                            default="none",
                        ),
                        _PRICE,
                        Arg(
                            ("-o", "--output"),
                            help="how to print: %(choices)s; csv has the folders alone; default: %(default)s",
                            choices=("table", "csv", "json"),
                            default="table",
                        ),
                    ),
                    of=_ACCOUNT,
                    description="Show what a run would do with images, how long it takes and what it costs. "
                    "Makes no call and changes nothing; without --read no picture is read.",
                ),
                _command(
                    "copy",
                    "Copy the ledger into another, empty database, and compare",
                    (
                        Arg(("--to-conn-id",), help="connection of the target database", required=True),
                        Arg(
                            ("--even-in-use",),
                            help="copy also while images are being asked for; what is paid for later is "
                            "not in the copy",
                            action="store_true",
                        ),
                    ),
                ),
                _command(
                    "backup",
                    "Write a SQLite ledger into a new file while it is in use",
                    (Arg(("path",), help="the file, which must not be there yet"),),
                ),
                _command(
                    "check",
                    "Check that the ledger agrees with itself, as after a restore",
                    (
                        Arg(("--replies",), help="also unpack every raw reply", action="store_true"),
                        _OUTPUT,
                    ),
                ),
                _command(
                    "prune",
                    "Show, or with --yes remove, what is old and saves no money",
                    (
                        Arg(("--days",), help="older than so many days", type=int, required=True),
                        Arg(
                            ("--what",),
                            help="of runs, sources, unreached, replies; default: all but replies",
                            nargs="+",
                        ),
                        _YES,
                    ),
                    description="Show, or with --yes remove, what is old and saves no money. Recognitions "
                    "and the calls that settled them always stay, so nothing is paid again.",
                ),
            ),
        )
    ]


def _command(
    name: str,
    help: str,  # noqa: A002  Airflow's word
    args: Iterable[Arg],
    of: Iterable[Arg] = _LEDGER,
    **more: Any,
) -> ActionCommand:
    return ActionCommand(
        name=name,
        help=help,
        func=lazy_load_command(f"{_COMMANDS}.{name}"),
        args=(*of, *args),
        **more,
    )
