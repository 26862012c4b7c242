"""``python -m airflow_provider_jdocr.server``: what it wants, what it refuses, and that it serves."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest
import requests

from airflow_provider_jdocr.core.account import account_from_parts
from airflow_provider_jdocr.core.client import Client, Reply
from airflow_provider_jdocr.server.__main__ import main
from airflow_provider_jdocr.server.wire import tls_context
from tests.certificates import certificate
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
    *options: str, scheme: str = "http", verify: bool | str = True, address: str = "127.0.0.1"
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
            url = f"{scheme}://{address}:{port}"
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


def test_nothing_that_a_caller_sends_is_in_its_output() -> None:
    """Broken requests too: they may be a client's whose headers carry its key."""
    line = f"POST {OCR}?appkey=CANARY&sign=CANARY HTTP/1.1\r\nHost: CANARY\r\nAuthorization: CANARY\r\n"
    broken = {
        "body that ends early": "Content-Length: 50\r\n\r\nCANARY",
        "chunk without a length": "Transfer-Encoding: chunked\r\n\r\nCANARY\r\n",
        "length that is none": "Content-Length: CANARY\r\n\r\n",
        "header that is none": "CANARY\r\n\r\n",
        "headers too long": f"X: {'CANARY' * 5000}\r\n\r\n",
        "upgrade": "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: CANARY\r\n\r\n",
        "body that is whole": "Content-Length: 6\r\n\r\nCANARY",
    }
    with _running("--verbose") as (url, process):
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        for rest in ("CANARY\r\n\r\n", *(line + each for each in broken.values())):
            with socket.create_connection(address, 10) as peer:
                peer.sendall(rest.encode())
                peer.shutdown(socket.SHUT_WR)
                peer.recv(65536)
        requests.post(f"{url}/-/behave", json={"CANARY": "CANARY"}, timeout=10)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
    assert "Invalid HTTP request" in output, "the broken ones were noticed"
    assert "CANARY" not in output


@pytest.mark.parametrize("how", ["close", "reset"])
def test_over_tls_it_serves_and_drops_connections_too(tmp_path: Path, how: str) -> None:
    made = certificate(tmp_path)
    chain = made.chain
    fault = f'[{{"fault": "close_before_billing", "how": "{how}"}}]'
    options = ("--certfile", chain, "--keyfile", made.key, "--faults", fault)
    with _running(*options, scheme="https", verify=chain) as (url, _), requests.Session() as session:
        with pytest.raises(requests.ConnectionError):
            session.send(signed(OCR, url, b"x", time.time()), timeout=10, verify=chain)
        health = session.get(f"{url}/-/health", timeout=10, verify=chain).json()
        assert health["behaviour"]["faults_waiting"] == 0


@pytest.mark.parametrize("endpoint", ["ocr_invoice", "intsig_invoice"])
def test_our_own_client_calls_it_over_tls_with_the_authority_that_the_connection_names(
    tmp_path: Path, endpoint: str
) -> None:
    made = certificate(tmp_path)
    picture = (ROOT / "tests/specimens/pictures/special_plain.png").read_bytes()
    with _running("--certfile", made.chain, "--keyfile", made.key, scheme="https", verify=made.chain) as (
        url,
        _,
    ):
        account = account_from_parts(
            login=KEY,
            password=SECRET,
            host=url,
            port=None,
            schema=None,
            extra={"endpoint": endpoint, "ca_bundle": made.chain},
        )
        with Client(account) as client:
            reply = client.send(picture)
        bill = requests.get(f"{url}/-/bill", timeout=10, verify=made.chain).json()
    assert isinstance(reply, Reply), reply
    assert reply.status == 200
    assert [one["endpoint"] for one in bill] == [endpoint]


def test_on_an_address_of_the_network_it_speaks_tls_only_and_takes_no_orders(tmp_path: Path) -> None:
    address = _own_address()
    made = certificate(tmp_path, address=address)
    options = ("--host", address, "--certfile", made.chain, "--keyfile", made.key)
    with _running(*options, scheme="https", verify=made.chain, address=address) as (url, _):
        own = {"Host": "127.0.0.1", "X-Forwarded-For": "127.0.0.1"}
        for path in ("/-/bill", "/-/calls"):
            for headers in ({}, own, {"Host": "127.0.0.1"}):
                reply = requests.get(url + path, headers=headers, timeout=10, verify=made.chain)
                assert reply.status_code == 403
        assert requests.get(f"{url}/-/health", timeout=10, verify=made.chain).json().keys() <= {
            "status",
            "engine",
            "note",
        }
        with pytest.raises(requests.ConnectionError):
            requests.get(url.replace("https", "http") + "/-/health", timeout=10)


def _own_address() -> str:
    """An address of this machine by which other machines may call it. Nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # of RFC 5737: nobody's
        except OSError:
            pytest.skip("this machine has no address but loopback")
        address: str = probe.getsockname()[0]
    if ip_address(address).is_loopback:
        pytest.skip("this machine has no address but loopback")
    return address


def test_its_tls_is_of_this_decade(tmp_path: Path) -> None:
    made = certificate(tmp_path)
    context = tls_context(made.chain, made.key)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    names = {cipher["name"] for cipher in context.get_ciphers()}
    assert names
    assert not [name for name in names if not name.startswith(("TLS_", "ECDHE-")) or "CBC" in name]
    assert not [name for name in names if not ("GCM" in name or "CHACHA20" in name)]


@pytest.mark.parametrize("flaw", ["another's key", "a key under a password", "no PEM"])
def test_a_certificate_and_key_that_do_not_serve_are_refused_before_it_starts(
    flaw: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in ACCOUNT.items():
        monkeypatch.setenv(name, value)
    made, key = certificate(tmp_path), certificate(tmp_path).key
    if flaw == "a key under a password":
        made = certificate(tmp_path, password="CANARY")
        key = made.key
    if flaw == "no PEM":
        Path(key).write_text("CANARY")
    with pytest.raises(SystemExit) as ended:
        main(["--certfile", made.chain, "--keyfile", key])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "--certfile and --keyfile cannot be used (" in said
    assert "CANARY" not in said
