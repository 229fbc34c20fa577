"""What was measured, beside what is wanted."""

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

HEADING = f"{'':<58}{'ours':>10}{'peer':>10}{'ratio':>8}  wanted"


@dataclass(frozen=True)
class Row:
    """Medians count: ours by the peer's, or ours alone where `peer` is empty. Without a limit they are only shown."""

    name: str
    ours: Sequence[float]
    peer: Sequence[float] = ()
    at_least: float | None = None
    at_most: float | None = None

    @property
    def value(self) -> float:
        ours = statistics.median(self.ours)
        return ours / statistics.median(self.peer) if self.peer else ours

    @property
    def is_met(self) -> bool:
        is_enough = self.at_least is None or self.value >= self.at_least
        return is_enough and (self.at_most is None or self.value <= self.at_most)

    @property
    def wanted(self) -> str:
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return "" if self.at_most is None else f"<= {self.at_most:g}"

    def __str__(self) -> str:
        peer = _show(statistics.median(self.peer)) if self.peer else ""
        ratio = f"{self.value:.2f}" if self.peer else ""
        verdict = ("met" if self.is_met else "MISSED") if self.wanted else "shown"
        figures = f"{_show(statistics.median(self.ours)):>10}{peer:>10}{ratio:>8}"
        return f"{self.name:<58}{figures}  {self.wanted:<9} {verdict:<7} {self._spread()}"

    def _spread(self) -> str:
        """The least and the most that were measured, where it was more than once."""
        spans = (f"{_show(min(each))}-{_show(max(each))}" for each in (self.ours, self.peer) if len(each) > 1)
        return " / ".join(spans)


def _show(figure: float) -> str:
    return f"{figure:,.0f}" if abs(figure) >= 1000 else f"{figure:.2f}"


def describe_load() -> str:
    """The processes that want a core, of the last minute. With more than there are cores, ratios wander."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    return f"load {load:.1f} on {cores} cores{': BUSY, measure again when it is quiet' if load > 1.5 * cores else ''}"
