"""``python -m airflow_provider_jdocr.server``: the OCR service on a port.

The account it knows comes from ``JDOCR_SERVER_KEY`` and ``JDOCR_SERVER_SECRET`` in the environment, never
from the command line, which every user of the machine can read. It is ready when ``GET /-/health`` answers
200. Other machines are served over TLS only. Exit code 2: it was asked for something that cannot be.
"""

import argparse
import ipaddress
import logging
import os
from collections.abc import Sequence
from datetime import time
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import uvicorn
from pydantic import TypeAdapter, ValidationError

from airflow_provider_jdocr.server.app import STUB_NOTE, Engine, Settings, create_app
from airflow_provider_jdocr.server.faults import Fault
from airflow_provider_jdocr.server.limits import WINDOWS
from airflow_provider_jdocr.server.pictures import ENCODINGS
from airflow_provider_jdocr.server.wire import Bounds, tls_context, uvicorn_config

KEY_VARIABLE = "JDOCR_SERVER_KEY"
SECRET_VARIABLE = "JDOCR_SERVER_SECRET"  # noqa: S105  the name of a variable


def arguments() -> argparse.ArgumentParser:
    """The options; the defaults of behaviour are those of ``Settings``."""
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_jdocr.server",
        description="A local OCR service with the contracts of JD's two invoice endpoints.",
        epilog=f"The account: {KEY_VARIABLE} and {SECRET_VARIABLE} in the environment.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="another than loopback needs --certfile and --keyfile")
    add("--port", type=int, default=8600)
    add("--certfile", type=Path, help="TLS certificate chain (PEM)")
    add("--keyfile", type=Path, help="its private key (PEM)")
    add("--engine", choices=("ocr", "stub"), default="ocr", help=f"stub: {STUB_NOTE}")
    add(
        "--workers",
        type=_positive,
        default=_workers(),
        help="pictures read at once, each on a core of its own",
    )
    add(
        "--waiting", type=_not_negative, default=16, help="pictures that may wait; one more is over the limit"
    )
    add(
        "--keep",
        type=_not_negative,
        default=0,
        help="readings to keep: the same bytes, billed, are not read again",
    )
    add("--connections", type=_positive, default=256, help="open at once; one more is told so (10044)")
    add("--qps", type=_amount, default=2.0, help="calls a second at each endpoint; 0: no limit")
    add("--window", choices=WINDOWS, default="sliding", help="how a second is counted")
    add("--daily-limit", type=int, default=500, help="billed calls a day at each endpoint; -1: no limit")
    add("--total-limit", type=int, default=-1, help="billed calls in all, as of a pack; -1: no pack")
    add("--reset-time", type=_time, default=time(0, 0), help="when a day begins, HH:MM[:SS]")
    add("--reset-timezone", type=_timezone, default="Asia/Shanghai", help="and where")
    add("--remain", choices=("count", "zero", "unlimited"), default="count", help="what replies say is left")
    add("--latency", type=_amount, default=0.0, help="seconds added to every answer")
    add("--body-encoding", choices=ENCODINGS, default="base64", help="what the INTSIG endpoint takes")
    add("--date-window", type=_amount, default=900.0, help="seconds that x-jdcloud-date may be off")
    add("--timestamp-window", type=_amount, default=300.0, help="seconds that timestamp may be off")
    add("--faults", type=_faults, default=(), help="JSON list of faults to begin with, as /-/behave takes it")
    add("--control", action="store_true", help="for tests: serve /-/bill and /-/behave to this machine")
    add("--verbose", action="store_true", help="log each reply: endpoint, code, request id")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until told to stop."""
    parser = arguments()
    options = parser.parse_args(argv)
    if problem := _problem(options):
        parser.error(problem)
    logging.basicConfig(level=logging.INFO if options.verbose else logging.WARNING)
    app = create_app(_settings(options), _engine(options))
    config = uvicorn_config(
        app,
        host=options.host,
        port=options.port,
        certfile=str(options.certfile) if options.certfile else None,
        keyfile=str(options.keyfile) if options.keyfile else None,
        bounds=Bounds(connections=options.connections),
    )
    scheme = "https" if options.certfile else "http"
    print(f"jdocr OCR service, engine {options.engine}: {scheme}://{options.host}:{options.port}", flush=True)
    if options.engine == "stub":
        print(STUB_NOTE, flush=True)
    uvicorn.Server(config).run()


def _problem(options: argparse.Namespace) -> str | None:
    if missing := [name for name in (KEY_VARIABLE, SECRET_VARIABLE) if not os.environ.get(name)]:
        return f"set {' and '.join(missing)} in the environment: the account that may call this service"
    if (options.certfile is None) != (options.keyfile is None):
        return "--certfile and --keyfile go together"
    for path in (options.certfile, options.keyfile):
        if path is not None and not path.is_file():
            return f"no such file: {path}"
    if options.certfile is not None and (problem := _tls_problem(options.certfile, options.keyfile)):
        return problem
    if options.certfile is None and not _is_loopback(options.host):
        return (
            f"{options.host} is not loopback: give --certfile and --keyfile, keys and invoices travel over it"
        )
    return None


def _tls_problem(certfile: Path, keyfile: Path) -> str | None:
    try:
        tls_context(str(certfile), str(keyfile))
    except OSError as error:
        reason = getattr(error, "reason", None) or error.strerror
        wanted = "PEM, one belonging to the other, the key without a password"
        return f"--certfile and --keyfile cannot be used ({reason}): {wanted}"
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _settings(options: argparse.Namespace) -> Settings:
    return Settings(
        access_key=os.environ[KEY_VARIABLE],
        secret_key=os.environ[SECRET_VARIABLE],
        qps=options.qps,
        window=options.window,
        daily_limit=options.daily_limit,
        total_limit=options.total_limit,
        latency_seconds=options.latency,
        reset_time=options.reset_time,
        reset_timezone=options.reset_timezone,
        body_encoding=options.body_encoding,
        remain=options.remain,
        date_window_seconds=options.date_window,
        timestamp_window_seconds=options.timestamp_window,
        workers=options.workers,
        waiting=options.waiting,
        control=options.control,
        faults=options.faults,
    )


def _workers() -> int:
    """One for each core, but two unless it is said: each takes half a gigabyte."""
    return min(2, os.cpu_count() or 1)


def _engine(options: argparse.Namespace) -> Engine:
    # Imported late: --help and a wrong option do not wait for a neural network.
    from airflow_provider_jdocr.server.recognise import OcrEngine, StubEngine

    return StubEngine() if options.engine == "stub" else OcrEngine(options.workers, options.keep)


def _amount(text: str) -> float:
    if (value := float(text)) >= 0:
        return value
    raise argparse.ArgumentTypeError(f"{text} is negative")


def _not_negative(text: str) -> int:
    if (value := int(text)) >= 0:
        return value
    raise argparse.ArgumentTypeError(f"{text} is negative")


def _positive(text: str) -> int:
    if (value := int(text)) >= 1:
        return value
    raise argparse.ArgumentTypeError(f"{text} is less than 1")


def _time(text: str) -> time:
    return time.fromisoformat(text)


def _timezone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text} is no time zone") from error
    return text


def _faults(text: str) -> tuple[Fault, ...]:
    try:
        return TypeAdapter(tuple[Fault, ...]).validate_json(text)
    except ValidationError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    main()
