"""Running a job: claim, work, and an honest end. The work itself is elsewhere, by its kind."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from django.db import OperationalError, transaction
from django.utils import timezone

from cachemgr.errors import CacheUnavailable, ErrandFailed, RepoBusy
from homelab.errors import HomelabError
from registry import checkups, downloads, folders, moves, removal
from registry.errors import Cancelled, Interrupted, NotNow
from registry.models import Job, ModelRegistry
from registry.services import give_up_download, model_of, wake_worker

logger = logging.getLogger(__name__)

_LONGEST_PAUSE_SECONDS = 3600.0
_WAITS = {CacheUnavailable.code: timedelta(seconds=60), RepoBusy.code: timedelta(seconds=10)}
"""What passes without the job's doing: it waits for as long as that takes, or somebody cancels."""
_FEW_ATTEMPTS = {"hash_mismatch": 2}

stopping = threading.Event()
"""Set when this worker has to stop: running jobs go back to the queue and lose nothing."""


def _leave_alone(job: Job) -> None:
    """For work that leaves nothing half done, and of which a model's row says nothing."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a kind of job does. `run(job, report=)` goes on from wherever an earlier attempt left it. `clean_up(job)`
    takes back what is half done when it ends early; it can be asked twice, and `job.started_at` is None where nothing
    ever began. `begin_again(job)` makes the model's row say that it is tried again, or raises NotNow."""

    run: Callable[..., None]
    clean_up: Callable[[Job], None] = _leave_alone
    begin_again: Callable[[Job], None] = _leave_alone


WORK = {
    Job.Kind.DOWNLOAD: Work(downloads.download, downloads.clean_up, downloads.begin_again),
    Job.Kind.MOVE: Work(moves.move, moves.clean_up, moves.begin_again),
    Job.Kind.VERIFY: Work(checkups.verify),
    Job.Kind.REPAIR: Work(checkups.repair, downloads.clean_up),
    Job.Kind.REMOVE: Work(removal.finish),
}


class Reporter:
    """What a job's work calls now and then: stores progress, and raises when the work has to end."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def __call__(self, *, stage: str, bytes_done: int, bytes_total: int, rate: int = 0) -> None:
        if stopping.is_set():
            raise Interrupted
        if not self.job.beat(stage=stage, bytes_done=bytes_done, bytes_total=bytes_total, rate=rate):
            raise Cancelled


# Running one


def run_job(pk: int) -> str:
    """Runs the job if nobody else does. Answers its state; "waiting" while its drives are busy with another; or
    "duplicate". Safe to call twice, at once or later."""
    job = Job.objects.select_related("model", "source__latest", "target__latest").filter(pk=pk).first()
    if job is None or not job.claim():
        return "waiting" if job and job.state == Job.State.QUEUED else "duplicate"
    pair = job.pair
    try:
        with job.kept_alive():
            _work(job)
    finally:
        _wake_next(pair)
    return job.state


def _work(job: Job) -> None:
    try:
        if job.shall_end:
            raise Cancelled
        WORK[Job.Kind(job.kind)].run(job, report=Reporter(job))
    except Cancelled:
        _end(job, Job.State.CANCELLED)
    except Interrupted:
        job.hand_back()
    except HomelabError as error:
        _fail_or_retry(job, error)
    except OperationalError as error:
        _fail_or_retry(job, _database_away(error))
    except Exception as error:
        logger.exception("Job %s failed in a way that nobody expected", job.pk)
        _end(job, Job.State.FAILED, code="internal_error", message=f"{type(error).__name__}: {error}")
    else:
        job.close(Job.State.DONE)


def _database_away(error: OperationalError) -> ErrandFailed:
    message = f"The database did not take what the job wrote down ({error})."
    return ErrandFailed(message, code="database_unavailable", is_permanent=False)


def _fail_or_retry(job: Job, error: HomelabError) -> None:
    job.refresh_from_db(fields=["cancel_requested", "committed"])
    if job.shall_end:
        return _end(job, Job.State.CANCELLED)
    if error.code in _WAITS:
        return _wait(job, error, pause=_WAITS[error.code], leave=job.hand_back)
    may_help = isinstance(error, ErrandFailed) and not error.is_permanent
    if not may_help or job.attempt >= _FEW_ATTEMPTS.get(error.code, Job.MAX_ATTEMPTS):
        return _end(job, Job.State.FAILED, code=error.code, message=error.message)
    pause = pause_after(job.attempt, asked_seconds=error.details.get("retry_after_seconds", 0))
    _wait(job, error, pause=pause, leave=job.put_back)


def _wait(job: Job, error: HomelabError, *, pause: timedelta, leave: Callable[..., bool]) -> None:
    """Here alone it is sure that there is another try: whoever failed cannot know."""
    logger.warning("Job %s waits %s: %s", job.pk, pause, error.message)
    if leave(pause=pause, error_code=error.code, error_message=f"{error.message} It is tried again."):
        wake_worker(job, pause=pause)


def pause_after(attempt: int, *, asked_seconds: float) -> timedelta:
    """10, 20, 40, 80 seconds; longer where the other side asked for it, an hour at most."""
    return timedelta(seconds=min(_LONGEST_PAUSE_SECONDS, max(5 * 2**attempt, asked_seconds)))


def _end(job: Job, state: Job.State, *, code: str = "", message: str = "") -> None:
    """An early end. What is half done goes while the job is still ours: after a crash in between, it goes again."""
    if not job.renew(stage="cleaning up"):
        return
    left_over = _clean_up(job)
    status = ModelRegistry.Status.FAILED if state == Job.State.FAILED else ModelRegistry.Status.REGISTERED
    with transaction.atomic():
        if job.close(state, error_code=code, error_message=f"{message} {left_over}".strip()):
            give_up_download(job, status=status, error=message)


def _clean_up(job: Job) -> str:
    """A sentence about what could not be removed, or ""."""
    try:
        WORK[Job.Kind(job.kind)].clean_up(job)
    except HomelabError as error:
        return f"What it left behind is still there: {error.message}"
    except Exception as error:
        logger.exception("What job %s left behind could not be removed", job.pk)
        return f"What it left behind is still there: {type(error).__name__}: {error}"
    return ""


def _wake_next(pair: str) -> None:
    """A slot is free: whoever waits longest for these drives."""
    for job in Job.objects.due().filter(pair=pair).exclude(pair="")[:1]:
        wake_worker(job)


# What users ask for


def cancel_job(job: Job) -> Job:
    """One that never began ends at once. Another is told, ends within seconds, and takes back what is half done. Raises
    NotNow."""
    if job.committed and job.is_open:
        raise NotNow(f"Job {job.pk} cannot be cancelled any more: {job.title} is in its new place already.")
    if not job.is_open:
        raise NotNow(f"Job {job.pk} is {job.state} already.")
    if job.take_unbegun():
        _end(job, Job.State.CANCELLED)
    elif Job.objects.open().filter(pk=job.pk).ask_to_end():
        wake_worker(job)
    job.refresh_from_db()
    return job


def retry_job(job: Job) -> Job:
    """Queues a failed or cancelled job again, with all of its attempts. Raises NotNow, JobOpen."""
    ended = Job.objects.filter(pk=job.pk, state__in=[Job.State.FAILED, Job.State.CANCELLED])
    fresh = {"state": Job.State.QUEUED, "attempt": 0, "not_before": timezone.now(), "cancel_requested": False}
    emptied = {"finished_at": None, "error_code": "", "error_message": "", "stage": "", "bytes_done": 0}
    places = [cache for cache in (job.source, job.target) if cache is not None]
    if job.is_open or job.state == Job.State.DONE:
        raise NotNow(f"Job {job.pk} is {job.state}: only a job that failed or was cancelled is tried again.")
    with folders.change(model_of(job), *places, is_alone=job.kind == Job.Kind.MOVE):
        if not ended.update(**fresh, **emptied):
            raise NotNow(f"Job {job.pk} is tried again already.")
        WORK[Job.Kind(job.kind)].begin_again(job)
    transaction.on_commit(lambda: wake_worker(job))
    job.refresh_from_db()
    return job


# Looking after all


def reconcile() -> int:
    """Queues again what lost its worker, and wakes a worker for all that is due. Answers how many it woke for."""
    for job in Job.objects.abandoned():
        if job.take_over():
            with job.kept_alive():
                _take_back(job)
    due = list(Job.objects.due())
    for job in due:
        wake_worker(job)
    return len(due)


def forget_outdated() -> int:
    """Answers how many. What waits or runs stays, however old it is."""
    count, _ = Job.objects.outdated().delete()
    return count


def _take_back(job: Job) -> None:
    if job.attempt < Job.MAX_ATTEMPTS:
        job.put_back(pause=timedelta(0))
        return
    message = f"Its worker died {job.attempt} times. The worker's log may say why; then try it again."
    _end(job, Job.State.FAILED, code="worker_lost", message=message)
