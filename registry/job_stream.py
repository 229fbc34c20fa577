"""Changes of jobs as they come: for the API's event stream, and for the shell."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

from asgiref.sync import sync_to_async
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Max, Q

from registry.job_serializers import JobSerializer
from registry.models import Job

LOOK_SECONDS = 0.5
_QUIET_SECONDS = 10.0


class JobWatch:
    """Remembers what it saw. Rows are compared by "is it the same moment", never by "is it later": clocks step."""

    def __init__(self) -> None:
        self._seen: dict[int, Job] = {}
        self._newest = Job.objects.aggregate(pk=Max("pk"))["pk"] or 0

    def changed(self) -> list[Job]:
        """At first each open job; then each that began, went on or ended since, oldest first. One small query while
        nothing changes."""
        is_watched = Q(state__in=Job.OPEN) | Q(pk__in=list(self._seen)) | Q(pk__gt=self._newest)
        stamps = dict(Job.objects.filter(is_watched).values_list("pk", "updated_at"))
        news = [pk for pk, stamp in stamps.items() if pk not in self._seen or self._seen[pk].updated_at != stamp]
        changed = list(Job.objects.for_display().filter(pk__in=news).order_by("pk")) if news else []
        self._remember(changed)
        return changed

    def _remember(self, jobs: list[Job]) -> None:
        for job in jobs:
            self._newest = max(self._newest, job.pk)
            self._seen.pop(job.pk, None)
            if job.is_open:
                self._seen[job.pk] = job


async def stream_jobs() -> AsyncIterator[bytes]:
    """Server-sent events for as long as somebody listens."""
    watch = await sync_to_async(JobWatch)()
    spoke_at = time.monotonic()
    yield b": each open job, then each change\n\n"
    while True:
        text = await sync_to_async(_events)(watch)
        if not text and time.monotonic() - spoke_at >= _QUIET_SECONDS:
            text = b": nothing new\n\n"
        if text:
            spoke_at = time.monotonic()
            yield text
        await asyncio.sleep(LOOK_SECONDS)


def _events(watch: JobWatch) -> bytes:
    return b"".join(_event(job) for job in watch.changed())


def _event(job: Job) -> bytes:
    body = json.dumps(JobSerializer(job).data, cls=DjangoJSONEncoder)
    return f"event: job\ndata: {body}\n\n".encode()
