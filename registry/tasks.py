"""What workers do for the registry. A message is a wake-up: the row decides."""

from typing import Any

from celery import shared_task
from celery.signals import worker_ready, worker_shutting_down

from cachemgr.tasks import measure_caches
from registry import checkups, jobs


@shared_task
def run_job(pk: int) -> str:
    return jobs.run_job(pk)


@shared_task
def reconcile_jobs() -> int:
    return jobs.reconcile()


@shared_task
def scrub() -> int:
    """At night: models are read again, as many bytes as a night may read. Answers how many."""
    return len(checkups.scrub_tonight())


@shared_task
def forget_jobs() -> int:
    return jobs.forget_outdated()


@worker_ready.connect
def look_around(**_: Any) -> None:
    """At the start: what lies in the caches, and which jobs lost their worker. One of the two workers does it."""
    measure_caches.apply_async(expires=60)
    reconcile_jobs.apply_async(expires=60)


@worker_shutting_down.connect
def put_jobs_back(**_: Any) -> None:
    jobs.stopping.set()
