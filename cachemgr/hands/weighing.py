"""What it would free if something went, exactly: a file's bytes are free when the last of its names is gone."""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cachemgr.hands.durable import walk
from cachemgr.hands.root import Root
from cachemgr.hands.telling import pulse

_BLOCK_BYTES = 512  # what st_blocks counts in, whatever the filesystem's own blocks are


@dataclass(slots=True)
class Weight:
    """`size_bytes` is what the files say, each once; `going_bytes` the part of it that has no name elsewhere;
    `freed_bytes` what the disk gets back, folders and links included."""

    file_count: int = 0
    size_bytes: int = 0
    going_bytes: int = 0
    freed_bytes: int = 0

    def as_json(self) -> dict[str, int]:
        return {
            "file_count": self.file_count,
            "size_bytes": self.size_bytes,
            "going_bytes": self.going_bytes,
            "freed_bytes": self.freed_bytes,
        }


def total_of(weights: Iterable[Weight]) -> Weight:
    rows = [(each.file_count, each.size_bytes, each.going_bytes, each.freed_bytes) for each in weights]
    return Weight(*(sum(column) for column in zip(*rows, strict=True)))


class Scales:
    """Weighs one load after the other, as if each went before the next: a file with names in two loads counts for the
    second, and the weights sum up to what all of them free."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._names: dict[tuple[int, int], int] = {}

    def weigh(self, paths: Iterable[str]) -> Weight:
        """Of files and whole folders below the cache. What is not there weighs nothing."""
        weight = Weight()
        for path in paths:
            for status in _each_below(self._root, path):
                self._add(weight, status)
        return weight

    def _add(self, weight: Weight, status: os.stat_result) -> None:
        if stat.S_ISDIR(status.st_mode):
            weight.freed_bytes += status.st_blocks * _BLOCK_BYTES
            return
        inode = status.st_dev, status.st_ino
        names = self._names[inode] = self._names.get(inode, 0) + 1
        size_bytes = status.st_size if stat.S_ISREG(status.st_mode) else 0
        if names == 1 and size_bytes:
            weight.size_bytes += size_bytes
        weight.file_count += stat.S_ISREG(status.st_mode)
        if names == status.st_nlink:
            weight.going_bytes += size_bytes
            weight.freed_bytes += status.st_blocks * _BLOCK_BYTES


def _each_below(root: Root, path: str) -> Iterator[os.stat_result]:
    """The thing itself, and all that is in it."""
    found = root.look_at(path)
    if found is None:
        return
    yield found
    if stat.S_ISDIR(found.st_mode):
        with root.parent(path) as (folder, name):
            yield from _inside(folder, name)


def _inside(folder: int, name: str) -> Iterator[os.stat_result]:
    for folders, names, descriptor in walk(folder, name):
        for each in (*folders, *names):
            yield os.stat(each, dir_fd=descriptor, follow_symlinks=False)
            pulse.beat()
