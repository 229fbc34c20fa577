"""Caches by name, what fits where, and promises of space. Views, tasks and commands call these."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from django.conf import settings
from django.db import transaction

from cachemgr import advice, space, trash
from cachemgr.advice import Recommendation
from cachemgr.errors import InsufficientSpace, InvalidCachePath
from cachemgr.layout import repo_folder
from cachemgr.models import Cache, CachedRepo, CacheSnapshot, Reservation
from cachemgr.monitor import current_snapshot
from cachemgr.paths import validate_custom_path
from cachemgr.room import candidates_in
from cachemgr.space import USUAL_FILES, Candidate, Verdict
from cachemgr.stats import caches_on_disk_of, current_rules, figures_now, latest_snapshots
from cachemgr.units import format_bytes
from homelab import audit
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
            known = Cache.objects.filter(path=str(path)).first()
            cache, _ = Cache.objects.update_or_create(path=str(path), defaults=values)
            _record_change(cache, before=known)


def _record_change(cache: Cache, *, before: Cache | None) -> None:
    if before is not None and (before.location, before.limit_bytes) != (cache.location, cache.limit_bytes):
        limit = "no limit" if cache.limit_bytes is None else f"a limit of {format_bytes(cache.limit_bytes)}"
        audit.record_change(cache, f"By .env it is {cache.location} now, with {limit}.")


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


def check(cache: Cache, *, required_bytes: int, required_files: int = USUAL_FILES) -> Verdict:
    """Would it fit now? Asks the drive for its free space, within two seconds."""
    return judge(cache, current_snapshot(cache), required_bytes=required_bytes, required_files=required_files)


def judge(
    cache: Cache,
    measured: CacheSnapshot,
    *,
    required_bytes: int,
    required_files: int = USUAL_FILES,
    lying_bytes: int = 0,
) -> Verdict:
    """Would it fit, by this measurement and by the promises that stand at this moment? Asks no drive.

    `lying_bytes` of them lie on the cache's filesystem already, in another cache.
    """
    verdict = space.check_space(
        figures_now(cache, measured),
        required_bytes=required_bytes,
        required_files=required_files,
        lying_bytes=lying_bytes,
        rules=current_rules(),
    )
    if verdict.sufficient or verdict.limiting_factor == "unavailable":
        return verdict
    places = _places_that_count(verdict, cache=cache, measured=measured)
    return replace(verdict, would_make_room=_who_would_make_room(verdict, places), in_trash=trash.lying_in(places))


def _places_that_count(verdict: Verdict, *, cache: Cache, measured: CacheSnapshot) -> list[Cache]:
    """That cache; where the disk alone is what binds, also those that fill the same disk."""
    own = [] if cache._state.adding else [cache]
    is_disk_alone = verdict.limiting_factor == "disk" and not verdict.is_above_limit
    return [*own, *caches_on_disk_of(cache, measured)] if is_disk_alone else own


def _who_would_make_room(verdict: Verdict, places: Sequence[Cache]) -> tuple[Candidate, ...]:
    if verdict.limiting_factor == "inodes":
        return ()
    found = [candidate for place in places for candidate in candidates_in(place)]
    return space.choose_to_free(found, shortfall_bytes=verdict.shortfall_bytes)


def configured_caches() -> list[Cache]:
    """Primary, then secondary: the order in which they are recommended."""
    return [find_cache(location) for location in (Cache.Location.PRIMARY, Cache.Location.SECONDARY)]


def recommend(*, required_bytes: int) -> Recommendation:
    """Where a model of that size should go, and why. Asks both drives, within two seconds each."""
    return weigh([check(cache, required_bytes=required_bytes) for cache in configured_caches()])


def weigh(verdicts: Sequence[Verdict]) -> Recommendation:
    """The best of these configured caches, by what fits and by the measured speed of their drives."""
    speeds = Cache.objects.filter(is_configured=True).values_list("location", "read_bytes_per_second")
    return advice.recommend(verdicts, speeds=dict(speeds))


@dataclass(frozen=True, slots=True)
class Booking:
    """What is to come into a cache: bytes of one repo. `owner` is a key such as `model:7` and has one booking.

    `replaced_bytes` of unfinished downloads lie in the repo's folder, and become part of what comes.
    `lying_bytes` lie on the cache's filesystem already: they only get another name. `linked_bytes` come on top of what
    is required: they lie in other repos of the very cache, and get another name in this one.
    """

    owner: str
    repo_id: str
    required_bytes: int
    required_files: int = USUAL_FILES
    replaced_bytes: int = 0
    lying_bytes: int = 0
    linked_bytes: int = 0


def book(cache: Cache, booking: Booking, *, measured: CacheSnapshot) -> Verdict:
    """Promises the bytes and files to the owner, in place of what it was promised before, or raises InsufficientSpace.

    Call it inside the transaction that also writes what the bytes are for. The rows of all caches are locked: two
    caches can share a filesystem. `measured` is from just before the transaction, which must not wait for a drive.
    """
    rows = {row.pk: row for row in Cache.objects.select_for_update().order_by("pk")}
    cache = rows[cache.pk]  # with the limit that counts now
    Reservation.objects.filter(owner=booking.owner).delete()
    more_bytes = max(0, booking.required_bytes - booking.replaced_bytes)
    verdict = judge(
        cache,
        measured,
        required_bytes=more_bytes,
        required_files=booking.required_files,
        lying_bytes=booking.lying_bytes,
    )
    if verdict.is_refusal:
        raise shortage(verdict, cache=cache, measured=measured)
    folder = repo_folder(booking.repo_id)
    present = CachedRepo.objects.filter(cache=cache, folder=folder).first()
    Reservation.objects.create(
        cache=cache,
        owner=booking.owner,
        folder=folder,
        total_bytes=booking.required_bytes,
        remaining_bytes=more_bytes,
        baseline_bytes=max(0, present.size_bytes - booking.replaced_bytes if present else 0) + booking.linked_bytes,
        file_count=booking.required_files,
    )
    return verdict


def release(owner: str) -> None:
    """Ends the owner's promise. The cache's row is locked, for a scan may be shrinking it at this moment."""
    with transaction.atomic():
        list(Cache.objects.select_for_update(of=("self",)).filter(reservations__owner=owner))
        Reservation.objects.filter(owner=owner).delete()


def shortage(verdict: Verdict, *, cache: Cache, measured: CacheSnapshot) -> InsufficientSpace:
    """The refusal, with what the user can do about it by what the newest snapshots say: no drive is asked."""
    elsewhere = _judge_elsewhere(cache, size_bytes=verdict.required_bytes, file_count=verdict.required_files)
    leaving = verdict.would_make_room
    moved: list[Verdict] = []
    if leaving and all(candidate.location == cache.location for candidate in leaving):
        same_disk = caches_on_disk_of(cache, measured) if verdict.limiting_factor == "disk" else []
        size_bytes = sum(candidate.size_bytes for candidate in leaving)
        moved = _judge_elsewhere(cache, size_bytes=size_bytes, without=same_disk)
    ways = advice.ways_out(verdict, elsewhere=elsewhere, moved=moved, rules=current_rules())
    return InsufficientSpace(verdict, actions=[way.as_json() for way in ways])


def _judge_elsewhere(
    cache: Cache, *, size_bytes: int, file_count: int = USUAL_FILES, without: Sequence[Cache] = ()
) -> list[Verdict]:
    snapshots = latest_snapshots()
    others = [other for other in configured_caches() if other not in (cache, *without) and other.pk in snapshots]
    return [judge(other, snapshots[other.pk], required_bytes=size_bytes, required_files=file_count) for other in others]
