import json
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

from homelab.shell import ShellCommand
from registry import jobs
from registry.bars import LOOK_SECONDS, JobBars
from registry.job_serializers import JobQuestionSerializer, JobSerializer
from registry.job_stream import JobWatch
from registry.models import Job
from registry.services import find_job

_ENDED_SHOWN = 5


class Command(ShellCommand):
    help = "Shows the work that runs, waits, or ended last. Ctrl-C leaves it running; --cancel ends it."

    def add_options(self, parser: ArgumentParser) -> None:
        parser.add_argument("--watch", action="store_true", help="Stay, with live bars, until no job is open.")
        parser.add_argument("--state", help="Only jobs of this state: open, queued, running, done, failed, cancelled.")
        parser.add_argument("--kind", help="Only jobs of this kind: " + ", ".join(Job.Kind.values) + ".")
        parser.add_argument("--model", help="Only jobs of this model.")
        parser.add_argument("--cancel", type=int, metavar="JOB", help="End a job; what is half done is cleaned up.")
        parser.add_argument("--retry", type=int, metavar="JOB", help="Queue a job again that failed or was cancelled.")

    def run(self, *, watch: bool, cancel: int | None, retry: int | None, **options: Any) -> None:
        if cancel is not None:
            return self._show([jobs.cancel_job(_get_job(cancel))])
        if retry is not None:
            return self._show([jobs.retry_job(_get_job(retry))])
        if watch and Job.objects.open().exists():
            return self._watch()
        asked = {name: options[name] for name in ("state", "kind", "model") if options[name] is not None}
        question = JobQuestionSerializer(data=asked)
        self.checked(question)
        self._show(list(question.jobs()) if asked else _worth_seeing())

    def _show(self, found: list[Job]) -> None:
        if self.as_json:
            return self.print_json(JobSerializer(found, many=True).data)
        if not found:
            return self.console.print("There are no such jobs.")
        bars = JobBars(self.console)
        for job in found:
            bars.show(job)
        self.console.print(bars.progress.get_renderable())

    def _watch(self) -> None:
        """Bars; with --json a line for each change."""
        with JobBars(self.console, is_hidden=self.as_json) as bars:
            for job in _changes():
                bars.show(job)
                if self.as_json:
                    self.stdout.write(json.dumps(JobSerializer(job).data, cls=DjangoJSONEncoder))


def _changes() -> Iterator[Job]:
    watch = JobWatch()
    while True:
        is_over = not Job.objects.open().exists()
        yield from watch.changed()  # the look comes last: it sees the end of the last job
        if is_over:
            return
        time.sleep(LOOK_SECONDS)


def _worth_seeing() -> list[Job]:
    ended = Job.objects.for_display().exclude(state__in=Job.OPEN)
    return [*Job.objects.for_display().open(), *ended[:_ENDED_SHOWN]]


def _get_job(pk: int) -> Job:
    return find_job(pk, listed_by="manage.py jobs")
