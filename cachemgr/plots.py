"""The use of a cache over time as the paths of a small picture. Pure: numbers in, SVG coordinates out.

The picture is WIDTH x HEIGHT and is stretched to its place, so it has no text of its own: the page writes that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from cachemgr.drive_report import ANSWERING
from cachemgr.units import format_bytes

WIDTH, HEIGHT = 1000.0, 100.0
_HEADROOM = 1.15
_SHOW_LIMIT_FROM = 0.25  # of the limit; of less use the limit would press the line to the floor
_DASH = 12.0
_GAPS = 4  # so many times the usual distance without a measurement is a gap


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement. `at` is in seconds since 1970; `state` is that of the drive."""

    at: float
    used_bytes: int
    state: str


@dataclass(frozen=True, slots=True)
class Band:
    """A time in which the drive could not be read, in coordinates."""

    left: float
    width: float
    state: str


@dataclass(frozen=True, slots=True)
class Plot:
    """`line` and `area` are SVG path data. `limit_y` is None where the limit lies above the picture."""

    line: str
    area: str
    bands: tuple[Band, ...]
    limit_y: float | None
    top_bytes: int
    summary: str


def draw(points: Sequence[Point], *, since: float, until: float, limit_bytes: int | None) -> Plot:
    """The points, oldest first, between two moments (seconds since 1970)."""
    top_bytes = _top(points, limit_bytes=limit_bytes)
    scale = WIDTH / max(1.0, until - since)
    runs = [
        [((point.at - since) * scale, HEIGHT * (1 - point.used_bytes / top_bytes)) for point in run]
        for run in _runs(points)
    ]
    shows_limit = limit_bytes is not None and limit_bytes <= top_bytes
    return Plot(
        line=" ".join(_path(run) for run in runs),
        area=" ".join(f"{_path(run)} V{HEIGHT:g} H{run[0][0]:.1f} Z" for run in runs if len(run) > 1),
        bands=tuple(_bands(points, since=since, scale=scale)),
        limit_y=HEIGHT * (1 - limit_bytes / top_bytes) if shows_limit and limit_bytes is not None else None,
        top_bytes=top_bytes,
        summary=_summary(points),
    )


def _top(points: Sequence[Point], *, limit_bytes: int | None) -> int:
    most = max((point.used_bytes for point in points), default=0)
    needed = most * _HEADROOM
    if limit_bytes is not None and most >= limit_bytes * _SHOW_LIMIT_FROM:
        needed = max(needed, limit_bytes * 1.05)
    return max(1, round(needed))


def _runs(points: Sequence[Point]) -> list[list[Point]]:
    """The points without a gap between them: nobody knows what was in a time without measurements."""
    longest = _GAPS * _usual_distance(points)
    runs: list[list[Point]] = []
    last = None
    for point in points:
        if last is None or point.at - last.at > longest:
            runs.append([])
        runs[-1].append(point)
        last = point
    return runs


def _usual_distance(points: Sequence[Point]) -> float:
    """The median distance of neighbours, in seconds."""
    distances = sorted(later.at - earlier.at for earlier, later in pairwise(points))
    return distances[len(distances) // 2] if distances else 0.0


def _path(run: Sequence[tuple[float, float]]) -> str:
    """A single point becomes a short line, which can be seen."""
    x, y = run[0]
    places = [(max(0.0, x - _DASH), y), (max(x, _DASH), y)] if len(run) == 1 else run
    return "M" + " L".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _bands(points: Sequence[Point], *, since: float, scale: float) -> list[Band]:
    """Neighbours in the same bad state are one band, up to the next good measurement."""
    bands: list[Band] = []
    usual = _usual_distance(points)
    ends = [*(point.at for point in points[1:]), points[-1].at + usual] if points else []
    for point, end in zip(points, ends, strict=True):
        if point.state in ANSWERING:
            continue
        left, width = (point.at - since) * scale, (end - point.at) * scale
        if bands and bands[-1].state == point.state and abs(bands[-1].left + bands[-1].width - left) < 1:
            left, width = bands[-1].left, bands[-1].width + width
            bands.pop()
        bands.append(Band(round(left, 1), round(width, 1), point.state))
    return bands


def _summary(points: Sequence[Point]) -> str:
    if not points:
        return "No measurement in this time."
    first, last = points[0].used_bytes, points[-1].used_bytes
    now = format_bytes(last)
    if first == last:
        return f"Steady at {now}."
    verb = "Grew" if last > first else "Shrank"
    return f"{verb} by {format_bytes(abs(last - first))}, to {now}."
