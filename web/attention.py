"""What the owner should look at, with the place where it is solved. Nothing is asked here: rows in, sentences out."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from django.urls import reverse

from cachemgr.models import Cache
from cachemgr.stats import CacheLine
from cachemgr.units import format_bytes
from registry.models import Job, ModelRegistry
from web.cards import words_for

SHOWN = 8
_LOW_SHARE = 0.02  # of what a cache may hold
_ANSWERING = ("ok", "warning", "critical", "over_limit", "read_only")
_LONGEST_WORDS = 240


@dataclass(frozen=True, slots=True)
class Item:
    """`is_trouble`: something does not work. Otherwise it will soon."""

    icon: str
    title: str
    words: str
    address: str
    link: str
    is_trouble: bool = True


@dataclass(frozen=True, slots=True)
class Findings:
    """`models` are those that are failed, missing or damaged; `jobs` failed, and nothing came after them."""

    lines: Sequence[CacheLine]
    models: Sequence[ModelRegistry]
    jobs: Sequence[Job]


def list_items(found: Findings) -> list[Item]:
    """What does not work comes first."""
    items = [*_drives(found.lines), *_models(found), *_jobs(found.jobs)]
    return sorted(items, key=lambda item: not item.is_trouble)


def _drives(lines: Sequence[CacheLine]) -> Iterator[Item]:
    for line in lines:
        address = f"{reverse('settings-page')}#cache-{line.cache.pk}"
        name = line.cache.get_location_display()
        if line.status != "ok":
            yield Item(
                icon=words_for(line).icon,
                title=f"{name}: {words_for(line).title.lower()}",
                words=line.figures.state_message or f"{_use_of(line)}. {words_for(line).advice}".strip(),
                address=address,
                link="Look at the drive",
                is_trouble=line.status not in {"warning", "not_measured"},
            )
        elif line.available_bytes < line.figures.size_bytes * _LOW_SHARE:
            yield Item("disc_full", f"{name}: no room", _low(line), address, "Look at the drive", is_trouble=False)
        if line.cache.scan_problems:
            count, first = len(line.cache.scan_problems), line.cache.scan_problems[0]
            words = first if count == 1 else f"{first} There are {count - 1} more."
            yield Item("report", f"{name}: something is odd", words, address, "See what", is_trouble=False)


def _use_of(line: CacheLine) -> str:
    return f"{format_bytes(line.figures.filled_bytes)} of {format_bytes(line.figures.size_bytes)} are used"


def _low(line: CacheLine) -> str:
    free = format_bytes(line.figures.disk_free_bytes)
    return f"{format_bytes(line.available_bytes)} can still be booked; its disk has {free} free."


def _models(found: Findings) -> Iterator[Item]:
    """Of models on a drive that is away nothing is said: the drive is the news."""
    away = {line.cache.location for line in found.lines if _is_away(line) and line.cache.is_configured}
    away |= {line.cache.path for line in found.lines if _is_away(line)}
    for model in found.models:
        if not (model.status == ModelRegistry.Status.MISSING and _place(model) in away):
            yield _model(model)


def _is_away(line: CacheLine) -> bool:
    return line.status not in _ANSWERING


def _place(model: ModelRegistry) -> str:
    is_custom = model.cache_location == Cache.Location.CUSTOM
    return (model.cache_path or "").rstrip("/") if is_custom else model.cache_location


def _model(model: ModelRegistry) -> Item:
    address = reverse("admin:registry_modelregistry_change", args=[model.pk])
    if model.damaged:
        files = "1 file is bad" if len(model.damaged) == 1 else f"{len(model.damaged)} files are bad"
        return Item("healing", f"{model}: {files}", "Repair fetches what is bad, and that alone.", address, "Repair it")
    if model.status == ModelRegistry.Status.MISSING:
        return Item("search_off", f"{model}: its files are not there", _short(model.error), address, "Find a way")
    return Item("error", f"{model} does not work", _short(model.error), address, "Look at it")


def _jobs(jobs: Collection[Job]) -> Iterator[Item]:
    address = f"{reverse('jobs-page')}?state=failed"
    for job in jobs:
        yield Item(
            "sync_problem", f"The {job.kind} of {job.title} failed", _short(job.error_message), address, "Try again"
        )


def _short(words: str) -> str:
    return words if len(words) <= _LONGEST_WORDS else f"{words[:_LONGEST_WORDS].rstrip()}…"
