from argparse import ArgumentParser
from typing import Any

from homelab.errors import InvalidValue
from registry import checkups, services
from registry.bars import WorkCommand
from registry.job_words import facts_of
from registry.models import Job


class Command(WorkCommand):
    help = "Reads all files of a model again and names what is bad. Exit status 1: something is."

    def add_options(self, parser: ArgumentParser) -> None:
        parser.add_argument("model_name")
        parser.add_argument("--repair", action="store_true", help="Fetch what is bad or missing, and that alone.")
        parser.add_argument("--dry-run", action="store_true", help="With --repair: only say what would be fetched.")
        self.add_no_wait(parser)

    def run(self, *, model_name: str, repair: bool, dry_run: bool, no_wait: bool, **_: Any) -> None:
        model = services.get_model(model_name)
        if dry_run and not repair:
            raise InvalidValue("A verification changes nothing: --dry-run is for --repair.", field="dry_run")
        if dry_run:
            return self.show_plan(checkups.plan_repair(model))
        job = checkups.request_repair(model) if repair else checkups.request_verify(model)
        self.conclude(job, no_wait=no_wait, outcome=_outcome, bad=(Job.State.FAILED,))


def _outcome(job: Job) -> str:
    return f"The {job.kind} of {job.title}: {facts_of(job).rstrip('.')}."
