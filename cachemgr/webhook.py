"""Events on their way to the owner's webhook. The rows are the queue: what could not be sent is tried again, with
pauses that double up to a day, for a week.
"""

import logging
from datetime import datetime, timedelta
from typing import Any

import httpx2
from django.conf import settings
from django.utils import timezone

from cachemgr.models import CacheEvent

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 10.0
_LONGEST_PAUSE_MINUTES = 24 * 60
_NEWS_FOR = timedelta(days=7)
_AT_ONCE = 100


def send_events(*, now: datetime | None = None) -> int:
    """Sends what is due, oldest first, and stops at the first that is not taken. Answers how many were."""
    now = now or timezone.now()
    if not settings.CACHE_EVENT_WEBHOOK_URL:
        return 0
    unsent = CacheEvent.objects.filter(sent_at=None, happened_at__gt=now - _NEWS_FOR).select_related("cache")
    due = [event for event in unsent.order_by("pk") if is_due(event, now=now)]
    return _send_in_order(due[:_AT_ONCE]) if due else 0


def _send_in_order(events: list[CacheEvent]) -> int:
    sent = 0
    with httpx2.Client(timeout=TIMEOUT_SECONDS) as client:
        for event in filter(claim, events):
            if not _send(client, event):
                break
            sent += 1
    return sent


def is_due(event: CacheEvent, *, now: datetime) -> bool:
    """At once, and again after 1, 2, 4, 8, ... minutes. A clock that was set back makes nobody wait."""
    minutes = sum(min(2**number, _LONGEST_PAUSE_MINUTES) for number in range(event.attempts))
    return event.attempts == 0 or now >= event.happened_at + timedelta(minutes=minutes)


def claim(event: CacheEvent) -> bool:
    """The attempt is counted before it is made, by one worker alone."""
    mine = CacheEvent.objects.filter(pk=event.pk, attempts=event.attempts, sent_at=None)
    return bool(mine.update(attempts=event.attempts + 1))


def _send(client: httpx2.Client, event: CacheEvent) -> bool:
    """The address may hold a secret: only the host is ever logged."""
    url = httpx2.URL(settings.CACHE_EVENT_WEBHOOK_URL)
    try:
        client.post(url, json=body_of(event)).raise_for_status()
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        reason = f"{type(error).__name__}"
        if isinstance(error, httpx2.HTTPStatusError):
            reason = f"HTTP {error.response.status_code}"
        logger.warning("The webhook at %s did not take event %s (%s). It is tried again.", url.host, event.pk, reason)
        return False
    CacheEvent.objects.filter(pk=event.pk).update(sent_at=timezone.now())
    return True


def body_of(event: CacheEvent) -> dict[str, Any]:
    """`text` and `content` are what chat services show of a webhook's message."""
    return {
        "id": event.pk,
        "kind": event.kind,
        "cache_location": event.cache.location,
        "cache_path": event.cache.path,
        "before": event.before,
        "after": event.after,
        "message": event.message,
        "happened_at": event.happened_at.isoformat(),
        "text": event.message,
        "content": event.message,
    }
