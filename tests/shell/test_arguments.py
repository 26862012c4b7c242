"""An argument that is wrong is an error that names it, the rule, what was given and the way out."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from airflow_provider_jdocr import arguments
from airflow_provider_jdocr.core.errors import ConfigurationError

Read = Callable[[str, Any], object]
_price = partial(arguments.price, default=None)
_choice = partial(arguments.choice, allowed=("wait", "stop"))
_keys = partial(arguments.keys, allowed=("prefix", "sha256"))


@pytest.mark.parametrize(
    ("read", "value", "shown"),
    [
        (arguments.globs, 5, "5"),
        (arguments.globs, ["*.png", None], "['*.png', None]"),
        (arguments.whole, "many", "'many'"),
        (arguments.whole, -1, "-1"),
        (arguments.flag, "perhaps", "'perhaps'"),
        (_price, "480 yuan", "'480 yuan'"),
        (_choice, "wiat", "'wiat'"),
        (_keys, {"perfix": "s3://b/"}, "'perfix'"),
        (_keys, "prefix", "'prefix'"),
    ],
)
def test_a_wrong_argument_is_repeated(read: Read, value: Any, shown: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read("name_of_it", value)
    assert str(caught.value).startswith("name_of_it: ")
    assert shown in str(caught.value)
    assert caught.value.field == "name_of_it"


def test_of_a_long_value_only_the_beginning_is_repeated() -> None:
    with pytest.raises(ConfigurationError) as caught:
        _choice("on_quota", "x" * 10_000)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("empty", [None, "", "None", {}])
def test_a_mapping_that_a_template_left_empty_has_no_keys(empty: Any) -> None:
    assert arguments.keys("matching", empty, ("prefix",)) == {}
