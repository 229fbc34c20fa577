"""Following an errand for a job: its progress, its rate, a stall, and what lands in caches meanwhile."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from django.conf import settings

from cachemgr import monitor
from cachemgr.errands import STALL_SECONDS, Errand, Line, finish
from cachemgr.errors import ErrandFailed
from cachemgr.models import Cache

_MEASURE_EVERY_SECONDS = 30.0
_RATE_WINDOW_SECONDS = 5.0


class Report(Protocol):
    """Stores progress; raises when the work has to end."""

    def __call__(self, *, stage: str, bytes_done: int, bytes_total: int, rate: int = 0) -> None: ...


def follow(errand: Errand, *, report: Report, filling: Sequence[Cache] = ()) -> dict[str, Any]:
    """Runs it to its end, and answers what it says of what it did. The caches that it fills are measured now and then,
    so that promised bytes become used ones. Raises ErrandFailed, and what `report` raises."""
    return finish(_with_manners(errand), on_line=Follower(report, filling=filling).hear)


class Follower:
    """What is done about an errand's lines."""

    def __init__(self, report: Report, *, filling: Sequence[Cache]) -> None:
        self.report, self.filling = report, filling
        self.progress, self.rate, self.measured_at = Progress(), Rate(), time.monotonic()

    def hear(self, line: Line) -> None:
        progress = self.progress
        progress.see(line)
        self.rate.add(progress.bytes_done)
        figures = {"bytes_done": progress.bytes_done, "bytes_total": progress.bytes_total}
        self.report(stage=progress.stage, **figures, rate=self.rate.per_second)
        if progress.quiet_seconds > STALL_SECONDS:
            raise stalled()
        if time.monotonic() - self.measured_at > _MEASURE_EVERY_SECONDS:
            self._measure()

    def _measure(self) -> None:
        for cache in self.filling:
            monitor.measure_cache(cache)
        self.measured_at = time.monotonic()


def _with_manners(errand: Errand) -> Errand:
    """How much of a drive and of the network a job may take is the owner's to say. `rate_limit`: bytes per second."""
    order = {**errand.order, "rate_limit": settings.TRANSFER_RATE_LIMIT_BYTES}
    return replace(errand, order=order, is_idle=settings.TRANSFER_PRIORITY == "idle")


def stalled() -> ErrandFailed:
    message = f"Not a byte moved for {STALL_SECONDS:.0f} s."
    return ErrandFailed(message, code="stalled", is_permanent=False)


class Progress:
    """What the last line said, and when the figures last changed. A line without bytes is a sign of life as it is."""

    def __init__(self) -> None:
        self.stage, self.bytes_done, self.bytes_total = "starting", 0, 0
        self.changed_at = time.monotonic()

    def see(self, line: Line) -> None:
        if "bytes" not in line:
            self.changed_at = time.monotonic() if line else self.changed_at
            return
        if (line["stage"], line["bytes"]) != (self.stage, self.bytes_done):
            self.changed_at = time.monotonic()
        self.stage, self.bytes_done = line["stage"], line["bytes"]
        self.bytes_total = line.get("total", self.bytes_total)

    @property
    def quiet_seconds(self) -> float:
        return time.monotonic() - self.changed_at


class Rate:
    """Bytes per second over the last few seconds."""

    def __init__(self) -> None:
        self.points: list[tuple[float, int]] = []

    def add(self, count: int) -> None:
        now = time.monotonic()
        if self.points and count < self.points[-1][1]:
            self.points = []  # another stage counts from 0
        self.points = [*(point for point in self.points if now - point[0] <= _RATE_WINDOW_SECONDS), (now, count)]

    @property
    def per_second(self) -> int:
        if not self.points:
            return 0
        (first_at, first), (last_at, last) = self.points[0], self.points[-1]
        return round((last - first) / (last_at - first_at)) if last_at > first_at else 0
