"""A fake engine: answers as one does, on a unix socket, and streams as fast as the gateway reads.

The web process of bench.gateway starts it in place of the interpreter, with the words of a real engine. Each event is a
chunk and a write of its own, as from a real engine; `max_tokens` says how many. It leaves the gateway's core alone.
It runs alone, on the standard library.
"""

import asyncio
import json
import os
import sys
import threading
from collections.abc import AsyncIterator

MARK = b"~"
"""Once in each event, and nowhere else in an answer."""
EVENTS_BETWEEN_DRAINS = 32
_READY = {
    "status": "ready",
    "model": "fake",
    "engine": "fake",
    "backend": "batching",
    "backend_reason": "",
    "context_length": 512,
    "kv_tokens": 512,
    "parallel_requests": 256,
    "device": "cpu",
    "dtype": "float32",
    "parameters": 1,
    "weights_bytes": 4,
    "load_seconds": 0.0,
    "stage_seconds": {},
    "memory": {},
}
_STATUS = {"active": 1, "queued": 0, "idle": False}
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n%s\r\n"


def make_event(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    chunk = {
        "id": "chatcmpl-0123456789abcdef0123456789abcdef",
        "object": "chat.completion.chunk",
        "created": 1700000000,
    }
    body = json.dumps(chunk | {"model": "fake", "system_fingerprint": None, "choices": [choice]})
    return b"data: " + body.encode() + b"\n\n"


def make_chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


EVENT = make_chunk(make_event(f" word{MARK.decode()}"))
END = make_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class FakeEngine:
    """`steps` grows with each event: whoever watches an engine sees that it lives."""

    def __init__(self) -> None:
        self.steps = 0

    async def serve(self, socket_path: str) -> None:
        server = await asyncio.start_unix_server(self.answer_all, socket_path, backlog=1024)
        async with server:
            await server.serve_forever()

    async def answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the other side closes the connection."""
        try:
            async for head, body in _requests(reader):
                await self.answer(head, body, writer=writer)
                if b"connection: close" in head.lower():
                    break
        except (OSError, EOFError):
            self.steps += 1  # the client left: that is progress too
        finally:
            writer.close()

    async def answer(self, head: bytes, body: bytes, *, writer: asyncio.StreamWriter) -> None:
        if head.startswith(b"POST"):
            await self.stream(json.loads(body)["max_tokens"], writer=writer)
            return
        facts = _READY if b" /health" in head else _STATUS | {"steps": self.steps}
        data = json.dumps(facts).encode()
        writer.write(_HEAD % (b"application/json", b"Content-Length: %d\r\n" % len(data)) + data)
        await writer.drain()

    async def stream(self, events: int, *, writer: asyncio.StreamWriter) -> None:
        writer.write(_HEAD % (b"text/event-stream", b"Transfer-Encoding: chunked\r\n"))
        for number in range(events):
            writer.write(EVENT)
            self.steps += 1
            if number % EVENTS_BETWEEN_DRAINS == 0:
                await writer.drain()
                await asyncio.sleep(0)
        writer.write(END)
        await writer.drain()


async def _requests(reader: asyncio.StreamReader) -> AsyncIterator[tuple[bytes, bytes]]:
    """Head and body of each."""
    while head := await reader.readuntil(b"\r\n\r\n"):
        fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line)
        yield head, await reader.readexactly(int(fields.get(b"content-length", 0)))


def leave_core(core: int) -> None:
    """To wherever else the machine has one."""
    others = set(range(os.cpu_count() or 1)) - {core}
    os.sched_setaffinity(0, others or {core})


def die_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    threading.Thread(target=die_with_parent, daemon=True).start()
    leave_core(int(sys.argv[1]))
    asyncio.run(FakeEngine().serve(sys.argv[sys.argv.index("--socket") + 1]))


if __name__ == "__main__":
    main()
