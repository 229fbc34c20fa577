from argparse import ArgumentParser
from typing import Any

from homelab.shell import ShellCommand
from registry import services
from registry.models import ModelRegistry
from registry.serializers import ModelSerializer, WishSerializer


class Command(ShellCommand):
    help = "Registers a model after checking that it fits. Nothing is downloaded."

    def add_options(self, parser: ArgumentParser) -> None:
        parser.add_argument("model_name", help="what clients will call it")
        parser.add_argument("hf_path", help="org/name on the Hub")
        parser.add_argument("--cache-location", help="primary, secondary or custom; without it the recommended one")
        parser.add_argument("--cache-path", help="for custom: the absolute path")
        parser.add_argument("--estimated-size-mb", help="without it the Hub is asked, or the name")
        parser.add_argument("--revision", default="main", help="a branch, tag or commit")
        parser.add_argument("--pinned", action="store_true")
        parser.add_argument("--dry-run", action="store_true", help="Only say what would happen.")

    def run(self, *, dry_run: bool, **options: Any) -> None:
        asked = WishSerializer(
            data={name: value for name, value in options.items() if value is not None and name in _FIELDS}
        )
        self.checked(asked)
        if dry_run:
            return self.console.print(services.propose(asked.wish()).verdict.message)
        done = services.register(asked.wish())
        if self.as_json:
            return self.print_json(ModelSerializer(done.model).data)
        for notice in done.notices:
            self.console.print(f"[yellow]Warning:[/yellow] {notice.message}")
        self.console.print(
            f"Registered {done.model} in the {done.model.cache_location} cache. {_next_step(done.model)}"
        )


def _next_step(model: ModelRegistry) -> str:
    if model.status == ModelRegistry.Status.READY:
        return f"Its files are there: manage.py chat {model}"
    return f"Next: manage.py download {model}"


_FIELDS = ("model_name", "hf_path", "cache_location", "cache_path", "estimated_size_mb", "revision", "pinned")
