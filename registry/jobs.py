"""Running a job: claim, work, and an honest end. The work itself is elsewhere (downloads.py)."""

import logging
import threading
from datetime import timedelta

from django.db import transaction

from cachemgr.errors import ErrandFailed
from homelab.errors import HomelabError
from registry.downloads import download
from registry.models import Job, ModelRegistry
from registry.services import give_up_download, wake_worker

logger = logging.getLogger(__name__)

_WORK = {Job.Kind.DOWNLOAD: download}

stopping = threading.Event()
"""Set when this worker has to stop: running jobs go back to the queue and lose nothing."""


class Cancelled(Exception):
    """The user asked for the end, or the lease went to another worker."""


class Interrupted(Exception):
    """The worker stops."""


class Reporter:
    """What a job's work calls now and then: stores progress, and raises when the work has to end."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def __call__(self, *, stage: str, bytes_done: int, bytes_total: int, rate: int = 0) -> None:
        if stopping.is_set():
            raise Interrupted
        if not self.job.beat(stage=stage, bytes_done=bytes_done, bytes_total=bytes_total, rate=rate):
            raise Cancelled


def run_job(pk: int) -> str:
    """Runs the job if nobody else does. Answers its state, or "duplicate". Safe to call twice, at once or later."""
    job = Job.objects.select_related("model").filter(pk=pk).first()
    if job is None or not job.claim():
        return "duplicate"
    try:
        _WORK[Job.Kind(job.kind)](job, report=Reporter(job))
    except Cancelled:
        _end(job, Job.State.CANCELLED, model_status=ModelRegistry.Status.REGISTERED)
    except Interrupted:
        job.put_back(pause=timedelta(0))
    except HomelabError as error:
        _fail_or_retry(job, error)
    except Exception as error:
        logger.exception("Job %s failed in a way that nobody expected", job.pk)
        _fail(job, code="internal_error", message=f"{type(error).__name__}: {error}")
    else:
        job.close(Job.State.DONE)
    return job.state


def _fail_or_retry(job: Job, error: HomelabError) -> None:
    may_help = isinstance(error, ErrandFailed) and not error.is_permanent
    attempts = 2 if error.code == "hash_mismatch" else Job.MAX_ATTEMPTS
    if not may_help or job.attempt >= attempts:
        return _fail(job, code=error.code, message=error.message)
    pause = timedelta(seconds=5 * 2**job.attempt)
    logger.warning("Job %s waits %s after: %s", job.pk, pause, error.message)
    job.put_back(pause=pause, error_code=error.code, error_message=error.message)


def _fail(job: Job, *, code: str, message: str) -> None:
    _end(job, Job.State.FAILED, model_status=ModelRegistry.Status.FAILED, code=code, message=message)


def _end(job: Job, state: Job.State, *, model_status: ModelRegistry.Status, code: str = "", message: str = "") -> None:
    with transaction.atomic():
        if job.close(state, error_code=code, error_message=message):
            give_up_download(job.model, status=model_status, error=message)


def reconcile() -> int:
    """Queues again what lost its worker, and wakes a worker for all that is due. Answers how many it woke for."""
    for job in Job.objects.abandoned():
        _take_back(job)
    due = list(Job.objects.due())
    for job in due:
        wake_worker(job)
    return len(due)


def _take_back(job: Job) -> None:
    """Only if the lease is still the one that was judged: its worker may have come back since."""
    lost = Job.objects.filter(pk=job.pk, state=Job.State.RUNNING, lease_owner=job.lease_owner)
    if job.attempt < Job.MAX_ATTEMPTS:
        lost.update(state=Job.State.QUEUED, lease_owner="", lease_expires_at=None, rate=0)
        return
    message = f"Its worker died {job.attempt} times. The worker's log may say why; then download it again."
    if lost.update(state=Job.State.FAILED, lease_owner="", error_code="worker_lost", error_message=message):
        give_up_download(job.model, status=ModelRegistry.Status.FAILED, error=message)
