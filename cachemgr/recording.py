"""What a measurement writes, all in one transaction: the snapshot of its slot, the repos, what the drive is, and what
of the promised bytes has landed. So used plus reserved is the same for every reader, at every moment.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime

from django.db import transaction
from django.utils import timezone

from cachemgr import events
from cachemgr.drive_report import ANSWERING
from cachemgr.drives import DriveReport
from cachemgr.memory import store_repos, why_distrusted
from cachemgr.models import Cache, CacheSnapshot, Reservation, TrashedRepo
from cachemgr.report import CacheReport, ForeignReport

_FOREIGN_SHOWN = 200  # a path that is no cache at all may hold anything


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a probe found, and when it came back. `slot` is the number of the monitor's interval.

    `limit_seconds` is how long the drive had to answer; `is_full` says that no repo was taken over as remembered;
    `io_mark` counts what its disk has read and written until then.
    """

    report: DriveReport
    taken_at: datetime
    slot: int
    limit_seconds: float
    is_full: bool = True
    io_mark: str = ""


def record(cache: Cache, *, found: Measurement) -> CacheSnapshot:
    """One row a slot: a second measurement of it, or a clock that was set back, writes over the first.

    A measurement that comes back late, when a younger one is stored already, changes nothing.
    """
    with transaction.atomic():
        row = Cache.objects.select_for_update(of=("self",)).select_related("latest").get(pk=cache.pk)
        last = row.latest
        if last is not None and found.taken_at < last.taken_at <= timezone.now():
            return last
        snapshot = describe(row, found=found)
        values = {field: getattr(snapshot, field) for field in _STORED_FIELDS}
        row.latest, _ = CacheSnapshot.objects.update_or_create(cache=row, slot=found.slot, defaults=values)
        _remember_drive(row, found.report, last=last)
        if found.report.contents is not None:
            _remember_scan(row, found.report.contents, found=found)
        row.save()
        events.notice(row, waited_seconds=found.limit_seconds)
    return row.latest


def describe(cache: Cache, *, found: Measurement) -> CacheSnapshot:
    """The measurement as a row that is not saved; what it does not know is the cache's last one, with its date."""
    report, last = found.report, cache.latest
    snapshot = CacheSnapshot(
        cache=cache,
        taken_at=found.taken_at,
        state=report.state,
        message=report.message,
        duration_seconds=report.duration_seconds,
    )
    if last is not None:
        for field in (*_DISK_FIELDS, *_CONTENT_FIELDS, "figures_at"):
            setattr(snapshot, field, getattr(last, field))
    if report.disk is not None:
        for field, name in _DISK_FIELDS.items():
            setattr(snapshot, field, getattr(report.disk, name))
    if report.contents is not None:
        _describe_contents(snapshot, report.contents)
        snapshot.figures_at = found.taken_at
    return snapshot


def _describe_contents(snapshot: CacheSnapshot, contents: CacheReport) -> None:
    snapshot.used_bytes = contents.used_bytes
    snapshot.physical_bytes = contents.physical_bytes
    snapshot.foreign_bytes = contents.foreign_bytes
    snapshot.model_count = sum(repo.repo_type == "model" for repo in contents.repos)


_DISK_FIELDS = {
    "disk_total_bytes": "total_bytes",
    "disk_used_bytes": "used_bytes",
    "disk_free_bytes": "free_bytes",
    "inodes_free": "inodes_free",
    "device": "device",
    "host_device": "host_device",
    "host_free_bytes": "host_free_bytes",
}
_CONTENT_FIELDS = ("used_bytes", "physical_bytes", "foreign_bytes", "model_count")
_STORED_FIELDS = (*_DISK_FIELDS, *_CONTENT_FIELDS, "taken_at", "figures_at", "state", "message", "duration_seconds")


def _remember_drive(cache: Cache, report: DriveReport, *, last: CacheSnapshot | None) -> None:
    """Another drive than before has another speed. A device number alone may be new after each restart."""
    if report.uuid and report.uuid != cache.uuid and report.state in ANSWERING:
        cache.uuid, cache.read_bytes_per_second, cache.speed_measured_at = report.uuid, None, None
    if report.disk is not None and last is not None and report.disk.device != last.device:
        cache.speed_measured_at = None
    if report.filesystem is not None:
        cache.filesystem = _storable(report.filesystem.kind)[:32]
        cache.mount_point = _storable(report.filesystem.mount_point)[:1024]
        if report.filesystem.takes_links is not None:
            cache.takes_links = report.filesystem.takes_links


def _storable(name: str) -> str:
    """A kernel's name as text that a database takes: it is bytes, and not always UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode()


def _remember_scan(cache: Cache, contents: CacheReport, *, found: Measurement) -> None:
    cache.foreign = _as_json(contents.foreign)
    cache.scan_problems = list(contents.problems)
    cache.scan_distrust = contents.distrust or why_distrusted(cache.filesystem)
    cache.io_mark = found.io_mark
    if found.is_full:
        cache.full_scan_at = found.taken_at
    still_there = _without_removed(cache, contents)
    store_repos(cache, still_there.repos)
    _shrink_reservations(cache, still_there)


def _without_removed(cache: Cache, contents: CacheReport) -> CacheReport:
    """What went to the trash while the scan ran may have been seen in its place. The next scan tells what is there."""
    assert cache.latest is not None
    removed = TrashedRepo.objects.gone_since(cache.latest.began_at, cache=cache)
    return replace(contents, repos=tuple(repo for repo in contents.repos if repo.folder not in removed))


def _as_json(foreign: Iterable[ForeignReport]) -> list[dict[str, object]]:
    """The largest, largest first."""
    in_order = sorted(foreign, key=lambda each: (-each.size_bytes, each.name))
    return [asdict(each) for each in in_order[:_FOREIGN_SHOWN]]


def _shrink_reservations(cache: Cache, contents: CacheReport) -> None:
    """By what lies in the repo's folder, and by what a move has staged for it."""
    sizes = Counter({repo.folder: repo.size_bytes for repo in contents.repos}) + Counter(contents.staged)
    for reservation in Reservation.objects.filter(cache=cache):
        reservation.shrink_to(folder_bytes=sizes[reservation.folder])
        reservation.save(update_fields=["remaining_bytes"])
