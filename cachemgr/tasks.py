"""What the worker does for the caches. Beat wakes it up."""

from celery import shared_task

from cachemgr import history, monitor, speed, webhook


@shared_task
def measure_caches() -> None:
    monitor.measure_caches(spare_sleeping=True)
    speed.measure_due()


@shared_task
def send_events() -> int:
    return webhook.send_events()


@shared_task
def thin_history() -> int:
    return history.thin()
