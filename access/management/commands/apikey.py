import re
from argparse import ArgumentParser
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from rich.table import Table

from access import services
from access.models import ApiKey
from access.serializers import ApiKeySerializer, describe_new_key
from homelab.errors import InvalidValue
from homelab.shell import ShellCommand

_DAYS = re.compile(r"([1-9][0-9]{0,4})d")


class Command(ShellCommand):
    help = "API keys for programs on other devices: make one, list them, revoke or rotate one."

    def add_options(self, parser: ArgumentParser) -> None:
        parser.add_argument("work", choices=["create", "list", "revoke", "rotate"])
        parser.add_argument("key", nargs="?", default="", help="create: a name for it. revoke, rotate: its prefix.")
        parser.add_argument("--scope", choices=ApiKey.Scope.values, help="create: what it opens.")
        parser.add_argument("--expires", metavar="90d", help="create: after so many days it is dead. Else never.")

    def run(self, *, work: str, key: str, scope: str | None, expires: str | None, **_: Any) -> None:
        if work == "list":
            return self._list()
        if work == "create":
            return self._create(key, scope=scope, expires=expires)
        if not key:
            raise InvalidValue(f"Which key? manage.py apikey {work} PREFIX; list shows them.", field="key")
        found = services.find_key(key)
        if work == "rotate":
            return self._tell(*services.rotate(found))
        services.revoke(found)
        if self.as_json:
            return self.print_json(ApiKeySerializer(found).data)
        self.say(f"{found.name} ({found.prefix}) is revoked. Within two seconds it opens nothing any more.")

    def _create(self, name: str, *, scope: str | None, expires: str | None) -> None:
        if not name:
            raise InvalidValue("A key wants a name: manage.py apikey create NAME --scope inference", field="key")
        if scope is None:
            raise InvalidValue(f"Say what it opens: --scope {' or --scope '.join(ApiKey.Scope.values)}", field="scope")
        expires_at = None if expires is None else timezone.now() + _parse_days(expires)
        self._tell(*services.make_key(name=name, scope=scope, expires_at=expires_at))

    def _tell(self, key: ApiKey, text: str) -> None:
        if self.as_json:
            return self.print_json(describe_new_key(key, text=text))
        self.say(f"{text}\nThis is the {key.scope} key '{key.name}'. It is shown this once: keep it somewhere safe.")

    def _list(self) -> None:
        keys = list(ApiKey.objects.all())
        if self.as_json:
            return self.print_json(ApiKeySerializer(keys, many=True).data)
        table = Table("Prefix", "Name", "Scope", "State", "Expires", "Last used", box=None, padding=(0, 2))
        for key in keys:
            moments = (_moment(key.expiry_date), _moment(key.last_used_at))
            table.add_row(key.prefix, key.name, key.scope, key.state, *moments)
        self.console.print(table)


def _moment(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else "never"


def _parse_days(text: str) -> timedelta:
    match = _DAYS.fullmatch(text)
    if match is None:
        raise InvalidValue(f"--expires is {text!r}; days such as 90d are wanted.", field="expires")
    return timedelta(days=int(match[1]))
