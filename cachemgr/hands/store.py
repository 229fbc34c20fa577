"""The Hub's shared store: `<cache>/blobs/<2 hex>/<hash>`, where files lie that the blobs of several repos are links to.

Beside each lie `<hash>.refs`, a list of its users, and `<hash>.lock`. The Hub's library removes a file when none of its
listed users is in place, and a repo in the trash is not: so the trash keeps a second name of each file that it needs.
"""

import fcntl
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from cachemgr.hands.clearing import make_folders
from cachemgr.hands.durable import settle
from cachemgr.hands.references import said_by, target_of
from cachemgr.hands.root import Root
from cachemgr.hands.tree import LINK, Tree

STORE = "blobs"
_MARKER = ".huggingface-shared-blobs"
_MARKER_TEXT = b"1\n"
_STORED = re.compile(r"blobs/([0-9a-f]{2})/\1[0-9a-f]{62}")
_LIST_LIMIT_BYTES = 16 * 10**6
_APPEND = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


def is_stored(path: str) -> bool:
    return bool(_STORED.fullmatch(path))


def stored_files(root: Root) -> list[str]:
    """Paths below the cache; none where there is no store with the Hub's mark."""
    if not _has_mark(root):
        return []
    with root.folder(STORE) as descriptor:
        prefixes = sorted(name for name in os.listdir(descriptor) if root.has_folder(f"{STORE}/{name}"))
    found = []
    for prefix in prefixes:
        with root.folder(f"{STORE}/{prefix}") as descriptor:
            found += [f"{STORE}/{prefix}/{name}" for name in sorted(os.listdir(descriptor))]
    return [path for path in found if is_stored(path)]


def _has_mark(root: Root) -> bool:
    mark = root.look_at(f"{STORE}/{_MARKER}")
    if mark is None or not stat.S_ISREG(mark.st_mode):
        return False
    with root.file(f"{STORE}/{_MARKER}") as descriptor:
        return os.read(descriptor, 10) == _MARKER_TEXT


# For the trash


def lend(root: Root, paths: Iterable[str], *, to: str) -> None:
    """Second names for stored files, below `to`. Where a drive takes none, the store's own have to do."""
    for path in sorted(path for path in paths if is_stored(path)):
        make_folders(root, f"{to}/{path}".rpartition("/")[0])
        with suppress(OSError):
            _link(root, path, f"{to}/{path}")


def give_back(root: Root, tree: Tree, *, lent: str, place: str) -> None:
    """Before the repo is in its place again: the store has all that it leads to, and lists it as a user."""
    for path in tree.paths(LINK):
        stored = said_by(root, tree, path)
        if path.startswith(f"{STORE}/") and is_stored(stored):
            _make_store(root, stored)
            with _locked(root, stored) as (folder, name):
                if root.look_at(stored) is None and root.look_at(f"{lent}/{stored}") is not None:
                    _link(root, f"{lent}/{stored}", stored)
                _add_user(folder, name, user=f"{place}/{path}")


def _link(root: Root, source: str, target: str) -> None:
    with root.parent(source) as (before, old), root.parent(target) as (after, new), suppress(FileExistsError):
        os.link(old, new, src_dir_fd=before, dst_dir_fd=after, follow_symlinks=False)
        settle(after)


def _make_store(root: Root, stored: str) -> None:
    is_new = root.look_at(STORE) is None
    make_folders(root, stored.rpartition("/")[0])
    if is_new:
        with root.folder(STORE) as descriptor:
            _append(descriptor, _MARKER, _MARKER_TEXT)


def _add_user(folder: int, name: str, *, user: str) -> None:
    if user not in _users(folder, name):
        _append(folder, f"{name}.refs", f"{user}\n".encode())


def _append(folder: int, name: str, line: bytes) -> None:
    descriptor = os.open(name, _APPEND, 0o666, dir_fd=folder)
    try:
        os.write(descriptor, line)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    settle(folder)


# When nobody needs a file any more


def collect(root: Root, stored: str) -> bool:
    """Removes a stored file. False where a user that its list names leads to it: a download lists itself first, and
    both happen under the Hub's own lock."""
    if root.look_at(stored) is None:
        return True
    with _locked(root, stored) as (folder, name):
        if any(_leads_to(root, user, stored) for user in _users(folder, name)):
            return False
        root.still_there()
        for each in (name, f"{name}.refs"):
            with suppress(FileNotFoundError):
                os.unlink(each, dir_fd=folder)
        settle(folder)
    return True


def _leads_to(root: Root, user: str, stored: str) -> bool:
    """Is that path, as the list names it, a link to the stored file?"""
    if user.startswith("/") or ".." in user.split("/"):
        return False
    try:
        with root.parent(user) as (folder, name):
            return target_of(root, user, os.readlink(name, dir_fd=folder)) == stored
    except OSError:
        return False


def _users(folder: int, name: str) -> list[str]:
    try:
        descriptor = os.open(f"{name}.refs", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return []
    with open(descriptor, encoding="utf-8", errors="replace") as file:
        return file.read(_LIST_LIMIT_BYTES).splitlines()


@contextmanager
def _locked(root: Root, stored: str) -> Iterator[tuple[int, str]]:
    """As the Hub's library does it. Nobody holds such a lock for longer than a rename takes."""
    with root.parent(stored) as (folder, name):
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        lock = os.open(f"{name}.lock", flags, 0o666, dir_fd=folder)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder, name
        finally:
            os.close(lock)
