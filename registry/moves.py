"""Moving a model to another cache: a plan that can be shown, then a copy beside the old files, which go last.

    book the space -> copy, verified -> publish -> COMMIT (the rows name the new place) -> old requests end -> files go

Until the commit the model is served from the old place, after it from the new one. Whoever is killed in between reads
in the job's row which of the two it is, and goes on from there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import IntegrityError, transaction

from cachemgr import locks, monitor, moving, trash
from cachemgr import services as caches
from cachemgr.drive_report import ANSWERING
from cachemgr.errors import CacheUnavailable, RepoBusy
from cachemgr.layout import repo_folder
from cachemgr.models import Cache, CachedRepo
from cachemgr.moving import MovePlan
from cachemgr.space import Verdict
from registry import services
from registry.adoption import place_columns
from registry.errors import Cancelled, JobOpen, NotNow, TargetExists
from registry.following import Report, follow
from registry.models import Job, ModelRegistry

_LOCK_SECONDS = 1.0


# Planning, and asking for it


@dataclass(frozen=True, slots=True)
class Move:
    """A move that was thought through, and not begun. `rows` are all models that lie in that folder: they go along."""

    source: Cache
    target: Cache
    rows: tuple[ModelRegistry, ...]
    plan: MovePlan
    verdict: Verdict

    @property
    def seconds(self) -> float | None:
        """At the measured speeds of both drives: once through the slower one, and once more to read it back."""
        if self.plan.method == "link":
            return 0.0
        speeds = [self.source.read_bytes_per_second, self.target.read_bytes_per_second]
        if not all(speeds):
            return None
        slower, target = min(speed for speed in speeds if speed), speeds[1] or 1
        return self.plan.size_bytes / slower + self.plan.size_bytes / target

    @property
    def free_after_bytes(self) -> int:
        """On the target's filesystem."""
        landing_bytes = self.plan.size_bytes - _lying_bytes(self.plan)
        return max(0, self.verdict.figures.disk_free_bytes - landing_bytes)


def plan_move(model: ModelRegistry, *, cache_location: str, cache_path: str | None = None) -> Move:
    """Asks both drives, and changes nothing on them. Raises NotNow, CacheUnavailable, InvalidValue."""
    source, target = services.cache_of(model), caches.find_cache(cache_location, path=cache_path)
    if target.path == source.path:
        raise NotNow(f"{model} is in {source.path} already.")
    if model.status != ModelRegistry.Status.READY:
        raise NotNow(f"{model} is {model.status}: only a model whose files are whole and at hand can be moved.")
    measured = monitor.current_snapshot(target)
    if measured.state not in ANSWERING:
        raise CacheUnavailable(f"{model} cannot be moved to {target.path}: {measured.message or measured.state}")
    plan = _look(source, target, folder=repo_folder(model.hf_path))
    verdict = caches.judge(
        target,
        measured,
        required_bytes=plan.size_bytes,
        required_files=plan.file_count,
        lying_bytes=_lying_bytes(plan),
    )
    rows = tuple(ModelRegistry.objects.in_cache(source).filter(hf_path=model.hf_path))
    return Move(source, target, rows, plan, verdict)


def _look(source: Cache, target: Cache, *, folder: str) -> MovePlan:
    """By both drives; for a folder that is no cache yet, and gets no trace of a mere plan, by the last scan."""
    if target.uuid:
        return moving.plan_move(source, target, folder=folder)
    known = CachedRepo.objects.get(cache=source, folder=folder)
    note = f"{target.path} is no cache yet: what its drive takes is found out when it becomes one."
    return MovePlan(
        source=source,
        target=target,
        folder=folder,
        job=moving.DRY_RUN,
        method="copy",
        layout=known.layout,
        file_count=known.file_count,
        size_bytes=known.size_bytes,
        bytes_to_write=known.size_bytes,
        present_bytes=0,
        target_exists="",
        skipped=(),
        problems=(note,),
    )


def request_move(model: ModelRegistry, *, cache_location: str, cache_path: str | None = None) -> Job:
    """Books the space and queues the move. Raises what `plan_move` raises, TargetExists, InsufficientSpace, JobOpen."""
    monitor.measure_cache(
        caches.keep(caches.find_cache(cache_location, path=cache_path))
    )  # a new one is adopted by this
    move = plan_move(model, cache_location=cache_location, cache_path=cache_path)
    refuse_what_cannot_be(move)
    try:
        job = trash.with_room(lambda: _write_down(model, move))
    except IntegrityError:
        raise JobOpen(f"{model} has unfinished work. Wait for it, or cancel it under Jobs.") from None
    transaction.on_commit(lambda: services.wake_worker(job))
    return job


def refuse_what_cannot_be(move: Move) -> None:
    """A move needs both drives, now. Raises CacheUnavailable, TargetExists, JobOpen."""
    if not move.verdict.figures.is_usable:
        raise CacheUnavailable(move.verdict.message)
    if move.plan.target_exists == "other":
        raise TargetExists(
            f"{move.target.path} has a folder {move.plan.folder} with other files. Move it to the trash first "
            f"(manage.py cache_trash), or choose another place."
        )
    busy = Job.objects.open().filter(model__in=move.rows).select_related("model").first()
    if busy is not None:
        raise JobOpen(f"{busy.model} has unfinished work ({busy.kind}). Wait for it, or cancel it under Jobs.")


def _write_down(model: ModelRegistry, move: Move) -> Job:
    measured = monitor.current_snapshot(move.target)
    with transaction.atomic():
        job = Job.objects.create(
            kind=Job.Kind.MOVE,
            model=model,
            source=move.source,
            target=move.target,
            bytes_total=move.plan.size_bytes,
        )
        _mark(move.rows, ModelRegistry.Status.MOVING)
        _book(job, move.plan, measured=measured)
    return job


def _mark(rows: Any, status: ModelRegistry.Status) -> None:
    for row in rows:
        row.mark(status)


def _lying_bytes(plan: MovePlan) -> int:
    return plan.size_bytes if plan.method == "link" else 0


def _book(job: Job, plan: MovePlan, *, measured: Any) -> Verdict:
    assert job.target is not None
    booking = caches.Booking(
        owner_of(job),
        job.model.hf_path,
        required_bytes=0 if plan.target_exists == "same" else plan.size_bytes,
        required_files=plan.file_count,
        replaced_bytes=plan.present_bytes,
        lying_bytes=_lying_bytes(plan),
    )
    with transaction.atomic():
        return caches.book(job.target, booking, measured=measured)


def owner_of(job: Job) -> str:
    """The job's name in the cache manager's reservations."""
    return f"job:{job.pk}"


# The work


def move(job: Job, *, report: Report) -> None:
    """The work of a move job, from wherever an earlier attempt left it."""
    if not job.committed:
        with _held(job):
            _carry(job, report=report)
            _commit(job)
    _leave(job, report=report)


@contextmanager
def _held(job: Job) -> Iterator[None]:
    """Nobody removes the source while it is copied. Who serves from it may go on."""
    with locks.shared(_folder(job.source, job), wait_seconds=_LOCK_SECONDS):
        yield


def _carry(job: Job, *, report: Report) -> None:
    source, target = _both(job)
    report(stage="planning", bytes_done=0, bytes_total=job.bytes_total)
    monitor.measure_cache(target)
    plan = moving.plan_move(source, target, folder=repo_folder(job.model.hf_path), job=str(job.pk))
    trash.with_room(lambda: _book(job, plan, measured=monitor.current_snapshot(target)))
    follow(moving.stage(plan), report=report, filling=[target])
    follow(moving.publish(plan), report=report)
    monitor.measure_cache(target)  # measured first, released after: the bytes are counted at every moment


def _commit(job: Job) -> None:
    """The moment at which the model is in the new place. A cancel that came before it wins."""
    source, target = _both(job)
    with transaction.atomic():
        rows = list(ModelRegistry.objects.in_cache(source).filter(hf_path=job.model.hf_path))
        if not job.commit():
            raise Cancelled
        for row in rows:
            row.mark(ModelRegistry.Status.READY, **place_columns(target))
        caches.release(owner_of(job))


def _leave(job: Job, *, report: Report) -> None:
    """Waits until nobody serves from the old files, and removes them."""
    source, target = _both(job)
    with _alone(_folder(source, job), report=report, bytes_total=job.bytes_total):
        follow(moving.leave(source, target, folder=repo_folder(job.model.hf_path), job=str(job.pk)), report=report)
    monitor.measure_cache(source)


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


def clean_up(job: Job) -> None:
    """After a move that ended before its commit: the copy goes, and the model is where it was."""
    if job.committed:
        return
    source, target = _both(job)
    rows = ModelRegistry.objects.in_cache(source).filter(hf_path=job.model.hf_path, status=ModelRegistry.Status.MOVING)
    with transaction.atomic():
        _mark(rows, ModelRegistry.Status.READY)
        caches.release(owner_of(job))
    if job.started_at is not None:  # else no drive has anything of it
        moving.abandon(target, job=str(job.pk), source=source)


def _both(job: Job) -> tuple[Cache, Cache]:
    assert job.source is not None
    assert job.target is not None
    return job.source, job.target


def _folder(cache: Cache | None, job: Job) -> Path:
    assert cache is not None
    return Path(cache.path) / repo_folder(job.model.hf_path)
