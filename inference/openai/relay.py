"""From an engine to a client: holds the model while the answer runs, and looks alive until it does."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx2

from homelab.errors import HomelabError
from inference.errors import EngineFailed
from inference.openai.errors import error_event
from inference.openai.schema import Generation
from inference.pool import EnginePool

logger = logging.getLogger(__name__)

PING_SECONDS = 10.0


class Exchange:
    """One request to the engine of a model: `open` it, read its answer, `close` it. Closing stops the generation."""

    def __init__(self, pool: EnginePool, generation: Generation, *, path: str) -> None:
        self.pool = pool
        self.generation = generation
        self.path = path
        self.stack = AsyncExitStack()
        self.opening: asyncio.Task[httpx2.Response] | None = None

    def open(self) -> "asyncio.Task[httpx2.Response]":
        """Loads the model if need be, and sends the request. The task ends when the engine's headers are there."""
        if self.opening is None:
            self.opening = asyncio.create_task(self._open())
        return self.opening

    async def _open(self) -> httpx2.Response:
        wanted = self.generation
        engine = await self.stack.enter_async_context(
            self.pool.use(wanted.model, keep_alive_seconds=wanted.keep_alive_seconds)
        )
        request = engine.client.build_request("POST", self.path, json=wanted.body)
        try:
            response = await engine.client.send(request, stream=True)
        except httpx2.TransportError as error:
            raise EngineFailed(f"The engine of {wanted.model} did not answer: {engine.last_words()}") from error
        self.stack.push_async_callback(response.aclose)
        return response

    async def close(self) -> None:
        if self.opening is not None and not self.opening.done():
            self.opening.cancel()
            await asyncio.gather(self.opening, return_exceptions=True)
        await self.stack.aclose()

    async def read_body(self) -> tuple[int, bytes]:
        """Status and body of an answer that is no stream."""
        response = await self.open()
        try:
            return response.status_code, await response.aread()
        except httpx2.TransportError as error:
            raise self._died(error) from error

    async def events(self) -> AsyncIterator[bytes]:
        """The engine's events, a comment every ten seconds until the first, and an error as an event."""
        try:
            async for waiting in self._wait_with_pings():
                yield waiting
            response = await self.open()
            if response.status_code != 200:
                yield _event(json.loads(await response.aread()))
                return
            async for chunk in self._chunks(response):
                yield chunk
        except HomelabError as error:
            yield _event(error_event(error))
        except Exception:
            logger.exception("A stream of %s broke in a way that nobody expected", self.generation.model)
            yield _event(error_event(HomelabError("The server made a mistake. Its log has the details.")))
        finally:
            await self.close()

    async def _wait_with_pings(self) -> AsyncIterator[bytes]:
        while not self.open().done():
            yield f": {self.pool.state_of(self.generation.model)}\n\n".encode()
            await asyncio.wait({self.open()}, timeout=PING_SECONDS)

    async def _chunks(self, response: httpx2.Response) -> AsyncIterator[bytes]:
        try:
            async for chunk in response.aiter_raw():
                yield chunk
        except httpx2.TransportError as error:
            raise self._died(error) from error

    def _died(self, error: Exception) -> EngineFailed:
        return EngineFailed(f"The engine of {self.generation.model} died while it answered ({type(error).__name__}).")


def _event(data: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()
