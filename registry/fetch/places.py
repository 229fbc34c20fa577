"""Where the files of an order lie below the cache, whole or unfinished."""

import os
import stat

from cachemgr.hands.root import Root
from cachemgr.scan.partials import PARTIAL
from registry.errors import HubError
from registry.fetch.order import Content, Order


def blobs(order: Order) -> str:
    return f"{order.folder}/blobs"


def snapshot(order: Order) -> str:
    return f"{order.folder}/snapshots/{order.commit}"


def blob(order: Order, content: Content) -> str:
    return f"{blobs(order)}/{content.digest}"


def partial(order: Order, content: Content) -> str:
    """One name in all processes, so that the next one goes on."""
    return f"{blob(order, content)}{PARTIAL}"


def find_lying(root: Root, order: Order, content: Content) -> str | None:
    """The file that has the content's name: the blob, or a copy in the snapshot, where links are but names."""
    path = blob(order, content)
    found = root.look_at(path)
    if found is not None:
        return _end_of_link(root, path) if stat.S_ISLNK(found.st_mode) else path
    names = (f"{snapshot(order)}/{name}" for name in content.names)
    return next((path for path in names if _is_file(root, path)), None)


def _is_file(root: Root, path: str) -> bool:
    found = root.look_at(path)
    return found is not None and stat.S_ISREG(found.st_mode)


def _end_of_link(root: Root, path: str) -> str | None:
    """A blob can be a link into the cache's shared store, never to elsewhere; None where it leads to nothing."""
    top = os.path.realpath(f"/proc/self/fd/{root.descriptor}")
    end = os.path.realpath(f"{top}/{path}")
    if not end.startswith(f"{top}/"):
        raise HubError(f"{path} leads out of its cache, to {end}.", code="unsafe_entry", is_permanent=True)
    below = end.removeprefix(f"{top}/")
    return below if _is_file(root, below) else None
