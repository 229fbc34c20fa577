"""What a power cut does not take back: bytes are on the disk before a name leads to them, and so is the name."""

import errno
import json
import os
from collections.abc import Iterator
from typing import Any

from cachemgr.hands.telling import pulse

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_ASKED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF)  # filesystems that sync no folders say this


def settle(folder: int) -> None:
    """The names in an open folder are on the disk after this, as far as its filesystem can be asked."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _NOT_ASKED:
            raise
    pulse.beat()


def settle_tree(folder: int, name: str) -> None:
    """A folder and all folders below it, the deepest first."""
    for _, _, descriptor in walk(folder, name):
        settle(descriptor)


def walk(folder: int, name: str) -> Iterator[tuple[list[str], list[str], int]]:
    """The deepest first: the folders in a folder, its other names, and its open descriptor.

    No link is followed, not even to see what it leads to: that may be a drive that hangs. A folder that cannot be read
    is an error.
    """
    try:
        descriptor = os.open(name, _FOLDER, dir_fd=folder)
    except NotADirectoryError:
        return  # it became a link: what that leads to is not in it
    try:
        folders, others = _names_in(descriptor)
        for each in folders:
            yield from walk(descriptor, each)
        yield folders, others, descriptor
    finally:
        os.close(descriptor)


def _names_in(folder: int) -> tuple[list[str], list[str]]:
    folders: list[str] = []
    others: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            (folders if entry.is_dir(follow_symlinks=False) else others).append(entry.name)
            pulse.beat()
    return folders, others


def create(folder: int, name: str) -> int:
    """A descriptor of a new, empty file, for writing and reading back."""
    return os.open(name, _NEW, 0o666, dir_fd=folder)


def write_json(folder: int, name: str, content: Any) -> None:
    """The file holds the old content or the new one, whatever happens."""
    staged = f"{name}.new"
    with open(create(folder, staged), "w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.rename(staged, name, src_dir_fd=folder, dst_dir_fd=folder)
    settle(folder)


def read_json(folder: int, name: str) -> Any:
    """None where there is no such file, or no JSON in it."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None
    with open(descriptor, encoding="utf-8") as file:
        try:
            return json.load(file)
        except ValueError:
            return None
