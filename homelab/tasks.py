"""What the worker does for the project itself. Beat wakes it up."""

from celery import shared_task

from homelab import audit


@shared_task
def forget_history() -> int:
    return audit.forget_outdated()
