"""How much a drive still takes, and a code and a sentence for one that takes no more: of moves, and of downloads."""

import errno
import os
from dataclasses import dataclass

from cachemgr.hands.errors import Trouble
from cachemgr.hands.root import Root
from cachemgr.units import format_bytes


@dataclass(frozen=True, slots=True)
class Shortage:
    """`message` names the cache and the numbers; what to do about it is the caller's to say."""

    code: str
    message: str
    free_bytes: int


def free_bytes(root: Root) -> int:
    """For a user like ours: what is reserved for root does not count."""
    return _free_bytes(os.fstatvfs(root.descriptor))


def _free_bytes(figures: os.statvfs_result) -> int:
    return figures.f_bavail * figures.f_frsize


def shortage(path: str, figures: os.statvfs_result, *, lacking_bytes: int, error: OSError | None) -> Shortage:
    """Why the drive of the cache at that path takes no more.

    1. The user's quota is used up: the drive says so.
    2. It has bytes but takes no file: it has run out of inodes.
    3. It has enough, by what it says: a quota that says nothing, or a drive that claims more than it has.
    4. It is full.
    """
    free = _free_bytes(figures)
    lacking, have = format_bytes(lacking_bytes), format_bytes(free)
    if error is not None and error.errno == errno.EDQUOT:
        code, message = "quota_exceeded", f"The quota of this user on {path} is used up: {lacking} were still to come"
    elif figures.f_files and not figures.f_favail:
        code, message = "no_more_files", f"{path} takes no more files: it has no inodes left, with {have} free"
    elif free > lacking_bytes:
        claim = f"though it says that {have} are free: of a quota, or of a larger drive"
        code, message = "insufficient_space", f"The drive of {path} takes no more, {claim}"
    else:
        figures_said = f"{lacking} were still to come, and {have} are free"
        code, message = "insufficient_space", f"The drive of {path} is full: {figures_said}"
    return Shortage(code, f"{message}.", free)


def full(root: Root, *, lacking_bytes: int, error: OSError | None = None) -> Trouble:
    found = shortage(root.path, os.fstatvfs(root.descriptor), lacking_bytes=lacking_bytes, error=error)
    return Trouble(f"{found.message} Make room there, or choose another cache.", code=found.code)
