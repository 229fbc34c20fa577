"""Counts over time as the columns of a small picture, failed ones on top. Pure: numbers in, SVG coordinates out."""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 240.0, 48.0
_GAP = 3.0
_LEAST_HEIGHT = 2.0  # one request among thousands can be seen


@dataclass(frozen=True, slots=True)
class Count:
    """`words` say which time it is, as "14:35"."""

    words: str
    good: int
    failed: int

    @property
    def total(self) -> int:
        return self.good + self.failed


@dataclass(frozen=True, slots=True)
class Column:
    """Two rectangles of the same place and width: `good` stands on the floor, `failed` on it. Each is (y, height)."""

    x: float
    width: float
    good: tuple[float, float]
    failed: tuple[float, float]
    words: str


def draw(counts: Sequence[Count]) -> tuple[Column, ...]:
    most = max((count.total for count in counts), default=0)
    step = WIDTH / max(1, len(counts))
    return tuple(_column(count, x=number * step, width=step - _GAP, most=most) for number, count in enumerate(counts))


def _column(count: Count, *, x: float, width: float, most: int) -> Column:
    good, failed = (_height(part, most=most) for part in (count.good, count.failed))
    good = min(good, HEIGHT - failed)
    return Column(
        x=round(x, 1),
        width=round(width, 1),
        good=(round(HEIGHT - good, 1), round(good, 1)),
        failed=(round(HEIGHT - good - failed, 1), round(failed, 1)),
        words=describe(count),
    )


def _height(part: int, *, most: int) -> float:
    return max(_LEAST_HEIGHT, part / most * HEIGHT) if part else 0.0


def describe(count: Count) -> str:
    requests = "1 request" if count.total == 1 else f"{count.total:,} requests"
    return f"{count.words}: {requests}" + (f", {count.failed:,} failed" if count.failed else "")
