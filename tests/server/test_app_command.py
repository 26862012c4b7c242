"""``python -m airflow_provider_jdocr.server``: what it wants, what it refuses, and that it serves."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from airflow_provider_jdocr.server.__main__ import main
from tests.server.app_client import INTSIG, KEY, OCR, SECRET, signed, wait_for

ROOT = Path(__file__).resolve().parent.parent.parent
COMMAND = (sys.executable, "-m", "airflow_provider_jdocr.server")
ACCOUNT = {"JDOCR_SERVER_KEY": KEY, "JDOCR_SERVER_SECRET": SECRET}


def _environment(**account: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("JDOCR_")}
    return {**inherited, "PYTHONPATH": str(ROOT), **account}


@pytest.mark.parametrize("missing", ACCOUNT)
def test_without_an_account_it_says_what_to_set(missing: str) -> None:
    account = {name: value for name, value in ACCOUNT.items() if name != missing}
    done = subprocess.run(COMMAND, env=_environment(**account), capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert f"set {missing} in the environment" in done.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--host", "0.0.0.0"), "0.0.0.0 is not loopback: give --certfile and --keyfile"),  # noqa: S104  refused
        (("--certfile", "a.pem"), "go together"),
        (("--certfile", "a.pem", "--keyfile", "b.pem"), "no such file: a.pem"),
        (("--qps", "-1"), "-1 is negative"),
        (("--workers", "0"), "0 is less than 1"),
        (("--reset-time", "25:00"), "--reset-time"),
        (("--reset-timezone", "Mars/Olympus"), "Mars/Olympus is no time zone"),
        (("--faults", '[{"fault": "vanish"}]'), "--faults"),
        (("--engine", "magic"), "magic"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_served_is_refused_before_it_starts(
    options: tuple[str, ...],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in ACCOUNT.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        main(options)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


@contextmanager
def _running(
    *options: str, scheme: str = "http", verify: bool | str = True
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [*COMMAND, "--engine", "stub", "--control", "--port", str(port), *options],
        env=_environment(**ACCOUNT),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            url = f"{scheme}://127.0.0.1:{port}"
            wait_for(url, lambda: process.poll() is None, verify)
            yield url, process
        finally:
            process.kill()


def test_it_serves_as_told_and_ends_when_told() -> None:
    fault = '[{"fault": "late", "seconds": 60}, {"fault": "busy"}]'
    with _running("--daily-limit", "7", "--verbose", "--faults", fault) as (url, process):
        health = requests.get(f"{url}/-/health", timeout=10).json()
        assert (health["engine"], health["behaviour"]["daily_limit"]) == ("stub", 7)
        assert health["behaviour"]["faults_waiting"] == 2
        assert requests.get(f"{url}/-/bill", timeout=10).json() == []
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
    assert url in output


def test_no_key_and_no_signature_is_in_its_output() -> None:
    now = 1_700_000_000.0
    with _running("--verbose") as (url, process), requests.Session() as session:
        prepared = signed(INTSIG, url, b"x", now)
        assert session.send(prepared, timeout=10).json()["code"] == "10045"
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
    assert "10045" in output
    for secret in (KEY, SECRET, (prepared.url or "").partition("sign=")[2]):
        assert secret
        assert secret not in output


def _certificate(folder: Path) -> tuple[str, str]:
    """A certificate of its own for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    chain, private = folder / "cert.pem", folder / "key.pem"
    chain.write_bytes(certificate.public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return str(chain), str(private)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_over_tls_it_serves_and_drops_connections_too(tmp_path: Path, how: str) -> None:
    chain, private = _certificate(tmp_path)
    fault = f'[{{"fault": "close_before_billing", "how": "{how}"}}]'
    options = ("--certfile", chain, "--keyfile", private, "--faults", fault)
    with _running(*options, scheme="https", verify=chain) as (url, _), requests.Session() as session:
        with pytest.raises(requests.ConnectionError):
            session.send(signed(OCR, url, b"x", time.time()), timeout=10, verify=chain)
        health = session.get(f"{url}/-/health", timeout=10, verify=chain).json()
        assert health["behaviour"]["faults_waiting"] == 0
