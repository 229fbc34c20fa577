"""One download, from its order to its end."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from cachemgr.hands.root import Root, open_root
from registry.errors import HubError
from registry.fetch import places, transfer
from registry.fetch.bringing import Bringing, Fill, bring_all, pool
from registry.fetch.forgetting import forget
from registry.fetch.landing import Landing
from registry.fetch.order import Order
from registry.fetch.progress import Progress, Say
from registry.fetch.publishing import publish
from registry.fetch.troubles import GIVES_BACK, explain
from registry.hub_line import use_strict_line


def fetch(order: Order, *, token: str, say: Say) -> dict[str, Any]:
    """Brings all contents, then lets the snapshot appear. Raises HubError."""
    progress = Progress(order, say=say)
    try:
        with open_root(order.root) as root, _working_in(root, order):
            _bring_and_publish(order, root, progress=progress, fill=_hub(order, token=token))
    except Exception as error:  # whatever it is, the master hears of it as a code and a sentence
        told = explain(error, order, missing_bytes=progress.missing_bytes)
        if told.code in GIVES_BACK:
            with suppress(HubError):
                forget(order.root, order.folder)
        raise told from error
    progress.tell()
    return {"bytes": order.size_bytes}


def _bring_and_publish(order: Order, root: Root, *, progress: Progress, fill: Fill) -> None:
    with progress.telling(root), pool() as readers:
        lying = bring_all(Bringing(order, root, progress, readers, fill))
    publish(root, order, lying=lying)


@contextmanager
def _working_in(root: Root, order: Order) -> Iterator[None]:
    """Makes the folders, and holds a lock so that nobody removes what lands there: see `forget`."""
    with root.folder(f"{order.folder}/snapshots", make=True):
        pass
    with root.folder(places.blobs(order), make=True) as folder:
        with suppress(OSError):  # a drive without locks
            fcntl.flock(folder, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield


def _hub(order: Order, *, token: str) -> Fill:
    from huggingface_hub import hf_hub_url

    use_strict_line(order.endpoint, has_files=True)
    headers = {"Accept-Encoding": "identity"}  # a compressed answer could not be gone on with
    if token:
        headers["Authorization"] = f"Bearer {token}"

    def fill(landing: Landing) -> None:
        name = landing.content.names[0]
        url = hf_hub_url(order.repo_id, name, revision=order.commit, endpoint=order.endpoint)
        transfer.download(url, landing, headers=headers)

    return fill
