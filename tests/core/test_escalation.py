"""What asking a second endpoint promises: only the doubted, once, under all laws, and nothing hidden."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from PIL import Image as Pillow

from airflow_provider_jdocr.core.account import Account, account_from_parts
from airflow_provider_jdocr.core.batch import Budget, Manifest, Policy, recognise_batch
from airflow_provider_jdocr.core.engines import engine_for
from airflow_provider_jdocr.core.errors import ConfigurationError
from airflow_provider_jdocr.core.escalation import doubted, recognise_escalating
from airflow_provider_jdocr.core.ledger import Identity, Ledger, RunKey, StoredAnswer
from tests.core.ledgers import OTHER_RUN, RUN
from tests.core.test_batch import Memory
from tests.injection.invoices import TODAY, Printed, draw, reply
from tests.shell.service import Answer, Service, system

FIRST, SECOND = "ocr_invoice", "intsig_invoice"
# Kinds whose total is amount plus tax, so that a wrong one is always seen.
SEEDS = [seed for seed in range(60) if draw(seed).fields.get("tax", "***") != "***"][:20]


def picture(seed: int, kind: str = "PNG") -> bytes:
    drawn = io.BytesIO()
    Pillow.new("RGB", (200, 100), (seed % 256, seed // 256, 7)).save(drawn, kind)
    return drawn.getvalue()


def wrong(printed: Printed) -> Printed:
    """A total that amount and tax do not make."""
    return printed.with_fields(total="7777.77")


def answered(endpoint: str, printed: Printed) -> Answer:
    envelope = {
        "code": "10000",
        "charge": True,
        "msg": "said",
        "result": json.loads(reply(endpoint, printed)),
    }
    return 200, json.dumps(envelope).encode()


@dataclass
class World:
    """Twenty pictures, two endpoints of one service that read them, one ledger."""

    ledger: Ledger
    service: Service
    files: dict[str, bytes] = field(default_factory=dict)
    misread: dict[str, set[int]] = field(default_factory=lambda: {FIRST: set(), SECOND: set()})
    asked: dict[str, list[int]] = field(default_factory=lambda: {FIRST: [], SECOND: []})
    instead: dict[str, Callable[[int], Answer | None]] = field(default_factory=dict)
    killed: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.files = {f"s3://b/{seed:03}.png": picture(seed) for seed in SEEDS}
        self.service.answer = self._answer

    def _answer(self, body: bytes) -> Answer:
        endpoint, content = FIRST, body
        if not body.startswith((b"\x89PNG", b"BM")):
            endpoint, content = SECOND, base64.b64decode(body)
        red, green, _ = Pillow.open(io.BytesIO(content)).convert("RGB").getpixel((0, 0))  # type: ignore[misc]
        seed = int(red) + 256 * int(green)
        self.asked[endpoint].append(seed)
        if endpoint in self.instead and (told := self.instead[endpoint](seed)):
            return told
        printed = draw(seed)
        return answered(endpoint, wrong(printed) if seed in self.misread[endpoint] else printed)

    def account(self, endpoint: str, key: str = "key", **extra: Any) -> Account:
        return account_from_parts(
            login=key,
            password="a-secret-of-the-test",
            host=self.service.url,
            port=None,
            schema=None,
            extra={"endpoint": endpoint, "qps": 1000, **extra},
        )

    def run(
        self, run: RunKey = RUN, *, second: Account | None = None, first: str = FIRST, **policy: Any
    ) -> Manifest:
        storage = Memory(self.files)
        return recognise_escalating(
            storage.sources(),
            storage=storage,
            account=self.account(first),
            second=second or self.account(SECOND),
            ledger=self.ledger,
            run=run,
            policy=Policy(**policy),
            today=TODAY,
            stop=self.killed,
        )


@pytest.fixture
def world(sqlite_url: str) -> Iterator[World]:
    engine = engine_for(sqlite_url)
    ledger = Ledger(engine)
    ledger.create()
    with Service() as service:
        yield World(ledger, service)
    engine.dispose()


def asked(manifest: Manifest) -> Manifest:
    assert manifest.escalation is not None
    assert all(part.adds_up for part in manifest.parts)
    return manifest.escalation


def test_the_second_endpoint_is_asked_for_what_the_checks_doubt_and_for_nothing_else(world: World) -> None:
    world.misread[FIRST] = set(SEEDS[::10])
    manifest = world.run()
    second = asked(manifest)
    assert sorted(world.asked[SECOND]) == SEEDS[::10]
    assert (manifest.inputs, manifest.recognised, manifest.calls) == (20, 20, 20)
    assert (second.inputs, second.recognised, second.calls, second.charged) == (2, 2, 2, 2)
    assert second.endpoint == SECOND
    assert manifest.verdict() is None


def test_neither_a_retry_nor_another_run_asks_again(world: World) -> None:
    world.misread[FIRST] = set(SEEDS[:3])
    world.run()
    retried, other = asked(world.run()), asked(world.run(OTHER_RUN))
    assert len(world.asked[FIRST]) == 20
    assert sorted(world.asked[SECOND]) == SEEDS[:3]
    assert (retried.recognised, retried.calls) == (3, 3)
    assert (other.reused, other.calls) == (3, 0)


def test_an_answer_that_is_still_doubted_is_not_asked_for_a_third_time(world: World) -> None:
    world.misread = {FIRST: {SEEDS[0]}, SECOND: {SEEDS[0]}}
    world.run()
    world.run(OTHER_RUN)
    assert world.asked[SECOND] == [SEEDS[0]]


def test_a_crash_between_the_two_loses_nothing_and_the_next_run_asks(world: World) -> None:
    world.misread[FIRST] = set(SEEDS[:2])
    account, storage = world.account(FIRST), Memory(world.files)
    recognise_escalating(
        storage.sources(),
        storage=storage,
        account=account,
        second=None,
        ledger=world.ledger,
        run=RUN,
        policy=Policy(),
        today=TODAY,
    )
    assert not world.asked[SECOND]
    assert asked(world.run(OTHER_RUN)).recognised == 2
    assert len(world.asked[FIRST]) == 20


def test_what_the_first_endpoint_failed_or_preflight_rejected_is_not_passed_on(world: World) -> None:
    world.files["s3://b/text.png"] = b"no picture"
    failed = answered(FIRST, draw(0))[1].replace(b'"code": 0', b'"code": 12002')
    world.instead[FIRST] = lambda seed: (200, failed) if seed == SEEDS[0] else None
    manifest = world.run(max_failed=2)
    assert (manifest.failed, manifest.rejected) == (1, 1)
    assert asked(manifest).inputs == 0
    assert not world.asked[SECOND]


def test_an_answer_that_holds_no_invoice_is_doubted(world: World) -> None:
    other = {"code": 0, "result": {"invoice_type": "other"}}
    told = 200, json.dumps({"code": "10000", "charge": True, "msg": "said", "result": other}).encode()
    world.instead[FIRST] = lambda seed: told if seed == SEEDS[0] else None
    assert asked(world.run()).recognised == 1
    assert world.asked[SECOND] == [SEEDS[0]]


def test_a_file_that_changed_in_between_is_not_asked_for_in_the_place_of_another(world: World) -> None:
    world.misread[FIRST] = {SEEDS[0]}
    world.run(budget=Budget(max_calls=20))
    world.files[f"s3://b/{SEEDS[0]:03}.png"] = picture(1000)
    storage = Memory(world.files)
    second = recognise_batch(
        doubted(world.ledger, RUN, today=TODAY),
        storage=storage,
        account=world.account(SECOND),
        ledger=world.ledger,
        run=OTHER_RUN,
        policy=Policy(),
    )
    assert (second.rejected, second.unsettled, len(world.asked[SECOND])) == (1, 1, 0)
    assert "another file by now" in str(second.problems[0]["message"])


def test_what_is_settled_at_both_is_counted_without_a_look_at_the_storage(world: World) -> None:
    world.misread[FIRST] = set(SEEDS[:3])
    world.run()
    sources = Memory(world.files).sources()
    manifest = recognise_escalating(
        sources,
        storage=Memory({}),
        account=world.account(FIRST),
        second=world.account(SECOND),
        ledger=world.ledger,
        run=OTHER_RUN,
        policy=Policy(),
        today=TODAY,
    )
    assert (manifest.reused, asked(manifest).reused) == (20, 3)


def test_an_image_that_the_second_endpoint_does_not_take_counts_as_failed(world: World) -> None:
    """A green task never hides one: the author asked for a second opinion, and there is none."""
    world.files = {"s3://b/0.bmp": picture(SEEDS[0], "BMP")}
    world.misread[SECOND] = {SEEDS[0]}
    world.instead[FIRST] = lambda _: None
    storage = Memory(world.files)
    manifest = recognise_escalating(
        storage.sources(),
        storage=storage,
        account=world.account(SECOND),
        second=world.account(FIRST),
        ledger=world.ledger,
        run=RUN,
        policy=Policy(),
        today=TODAY,
    )
    assert (manifest.recognised, asked(manifest).rejected) == (1, 1)
    assert "1 of 1 images failed and max_failed is 0" in str(manifest.verdict())
    assert manifest.permanent()
    assert not world.asked[FIRST]


def test_what_both_failed_is_bounded_together(world: World) -> None:
    world.files["s3://b/text.png"] = b"no picture"
    world.misread[FIRST] = set(SEEDS[:2])
    failed = answered(SECOND, draw(0))[1].replace(b'"code": 200', b'"code": 500')
    world.instead[SECOND] = lambda seed: (200, failed) if seed == SEEDS[0] else None
    manifest = world.run(max_failed=1)
    assert (manifest.rejected, asked(manifest).failed, asked(manifest).recognised) == (1, 1, 1)
    assert "2 of 21 images failed and max_failed is 1" in str(manifest.verdict())
    assert replace(manifest, max_failed=2).verdict() is None


def test_max_calls_bounds_both_together_over_all_tries(world: World) -> None:
    world.misread[FIRST] = set(SEEDS[:5])
    for _ in range(3):
        manifest = world.run(budget=Budget(max_calls=22))
        assert (manifest.calls, asked(manifest).calls) == (20, 2)
        assert (asked(manifest).recognised, asked(manifest).waiting) == (2, 3)
    stop = asked(manifest).stop
    assert stop is not None
    assert stop.message == "max_calls of 22 is reached"
    assert manifest.verdict() is None


def test_calls_of_the_second_endpoint_leave_fewer_for_the_first(world: World) -> None:
    world.misread[FIRST] = set(SEEDS)
    world.run(budget=Budget(max_calls=10))
    assert (len(world.asked[FIRST]), len(world.asked[SECOND])) == (10, 0)
    world.run(budget=Budget(max_calls=14))
    assert len(world.asked[FIRST]) + len(world.asked[SECOND]) == 14
    world.run(OTHER_RUN, budget=Budget(max_calls=40))
    assert (len(world.asked[FIRST]), len(world.asked[SECOND])) == (20, 20)


def test_the_quotas_of_both_are_their_own(world: World) -> None:
    world.misread[FIRST] = set(SEEDS[:3])
    world.instead[SECOND] = lambda seed: system("10040") if seed != world.asked[SECOND][0] else None
    second = asked(world.run(max_in_flight=1))
    assert second.stop is not None
    assert (second.recognised, second.waiting, second.stop.reason) == (1, 2, "quota_until_reset")
    assert world.ledger.quota(world.account(FIRST)).remaining != 0
    del world.instead[SECOND]
    # The other account's day goes on, and the three wait for theirs.
    assert len(world.asked[FIRST]) == 20


def test_after_a_failure_of_the_first_endpoint_the_second_is_not_asked(world: World) -> None:
    world.misread[FIRST] = set(SEEDS)
    world.instead[FIRST] = lambda _: system("10001") if len(world.asked[FIRST]) > 5 else None
    manifest = world.run(max_in_flight=1)
    assert manifest.stop is not None
    assert (manifest.stop.reason, manifest.escalation) == ("configuration", None)
    assert not world.asked[SECOND]


def test_a_failure_of_the_second_endpoint_fails_the_task_and_keeps_the_first_answers(world: World) -> None:
    world.misread[FIRST] = set(SEEDS[:3])
    world.instead[SECOND] = lambda _: system("10001")
    manifest = world.run()
    assert manifest.recognised == 20
    assert "10001" in str(manifest.verdict())
    assert manifest.permanent()
    assert (asked(manifest).waiting, len(world.asked[SECOND])) == (3, 1)


def test_a_kill_while_the_second_is_asked_leaves_the_rest_waiting(world: World) -> None:
    world.misread[FIRST] = set(SEEDS[:5])
    world.instead[SECOND] = lambda _: world.killed.set()
    second = asked(world.run(max_in_flight=1))
    assert (second.recognised, second.waiting) == (1, 4)
    world.killed.clear()
    world.instead.clear()
    assert asked(world.run()).recognised == 5
    assert len(world.asked[SECOND]) == 5


def test_one_picture_under_two_names_is_asked_for_once(world: World) -> None:
    world.misread[FIRST] = {SEEDS[0]}
    world.files["s3://b/copy.png"] = world.files[f"s3://b/{SEEDS[0]:03}.png"]
    assert (asked(world.run()).inputs, len(world.asked[SECOND])) == (2, 1)


def test_asking_again_is_for_both_and_once_a_task_instance(world: World) -> None:
    world.misread[FIRST] = {SEEDS[0]}
    world.run()
    for _ in range(2):
        world.run(OTHER_RUN, resend="all")
    assert (len(world.asked[FIRST]), len(world.asked[SECOND])) == (40, 2)


@pytest.mark.parametrize("key", ["key", "another-key"])
def test_the_same_endpoint_is_no_second_opinion_whatever_the_account(world: World, key: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^escalate_to: .* Name a connection to another endpoint\."):
        world.run(second=world.account(FIRST, key))
    assert not world.asked[FIRST]


def test_answers_are_read_by_the_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_jdocr.core.escalation.LOOKUP_SIZE", 3)
    world.misread[FIRST] = set(SEEDS)
    world.run(budget=Budget(max_calls=20))
    pages: list[int] = []
    answers = world.ledger.answers

    def counted(some: Sequence[Identity]) -> list[StoredAnswer]:
        pages.append(len(some))
        return answers(some)

    monkeypatch.setattr(world.ledger, "answers", counted)
    found = doubted(world.ledger, RUN, today=TODAY)
    next(found)
    assert pages == [3]
    assert 1 + sum(1 for _ in found) == 20
    assert max(pages) == 3


def test_a_manifest_keeps_both_parts_through_xcom(world: World) -> None:
    world.misread[FIRST] = set(SEEDS[:2])
    manifest = world.run()
    assert Manifest.from_dict(json.loads(json.dumps(manifest.to_dict()))) == manifest
    with pytest.raises(ConfigurationError, match="too deep"):
        Manifest.from_dict(manifest.to_dict() | {"escalation": manifest.to_dict()})
