"""Caches by name, what fits where, and promises of space. Views, tasks and commands call these."""

from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.db import transaction

from cachemgr import space
from cachemgr.errors import InsufficientSpace, InvalidCachePath
from cachemgr.layout import repo_folder
from cachemgr.models import Cache, CachedRepo, CacheSnapshot, Reservation
from cachemgr.monitor import current_snapshot
from cachemgr.paths import validate_custom_path
from cachemgr.space import Verdict
from cachemgr.stats import current_rules, figures_now
from homelab.errors import InvalidValue


def sync_configured_caches() -> None:
    """Makes the rows of primary and secondary follow `.env`. A path that left it stays as long as it is in use."""
    configured = {
        Cache.Location.PRIMARY: (settings.PRIMARY_CACHE_PATH, settings.PRIMARY_CACHE_LIMIT_BYTES),
        Cache.Location.SECONDARY: (settings.SECONDARY_CACHE_PATH, settings.SECONDARY_CACHE_LIMIT_BYTES),
    }
    with transaction.atomic():
        Cache.objects.filter(is_configured=True).update(is_configured=False)
        for location, (path, limit_bytes) in configured.items():
            values = {"location": location, "limit_bytes": limit_bytes, "is_configured": True}
            Cache.objects.update_or_create(path=str(path), defaults=values)


def find_cache(location: str, *, path: str | None = None) -> Cache:
    """The cache of a location. For an acceptable custom path that is new, a row that is not saved: `keep` saves it."""
    if location != Cache.Location.CUSTOM:
        return _configured_cache(location)
    if not path:
        raise InvalidCachePath("A custom cache needs cache_path, the absolute path of a folder.", code="required")
    known = Cache.objects.filter(path=path.rstrip("/")).first()
    return known or Cache(path=str(accept_custom_path(path)), location=location)


def keep(cache: Cache) -> Cache:
    """The saved row of a cache that somebody is going to use."""
    if not cache._state.adding:
        return cache
    return Cache.objects.get_or_create(path=cache.path, defaults={"location": cache.location})[0]


def _configured_cache(location: str) -> Cache:
    found = Cache.objects.filter(location=location, is_configured=True).first()
    if found is None:
        known = ", ".join(Cache.Location.values)
        raise InvalidValue(
            f"cache_location is {location!r}, but one of {known} is wanted.",
            field="cache_location",
            code="unknown_location",
        )
    return found


def accept_custom_path(text: str) -> Path:
    others = [Path(path) for path in Cache.objects.values_list("path", flat=True)]
    return validate_custom_path(
        text,
        allowed_roots=settings.CACHE_ALLOWED_ROOTS,
        kept_apart=[*others, settings.DATA_DIR, settings.BASE_DIR],
    )


def check(cache: Cache, *, required_bytes: int) -> Verdict:
    """Would it fit now? Asks the drive for its free space, within two seconds."""
    return judge(cache, current_snapshot(cache), required_bytes=required_bytes)


def judge(cache: Cache, measured: CacheSnapshot, *, required_bytes: int) -> Verdict:
    """Would it fit, by this measurement and by the promises that stand at this moment? Asks no drive."""
    return space.check_space(figures_now(cache, measured), required_bytes=required_bytes, rules=current_rules())


def check_configured(*, required_bytes: int) -> list[Verdict]:
    """A verdict for primary, then for secondary: the order in which they are recommended."""
    caches = [_configured_cache(location) for location in (Cache.Location.PRIMARY, Cache.Location.SECONDARY)]
    return [check(cache, required_bytes=required_bytes) for cache in caches]


def book(cache: Cache, *, owner: str, repo_id: str, required_bytes: int, measured: CacheSnapshot) -> Verdict:
    """Promises the bytes to the owner, instead of what was promised to it before, or raises InsufficientSpace.

    Call it inside the transaction that also writes what the bytes are for. The rows of all caches are locked: two
    caches can share a filesystem. `measured` is from just before the transaction, which must not wait for a drive.
    """
    list(Cache.objects.select_for_update().order_by("pk"))
    Reservation.objects.filter(owner=owner).delete()
    verdict = judge(cache, measured, required_bytes=required_bytes)
    if verdict.is_refusal:
        raise InsufficientSpace(verdict, actions=ways_out(verdict))
    folder = repo_folder(repo_id)
    present = CachedRepo.objects.filter(cache=cache, folder=folder).first()
    Reservation.objects.create(
        cache=cache,
        owner=owner,
        folder=folder,
        total_bytes=required_bytes,
        remaining_bytes=required_bytes,
        baseline_bytes=present.size_bytes if present else 0,
    )
    return verdict


def release(owner: str) -> None:
    Reservation.objects.filter(owner=owner).delete()


def ways_out(verdict: Verdict) -> list[dict[str, str]]:
    """What the user can do about bytes that do not fit, by what the newest snapshots say: no drive is asked."""
    figures = verdict.figures
    ways = [
        {
            "action": "choose_cache",
            "cache_location": other.figures.location,
            "sentence": f"They fit the {other.figures.location} cache.",
        }
        for other in _verdicts_elsewhere(verdict)
        if other.sufficient
    ]
    if verdict.limiting_factor == "limit":
        name = f"{figures.location.upper()}_CACHE_LIMIT_GB"
        ways.append(
            {"action": "raise_limit", "setting": name, "sentence": f"Raise {name} in .env if the disk has room."}
        )
    ways.append({"action": "free_space", "sentence": "Remove models or files that are not needed there."})
    return ways


def _verdicts_elsewhere(verdict: Verdict) -> Iterator[Verdict]:
    for other in Cache.objects.filter(is_configured=True).exclude(path=verdict.figures.path):
        newest = other.snapshots.first()
        if newest is not None:
            yield judge(other, newest, required_bytes=verdict.required_bytes)
