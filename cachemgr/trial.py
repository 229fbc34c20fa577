"""Whether a drive takes writes, by writing: flags and modes know nothing of a failing disk, or of a share's rules."""

import errno
import os
import stat
import time
from contextlib import suppress
from dataclasses import dataclass

from cachemgr.layout import HOUSE_FOLDER

FULL = (errno.ENOSPC, errno.EDQUOT)
_FILE, _LINK = "write-test", "link-test"  # fixed names: what a killed test left behind is replaced by the next
_LATELY_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Trial:
    """`problem` is the errno that a write met, None where it went well, or where the drive is merely full."""

    problem: int | None
    takes_links: bool | None


def try_writing(cache_path: str) -> Trial:
    """Writes, syncs and removes a small file in the cache's own folder, then a symbolic link."""
    try:
        house = open_house(cache_path)
        try:
            _write(house)
            return Trial(problem=None, takes_links=_takes_links(house))
        finally:
            _remove(_FILE, house)
            os.close(house)
    except OSError as error:
        return Trial(problem=None if error.errno in FULL else error.errno, takes_links=None)


def was_tried_lately(cache_path: str) -> bool:
    """True where something was written within the hour. A disk that turns is written to no more often than that: the
    kernel writes once more a while later, and a disk with work to do never sleeps."""
    try:
        house = os.lstat(os.path.join(cache_path, HOUSE_FOLDER))
    except OSError:
        return False
    return stat.S_ISDIR(house.st_mode) and 0 <= time.time() - house.st_mtime < _LATELY_SECONDS


def open_house(cache_path: str) -> int:
    """A descriptor of the cache's own folder, made if need be. It is no link to elsewhere. Raises OSError."""
    path = os.path.join(cache_path, HOUSE_FOLDER)
    with suppress(FileExistsError):
        os.mkdir(path)
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _write(house: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(_FILE, flags, 0o600, dir_fd=house)
    try:
        os.write(file, b"Homelab LLM Server tries whether this drive takes writes.\n")
        os.fsync(file)
    finally:
        os.close(file)


def _takes_links(house: int) -> bool | None:
    """None on a drive that is full: it was not tried."""
    _remove(_LINK, house)
    try:
        os.symlink(_FILE, _LINK, dir_fd=house)
        return os.readlink(_LINK, dir_fd=house) == _FILE
    except OSError as error:
        return None if error.errno in FULL else False
    finally:
        _remove(_LINK, house)


def _remove(name: str, house: int) -> None:
    with suppress(OSError):
        os.unlink(name, dir_fd=house)
