"""Strict readers for `.env` and the environment: a wrong value is a sentence, never a guess.

django-environ loads the file; the parsing of values is ours, because its own readers make 80100.0 of
`80  # if you have 100GB available`, a line from the user's guide.
"""

import io
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from homelab.addresses import Network, parse_address, parse_network
from homelab.durations import parse_duration

_COMMENT = re.compile(r"\s+#.*$")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_HOST_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_BOOLEANS = {"on": True, "true": True, "yes": True, "1": True, "off": False, "false": False, "no": False, "0": False}


def load_env_file(path: Path) -> None:
    """Adds the file's settings to the environment; what is set there already wins. No file is fine."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise ImproperlyConfigured(f"{path} cannot be read: {error}") from error
    environ.Env.read_env(io.StringIO("\n".join(strip_comment(line) for line in text.splitlines())))


def strip_comment(line: str) -> str:
    """`A=80  # why` -> `A=80`; quoted values keep their `#`."""
    name, separator, value = line.partition("=")
    value = value.strip()
    if not separator or name.lstrip().startswith("#") or value[:1] in {"'", '"'}:
        return line
    return f"{name}={_COMMENT.sub('', ' ' + value).strip()}"


class Reader:
    """Reads settings by name from a mapping and remembers the names, for the test that guards `.env.example`."""

    def __init__(self, values: Mapping[str, str] = os.environ) -> None:
        self.values = values
        self.names: set[str] = set()

    def text(self, name: str, default: str = "") -> str:
        self.names.add(name)
        return self.values.get(name, "").strip() or default

    def path(self, name: str, default: Path | str) -> Path:
        """An absolute path without `..`; `~` is the home directory."""
        path = Path(self.text(name, str(default))).expanduser()
        if not path.is_absolute():
            raise wrong(name, str(path), "an absolute path")
        return Path(os.path.normpath(path))

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
        """`http://` or `https://` with a host, or "" for none."""
        text = self.text(name)
        if text and not _is_web_address(text):
            raise wrong(name, text, "an address such as https://example.org/hook")
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
    return ImproperlyConfigured(f"{name} is {value!r}, but {wanted} is wanted. Correct it in .env and start again.")
