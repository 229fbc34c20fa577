"""Jobs as bars in a terminal."""

import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Collection

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from cachemgr.units import format_bytes
from homelab.shell import ShellCommand
from registry import jobs
from registry.download_plan import DownloadPlan, FilePlan
from registry.download_serializers import DownloadPlanSerializer
from registry.job_serializers import JobSerializer
from registry.job_words import facts_of
from registry.models import Job

LOOK_SECONDS = 0.5
_PATIENCE_SECONDS = 4.0
_COLORS = {Job.State.DONE: "green", Job.State.FAILED: "red", Job.State.CANCELLED: "dim"}


class JobBars:
    """A line for each job: what it is, how far it is, and how it goes on. Live inside a `with` block."""

    def __init__(self, console: Console, *, is_hidden: bool = False) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(20), TextColumn("{task.fields[facts]}"))
        self.progress = Progress(*columns, console=console, disable=is_hidden)
        self._lines: dict[int, TaskID] = {}

    def __enter__(self) -> "JobBars":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def show(self, job: Job) -> None:
        if job.pk not in self._lines:
            self._lines[job.pk] = self.progress.add_task("", total=100, facts="")
        name = f"{job.pk} {job.kind} [bold]{escape(job.title)}[/bold]"
        facts = escape(facts_of(job))
        color = _COLORS.get(Job.State(job.state))
        shown = f"[{color}]{facts}[/{color}]" if color else facts
        self.progress.update(self._lines[job.pk], description=name, completed=job.percent, facts=shown)


def follow_job(job: Job, *, console: Console, is_hidden: bool) -> Job:
    """Watches a job to its end. Where no worker takes any job, this process does the work itself."""
    started = time.monotonic()
    with JobBars(console, is_hidden=is_hidden) as bars:
        while job.is_open:
            bars.show(job)
            if time.monotonic() - started > _PATIENCE_SECONDS and _is_forgotten(job):
                bars.progress.console.print("No worker is running: this process does the work.")
                jobs.reconcile()  # a worker that died may have kept the drives
                jobs.run_job(job.pk)
            time.sleep(LOOK_SECONDS)
            job.refresh_from_db()
        bars.show(job)
    return job


class WorkCommand(ShellCommand):
    """A command that queues a job, and then watches it or leaves."""

    def add_no_wait(self, parser: ArgumentParser) -> None:
        parser.add_argument("--no-wait", action="store_true", help="Queue it and leave.")

    def conclude(self, job: Job, *, no_wait: bool, outcome: Callable[[Job], str], bad: Collection[str]) -> None:
        """Exit status 1 where it ends in one of the bad states."""
        if not no_wait:
            job = follow_job(job, console=self.console, is_hidden=self.as_json)
        if self.as_json:
            self.print_json(JobSerializer(job).data)
        else:
            self.console.print(outcome(job))
        if job.state in bad:
            sys.exit(1)

    def show_plan(self, plan: DownloadPlan) -> None:
        """Instead of the job."""
        if self.as_json:
            return self.print_json(DownloadPlanSerializer(plan).data)
        self.console.print("\n".join([*map(_line, plan.files), _sum(plan)]))


def _line(each: FilePlan) -> str:
    source = f" from {each.source.name} in {each.source.cache.path}" if each.source else ""
    resumed = f", {format_bytes(each.resumed_bytes)} of it are there" if each.resumed_bytes else ""
    return f"{each.way:<8}{format_bytes(each.file.size_bytes):>9}  {each.file.name}{source}{resumed}"


def _sum(plan: DownloadPlan) -> str:
    return f"{format_bytes(plan.fetched_bytes)} of {format_bytes(plan.snapshot.size_bytes)} would come from the Hub."


def _is_forgotten(job: Job) -> bool:
    """Nobody began it, and nobody is at work who could mean to."""
    is_untouched = job.state == Job.State.QUEUED and job.started_at is None
    return is_untouched and not any(other.is_held for other in Job.objects.running())
