"""HTTP/1.1 to an engine's unix socket, and no more of it than an engine speaks: one connection for each request.

A stream is handed on as it comes, and all that came together in one piece: when the reader is the slower one, the
pieces grow. With a library that hands on each chunk by itself, the whole gateway took twice the time.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_READ_BYTES = 64 * 1024
_CONNECT_SECONDS = 5.0
_CROWDED_SECONDS = 0.01


class LinkBroken(ConnectionError):
    """The engine takes no connection, or it went away before its answer was whole."""


class ChunkReader:
    """Takes `Transfer-Encoding: chunked` apart, in whatever pieces it comes, and never splits a chunk."""

    def __init__(self) -> None:
        self.is_over = False
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """All chunks that are whole by now, one after the other."""
        data = self._rest + data if self._rest else data
        chunks, at = [], 0
        while not self.is_over and (line_ends := data.find(b"\r\n", at)) >= 0:
            size = int(data[at:line_ends], 16)
            starts, ends = line_ends + 2, line_ends + 2 + size
            if len(data) < ends + 2:
                break
            chunks.append(data[starts:ends])
            self.is_over, at = size == 0, ends + 2
        self._rest = data[at:]
        return b"".join(chunks)


@dataclass(eq=False)
class Answer:
    """Status and headers are there, the body comes. `close` it in any case: before the end, that stops the work."""

    status: int
    headers: Mapping[str, str]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def parts(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises LinkBroken when it ends too early."""
        if "transfer-encoding" in self.headers:
            chunks = ChunkReader()
            while not chunks.is_over:
                if part := chunks.feed(await self._some()):
                    yield part
            return
        missing = int(self.headers.get("content-length", 0))
        while missing > 0:
            part = await self._some()
            missing -= len(part)
            yield part

    async def read(self) -> bytes:
        return b"".join([part async for part in self.parts()])

    def close(self) -> None:
        self.writer.transport.abort()

    async def _some(self) -> bytes:
        try:
            data = await self.reader.read(_READ_BYTES)
        except OSError as error:
            raise LinkBroken(f"The connection broke: {error}") from error
        if not data:
            raise LinkBroken("The connection ended in the middle of an answer.")
        return data


async def send(path: Path, method: str, target: str, *, body: bytes = b"") -> Answer:
    """Sends one request to the socket at `path`; returns when the answer's headers are there. Raises LinkBroken."""
    reader, writer = await _connect(path)
    try:
        writer.write(_request(method, target, body) + body)
        status, headers = _parse_head(await reader.readuntil(b"\r\n\r\n"))
    except BaseException as error:
        writer.transport.abort()
        if isinstance(error, OSError | EOFError | asyncio.LimitOverrunError | ValueError | LookupError):
            raise LinkBroken(f"No answer came: {type(error).__name__}") from error
        raise
    return Answer(status, headers, reader, writer)


async def get_json(path: Path, target: str, *, limit_seconds: float) -> tuple[int, Any]:
    """Status and JSON of a GET. Raises LinkBroken, also for what is no JSON, and TimeoutError."""
    async with asyncio.timeout(limit_seconds):
        answer = await send(path, "GET", target)
        try:
            return answer.status, json.loads(await answer.read())
        except ValueError as error:
            raise LinkBroken(f"{target} answered no JSON.") from error
        finally:
            answer.close()


async def _connect(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A unix socket whose queue is full says so at once, instead of letting one wait."""
    raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    raw.setblocking(False)  # noqa: FBT003  (socket's own signature)
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            while not _try_connect(raw, path):
                await asyncio.sleep(_CROWDED_SECONDS)
            return await asyncio.open_unix_connection(sock=raw, limit=_READ_BYTES)
    except BaseException as error:
        raw.close()
        if isinstance(error, OSError):  # TimeoutError is one
            raise LinkBroken(f"The engine takes no connection: {error}") from error
        raise


def _try_connect(raw: socket.socket, path: Path) -> bool:
    try:
        raw.connect(str(path))
    except BlockingIOError:
        return False
    return True


def _request(method: str, target: str, body: bytes) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: engine", "Connection: close"]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def _parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").rstrip().split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return int(first.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}
