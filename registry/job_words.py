"""How a job is, in words: for the shell, the API and the pages."""

from django.utils import timezone

from cachemgr.units import format_bytes, format_duration
from registry.models import Job
from registry.tidying import describe_kept


def facts_of(job: Job) -> str:
    """How the job is, in a line: "copying: 1.2 GB of 3.0 GB, 120 MB/s, 15 s left"."""
    if job.state == Job.State.RUNNING:
        return ", ".join(_running(job))
    if job.state == Job.State.QUEUED:
        return _waiting(job)
    return _ended(job)


def _running(job: Job) -> list[str]:
    if job.shall_end:
        return ["ending"]
    stage = job.stage or "starting"
    done = f": {format_bytes(job.bytes_done)} of {format_bytes(job.bytes_total)}" if job.bytes_total else ""
    facts = [f"{stage}{done}"]
    if job.rate:
        facts.append(f"{format_bytes(job.rate)}/s")
    if job.eta_seconds is not None:
        facts.append(f"{format_duration(job.eta_seconds)} left")
    return facts if job.attempt <= 1 else [*facts, f"attempt {job.attempt}"]


def _waiting(job: Job) -> str:
    seconds = (job.not_before - timezone.now()).total_seconds()
    if seconds > 0:
        return f"waits {format_duration(seconds)}: {job.error_message}"
    return "ending" if job.shall_end else "waits for its turn"


def _ended(job: Job) -> str:
    facts = f"{job.state}: {job.error_message}" if job.error_message else str(job.state)
    return f"{facts}; {describe_kept(job.kept)}" if job.kept else facts
