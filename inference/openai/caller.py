"""Who called, as ASGI has it: a body that comes, an answer that goes, and the moment when somebody leaves."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from homelab.bodies import Body, Receive, Scope, Send, parse_body, refuse
from homelab.errors import HomelabError

logger = logging.getLogger(__name__)

WRITE_SECONDS = 60.0
"""How long a client may take to read what fills the buffers between us; then it has left."""
_STREAM_HEADERS = {"content-type": "text/event-stream", "cache-control": "no-cache", "x-accel-buffering": "no"}


class Caller:
    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.body = Body(scope, receive)
        self._receive = receive
        self._send = send

    # What it asks

    async def read_json(self) -> Any:
        """None for an empty body. Raises what `Body.read` and `parse_json` raise."""
        return await parse_body(await self.body.read())

    async def wait_until_left(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            continue

    # What it gets

    async def refuse(self, error: HomelabError) -> None:
        await refuse(error, scope=self.scope, body=self.body, send=self._send)

    async def answer(self, body: bytes, *, status: int, headers: Mapping[str, str]) -> None:
        """JSON."""
        about = {"content-type": "application/json", "content-length": str(len(body)), **headers}
        await self._start(status, about)
        await self._send({"type": "http.response.body", "body": body})

    async def stream(self, events: AsyncGenerator[bytes, None]) -> None:
        """A client that does not read holds a model, and a place in the house: after a minute it does not any more."""
        async with aclosing(events):
            await self._start(200, _STREAM_HEADERS)
            try:
                async for part in events:
                    async with asyncio.timeout(WRITE_SECONDS):
                        await self._send({"type": "http.response.body", "body": part, "more_body": True})
            except TimeoutError:
                logger.warning("A client reads nothing of its answer for %g s: it is cut off.", WRITE_SECONDS)
                return
            await self._send({"type": "http.response.body"})

    async def _start(self, status: int, headers: Mapping[str, str]) -> None:
        pairs = {"x-content-type-options": "nosniff", **headers}
        encoded = [(name.lower().encode(), value.encode()) for name, value in pairs.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": encoded})
