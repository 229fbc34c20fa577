"""Waking a worker by the name of a task. Rows are what counts: a message that is lost or doubled changes nothing."""

import logging
from typing import Any

from celery import current_app
from kombu.exceptions import OperationalError

logger = logging.getLogger(__name__)


def wake(task: str, *, otherwise: str, **options: Any) -> bool:
    """False, and a line in the log, where the broker is away. `otherwise` says there what becomes of the work;
    `options` are those of Celery's send_task."""
    try:
        current_app.send_task(task, **options)
    except OperationalError as error:
        logger.warning("The broker does not answer (%s). %s", error, otherwise)
        return False
    return True
