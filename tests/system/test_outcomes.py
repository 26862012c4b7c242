"""In a whole Airflow: what is paid for survives kills, clears and quotas, and bad input costs little and says why."""

import os
import signal
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.system.installation import Installation, until
from tests.system.pictures import stub_picture

pytestmark = pytest.mark.system


def numbered(first: int, count: int) -> dict[str, bytes]:
    return {f"{number:05}.png": stub_picture(number) for number in range(first, first + count)}


def test_a_good_batch_is_recognised_loaded_and_billed_once(airflow: Installation) -> None:
    images = airflow.put("good", numbered(0, 5))
    assert airflow.trigger("batch", images=images).finish() == {"recognise": "success", "load": "success"}
    assert airflow.trigger("batch", images=images).finish() == {"recognise": "success", "load": "success"}
    assert len(airflow.bill()) == 5
