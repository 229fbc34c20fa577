"""The end of a move: after the commit the old files go, or the copy goes instead of it. What could not be done because
a drive was away or failed is done when it is back.

done <-- tidied <-- running <-- queued <-- (measured as there, an hour later) -- failed | cancelled
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from cachemgr import locks, monitor, moving
from cachemgr.errors import CacheUnavailable, ErrandFailed, RepoBusy
from cachemgr.layout import repo_folder
from cachemgr.models import Cache
from registry import folders, services, strays
from registry.errors import JobOpen
from registry.following import Report, follow
from registry.models import Job, ModelRegistry
from registry.placing import known_repo

logger = logging.getLogger(__name__)

_LOCK_SECONDS = 1.0
_NAMES_SHOWN = 5
_REST = timedelta(hours=1)
_LEFT_OVER = "left_over"  # in a job's options: its copy still lies on the target


def ends_of(job: Job) -> tuple[Cache, Cache]:
    """Source and target."""
    assert job.source is not None
    assert job.target is not None
    return job.source, job.target


def require_drives(job: Job) -> None:
    """Before each step: a child on a drive that hangs costs a minute, and may not end. Raises CacheUnavailable, or
    ErrandFailed for a target that takes no writes."""
    source, target = ends_of(job)
    monitor.require_drive(source)
    monitor.require_drive(target, writable=True)


# After the commit


def leave(job: Job, *, report: Report) -> None:
    """Waits until nobody serves from the old files, and removes them, unless something speaks against it: then the job
    is done with that sentence."""
    source, target = ends_of(job)
    with _alone(source.home_of(job.hf_path), report=report, bytes_total=job.bytes_total):
        require_drives(job)
        reason = _why_they_stay(job)
        if reason:
            moving.abandon(target, job=str(job.pk))  # its staging alone
        else:
            errand = moving.leave(source, target, folder=repo_folder(job.hf_path), job=str(job.pk))
            _tell_kept(job, follow(errand, report=report)["kept"])
    monitor.measure_cache(source)
    if reason:
        logger.warning("Job %s: %s", job.pk, reason)
        job.close(Job.State.DONE, error_message=reason)


def _why_they_stay(job: Job) -> str:
    """ "" for old files that may go: no model names them, and one names the copy."""
    source, target = ends_of(job)
    place = f"The old files in {source.path}/{repo_folder(job.hf_path)} stay"
    named = ModelRegistry.objects.in_folder(source, job.hf_path)
    if names := ", ".join(str(row) for row in named):
        return f"{place}: they are those of {names}."
    if ModelRegistry.objects.in_folder(target, job.hf_path).exists() or known_repo(source, job.hf_path) is None:
        return ""
    proof = f"no model is in {target.path} any more that proves them a second copy"
    return f"{place}: {proof}. Where they are of no use, remove them by hand."


@contextmanager
def _alone(folder: Path, *, report: Report, bytes_total: int) -> Iterator[None]:
    while True:
        try:
            lock = locks.exclusive(folder, wait_seconds=_LOCK_SECONDS)
        except RepoBusy:
            report(stage="waiting for requests", bytes_done=bytes_total, bytes_total=bytes_total)
            continue
        with lock:
            yield
        return


def _tell_kept(job: Job, kept: Sequence[str]) -> None:
    """What is not what was moved, or lies on a drive that takes no writes, stays, and is named."""
    job.renew(options=job.options | {"kept": list(kept)})
    if kept:
        logger.warning("Job %s, from %s: %s", job.pk, ends_of(job)[0].path, describe_kept(kept))
        job.renew(stage=_count(kept))


def describe_kept(kept: Sequence[str]) -> str:
    """ "2 files stay at the source: a, b" """
    return f"{_count(kept)}: {', '.join(kept[:_NAMES_SHOWN])}{', ...' if len(kept) > _NAMES_SHOWN else ''}"


def _count(kept: Sequence[str]) -> str:
    return f"{'1 file stays' if len(kept) == 1 else f'{len(kept)} files stay'} at the source"


# Instead of the commit


def take_back(job: Job) -> None:
    """The copy goes. Where that fails it is written down, for later. Raises CacheUnavailable, ErrandFailed."""
    source, target = ends_of(job)
    try:
        monitor.require_drive(target, writable=True)
        moving.abandon(target, job=str(job.pk), source=source)
    except (CacheUnavailable, ErrandFailed):
        job.renew(options=job.options | {_LEFT_OVER: True})
        raise
    job.renew(options={name: value for name, value in job.options.items() if name != _LEFT_OVER})


# Later


def follow_measurement(*, cache: Cache, is_scanned: bool, **_: Any) -> None:
    """Receives cachemgr's `cache_measured`."""
    if not is_scanned:
        return
    for job in _untidy(cache):
        source, target = ends_of(job)
        if strays.answers(target) and (strays.answers(source) or not job.committed):
            _queue_again(job)


def _untidy(cache: Cache) -> QuerySet[Job]:
    """Moves that ended at this cache and left something behind; not at once again where a drive fails each time."""
    ended = Job.objects.filter(kind=Job.Kind.MOVE, finished_at__lte=timezone.now() - _REST)
    stays = Q(state=Job.State.FAILED, committed=True, model__status=ModelRegistry.Status.READY)
    copy = Q(state__in=[Job.State.FAILED, Job.State.CANCELLED], committed=False, **{f"options__{_LEFT_OVER}": True})
    there = ended.filter(stays | copy).filter(Q(source=cache) | Q(target=cache))
    whole = there.exclude(model=None).exclude(source=None).exclude(target=None)
    return whole.select_related("model", "source__latest", "target__latest")


def _queue_again(job: Job) -> None:
    """To its end if it was committed, else to take back what it did. Whoever works on these files comes first."""
    source, target = ends_of(job)
    fresh = {"state": Job.State.QUEUED, "attempt": 0, "not_before": timezone.now(), "finished_at": None}
    try:
        with folders.change(services.model_of(job), source, target, is_alone=True):
            ended = Job.objects.filter(pk=job.pk, state=job.state, finished_at=job.finished_at)
            is_queued = ended.update(**fresh, cancel_requested=not job.committed) == 1
    except JobOpen:
        return
    if is_queued:
        logger.warning("Job %s (%s %s) is queued again: it tidies up.", job.pk, job.state, job.error_message)
        transaction.on_commit(lambda: services.wake_worker(job))
