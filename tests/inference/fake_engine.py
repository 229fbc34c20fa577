"""An engine that says what a test wants, as fast or as slowly: a socket of the test's own in the place of a model's."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from inference.pool import EnginePool
from inference.process import EnginePlan, EngineProcess
from inference.slots import Slot

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
ROLE = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}
TOKEN = {"choices": [{"index": 0, "delta": {"content": " word"}, "finish_reason": None}]}
Talk = Callable[[asyncio.StreamWriter], AsyncIterator[bytes]]


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class FakeEngine:
    """`talk` makes the events of each answer. Counts what runs, and what it has sent."""

    def __init__(self, talk: Callable[[], AsyncIterator[bytes]]) -> None:
        self.talk = talk
        self.active = 0
        self.sent_bytes = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET /status"):
                body = json.dumps({"active": self.active, "queued": 0}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                return
            self.active += 1
            try:
                await self._stream(reader, writer)
            finally:
                self.active -= 1
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talking = asyncio.ensure_future(self._talk(writer))
        leaving = asyncio.ensure_future(_wait_until_left(reader))
        await asyncio.wait({talking, leaving}, return_when=asyncio.FIRST_COMPLETED)
        for task in (talking, leaving):
            task.cancel()
        await asyncio.gather(talking, leaving, return_exceptions=True)

    async def _talk(self, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        async for data in self.talk():
            writer.write(chunk(data))
            self.sent_bytes += len(data)
            await writer.drain()
        writer.write(chunk(b""))
        await writer.drain()


async def _loaded(slot: Slot) -> EngineProcess:
    assert slot.engine is not None
    return slot.engine


async def _wait_until_left(reader: asyncio.StreamReader) -> None:
    while await reader.read(65536):
        continue


@asynccontextmanager
async def standing_in(
    pool: EnginePool, talk: Callable[[], AsyncIterator[bytes]], folder: Path
) -> AsyncIterator[FakeEngine]:
    """A model `tiny` that is loaded, as far as the pool knows. Its process only sleeps."""
    fake = FakeEngine(talk)
    plan = EnginePlan("tiny", folder, folder / "fake.sock", folder / "fake.log", folder)
    plan.log_path.touch()
    server = await asyncio.start_unix_server(fake.answer, plan.socket_path, backlog=1000)
    sleep = "import time; time.sleep(3600)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", sleep, start_new_session=True)
    slot = Slot("tiny", engine=EngineProcess(plan, process))
    slot.loading = asyncio.create_task(_loaded(slot))
    await slot.loading
    slot.enter("ready")
    pool.residents.add(slot)
    try:
        yield fake
    finally:
        server.close()
