"""What became of it: after a crash or a drive that went away, the drive tells how far a removal or a return came.

the row says   and it is in the trash   or it is not
leaving        trashed                  it never left: no row
restoring      trashed                  it is back: no row
purging        emptied again            emptied
trashed        trashed                  somebody else took it: no row
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.db import transaction
from django.utils import timezone

from cachemgr import locks
from cachemgr.chores import AWAY, do_chore, weigh
from cachemgr.errors import RepoBusy
from cachemgr.layout import TRASH, parse_repo_folder
from cachemgr.models import Cache, CachedRepo, TrashedRepo
from cachemgr.signals import repo_restored, repo_trashed

logger = logging.getLogger(__name__)

State = TrashedRepo.State
_AT_REST = [State.TRASHED, State.EMPTIED]
_LONGEST_SCAN = timedelta(days=1)  # until then one may be stored that saw the repo in its place
_LITTER_AFTER = timedelta(hours=1)  # an empty folder that is younger may be another server's, which is about to fill it


@dataclass(frozen=True, slots=True)
class Found:
    """The trash of a cache as it is on the drive: the repo folders in each entry, when each was made (seconds since
    1970), and the repo folders that are in their place."""

    repos: dict[str, list[str]]
    made_at: dict[str, float]
    in_place: frozenset[str]


def look(cache: Cache) -> Found:
    """Raises ErrandFailed, CacheUnavailable."""
    done = do_chore(cache, task="trash", step="look")
    entries = done["entries"]
    return Found(
        repos={each["name"]: each["repos"] for each in entries},
        made_at={each["name"]: each["made_at"] for each in entries},
        in_place=frozenset(done["in_place"]),
    )


def hold(entry: TrashedRepo) -> locks.RepoLock:
    """Who changes an entry has it alone. Raises RepoBusy."""
    return locks.exclusive(Path(entry.cache.path) / TRASH / entry.name)


# What is noted, once it happened


def note_trashed(entry: TrashedRepo, *, is_place_free: bool) -> None:
    """What lived there is forgotten, and so are its models; not where others came to the place since."""
    was_leaving, entry.state = entry.state == State.LEAVING, State.TRASHED
    entry.removed_at = timezone.now() if was_leaving else entry.removed_at  # who scanned until now may have seen it
    with transaction.atomic():
        TrashedRepo.objects.filter(pk=entry.pk).update(state=State.TRASHED, removed_at=entry.removed_at)
        if was_leaving and is_place_free:
            CachedRepo.objects.filter(cache=entry.cache, folder=entry.folder).delete()
            repo_trashed.send(sender=TrashedRepo, entry=entry)


def note_restored(entry: TrashedRepo) -> None:
    with transaction.atomic():
        repo_restored.send(sender=TrashedRepo, entry=entry)
        entry.delete()


def purge(entry: TrashedRepo) -> None:
    """For good. Safe to repeat. The row tells scans that began before; then it goes too."""
    do_chore(entry.cache, task="trash", step="purge", name=entry.name)
    TrashedRepo.objects.filter(pk=entry.pk).update(state=State.EMPTIED)


# Finding out


def settle(entry: TrashedRepo) -> None:
    """Makes the row say what the drive says. Hold the entry. Raises ErrandFailed, CacheUnavailable."""
    found = look(entry.cache)
    is_in_trash = entry.folder in found.repos.get(entry.name, [])
    if entry.state == State.PURGING:
        purge(entry)
    elif is_in_trash:
        note_trashed(entry, is_place_free=entry.folder not in found.in_place)
    elif entry.state == State.RESTORING and entry.folder in found.in_place:
        do_chore(entry.cache, task="trash", step="restore", folder=entry.folder, name=entry.name)  # tidies up
        note_restored(entry)
    else:
        logger.warning("%s is not in the trash of %s (it was %s).", entry.folder, entry.cache.path, entry.state)
        do_chore(entry.cache, task="trash", step="purge", name=entry.name)  # what was put around it
        entry.delete()


def settle_if_there(entry: TrashedRepo) -> None:
    """Where the drive cannot tell now, `recover` asks it again."""
    try:
        settle(entry)
    except AWAY as error:
        logger.warning("Nobody knows yet what became of %s: %s", entry.title, error)


def recover() -> None:
    """Finishes or undoes what was cut short, and takes in what no row knows. Safe at any time."""
    TrashedRepo.objects.filter(state=State.EMPTIED, removed_at__lt=timezone.now() - _LONGEST_SCAN).delete()
    for cache in Cache.objects.listed():
        _recover_if_there(cache)


def follow_measurement(*, cache: Cache, is_scanned: bool, **_: Any) -> None:
    """Receives `cache_measured`: a drive is back, and something of its trash waits for it."""
    if is_scanned and TrashedRepo.objects.filter(cache=cache).exclude(state__in=_AT_REST).exists():
        _recover_if_there(cache)


def _recover_if_there(cache: Cache) -> None:
    try:
        recover_cache(cache)
    except AWAY as error:
        logger.info("The trash of %s cannot be read now: %s", cache.path, error)


def recover_cache(cache: Cache) -> None:
    """Raises ErrandFailed, CacheUnavailable."""
    found = look(cache)
    rows = {entry.name: entry for entry in TrashedRepo.objects.filter(cache=cache)}
    for entry in rows.values():
        is_lost = bool(cache.uuid) and entry.folder not in found.repos.get(entry.name, [])
        if entry.state not in _AT_REST or (entry.state == State.TRASHED and is_lost):
            _if_nobody_is_at_it(entry, _settle_again)
    for name in found.repos.keys() - rows.keys():
        _if_nobody_is_at_it(TrashedRepo(cache=cache, name=name), _take_in)


def _if_nobody_is_at_it(entry: TrashedRepo, work: Callable[[TrashedRepo], None]) -> None:
    try:
        held = hold(entry)
    except RepoBusy:
        return  # somebody restores or empties it at this moment
    with held:
        work(entry)


def _settle_again(entry: TrashedRepo) -> None:
    now = TrashedRepo.objects.select_related("cache").filter(pk=entry.pk).first()
    if now is not None:
        settle(now)


def _take_in(stranger: TrashedRepo) -> None:
    """The database was lost, or another server put it there: it can be restored all the same."""
    cache = stranger.cache
    found = look(cache)
    repos = found.repos.get(stranger.name)
    if repos is None or TrashedRepo.objects.filter(cache=cache, name=stranger.name).exists():
        return
    made_at = min(timezone.now(), datetime.fromtimestamp(found.made_at[stranger.name], tz=UTC))
    if not repos and timezone.now() - made_at > _LITTER_AFTER:
        do_chore(cache, task="trash", step="purge", name=stranger.name)
    if len(repos) != 1:
        return
    named = parse_repo_folder(repos[0])
    (weight,) = weigh(cache, [f"{TRASH}/{stranger.name}/{repos[0]}"])
    stranger.folder, stranger.title, stranger.state = repos[0], named[1] if named else repos[0], State.TRASHED
    stranger.removed_at = made_at
    stranger.file_count, stranger.size_bytes = weight.file_count, weight.size_bytes
    stranger.freed_bytes = weight.freed_bytes
    stranger.save()
