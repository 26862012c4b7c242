"""A word on a page: its text, where it stands in the picture, and where it stands once the page is upright.

A word can be cut between its characters; the pieces keep their place in the picture. A value remembers
the words it was read from, so that a field of the answer has their place and the lowest of their
confidences.
"""

import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

# Full-width characters and their narrow forms, one for one.
WIDE = str.maketrans({code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: " ", 0xFFE5: "¥"})


@dataclass(frozen=True, slots=True)
class Word:
    """One piece of text as the OCR found it; `corners` in the picture, clockwise from the top left."""

    text: str
    score: float
    corners: tuple[float, ...]  # x1,y1 … x4,y4 as in the picture
    left: float  # the rest: edges after the page was set upright
    top: float
    right: float
    bottom: float
    red: bool = False  # pressed on by a seal, not printed

    @property
    def x(self) -> float:
        return (self.left + self.right) / 2

    @property
    def y(self) -> float:
        return (self.top + self.bottom) / 2

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def plain(self) -> str:
        """The text with full-width characters narrowed, character by character: positions stay valid."""
        return self.text.translate(WIDE)

    def part(self, start: int, end: int | None = None) -> "Word":
        """The piece of the word that holds these characters; a wide character counts as two narrow ones."""
        edges = [0.0]
        for char in self.text:
            edges.append(edges[-1] + (2 if unicodedata.east_asian_width(char) in "WF" else 1))
        stop = len(self.text) if end is None else end
        first, last = edges[start] / (edges[-1] or 1), edges[stop] / (edges[-1] or 1)
        width = self.right - self.left
        return replace(
            self,
            text=self.text[start:stop],
            corners=cut(self.corners, first, last),
            left=self.left + width * first,
            right=self.left + width * last,
        )


def cut(corners: Sequence[float], first: float, last: float) -> tuple[float, ...]:
    """The corners of the piece between two shares of the width."""
    x1, y1, x2, y2, x3, y3, x4, y4 = corners

    def between(xa: float, ya: float, xb: float, yb: float, share: float) -> tuple[float, float]:
        return xa + (xb - xa) * share, ya + (yb - ya) * share

    upper = (*between(x1, y1, x2, y2, first), *between(x1, y1, x2, y2, last))
    return (*upper, *between(x4, y4, x3, y3, last), *between(x4, y4, x3, y3, first))


def upright(pieces: Iterable[tuple[str, float, Sequence[float], bool]]) -> list[Word]:
    """Words from (text, score, corners, red), with the page's tilt taken out of their edges."""
    listed = list(pieces)
    tilts = [_tilt(corners) for text, _, corners, _ in listed if len(text) > 5 and _lies(corners)]
    tilt = median(tilts) if tilts else 0.0
    return [_upright(*piece, tilt) for piece in listed]


def _lies(corners: Sequence[float]) -> bool:
    return abs(corners[2] - corners[0]) > 4 * abs(corners[7] - corners[1])


def _tilt(corners: Sequence[float]) -> float:
    return math.atan2(corners[3] - corners[1], corners[2] - corners[0])


def _upright(text: str, score: float, corners: Sequence[float], red: bool, tilt: float) -> Word:
    cos, sin = math.cos(tilt), math.sin(tilt)
    points = list(zip(corners[0::2], corners[1::2], strict=True))
    xs = [x * cos + y * sin for x, y in points]
    ys = [y * cos - x * sin for x, y in points]
    # Opposite edges averaged: the box around a tilted word is taller than the word.
    left, right = (xs[0] + xs[3]) / 2, (xs[1] + xs[2]) / 2
    top, bottom = (ys[0] + ys[1]) / 2, (ys[2] + ys[3]) / 2
    return Word(text, score, tuple(corners), left, top, right, bottom, red)


@dataclass(frozen=True, slots=True)
class ReadField:
    """One key of the INTSIG answer; `position` is x1,y1 … x4,y4 in the picture, clockwise from top left."""

    key: str
    text: str
    confidence: float
    position: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """A value and the words it was read from."""

    text: str
    words: tuple[Word, ...]

    def field(self, key: str) -> ReadField:
        confidence = min((word.score for word in self.words), default=0.0)
        return ReadField(key, self.text, round(confidence, 4), _around(self.words))


def _around(words: Sequence[Word]) -> tuple[int, ...]:
    if len(words) == 1:
        return tuple(round(value) for value in words[0].corners)
    xs = [x for word in words for x in word.corners[0::2]]
    ys = [y for word in words for y in word.corners[1::2]]
    if not xs:
        return ()
    left, right, top, bottom = round(min(xs)), round(max(xs)), round(min(ys)), round(max(ys))
    return left, top, right, top, right, bottom, left, bottom
