"""The unfinished file of one content, `blobs/<digest>.incomplete`: it outlives this process, and the next goes on.

The name is the same in every process, so its writer holds a lock on the file. What lies there may have another name
elsewhere (a hard link): then it is whole, or it is let go, and never written to.
"""

import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from cachemgr.hands.root import Root
from cachemgr.units import format_bytes
from registry.errors import HubError
from registry.fetch.order import Content
from registry.fetch.progress import Progress

_FILE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Landing:
    """Takes bytes at its end, never more than were promised. `on_write` hears how many are there."""

    def __init__(self, descriptor: int, content: Content, *, progress: Progress) -> None:
        self.descriptor, self.content, self.progress = descriptor, content, progress
        self.size_bytes = self.began_at = os.lseek(descriptor, 0, os.SEEK_END)
        self.on_write: Callable[[int], object] = int
        self._note()

    @property
    def is_full(self) -> bool:
        return self.size_bytes == self.content.size_bytes

    def write(self, block: bytes) -> None:
        """Raises HubError (size_exceeds_reservation) instead of writing what nobody booked."""
        self.progress.keep_pace(len(block))
        if self.size_bytes + len(block) > self.content.size_bytes:
            raise _too_much(self.content)
        left = memoryview(block)
        while left:
            written = os.write(self.descriptor, left)
            self.size_bytes += written
            left = left[written:]
        self._note()
        self.on_write(self.size_bytes)

    def _note(self) -> None:
        self.progress.landed[self.content.digest] = self.size_bytes


class InUse(Exception):
    """Another process writes to it: a second model has the same repo."""


@contextmanager
def open_landing(root: Root, path: str, *, content: Content, progress: Progress) -> Iterator[Landing]:
    """Raises InUse."""
    progress.go_on()
    descriptor = _open_locked(root, path, content=content)
    try:
        yield Landing(descriptor, content, progress=progress)
    finally:
        os.close(descriptor)


def _open_locked(root: Root, path: str, *, content: Content) -> int:
    with root.parent(path) as (folder, name):
        while True:
            descriptor = os.open(name, _FILE, 0o666, dir_fd=folder)
            if not (_lock(descriptor) and _is_named(descriptor, folder, name)):
                os.close(descriptor)
                raise InUse
            if _may_go_on(os.fstat(descriptor), content):
                return descriptor
            os.unlink(name, dir_fd=folder)
            os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a drive without locks: a job has one worker, and its lease says which
    return True


def _is_named(descriptor: int, folder: int, name: str) -> bool:
    """False when the one who had the lock renamed or removed it."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), os.stat(name, dir_fd=folder, follow_symlinks=False))
    return False


def _may_go_on(found: os.stat_result, content: Content) -> bool:
    is_whole = found.st_size == content.size_bytes
    return stat.S_ISREG(found.st_mode) and (is_whole or (found.st_size < content.size_bytes and found.st_nlink == 1))


def _too_much(content: Content) -> HubError:
    promised = format_bytes(content.size_bytes)
    message = (
        f"The Hub promised {promised} for {content.names[0]}, and sends more. Nobody booked that space, so the "
        "download was stopped, and what had come was removed."
    )
    return HubError(message, code="size_exceeds_reservation", is_permanent=True)
