"""Removal of what downloads of a repo left unfinished: the room comes back."""

import fcntl
import os
import re
from collections.abc import Mapping
from typing import Any

from cachemgr.digests import DIGEST
from cachemgr.hands.clearing import remove_empty_folders, remove_files
from cachemgr.hands.errors import Trouble, as_trouble
from cachemgr.hands.root import Root, open_root
from cachemgr.scan.partials import PARTIAL
from registry.errors import HubError

_OURS = re.compile(rf"({DIGEST.pattern}|ref){re.escape(PARTIAL)}")


def forget(place: Mapping[str, str], folder: str) -> dict[str, Any]:
    """`place` is the cache's path and uuid, `folder` the repo's. Nothing is removed while a download of that repo is at
    work, as of another model. Raises HubError."""
    try:
        with open_root(place) as root:
            return {"removed": _remove_partials(root, folder)}
    except (Trouble, OSError) as error:
        trouble = as_trouble(error)
        raise HubError(trouble.message, code=trouble.code, is_permanent=trouble.is_permanent) from error


def _remove_partials(root: Root, folder: str) -> int:
    """How many."""
    blobs = f"{folder}/blobs"
    if not root.has_folder(blobs):
        return 0
    with root.folder(blobs) as descriptor:
        if not _is_alone(descriptor):
            return 0
        names = [name for name in os.listdir(descriptor) if _OURS.fullmatch(name)]
        remove_files(root, [f"{blobs}/{name}" for name in names])
    remove_empty_folders(root, [blobs, f"{folder}/snapshots", folder])
    return len(names)


def _is_alone(folder: int) -> bool:
    """See `work`: whoever downloads shares a lock on the folder."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a drive without locks
    return True
