"""The cache that is scanned: an open folder, and where links in it lead, without ever following one out of it."""

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

Inode = tuple[int, int]  # device, number
_HOPS_LIMIT = 40  # as the kernel's own

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe must not make anybody wait


class LeadsOutside(Exception):
    """A link out of the cache. What lies there is not this cache's, and may be a drive that hangs."""


@dataclass(frozen=True, slots=True)
class Trail:
    """The links on the way, each at its real path; the real path at the end, and what is there."""

    links: tuple[str, ...]
    path: str
    status: os.stat_result


class Place:
    """All paths that it takes and gives are relative to the cache's folder."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor
        self.now = time.time()
        self._real_folders: set[str] = set()

    def open_folder(self, path: str) -> int:
        return os.open(path, _FOLDER, dir_fd=self.descriptor)

    def open_file(self, path: str) -> int:
        return os.open(path, _FILE, dir_fd=self.descriptor)

    def look_at(self, path: str) -> os.stat_result:
        """The thing itself: a link is not followed."""
        return os.stat(path, dir_fd=self.descriptor, follow_symlinks=False)

    def follow(self, path: str) -> "Trail":
        """Where a path really leads. Raises LeadsOutside; OSError where nothing is."""
        done: list[str] = []
        todo = path.split("/")[::-1]
        links: list[str] = []
        while todo:
            part = todo.pop()
            if part == "..":
                _leave(done)
            elif part not in {"", "."} and (target := self._step(done, part)) is not None:
                links.append("/".join([*done, part]))
                todo += self._as_seen_from(done, target)[::-1]
            if len(links) > _HOPS_LIMIT:
                raise OSError(f"{path} is a circle of links")
        found = "/".join(done) or "."
        return Trail(tuple(links), found, self.look_at(found))

    def _step(self, done: list[str], part: str) -> str | None:
        """Goes one name deeper, or answers where the link of that name leads."""
        here = "/".join([*done, part])
        if here not in self._real_folders:
            mode = self.look_at(here).st_mode
            if stat.S_ISLNK(mode):
                return os.readlink(here, dir_fd=self.descriptor)
            if stat.S_ISDIR(mode):
                self._real_folders.add(here)
        done.append(part)
        return None

    def _as_seen_from(self, done: list[str], target: str) -> list[str]:
        """The names to go on with; for an absolute link from the cache's own folder."""
        if not target.startswith("/"):
            return target.split("/")
        for root in self._names_of_root:
            if target == root or target.startswith(f"{root.rstrip('/')}/"):
                done.clear()
                return target[len(root) :].split("/")
        raise LeadsOutside(target)

    @cached_property
    def _names_of_root(self) -> tuple[str, ...]:
        return os.path.abspath(self.path), os.path.realpath(self.path)

    @cached_property
    def locked_inodes(self) -> frozenset[int]:
        """Numbers of the files that any process holds a lock on, as the kernel lists them; nobody is disturbed.

        Without the device: btrfs shows another one here than in a file's status.
        """
        try:
            with open("/proc/locks", encoding="ascii") as locks:
                places = [line.split(" -> ")[-1].split()[5] for line in locks]
        except (OSError, IndexError):
            return frozenset()
        return frozenset(int(place.rpartition(":")[2]) for place in places)


def _leave(done: list[str]) -> None:
    if not done:
        raise LeadsOutside("..")
    done.pop()


@contextmanager
def open_place(path: str) -> Iterator[Place]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Place(path, descriptor)
    finally:
        os.close(descriptor)


def shown(name: str) -> str:
    """A name from a disk as text that JSON, a database and a terminal take: names are bytes, and not always UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
