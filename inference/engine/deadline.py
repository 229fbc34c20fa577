"""Ends what runs for too long, or takes too much memory, in a thread that nobody can kill: a chat template is a
program, and nobody knows whether it ends."""

import ctypes
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

_LOOK_SECONDS = 0.05
_AGAIN_SECONDS = 1.0
_STATM = Path("/proc/self/statm")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Overran(Exception):
    """The message says what was too much, as the end of a sentence."""


class _Interrupt(BaseException):
    """Raised in the middle of whatever the other thread does."""


def run_within(call: Callable[[], Result], *, seconds: float, growth_bytes: int) -> Result:
    """Calls it on this thread. Raises Overran after so many seconds, or when the process has grown by so much; one
    operation that is not Python's own is waited for."""
    watch = _Watch(seconds=seconds, growth_bytes=growth_bytes)
    watch.start()
    try:
        return _call_watched(call, watch=watch)
    except _Interrupt:
        watch.end()
        raise Overran(watch.reason) from None


def _call_watched(call: Callable[[], Result], *, watch: "_Watch") -> Result:
    try:
        return call()
    finally:
        watch.end()


class _Watch(threading.Thread):
    """Interrupts the thread that made it, until that has ended the watch."""

    def __init__(self, *, seconds: float, growth_bytes: int) -> None:
        super().__init__(name="deadline", daemon=True)
        self.reason = ""
        self._thread_id = threading.get_ident()
        self._seconds = seconds
        self._growth_bytes = growth_bytes
        self._is_over = False
        self._changed = threading.Condition()

    def end(self) -> None:
        with self._changed:
            self._is_over = True
            _set_exception(self._thread_id, None)
            self._changed.notify()

    def run(self) -> None:
        until, most_bytes = time.monotonic() + self._seconds, _count_resident() + self._growth_bytes
        with self._changed:
            while not self._changed.wait_for(lambda: self._is_over, timeout=_LOOK_SECONDS):
                if time.monotonic() > until:
                    self.reason = f"ran for more than {self._seconds:g} s"
                elif _count_resident() > most_bytes:
                    self.reason = f"took more than {self._growth_bytes / 1e9:.1f} GB of memory"
                if self.reason:
                    _set_exception(self._thread_id, _Interrupt)
                    self._changed.wait_for(lambda: self._is_over, timeout=_AGAIN_SECONDS)


def _set_exception(thread_id: int, kind: type[BaseException] | None) -> None:
    """None takes back one that was not raised yet."""
    exception = None if kind is None else ctypes.py_object(kind)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), exception)


def _count_resident() -> int:
    return int(_STATM.read_text(encoding="ascii").split()[1]) * _PAGE_BYTES
