import sys
from argparse import ArgumentParser
from typing import Any

from homelab.shell import ShellCommand
from inference.client import stream_chat


class Command(ShellCommand):
    help = (
        "Chats with a model of the running server; it is loaded if need be. With a message: one answer, then the end."
    )

    def add_options(self, parser: ArgumentParser) -> None:
        parser.add_argument("model_name")
        parser.add_argument("message", nargs="?", help="without it: a conversation; an empty line or Ctrl-D ends it")
        parser.add_argument("--system", help="instructions for the model")
        parser.add_argument("--max-tokens", type=int, default=512)
        parser.add_argument("--temperature", type=float)

    def run(self, *, model_name: str, message: str | None, system: str | None, **options: Any) -> None:
        messages = [{"role": "system", "content": system}] if system else []
        chosen = {name: options[name] for name in ("max_tokens", "temperature") if options[name] is not None}
        while question := message or _ask():
            messages.append({"role": "user", "content": question})
            answer = self._answer(model_name, messages, chosen)
            messages.append({"role": "assistant", "content": answer})
            if message:
                break
        if self.as_json:
            self.print_json(messages)

    def _answer(self, model_name: str, messages: list[dict[str, str]], chosen: dict[str, Any]) -> str:
        pieces = []
        for piece in stream_chat(model_name, messages, **chosen):
            pieces.append(piece)
            if not self.as_json:
                self.stdout.write(piece, ending="")
                self.stdout.flush()
        if not self.as_json:
            self.stdout.write("")
        return "".join(pieces)


def _ask() -> str:
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return ""
