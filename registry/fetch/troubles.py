"""Any failure of a download as a code, a sentence, and whether another attempt can help."""

import errno
import os
from contextlib import suppress

from cachemgr.hands.errors import Trouble, as_trouble
from cachemgr.units import format_bytes
from registry.errors import HubError
from registry.fetch.order import Order
from registry.hub import explain_refusal, unreachable

GIVES_BACK = frozenset({"insufficient_space", "no_more_files", "quota_exceeded", "size_exceeds_reservation"})
"""After these nothing stays of what had come: somebody needs the room, or nobody booked it."""


def explain(error: Exception, order: Order, *, missing_bytes: int) -> HubError:
    """`missing_bytes` had not landed yet."""
    from httpx2 import HTTPError
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HubError):
        return error
    if isinstance(error, HfHubHTTPError):
        return explain_refusal(error, repo_id=order.repo_id, revision=order.commit)
    if isinstance(error, HTTPError):
        return unreachable(order.endpoint, error)
    if isinstance(error, OSError) and error.errno in _FULL:
        return _explain_full(error, order, missing_bytes=missing_bytes)
    trouble = as_trouble(error)
    return HubError(_sentence(trouble, order), code=trouble.code, is_permanent=trouble.is_permanent)


_FULL = (errno.ENOSPC, errno.EDQUOT)


def _explain_full(error: OSError, order: Order, *, missing_bytes: int) -> HubError:
    path = order.root["path"]
    needed = format_bytes(missing_bytes)
    if error.errno == errno.EDQUOT:
        message = f"The quota of this user on {path} is used up, and {needed} were still to come."
        return HubError(message, code="quota_exceeded", is_permanent=True)
    free_bytes, inodes = _room(path)
    if inodes == 0:
        message = (
            f"{path} takes no more files: it has {format_bytes(free_bytes)} free, but no inodes. Remove small files."
        )
        return HubError(message, code="no_more_files", is_permanent=True)
    message = (
        f"The disk of {path} is full: {needed} were still to come, and {format_bytes(free_bytes)} are free. Another "
        "program took the room. What had come was removed; make room, and download again."
    )
    details = {"needed_bytes": missing_bytes, "free_bytes": free_bytes}
    return HubError(message, code="insufficient_space", is_permanent=True, details=details)


def _room(path: str) -> tuple[int, int | None]:
    """Bytes and inodes that are free for us; None inodes where they are not counted."""
    with suppress(OSError):
        figures = os.statvfs(path)
        return figures.f_bavail * figures.f_frsize, figures.f_favail if figures.f_files else None
    return 0, None


def _sentence(trouble: Trouble, order: Order) -> str:
    if trouble.code == "file_too_big_for_drive":
        return f"{order.root['path']} does not take files of that size (FAT: 4 GiB). Choose another cache."
    if trouble.code == "drive_read_only":
        return f"{order.root['path']} takes no writes: {trouble.message}."
    if trouble.code == "drive_error":
        return f"The drive of {order.root['path']} failed: {trouble.message}. Check it before it is used again."
    return trouble.message
