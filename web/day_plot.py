"""Two numbers a day as a picture of columns, and the same in words. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from web.columns import Column, Pair, draw


@dataclass(frozen=True, slots=True)
class DayPlot:
    """`is_empty`: nothing of both on any day. `summary` tells of it all in words."""

    columns: tuple[Column, ...]
    is_empty: bool
    first: str
    summary: str


def draw_days(numbers: Sequence[tuple[int, int]], *, first: date, lower: str, upper: str) -> DayPlot:
    """Of days one after the other. `lower` and `upper` name the numbers in plural, as in "requests" and "failed"."""
    names = f"{{:,}} {lower}, {{:,}} {upper}"
    days = [first + timedelta(days=at) for at in range(len(numbers))]
    pairs = [Pair(*both, f"{day:%a %-d %b}: {names.format(*both)}") for day, both in zip(days, numbers, strict=True)]
    total = names.format(sum(pair.lower for pair in pairs), sum(pair.upper for pair in pairs))
    return DayPlot(
        columns=draw(pairs),
        is_empty=not any(pair.total for pair in pairs),
        first=f"{first:%-d %b}",
        summary=f"{total} in {len(pairs)} days.",
    )
