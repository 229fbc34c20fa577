"""How an engine on standby gets its order: one line of JSON on its stdin, a unix socket, with open files beside it.

    {"arguments": ["--socket", "/run/engine.sock", "--model-path", ...]}

The first file becomes its stdout and stderr; the others, locks, are kept open as long as it lives.
"""

import json
import os
import socket
import sys

from inference.engine.arguments import BadArguments, Order, read_order
from inference.engine.endings import LOAD_FAILED, Ending

_MOST_BYTES = 1024**2
_MOST_FILES = 16


def receive_order(descriptor: int) -> Order | None:
    """Waits. None when the other side has closed the socket; raises Ending for an order that makes no sense."""
    line, files = _receive_line(descriptor)
    if files:
        log, *_ = files
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(log, stream.fileno())
        os.close(log)
    if not line.endswith(b"\n"):
        return None
    try:
        return read_order(json.loads(line)["arguments"])
    except BadArguments as error:
        raise Ending(LOAD_FAILED, str(error)) from error
    except (ValueError, LookupError, TypeError) as error:
        raise Ending(LOAD_FAILED, f"The order to this engine is not understood: {error!r}.") from error


def _receive_line(descriptor: int) -> tuple[bytes, list[int]]:
    """Up to the end of the line, or of all."""
    line, files = b"", []
    with socket.socket(fileno=os.dup(descriptor)) as connection:
        while not line.endswith(b"\n") and len(line) < _MOST_BYTES:
            part, more, _, _ = socket.recv_fds(connection, _MOST_BYTES, _MOST_FILES)
            if not part:
                break
            line += part
            files += more
    return line, files
