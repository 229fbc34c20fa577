"""What a power cut does not take back: bytes are on the disk before a name leads to them, and so is the name."""

import errno
import json
import os
from collections.abc import Iterator
from typing import Any

_NEW = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_ASKED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF)  # filesystems that sync no folders say this


def settle(folder: int) -> None:
    """The names in an open folder are on the disk after this, as far as its filesystem can be asked."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _NOT_ASKED:
            raise


def settle_tree(folder: int, name: str) -> None:
    """A folder and all folders below it, the deepest first."""
    for _, _, _, descriptor in walk(folder, name):
        settle(descriptor)


def walk(folder: int, name: str) -> Iterator[tuple[str, list[str], list[str], int]]:
    """As os.fwalk, the deepest first and no link followed: path, folders, other names, an open descriptor.

    Unlike there, a folder that cannot be read is an error.
    """

    def complain(error: OSError) -> None:
        raise error

    yield from os.fwalk(name, topdown=False, onerror=complain, follow_symlinks=False, dir_fd=folder)


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
