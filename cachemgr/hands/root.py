"""A cache's folder, open: all work on its files is relative to it, and no link on the way is followed.

A path can lead elsewhere a moment later: the drive is pulled, another one is mounted there, a folder becomes a link.
What is open stays what it is.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from cachemgr.hands.errors import Trouble
from cachemgr.hands.telling import pulse
from cachemgr.marker import read_marker

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe must not make anybody wait


@dataclass(frozen=True, slots=True)
class Root:
    """`uuid` is the one that its marker has to carry; "" for a cache that was never adopted. All paths that it takes
    are below the cache."""

    path: str
    uuid: str
    descriptor: int
    device: int
    inode: int

    def still_there(self) -> None:
        """Raises Trouble unless the path leads to this very folder, with its marker: call it before what cannot be
        undone."""
        try:
            found = os.stat(self.path)
        except OSError as error:
            raise _gone(self.path, f"cannot be reached: {error.strerror}") from error
        if (found.st_dev, found.st_ino) != (self.device, self.inode):
            raise _gone(self.path, "is another folder now")
        _check_marker(self.path, self.descriptor, uuid=self.uuid)

    @contextmanager
    def folder(self, path: str, *, make: bool = False) -> Iterator[int]:
        """A descriptor of a folder below the cache, entered step by step: none on the way may be a link."""
        descriptor = os.dup(self.descriptor)
        try:
            for name in filter(None, path.split("/")):
                descriptor = _step(descriptor, name, make=make)
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def parent(self, path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """The open folder that a path's last name lies in, and that name."""
        above, _, name = path.rpartition("/")
        with self.folder(above, make=make) as descriptor:
            yield descriptor, name

    @contextmanager
    def file(self, path: str) -> Iterator[int]:
        """A descriptor for reading a file, which is no link."""
        with self.parent(path) as (folder, name):
            descriptor = os.open(name, _FILE, dir_fd=folder)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def look_at(self, path: str) -> os.stat_result | None:
        """The thing itself, not what a link leads to; None where nothing is."""
        try:
            with self.parent(path) as (folder, name):
                return os.stat(name, dir_fd=folder, follow_symlinks=False) if name else os.fstat(folder)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def has_folder(self, path: str) -> bool:
        found = self.look_at(path)
        return found is not None and stat.S_ISDIR(found.st_mode)


@contextmanager
def open_root(place: Mapping[str, Any]) -> Iterator[Root]:
    """`place` is `{"path": ..., "uuid": ...}`. Raises Trouble (cache_unavailable) where that cache is not there."""
    path, uuid = str(place["path"]), str(place.get("uuid") or "")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _gone(path, f"cannot be opened: {error.strerror}") from error
    try:
        _check_marker(path, descriptor, uuid=uuid)
        status = os.fstat(descriptor)
        yield Root(path, uuid, descriptor, status.st_dev, status.st_ino)
    finally:
        os.close(descriptor)


def _step(descriptor: int, name: str, *, make: bool) -> int:
    """One folder deeper. The folder that it comes from is closed only when that went well."""
    try:
        deeper = os.open(name, _FOLDER, dir_fd=descriptor)
    except FileNotFoundError:
        if not make:
            raise
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=descriptor)
        deeper = os.open(name, _FOLDER, dir_fd=descriptor)
    os.close(descriptor)
    pulse.beat()
    return deeper


def _check_marker(path: str, descriptor: int, *, uuid: str) -> None:
    """The kernel's own name for an open folder is read, not the path, which may lead elsewhere by now."""
    if not uuid:
        return
    try:
        found = read_marker(f"/proc/self/fd/{descriptor}")
    except OSError as error:
        raise _gone(path, f"cannot be read: {error.strerror}") from error
    if found != uuid:
        raise _gone(path, f"carries the marker {found[:8]}, not {uuid[:8]}" if found else "has no marker")


def _gone(path: str, what: str) -> Trouble:
    message = f"The cache {path} is not there: it {what}. Is its drive plugged in and mounted?"
    return Trouble(message, code="cache_unavailable", is_permanent=False)
