from argparse import ArgumentParser
from typing import Any

from registry import jobs, services
from registry.bars import WorkCommand
from registry.downloads import plan_download
from registry.models import Job


class Command(WorkCommand):
    help = "Downloads a model into its own cache. Ctrl-C leaves the download running; --cancel ends it."

    def add_options(self, parser: ArgumentParser) -> None:
        parser.add_argument("model_name")
        parser.add_argument("--dry-run", action="store_true", help="Only say what would be fetched, linked or copied.")
        self.add_no_wait(parser)
        parser.add_argument("--cancel", action="store_true", help="End the download that runs.")

    def run(self, *, model_name: str, dry_run: bool, no_wait: bool, cancel: bool, **_: Any) -> None:
        model = services.get_model(model_name)
        if dry_run:
            return self.show_plan(plan_download(model))
        job = services.request_download(model)
        if cancel:
            job = jobs.cancel_job(job)
        self.conclude(job, no_wait=no_wait or cancel, outcome=_outcome, bad=(Job.State.FAILED,))


def _outcome(job: Job) -> str:
    if job.state == Job.State.DONE:
        return f"{job.title} is downloaded and verified. Next: manage.py chat {job.title}"
    return f"The {job.kind} of {job.title} is {job.state}. {job.error_message}".strip()
