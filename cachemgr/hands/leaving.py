"""The end of a move: the source's files go after the commit, or the job's copy goes instead of it.

A name is removed from the source only while it is what was moved, and while the target has it.
"""

import errno
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from cachemgr.hands.clearing import remove_empty_folders, remove_files
from cachemgr.hands.copying import Pace
from cachemgr.hands.durable import settle
from cachemgr.hands.errors import Trouble
from cachemgr.hands.manifests import forget_known
from cachemgr.hands.references import folders_in, repos_in, said_by
from cachemgr.hands.root import Root, open_root
from cachemgr.hands.staging import MANIFEST, Record, Staging
from cachemgr.hands.survey import Move, refuse_alias
from cachemgr.hands.tree import BLOBS, FILE, FOLDER, LINK, ODD, Tree, live_partials, read_tree
from cachemgr.hands.troubles import target_incomplete
from cachemgr.layout import TRASH

_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
_ORDER = {"refs": 0, "snapshots": 1, "blobs": 3}  # names first and bytes last; what lies beside comes between


def leave(move: Move, staging: Staging | None, pace: Pace) -> dict[str, Any]:
    """Removes what was moved, and answers what is kept. Safe to repeat; without a record nothing is removed. `pace` has
    two passes: who else uses the files, and their removal."""
    record = staging.read_record() if staging else None
    before = _names_in(move.source, move.folder)
    if record and move.source.has_folder(move.folder):  # empty folders may be all that is left
        _remove_moved(move, record, pace)
    if not move.source.has_folder(move.folder):
        forget_known(move.source, move.folder)
    if staging is not None:
        staging.remove()
    kept = _names_in(move.source, move.folder)
    return {"removed": len(before) - len(kept), "kept": kept}


def _remove_moved(move: Move, record: Record, pace: Pace) -> None:
    """A source that takes no writes keeps all of it: the model has moved, and a second copy harms nobody."""
    refuse_alias(move, MANIFEST)
    if not move.target.has_folder(move.folder):
        raise target_incomplete(move)
    source = read_tree(move.source, move.folder)
    lacking = record.lacks(read_tree(move.target, move.folder))
    kept = _sources_of(record, lacking) | live_partials(move.source, source) | _used_by_others(move, pace)
    paths = [path for path in _unchanged(record, source) if path not in kept]
    move.target.still_there()
    move.source.still_there()
    try:
        _remove(move, source, paths, pace)
    except OSError as error:
        if error.errno not in _FORBIDDEN:
            raise
    settle(move.source.descriptor)


def _remove(move: Move, source: Tree, paths: list[str], pace: Pace) -> None:
    """The names first. Then it is looked again: a commit that came meanwhile keeps the blobs that it leads to."""
    going = _needless(move.source, source, paths)
    _remove_files(move, source, [path for path in going if not path.startswith(BLOBS)], pace)
    left = read_tree(move.source, move.folder)
    blobs = [path for path in going if path.startswith(BLOBS)]
    _remove_files(move, source, _needless(move.source, left, blobs), pace)
    folders = [f"{move.folder}/{path}" for path in source.paths(FOLDER)]
    remove_empty_folders(move.source, [*folders, move.folder])


def _remove_files(move: Move, source: Tree, paths: list[str], pace: Pace) -> None:
    own = f"{move.folder}/"
    remove_files(
        move.source,
        [f"{own}{path}" for path in paths],
        on_file=lambda path: pace.add(source.entries[path.removeprefix(own)].size_bytes),
    )


def _needless(root: Root, tree: Tree, paths: list[str]) -> list[str]:
    """Those that no link leads to which stays, be it by a link that has to stay for that."""
    going = set(paths)
    while held := going & _led_to(root, tree, [path for path in tree.paths(LINK) if path not in going]):
        going -= held
    return [path for path in paths if path in going]


def _unchanged(record: Record, source: Tree) -> list[str]:
    """What is still what was moved, in the order in which it is removed."""
    same = [path for path in source.paths(FILE, LINK) if record.leaving.get(path) == source.entries[path].mark]
    return sorted(same, key=lambda path: (_ORDER.get(path.partition("/")[0], 2), path))


def _sources_of(record: Record, lacking: list[str]) -> set[str]:
    """What the target has lost since, by its name at the source."""
    missing, own = set(lacking), f"{record.folder}/"
    files = {each.source.removeprefix(own) for each in record.parcels if each.path in missing}
    return files | (missing & record.links.keys())


def _used_by_others(move: Move, pace: Pace) -> set[str]:
    """Files that links of other repos lead to, as some programs leave them that save space."""
    holders = [folder for folder in _holders(move.source) if folder != move.folder]
    used: set[str] = set()
    for holder in holders:
        with suppress(OSError):  # what cannot be read cannot be used either
            tree = read_tree(move.source, holder)
            used |= _led_to(move.source, tree, tree.paths(LINK), of=move.folder)
        pace.add(pace.total_bytes // len(holders))
    return used


def _led_to(root: Root, tree: Tree, links: Iterable[str], *, of: str = "") -> set[str]:
    """What those links of a repo lead to in a repo's folder (its own, if no other is named), as paths below that: by
    their text, on the way, and in the end."""
    own = f"{of or tree.folder}/"
    found: set[str] = set()
    for path in links:
        end = tree.ends.get(path)
        found |= {said_by(root, tree, path), end.path if end else "", f"{tree.folder}/{end.blob}" if end else ""}
    return {path.removeprefix(own) for path in found if path.startswith(own)}


def _holders(root: Root) -> list[str]:
    """A repo in the trash may come back."""
    in_trash = [repo for name in folders_in(root, TRASH) for repo in repos_in(root, f"{TRASH}/{name}")]
    return repos_in(root, "") + in_trash


def _names_in(root: Root, folder: str) -> list[str]:
    return read_tree(root, folder).paths(FILE, LINK, ODD) if root.has_folder(folder) else []


def abandon(target: Root, staging: Staging | None, *, source: Mapping[str, Any] | None) -> dict[str, Any]:
    """Throws the job's copy away. Where it has its final name already, only beside a source that is whole: what may be
    the only whole copy stays. Safe to repeat. `source` is that cache's place, as for open_root."""
    if staging is None:
        return {"removed": False}
    record = staging.read_record()
    if record is not None:
        _take_back(target, staging, record, source=source)
    staging.remove()
    return {"removed": True}


def _take_back(target: Root, staging: Staging, record: Record, *, source: Mapping[str, Any] | None) -> None:
    if staging.is_published(record) and _is_whole(source, record):
        target.still_there()
        os.rename(record.folder, record.folder, src_dir_fd=target.descriptor, dst_dir_fd=staging.descriptor)
        settle(target.descriptor)
    if not target.has_folder(record.folder):
        forget_known(target, record.folder)


def _is_whole(place: Mapping[str, Any] | None, record: Record) -> bool:
    """Whether all that was to be moved is still there, as it was."""
    if place is None:
        return False
    try:
        with open_root(place) as source:
            entries = read_tree(source, record.folder).entries
    except (Trouble, OSError):
        return False
    return all(path in entries and entries[path].mark == mark for path, mark in record.leaving.items())
