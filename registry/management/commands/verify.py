import sys
from argparse import ArgumentParser
from typing import Any

from homelab.shell import ShellCommand
from registry import checkups, services
from registry.bars import facts_of, follow_job
from registry.models import Job
from registry.serializers import JobSerializer


class Command(ShellCommand):
    help = "Reads all files of a model again and names what is bad. Exit status 1: something is."

    def add_options(self, parser: ArgumentParser) -> None:
        parser.add_argument("model_name")
        parser.add_argument("--repair", action="store_true", help="Fetch what is bad or missing, and that alone.")
        parser.add_argument("--no-wait", action="store_true", help="Queue it and leave.")

    def run(self, *, model_name: str, repair: bool, no_wait: bool, **_: Any) -> None:
        model = services.get_model(model_name)
        job = checkups.request_repair(model) if repair else checkups.request_verify(model)
        if not no_wait:
            job = follow_job(job, console=self.console, is_hidden=self.as_json)
        if self.as_json:
            self.print_json(JobSerializer(job).data)
        else:
            self.console.print(f"The {job.kind} of {model}: {facts_of(job)}.")
        if job.state == Job.State.FAILED:
            sys.exit(1)
