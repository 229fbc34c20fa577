"""The trash of a cache: repos that were removed, on the same drive, whole, until they are restored or emptied.

`.homelab/trash/<name>/` is a small cache of its own: the repo's folder as it was, in `blobs` second names of the stored
files that it leads to, and `manifest.json` where a move had written one. To put and to restore is one rename.

    {"task": "trash", "step": "weigh" | "put" | "restore" | "purge" | "look", "root": {"path", "uuid"}, ...}
"""

import errno
import re
from collections.abc import Mapping
from typing import Any

from cachemgr.hands.clearing import make_folders, remove, rename
from cachemgr.hands.errors import Trouble
from cachemgr.hands.manifests import MANIFESTS
from cachemgr.hands.references import folders_in, read_references, repos_in
from cachemgr.hands.root import Root, open_root
from cachemgr.hands.store import collect, give_back, is_stored, lend, stored_files
from cachemgr.hands.telling import Say
from cachemgr.hands.tree import Tree, read_tree
from cachemgr.hands.weighing import Scales
from cachemgr.layout import TRASH, parse_repo_folder
from cachemgr.report import Partial
from cachemgr.scan.partials import find_live
from cachemgr.scan.place import Place

_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def run(order: Mapping[str, Any], *, say: Say) -> dict[str, Any]:
    steps = {"weigh": _weigh, "put": _put, "restore": _restore, "purge": _purge, "look": _look}
    with open_root(order["root"]) as root:
        return steps[order["step"]](root, order)


def _home_of(order: Mapping[str, Any]) -> str:
    """The entry's own folder in the trash."""
    name = str(order["name"])
    if not _NAME.fullmatch(name):
        raise Trouble(f"{name!r} is no name in the trash.", code="bad_order")
    return f"{TRASH}/{name}"


def _folder_of(order: Mapping[str, Any]) -> str:
    folder = str(order["folder"])
    if parse_repo_folder(folder) is None:
        raise Trouble(f"{folder!r} is no repo's folder.", code="bad_order")
    return folder


# What it would free


def _weigh(root: Root, order: Mapping[str, Any]) -> dict[str, Any]:
    """`holders` are folders of repos, in their place or in the trash, in the order in which they would go. A stored
    file goes with the last of its users."""
    holders = [str(holder) for holder in order["holders"]]
    references = read_references(root) if stored_files(root) else None
    scales, gone, weights = Scales(root), frozenset[str](), []
    for holder in holders:
        gone |= {holder}
        also = references.used_by_none_but(gone) if references else frozenset[str]()
        load = [_load_of(holder), *_with_lists(path for path in sorted(also) if is_stored(path))]
        weights.append(scales.weigh(load).as_json())
    return {"weights": weights}


def _load_of(holder: str) -> str:
    """A repo in the trash goes with all that was put around it."""
    return holder.rpartition("/")[0] if holder.startswith(f"{TRASH}/") else holder


def _with_lists(stored: Any) -> list[str]:
    return [each for path in stored for each in (path, f"{path}.refs")]


# Putting into the trash


def _put(root: Root, order: Mapping[str, Any]) -> dict[str, Any]:
    """Safe to repeat: an attempt that was killed is finished."""
    folder, home = _folder_of(order), _home_of(order)
    if not root.has_folder(f"{home}/{folder}"):
        tree = _readable(root, folder)
        _refuse_live(root, tree)
        make_folders(root, home)
        lend(root, _stored_by(root, folder), to=home)
        root.still_there()
        _rename(root, folder, f"{home}/{folder}")
    _take_along(root, _manifest_of(folder), f"{home}/manifest.json")
    return {"folder": folder}


def _readable(root: Root, folder: str) -> Tree:
    if not root.has_folder(folder):
        raise Trouble(f"There is no folder {folder} in {root.path}.", code="not_there")
    return read_tree(root, folder)


def _refuse_live(root: Root, tree: Tree) -> None:
    """By the locks that downloaders hold: a partial that is young but held by nobody was just given up."""
    partials = [Partial(path, 0, is_live=False, modified_at=0.0) for path in tree.partials]
    if find_live(Place(root.path, root.descriptor), tree.folder, partials):
        message = f"Another program downloads into {tree.folder} at this moment. Wait for it, or end it."
        raise Trouble(message, code="model_busy")


def _stored_by(root: Root, folder: str) -> frozenset[str]:
    if not stored_files(root):
        return frozenset()
    return read_references(root).uses.get(folder, frozenset())


def _rename(root: Root, source: str, target: str) -> None:
    try:
        rename(root, source, target)
    except OSError as error:
        if error.errno in _TAKEN:
            raise _taken(root, target) from error
        if error.errno in (errno.EXDEV, errno.EBUSY):
            message = f"{source} in {root.path} is a drive of its own: it cannot be renamed into or out of the trash."
            raise Trouble(message, code="other_filesystem") from error
        raise


def _taken(root: Root, target: str) -> Trouble:
    message = f"There is something else at {target} in {root.path} now. Remove it first, then try again."
    return Trouble(message, code="place_taken")


def _manifest_of(folder: str) -> str:
    return f"{MANIFESTS}/{folder}.json"


def _take_along(root: Root, source: str, target: str) -> None:
    if root.look_at(source) is not None:
        rename(root, source, target)


# Out of it again


def _restore(root: Root, order: Mapping[str, Any]) -> dict[str, Any]:
    """Safe to repeat, as long as the place is free."""
    folder, home = _folder_of(order), _home_of(order)
    if root.has_folder(f"{home}/{folder}"):
        if root.look_at(folder) is not None:
            raise _taken(root, folder)
        root.still_there()
        give_back(root, read_tree(root, f"{home}/{folder}"), lent=home, place=folder)
        _take_along(root, f"{home}/manifest.json", _manifest_of(folder))
        _rename(root, f"{home}/{folder}", folder)
    elif not root.has_folder(folder):
        raise Trouble(f"{folder} is not in the trash of {root.path} any more.", code="not_there")
    remove(root, home)
    return {"folder": folder}


def _purge(root: Root, order: Mapping[str, Any]) -> dict[str, Any]:
    """For good, with the stored files that nobody else uses. Safe to repeat."""
    home = _home_of(order)
    root.still_there()
    for path in _stored_for_these_alone(root, frozenset(repos_in(root, home))):
        collect(root, path)
    remove(root, home)
    return {}


def _stored_for_these_alone(root: Root, holders: frozenset[str]) -> list[str]:
    if not stored_files(root):
        return []
    references = read_references(root)
    return sorted(path for path in references.used_by_none_but(holders) if is_stored(path))


# What lies there


def _look(root: Root, order: Mapping[str, Any]) -> dict[str, Any]:
    """`entries` are the names in the trash with the repos in each, and when each was made, in seconds since 1970."""
    entries = []
    for name in folders_in(root, TRASH):
        repos = [holder.rpartition("/")[2] for holder in repos_in(root, f"{TRASH}/{name}")]
        found = root.look_at(f"{TRASH}/{name}")
        entries.append({"name": name, "repos": repos, "made_at": found.st_mtime if found else 0.0})
    return {"entries": entries, "in_place": repos_in(root, "")}
