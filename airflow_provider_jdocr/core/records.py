"""Frozen records from what XCom gives back: everything is looked at before it is believed.

XCom is a table that more people can write to than the ledger, and a manifest may have been kept since an
older version of this package. So a field that is not known, one that is missing, one of another type and one
of a size that none of ours has are errors that name it, by the types that the record declares.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from airflow_provider_jdocr.core.errors import ConfigurationError

MOST_ITEMS = 1_000
LONGEST_TEXT = 20_000
LARGEST_NUMBER = 2**53
DEEPEST = 3
"""Records within records; a manifest's own are not deeper."""

_Record = TypeVar("_Record")


def restored(kind: type[_Record], value: object, name: str) -> _Record:
    """The record that became `value` on its way through JSON. Raises `ConfigurationError` naming the field
    below `name` that is not as it was written.
    """
    return cast(_Record, _record(kind, value, name))


def _record(kind: Any, value: object, place: str) -> Any:
    if not isinstance(value, Mapping):
        raise _not_ours(place, "is no record")
    if place.count(".") >= DEEPEST:
        raise _not_ours(place, "is too deep")
    declared = {each.name: each for each in fields(kind)}
    for name in value:
        if name not in declared:
            raise _not_ours(f"{place}.{str(name)[:60]}", "is not known to this version")
    missing = [name for name, each in declared.items() if each.default is MISSING is each.default_factory]
    if absent := [name for name in missing if name not in value]:
        raise _not_ours(f"{place}.{absent[0]}", "is missing")
    kinds = get_type_hints(kind)
    return kind(**{name: _value(kinds[name], item, f"{place}.{name}") for name, item in value.items()})


def _value(kind: Any, value: object, place: str) -> Any:
    if is_dataclass(kind):
        return _record(kind, value, place)
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        (present,) = (one for one in inner if one is not NoneType)
        return None if value is None else _value(present, value, place)
    if origin is tuple and isinstance(value, list | tuple) and len(value) <= MOST_ITEMS:
        return tuple(_value(inner[0], item, f"{place}[{index}]") for index, item in enumerate(value))
    if origin is Mapping and isinstance(value, dict) and len(value) <= MOST_ITEMS:
        return {str(key): _value(inner[1], item, f"{place}.{str(key)[:60]}") for key, item in value.items()}
    if origin is Literal and value in inner:
        return value
    if kind in _PLAIN and _PLAIN[kind](value):
        return value
    raise _not_ours(place, "is of another type or size")


def _is_number(value: object) -> bool:
    # Not a number is below no bound, and a whole one may be too long to become a float.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST_NUMBER


_PLAIN: Mapping[Any, Callable[[object], bool]] = {
    str: lambda value: isinstance(value, str) and len(value) <= LONGEST_TEXT,
    int: lambda value: isinstance(value, int) and _is_number(value),
    float: _is_number,
}


def _not_ours(place: str, what: str) -> ConfigurationError:
    name = place.partition(".")[0]
    return ConfigurationError(
        f"{place} {what}: this is not what a recognising task returned. Pass its .output, unchanged, from a "
        "task of the same version.",
        field=name,
    )
