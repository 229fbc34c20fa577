import sys
from argparse import ArgumentParser
from typing import Any

from cachemgr import services
from cachemgr.questions import CacheQuestionSerializer
from cachemgr.serializers import VerdictSerializer
from cachemgr.space import Verdict
from cachemgr.units import format_bytes
from homelab.shell import ShellCommand


class Command(ShellCommand):
    help = "Says whether so many megabytes fit into a cache. Exit status 1: they do not."

    def add_options(self, parser: ArgumentParser) -> None:
        parser.add_argument("cache_location", help="primary, secondary or custom")
        parser.add_argument("required_space_mb", help="in MB, such as 14000")
        parser.add_argument("--cache-path", help="for custom: the absolute path")

    def run(self, *, cache_location: str, required_space_mb: str, cache_path: str | None, **_: Any) -> None:
        question = CacheQuestionSerializer(
            data={"cache_location": cache_location, "required_space_mb": required_space_mb, "cache_path": cache_path}
        )
        required_bytes = self.checked(question)["required_space_mb"]
        cache = services.find_cache(cache_location, path=cache_path)
        verdict = services.check(cache, required_bytes=required_bytes)
        if self.as_json:
            self.print_json(VerdictSerializer(verdict).data)
        else:
            self._print(verdict)
        if not verdict.sufficient:
            sys.exit(1)

    def _print(self, verdict: Verdict) -> None:
        warning = "Warning: " if verdict.sufficient and verdict.warning else ""
        self.console.print(warning + verdict.message, markup=False)
        if verdict.would_make_room:
            self.console.print("It would fit without:")
        for candidate in verdict.would_make_room:
            used = f"last used {candidate.last_used_at:%Y-%m-%d}" if candidate.last_used_at else "never used"
            self.console.print(f"  {candidate.name}: {format_bytes(candidate.size_bytes)}, {used}")
