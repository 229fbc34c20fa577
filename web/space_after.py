"""The bar of a cache as it would be with one more model. Pure: a verdict in, shares of 100 out."""

from dataclasses import dataclass

from cachemgr.space import CRITICAL_FROM, YELLOW_FROM, Verdict
from cachemgr.units import format_bytes, format_percent


@dataclass(frozen=True, slots=True)
class SpaceAfter:
    """`used`, `promised` and `coming` are parts of the bar; where they are more than the cache, `full_at` is where it
    ends. `level`: green, yellow or red. `words` say the same."""

    location: str
    level: str
    used: float
    promised: float
    coming: float
    full_at: float
    words: str
    fits: bool


def draw_space(verdict: Verdict, *, warning_threshold: float) -> SpaceAfter:
    figures = verdict.figures
    whole = max(verdict.projected_bytes, figures.size_bytes, 1)
    return SpaceAfter(
        location=figures.location,
        level=_level(verdict, warning_threshold=warning_threshold),
        used=_share(figures.filled_bytes, whole),
        promised=_share(figures.promised_bytes, whole),
        coming=_share(verdict.required_bytes, whole),
        full_at=_share(figures.size_bytes, whole),
        words=_words(verdict),
        fits=verdict.sufficient,
    )


def _level(verdict: Verdict, *, warning_threshold: float) -> str:
    if not verdict.sufficient or verdict.projected_usage > warning_threshold:
        return "red"
    return "yellow" if verdict.projected_usage >= YELLOW_FROM else "green"


def _words(verdict: Verdict) -> str:
    figures, after = verdict.figures, format_percent(verdict.projected_usage)
    if not figures.is_usable:
        return "It cannot be used now."
    if not verdict.sufficient:
        return f"Does not fit: {format_bytes(verdict.shortfall_bytes)} too little."
    if not verdict.required_bytes:
        return f"Nothing more has to come: it stays {after} full."
    left_bytes = max(0, figures.size_bytes - verdict.projected_bytes)
    nearly = ", almost full" if verdict.projected_usage >= CRITICAL_FROM else ""
    return f"{after} full with it{nearly}: {format_bytes(left_bytes)} stay free."


def _share(part_bytes: int, whole_bytes: int) -> float:
    return round(100 * part_bytes / whole_bytes, 1)
