"""What a batch does with the QR code of a picture before it pays, and what it leaves in the ledger."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

from airflow_provider_jdocr.core import batch, qr
from airflow_provider_jdocr.core.auditing import audit
from airflow_provider_jdocr.core.batch import Manifest, QrRules
from airflow_provider_jdocr.core.ledger import Attempt, Busy, Claim, Ledger, Outcome, Seen
from airflow_provider_jdocr.core.preflight import Image
from airflow_provider_jdocr.core.pruning import prune
from airflow_provider_jdocr.core.qr import from_text, to_text
from tests.core import ledgers
from tests.core.ledgers import BUSY, FAILED, GOOD, OTHER_RUN, RUN
from tests.core.test_batch import Bench, Memory, Service, picture

PICTURES = Path(__file__).parents[1] / "specimens" / "pictures"
REUSE = QrRules(same_invoice="reuse")
SCAN, PHOTO, OTHER, BARE = "s3://b/1.png", "s3://b/2.jpg", "s3://b/3.png", "s3://b/4.png"


def _photo(name: str) -> bytes:
    """Another picture of the same invoice."""
    out = io.BytesIO()
    with Pillow.open(PICTURES / name) as drawn:
        drawn.convert("L").rotate(3, expand=True, fillcolor=255).save(out, "JPEG")
    return out.getvalue()


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    scan, other = ((PICTURES / name).read_bytes() for name in ("electronic_plain.png", "special_plain.png"))
    return {SCAN: scan, PHOTO: _photo("electronic_plain.png"), OTHER: other, BARE: picture(1)}


@pytest.fixture
def bench(sqlite_url: str) -> Iterator[Bench]:
    made = Bench(sqlite_url)
    yield made
    made.engine.dispose()


def outcomes(ledger: Ledger, manifest: Manifest) -> dict[str, Outcome]:
    return {outcome.uri: outcome for outcome in ledger.outcomes(manifest.run)}


def codes_of(ledger: Ledger, manifest: Manifest) -> dict[str, tuple[str, ...]]:
    """What the loader will find beside each answer."""
    identities = {outcome.identity: uri for uri, outcome in outcomes(ledger, manifest).items()}
    answers = ledger.answers([each for each in identities if each])
    return {identities[answer.identity]: from_text(answer.codes) for answer in answers}


def test_the_codes_of_a_picture_are_kept_with_its_answer(bench: Bench, files: dict[str, bytes]) -> None:
    manifest = bench.run(Memory(files), Service())
    assert manifest.recognised == 4
    found = codes_of(bench.ledger, manifest)
    assert (
        found[SCAN]
        == found[PHOTO]
        == ("01,10,012002000211,69391842,7640.09,20200515,08277904119363653442,D5E2,",)
    )
    assert found[OTHER][0].startswith("01,01,5000181120,73014687,")
    assert found[BARE] == ()


def test_two_pictures_of_one_invoice_are_two_calls_unless_the_author_wants_one(
    bench: Bench, files: dict[str, bytes]
) -> None:
    service = Service()
    assert bench.run(Memory(files), service).recognised == len(service.calls) == 4


def test_where_the_author_wants_it_two_pictures_of_one_invoice_are_one_call_and_two_answers(
    bench: Bench, files: dict[str, bytes]
) -> None:
    service = Service()
    manifest = bench.run(Memory(files), service, qr=REUSE)
    assert (manifest.recognised, manifest.reused, manifest.calls) == (3, 1, 3)
    assert manifest.verdict() is None
    by_uri = outcomes(bench.ledger, manifest)
    (reused,) = (each for each in by_uri.values() if each.outcome == "reused")
    assert (reused.uri in (SCAN, PHOTO), reused.code) == (True, "SAME_INVOICE")
    answers = bench.ledger.answers([each.identity for each in by_uri.values() if each.identity])
    assert len(answers) == 4
    assert len({answer.answer_id for answer in answers}) == 3
    assert audit(bench.ledger, replies=True).faults == ()


def test_pictures_of_one_invoice_wait_for_the_first_of_them(bench: Bench, files: dict[str, bytes]) -> None:
    """They come at the same moment, each in a thread of its own."""
    storage = Memory({f"s3://b/{number}.jpg": files[PHOTO] + b"\0" * number for number in range(6)})
    service = Service()
    manifest = bench.run(storage, service, qr=REUSE, max_in_flight=6)
    assert (manifest.recognised, manifest.reused, len(service.calls)) == (1, 5, 1)


def test_a_retry_tells_what_it_told(bench: Bench, files: dict[str, bytes]) -> None:
    service = Service()
    first = bench.run(Memory(files), service, qr=REUSE)
    again = bench.run(Memory(files), service, qr=REUSE)
    assert (again.recognised, again.reused) == (first.recognised, first.reused) == (3, 1)
    assert len(service.calls) == 3


@pytest.mark.parametrize("answer", [FAILED, BUSY], ids=["failed", "busy"])
def test_what_is_no_answer_is_not_reused(bench: Bench, files: dict[str, bytes], answer: Any) -> None:
    bench.run(Memory({SCAN: files[SCAN]}), Service(answer), qr=REUSE)
    service = Service()
    assert bench.run(Memory({PHOTO: files[PHOTO]}), service, OTHER_RUN, qr=REUSE).recognised == 1
    assert len(service.calls) == 1


def test_a_picture_that_says_otherwise_of_the_same_invoice_is_sent(
    bench: Bench, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.run(Memory({SCAN: files[SCAN]}), Service(), qr=REUSE)
    forged = "01,10,012002000211,69391842,97640.09,20200515,08277904119363653442,D5E2,"
    monkeypatch.setattr(batch, "read_codes", lambda image: (forged,))
    service = Service()
    bench.run(Memory({PHOTO: files[PHOTO]}), service, OTHER_RUN, qr=REUSE)
    assert len(service.calls) == 1


def test_asking_again_asks(bench: Bench, files: dict[str, bytes]) -> None:
    bench.run(Memory({SCAN: files[SCAN], PHOTO: files[PHOTO]}), Service(), qr=REUSE)
    service = Service()
    manifest = bench.run(
        Memory({SCAN: files[SCAN], PHOTO: files[PHOTO]}), service, OTHER_RUN, qr=REUSE, resend="all"
    )
    assert (manifest.recognised, len(service.calls)) == (2, 2)


def test_a_picture_of_another_document_is_rejected_only_where_the_author_wants_it(
    bench: Bench, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "read_codes", lambda image: ("01,51,,26339132621000219582,56.00,20260423,,2",))
    service = Service()
    rules = QrRules(no_invoice="reject")
    manifest = bench.run(Memory({SCAN: files[SCAN]}), service, qr=rules, max_failed=1)
    assert (manifest.rejected, service.calls) == (1, [])
    assert manifest.problems[0]["code"] == "NOT_A_VAT_INVOICE"
    assert bench.run(Memory({SCAN: files[SCAN]}), service, OTHER_RUN).recognised == 1


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[Image]:
    """The pictures that were searched for codes."""
    found: list[Image] = []

    def read(image: Image) -> tuple[str, ...]:
        found.append(image)
        return qr.read_codes(image)

    monkeypatch.setattr(batch, "read_codes", read)
    return found


def test_a_picture_whose_outcome_is_known_is_not_searched(
    bench: Bench, files: dict[str, bytes], looked: list[Image]
) -> None:
    """Neither by another task nor under another name."""
    bench.run(Memory({SCAN: files[SCAN]}), Service())
    assert len(looked) == 1
    assert bench.run(Memory({SCAN: files[SCAN], PHOTO: files[SCAN]}), Service(), OTHER_RUN).reused == 2
    assert len(looked) == 1


def test_a_picture_is_searched_once_however_often_it_is_asked_for(
    bench: Bench, files: dict[str, bytes], looked: list[Image]
) -> None:
    bench.run(Memory({SCAN: files[SCAN]}), Service(BUSY, BUSY, GOOD))
    bench.run(Memory({SCAN: files[SCAN]}), Service(), OTHER_RUN, resend="all")
    assert len(looked) == 1


def test_a_rejected_picture_is_searched_once(
    bench: Bench, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[Image] = []

    def ticket(image: Image) -> tuple[str, ...]:
        searched.append(image)
        return ("01,51,,26339132621000219582,56.00,20260423,,2",)

    monkeypatch.setattr(batch, "read_codes", ticket)
    for run in (RUN, OTHER_RUN):
        manifest = bench.run(
            Memory({SCAN: files[SCAN]}), Service(), run, qr=QrRules(no_invoice="reject"), max_failed=1
        )
        assert manifest.rejected == 1
    assert len(searched) == 1


def test_where_codes_are_not_to_be_read_no_picture_is_searched_and_none_is_missed(
    bench: Bench,
    files: dict[str, bytes],
    looked: list[Image],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(qr, "_MISSING", "No module named 'zxingcpp'")
    with caplog.at_level(logging.WARNING):
        assert bench.run(Memory(files), Service(), qr=QrRules(read=False)).recognised == 4
    assert looked == []
    assert not caplog.records


def test_without_a_decoder_the_batch_says_so_once_and_the_ledger_knows_that_nobody_looked(
    bench: Bench, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(qr, "_MISSING", "No module named 'zxingcpp'")
    with caplog.at_level(logging.WARNING):
        manifest = bench.run(Memory(files), Service())
    assert sum("zxing-cpp" in record.message for record in caplog.records) == 1
    found = [outcome.identity for outcome in bench.ledger.outcomes(manifest.run) if outcome.identity]
    assert {answer.codes for answer in bench.ledger.answers(found)} == {None}


# ── the ledger, on every database ──


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    made = Bench(database_url)
    yield made.ledger
    made.engine.dispose()


KEY = "012002000211:69391842"
ACCOUNT = ledgers.account()


def claimed(ledger: Ledger, name: str) -> Claim:
    found = ledger.claim(ledgers.identity(name), RUN)
    assert isinstance(found, Claim)
    return found


def seen(name: str, key: str | None = KEY) -> Seen:
    return Seen(to_text([name]), key)


def answered(ledger: Ledger, name: str, key: str | None = KEY) -> Claim:
    claim = claimed(ledger, name)
    sent = claim.identity.sha256
    attempt = ledger.begin(claim, ACCOUNT, RUN, sent_sha256=sent, asked_since=0.0, seen=seen(name, key))
    assert isinstance(attempt, Attempt)
    ledger.settle(attempt, ACCOUNT, ledgers.read(GOOD, ACCOUNT), GOOD)
    return claim


def test_of_two_claims_on_one_invoice_the_first_that_says_so_goes_on(ledger: Ledger) -> None:
    ledger.open_run(RUN)
    first, second = claimed(ledger, "a"), claimed(ledger, "b")
    assert ledger.same_invoice(second, seen("b")) == ()
    assert isinstance(ledger.same_invoice(first, seen("a")), Busy)
    assert isinstance(ledger.same_invoice(claimed(ledger, "c"), seen("c")), Busy)
    assert ledger.same_invoice(second, seen("b")) == (), "who waits keeps nobody waiting"
    ledger.release(second)
    assert ledger.same_invoice(first, seen("a")) == ()


def test_of_many_that_come_at_once_one_goes_on(ledger: Ledger) -> None:
    ledger.open_run(RUN)
    claims = [claimed(ledger, name) for name in "abcdefgh"]
    start = threading.Barrier(len(claims))

    def look(claim: Claim) -> bool:
        start.wait()
        return ledger.same_invoice(claim, seen(claim.identity.sha256[0])) == ()

    with ThreadPoolExecutor(len(claims)) as pool:
        assert sum(pool.map(look, claims)) == 1


def test_an_adopted_answer_settles_and_is_known_as_another_s(ledger: Ledger) -> None:
    ledger.open_run(RUN)
    first, second = answered(ledger, "a"), claimed(ledger, "b")
    assert ledger.same_invoice(claimed(ledger, "c"), seen("c", "x:1")) == ()
    (other,) = ledger.same_invoice(second, seen("b"))  # type: ignore[misc]  # not Busy
    assert (other.identity, from_text(other.codes)) == (first.identity, ("a",))
    assert ledger.adopt(second, other)
    assert not ledger.adopt(second, other), "the claim is over"
    rows = ledger.recognitions([first.identity, second.identity])
    assert [rows[each.identity].is_of_another for each in (first, second)] == [False, True]
    assert rows[first.identity].answer_id == rows[second.identity].answer_id
    answers = {answer.identity: answer for answer in ledger.answers(list(rows))}
    assert [answers[each.identity].codes for each in (first, second)] == [to_text(["a"]), to_text(["b"])]
    assert [answers[each.identity].read_from for each in (first, second)] == [None, first.identity.sha256]
    assert audit(ledger).faults == ()


def test_what_was_adopted_is_no_call_on_the_bill_and_cannot_be_adopted_again(ledger: Ledger) -> None:
    ledger.open_run(RUN)
    answered(ledger, "a")
    second = claimed(ledger, "b")
    (other,) = ledger.same_invoice(second, seen("b"))  # type: ignore[misc]  # not Busy
    assert ledger.adopt(second, other)
    assert ledger.cost(RUN).calls == 1
    found = ledger.same_invoice(claimed(ledger, "c"), seen("c"))
    assert [row.identity for row in found] == [other.identity]  # type: ignore[union-attr]  # not Busy


def test_an_answer_whose_reply_was_pruned_is_not_adopted(ledger: Ledger) -> None:
    ledger.open_run(RUN)
    answered(ledger, "a")
    prune(ledger, -1, ["replies"])
    assert ledger.same_invoice(claimed(ledger, "b"), seen("b")) == ()


def test_an_adopted_answer_gives_way_to_one_of_its_own(ledger: Ledger) -> None:
    ledger.open_run(RUN)
    answered(ledger, "a")
    second = claimed(ledger, "b")
    (other,) = ledger.same_invoice(second, seen("b"))  # type: ignore[misc]  # not Busy
    ledger.adopt(second, other)
    ledger.open_run(OTHER_RUN)
    again = ledger.claim(second.identity, OTHER_RUN, resend="all")
    assert isinstance(again, Claim)
    assert from_text(again.codes) == ("b",), "nobody needs to look again"
    own = ledger.begin(again, ACCOUNT, OTHER_RUN, sent_sha256=again.identity.sha256, asked_since=0.0)
    assert isinstance(own, Attempt)
    ledger.settle(own, ACCOUNT, ledgers.read(GOOD, ACCOUNT), GOOD)
    row = ledger.recognitions([second.identity])[second.identity]
    assert (row.answer_id, row.is_of_another, from_text(row.codes)) == (own.id, False, ("b",))
    assert audit(ledger).faults == ()


def test_a_late_answer_of_its_own_stays(database_url: str) -> None:
    bench = Bench(database_url)
    ledger = bench.ledger
    ledger.open_run(RUN)
    answered(ledger, "a")
    lost = claimed(ledger, "b")
    late = ledger.begin(lost, ACCOUNT, RUN, sent_sha256=lost.identity.sha256, asked_since=0.0)
    assert isinstance(late, Attempt)
    bench.clock.pass_(3600.0)
    noticed = ledger.claim(lost.identity, OTHER_RUN)
    assert isinstance(noticed, Busy)
    bench.clock.pass_(noticed.seconds)
    again = ledger.claim(lost.identity, OTHER_RUN)
    assert isinstance(again, Claim)
    (other,) = ledger.same_invoice(again, seen("b"))  # type: ignore[misc]  # not Busy
    ledger.settle(late, ACCOUNT, ledgers.read(GOOD, ACCOUNT), GOOD)
    assert not ledger.adopt(again, other)
    assert ledger.recognitions([lost.identity])[lost.identity].answer_id == late.id
    bench.engine.dispose()
