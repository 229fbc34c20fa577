"""Measuring: a probe of each drive in its own process, and a snapshot of what it found.

`measure_caches` is what beat does every few minutes and what the Refresh button does at once.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.utils import timezone

from cachemgr.drive_report import ANSWERING
from cachemgr.drives import DriveReport, ProbeRequest, folders_to_make, lacks_its_drive, probe_drive
from cachemgr.errors import CacheUnavailable, ErrandFailed
from cachemgr.layout import repo_folder
from cachemgr.memory import remembered, why_distrusted
from cachemgr.models import Cache, CacheSnapshot
from cachemgr.recording import Measurement, describe, record
from cachemgr.report import FileReport
from cachemgr.signals import cache_measured
from cachemgr.sleeping import io_mark_of, is_asleep
from homelab import audit
from homelab.waking import wake

PROBE_SECONDS = 2.0
REFRESH_SECONDS = 5.0
MONITOR_SECONDS = 120.0
FULL_SCAN_EVERY = timedelta(days=7)
_ASLEEP = DriveReport("ok", "Nothing was read or written on its disk since it was measured, so the disk sleeps on.")


@dataclass(frozen=True, slots=True)
class _Question:
    """A measurement to be made. The database is read before: the threads that ask drives have no part in it."""

    cache: Cache
    request: ProbeRequest
    limit_seconds: float


# Measuring, and keeping what was found


def measure_caches(
    *, limit_seconds: float = MONITOR_SECONDS, full: bool = False, spare_sleeping: bool = False
) -> list[CacheSnapshot]:
    """Measures all listed caches side by side: one that hangs delays no other.

    `full` reads every repo again, also those that seem unchanged. `spare_sleeping` lets disks sleep on that had no
    I/O since they were measured, for an hour at most.
    """
    caches = list(Cache.objects.listed())
    asleep = [cache for cache in caches if spare_sleeping and is_asleep(cache)]
    spared = [record(cache, found=_measurement(_ASLEEP, limit_seconds=limit_seconds)) for cache in asleep]
    awake = [cache for cache in caches if cache not in asleep]
    measured = _measure([_Question(cache, _scan_request(cache, full=full), limit_seconds) for cache in awake])
    return sorted([*spared, *measured], key=lambda snapshot: snapshot.cache_id)


def measure_cache(cache: Cache, *, limit_seconds: float = REFRESH_SECONDS) -> CacheSnapshot:
    row = _fresh(cache)
    (snapshot,) = _measure([_Question(row, _scan_request(row), limit_seconds)])
    return snapshot


def adopt_cache(cache: Cache, *, create: bool, replace: bool) -> CacheSnapshot:
    """Measures a saved cache, and makes its folder ours as far as the owner says so.

    `create` makes missing folders, also on the disk under an empty mount point. `replace` takes a drive whose marker
    is missing or another than the known one. What is refused nevertheless is explained in the snapshot's message. A
    drive that hangs costs a question, and not the time of a scan.
    """
    row = _fresh(cache)
    asked = _ask(_Question(row, _request(row, adopt=None, make="no"), PROBE_SECONDS))
    if asked.report.state == "unresponsive":
        return describe(row, found=asked)
    wishes: dict[str, Any] = {"replace": replace}
    if create:
        wishes["make"] = "all"
    if create or replace:
        wishes["adopt"] = str(uuid4())
    (snapshot,) = _measure([_Question(row, _request(row, scan=True, **wishes), MONITOR_SECONDS)])
    if snapshot.state == "ok":
        audit.record_change(row, f"Adopted{_permissions(create=create, replace=replace)}.")
    return snapshot


def _permissions(**given: bool) -> str:
    words = [name for name, is_given in given.items() if is_given]
    return f", with leave to {' and to '.join(words)}" if words else ""


def _measure(questions: list[_Question]) -> list[CacheSnapshot]:
    """Stores each answer as it comes. Who listens hears of the prompt ones in the order of the caches: the models of
    primary get their names first."""
    with ThreadPoolExecutor(max_workers=max(1, len(questions))) as threads:
        probes = {threads.submit(_ask, question): question for question in questions}
        prompt = {probe: record(probes[probe].cache, found=probe.result()) for probe in _prompt(probes)}
        for probe in [each for each in probes if each in prompt]:
            _tell(probes[probe].cache, probe.result(), stored=prompt[probe])
        late = {}
        for probe in as_completed(probes.keys() - prompt.keys()):
            late[probe] = record(probes[probe].cache, found=probe.result())
            _tell(probes[probe].cache, probe.result(), stored=late[probe])
    return [*prompt.values(), *late.values()]


def _prompt(probes: Iterable[Future[Measurement]]) -> Iterator[Future[Measurement]]:
    with suppress(TimeoutError):
        yield from as_completed(probes, timeout=PROBE_SECONDS)


def _tell(cache: Cache, found: Measurement, *, stored: CacheSnapshot) -> None:
    """A drive that answered but was not read, as while another scan of it runs, is no news; nor is what came late."""
    is_scanned = found.report.contents is not None
    is_news = is_scanned or found.report.state not in ANSWERING
    if is_news and stored.taken_at == found.taken_at:
        cache_measured.send(sender=Cache, cache=cache, is_scanned=is_scanned)


def current_slot() -> int:
    return int(time.time() // settings.CACHE_MONITOR_INTERVAL_SECONDS)


# Asking now


def current_snapshot(cache: Cache, *, limit_seconds: float = PROBE_SECONDS) -> CacheSnapshot:
    """The newest usage with the drive's sizes of this second, not stored. Only a cache that was never read is
    measured in full; where the usage is old, the monitor is woken."""
    row = _fresh(cache)
    found = _ask(_Question(row, _request(row), limit_seconds))
    last, state = row.latest, found.report.state
    if not row._state.adding and (last is None or last.figures_at is None) and state in ANSWERING:
        return measure_cache(row)
    if last is not None and (last.state != state or _is_overdue(last)):
        _wake_monitor()
    return describe(row, found=found)


def require_drive(cache: Cache, *, writable: bool = False) -> CacheSnapshot:
    """Asks the drive before work is begun on it, so that one that hangs costs a question and not the work. Raises
    CacheUnavailable unless it answers; ErrandFailed for one that takes no writes, where the work is to write."""
    snapshot = current_snapshot(cache)
    if snapshot.state not in ANSWERING:
        raise CacheUnavailable(snapshot.message or f"{cache.path} is {snapshot.state}.")
    if writable and snapshot.state == "read_only":
        message = snapshot.message or f"{cache.path} is read-only: nothing can be written to it."
        raise ErrandFailed(message, code="drive_read_only", is_permanent=True)
    return snapshot


def those_that_answer(caches: Sequence[Cache]) -> list[Cache]:
    """Asks all of them side by side, whatever was last known of them."""
    questions = [_Question(cache, _request(cache), PROBE_SECONDS) for cache in caches]
    with ThreadPoolExecutor(max_workers=max(1, len(questions))) as threads:
        found = list(threads.map(_ask, questions))
    return [cache for cache, answer in zip(caches, found, strict=True) if answer.report.state in ANSWERING]


def look_up_repo(
    cache: Cache, *, repo_id: str, limit_seconds: float = REFRESH_SECONDS, describer: str | None = None
) -> DriveReport:
    """What lies in one repo folder at this second: `contents` has that repo alone, or none; `descriptions` what the
    describer says of it, see ProbeRequest."""
    return _look(cache, limit_seconds=limit_seconds, repo=repo_folder(repo_id), describer=describer)


def list_repo_files(
    cache: Cache, *, repo_id: str, limit_seconds: float = REFRESH_SECONDS
) -> tuple[FileReport, ...] | None:
    """The files of one repo as they lie there at this second; None where the drive does not tell."""
    return _look(cache, limit_seconds=limit_seconds, files=repo_folder(repo_id)).files


def _look(cache: Cache, *, limit_seconds: float, **wishes: Any) -> DriveReport:
    row = _fresh(cache)
    return _ask(_Question(row, _request(row, **wishes), limit_seconds)).report


def _is_overdue(last: CacheSnapshot) -> bool:
    return timezone.now() - last.taken_at > timedelta(seconds=2 * settings.CACHE_MONITOR_INTERVAL_SECONDS)


def _wake_monitor() -> None:
    wake("cachemgr.tasks.measure_caches", expires=60, otherwise="The caches are measured after its return.")


def _ask(question: _Question) -> Measurement:
    report = probe_drive(question.request, limit_seconds=question.limit_seconds, lock_folder=settings.RUNTIME_DIR)
    is_full = question.request.known is None
    return _measurement(report, limit_seconds=question.limit_seconds, is_full=is_full, io_mark=io_mark_of(report))


def _measurement(report: DriveReport, *, limit_seconds: float, **values: Any) -> Measurement:
    return Measurement(report, timezone.now(), slot=current_slot(), limit_seconds=limit_seconds, **values)


# What a drive is asked


def _scan_request(cache: Cache, *, full: bool = False) -> ProbeRequest:
    """Repos that are as remembered are not read again, where folder times can be trusted; once a week all are."""
    is_due = cache.full_scan_at is None or abs(timezone.now() - cache.full_scan_at) > FULL_SCAN_EVERY
    distrust = why_distrusted(cache.filesystem)
    known = None if full or is_due or distrust else remembered(cache)
    return _request(cache, scan=True, known=known, distrust=distrust)


def _request(cache: Cache, **wishes: Any) -> ProbeRequest:
    """A mere question, of a cache that is not saved, leaves no trace on the drive; a new cache is adopted."""
    is_new = not cache._state.adding and not cache.uuid
    usual = ProbeRequest(
        path=cache.path,
        uuid=cache.uuid or None,
        adopt=str(uuid4()) if is_new and may_adopt(cache) else None,
        make=folders_to_make(Path(cache.path), own_folders=own_folders()) if is_new else "no",
        root=_allowed_root(cache),
        device=cache.latest.device if cache.latest else None,
        location=cache.location,
    )
    return replace(usual, **wishes)


def _fresh(cache: Cache) -> Cache:
    """The row as it is now: a drive that was adopted meanwhile is not adopted once more."""
    return cache if cache._state.adding else Cache.objects.select_related("latest").get(pk=cache.pk)


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
