"""What the Settings page shows of one cache: words, bars, the picture of its use, and what can be done."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.urls import reverse

from cachemgr import plots
from cachemgr.layout import repo_folder
from cachemgr.models import Cache, CachedRepo, CacheSnapshot
from cachemgr.plots import Plot, Point
from cachemgr.report import NOT_OURS
from cachemgr.stats import CacheLine
from registry.models import ModelRegistry
from web import bars
from web.bars import Bar, Held

PERIODS = {
    "day": ("24 hours", timedelta(days=1)),
    "week": ("7 days", timedelta(days=7)),
    "year": ("1 year", timedelta(days=365)),
}
_LISTED_THINGS = 20
_SHOWN_MODELS = 5
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
_FILLING = Words("data_usage", "Filling up")


def words_for(line: CacheLine) -> Words:
    return _FILLING if line.status == "ok" and line.level == "yellow" else _WORDS[line.status]


def color_of(line: CacheLine) -> str:
    """green, yellow, red, or grey where nothing is known. The words say it too."""
    if line.status == "ok":
        return line.level
    return "red" if line.figures.is_usable or line.status == "read_only" else "grey"


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
    bar: Bar
    disk: Bar
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

    @property
    def shown_models(self) -> tuple[bars.Piece, ...]:
        return self.bar.models if len(self.bar.models) <= _SHOWN_MODELS + 1 else self.bar.models[:_SHOWN_MODELS]

    @property
    def more_models(self) -> tuple[bars.Piece, ...]:
        return self.bar.models[len(self.shown_models) :]


@dataclass(frozen=True, slots=True)
class Past:
    """The snapshots of one cache between two moments, oldest first."""

    snapshots: Sequence[CacheSnapshot]
    since: datetime
    until: datetime


def make_card(line: CacheLine, *, models: Sequence[Held], past: Past, threshold: float) -> Card:
    things = _foreign_things(line.cache.foreign)
    return Card(
        line=line,
        words=words_for(line),
        color=color_of(line),
        bar=bars.draw_cache(models, figures=line.figures, threshold=threshold),
        disk=bars.draw_disk(line.figures, ours_bytes=line.snapshot.physical_bytes or line.figures.used_bytes),
        plot=_plot(line, past=past),
        foreign=tuple(things[:_LISTED_THINGS]),
        foreign_more=max(0, len(things) - _LISTED_THINGS),
        problems=tuple(line.cache.scan_problems[:_LISTED_THINGS]),
    )


def _plot(line: CacheLine, *, past: Past) -> Plot:
    known = [each for each in past.snapshots if each.figures_at is not None]
    points = [Point(each.taken_at.timestamp(), each.used_bytes, each.state) for each in known]
    limit_bytes = line.figures.limit_bytes
    return plots.draw(points, since=past.since.timestamp(), until=past.until.timestamp(), limit_bytes=limit_bytes)


def _foreign_things(found: list[dict[str, Any]]) -> list[ForeignThing]:
    """The largest first. Our own house-keeping and the Hub's are not foreign."""
    things = [
        ForeignThing(each["name"], _KIND_WORDS.get(each["kind"], each["kind"]), each["size_bytes"])
        for each in found
        if each["kind"] in NOT_OURS
    ]
    return sorted(things, key=lambda thing: (-thing.size_bytes, thing.name))


# What lies in which cache


def held_models(caches: Iterable[Cache]) -> dict[int, list[Held]]:
    """What the last scans found, by the cache's key, under the names that the registry has for it. Two queries."""
    caches = list(caches)
    names = _registered_names(caches)
    held: dict[int, list[Held]] = {cache.pk: [] for cache in caches}
    rows = CachedRepo.objects.filter(cache__in=[cache.pk for cache in caches if cache.pk])
    for key, folder, repo_id, size_bytes in rows.values_list("cache_id", "folder", "repo_id", "size_bytes"):
        known = names.get((key, folder))
        held[key].append(replace(known, size_bytes=size_bytes) if known else Held(repo_id, size_bytes))
    return held


def _registered_names(caches: Iterable[Cache]) -> Mapping[tuple[int, str], Held]:
    """By cache and folder; several rows may share one."""
    keys: dict[str, int] = {}
    for cache in caches:
        keys[cache.path] = cache.pk
        if cache.is_configured:
            keys[cache.location] = cache.pk
    names: dict[tuple[int, str], Held] = {}
    columns = ("pk", "model_name", "hf_path", "cache_location", "cache_path")
    for pk, name, hf_path, location, path in ModelRegistry.objects.order_by("model_name").values_list(*columns):
        key = keys.get((path or "").rstrip("/") if location == Cache.Location.CUSTOM else location)
        place = (key or 0, repo_folder(hf_path))
        address = reverse("admin:registry_modelregistry_change", args=[pk])
        names[place] = Held(f"{names[place].name}, {name}" if place in names else name, 0, address)
    return names
