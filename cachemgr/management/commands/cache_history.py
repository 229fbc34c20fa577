from argparse import ArgumentParser
from typing import Any

from rich.markup import escape
from rich.table import Table

from cachemgr import history, services
from cachemgr.models import Cache, CacheSnapshot
from cachemgr.questions import HistoryQuestionSerializer
from cachemgr.serializers import SnapshotSerializer
from cachemgr.units import format_bytes
from homelab.shell import ShellCommand

_ROWS = 24
_BAR_WIDTH = 20


class Command(ShellCommand):
    help = "Shows how the use of a cache changed: a day where --since is left out."

    def add_options(self, parser: ArgumentParser) -> None:
        parser.add_argument("cache", nargs="?", default="primary", help="primary (the default), secondary or custom")
        parser.add_argument("--cache-path", help="for custom: the absolute path")
        parser.add_argument("--since", help="24h, 7d, 2w, 1y, or a date such as 2026-01-31T18:00:00Z")

    def run(self, *, cache: str, cache_path: str | None, since: str | None, **_: Any) -> None:
        words = {"cache": cache, "cache_path": cache_path, "since": since}
        question = HistoryQuestionSerializer(data={name: word for name, word in words.items() if word is not None})
        self.checked(question)
        found = services.find_cache(cache, path=cache_path)
        if self.as_json:
            points = history.points(found, since=question.asked_since)
            return self.print_json(SnapshotSerializer(points, many=True).data)
        points = history.points(found, since=question.asked_since, limit=_ROWS)
        self._print(found, points)

    def _print(self, cache: Cache, points: list[CacheSnapshot]) -> None:
        self.console.print(f"[bold]{cache.location}[/bold] {escape(cache.path)}")
        if not points:
            return self.console.print("  No measurement in this time.")
        most = max(point.used_bytes for point in points) or 1
        table = Table("Measured (UTC)", "Used", "", "Disk free", "State", box=None, padding=(0, 2))
        for point in points:
            table.add_row(
                f"{point.taken_at:%Y-%m-%d %H:%M}",
                format_bytes(point.used_bytes),
                "━" * round(point.used_bytes / most * _BAR_WIDTH),
                format_bytes(point.disk_free_bytes),
                "" if point.state == "ok" else point.state,
            )
        self.console.print(table)
