"""Bytes from one drive to the other: read, hashed and written at the same time, and read back from the drive.

A few buffers go round between this thread, which reads and writes, and one that hashes. What is written goes to the
drive meanwhile, so that the last fsync of a large file is short and progress is honest. Memory does not grow with it.
"""

import ctypes
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cachemgr.digests import Hash
from cachemgr.hands.throttle import Throttle

BLOCK_BYTES = 4 << 20
_BUFFERS = 4
_PIECE_BYTES = 32 << 20
_SAY_SECONDS = 0.5

Say = Callable[..., None]


class Unreadable(Exception):
    """Reading failed, not writing: `error` is what the drive said."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class Pace:
    """Counts bytes, tells of them twice a second, and waits where a rate is set.

    Each byte counts `passes` times: once when it is copied, once more when it is read back.
    """

    def __init__(self, say: Say, *, stage: str, total_bytes: int, rate_limit: int | None, passes: int = 1) -> None:
        self.say, self.stage, self.total_bytes = say, stage, total_bytes
        self.passes, self.count_bytes = passes, 0
        self._throttle = Throttle(rate_limit)
        self._step_bytes = max(1, int(rate_limit * _SAY_SECONDS)) if rate_limit else None
        self._said_at = time.monotonic()

    def skip(self, size_bytes: int) -> None:
        """What is there already, in all its passes."""
        self.count_bytes += size_bytes * self.passes
        self._tell_in_time()

    def add(self, size_bytes: int) -> None:
        """A long wait is told of in steps: a block may take minutes at a small rate, and is no standstill."""
        while size_bytes > 0:
            step_bytes = min(size_bytes, self._step_bytes or size_bytes)
            size_bytes -= step_bytes
            time.sleep(self._throttle.take(step_bytes))
            self.count_bytes += step_bytes
            self._tell_in_time()

    def _tell_in_time(self) -> None:
        if time.monotonic() - self._said_at >= _SAY_SECONDS:
            self.tell()

    @property
    def lacking_bytes(self) -> int:
        return max(0, self.total_bytes - self.count_bytes // self.passes)

    def tell(self) -> None:
        self._said_at = time.monotonic()
        self.say(stage=self.stage, bytes=self.total_bytes - self.lacking_bytes, total=self.total_bytes)


class Pump:
    """Moves the bytes of one file after the other through the same buffers."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self._free: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        for _ in range(_BUFFERS):
            self._free.put(bytearray(BLOCK_BYTES))

    def hash_file(self, descriptor: int, digest: Hash) -> int:
        """Reads an open file from its begin, and answers its size in bytes."""
        return self._pass_on(descriptor, digest, take=len)

    def copy_file(self, source: int, target: int, digest: Hash) -> int:
        """The target's bytes are on its drive when this returns, with their number. An fsync that failed is never
        tried again: the kernel may have forgotten the bytes by then."""
        writeback = _Writeback(target)

        def write(block: memoryview) -> None:
            _write_all(target, block)
            writeback.add(len(block))

        size_bytes = self._pass_on(source, digest, take=write)
        os.fsync(target)
        return size_bytes

    def _pass_on(self, descriptor: int, digest: Hash, *, take: Callable[[memoryview], object]) -> int:
        """`take` is done with a block when it returns; the thread that hashes lets go of its buffer later."""
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        size_bytes = 0
        with _hashing(digest, self._free) as filled:
            while block := self._read_block(descriptor):
                filled.put(block)
                size_bytes += len(block)
                os.posix_fadvise(descriptor, size_bytes, 2 * BLOCK_BYTES, os.POSIX_FADV_WILLNEED)
                take(block)
                self.pace.add(len(block))
        return size_bytes

    def _read_block(self, descriptor: int) -> memoryview:
        """Empty at the end of the file."""
        buffer, count = self._free.get(), 0
        try:
            count = os.readv(descriptor, [buffer])
        except OSError as error:
            raise Unreadable(error) from error
        finally:
            if not count:
                self._free.put(buffer)
        return memoryview(buffer)[:count]


@contextmanager
def _hashing(digest: Hash, free: "queue.SimpleQueue[bytearray]") -> Iterator["queue.SimpleQueue[memoryview]"]:
    """Yields where to put blocks. All are hashed when the `with` block ends; `free` gets their buffers back."""
    filled: queue.SimpleQueue[memoryview] = queue.SimpleQueue()

    def hash_blocks() -> None:
        while block := filled.get():
            digest.update(block)
            free.put(block.obj)  # type: ignore[arg-type]

    thread = threading.Thread(target=hash_blocks, daemon=True)
    thread.start()
    try:
        yield filled
    finally:
        filled.put(memoryview(b""))
        thread.join()


class _Writeback:
    """Has the kernel write what was handed to it, a piece at a time, so that little is left for the last fsync. A full
    sync of each piece would flush the drive's own cache with it, which costs a turn of a disk."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.begin = self.end = 0

    def add(self, size_bytes: int) -> None:
        """Starts to write a piece when it is full, and waits for the one before."""
        self.end += size_bytes
        if self.end - self.begin >= _PIECE_BYTES:
            _sync_range(self.descriptor, self.begin, self.end, flags=_WRITE)
            _sync_range(self.descriptor, max(0, self.begin - _PIECE_BYTES), self.begin, flags=_WRITE | _WAIT)
            self.begin = self.end


def _sync_range(descriptor: int, begin: int, end: int, *, flags: int) -> None:
    """Raises OSError for what could not be written: fsync would not say it again."""
    if end > begin and _libc.sync_file_range(descriptor, begin, end - begin, flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


_WRITE, _WAIT = 2, 1 | 4  # SYNC_FILE_RANGE_WRITE, and its WAIT_BEFORE and WAIT_AFTER
_libc = ctypes.CDLL(None, use_errno=True)
_libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


def _write_all(descriptor: int, block: memoryview) -> None:
    while block:
        block = block[os.write(descriptor, block) :]


def drop_pages(descriptor: int) -> None:
    """What is read next comes from the drive, not from memory. It has to be on the drive by then."""
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
