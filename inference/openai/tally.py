"""Counts what an answer is made of, while it passes: a look for a few bytes, and no JSON but for the last figures.

These bytes cannot come from a model: in its text, each quotation mark has a backslash before it.
"""

import json
import time
from collections.abc import Mapping
from typing import Any

from inference.openai.schema import Generation

_EVENT_ENDS = b"\n\n"
_DONE = b"data: [DONE]\n\n"
_ROLE = b'"role":"assistant"'
_ERROR = b'data: {"error"'
_NO_CHOICES = b'"choices":[]'
_NO_USAGE = b',"usage":null}'


class Tally:
    """`events` are those with something of the answer in them; times are those of the monotonic clock."""

    def __init__(self, generation: Generation) -> None:
        self.events = 0
        self.first_at: float | None = None
        self.is_whole = False
        self.error_code = ""
        self.usage: Mapping[str, Any] = {}
        self._hides_usage = not generation.wants_usage

    def take(self, part: bytes) -> bytes:
        """A part of a stream, whole events. Answers what of it the client gets."""
        self.events += part.count(_EVENT_ENDS) - part.count(_ROLE)
        if _ERROR in part:
            self._take_error(part)
        if self.first_at is None and self.events > 0:
            self.first_at = time.monotonic()
        if _NO_CHOICES in part:
            part = self._take_usage(part)
        if part.endswith(_DONE):
            self.is_whole = True
            self.events -= 1
        return part.replace(_NO_USAGE, b"}") if self._hides_usage else part

    def take_body(self, body: bytes) -> None:
        """An answer that is no stream."""
        answer = _parse(body)
        self.usage = answer.get("usage") or {}
        self.error_code = _code_of(answer)
        self.is_whole = not self.error_code

    @property
    def prompt_tokens(self) -> int | None:
        return self._figure("prompt_tokens")

    @property
    def completion_tokens(self) -> int | None:
        """As the engine counted; of an answer that was cut off, as many as there were events."""
        return self._figure("completion_tokens") or self.events or None

    def _figure(self, name: str) -> int | None:
        value = self.usage.get(name)
        return value if isinstance(value, int) else None

    def _take_error(self, part: bytes) -> None:
        """It is the last that an engine says."""
        event = part[part.index(_ERROR) :].removeprefix(b"data: ")
        self.error_code = _code_of(_parse(event))
        self.events -= 1

    def _take_usage(self, part: bytes) -> bytes:
        events = part.split(_EVENT_ENDS)
        for event in events:
            if _NO_CHOICES in event:
                self.usage = _parse(event.removeprefix(b"data: ")).get("usage") or {}
        kept = [event for event in events if not (self._hides_usage and _NO_CHOICES in event)]
        return _EVENT_ENDS.join(kept)


def _code_of(answer: Mapping[str, Any]) -> str:
    error = answer.get("error")
    return str(error.get("code") or "engine_failed") if isinstance(error, dict) else ""


def _parse(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
