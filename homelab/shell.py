"""The base of our `manage.py` commands: errors are sentences, output is for people, or JSON with `--json`."""

import json
import sys
from argparse import ArgumentParser
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DatabaseError
from rich.console import Console

from homelab import audit
from homelab.errors import HomelabError, InvalidValue

if TYPE_CHECKING:
    from rest_framework.serializers import Serializer

_PIPE_WIDTH = 160
_WAY_OUT = "Where it was never made, start script/server once, or run manage.py migrate."


class ShellCommand(BaseCommand):
    """Subclasses write `add_options` and `run`. Exit status: 0 done, 1 the answer is no or an error."""

    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="Print JSON instead of text.")
        self.add_options(parser)

    def add_options(self, parser: ArgumentParser) -> None:
        """For subclasses: their own arguments."""

    def handle(self, *args: Any, **options: Any) -> None:
        self.as_json = bool(options["json"])
        try:
            with audit.acting(audit.SHELL):
                self.run(**options)
        except HomelabError as error:
            raise CommandError(error.message) from error
        except DatabaseError as error:
            raise CommandError(f"The database cannot be used: {error}. {_WAY_OUT}") from error
        except KeyboardInterrupt as error:
            raise CommandError("Stopped.") from error

    def run(self, *args: Any, **options: Any) -> None:
        raise NotImplementedError

    @property
    def console(self) -> Console:
        width = None if self.stdout.isatty() else _PIPE_WIDTH
        return Console(file=self.stdout, highlight=False, soft_wrap=True, width=width)  # type: ignore[arg-type]

    def say(self, sentence: str) -> None:
        """For people alone: with `--json` the output is one document."""
        if not self.as_json:
            self.console.print(sentence, markup=False)

    def may(self, question: str, is_sure: bool) -> bool:  # noqa: FBT001  (the answer that was given beforehand)
        """Asks before something goes for good. Where nobody can answer, the answer is no: say --yes."""
        if is_sure:
            return True
        if self.as_json or not sys.stdin.isatty():
            raise InvalidValue(f"{question} Nobody can be asked here: say --yes.", field="yes")
        return input(f"{question} [y/N] ").strip().lower() in {"y", "yes"}

    def checked(self, serializer: "Serializer[Any]") -> dict[str, Any]:
        """The validated words of the command line. Raises InvalidValue about the first that is wrong."""
        if not serializer.is_valid():
            field, problems = next(iter(serializer.errors.items()))
            raise InvalidValue(f"{field}: {problems[0]}", field=str(field))
        return dict(serializer.validated_data)

    def print_json(self, data: Any) -> None:
        self.stdout.write(json.dumps(data, indent=2, cls=DjangoJSONEncoder))
