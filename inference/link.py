"""HTTP/1.1 to an engine's unix socket, in h11's words: one connection for each request.

A stream is handed on as it comes, and all that came together in one piece: when the reader is the slower one, the
pieces grow.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h11

_READ_BYTES = 64 * 1024
_CONNECT_SECONDS = 5.0
_CROWDED_SECONDS = 0.01


class LinkBroken(ConnectionError):
    """The engine takes no connection, or it went away before its answer was whole, or that was no HTTP."""


class Wire:
    """A connection, and h11's events of what comes over it. All of it raises LinkBroken."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT)

    def send(self, *events: h11.Event) -> None:
        for event in events:
            self._writer.write(self._http.send(event) or b"")

    def come(self) -> h11.Event | None:
        """What is there already; None until more bytes come."""
        try:
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise LinkBroken(f"The answer broke off, or was none: {error}") from error
        return event if isinstance(event, h11.Event) else None

    async def coming(self) -> h11.Event:
        while (event := self.come()) is None:
            try:
                data = await self._reader.read(_READ_BYTES)
            except OSError as error:
                raise LinkBroken(f"The connection broke: {error}") from error
            self._http.receive_data(data)
        return event

    def abort(self) -> None:
        self._writer.transport.abort()


@dataclass(eq=False)
class Answer:
    """The status is there, the body comes. `close` it in any case: before the end, that stops the work."""

    status: int
    wire: Wire

    async def parts(self) -> AsyncIterator[bytes]:
        """The body as it comes, and never a part of a chunk. Raises LinkBroken when it ends too early."""
        ready, is_whole = bytearray(), True
        event: h11.Event | None = await self.wire.coming()
        while isinstance(event, h11.Data):
            ready += event.data
            is_whole = event.chunk_end
            event = self.wire.come()
            if event is None and is_whole:
                yield bytes(ready)
                ready.clear()
            event = event or await self.wire.coming()
        if ready:
            yield bytes(ready)

    async def read(self) -> bytes:
        return b"".join([part async for part in self.parts()])

    def close(self) -> None:
        self.wire.abort()


async def send(path: Path, method: str, target: str, *, body: bytes = b"") -> Answer:
    """Sends one request to the socket at `path`; returns when the answer's status is there. Raises LinkBroken."""
    wire = Wire(*await _connect(path))
    try:
        wire.send(_head(method, target, body), h11.Data(data=body), h11.EndOfMessage())
        head = await wire.coming()
        if not isinstance(head, h11.Response):
            raise LinkBroken("The engine hung up without an answer.")
    except BaseException:
        wire.abort()
        raise
    return Answer(head.status_code, wire)


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


def _head(method: str, target: str, body: bytes) -> h11.Request:
    about_body = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    return h11.Request(method=method, target=target, headers=[("Host", "engine"), ("Connection", "close"), *about_body])


async def _connect(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A unix socket whose queue is full says so at once, instead of letting one wait."""
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            return await asyncio.open_unix_connection(sock=await _connected_socket(path), limit=_READ_BYTES)
    except OSError as error:  # TimeoutError is one
        raise LinkBroken(f"The engine takes no connection: {error}") from error


async def _connected_socket(path: Path) -> socket.socket:
    raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        raw.setblocking(False)  # noqa: FBT003  (socket's own signature)
        while not _try_connect(raw, path):
            await asyncio.sleep(_CROWDED_SECONDS)
    except BaseException:
        raw.close()
        raise
    return raw


def _try_connect(raw: socket.socket, path: Path) -> bool:
    try:
        raw.connect(str(path))
    except BlockingIOError:
        return False
    return True
