"""Who called, as ASGI has it: a body that comes, an answer that goes, and the moment when somebody leaves."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import aclosing
from typing import Any

from inference.errors import BadRequest, BodyTooLarge, BodyTooSlow

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 8 * 10**6
BODY_SECONDS = 60.0
WRITE_SECONDS = 60.0
"""How long a client may take to read what fills the buffers between us; then it has left."""
_DRAINED_BYTES = 8 * MAX_BODY_BYTES
_DRAIN_SECONDS = 10.0
_STREAM_HEADERS = {"content-type": "text/event-stream", "cache-control": "no-cache", "x-accel-buffering": "no"}


class CallerLeft(Exception):
    """In the middle of its own request."""


class Caller:
    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self._read_bytes = 0
        self._has_more = True

    # What it asks

    async def read_json(self) -> Any:
        """Raises BadRequest, BodyTooLarge, BodyTooSlow, CallerLeft."""
        if self._header(b"content-type").split(b";")[0].strip().lower() != b"application/json":
            raise _wrong_type()
        body = await self._read()
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"The body is not JSON: {error}", param="body", code="invalid_json") from error

    async def _read(self) -> bytes:
        parts = []
        self._check_size(int(self._header(b"content-length") or 0))
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while self._has_more:
                    parts.append(await self._next())
                    self._check_size(self._read_bytes)
        except TimeoutError as error:
            raise BodyTooSlow(f"The body did not come within {BODY_SECONDS:g} s.") from error
        return b"".join(parts)

    async def drain(self) -> None:
        """Many clients look for an answer only once all is sent. Nothing of it is kept."""
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while self._has_more and self._read_bytes < _DRAINED_BYTES:
                    await self._next()
        except (TimeoutError, CallerLeft):
            return

    async def wait_until_left(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            continue

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise CallerLeft
        part: bytes = message.get("body", b"")
        self._read_bytes += len(part)
        self._has_more = bool(message.get("more_body", False))
        return part

    def _header(self, wanted: bytes) -> bytes:
        return next((value for name, value in self.scope["headers"] if name == wanted), b"")

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > MAX_BODY_BYTES:
            raise BodyTooLarge(
                f"The body has {size_bytes} bytes or more, and {MAX_BODY_BYTES} are the most that is read. "
                "Shorten the prompt."
            )

    # What it gets

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


def _wrong_type() -> BadRequest:
    error = BadRequest(
        "The body has to be JSON: send Content-Type: application/json.", param="body", code="unsupported_media_type"
    )
    error.status = 415
    return error
