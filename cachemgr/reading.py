"""How fast a drive reads, measured with care: a second of work, at idle priority, past the page cache.

A real blob is read where there is one, for that is what loading a model does; else a file of our own, which needs
room that nobody misses.
"""

import mmap
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress

from cachemgr.trial import open_house

_LIMIT_BYTES = 64 * 10**6
_LIMIT_SECONDS = 1.0
_SEARCH_SECONDS = 1.0
_BLOCK_BYTES = 4 << 20
_MIN_BYTES = 8 * 10**6
_OWN_BYTES = 32 * 10**6
_SPARE_BYTES = 10**9
_OWN_FILE = "speed-test"


def measure_reading(cache_path: str, *, may_write: bool) -> int | None:
    """Bytes per second; None where there is no file to read, and no room to write one."""
    file = _largest_file(cache_path)
    try:
        if file is not None:
            return _time_reading(file)
        return _time_own_file(cache_path) if may_write and _has_room(cache_path) else None
    except OSError:
        return None  # it went away, or grew full, meanwhile: there will be another time


def _largest_file(cache_path: str) -> str | None:
    """The largest file of 8 MB or more that a short search finds; one that is large enough ends it."""
    best, best_bytes = None, _MIN_BYTES - 1
    deadline = time.monotonic() + _SEARCH_SECONDS
    for path, size_bytes in _files_below(cache_path):
        if size_bytes > best_bytes:
            best, best_bytes = path, size_bytes
        if best_bytes >= _LIMIT_BYTES or time.monotonic() > deadline:
            break
    return best


def _files_below(folder: str) -> Iterator[tuple[str, int]]:
    """Files with bytes of their own, at any depth: links are not followed, and holes are no bytes."""
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                status = os.lstat(path := os.path.join(parent, name))
                if stat.S_ISREG(status.st_mode):
                    yield path, min(status.st_size, status.st_blocks * 512)


def _has_room(cache_path: str) -> bool:
    figures = os.statvfs(cache_path)
    free_bytes = figures.f_bavail * figures.f_frsize
    return free_bytes > max(_SPARE_BYTES, figures.f_blocks * figures.f_frsize // 10)


def _time_own_file(cache_path: str) -> int | None:
    house = open_house(cache_path)
    try:
        path = f"/proc/self/fd/{house}/{_OWN_FILE}"
        with suppress(FileNotFoundError):
            os.unlink(path)
        with open(path, "xb") as file:
            file.write(os.urandom(_OWN_BYTES))  # random, so that no drive compresses it
            file.flush()
            os.fsync(file.fileno())
        return _time_reading(path)
    finally:
        with suppress(OSError):
            os.unlink(_OWN_FILE, dir_fd=house)
        os.close(house)


def _time_reading(path: str) -> int | None:
    file = _open_past_cache(path)
    try:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        started = time.monotonic()
        read_bytes = sum(_blocks(file, until=started + _LIMIT_SECONDS))
        return round(read_bytes / (time.monotonic() - started)) or None
    finally:
        os.close(file)


def _open_past_cache(path: str) -> int:
    """With O_DIRECT, where the filesystem has it: what the page cache holds says nothing of the drive."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags | os.O_DIRECT)
    except OSError:
        return os.open(path, flags)


def _blocks(file: int, *, until: float) -> Iterator[int]:
    """Sizes of the blocks that were read, into memory that is aligned as O_DIRECT wants it."""
    left_bytes = _LIMIT_BYTES
    with mmap.mmap(-1, _BLOCK_BYTES) as block:
        while left_bytes > 0 and time.monotonic() < until:
            got_bytes = os.readv(file, [block])
            if got_bytes == 0:
                return
            left_bytes -= got_bytes
            yield got_bytes
