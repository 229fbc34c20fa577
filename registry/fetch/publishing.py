"""The end of a download: verified files get their final names, and the snapshot and its ref appear.

Until here, no other program sees a model that is half there. Every step can be done again after a crash.
"""

import os
from collections.abc import Mapping
from contextlib import suppress

from cachemgr.digests import hash_like
from cachemgr.hands import durable
from cachemgr.hands.copying import Pace, Pump, drop_pages
from cachemgr.hands.errors import Trouble
from cachemgr.hands.manifests import add_known
from cachemgr.hands.root import Root
from cachemgr.scan.partials import PARTIAL
from registry.fetch import places
from registry.fetch.order import Content, Order


def publish(root: Root, order: Order, *, lying: Mapping[str, str]) -> None:
    """`lying` has the file of each content, by digest. Raises Trouble where the drive is not the same any more."""
    root.still_there()
    copied = [content for content in order.contents if _is_copied(order, content, path=lying[content.digest])]
    for content in order.contents:
        place = _place_copies if content in copied else _place_blob
        place(root, order, content, path=lying[content.digest])
    _settle(root, order)
    if not order.takes_links:
        _write_digests(root, order, copied)
    _write_ref(root, order)


def _is_copied(order: Order, content: Content, *, path: str) -> bool:
    return not order.takes_links or path in _names(order, content)


def _names(order: Order, content: Content) -> list[str]:
    return [f"{places.snapshot(order)}/{name}" for name in content.names]


# Where the drive takes links: one blob, and links to it


def _place_blob(root: Root, order: Order, content: Content, *, path: str) -> None:
    if path == places.partial(order, content):
        _rename(root, path, places.blob(order, content))
    for name in content.names:
        _link(root, f"{places.snapshot(order)}/{name}", target=_target(name, content))


def _target(name: str, content: Content) -> str:
    """Seen from the folder of the name: two steps up, and one more for each folder in the name."""
    return "../" * (2 + name.count("/")) + f"blobs/{content.digest}"


def _link(root: Root, path: str, *, target: str) -> None:
    with root.parent(path, make=True) as (folder, name):
        with suppress(OSError):
            if os.readlink(name, dir_fd=folder) == target:
                return
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
        os.symlink(target, name, dir_fd=folder)


# Where it takes none: a file under each name, and the digests written down


def _place_copies(root: Root, order: Order, content: Content, *, path: str) -> None:
    first, *others = sorted(_names(order, content), key=lambda name: name != path)
    if first != path:
        _rename(root, path, first)
    for other in others:
        _double(root, first, other, content=content)


def _double(root: Root, path: str, other: str, *, content: Content) -> None:
    with root.parent(path) as (here, name), root.parent(other, make=True) as (there, new_name):
        with suppress(FileNotFoundError):
            os.unlink(new_name, dir_fd=there)
        try:
            os.link(name, new_name, src_dir_fd=here, dst_dir_fd=there, follow_symlinks=False)
        except OSError:
            _copy(root, path, other, content=content)


def _copy(root: Root, path: str, other: str, *, content: Content) -> None:
    """Read back before it gets its name, as all that we write."""
    pump = Pump(Pace(lambda **_: None, stage="", total_bytes=content.size_bytes, rate_limit=None))
    written, read = (hash_like(content.digest, size_bytes=content.size_bytes) for _ in range(2))
    with root.file(path) as source, root.parent(other) as (folder, name):
        staged = f"{name}{PARTIAL}"
        target = durable.create(folder, staged)
        try:
            pump.copy_file(source, target, written)
            drop_pages(target)
            pump.hash_file(target, read)
        finally:
            os.close(target)
        if read.hexdigest() != content.digest:
            raise Trouble(f"{other} was not written as it should be.", code="target_corrupt", is_permanent=False)
        os.rename(staged, name, src_dir_fd=folder, dst_dir_fd=folder)


def _write_digests(root: Root, order: Order, copied: list[Content]) -> None:
    """For whoever verifies or moves the copies."""
    known = {
        f"{order.commit}/{name}": (content.digest, content.size_bytes) for content in copied for name in content.names
    }
    add_known(root, order.folder, known)


# Both


def _rename(root: Root, path: str, final: str) -> None:
    with root.parent(path) as (here, name), root.parent(final, make=True) as (there, new_name):
        try:
            os.rename(name, new_name, src_dir_fd=here, dst_dir_fd=there)
        except FileNotFoundError:
            os.stat(new_name, dir_fd=there)  # another download of the same repo was faster


def _settle(root: Root, order: Order) -> None:
    """Folders, the deepest first; the files are on the drive since they were read back."""
    for path in (places.blobs(order), f"{order.folder}/snapshots", order.folder, ""):
        with root.folder(path) as folder:
            if path.endswith("/snapshots"):
                durable.settle_tree(folder, order.commit)
            durable.settle(folder)


def _write_ref(root: Root, order: Order) -> None:
    if order.ref == order.commit:
        return
    staged = f"{places.blobs(order)}/ref{PARTIAL}"  # what a crash leaves is no name of a revision there
    with root.parent(staged, make=True) as (folder, name), open(durable.create(folder, name), "wb") as file:
        file.write(order.commit.encode())
        file.flush()
        os.fsync(file.fileno())
    final = f"{order.folder}/refs/{order.ref}"
    _rename(root, staged, final)
    with root.parent(final) as (folder, _):
        durable.settle(folder)
