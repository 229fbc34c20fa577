"""The web process as clients see it, on a free port, in the test's own event loop: the gate, the door, Django, and a pool
whose inside a test can look at."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import openai
import uvicorn
from django.core.asgi import get_asgi_application

from access.doorman import Doorman
from homelab.asgi import PoolLife
from homelab.gate import Gate, House
from homelab.web import server_config
from inference.openai.door import Door
from inference.pool import EnginePool

CHAT = "/v1/chat/completions"


class QuietServer(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass
class Gateway:
    pool: EnginePool
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def openai(self, **options: Any) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="any", **{"max_retries": 0} | options)

    def http(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(base_url=self.url, timeout=60, trust_env=False)

    async def status_of_engine(self, name: str = "tiny") -> dict[str, Any]:
        """Its own counters: what it works on."""
        _, status = await self.pool.residents.slots[name].engine.get("/status", limit_seconds=5)
        return status

    async def until_engine(self, *, seconds: float, name: str = "tiny", **wanted: int) -> None:
        async with asyncio.timeout(seconds):
            while True:
                status = await self.status_of_engine(name)
                if all(status[key] == value for key, value in wanted.items()):
                    return
                await asyncio.sleep(0.02)

    @asynccontextmanager
    async def posted(self, body: dict[str, Any], *, path: str = CHAT) -> AsyncIterator["Raw"]:
        """A connection that has sent its request, and is dropped at the end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        try:
            yield Raw(reader, writer)
        finally:
            writer.transport.abort()


@dataclass
class Raw:
    """A client that reads by hand."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def head(self) -> tuple[int, dict[str, str]]:
        first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
        return int(first.split()[1]), {
            name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
        }

    async def line(self) -> str:
        """The next line of the body that is no chunk's frame."""
        while True:
            line = (await self.reader.readline()).decode().strip()
            if line.startswith(("data:", ":", "event:")):
                return line

    async def events(self, count: int) -> list[str]:
        """The next events with data."""
        found: list[str] = []
        while len(found) < count:
            if (line := await self.line()).startswith("data:"):
                found.append(line.removeprefix("data: "))
        return found


@asynccontextmanager
async def serving(pool: EnginePool) -> AsyncIterator[Gateway]:
    """Starts the pool and closes it, as the web process does."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    app = Gate(
        PoolLife(Door(get_asgi_application()), make_pool=lambda: pool), port=port, doorman=Doorman(), house=House()
    )
    server = QuietServer(server_config(app))
    running = asyncio.create_task(server.serve(sockets=[sock]))
    async with asyncio.timeout(30):
        while not server.started:
            await asyncio.sleep(0.01)
    try:
        yield Gateway(pool, port)
    finally:
        server.should_exit = True
        await running
