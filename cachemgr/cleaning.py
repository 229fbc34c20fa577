"""Cleaning up: what could go from the caches without being missed, as a plan with its bytes, and on the owner's word.

Nothing here happens by itself.
"""

from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cachemgr import locks, monitor
from cachemgr.chores import AWAY, Weight, do_chore
from cachemgr.errors import RepoBusy
from cachemgr.models import Cache
from cachemgr.stats import name_of
from cachemgr.units import format_bytes
from cachemgr.wanted import wanted_in
from homelab import audit
from homelab.errors import HomelabError, InvalidValue

CLASSES: Mapping[str, str] = {
    "partials": "downloads that did not finish",
    "orphans": "blobs that no revision names",
    "superseded": "old revisions that no branch, tag or model uses",
    "locks": "lock files that nobody holds",
    "staging": "half-made copies of moves that are over",
}
MIN_AGE_SECONDS = 3600.0
"""What is younger may be somebody's work: a program that we do not know, or another server."""


@dataclass(frozen=True, slots=True)
class Item:
    """`name` is a path below the cache, or a revision of a repo."""

    name: str
    why: str
    freed_bytes: int


@dataclass(frozen=True, slots=True)
class ClassFindings:
    """One class in one cache. Of very many `items` the largest are named; `weight` is of all of them."""

    name: str
    count: int
    weight: Weight
    items: tuple[Item, ...]
    folders: tuple[str, ...]

    @property
    def title(self) -> str:
        return CLASSES[self.name]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "ClassFindings":
        items = tuple(Item(**each) for each in data["items"])
        return cls(data["name"], data["count"], Weight(**data["weight"]), items, tuple(data["folders"]))


@dataclass(frozen=True, slots=True)
class CacheFindings:
    """`weight` is of all classes together: a file may have a name in two of them. `skipped` says why the cache was not
    looked at, `problem` why orphans and superseded revisions cannot be told, `busy` are repos that somebody uses."""

    cache: Cache
    classes: tuple[ClassFindings, ...] = ()
    weight: Weight = field(default_factory=Weight)
    skipped: str = ""
    problem: str = ""
    busy: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return name_of(self.cache)


@dataclass(frozen=True, slots=True)
class CleanPlan:
    """What each class would free, as it lies there now. `execute` looks again, and removes what is still unused."""

    names: tuple[str, ...]
    caches: tuple[CacheFindings, ...]

    @property
    def freed_bytes(self) -> int:
        return sum(each.weight.freed_bytes for each in self.caches)

    @property
    def count(self) -> int:
        return sum(found.count for each in self.caches for found in each.classes)

    def execute(self) -> "CleanPlan":
        """Answers what is gone. Repos that somebody loads, reads or fills at this moment are left alone."""
        return CleanPlan(self.names, tuple(_clean(each, self.names) for each in self.caches))


def plan_clean(names: Collection[str] = (), *, caches: Iterable[Cache] | None = None) -> CleanPlan:
    """Of these classes, or of all. Asks every drive and changes nothing. Raises InvalidValue for an unknown class."""
    unknown = [name for name in names if name not in CLASSES]
    if unknown:
        message = f"There is no class {unknown[0]!r} to clean up. There are {', '.join(CLASSES)}."
        raise InvalidValue(message, field="classes", code="unknown_class")
    wanted = tuple(name for name in CLASSES if not names or name in names)
    looked_at = Cache.objects.listed() if caches is None else caches
    return CleanPlan(wanted, tuple(_find(cache, wanted) for cache in looked_at))


def _find(cache: Cache, names: tuple[str, ...]) -> CacheFindings:
    try:
        monitor.require_drive(cache)
        return _findings(cache, do_chore(cache, task="clean", step="find", **_order(cache, names)))
    except AWAY as error:
        return _skipped(cache, error)


def _clean(found: CacheFindings, names: tuple[str, ...]) -> CacheFindings:
    """What it answers about a repo is true while its lock is held: nobody begins to use it."""
    if found.skipped or not any(each.count for each in found.classes):
        return found
    folders = sorted({folder for each in found.classes for folder in each.folders})
    with ExitStack() as stack:
        held = [folder for folder in folders if _try_lock(stack, Path(found.cache.path) / folder)]
        order = _order(found.cache, names) | {"folders": held}
        try:
            done = do_chore(found.cache, task="clean", step="remove", **order)
        except AWAY as error:
            return _skipped(found.cache, error)
    monitor.measure_cache(found.cache)
    gone = _findings(found.cache, done, busy=tuple(folder for folder in folders if folder not in held))
    what = ", ".join(CLASSES[name] for name in names)
    audit.record_change(found.cache, f"Cleaned up: {what}. {format_bytes(gone.weight.freed_bytes)} are free again.")
    return gone


def _try_lock(stack: ExitStack, folder: Path) -> bool:
    try:
        stack.enter_context(locks.exclusive(folder))
    except RepoBusy:
        return False
    return True


def _order(cache: Cache, names: tuple[str, ...]) -> dict[str, Any]:
    return {"classes": list(names), "min_age_seconds": MIN_AGE_SECONDS} | wanted_in(cache).as_order()


def _findings(cache: Cache, done: dict[str, Any], *, busy: tuple[str, ...] = ()) -> CacheFindings:
    classes = tuple(ClassFindings.from_json(each) for each in done["classes"])
    return CacheFindings(cache, classes, Weight(**done["weight"]), problem=done["problem"], busy=busy)


def _skipped(cache: Cache, error: HomelabError) -> CacheFindings:
    return CacheFindings(cache, skipped=error.message)
