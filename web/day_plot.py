"""Columns of a small picture, one a day, each of two parts. Pure: numbers in, SVG coordinates out.

The picture is WIDTH x HEIGHT and is stretched to its place, so it has no text of its own: the page writes that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

WIDTH, HEIGHT = 300.0, 100.0
_GAP = 0.2  # of a day's width
_LEAST_HEIGHT = 2.0  # what is not nothing is seen


@dataclass(frozen=True, slots=True)
class Pair:
    """Two numbers of a day, one upon the other."""

    date: date
    lower: int
    upper: int


@dataclass(frozen=True, slots=True)
class Column:
    """In coordinates; `top` is 0 at the upper edge. `words` for who points at it."""

    left: float
    width: float
    lower_top: float
    lower_height: float
    upper_top: float
    upper_height: float
    words: str


@dataclass(frozen=True, slots=True)
class DayPlot:
    """`most` is the highest day: the height of the picture. `summary` tells of it all in words."""

    columns: tuple[Column, ...]
    most: int
    first: str
    summary: str


def draw_days(pairs: Sequence[Pair], *, lower: str, upper: str) -> DayPlot:
    """`lower` and `upper` name the numbers in plural, as in "requests" and "failed"."""
    most = max((pair.lower + pair.upper for pair in pairs), default=0)
    names = f"{{lower:,}} {lower}, {{upper:,}} {upper}"
    step = WIDTH / max(1, len(pairs))
    columns = tuple(_column(pair, at=number, step=step, most=most, names=names) for number, pair in enumerate(pairs))
    total = names.format(lower=sum(pair.lower for pair in pairs), upper=sum(pair.upper for pair in pairs))
    first = f"{pairs[0].date:%-d %b}" if pairs else ""
    return DayPlot(columns, most, first, f"{total} in {len(pairs)} days.")


def _column(pair: Pair, *, at: int, step: float, most: int, names: str) -> Column:
    lower, upper = (_height(number, most=most) for number in (pair.lower, pair.upper))
    return Column(
        left=round(step * (at + _GAP / 2), 2),
        width=round(step * (1 - _GAP), 2),
        lower_top=round(HEIGHT - lower, 2),
        lower_height=lower,
        upper_top=round(max(0.0, HEIGHT - lower - upper), 2),
        upper_height=upper,
        words=f"{pair.date:%a %-d %b}: {names.format(lower=pair.lower, upper=pair.upper)}",
    )


def _height(number: int, *, most: int) -> float:
    return round(max(_LEAST_HEIGHT, HEIGHT * number / most), 2) if number else 0.0
