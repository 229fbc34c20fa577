from typing import Any

from rich.table import Table

from cachemgr import monitor
from cachemgr.models import CachedRepo, CacheSnapshot
from cachemgr.units import format_bytes
from homelab.shell import ShellCommand


class Command(ShellCommand):
    help = "Reads every cache and lists what lies there. Models that can be loaded join the registry; nothing is moved."

    def run(self, **_: Any) -> None:
        snapshots = monitor.measure_caches()
        repos = list(CachedRepo.objects.select_related("cache").order_by("cache", "repo_id"))
        if self.as_json:
            return self.print_json([_as_dict(repo) for repo in repos])
        for snapshot in snapshots:
            self._print_cache(snapshot, [repo for repo in repos if repo.cache_id == snapshot.cache_id])

    def _print_cache(self, snapshot: CacheSnapshot, repos: list[CachedRepo]) -> None:
        cache = snapshot.cache
        self.console.print(f"[bold]{cache.location}[/bold] {cache.path}: {snapshot.message or snapshot.state}")
        if not repos:
            return self.console.print("  nothing here" if snapshot.state == "ok" else "")
        table = Table("Repo", "Size", "Revisions", "Unfinished", "Problems", box=None, padding=(0, 2))
        for repo in repos:
            table.add_row(
                repo.repo_id,
                format_bytes(repo.size_bytes),
                str(len(repo.revisions)),
                format_bytes(repo.partial_bytes) if repo.partial_bytes else "",
                "; ".join(repo.problems),
            )
        self.console.print(table)


def _as_dict(repo: CachedRepo) -> dict[str, Any]:
    fields = ("repo_type", "repo_id", "size_bytes", "partial_bytes", "revisions", "problems")
    place = {"cache_location": repo.cache.location, "cache_path": repo.cache.path}
    return place | {field: getattr(repo, field) for field in fields}
