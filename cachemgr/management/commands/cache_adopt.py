import sys
from argparse import ArgumentParser
from typing import Any

from cachemgr import monitor, services
from cachemgr.models import CacheSnapshot
from homelab.shell import ShellCommand


class Command(ShellCommand):
    help = "Makes a folder or drive a cache, where that needs its owner's word. Exit status 1: it is not one."

    def add_options(self, parser: ArgumentParser) -> None:
        parser.add_argument("cache_location", help="primary, secondary or custom")
        parser.add_argument("--cache-path", help="for custom: the absolute path")
        parser.add_argument(
            "--create", action="store_true", help="Make missing folders, on whatever disk lies there now."
        )
        parser.add_argument(
            "--replace", action="store_true", help="Take the drive that is there instead of the one adopted before."
        )

    def run(self, *, cache_location: str, cache_path: str | None, create: bool, replace: bool, **_: Any) -> None:
        cache = services.keep(services.find_cache(cache_location, path=cache_path))
        snapshot = monitor.adopt_cache(cache, create=create, replace=replace)
        if self.as_json:
            self.print_json(_as_dict(snapshot))
        else:
            self.console.print(f"{snapshot.cache.path}: {snapshot.message or snapshot.state}")
        if snapshot.state != "ok":
            sys.exit(1)


def _as_dict(snapshot: CacheSnapshot) -> dict[str, Any]:
    cache = snapshot.cache
    place = {"cache_location": cache.location, "cache_path": cache.path}
    return place | {"status": snapshot.state, "message": snapshot.message, "uuid": cache.uuid}
