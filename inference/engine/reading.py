"""Brings the weights into the page cache before they are asked for: in order, in large blocks, by a thread of its own.

transformers maps the files and touches them tensor by tensor; on a disk or a network drive each touch is a seek. What
is in the cache already is left alone, and what does not fit into free memory is left to the loader.
"""

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

BLOCK_BYTES = 16 * 1024**2
_PROBE_BYTES = 1024**2
_SPARED_BYTES = 256 * 1024**2
_SLOW_BYTES_PER_SECOND = 500e6
_MEMORY_INFO = Path("/proc/meminfo")


class ReadAhead:
    """`bytes_done` of `bytes_total` are in memory. Errors are left to the loader, which says more about them."""

    def __init__(self, paths: Sequence[Path], *, free_bytes: int) -> None:
        self._files = [(path, path.stat().st_size) for path in paths]
        self._left_bytes = free_bytes - _SPARED_BYTES
        self._is_stopped = False
        self._started = time.monotonic()
        self._fetched_bytes = 0
        self._thread = threading.Thread(target=self._read, name="read-ahead", daemon=True)
        self.bytes_total = sum(size for _, size in self._files)
        self.bytes_done = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._is_stopped = True

    def wait_if_slow(self) -> None:
        """A slow drive is read to the end first, in order: a loader that overtakes would make it seek."""
        while self._thread.is_alive() and self._is_slow():
            self._thread.join(timeout=0.1)

    def _is_slow(self) -> bool:
        seconds = time.monotonic() - self._started
        return self._fetched_bytes > BLOCK_BYTES and self._fetched_bytes < seconds * _SLOW_BYTES_PER_SECOND

    def _read(self) -> None:
        buffer = memoryview(bytearray(BLOCK_BYTES))
        for path, size_bytes in self._files:
            try:
                self._read_file(path, size_bytes=size_bytes, buffer=buffer)
            except OSError:
                return

    def _read_file(self, path: Path, *, size_bytes: int, buffer: memoryview) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # The kernel would guess what comes next, also after a mere look, and bring more than was counted.
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
            for offset in range(0, size_bytes, BLOCK_BYTES):
                length = min(BLOCK_BYTES, size_bytes - offset)
                if is_cached(descriptor, offset=offset, length=length) or self._fetch(
                    descriptor, offset=offset, into=buffer[:length]
                ):
                    self.bytes_done += length
        finally:
            os.close(descriptor)

    def _fetch(self, descriptor: int, *, offset: int, into: memoryview) -> bool:
        """False once one did not fit any more, or nobody needs it."""
        self._is_stopped |= len(into) > self._left_bytes
        if self._is_stopped:
            return False
        os.posix_fadvise(descriptor, offset, len(into), os.POSIX_FADV_WILLNEED)
        os.preadv(descriptor, [into], offset)
        self._left_bytes -= len(into)
        self._fetched_bytes += len(into)
        return True


def is_cached(descriptor: int, *, offset: int, length: int) -> bool:
    """Whether a part of a file is in the page cache, as far as one byte in each MiB tells. Filesystems that cannot
    say count as not cached."""
    byte = bytearray(1)
    try:
        for position in range(offset, offset + length, _PROBE_BYTES):
            os.preadv(descriptor, [byte], position, os.RWF_NOWAIT)
    except OSError:
        return False
    return True


def count_free_bytes(path: Path = _MEMORY_INFO) -> int:
    """Memory that new pages can have without anybody being swapped out."""
    lines = path.read_text(encoding="ascii").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 0)
