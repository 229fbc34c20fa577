"""Columns of a small picture, each of two parts, one upon the other. Pure: numbers in, SVG coordinates out.

The picture is WIDTH x HEIGHT and is stretched to its place, so it has no text of its own: the page writes that.
"""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 300.0, 100.0
_GAP = 0.2  # of a column's place
_LEAST_HEIGHT = 2.0  # one among thousands is seen


@dataclass(frozen=True, slots=True)
class Pair:
    """Two numbers, and the words for who points at them."""

    lower: int
    upper: int
    words: str = ""

    @property
    def total(self) -> int:
        return self.lower + self.upper


@dataclass(frozen=True, slots=True)
class Column:
    """In coordinates; `top` is 0 at the upper edge."""

    left: float
    width: float
    lower_top: float
    lower_height: float
    upper_top: float
    upper_height: float
    words: str


def draw(pairs: Sequence[Pair]) -> tuple[Column, ...]:
    """The highest column is as high as the picture."""
    most = max((pair.total for pair in pairs), default=0)
    step = WIDTH / max(1, len(pairs))
    return tuple(_column(pair, left=step * number, step=step, most=most) for number, pair in enumerate(pairs))


def _column(pair: Pair, *, left: float, step: float, most: int) -> Column:
    upper = _height(pair.upper, most=most)
    lower = min(_height(pair.lower, most=most), HEIGHT - upper)
    return Column(
        left=round(left + step * _GAP / 2, 2),
        width=round(step * (1 - _GAP), 2),
        lower_top=round(HEIGHT - lower, 2),
        lower_height=round(lower, 2),
        upper_top=round(HEIGHT - lower - upper, 2),
        upper_height=round(upper, 2),
        words=pair.words,
    )


def _height(number: int, *, most: int) -> float:
    return max(_LEAST_HEIGHT, HEIGHT * number / most) if number else 0.0
