"""Any failure of a download as a code, a sentence, and whether another attempt can help."""

import os

from cachemgr.hands.errors import Trouble, as_trouble
from cachemgr.hands.room import shortage
from cachemgr.trial import FULL
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
    if isinstance(error, OSError) and error.errno in FULL:
        return _explain_full(error, order, missing_bytes=missing_bytes)
    return _explain_trouble(as_trouble(error), order)


def _explain_full(error: OSError, order: Order, *, missing_bytes: int) -> HubError:
    path = order.root["path"]
    try:
        found = shortage(path, os.statvfs(path), lacking_bytes=missing_bytes, error=error)
    except OSError as gone:  # the drive went away meanwhile
        return _explain_trouble(as_trouble(gone), order)
    message = f"{found.message} What had come was removed; make room, and download again."
    details = {"needed_bytes": missing_bytes, "free_bytes": found.free_bytes}
    return HubError(message, code=found.code, is_permanent=True, details=details)


def _explain_trouble(trouble: Trouble, order: Order) -> HubError:
    return HubError(_sentence(trouble, order), code=trouble.code, is_permanent=trouble.is_permanent)


def _sentence(trouble: Trouble, order: Order) -> str:
    if trouble.code == "file_too_big_for_drive":
        return f"{order.root['path']} does not take files of that size (FAT: 4 GiB). Choose another cache."
    if trouble.code == "drive_read_only":
        return f"{order.root['path']} takes no writes: {trouble.message}."
    if trouble.code == "drive_error":
        return f"The drive of {order.root['path']} failed: {trouble.message}. Check it before it is used again."
    return trouble.message
