"""Two processes read a large cache together. Most of a scan is waiting for the kernel, one name after the other, and
threads of Python do not help there: they wait for each other.

Only for local disks that do not turn, as probe.py decides: on a NAS a second reader may get stuck beside the first, and
on a hard disk it makes the arm jump.
"""

import os
import pickle  # between a process and its own fork
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from cachemgr.report import RepoReport

_WORTHWHILE = 32  # repos: a fork costs as much as reading about ten

Read = Callable[[str], RepoReport | None]
Found = dict[str, RepoReport | None]


def read_all(read: Read, folders: Sequence[str], *, readers: int) -> Found:
    """What `read` says of each folder. A second reader that dies has told nothing: its part is read here."""
    if readers < 2 or len(folders) < _WORTHWHILE:
        return {folder: read(folder) for folder in folders}
    theirs = folders[1::2]
    with _second_reader(read, theirs) as ask:
        mine = {folder: read(folder) for folder in folders[::2]}
        found = ask()
    return mine | (found or {folder: read(folder) for folder in theirs})


@contextmanager
def _second_reader(read: Read, folders: Sequence[str]) -> Iterator[Callable[[], Found | None]]:
    """Yields how to ask it for what it found, which waits for its end. It does not outlive the block."""
    receiver, sender = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _read_and_tell(read, folders, sender=sender, parent=parent)
    os.close(sender)
    with open(receiver, "rb") as answer:
        try:
            yield lambda: _parsed(answer.read())
        finally:
            os.kill(child, signal.SIGKILL)  # not needed where it has answered, and then it does nothing
            os.waitpid(child, 0)


def _read_and_tell(read: Read, folders: Sequence[str], *, sender: int, parent: int) -> None:
    """The whole life of the second reader. It never returns; an error in it is met again by the first."""
    try:
        found: Found = {}
        for folder in folders:
            if os.getppid() != parent:
                break
            found[folder] = read(folder)
        else:
            with open(sender, "wb") as answer:
                pickle.dump(found, answer)
    finally:
        os._exit(0)


def _parsed(answer: bytes) -> Found | None:
    """None for the answer of a reader that died before it had said everything."""
    try:
        found: Found = pickle.loads(answer)  # noqa: S301 (our own fork wrote it)
    except (EOFError, pickle.UnpicklingError):
        return None
    return found
