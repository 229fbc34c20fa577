import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.table import Table

from cachemgr import monitor
from cachemgr.layout import is_repo_id, repo_folder
from cachemgr.models import Cache, CachedRepo, CacheSnapshot
from cachemgr.report import NOT_OURS, FileReport
from cachemgr.units import format_bytes
from homelab.errors import InvalidValue
from homelab.shell import ShellCommand


class Command(ShellCommand):
    help = "Reads every cache and lists what lies there. Models that can be loaded join the registry; nothing is moved."

    def add_options(self, parser: ArgumentParser) -> None:
        parser.add_argument("--full", action="store_true", help="Read everything, also what looks unchanged.")
        parser.add_argument("--files", metavar="ORG/NAME", help="List the files of one model instead.")

    def run(self, *, full: bool, files: str | None, **_: Any) -> None:
        if files is not None:
            return self._run_files(files)
        snapshots = monitor.measure_caches(full=full)
        repos = list(CachedRepo.objects.select_related("cache").order_by("cache", "repo_id"))
        if self.as_json:
            return self.print_json([_as_dict(repo) for repo in repos])
        for snapshot in snapshots:
            self._print_cache(snapshot, [repo for repo in repos if repo.cache_id == snapshot.cache_id])

    def _run_files(self, repo_id: str) -> None:
        if not is_repo_id(repo_id):
            raise InvalidValue(f"{repo_id!r} is no repo: write org/name, as on the Hub.", field="files")
        caches = Cache.objects.filter(repos__folder=repo_folder(repo_id)).order_by("pk")
        found = {cache: monitor.list_repo_files(cache, repo_id=repo_id) for cache in caches}
        if self.as_json:
            self.print_json([row for cache, files in found.items() for row in _file_dicts(cache, files or ())])
        elif not found:
            self.console.print(f"{repo_id} lies in no cache, as far as the last scan knows. Run cache_scan first.")
        else:
            for cache, files in found.items():
                self._print_files(cache, files)
        if not found:
            sys.exit(1)

    def _print_files(self, cache: Cache, files: tuple[FileReport, ...] | None) -> None:
        self.console.print(f"[bold]{cache.location}[/bold] {escape(cache.path)}")
        if files is None:
            return self.console.print("  Its drive cannot be read now. Run cache_stats --refresh to see why.")
        table = Table("Revision", "File", "Size", "Blob", box=None, padding=(0, 2))
        for file in files:
            table.add_row(
                file.revision[:8], escape(file.name), format_bytes(file.size_bytes), file.digest[:12] or "a copy"
            )
        self.console.print(table)

    def _print_cache(self, snapshot: CacheSnapshot, repos: list[CachedRepo]) -> None:
        cache = Cache.objects.get(pk=snapshot.cache_id)
        self.console.print(
            f"[bold]{cache.location}[/bold] {escape(cache.path)}: {escape(snapshot.message or snapshot.state)}"
        )
        if repos:
            self.console.print(_repo_table(repos))
        elif snapshot.state == "ok":
            self.console.print("  no models here")
        for sentence in _remarks(cache):
            self.console.print(f"  {sentence}", markup=False)


def _repo_table(repos: list[CachedRepo]) -> Table:
    table = Table("Repo", "Size", "Revisions", "Unfinished", "Unused", "Problems", box=None, padding=(0, 2))
    for repo in repos:
        table.add_row(
            repo.repo_id if repo.repo_type == "model" else f"{repo.repo_id} ({repo.repo_type})",
            format_bytes(repo.size_bytes),
            str(len(repo.revisions)),
            format_bytes(repo.partial_bytes) if repo.partial_bytes else "",
            format_bytes(repo.orphan_bytes) if repo.orphan_bytes else "",
            escape("; ".join(repo.problems)),
        )
    return table


def _remarks(cache: Cache) -> Iterator[str]:
    """What the scan found beside the repos."""
    for thing in cache.foreign:
        if thing["kind"] in NOT_OURS:
            yield f"no model: {thing['name']} ({thing['kind'].replace('_', ' ')}, {format_bytes(thing['size_bytes'])})"
    yield from cache.scan_problems
    if cache.scan_distrust:
        yield cache.scan_distrust


def _as_dict(repo: CachedRepo) -> dict[str, Any]:
    fields = (
        "repo_type",
        "repo_id",
        "size_bytes",
        "physical_bytes",
        "file_count",
        "layout",
        "partial_bytes",
        "partials",
        "orphan_count",
        "orphan_bytes",
        "revisions",
        "problems",
    )
    return _place(repo.cache) | {field: getattr(repo, field) for field in fields}


def _file_dicts(cache: Cache, files: tuple[FileReport, ...]) -> list[dict[str, Any]]:
    return [_place(cache) | asdict(file) for file in files]


def _place(cache: Cache) -> dict[str, Any]:
    return {"cache_location": cache.location, "cache_path": cache.path}
