"""Measuring: a probe of each drive in its own process, and a snapshot of what it found.

`measure_caches` is what beat does every few minutes and what the Refresh button does at once.
"""

import logging
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from uuid import uuid4

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from cachemgr.drives import DriveReport, ProbeRequest, folders_to_make, lacks_its_drive, probe_drive
from cachemgr.layout import repo_folder
from cachemgr.models import Cache, CachedRepo, CacheSnapshot, Reservation
from cachemgr.scan import CacheReport, RepoReport
from cachemgr.signals import cache_measured

logger = logging.getLogger(__name__)

PROBE_SECONDS = 2.0
REFRESH_SECONDS = 5.0
MONITOR_SECONDS = 120.0


def measure_caches(*, limit_seconds: float = MONITOR_SECONDS) -> list[CacheSnapshot]:
    """Measures all listed caches side by side: one that hangs delays no other."""
    caches = list(Cache.objects.listed())
    with ThreadPoolExecutor(max_workers=max(1, len(caches))) as threads:
        probes = {threads.submit(_probe, cache, limit_seconds=limit_seconds, scan=True): cache for cache in caches}
        prompt, late = wait(probes, timeout=PROBE_SECONDS)
        in_order = [probe for probe in probes if probe in prompt]  # so that adoption names the models of primary first
        snapshots = [_store(probes[probe], probe.result()) for probe in chain(in_order, as_completed(late))]
    return sorted(snapshots, key=lambda snapshot: snapshot.cache_id)


def measure_cache(cache: Cache, *, limit_seconds: float = REFRESH_SECONDS) -> CacheSnapshot:
    return _store(cache, _probe(cache, limit_seconds=limit_seconds, scan=True))


def current_snapshot(cache: Cache, *, limit_seconds: float = PROBE_SECONDS) -> CacheSnapshot:
    """The newest usage with the drive's sizes of this second, not stored. Measures in full where that is due."""
    if cache._state.adding:
        return _snapshot(cache, _probe(cache, limit_seconds=limit_seconds), last=None)
    newest = cache.snapshots.first()
    if (
        newest is None
        or newest.figures_at is None
        or newest.age.total_seconds() > 2 * settings.CACHE_MONITOR_INTERVAL_SECONDS
    ):
        return measure_cache(cache)
    return _snapshot(cache, _probe(cache, limit_seconds=limit_seconds), last=newest)


def look_up_repo(cache: Cache, *, repo_id: str, limit_seconds: float = REFRESH_SECONDS) -> DriveReport:
    """What lies in one repo folder at this second: `contents` has that repo alone, or none."""
    return _probe(cache, limit_seconds=limit_seconds, repo=repo_folder(repo_id))


def _probe(cache: Cache, *, limit_seconds: float, scan: bool = False, repo: str | None = None) -> DriveReport:
    is_new = not cache._state.adding and not cache.uuid  # a mere question leaves no trace on the drive
    request = ProbeRequest(
        path=cache.path,
        uuid=cache.uuid or None,
        adopt=str(uuid4()) if is_new and may_adopt(cache) else None,
        make=folders_to_make(Path(cache.path), own_folders=own_folders()) if is_new else "no",
        scan=scan,
        repo=repo,
        root=_allowed_root(cache),
    )
    return probe_drive(request, limit_seconds=limit_seconds, lock_folder=settings.RUNTIME_DIR)


def _allowed_root(cache: Cache) -> str | None:
    """The root below which a custom path may have no links; the owner's own settings are taken as they are."""
    if cache.location != Cache.Location.CUSTOM:
        return None
    return next((str(root) for root in settings.CACHE_ALLOWED_ROOTS if Path(cache.path).is_relative_to(root)), None)


def own_folders() -> tuple[Path, ...]:
    return (Path.home(), settings.DATA_DIR)


def may_adopt(cache: Cache) -> bool:
    """A folder below a mount root is adopted only with its drive mounted: an empty mount point is no cache."""
    path = Path(cache.path)
    return not lacks_its_drive(path) or path.is_relative_to(settings.DATA_DIR)


def _store(cache: Cache, report: DriveReport) -> CacheSnapshot:
    """One row a slot; the scan's rows, the usage and the shrunken reservations change together."""
    last = cache.snapshots.first()
    if last is not None and report.state != last.state:
        logger.warning("The %s cache (%s) is now %s. %s", cache.location, cache.path, report.state, report.message)
    with transaction.atomic():
        snapshot = _snapshot(cache, report, last=last)
        values = {field: getattr(snapshot, field) for field in _STORED_FIELDS}
        stored, _ = CacheSnapshot.objects.update_or_create(cache=cache, slot=current_slot(), defaults=values)
        if report.uuid and not cache.uuid:
            Cache.objects.filter(pk=cache.pk, uuid="").update(uuid=report.uuid)
        if report.contents is not None:
            _store_repos(cache, report.contents)
            _shrink_reservations(cache, report.contents.repos)
    cache_measured.send(sender=Cache, cache=cache, is_scanned=report.contents is not None)
    return stored


_STORED_FIELDS = [
    "taken_at",
    "figures_at",
    "state",
    "message",
    "used_bytes",
    "disk_total_bytes",
    "disk_used_bytes",
    "disk_free_bytes",
    "inodes_free",
    "device",
    "model_count",
    "duration_seconds",
]


def current_slot() -> int:
    return int(time.time() // settings.CACHE_MONITOR_INTERVAL_SECONDS)


def _snapshot(cache: Cache, report: DriveReport, *, last: CacheSnapshot | None) -> CacheSnapshot:
    """The report as a row; what it does not know is carried over from the last one, with that one's date."""
    row = CacheSnapshot(
        cache=cache, state=report.state, message=report.message, duration_seconds=report.duration_seconds
    )
    if last is not None:
        for field in (*_DISK_FIELDS, "used_bytes", "model_count", "figures_at"):
            setattr(row, field, getattr(last, field))
    if report.disk is not None:
        row.disk_total_bytes, row.disk_used_bytes = report.disk.total_bytes, report.disk.used_bytes
        row.disk_free_bytes, row.inodes_free = report.disk.free_bytes, report.disk.inodes_free
        row.device = report.disk.device
    if report.contents is not None:
        row.used_bytes = report.contents.used_bytes
        row.model_count = sum(repo.repo_type == "model" for repo in report.contents.repos)
        row.figures_at = timezone.now()
    return row


_DISK_FIELDS = ("disk_total_bytes", "disk_used_bytes", "disk_free_bytes", "inodes_free", "device")


def _store_repos(cache: Cache, contents: CacheReport) -> None:
    now = timezone.now()
    rows = [
        CachedRepo(
            cache=cache,
            folder=repo.folder,
            repo_type=repo.repo_type,
            repo_id=repo.repo_id,
            size_bytes=repo.size_bytes,
            partial_bytes=repo.partial_bytes,
            revisions=[asdict(revision) for revision in repo.revisions],
            problems=list(repo.problems),
            seen_at=now,
        )
        for repo in contents.repos
    ]
    CachedRepo.objects.filter(cache=cache).exclude(folder__in=[row.folder for row in rows]).delete()
    changed = ["repo_type", "repo_id", "size_bytes", "partial_bytes", "revisions", "problems", "seen_at"]
    CachedRepo.objects.bulk_create(
        rows, update_conflicts=True, unique_fields=["cache", "folder"], update_fields=changed
    )


def _shrink_reservations(cache: Cache, repos: Iterable[RepoReport]) -> None:
    sizes = {repo.folder: repo.size_bytes for repo in repos}
    for reservation in Reservation.objects.filter(cache=cache):
        reservation.shrink_to(folder_bytes=sizes.get(reservation.folder, 0))
        reservation.save(update_fields=["remaining_bytes"])
