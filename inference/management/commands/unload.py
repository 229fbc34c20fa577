from argparse import ArgumentParser
from typing import Any
from urllib.parse import quote

from homelab.shell import ShellCommand
from inference.client import call_server


class Command(ShellCommand):
    help = "Takes a model out of the memory of the running server."

    def add_options(self, parser: ArgumentParser) -> None:
        parser.add_argument("model_name")

    def run(self, *, model_name: str, **_: Any) -> None:
        answer = call_server(f"/api/models/{quote(model_name, safe='')}/unload")
        if self.as_json:
            return self.print_json(answer)
        self.console.print(
            f"{answer['model']} is unloaded." if answer["was_loaded"] else f"{answer['model']} was not loaded."
        )
