"""What the Settings page shows of one cache: words, bars, the picture of its use, and what can be done."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cachemgr import plots
from cachemgr.models import Cache, CacheSnapshot
from cachemgr.plots import Plot, Point
from cachemgr.report import NOT_OURS
from cachemgr.stats import CacheLine, percent

PERIODS = {
    "day": ("24 hours", timedelta(days=1)),
    "week": ("7 days", timedelta(days=7)),
    "year": ("1 year", timedelta(days=365)),
}
_LISTED_THINGS = 20
_KIND_WORDS = {"old_cache": "an old cache"}  # the others are words already


@dataclass(frozen=True, slots=True)
class Words:
    """A status for people: an icon's name, a few words, and what to do about it."""

    icon: str
    title: str
    advice: str = ""


_COME_BACK = "Its models are marked missing until the drive is back."
_WORDS = {
    "ok": Words("check_circle", "Fine"),
    "warning": Words("warning", "Nearly full", "It is above the threshold. Remove models here, or raise its limit."),
    "critical": Words("error", "Almost no room left", "Remove models here, or raise its limit."),
    "over_limit": Words(
        "error", "Over its limit", "More lies here than its limit allows, so nothing new is taken. Models still load."
    ),
    "read_only": Words("lock", "Read-only", "Its models load, but nothing can be downloaded to it."),
    "missing": Words("link_off", "Not there", _COME_BACK),
    "unmounted": Words("eject", "Not mounted", _COME_BACK),
    "unresponsive": Words(
        "hourglass_disabled", "Does not answer", "The figures are the last good ones. It is asked again all the time."
    ),
    "not_measured": Words("hourglass_empty", "Not measured yet"),
}


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a bar: its width in percent, and what it stands for."""

    kind: str
    words: str
    width: float
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ForeignThing:
    name: str
    kind: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Card:
    line: CacheLine
    words: Words
    color: str
    disk: tuple[Segment, ...]
    plot: Plot
    foreign: tuple[ForeignThing, ...]
    foreign_more: int
    problems: tuple[str, ...]

    @property
    def is_gone_from_settings(self) -> bool:
        return not self.line.cache.is_configured and self.line.cache.location != Cache.Location.CUSTOM

    @property
    def advice(self) -> str:
        is_empty = self.words.advice == _COME_BACK and not self.line.snapshot.model_count
        return "" if is_empty else self.words.advice

    @property
    def offers_create(self) -> bool:
        """The drive's message explains the button Create Folder where it may be used."""
        return "--create" in self.line.snapshot.message

    @property
    def offers_replace(self) -> bool:
        return "--replace" in self.line.snapshot.message


def make_card(line: CacheLine, *, history: list[CacheSnapshot], since: datetime, until: datetime) -> Card:
    things = _foreign_things(line.cache.foreign)
    return Card(
        line=line,
        words=_WORDS[line.status],
        color=_color(line),
        disk=_disk_segments(line),
        plot=_plot(line, history=history, since=since, until=until),
        foreign=tuple(things[:_LISTED_THINGS]),
        foreign_more=max(0, len(things) - _LISTED_THINGS),
        problems=tuple(line.cache.scan_problems[:_LISTED_THINGS]),
    )


def _color(line: CacheLine) -> str:
    if line.status == "ok":
        return line.level
    return "red" if line.figures.is_usable or line.status == "read_only" else "grey"


def _disk_segments(line: CacheLine) -> tuple[Segment, ...]:
    """Of the whole disk: this cache, whatever else lies there, what is reserved, and what is free beyond that."""
    figures = line.figures
    total, free = figures.disk_total_bytes, figures.disk_free_bytes
    ours = min(line.snapshot.physical_bytes or figures.used_bytes, figures.disk_used_bytes)
    reserved = min(figures.reserved_bytes, free)
    kept = max(0, total - figures.disk_used_bytes - free)  # ext4 keeps 5 % for root
    parts = [
        ("ours", "here", ours),
        ("others", "others", figures.disk_used_bytes - ours),
        ("reserved", "reserved", reserved),
        ("free", "free", free - reserved),
        ("kept", "kept by the system", kept),
    ]
    seen = [part for part in parts if part[2] or part[0] != "kept"]
    return tuple(Segment(kind, words, percent(size, of=total), size) for kind, words, size in seen) if total else ()


def _plot(line: CacheLine, *, history: list[CacheSnapshot], since: datetime, until: datetime) -> Plot:
    known = [each for each in history if each.figures_at is not None]
    points = [Point(each.taken_at.timestamp(), each.used_bytes, each.state) for each in known]
    limit_bytes = line.figures.limit_bytes
    return plots.draw(points, since=since.timestamp(), until=until.timestamp(), limit_bytes=limit_bytes)


def _foreign_things(found: list[dict[str, Any]]) -> list[ForeignThing]:
    """The largest first. Our own house-keeping and the Hub's are not foreign."""
    things = [
        ForeignThing(each["name"], _KIND_WORDS.get(each["kind"], each["kind"]), each["size_bytes"])
        for each in found
        if each["kind"] in NOT_OURS
    ]
    return sorted(things, key=lambda thing: (-thing.size_bytes, thing.name))
