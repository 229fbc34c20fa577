"""Changes of what is in memory, as they come: for the API's event stream."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from inference.pool import EnginePool
from inference.services import describe_presence, list_presences

LOOK_SECONDS = 0.25
_QUIET_SECONDS = 10.0


class PresenceWatch:
    """Remembers what it told. Looks at the pool alone, never at the database."""

    def __init__(self, pool: EnginePool) -> None:
        self._pool = pool
        self._told: dict[str, list[dict[str, Any]]] = {}

    def all(self) -> list[dict[str, Any]]:
        """Everybody, once; then `changed`."""
        now = list_presences(self._pool)
        self._told = {}
        for each in now:
            self._told.setdefault(each["model"], []).append(each)
        return now

    def changed(self) -> list[dict[str, Any]]:
        """Those that are not as they were told, and those that are gone. Of a model that is there twice both: the last
        word on it is not about the engine that leaves."""
        told = self._told
        now = self.all()
        gone = [describe_presence(name, pool=self._pool) for name in told if name not in self._told]
        return [*gone, *(each for each in now if told.get(each["model"]) != self._told[each["model"]])]


async def stream_presences(pool: EnginePool) -> AsyncIterator[bytes]:
    """Server-sent events for as long as somebody listens."""
    watch = PresenceWatch(pool)
    yield _event("ps", watch.all())
    spoke_at = time.monotonic()
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        text = b"".join(_event("model", each) for each in watch.changed())
        if not text and time.monotonic() - spoke_at >= _QUIET_SECONDS:
            text = b": nothing new\n\n"
        if text:
            spoke_at = time.monotonic()
            yield text


def _event(name: str, value: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps(value)}\n\n".encode()
