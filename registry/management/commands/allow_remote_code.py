from argparse import ArgumentParser
from typing import Any

from homelab.shell import ShellCommand
from registry import remote_code, services
from registry.models import ModelRegistry


class Command(ShellCommand):
    help = "Lets the engine of one model run the Python code of one commit of its repo, or no more. Read it first."

    def add_options(self, parser: ArgumentParser) -> None:
        parser.add_argument("model_name")
        choice = parser.add_mutually_exclusive_group(required=True)
        choice.add_argument("--commit", metavar="SHA", help="40 digits. The model is pinned to it.")
        choice.add_argument("--revoke", action="store_true", help="From its next load on, no code is run.")

    def run(self, *, model_name: str, commit: str | None, **_: Any) -> None:
        model = services.get_model(model_name)
        files = remote_code.allow(model, commit=commit) if commit else {}
        if not commit:
            remote_code.revoke(model)
        if self.as_json:
            return self.print_json({"model": model.model_name, "commit": commit or "", "files": dict(files)})
        self.say(remote_code.describe(model))
        for name, digest in files.items():
            self.say(f"  {digest}  {name}")
        self.say(_next_step(model, is_allowed=bool(commit)))


def _next_step(model: ModelRegistry, *, is_allowed: bool) -> str:
    if is_allowed:
        return f"Download it again, so that this commit and its code are there: manage.py download {model}"
    return f"An engine that is in memory keeps what it was loaded with. Unload it: POST /api/models/{model}/unload."
