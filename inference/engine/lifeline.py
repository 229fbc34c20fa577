"""An engine never outlives its parent: the kernel kills it, and so does the end of its stdin, a pipe or a socket.

The kernel's signal fires when the parent's *thread* that started the engine ends, so that one must live as long.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable

from inference.engine import kernel


def die_with_parent(*, parent_pid: int | None) -> bool:
    """Call first, in the main thread, and again after a change of user, which takes it back. False if the parent is
    gone already, as far as that can be told: without `parent_pid` one that died before this call is known by its pipe
    alone."""
    expected = os.getppid() if parent_pid is None else parent_pid
    kernel.die_with_parent(signal.SIGKILL)
    return os.getppid() == expected


def watch_stdin(*, on_end: Callable[[], None]) -> None:
    threading.Thread(target=_wait_for_end, args=(on_end,), name="lifeline", daemon=True).start()


def _wait_for_end(on_end: Callable[[], None]) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        continue
    on_end()
