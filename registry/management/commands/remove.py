from argparse import ArgumentParser
from typing import Any

from cachemgr.serializers import TrashedRepoSerializer
from cachemgr.units import format_bytes
from homelab.errors import InvalidValue
from homelab.shell import ShellCommand
from registry import removal, services
from registry.models import ModelRegistry
from registry.removal import RemovalPlan
from registry.serializers import RemovalSerializer


class Command(ShellCommand):
    help = "Forgets a model. Its files go to the trash, from where they can come back, or stay where they are."

    def add_options(self, parser: ArgumentParser) -> None:
        parser.add_argument("model_name")
        parser.add_argument("--files", choices=["trash", "keep"], help="What becomes of its files.")
        parser.add_argument("--keep-row", action="store_true", help="With --files trash: it stays registered.")
        parser.add_argument("--dry-run", action="store_true", help="Only say what would happen.")

    def run(self, *, model_name: str, files: str | None, keep_row: bool, dry_run: bool, **_: Any) -> None:
        model = services.get_model(model_name)
        if dry_run:
            return self._show(removal.plan_removal(model))
        if files is None and not services.has_no_files(model):
            raise removal.choice_needed(model)
        if keep_row and files != "trash":
            raise InvalidValue("With --keep-row only --files trash removes anything.", field="files")
        if files != "trash":
            services.forget(model)
            return self.say(f"{model} is forgotten. Its files were left alone.")
        self.say(describe(removal.plan_removal(model)))
        self._remove(model, keeps_row=keep_row)

    def _show(self, plan: RemovalPlan) -> None:
        if self.as_json:
            self.print_json(RemovalSerializer(plan).data)
        else:
            self.console.print(describe(plan), markup=False)

    def _remove(self, model: ModelRegistry, *, keeps_row: bool) -> None:
        entry = removal.remove(model, keeps_row=keeps_row)
        if entry is not None and self.as_json:
            self.print_json(TrashedRepoSerializer(entry).data)
        elif entry is not None:
            what = f"The files of {model} are" if keeps_row else f"{model} is"
            self.say(f"{what} in the trash. Undo: manage.py cache_trash --restore {entry.pk}")
        else:
            self.say(f"{model} had no files.{'' if keeps_row else ' It is forgotten.'}")


def describe(plan: RemovalPlan) -> str:
    weight = plan.weight
    size, freed = format_bytes(weight.size_bytes), format_bytes(weight.freed_bytes)
    files = f"{weight.file_count} files ({size}) of {plan.model} go to the trash of {plan.cache.path}."
    busy = " It is in use now, and has to be unloaded first." if plan.is_busy else ""
    names = ", ".join(other.model_name for other in plan.shared_with)
    shared = f" They are also those of {names}: files=keep forgets {plan.model} alone." if names else ""
    return f"{files} Nothing is freed before it is emptied: then {freed}.{busy}{shared}"
