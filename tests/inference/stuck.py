"""Stops one thread of another process: the rest of it goes on, as in an engine whose model hangs in a driver."""

import ctypes
import os
from contextlib import suppress

import psutil
import pytest

_PTRACE_SEIZE = 0x4206
_PTRACE_INTERRUPT = 0x4207
_PTRACE_DETACH = 17
_WALL = 0x40000000


def stop_busiest_thread(pid: int) -> int:
    """Not the main one. It stays stopped until it is let go or killed, or until this thread of ours ends. Answers its
    number. It may hold Python's lock: then all of the process stands still."""
    others = [thread for thread in psutil.Process(pid).threads() if thread.id != pid]
    busiest = max(others, key=lambda thread: thread.user_time + thread.system_time)
    for request in (_PTRACE_SEIZE, _PTRACE_INTERRUPT):
        _ptrace(request, busiest.id)
    return busiest.id


def let_go(thread_id: int) -> None:
    _ptrace(_PTRACE_DETACH, thread_id)


def bury(thread_id: int) -> None:
    """Once its process is killed: until then the kernel keeps its remains for us."""
    with suppress(ChildProcessError):
        os.waitpid(thread_id, os.WNOHANG | _WALL)


def _ptrace(request: int, thread_id: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(request, thread_id, None, None) != 0:
        pytest.skip(f"This machine lets nobody stop a thread: {os.strerror(ctypes.get_errno())}")
