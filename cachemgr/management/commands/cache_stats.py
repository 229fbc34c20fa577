from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from rich.markup import escape

from cachemgr import monitor
from cachemgr.serializers import stats_body
from cachemgr.stats import CacheLine, cache_lines
from cachemgr.units import format_bytes, format_duration
from homelab.shell import ShellCommand

_COLORS = {"green": "green", "yellow": "yellow", "red": "red"}
_BAR_WIDTH = 30


class Command(ShellCommand):
    help = "Shows use, limit and free space of each cache, as last measured."

    def add_options(self, parser: ArgumentParser) -> None:
        parser.add_argument("--refresh", action="store_true", help="Measure first.")

    def run(self, *, refresh: bool, **_: Any) -> None:
        if refresh:
            monitor.measure_caches(limit_seconds=monitor.REFRESH_SECONDS)
        lines = cache_lines()
        if self.as_json:
            return self.print_json(stats_body(lines, threshold=settings.CACHE_WARNING_THRESHOLD))
        for line in lines:
            self.console.print("\n".join(describe(line)))


def describe(line: CacheLine) -> list[str]:
    figures, color = line.figures, _COLORS[line.level]
    state = line.status if line.status == "ok" else f"[bold]{line.status}[/bold]"
    measured = f"measured {format_duration(line.age_seconds)} ago" if line.age_seconds is not None else "never measured"
    filled = round(min(100, line.usage_percent) / 100 * _BAR_WIDTH)
    bar = f"[{color}]{'━' * filled}[/{color}][dim]{'━' * (_BAR_WIDTH - filled)}[/dim]"
    used = f"{format_bytes(figures.filled_bytes)} of {format_bytes(figures.size_bytes)} used"
    room = f"{format_bytes(figures.reserved_bytes)} reserved, {format_bytes(line.available_bytes)} left to book"
    disk = f"{format_bytes(figures.disk_free_bytes)} of {format_bytes(figures.disk_total_bytes)} free on the disk"
    models = f"{line.snapshot.model_count} models"
    return [
        f"[bold]{figures.location}[/bold] {escape(figures.path)}: {state} {escape(figures.state_message)}".rstrip(),
        f"  {bar} {line.usage_percent:g} %  {used}",
        f"  {room}; {disk if figures.disk_total_bytes else 'disk unknown'}; {models}; {measured}",
        *(f"  {sentence}" for sentence in _remarks(line)),
    ]


def _remarks(line: CacheLine) -> Iterator[str]:
    """What is known of its drive, and only where there is something to say."""
    cache = line.cache
    if cache.filesystem:
        speed = f", reads {format_bytes(cache.read_bytes_per_second)}/s" if cache.read_bytes_per_second else ""
        links = ", takes no links" if cache.takes_links is False else ""
        yield escape(f"{cache.filesystem} at {cache.mount_point}{speed}{links}")
    if line.pool:
        yield escape(f"shares its free space with {', '.join(line.pool)}")
    if line.snapshot.foreign_bytes:
        yield f"{format_bytes(line.snapshot.foreign_bytes)} here are no models"
