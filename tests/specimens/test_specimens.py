"""The drawn invoices are what they claim: valid in every way that a machine can check, and fictitious."""

import hashlib
import json
import re
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from stdnum.cn import uscc

from tests.specimens.draw import DOZEN, INTSIG_TYPE, Scene, draw, scene_for
from tests.specimens.invent import DIGITAL, KINDS, QR_TYPE, Kind, Recipe, in_words, invent

PICTURES = Path(__file__).parent / "pictures"
TRUTHS: list[dict[str, Any]] = json.loads((PICTURES / "truth.json").read_text(encoding="utf-8"))
SEEDS = range(60)


def _shape(kind: Kind) -> str:
    return {
        "special_paper": r"\d{7}1\d{2}",
        "common_paper": r"\d{7}3\d{2}",
        "common_electronic": r"0\d{9}11",
        "digital_special": "",
        "digital_common": "",
    }[kind]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_invented_fact_is_valid(seed: int) -> None:
    kind = KINDS[seed % len(KINDS)]
    facts = invent(seed, scene_for(seed, kind).recipe)
    assert re.fullmatch(_shape(kind), facts.code)
    assert len(facts.number) == (20 if kind in DIGITAL else 8)
    year = (
        facts.number[:2]
        if kind in DIGITAL
        else facts.code[-8:-6]
        if kind == "common_electronic"
        else facts.code[4:6]
    )
    assert int(year) <= facts.issued.year % 100
    assert len(facts.check_code) == (20 if kind in ("common_electronic", "common_paper") else 0)
    for party in (facts.buyer, facts.seller):
        assert party.name == "个人" or "示例" in party.name, "nobody real"
        assert not party.tax_id or uscc.is_valid(party.tax_id)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_inner_organisation_code_checks_too(seed: int) -> None:
    body = invent(seed, Recipe("special_paper")).seller.tax_id[8:17]
    weighed = sum(
        int(char, 36) * weight for char, weight in zip(body, (3, 7, 9, 10, 5, 8, 4, 2), strict=False)
    )
    assert body[8] == "0123456789X0"[(11 - weighed % 11)]


@pytest.mark.parametrize("seed", SEEDS)
def test_amounts_add_up_to_the_cent(seed: int) -> None:
    facts = invent(seed, scene_for(seed).recipe)
    for item in facts.items:
        if item.quantity is not None and item.unit_price is not None:
            assert abs(item.quantity * item.unit_price - item.amount) <= Decimal("0.005")
        if item.rate is not None:
            assert item.tax == (item.amount * item.rate).quantize(Decimal("0.01"), ROUND_HALF_UP)
    assert facts.total == facts.amount + (facts.tax or 0)
    assert facts.total > 0


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        ("7018.83", "柒仟零壹拾捌圆捌角叁分"),
        ("52.70", "伍拾贰圆柒角"),
        ("50.00", "伍拾圆整"),
        ("0.05", "伍分"),
        ("10203.09", "壹万零贰佰零叁圆零玖分"),
        ("100000.05", "壹拾万圆零伍分"),
        ("100010000.10", "壹亿零壹万圆壹角"),
        ("300000000.00", "叁亿圆整"),
    ],
)
def test_words_are_those_of_the_tax_office(amount: str, words: str) -> None:
    assert in_words(Decimal(amount)) == words


def test_the_dozen_shows_every_kind_and_every_trait() -> None:
    assert len(DOZEN) == len(TRUTHS) == 12
    assert {scene.recipe.kind for _, _, scene in DOZEN} == set(KINDS) == set(INTSIG_TYPE)
    traits = {trait for _, _, scene in DOZEN for trait in scene.recipe.traits}
    assert traits == {"wrapped", "discount", "tax_free", "two_rates", "personal", "seal"}


@pytest.mark.parametrize(("name", "seed", "scene"), DOZEN, ids=[name for name, _, _ in DOZEN])
def test_the_committed_truth_is_what_the_generator_says(name: str, seed: int, scene: Any) -> None:
    """The bytes are not compared: another release of the drawing library may set a pixel otherwise."""
    truth = next(truth for truth in TRUTHS if Path(truth["file"]).stem == name)
    content = (PICTURES / truth["file"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == truth["sha256"]
    assert len(content) < 250_000
    unsigned = ("file", "sha256")
    drawn = draw(seed, scene=scene).truth
    assert {k: v for k, v in truth.items() if k not in unsigned} == {
        k: v for k, v in drawn.items() if k not in unsigned
    }


def test_the_same_seed_draws_the_same_picture_and_another_one_another() -> None:
    assert draw(7).picture == draw(7).picture
    assert draw(7).picture != draw(8).picture


@pytest.mark.parametrize("kind", KINDS)
def test_the_printed_code_says_what_the_invoice_says(kind: Kind) -> None:
    """OpenCV misses some codes, so of three drawn ones at least one must be read, and none wrongly."""
    read = 0
    for seed in range(3):
        drawn = draw(seed, scene=Scene(Recipe(kind)))
        image = cv2.imdecode(np.frombuffer(drawn.picture, dtype=np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        text, _, _ = cv2.QRCodeDetector().detectAndDecode(image[:300, :400])
        assert text in ("", drawn.truth["qr"])
        read += bool(text)
    assert read
    fields, parts = drawn.truth["fields"], drawn.truth["qr"].split(",")
    money = fields["total"] if kind in DIGITAL else fields["amount"]
    day = fields["issue_date"].replace("-", "")
    assert parts[:7] == [
        "01",
        QR_TYPE[kind],
        fields["code"] or "",
        fields["number"],
        money,
        day,
        fields["check_code"] or "",
    ]


@pytest.mark.parametrize("truth", TRUTHS, ids=lambda truth: str(truth["file"]))
def test_a_committed_picture_is_large_enough_to_read(truth: dict[str, Any]) -> None:
    with Image.open(PICTURES / truth["file"]) as image:
        assert 1200 <= image.width <= 1600
