"""What the rendered arguments of a task mean: a template may have made a text of each.

Every function takes the name of the argument for its `ConfigurationError`, which says the rule and the way
out.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from airflow_provider_jdocr.core.errors import ConfigurationError
from airflow_provider_jdocr.core.prices import price_of

DEFAULT_CONN_ID = "jdocr_default"
EMPTY = (None, "", "None")
"""What a template that was left empty renders to."""


LONGEST_SHOWN = 100
"""Characters of a value that an error repeats. No argument of an operator is a secret: the UI shows them."""


def shown(value: object) -> str:
    return f"{value!r:.{LONGEST_SHOWN}}"


def globs(name: str, value: Any) -> Sequence[str]:
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, Sequence) or not all(isinstance(glob, str) for glob in given):
        raise ConfigurationError(
            f"{name}: globs are wanted, as a list of texts; got {shown(value)}. Correct it.", field=name
        )
    return [glob for glob in given if glob]


def choice(name: str, value: object, allowed: Sequence[str]) -> str:
    if isinstance(value, str) and value in allowed:
        return value
    raise ConfigurationError(
        f"{name}: {shown(value)} is not one of {', '.join(allowed)}. Use one of these.", field=name
    )


def whole(name: str, value: object, at_least: int = 0) -> int:
    """A whole number, also as the text that a template renders to."""
    text = str(value).strip()
    if isinstance(value, bool) or not text.isdecimal() or int(text) < at_least:
        raise ConfigurationError(
            f"{name}: {shown(value)} is not a whole number of at least {at_least}. Correct it.", field=name
        )
    return int(text)


def flag(name: str, value: object) -> bool:
    """Yes or no, also as the text that a template renders to."""
    given = str(value).strip().lower()
    if given not in ("true", "false"):
        raise ConfigurationError(f"{name}: {shown(value)} is neither true nor false. Correct it.", field=name)
    return given == "true"


def price(name: str, value: object, default: Decimal | None) -> Decimal | None:
    """Yuan a call; the default where nothing was given."""
    try:
        return default if value in EMPTY else price_of(value)
    except ValueError as error:
        raise ConfigurationError(f"{name}: {error}; got {shown(value)}. Correct it.", field=name) from None


def keys(name: str, value: object, allowed: Sequence[str]) -> dict[str, Any]:
    """A mapping with some of these keys; none for what a template left empty."""
    if value in EMPTY:
        return {}
    unknown = [key for key in value if key not in allowed] if isinstance(value, Mapping) else [value]
    if unknown or not isinstance(value, Mapping):
        raise ConfigurationError(
            f"{name}: a mapping with some of the keys {', '.join(allowed)} is wanted; got "
            f"{shown(unknown[0])}. Correct it.",
            field=name,
        )
    return dict(value)
