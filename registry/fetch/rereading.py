"""Follows a file while it is written: what has reached the drive is read back from there, and hashed.

So the hash of a large file is known a moment after its last byte, it is of what the drive holds rather than of what
memory does, and no more than a block or two are ever lost to a power cut.
"""

import os
import queue
from concurrent.futures import Executor, Future

from cachemgr.digests import hash_like
from registry.fetch.order import Content
from registry.fetch.progress import Progress

BLOCK_BYTES = 32 << 20
_BUFFER_BYTES = 1 << 20


class Rereading:
    """Of an open file. `reach` is told how far it is written, and `finish` answers the digest."""

    def __init__(self, descriptor: int, content: Content, *, progress: Progress, threads: Executor) -> None:
        self.descriptor, self.content, self.progress = descriptor, content, progress
        self._hash = hash_like(content.digest, size_bytes=content.size_bytes)
        self._ends: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._asked_bytes = self._read_bytes = 0
        self._work: Future[None] = threads.submit(self._follow)

    def reach(self, size_bytes: int) -> None:
        """Raises what reading met so far: there is no use in going on."""
        end = size_bytes - size_bytes % BLOCK_BYTES
        if end > self._asked_bytes:
            self._asked_bytes = end
            self._ends.put(end)
        if self._work.done():
            self._work.result()

    def finish(self, size_bytes: int) -> str:
        """The digest of the whole file, all of which is on the drive now. Raises OSError."""
        self._ends.put(size_bytes)
        self.stop()
        self._work.result()
        return self._hash.hexdigest()

    def stop(self) -> None:
        self._ends.put(None)

    def _follow(self) -> None:
        while (end := self._ends.get()) is not None:
            os.fdatasync(self.descriptor)
            os.posix_fadvise(self.descriptor, self._read_bytes, 0, os.POSIX_FADV_DONTNEED)
            self._read_to(end)

    def _read_to(self, end: int) -> None:
        buffer = bytearray(_BUFFER_BYTES)
        while self._read_bytes < end:
            wanted = memoryview(buffer)[: end - self._read_bytes]
            count = os.preadv(self.descriptor, [wanted], self._read_bytes)
            if count == 0:
                return  # shorter than it was: the hash will tell
            self._hash.update(wanted[:count])
            self._read_bytes += count
            self.progress.checked[self.content.digest] = self._read_bytes
