from argparse import ArgumentParser
from typing import Any
from urllib.parse import quote

from homelab.shell import ShellCommand
from inference.client import call_server


class Command(ShellCommand):
    help = "Loads a model into the memory of the running server."

    def add_options(self, parser: ArgumentParser) -> None:
        parser.add_argument("model_name")

    def run(self, *, model_name: str, **_: Any) -> None:
        answer = call_server(f"/api/models/{quote(model_name, safe='')}/load")
        if self.as_json:
            return self.print_json(answer)
        self.console.print(f"{answer['model']} is loaded on {answer['device']}, in {answer['load_seconds']} s.")
