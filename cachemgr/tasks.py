"""What the worker does for the caches. Beat wakes it up."""

from celery import shared_task

from cachemgr import monitor


@shared_task
def measure_caches() -> None:
    monitor.measure_caches()
