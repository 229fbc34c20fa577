import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from homelab import web


class Command(BaseCommand):
    help = "Runs the web process alone and starts it again when a source file changes. For serving: script/server."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--noreload", action="store_true", help="Do not watch the source files.")

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(
            "This is for development, not for serving: no worker, no broker. HOST and PORT are from .env."
        )
        sys.exit(web.main(reload=not options["noreload"]))
