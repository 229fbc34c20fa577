"""Who holds a repo's folder: readers share it, and whoever removes its files has it alone.

    with shared(folder): ...            or  lock = shared(folder); ...; lock.release()
    with exclusive(folder, wait_seconds=30): ...

A lock is an `flock` on a file in DATA_DIR, not on the drive: it works across processes, where the drive takes no locks,
and after the folder is gone. The kernel releases it when its holders are dead. Take it first, then look at the path.
"""

import fcntl
import os
import time
from hashlib import sha256
from pathlib import Path
from typing import Self

from django.conf import settings

from cachemgr.errors import RepoBusy

_POLL_SECONDS = 0.05


class RepoLock:
    """A lock that is held until `release`, or to the end of a `with` block. A child process that gets `descriptor`
    (`pass_fds`) holds it too: should this process die, the lock lives as long as the child."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @property
    def is_held(self) -> bool:
        return self.descriptor >= 0

    def release(self) -> None:
        """Also for children that have it. Doing it twice is safe."""
        if self.is_held:
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def shared(folder: Path, *, wait_seconds: float = 0) -> RepoLock:
    """For loading, reading or copying the repo in `folder` (absolute). Raises RepoBusy while somebody removes it."""
    return _lock(folder, operation=fcntl.LOCK_SH, wait_seconds=wait_seconds)


def exclusive(folder: Path, *, wait_seconds: float = 0) -> RepoLock:
    """For removing or renaming files of the repo in `folder` (absolute). Raises RepoBusy while anybody else has it."""
    return _lock(folder, operation=fcntl.LOCK_EX, wait_seconds=wait_seconds)


def _lock(folder: Path, *, operation: int, wait_seconds: float) -> RepoLock:
    deadline = time.monotonic() + wait_seconds
    lock = RepoLock(_open(folder))
    try:
        while not _try(lock, operation):
            if time.monotonic() >= deadline:
                raise _busy(folder, operation=operation, waited_seconds=wait_seconds)
            time.sleep(_POLL_SECONDS)
    except BaseException:
        lock.release()
        raise
    return lock


def _try(lock: RepoLock, operation: int) -> bool:
    try:
        fcntl.flock(lock.descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open(folder: Path) -> int:
    """The lock's file. It is never removed: a holder of a removed file and one of its successor would both be alone."""
    locks = settings.DATA_DIR / "locks"
    locks.mkdir(mode=0o700, exist_ok=True)
    name = sha256(os.fsencode(folder)).hexdigest()[:32]
    return os.open(locks / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _busy(folder: Path, *, operation: int, waited_seconds: float) -> RepoBusy:
    if operation == fcntl.LOCK_SH:
        what = "Its files are being removed or renamed. Try again in a few seconds."
    else:
        what = "Its model is loaded, or its files are read or copied. Unload it, or wait for the job, and try again."
    waited = f" after {waited_seconds:.0f} s" if waited_seconds else ""
    return RepoBusy(f"{folder} is in use{waited}. {what}", details={"path": str(folder)})
