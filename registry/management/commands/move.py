import sys
from argparse import ArgumentParser
from typing import Any

from cachemgr.units import format_bytes, format_duration
from registry import moves, services
from registry.bars import WorkCommand
from registry.job_words import facts_of
from registry.models import Job
from registry.moves import Move
from registry.work_serializers import MovePlanSerializer, MoveQuestionSerializer


class Command(WorkCommand):
    help = "Moves a model to another cache, verified. It stays usable. Ctrl-C leaves the move running."

    def add_options(self, parser: ArgumentParser) -> None:
        parser.add_argument("model_name")
        parser.add_argument("cache_location", help="primary, secondary or custom")
        parser.add_argument("--cache-path", help="for custom: the absolute path")
        parser.add_argument("--dry-run", action="store_true", help="Only say what would be done.")
        self.add_no_wait(parser)

    def run(self, *, model_name: str, dry_run: bool, no_wait: bool, **options: Any) -> None:
        words = {name: options[name] for name in ("cache_location", "cache_path") if options[name] is not None}
        asked = MoveQuestionSerializer(data=words)
        self.checked(asked)
        model = services.get_model(model_name)
        if dry_run:
            return self._show(moves.plan_move(model, **asked.place))
        job = moves.request_move(model, **asked.place)
        self.conclude(job, no_wait=no_wait, outcome=_outcome, bad=(Job.State.FAILED, Job.State.CANCELLED))

    def _show(self, move: Move) -> None:
        if self.as_json:
            self.print_json(MovePlanSerializer(move).data)
        else:
            self.console.print("\n".join(_sentences(move)))
        if move.verdict.is_refusal or move.plan.target_exists == "other":
            sys.exit(1)


def _outcome(job: Job) -> str:
    return f"The move of {job.title} to {job.target and job.target.path}: {facts_of(job)}."


def _sentences(move: Move) -> list[str]:
    plan = move.plan
    names = ", ".join(row.model_name for row in move.rows)
    size = f"{plan.file_count} files, {format_bytes(plan.size_bytes)}"
    what = f"{names}: {size}, from {move.source.path} to {move.target.path}."
    notes = [f"Left out: {name}, an unfinished download." for name in plan.skipped]
    if plan.target_exists == "other":
        notes.append(f"Other files lie in {move.target.path}/{plan.folder}: they have to go first.")
    elif plan.target_exists == "same":
        notes.append("A whole copy lies there already: it is verified and taken.")
    return [what, _how(move), move.verdict.message, *plan.problems, *notes]


def _how(move: Move) -> str:
    if move.plan.method == "link":
        return "Both are on one filesystem: nothing is copied."
    took = "" if move.seconds is None else f" That takes about {format_duration(move.seconds)}."
    left = f" {format_bytes(move.free_after_bytes)} stay free on its disk."
    return f"{format_bytes(move.plan.bytes_to_write)} are copied and read back.{took}{left}"
