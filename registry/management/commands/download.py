import sys
import time
from argparse import ArgumentParser
from typing import Any

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from homelab.shell import ShellCommand
from registry import jobs, services
from registry.models import Job
from registry.serializers import JobSerializer

_LOOK_SECONDS = 0.5
_PATIENCE_SECONDS = 4.0


class Command(ShellCommand):
    help = "Downloads a model into its own cache. Ctrl-C leaves the download running; --cancel ends it."

    def add_options(self, parser: ArgumentParser) -> None:
        parser.add_argument("model_name")
        parser.add_argument("--no-wait", action="store_true", help="Queue it and leave.")
        parser.add_argument("--cancel", action="store_true", help="End the download that runs.")

    def run(self, *, model_name: str, no_wait: bool, cancel: bool, **_: Any) -> None:
        model = services.get_model(model_name)
        job = services.request_download(model)
        if cancel:
            job = services.cancel_job(job)
        elif not no_wait:
            job = self._follow(job)
        if self.as_json:
            self.print_json(JobSerializer(job).data)
        else:
            self.console.print(_outcome(job))
        if job.state == Job.State.FAILED:
            sys.exit(1)

    def _follow(self, job: Job) -> Job:
        """Watches the worker. Where no worker takes the job, this process does the work itself."""
        started = time.monotonic()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console, disable=self.as_json) as bars:
            bar = bars.add_task("queued", total=job.bytes_total or None)
            while job.is_open:
                is_forgotten = job.state == Job.State.QUEUED and time.monotonic() - started > _PATIENCE_SECONDS
                if is_forgotten and job.attempt == 0:
                    bars.console.print("No worker is running: downloading in this process.")
                    jobs.run_job(job.pk)
                time.sleep(_LOOK_SECONDS)
                job.refresh_from_db()
                _draw(bars, bar, job)
        return job


def _draw(bars: Progress, bar: TaskID, job: Job) -> None:
    bars.update(bar, description=job.stage or job.state, completed=job.bytes_done, total=job.bytes_total or None)


def _outcome(job: Job) -> str:
    if job.state == Job.State.DONE:
        return f"{job.model} is downloaded and verified. Next: manage.py chat {job.model}"
    return f"The {job.kind} of {job.model} is {job.state}. {job.error_message}".strip()
