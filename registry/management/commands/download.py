from argparse import ArgumentParser
from typing import Any

from cachemgr.units import format_bytes
from registry import jobs, services
from registry.bars import WorkCommand
from registry.download_plan import DownloadPlan, FilePlan
from registry.download_serializers import DownloadPlanSerializer
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
            return self._show(plan_download(model))
        job = services.request_download(model)
        if cancel:
            job = jobs.cancel_job(job)
        self.conclude(job, no_wait=no_wait or cancel, outcome=_outcome, bad=(Job.State.FAILED,))

    def _show(self, plan: DownloadPlan) -> None:
        if self.as_json:
            return self.print_json(DownloadPlanSerializer(plan).data)
        self.console.print("\n".join([*map(_line, plan.files), _sum(plan)]))


def _line(each: FilePlan) -> str:
    source = f" from {each.source.name} in {each.source.cache.path}" if each.source else ""
    resumed = f", {format_bytes(each.resumed_bytes)} of it are there" if each.resumed_bytes else ""
    return f"{each.way:<8}{format_bytes(each.file.size_bytes):>9}  {each.file.name}{source}{resumed}"


def _sum(plan: DownloadPlan) -> str:
    return f"{format_bytes(plan.fetched_bytes)} of {format_bytes(plan.snapshot.size_bytes)} would come from the Hub."


def _outcome(job: Job) -> str:
    if job.state == Job.State.DONE:
        return f"{job.model} is downloaded and verified. Next: manage.py chat {job.model}"
    return f"The {job.kind} of {job.model} is {job.state}. {job.error_message}".strip()
