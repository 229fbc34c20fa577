"""The trash: removed repos lie on their drive until they are restored, or emptied: oldest first, after TRASH_DAYS, or
before that when their room is needed.

A row comes first, then the drive's rename, then the end of the row; `recover` finishes or undoes what was cut between.
"""

import logging
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from django.db.models import QuerySet
from django.utils import timezone

from cachemgr import locks, monitor, recovery
from cachemgr.chores import AWAY, Weight, do_chore, weigh
from cachemgr.errors import CacheUnavailable, ErrandFailed, InsufficientSpace, NotInTrash, PlaceTaken, RepoBusy
from cachemgr.models import Cache, TrashedRepo
from cachemgr.space import Trashed, Verdict
from cachemgr.units import format_bytes
from homelab import audit

logger = logging.getLogger(__name__)

State = TrashedRepo.State
Booked = TypeVar("Booked")


@dataclass(frozen=True, slots=True)
class Load:
    """An entry of the trash, and what emptying it frees after those before it."""

    entry: TrashedRepo
    weight: Weight


# What it would free


def weigh_entries(entries: Iterable[TrashedRepo]) -> list[Load]:
    """Oldest first. Raises ErrandFailed, CacheUnavailable."""
    by_cache: dict[Cache, list[TrashedRepo]] = {}
    for entry in sorted(entries, key=_age):
        by_cache.setdefault(entry.cache, []).append(entry)
    for cache in by_cache:
        monitor.require_drive(cache)
    loads = [
        Load(entry, weight)
        for cache, own in by_cache.items()
        for entry, weight in zip(own, weigh(cache, [each.holder for each in own]), strict=True)
    ]
    return sorted(loads, key=lambda load: _age(load.entry))


def _age(entry: TrashedRepo) -> tuple[datetime, int]:
    return entry.removed_at, entry.pk


# Reading


def entries() -> QuerySet[TrashedRepo]:
    """What can be restored, oldest first."""
    return TrashedRepo.objects.filter(state__in=TrashedRepo.THERE).select_related("cache__latest")


def lying_in(caches: Iterable[Cache]) -> Trashed:
    """As it was weighed when it left: no drive is asked."""
    found = list(entries().filter(cache__in=caches))
    return Trashed(tuple(entry.pk for entry in found), sum(entry.freed_bytes for entry in found))


def find_entry(pk: int) -> TrashedRepo:
    found = entries().filter(pk=pk).first()
    if found is None:
        raise NotInTrash(f"There is nothing with the number {pk} in the trash. GET /api/cache/trash lists it.")
    return found


# Putting in, taking out, emptying


def put(cache: Cache, *, folder: str, title: str, remembered: dict[str, Any], weight: Weight) -> TrashedRepo:
    """Moves a repo's folder to the trash of its cache: a rename, whatever its size. It frees nothing yet.

    Raises RepoBusy while anybody uses the folder, ErrandFailed, CacheUnavailable.
    """
    entry = TrashedRepo(
        cache=cache,
        name=f"{timezone.now():%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}",
        folder=folder,
        title=title[:200],
        remembered=remembered,
        file_count=weight.file_count,
        size_bytes=weight.size_bytes,
        freed_bytes=weight.freed_bytes,
    )
    with locks.exclusive(Path(cache.path) / folder), recovery.hold(entry):  # before its row: `recover` looks at rows
        entry.save()
        _carry(entry, step="put")
        recovery.note_trashed(entry, is_place_free=True)
    monitor.measure_cache(cache)
    return entry


def check_restore(entry: TrashedRepo) -> None:
    """The dry run of `restore`: raises what that would raise now, and changes nothing."""
    monitor.require_drive(entry.cache)
    with locks.exclusive(Path(entry.cache.path) / entry.folder), recovery.hold(entry):
        found = recovery.look(entry.cache)
    if entry.folder not in found.repos.get(entry.name, []):
        raise _not_there(entry)
    if entry.folder in found.in_place:
        message = f"There is another {entry.folder} in {entry.cache.path} now. Remove it first, then try again."
        raise PlaceTaken(message)


def restore(entry: TrashedRepo) -> None:
    """Puts it back in its place. Raises PlaceTaken, RepoBusy, NotInTrash, ErrandFailed, CacheUnavailable."""
    monitor.require_drive(entry.cache)
    with locks.exclusive(Path(entry.cache.path) / entry.folder), recovery.hold(entry):
        _take(entry, State.RESTORING)
        _carry(entry, step="restore")
        audit.record_change(entry, "Back in its place.")
        recovery.note_restored(entry)
    monitor.measure_cache(entry.cache)


def empty(loads: Sequence[Load]) -> int:
    """For good. Answers the freed bytes."""
    for load in loads:
        with recovery.hold(load.entry):
            _take(load.entry, State.PURGING)
            recovery.purge(load.entry)
            audit.record_removal(
                load.entry, f"Removed for good; {format_bytes(load.weight.freed_bytes)} are free again."
            )
    for cache in {load.entry.cache for load in loads}:
        monitor.measure_cache(cache)
    return sum(load.weight.freed_bytes for load in loads)


def _take(entry: TrashedRepo, state: State) -> None:
    """The row decides who of several does it."""
    if not TrashedRepo.objects.filter(pk=entry.pk, state__in=TrashedRepo.THERE).update(state=state):
        raise _not_there(entry)
    entry.state = state


def _not_there(entry: TrashedRepo) -> NotInTrash:
    return NotInTrash(f"{entry.title} is not in the trash any more.")


def _carry(entry: TrashedRepo, *, step: str) -> None:
    """One rename on the drive. Where it fails, the drive says how far it came, and the row follows."""
    try:
        do_chore(entry.cache, task="trash", step=step, folder=entry.folder, name=entry.name)
    except AWAY as error:
        recovery.settle_if_there(entry)
        raise _in_our_words(error) from error


def _in_our_words(error: ErrandFailed | CacheUnavailable) -> Exception:
    if error.code == "place_taken":
        return PlaceTaken(error.message)
    return RepoBusy(error.message) if error.code == "model_busy" else error


# Early, when the room is needed


def with_room(attempt: Callable[[], Booked]) -> Booked:
    """Books, and once more after the trash gave way, where that lets it fit. Raises InsufficientSpace.

    Not inside a transaction: drives are asked.
    """
    try:
        return attempt()
    except InsufficientSpace as error:
        if not make_room(error.verdict):
            raise
        return attempt()


def make_room(verdict: Verdict) -> int:
    """Empties as much of the trash as what does not fit is lacking, oldest first. Where all of it would not do, nothing
    is emptied: that would help nobody. Answers the freed bytes."""
    loads = _weigh_what_helps(verdict)
    chosen = choose_to_empty(loads, shortfall_bytes=verdict.shortfall_bytes)
    if not chosen:
        return 0
    names = ", ".join(load.entry.title for load in chosen)
    logger.warning("%s: the trash gives way, for the room is needed.", names)
    try:
        return empty(chosen)
    except (*AWAY, RepoBusy, NotInTrash) as error:
        logger.warning("The trash is not emptied: %s", error)
        return 0


def _weigh_what_helps(verdict: Verdict) -> list[Load]:
    """How many inodes it gives back is not known."""
    if verdict.limiting_factor == "inodes":
        return []
    try:
        return weigh_entries(entries().filter(pk__in=verdict.in_trash.entries))
    except AWAY:
        return []


def choose_to_empty(loads: Sequence[Load], *, shortfall_bytes: int) -> list[Load]:
    """What a cache's limit gets back and what its disk gets back differ: the smaller one counts."""
    chosen, found_bytes = [], 0
    for load in loads:
        if found_bytes >= shortfall_bytes:
            break
        chosen.append(load)
        found_bytes += min(load.weight.freed_bytes, load.weight.going_bytes)
    return chosen if found_bytes >= shortfall_bytes else []


# Regularly


def empty_expired() -> int:
    """What lay there for TRASH_DAYS. A drive that is away is emptied when it is back. Answers the freed bytes."""
    due = [entry for entry in entries() if entry.goes_at <= timezone.now()]
    return sum(_empty_if_there([entry for entry in due if entry.cache == cache]) for cache in {e.cache for e in due})


def _empty_if_there(due: Sequence[TrashedRepo]) -> int:
    try:
        return empty(weigh_entries(due))
    except (*AWAY, RepoBusy, NotInTrash) as error:
        logger.warning("The trash of %s is not emptied now: %s", due[0].cache.path, error)
        return 0
