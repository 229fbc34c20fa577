"""How much a drive still takes, and the sentence for one that takes no more."""

import os

from cachemgr.hands.errors import Trouble
from cachemgr.hands.root import Root
from cachemgr.units import format_bytes


def free_bytes(root: Root) -> int:
    """For a user like ours: what is reserved for root does not count."""
    status = os.fstatvfs(root.descriptor)
    return status.f_bavail * status.f_frsize


def full(root: Root, *, lacking_bytes: int) -> Trouble:
    """A drive that has bytes but takes no file has run out of inodes."""
    status, free = os.fstatvfs(root.descriptor), free_bytes(root)
    if status.f_files and not status.f_favail:
        what = f"takes no more files: it has no inodes left, with {format_bytes(free)} free"
    elif free > lacking_bytes:
        what = f"takes no more, though it says that {format_bytes(free)} are free: of a quota, or of a larger drive"
    else:
        what = f"is full: {format_bytes(lacking_bytes)} more are needed, {format_bytes(free)} are free"
    message = f"The drive of {root.path} {what}. Make room there, or choose another cache."
    return Trouble(message, code="insufficient_space")
