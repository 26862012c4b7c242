"""What comes back through XCom is believed only where it is what was written."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import pytest

from airflow_provider_jdocr.core.batch import Manifest, Stop
from airflow_provider_jdocr.core.errors import ConfigurationError
from airflow_provider_jdocr.core.ledger import RunKey

MANIFEST = Manifest(
    run=RunKey("dag", "run", "task", 3),
    service="jd",
    endpoint="ocr_invoice",
    inputs=2,
    recognised=1,
    reused=0,
    rejected=1,
    failed=0,
    held=0,
    waiting=0,
    unsettled=0,
    calls=1,
    charged=1,
    charged_unknown=0,
    remaining=None,
    max_failed=0,
    seconds=1.5,
    stop=Stop("budget", "enough", None),
    problems=({"uri": "s3://b/a.png", "code": "EMPTY", "message": None},),
)


def test_a_manifest_comes_back_as_it_went_through_json() -> None:
    assert Manifest.from_dict(json.loads(json.dumps(MANIFEST.to_dict()))) == MANIFEST


def test_a_manifest_without_stop_and_problems_comes_back_too() -> None:
    written = {**asdict(MANIFEST), "stop": None}
    del written["problems"]
    found = Manifest.from_dict(written)
    assert (found.stop, found.problems) == (None, ())


_ODD = {
    "an object": object(),
    "true": True,
    "bytes": b"bytes",
    "a list": [[]],
    "a record": {"a": {}},
    "no number": math.nan,
    "endless": -math.inf,
    "too large": 10**400,
    "too long": "x" * 20_001,
    "too many": [{}] * 1001,
}


@pytest.mark.parametrize("name", asdict(MANIFEST))
@pytest.mark.parametrize("odd", _ODD)
def test_no_field_is_believed_that_is_of_another_type_or_size(name: str, odd: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"manifest\.{name}") as caught:
        Manifest.from_dict({**MANIFEST.to_dict(), name: _ODD[odd]})
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"inptus": 2}, "manifest.inptus is not known"),
        ({"run": {**asdict(MANIFEST.run), "try_number": 1}}, "manifest.run.try_number is not known"),
        ({"run": {"dag_id": "dag", "run_id": "run"}}, "manifest.run.task_id is missing"),
        ({"run": {**asdict(MANIFEST.run), "dag_id": 5}}, "manifest.run.dag_id is of another type"),
        ({"stop": {"reason": "boredom", "message": ""}}, "manifest.stop.reason is of another type"),
        ({"problems": [{"uri": 5}]}, r"manifest.problems\[0\].uri is of another type"),
        ({"problems": ["uri"]}, r"manifest.problems\[0\] is of another type"),
    ],
)
def test_what_is_not_as_it_was_written_is_named(change: dict[str, Any], place: str) -> None:
    with pytest.raises(ConfigurationError, match=place):
        Manifest.from_dict({**MANIFEST.to_dict(), **change})


@pytest.mark.parametrize("value", [None, [], "text", 5])
def test_what_is_no_record_at_all_is_named(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="manifest is no record"):
        Manifest.from_dict(value)


def test_a_missing_field_is_named() -> None:
    written = MANIFEST.to_dict()
    del written["charged"]
    with pytest.raises(ConfigurationError, match=r"manifest\.charged is missing"):
        Manifest.from_dict(written)
