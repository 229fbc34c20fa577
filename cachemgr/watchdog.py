"""Steps in for a beat that is silent: one that died, or that waits because the clock was set back.

It goes by the monotonic clock, which nobody sets, and by what the database shows: whoever measures, it is content.
"""

import logging
import threading
import time
from collections.abc import Hashable

from django.conf import settings
from django.db import DatabaseError, connection

from cachemgr import monitor
from cachemgr.models import Cache
from homelab.waking import wake

logger = logging.getLogger(__name__)

_LEAST_SECONDS = 5.0
_OURS = "cachemgr.tasks.measure_caches"


class Watch:
    """Remembers since when a sign of life is the same. Times are in seconds of a clock that only goes on."""

    def __init__(self, *, limit_seconds: float, now: float) -> None:
        self.limit_seconds = limit_seconds
        self.sign: Hashable = None
        self.changed_at = now

    def is_silent(self, sign: Hashable, *, now: float) -> bool:
        """True when the sign has not changed for longer than the limit; then the limit begins anew."""
        if sign != self.sign:
            self.sign, self.changed_at = sign, now
            return False
        if now - self.changed_at <= self.limit_seconds:
            return False
        self.changed_at = now
        return True


def start(stopping: threading.Event) -> threading.Thread:
    """Watches in a thread of the worker until `stopping` is set."""
    thread = threading.Thread(target=watch, args=[stopping], name="watchdog", daemon=True)
    thread.start()
    return thread


def watch(stopping: threading.Event) -> None:
    limit_seconds = max(_LEAST_SECONDS, 2 * settings.CACHE_MONITOR_INTERVAL_SECONDS)
    beat = Watch(limit_seconds=limit_seconds, now=time.monotonic())
    while not stopping.wait(min(30.0, limit_seconds / 8)):
        try:
            if beat.is_silent(last_measurements(), now=time.monotonic()):
                stand_in()
        except DatabaseError as error:
            logger.warning("The watchdog cannot look: %s", error)
        finally:
            connection.close()


def last_measurements() -> Hashable:
    """Changes with each measurement that is stored, by whatever process."""
    return tuple(Cache.objects.order_by("pk").values_list("latest_id", "latest__taken_at"))


def stand_in() -> None:
    """Does what beat should have: measures at once, and wakes the workers for all else that is due by the clock."""
    seconds = 2 * settings.CACHE_MONITOR_INTERVAL_SECONDS
    logger.error(
        "No cache was measured for %s s: beat is dead, or waits because the clock was set back. Measuring without it. "
        "Restart the server if this is said again and again.",
        seconds,
    )
    monitor.measure_caches(spare_sleeping=True)
    others = {str(entry["task"]) for entry in settings.CELERY_BEAT_SCHEDULE.values()} - {_OURS}
    for task in sorted(others):
        if not wake(task, expires=seconds, otherwise="What else is due waits for its return."):
            break
