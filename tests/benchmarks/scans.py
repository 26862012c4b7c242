"""Pictures for the benchmarks: pages of paper as a scanner gives them, of any size, each a file of its own.

A page is drawn once for each size and then given a number: the invoice that it carries stands in a comment,
as the stub engine of the local service reads it. So the pictures differ, and drawing them takes no time.
"""

from __future__ import annotations

import io
import random
from bisect import bisect_right
from functools import cache

from PIL import Image, ImageDraw

from tests.system.pictures import stub_picture

_A4 = {2_000_000: (1654, 2339), 5_000_000: (3308, 4678)}
"""At 200 and at 400 dpi, for files of fewer bytes than that."""
_SHORTEST_COMMENT, _LONGEST_COMMENT = 4, 60_000
_ROOM_BYTES = 3_000
"""For a truth, and for the rest that is at least a comment."""
_START = b"\xff\xd8"


def scan(number: int, size_bytes: int) -> bytes:
    """A JPEG of exactly so many bytes."""
    body = _page(size_bytes)[len(_START) :]
    said = _comment(b"jdocr-truth=" + _truth(number).encode())
    # Of several comments a reader takes the last.
    return _START + _filling(size_bytes - len(_START) - len(said) - len(body)) + said + body


def _truth(number: int) -> str:
    drawn: str = Image.open(io.BytesIO(stub_picture(number))).info["jdocr-truth"]
    return drawn


@cache
def _page(most_bytes: int) -> bytes:
    """The best page that leaves room for what it carries."""
    paper = _paper(next(side for limit, side in _A4.items() if most_bytes < limit))
    room = most_bytes - _ROOM_BYTES
    fitting = bisect_right(range(1, 96), room, key=lambda quality: len(_jpeg(paper, quality)))
    if not fitting:
        raise ValueError(f"no page has as few as {most_bytes} bytes")
    return _jpeg(paper, fitting)


def _paper(size: tuple[int, int]) -> Image.Image:
    """White paper with a grain, and rows of something like print."""
    width, height = size
    grain = Image.frombytes(
        "L", (width // 2, height // 2), random.Random(1).randbytes(width // 2 * (height // 2))
    )
    page = Image.blend(Image.new("L", size, 245), grain.resize(size), 0.12).convert("RGB")
    pen, dice = ImageDraw.Draw(page), random.Random(2)
    for top in range(height // 12, height - height // 12, height // 60):
        left = width // 12
        while left < width - width // 12:
            long = dice.randrange(width // 200, width // 20)
            pen.rectangle((left, top, left + long, top + height // 120), fill=(40, 40, 60))
            left += long + width // 100
    return page


def _jpeg(page: Image.Image, quality: int) -> bytes:
    content = io.BytesIO()
    page.save(content, "JPEG", quality=quality)
    return content.getvalue()


def _filling(count: int) -> bytes:
    """Comments that mean nothing, of so many bytes together."""
    filling = b""
    while left := count - len(filling):
        long = left if left <= _LONGEST_COMMENT else min(_LONGEST_COMMENT, left - _SHORTEST_COMMENT)
        filling += _comment(b"." * (long - _SHORTEST_COMMENT))
    return filling


def _comment(text: bytes) -> bytes:
    return b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text
