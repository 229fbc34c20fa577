from argparse import ArgumentParser
from typing import Any

from rich.markup import escape

from cachemgr.cleaning import CLASSES, CacheFindings, ClassFindings, CleanPlan, plan_clean
from cachemgr.serializers import CleanSerializer
from cachemgr.units import format_bytes
from homelab.shell import ShellCommand

_ITEMS_SHOWN = 10


class Command(ShellCommand):
    help = "Shows what nobody needs in the caches, class by class, and removes it for good when that is confirmed."

    def add_options(self, parser: ArgumentParser) -> None:
        classes = "; ".join(f"{name}: {title}" for name, title in CLASSES.items())
        parser.add_argument("classes", nargs="*", metavar="CLASS", help=f"All without one. {classes}.")
        parser.add_argument("--dry-run", action="store_true", help="Only show it.")
        parser.add_argument("--yes", action="store_true", help="Do not ask.")

    def run(self, *, classes: list[str], dry_run: bool, yes: bool, **_: Any) -> None:
        plan = plan_clean(classes)
        is_wanted = not dry_run and plan.count > 0
        if not self.as_json:
            self._print(plan, verb="would free")
        if is_wanted and self.may(f"Remove all of this for good? It frees {format_bytes(plan.freed_bytes)}.", yes):
            plan = plan.execute()
            if not self.as_json:
                self._print(plan, verb="freed")
        if self.as_json:
            self.print_json(CleanSerializer(plan).data)

    def _print(self, plan: CleanPlan, *, verb: str) -> None:
        for found in plan.caches:
            self.console.print(f"[bold]{escape(found.name)}[/bold] {escape(found.cache.path)}")
            self._print_cache(found, verb=verb)
        self.console.print(f"All of it {verb} {format_bytes(plan.freed_bytes)}.")

    def _print_cache(self, found: CacheFindings, *, verb: str) -> None:
        for remark in filter(None, [found.skipped, found.problem]):
            self.console.print(f"  {remark}", markup=False)
        if found.busy:
            self.console.print(f"  in use, and left alone: {', '.join(found.busy)}", markup=False)
        for each in found.classes:
            if each.count:
                self._print_class(each, verb=verb)

    def _print_class(self, found: ClassFindings, *, verb: str) -> None:
        freed = format_bytes(found.weight.freed_bytes)
        self.console.print(f"  {found.name}: {found.count} {found.title}, {verb} {freed}", markup=False)
        for item in found.items[:_ITEMS_SHOWN]:
            self.console.print(f"    {item.name} ({format_bytes(item.freed_bytes)}): {item.why}", markup=False)
        if found.count > _ITEMS_SHOWN:
            self.console.print(f"    and {found.count - _ITEMS_SHOWN} more")
