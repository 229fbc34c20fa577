"""Reads streams as cheaply as a process can: it counts a mark in what comes, and parses nothing.

    python -m bench.gateway_client PORT STREAMS EVENTS CORE

prints {"seconds": ..., "events": ..., "whole": ..., "open": ..., "tail": ...}: `whole` streams had all their events and
the end, `open` were being read at the same time, and the last one ended with `tail`. It is a process of its own, and
leaves CORE to the gateway.
"""

import json
import selectors
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.gateway_engine import MARK, leave_core

_READ_BYTES = 256 * 1024
_PATIENCE_SECONDS = 60
_TAIL_BYTES = 400
_END = b"data: [DONE]\n\n"


@dataclass(eq=False)
class Stream:
    connection: socket.socket
    events: int = 0
    tail: bytes = b""

    def read(self) -> bool:
        """False at the end of the stream."""
        data = self.connection.recv(_READ_BYTES)
        self.events += data.count(MARK)
        self.tail = (self.tail + data)[-_TAIL_BYTES:]
        return bool(data)


def open_stream(port: int, *, events: int) -> Stream:
    body = {"model": "fake", "messages": [{"role": "user", "content": "go"}], "stream": True, "max_tokens": events}
    data = json.dumps(body).encode()
    connection = socket.create_connection(("127.0.0.1", port))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    connection.sendall(head.encode() + data)
    return Stream(connection)


def read_all(streams: Sequence[Stream]) -> int:
    """To their ends. Answers how many were open at once: their first events had come, and their ends had not."""
    begun: set[Stream] = set()
    most = ended = 0
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream.connection, selectors.EVENT_READ, stream)
        while ended < len(streams):
            for stream in _wait(selector):
                if stream.read():
                    begun.update({stream} if stream.events else ())
                else:
                    selector.unregister(stream.connection)
                    stream.connection.close()
                    ended += 1
            most = max(most, len(begun) - ended)
    return most


def _wait(selector: selectors.BaseSelector) -> list[Stream]:
    ready = selector.select(_PATIENCE_SECONDS)
    if not ready:
        raise SystemExit(f"Nothing came for {_PATIENCE_SECONDS} s.")
    return [key.data for key, _ in ready]


def main(port: int, streams: int, events: int, core: int) -> None:
    leave_core(core)
    started = time.monotonic()
    opened = [open_stream(port, events=events) for _ in range(streams)]
    most = read_all(opened)
    found = {
        "seconds": time.monotonic() - started,
        "events": sum(stream.events for stream in opened),
        "whole": sum(stream.events == events and _END in stream.tail for stream in opened),
        "open": most,
        "tail": opened[-1].tail.decode(errors="replace"),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
