"""A model that is on no drive, and may be downloaded when somebody asks for it."""

import asyncio
from collections.abc import Callable

from asgiref.sync import sync_to_async

from homelab.database import outside_requests
from inference.errors import DownloadFailed
from inference.stages import Stage
from registry.models import Job, ModelRegistry
from registry.services import request_download

_LOOK_SECONDS = 0.5


async def fetch(model: ModelRegistry, *, on_stage: Callable[[Stage], None]) -> None:
    """Queues the download, or joins the one that runs, and waits for its end. It goes on without us. Raises
    DownloadFailed, and what asking for a download raises."""
    job = await sync_to_async(outside_requests(request_download), thread_sensitive=False)(model)
    while job.is_open:
        reason = f"Job {job.pk}: {job.stage or job.state}"
        on_stage(Stage("downloading", bytes_done=job.bytes_done, bytes_total=job.bytes_total, reason=reason))
        await asyncio.sleep(_LOOK_SECONDS)
        job = await sync_to_async(_look_again, thread_sensitive=False)(job)
    if job.state != Job.State.DONE:
        why = job.error_message or f"job {job.pk} is {job.state}"
        raise DownloadFailed(f"{model} could not be downloaded: {why}", details={"job": job.pk, "code": job.error_code})


@outside_requests
def _look_again(job: Job) -> Job:
    found = Job.objects.filter(pk=job.pk).first()
    if found is None:
        job.state = Job.State.CANCELLED
    return found or job
