"""One server for one DATA_DIR: an flock that lives as long as the supervisor."""

import fcntl
import os
from pathlib import Path

from homelab.errors import HomelabError


class AlreadyRunning(HomelabError):
    """Another server holds this DATA_DIR; the message names its pid."""

    code = "already_running"
    status = 409


def hold_lock(path: Path) -> int:
    """Returns the file descriptor that holds the lock; it stays open when this process becomes the supervisor.

    The supervisor's children get no copy of it (supervisord closes all descriptors in them), so the kernel frees
    the lock in the moment when the supervisor ends, however it ends.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        pid = os.read(descriptor, 32).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise AlreadyRunning(
            f"A server with the data folder {path.parent} runs already (pid {pid or 'unknown'}). "
            f"Stop it with Ctrl-C in its terminal, or choose another folder with --data-dir."
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    os.set_inheritable(descriptor, True)  # noqa: FBT003 (the function takes no keyword)
    return descriptor
