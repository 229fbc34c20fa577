"""An engine never outlives its parent: the kernel kills it, and so does the end of its stdin, a pipe or a socket.

The kernel's signal fires when the parent's *thread* that started the engine ends, so that one must live as long.
"""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def die_with_parent(*, parent_pid: int | None) -> bool:
    """Call first, in the main thread. False if the parent is gone already, as far as that can be told: without
    `parent_pid` one that died before this call is known by its pipe alone."""
    expected = os.getppid() if parent_pid is None else parent_pid
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed: this engine could outlive its parent")
    return os.getppid() == expected


def watch_stdin(*, on_end: Callable[[], None]) -> None:
    threading.Thread(target=_wait_for_end, args=(on_end,), name="lifeline", daemon=True).start()


def _wait_for_end(on_end: Callable[[], None]) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        continue
    on_end()
