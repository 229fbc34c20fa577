"""Strict readers for `.env` and the environment: a wrong value is a sentence, never a guess.

django-environ loads the file; the parsing of values is ours, because its own readers make 80100.0 of
`80  # if you have 100GB available`, a line from the user's guide.
"""

import io
import math
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from homelab.addresses import Network, parse_address, parse_network
from homelab.durations import parse_duration
from homelab.masking import mask_address, mask_userinfo, secrets_in

_COMMENT = re.compile(r"\s+#.*$")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_HOST_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_BOOLEANS = {"on": True, "true": True, "yes": True, "1": True, "off": False, "false": False, "no": False, "0": False}
_FROM_FILE = "HOMELAB_SETTINGS_FROM_FILE"
"""Names, with commas: child processes inherit what was read from the file, and have to know that it was."""


def load_env_file(path: Path) -> frozenset[str]:
    """Adds the file's settings to the environment; what is set there already wins. No file is fine. Answers the names
    of those that count, also where a process above this one read them."""
    before = set(os.environ)
    environ.Env.read_env(io.StringIO("\n".join(strip_comment(line) for line in _read_lines(path))))
    inherited = {name for name in os.environ.get(_FROM_FILE, "").split(",") if name}
    found = frozenset(inherited | (set(os.environ) - before))
    os.environ[_FROM_FILE] = ",".join(sorted(found))
    return found


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise ImproperlyConfigured(f"{path} cannot be read: {error}") from error


def strip_comment(line: str) -> str:
    """`A=80  # why` -> `A=80`; quoted values keep their `#`."""
    name, separator, value = line.partition("=")
    value = value.strip()
    if not separator or name.lstrip().startswith("#") or value[:1] in {"'", '"'}:
        return line
    return f"{name}={_COMMENT.sub('', ' ' + value).strip()}"


@dataclass(frozen=True, slots=True)
class Reading:
    """A setting as it counts. `shown` is for people, and has no secret in it."""

    name: str
    shown: str
    source: Literal["file", "environment", "default"]


class Reader:
    """Reads settings by name from a mapping. `readings` remembers what it read, by name, and where that came from;
    `secrets` what nobody may be shown. `from_file`: the names whose values a file gave."""

    def __init__(self, values: Mapping[str, str] = os.environ, *, from_file: Collection[str] = ()) -> None:
        self.values = values
        self.from_file = from_file
        self.readings: dict[str, Reading] = {}
        self.secrets: set[str] = set()

    def text(self, name: str, default: str = "") -> str:
        given = self.values.get(name, "").strip()
        set_by: Literal["file", "environment"] = "file" if name in self.from_file else "environment"
        text = given or default
        self.secrets |= secrets_in(text)
        self.readings[name] = Reading(name, mask_userinfo(text), source=set_by if given else "default")
        return text

    def _show(self, name: str, shown: str) -> None:
        self.readings[name] = replace(self.readings[name], shown=shown)

    def secret(self, name: str) -> str:
        text = self.text(name)
        self._show(name, "set" if text else "not set")
        return self.keep_secret(text) if text else ""

    def keep_secret(self, text: str) -> str:
        """Of whatever origin."""
        self.secrets.add(text)
        return text

    def path(self, name: str, default: Path | str) -> Path:
        """An absolute path without `..`; `~` is the home directory."""
        path = Path(self.text(name, str(default))).expanduser()
        if not path.is_absolute():
            raise wrong(name, str(path), "an absolute path")
        path = Path(os.path.normpath(path))
        self._show(name, str(path))
        return path

    def number(self, name: str, default: float, *, minimum: float, maximum: float = math.inf) -> float:
        text = self.text(name, f"{default:g}")
        wanted = f"a number from {minimum:g}" + (f" to {maximum:g}" if maximum < math.inf else "")
        if not _NUMBER.fullmatch(text) or not minimum <= float(text) <= maximum:
            raise wrong(name, text, wanted)
        return float(text)

    def optional_number(self, name: str, *, minimum: float) -> float | None:
        """None where it is not set."""
        return self.number(name, minimum, minimum=minimum) if self.text(name) else None

    def choice(self, name: str, default: str, *, among: Sequence[str]) -> str:
        text = self.text(name, default).lower()
        if text not in among:
            raise wrong(name, text, " or ".join(among))
        return text

    def integer(self, name: str, default: int, *, minimum: int, maximum: int) -> int:
        number = self.number(name, default, minimum=minimum, maximum=maximum)
        if not number.is_integer():
            raise wrong(name, f"{number:g}", "a whole number")
        return int(number)

    def boolean(self, name: str, *, default: bool) -> bool:
        text = self.text(name, "on" if default else "off").lower()
        if text not in _BOOLEANS:
            raise wrong(name, text, "on or off")
        return _BOOLEANS[text]

    def duration_seconds(self, name: str, default: str) -> float:
        """`5m`, `300`, `2h`; -1 is for ever."""
        text = self.text(name, default)
        seconds = parse_duration(text)
        if seconds is None:
            raise wrong(name, text, "seconds, or a number with s, m or h such as 5m, or -1 for ever")
        return seconds

    def web_address(self, name: str) -> str:
        """`http://` or `https://` with a host, or "" for none. Who knows it can use it: its path is a secret."""
        text = self.text(name)
        if text and not _is_web_address(text):
            raise wrong(name, text, "an address such as https://example.org/hook")
        self._show(name, mask_address(text) if text else "")
        self.secrets |= {text} - {""}
        return text

    def listing(self, name: str, default: Sequence[str] = ()) -> list[str]:
        text = self.text(name, ",".join(default))
        return [part.strip() for part in text.split(",") if part.strip()]

    def networks(self, name: str) -> tuple[Network, ...]:
        """Addresses and networks, such as `127.0.0.2, 10.0.0.0/24`. Everybody (`/0`) is none."""
        return tuple(_network(name, text) for text in self.listing(name))

    def host_names(self, name: str) -> list[str]:
        """Names as a Host header has them, in lower case, without a port; IPv6 addresses get their brackets."""
        return [_host_name(name, text.lower()) for text in self.listing(name)]


def _network(name: str, text: str) -> Network:
    network = parse_network(text)
    if network is None:
        raise wrong(name, text, "an address or a network such as 127.0.0.2 or 10.0.0.0/24")
    return network


def _host_name(name: str, text: str) -> str:
    address = parse_address(text)
    if not (address or _HOST_NAME.fullmatch(text)):
        raise wrong(name, text, "a name such as box.lan, without http:// and port,")
    return f"[{address}]" if address and address.version == 6 else text


def _is_web_address(text: str) -> bool:
    if not text.isascii() or not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, brackets that do not match
        return False


def wrong(name: str, value: str, wanted: str) -> ImproperlyConfigured:
    given = mask_userinfo(value)
    return ImproperlyConfigured(f"{name} is {given!r}, but {wanted} is wanted. Correct it in .env and start again.")
