"""From an engine to a client: holds the model while the answer runs, and looks alive until it does."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

from homelab.errors import HomelabError
from inference.link import Answer, LinkBroken
from inference.openai.account import Account
from inference.openai.errors import error_event
from inference.openai.schema import Generation
from inference.openai.tally import Tally
from inference.pool import EnginePool
from inference.process import EngineProcess
from inference.slots import Slot
from inference.stages import Stage

logger = logging.getLogger(__name__)

PING_SECONDS = 10.0
HEADERS_WITHIN_SECONDS = 2.0
_GLANCE_SECONDS = 0.02
_LAST_BREATH_SECONDS = 1.0


class Exchange:
    """One request to the engine of a model: `open` it, read its answer, `close` it. Closing stops the generation."""

    def __init__(self, pool: EnginePool, generation: Generation, *, path: str) -> None:
        self.pool = pool
        self.generation = generation
        self.path = path
        self.tally = Tally(generation)
        self.account = Account(generation, path=path)
        self.slot: Slot | None = None
        self.engine: EngineProcess | None = None
        self.stack = AsyncExitStack()
        self.opening: asyncio.Task[Answer] | None = None

    def open(self) -> "asyncio.Task[Answer]":
        """Loads the model if need be, and sends the request. The task ends when the engine's headers are there."""
        if self.opening is None:
            self.opening = asyncio.create_task(self._open())
        return self.opening

    async def _open(self) -> Answer:
        wanted = self.generation
        self.slot = slot = await self.pool.find(wanted.model, keep_alive_seconds=wanted.keep_alive_seconds)
        self.account.begin(slot)
        self.engine = await self.stack.enter_async_context(self.pool.held(slot))
        self.account.note_loaded()
        try:
            answer = await self.engine.send("POST", self.path, body=wanted.order)
        except LinkBroken:
            raise await self._explain_end() from None
        self.stack.callback(answer.close)
        return answer

    async def close(self) -> None:
        """Twice is safe."""
        if self.opening is not None and not self.opening.done():
            self.opening.cancel()
            await asyncio.gather(self.opening, return_exceptions=True)
        await self.stack.aclose()
        self.account.close(self.tally, records=self.pool.records)

    # An answer that is no stream

    async def read_body(self) -> tuple[int, bytes]:
        """Status and body."""
        try:
            answer = await self.open()
            body = await self._read(answer)
        except HomelabError as error:
            self.account.note_error(error.code)
            raise
        except Exception:
            self.account.note_error(HomelabError.code)
            raise
        self.tally.take_body(body)
        self.account.note_end(self.tally)
        return answer.status, body

    async def _read(self, answer: Answer) -> bytes:
        try:
            body = await answer.read()
        except LinkBroken:
            raise await self._explain_end() from None
        if answer.status != 200:
            self._heed_verdict()
        return body

    # A stream

    async def wait_for_outcome(self) -> None:
        """Until it is open, or went wrong, or is known to take a while: the model is on its way. Not for long."""
        deadline = time.monotonic() + HEADERS_WITHIN_SECONDS
        while not (self.open().done() or self._is_under_way or time.monotonic() > deadline):
            await asyncio.wait({self.open()}, timeout=_GLANCE_SECONDS)

    @property
    def _is_under_way(self) -> bool:
        """Its files are found and there is memory for it, or it says what it waits for."""
        stage = self.slot.stage if self.slot else Stage()
        return stage.name in {"downloading", "reading", "warming"} or bool(stage.reason)

    async def has_begun(self) -> bool:
        """Once it is open: False for an answer that is no stream. Raises what went wrong."""
        try:
            return (await self.open()).status == 200
        except HomelabError as error:
            self.account.note_error(error.code)
            raise

    async def events(self) -> AsyncGenerator[bytes, None]:
        """The engine's events, comment lines while there are none, and an error as the last event."""
        try:
            async for comment in self._look_alive(self.open(), at_once=True):
                yield comment
            answer = await self.open()
            if answer.status != 200:
                yield self._fail(json.loads(await self._read(answer)))
                return
            async for part in self._relay(answer):
                yield part
            self.account.note_end(self.tally)
        except HomelabError as error:
            yield self._fail(error_event(error))
        except Exception:
            logger.exception("A stream of %s broke in a way that nobody expected", self.generation.model)
            yield self._fail(error_event(HomelabError("The server made a mistake. Its log has the details.")))

    async def _relay(self, answer: Answer) -> AsyncIterator[bytes]:
        parts, tally = answer.parts(), self.tally
        try:
            while tally.first_at is None:
                coming = asyncio.ensure_future(anext(parts, b""))
                async for comment in self._look_alive(coming):
                    yield comment
                if not (part := coming.result()):
                    return
                self._heed_verdict()
                if shown := tally.take(part):
                    yield shown
            async for part in parts:
                self._heed_verdict()
                if shown := tally.take(part):
                    yield shown
        except LinkBroken:
            raise await self._explain_end() from None

    def _heed_verdict(self) -> None:
        """An engine that we end has last words of its own; why we end it says more."""
        if self.engine is not None and self.engine.verdict is not None:
            raise self.engine.verdict

    async def _look_alive(self, coming: "asyncio.Future[Any]", *, at_once: bool = False) -> AsyncIterator[bytes]:
        """A comment line every ten seconds, until it is there."""
        try:
            while not coming.done():
                if at_once:
                    yield self._comment()
                at_once = True
                await asyncio.wait({coming}, timeout=PING_SECONDS)
        finally:
            coming.cancel()

    def _comment(self) -> bytes:
        stage = self.slot.stage if self.slot else "queued"
        return f": {'waiting for the first token' if self.engine else f'loading {stage}'}\n\n".encode()

    def _fail(self, event: dict[str, Any]) -> bytes:
        self.account.note_error(str(event.get("error", {}).get("code", "")))
        return f"data: {json.dumps(event)}\n\n".encode()

    async def _explain_end(self) -> HomelabError:
        """A connection breaks a moment before its process is seen to be gone."""
        assert self.engine is not None
        await self.engine.wait_for_end(seconds=_LAST_BREATH_SECONDS)
        return self.engine.explain_end()
