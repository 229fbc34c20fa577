"""The settings as they count now: in the groups and with the words of `.env.example`, each with where it comes from."""

import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from django.conf import settings

from homelab.env import Reading

_GROUP = re.compile(r"# --- (.+) ---")
_SETTING = re.compile(r"(?:# )?([A-Z][A-Z0-9_]*)=")
_OTHERS = "Others"
SOURCES = {"file": ".env", "environment": "environment", "default": "default"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One setting: its value without secrets, where that comes from, and what it is for."""

    name: str
    shown: str
    source: str
    words: str

    @property
    def is_own(self) -> bool:
        """Somebody chose it."""
        return self.source != "default"

    @property
    def source_words(self) -> str:
        return SOURCES[self.source]


@dataclass(frozen=True, slots=True)
class Group:
    title: str
    entries: tuple[Entry, ...]

    @property
    def own_count(self) -> int:
        return sum(entry.is_own for entry in self.entries)


def list_configuration() -> list[Group]:
    """In the order of `.env.example`. No secret is in it."""
    readings: dict[str, Reading] = {reading.name: reading for reading in settings.CONFIGURATION}
    explained = read_example(settings.BASE_DIR / ".env.example")
    groups: dict[str, list[Entry]] = {}
    for name, (title, words) in explained.items():
        if name in readings:
            groups.setdefault(title, []).append(_entry(readings.pop(name), words=words))
    if readings:
        groups[_OTHERS] = [_entry(reading, words="") for reading in readings.values()]
    return [Group(title, tuple(entries)) for title, entries in groups.items()]


def _entry(reading: Reading, *, words: str) -> Entry:
    return Entry(reading.name, reading.shown or "empty", reading.source, words)


def env_file() -> str:
    """The path of the file that was looked for; "" where there shall be none."""
    path = str(settings.ENV_FILE)
    return "" if path == os.devnull else path


@cache
def read_example(path: Path) -> dict[str, tuple[str, str]]:
    """By the setting's name: the heading above it, and the comment line before it. Empty without the file."""
    found: dict[str, tuple[str, str]] = {}
    title, words = _OTHERS, ""
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        if heading := _GROUP.fullmatch(line):
            title = heading[1]
        elif setting := _SETTING.match(line):
            found[setting[1]] = (title, words)
        else:
            words = line.removeprefix("#").strip()
    return found
