"""Moving a model to another cache: a plan that can be shown, then a copy beside the old files, which go last.

    book the space -> copy, verified -> publish -> COMMIT (the rows name the new place) -> old requests end -> files go

Until the commit the model is served from the old place, after it from the new one. Whoever is killed in between reads
in the job's row which of the two it is, and goes on from there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.db import transaction

from cachemgr import locks, monitor, moving, trash
from cachemgr import services as caches
from cachemgr.drive_report import ANSWERING
from cachemgr.errors import CacheUnavailable
from cachemgr.layout import repo_folder
from cachemgr.models import Cache, CachedRepo, CacheSnapshot
from cachemgr.moving import MovePlan
from cachemgr.space import Verdict
from homelab import audit
from registry import folders, services, tidying
from registry.adoption import place_columns
from registry.errors import Cancelled, NotNow, TargetExists
from registry.following import Report, follow
from registry.models import Job, ModelRegistry
from registry.room import owner_of

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
    def landing_bytes(self) -> int:
        """What comes onto the target's filesystem that is not there yet."""
        return _needed_bytes(self.plan) - _lying_bytes(self.plan)

    @property
    def free_after_bytes(self) -> int:
        """On the target's filesystem."""
        return max(0, self.verdict.figures.disk_free_bytes - self.landing_bytes)


def plan_move(model: ModelRegistry, *, cache_location: str, cache_path: str | None = None) -> Move:
    """Asks both drives, and changes nothing on them. Raises NotNow, CacheUnavailable, InvalidValue."""
    source, target = services.cache_of(model), caches.find_cache(cache_location, path=cache_path)
    _refuse_unready(model, source=source, target=target)
    measured = monitor.current_snapshot(target)
    if measured.state not in ANSWERING:
        raise CacheUnavailable(f"{model} cannot be moved to {target.path}: {measured.message or measured.state}")
    plan = _look(source, target, folder=repo_folder(model.hf_path))
    verdict = caches.judge(
        target,
        measured,
        required_bytes=_needed_bytes(plan),
        required_files=plan.file_count,
        lying_bytes=_lying_bytes(plan),
    )
    rows = tuple(ModelRegistry.objects.in_folder(source, model.hf_path))
    return Move(source, target, rows, plan, verdict)


def _refuse_unready(model: ModelRegistry, *, source: Cache, target: Cache) -> None:
    if target.path == source.path:
        raise NotNow(f"{model} is in {source.path} already.")
    if model.status != ModelRegistry.Status.READY:
        raise NotNow(f"{model} is {model.status}: only a model whose files are whole and at hand can be moved.")


def _look(source: Cache, target: Cache, *, folder: str) -> MovePlan:
    """By both drives; for a folder that is no cache yet, and gets no trace of a mere plan, by the last scan."""
    if target.uuid:
        return moving.plan_move(source, target, folder=folder)
    known = CachedRepo.objects.filter(cache=source, folder=folder).first()
    if known is None:
        raise NotNow(f"No scan has found {folder} in {source.path} yet. Measure it (Refresh), then move the model.")
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
    target = caches.find_cache(cache_location, path=cache_path)
    if not target.uuid:
        _make_cache(target, model=model)
    move = plan_move(model, cache_location=cache_location, cache_path=cache_path)
    refuse_what_cannot_be(model, move)
    job = trash.with_room(lambda: _write_down(model, move))
    audit.record_change(model, f"A move from {move.source.path} to {move.target.path} was asked for.")
    transaction.on_commit(lambda: services.wake_worker(job))
    return job


def _make_cache(target: Cache, *, model: ModelRegistry) -> None:
    """Of a folder that is none yet, and may not be there yet, unless something speaks against the move already."""
    source = services.cache_of(model)
    _refuse_unready(model, source=source, target=target)
    folders.refuse_open_work(model, source, is_alone=True)
    if monitor.current_snapshot(target).state in ANSWERING:
        refuse_what_cannot_be(model, plan_move(model, cache_location=target.location, cache_path=target.path))
    monitor.measure_cache(caches.keep(target))  # which adopts it


def refuse_what_cannot_be(model: ModelRegistry, move: Move) -> None:
    """A move needs both drives, now. What does not fit may do so when the trash gave way, but for a folder that is no
    cache yet. Raises CacheUnavailable, TargetExists, JobOpen, InsufficientSpace."""
    if not move.verdict.figures.is_usable:
        raise CacheUnavailable(move.verdict.message)
    if move.plan.target_exists == "other":
        raise TargetExists(
            f"{move.target.path} has a folder {move.plan.folder} with other files. Move it to the trash first "
            f"(manage.py cache_trash), or choose another place."
        )
    if move.target._state.adding and move.verdict.is_refusal:
        raise caches.shortage(move.verdict, cache=move.target, measured=monitor.current_snapshot(move.target))
    known = [cache for cache in (move.source, move.target) if not cache._state.adding]
    folders.refuse_open_work(model, *known, is_alone=True)


def _write_down(model: ModelRegistry, move: Move) -> Job:
    """The rows are read again: the plan is older than the drives' answers, and the emptying of the trash."""
    measured = monitor.current_snapshot(move.target)
    with folders.change(model, move.source, move.target, is_alone=True):
        set_off(model, source=move.source)
        job = Job.objects.create(
            kind=Job.Kind.MOVE,
            model=model,
            source=move.source,
            target=move.target,
            bytes_total=move.plan.size_bytes,
        )
        _book(job, move.plan, measured=measured)
    return job


def set_off(model: ModelRegistry, *, source: Cache) -> None:
    """What is ready in its folder there is on its way from now on. Raises NotNow where the model itself is not."""
    ready = ModelRegistry.objects.in_folder(source, model.hf_path).filter(status=ModelRegistry.Status.READY)
    if not ready.filter(pk=model.pk).exists():
        raise NotNow(f"{model} changed: it is not ready in {source.path} any more. Look at it, and choose again.")
    ready.update(status=ModelRegistry.Status.MOVING, error="")


def _needed_bytes(plan: MovePlan) -> int:
    """A whole copy that lies there is taken, and needs no room."""
    return 0 if plan.target_exists == "same" else plan.size_bytes


def _lying_bytes(plan: MovePlan) -> int:
    return _needed_bytes(plan) if plan.method == "link" else 0


def _book(job: Job, plan: MovePlan, *, measured: CacheSnapshot) -> Verdict:
    assert job.target is not None
    booking = caches.Booking(
        owner_of(job),
        job.hf_path,
        required_bytes=_needed_bytes(plan),
        required_files=plan.file_count,
        replaced_bytes=plan.present_bytes,
        lying_bytes=_lying_bytes(plan),
    )
    with transaction.atomic():
        return caches.book(job.target, booking, measured=measured)


# The work


def move(job: Job, *, report: Report) -> None:
    """The work of a move job, from wherever an earlier attempt left it."""
    if not job.committed:
        with _held(job):
            _carry(job, report=report)
            tidying.require_drives(job)
            _commit(job)
    tidying.leave(job, report=report)


@contextmanager
def _held(job: Job) -> Iterator[None]:
    """Nobody removes the source while it is copied. Who serves from it may go on."""
    source, _ = tidying.ends_of(job)
    with locks.shared(source.home_of(job.hf_path), wait_seconds=_LOCK_SECONDS):
        yield


def _carry(job: Job, *, report: Report) -> None:
    source, target = tidying.ends_of(job)
    report(stage="planning", bytes_done=0, bytes_total=job.bytes_total)
    tidying.require_drives(job)
    plan = moving.plan_move(source, target, folder=repo_folder(job.hf_path), job=str(job.pk))
    monitor.measure_cache(target)  # once the plan has thrown away what an earlier attempt left half
    trash.with_room(lambda: _book(job, plan, measured=monitor.current_snapshot(target)))
    follow(moving.stage(plan), report=report, filling=[target])
    tidying.require_drives(job)
    follow(moving.publish(plan), report=report)
    monitor.measure_cache(target)  # measured first, released after: the bytes are counted at every moment


def _commit(job: Job) -> None:
    """The moment at which the model is in the new place. A cancel that came before it wins. What was ready is so again;
    all others that name the folder go along as they are."""
    source, target = tidying.ends_of(job)
    with transaction.atomic():
        named = [ModelRegistry.objects.in_folder(cache, job.hf_path) for cache in (source, target)]
        rows = ModelRegistry.objects.filter(pk__in=[row.pk for rows in named for row in rows])
        if not rows.filter(jobs=job).exists():
            raise NotNow(f"{job.title} was given another place while it was on its way to {target.path}.")
        if not job.commit():
            raise Cancelled
        rows.filter(status=ModelRegistry.Status.MOVING).update(status=ModelRegistry.Status.READY, error="")
        rows.update(**place_columns(target))
        caches.release(owner_of(job))


def clean_up(job: Job) -> None:
    """After a move that ended before its commit: the copy goes, and the model is where it was."""
    if job.committed:
        return
    source, _ = tidying.ends_of(job)
    rows = ModelRegistry.objects.in_folder(source, job.hf_path)
    with transaction.atomic():
        rows.filter(status=ModelRegistry.Status.MOVING).update(status=ModelRegistry.Status.READY, error="")
        caches.release(owner_of(job))
    if job.started_at is None:  # no drive has anything of it
        return
    monitor.measure_cache(source)  # where that is away, so is the model
    tidying.take_back(job)


def begin_again(job: Job) -> None:
    """What was begun is of no use once the model was set to another place. Raises NotNow."""
    if job.source is None or job.target is None:
        raise NotNow(f"Job {job.pk} cannot be tried again: one of its caches was removed from the list.")
    at_source = ModelRegistry.objects.in_folder(job.source, job.hf_path)
    if job.committed and at_source.exists():
        raise NotNow(f"Job {job.pk} has only to remove the files in {job.source.path}, which are in use there again.")
    if not job.committed and not at_source.filter(jobs=job).exists():
        place = services.cache_path_of(services.model_of(job))
        raise NotNow(f"Job {job.pk} moves {job.title} from {job.source.path}, but it is in {place} now. Move it anew.")
    if not job.committed:
        set_off(services.model_of(job), source=job.source)
