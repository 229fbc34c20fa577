"""What the worker does for inference. Beat wakes it up."""

from celery import shared_task

from inference import stats


@shared_task
def thin_records() -> int:
    return stats.thin()
