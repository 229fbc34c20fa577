from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from cachemgr import trash
from cachemgr.models import TrashedRepo
from cachemgr.serializers import trash_body
from cachemgr.stats import name_of
from cachemgr.trash import Load
from cachemgr.units import format_bytes
from homelab.shell import ShellCommand


class Command(ShellCommand):
    help = "Lists the removed models that can come back, restores one, or empties the trash."

    def add_options(self, parser: ArgumentParser) -> None:
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--restore", metavar="NUMBER", type=int, help="Put this one back in its place.")
        what.add_argument("--empty", metavar="NUMBER", type=int, nargs="*", help="Remove these for good, or all.")
        parser.add_argument("--dry-run", action="store_true", help="Only say what would happen.")
        parser.add_argument("--yes", action="store_true", help="Do not ask.")

    def run(self, *, restore: int | None, empty: list[int] | None, dry_run: bool, yes: bool, **_: Any) -> None:
        if restore is not None:
            return self._restore(trash.find_entry(restore), is_dry=dry_run)
        if empty is not None:
            entries = [trash.find_entry(pk) for pk in empty] or list(trash.entries())
            return self._empty(entries, is_sure=yes, is_dry=dry_run)
        self._list(list(trash.entries()))

    def _restore(self, entry: TrashedRepo, *, is_dry: bool) -> None:
        title, path = entry.title, entry.cache.path
        (trash.check_restore if is_dry else trash.restore)(entry)
        done = "can come back to" if is_dry else "is back in"
        self.console.print(f"{title} {done} {path}.", markup=False)

    def _empty(self, entries: Sequence[TrashedRepo], *, is_sure: bool, is_dry: bool) -> None:
        loads = trash.weigh_entries(entries)
        freed_bytes = sum(load.weight.freed_bytes for load in loads)
        if self.as_json:
            self.print_json(trash_body([load.entry for load in loads], freed_bytes=freed_bytes))
        else:
            self._print_loads(loads, freed_bytes=freed_bytes)
        if loads and not is_dry and self.may(f"Remove this for good? It frees {format_bytes(freed_bytes)}.", is_sure):
            trash.empty(loads)
            self.say("Emptied.")

    def _print_loads(self, loads: Sequence[Load], *, freed_bytes: int) -> None:
        for load in loads:
            size, freed = format_bytes(load.weight.size_bytes), format_bytes(load.weight.freed_bytes)
            self.console.print(f"{load.entry.title}: {size}, frees {freed}", markup=False)
        self.console.print(f"Emptying this frees {format_bytes(freed_bytes)}." if loads else "The trash is empty.")

    def _list(self, entries: Sequence[TrashedRepo]) -> None:
        freed_bytes = sum(entry.freed_bytes for entry in entries)
        if self.as_json:
            return self.print_json(trash_body(entries, freed_bytes=freed_bytes))
        if not entries:
            return self.console.print("The trash is empty.")
        table = Table("Number", "Model", "Cache", "Size", "Frees", "Removed", "Goes", box=None, padding=(0, 2))
        for entry in entries:
            table.add_row(str(entry.pk), escape(entry.title), escape(name_of(entry.cache)), *_figures(entry))
        self.console.print(table)
        self.console.print("Undo: manage.py cache_trash --restore NUMBER. It frees nothing before it is emptied.")


def _figures(entry: TrashedRepo) -> tuple[str, str, str, str]:
    return (
        format_bytes(entry.size_bytes),
        format_bytes(entry.freed_bytes),
        f"{entry.removed_at:%Y-%m-%d %H:%M}",
        f"{entry.goes_at:%Y-%m-%d %H:%M}",
    )
