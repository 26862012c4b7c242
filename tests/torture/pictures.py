"""The pictures of the trials: drawn once, before any process is forked."""

from __future__ import annotations

import hashlib
import io
from decimal import Decimal
from functools import cache

from PIL import Image

from tests.system.pictures import stub_picture
from tests.torture.draw import MOST_INPUTS, Input
from tests.torture.process import File

_REPLACED = 500
"""What is added to a picture's number when its file is written anew."""


def files(inputs: tuple[Input, ...], process: int) -> dict[str, File]:
    """The inbox as the `process`-th one finds it. A file that is replaced has been listed with its old tag
    and is read with its new content by the second process, and is new for those that follow.
    """
    return {each.uri: _file(each, process) for each in inputs}


def sha256_of(number: int) -> str:
    return hashlib.sha256(good(number)).hexdigest()


def draw_all() -> None:
    for number in range(MOST_INPUTS):
        good(number), _other_scan(number), _no_invoice(number), good(number + _REPLACED)


@cache
def good(number: int) -> bytes:
    return stub_picture(number)


@cache
def _other_scan(number: int) -> bytes:
    return stub_picture(number, total=Decimal(777 + number))


@cache
def _no_invoice(number: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (240, 160), (number, 7, 7)).save(content, "PNG")
    return content.getvalue()


def _file(each: Input, process: int) -> File:
    match each.kind:
        case "missing":
            return File("", None)
        case "empty":
            return File("empty", b"")
        case "broken":
            return File(f"broken {each.number}", good(each.number)[:-40])
        case "no_invoice":
            return File(f"no invoice {each.number}", _no_invoice(each.number))
        case "other_scan":
            return File(f"other scan {each.number}", _other_scan(each.number))
        case "replaced":
            old, new = good(each.number), good(each.number + _REPLACED)
            return File("old" if process < 2 else "new", old if process < 1 else new)
    return File(f"good {each.number}", good(each.number))
