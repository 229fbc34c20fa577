"""What the worker does for the caches. Beat wakes it up."""

from typing import Any

from celery import shared_task
from celery.signals import worker_ready

from cachemgr import history, monitor, recovery, speed, trash, webhook


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


@shared_task
def tend_trash() -> int:
    """What was cut short is finished, and what lay there long enough goes. Answers the freed bytes."""
    recovery.recover()
    return trash.empty_expired()


@worker_ready.connect
def look_into_trash(**_: Any) -> None:
    """At the start: a crash may have cut a removal short. One of the two workers does it."""
    tend_trash.apply_async(expires=60)
