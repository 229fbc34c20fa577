"""What could go from a cache without being missed, class by class. Here it is only found; clean.py removes it.

partials    downloads that did not finish, that nobody writes to, and that no open job will go on with
orphans     blobs that no snapshot of any repo names; files of the Hub's shared store that no repo leads to
superseded  revisions that no ref and no model uses, beside others that are kept
locks       the Hub's lock files that nobody holds
staging     half-made copies of moves that no open job will finish
"""

import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from cachemgr.hands.references import References, folders_in, read_references, repos_in, said_by
from cachemgr.hands.root import Root
from cachemgr.hands.store import stored_files
from cachemgr.hands.tree import BLOBS, FILE, FOLDER, LINK, Tree, live_partials
from cachemgr.layout import COMMIT, MARKER_FILE, STAGING
from cachemgr.scan.place import Place

_LOCKS = ".locks"
_REF_LIMIT_BYTES = 64


@dataclass(frozen=True, slots=True)
class Finding:
    """`paths` are files and folders below the cache, in the order in which they go. `folder` is the repo that they
    belong to, "" for none."""

    name: str
    why: str
    folder: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """What is wanted, as those above know it. `commits` are used by models, by repo folder; None: all of them.
    `busy_folders` have an open job, `open_jobs` are the names of their staging folders."""

    commits: Mapping[str, Set[str] | None] = field(default_factory=dict)
    busy_folders: frozenset[str] = frozenset()
    open_jobs: frozenset[str] = frozenset()
    min_age_seconds: float = 3600.0

    @classmethod
    def from_order(cls, order: Mapping[str, Any]) -> "Kept":
        commits = {folder: None if each is None else set(each) for folder, each in order["commits"].items()}
        jobs, busy = frozenset(map(str, order["open_jobs"])), frozenset(order["busy_folders"])
        return cls(commits, busy, jobs, float(order["min_age_seconds"]))


class Inventory:
    """One look at a cache. Nobody's files are touched."""

    def __init__(self, root: Root, kept: Kept) -> None:
        self.root, self.kept, self.now = root, kept, time.time()
        self.references: References = read_references(root)

    def find(self, kind: str) -> list[Finding]:
        return list(FINDERS[kind](self))

    @property
    def problem(self) -> str:
        """Why nobody can tell what is unused: "" where all was read."""
        return next(iter(self.references.unread.values()), "")

    def repos(self) -> Iterator[Tree]:
        """Those in their place, without the ones that are worked on."""
        for folder in repos_in(self.root, ""):
            tree = self.references.trees.get(folder)
            if tree is not None and folder not in self.busy:
                yield tree

    @cached_property
    def busy(self) -> frozenset[str]:
        """By our own jobs, or by a download of any program."""
        live = {holder for holder, tree in self.references.trees.items() if live_partials(self.root, tree)}
        return self.kept.busy_folders | live

    def is_old(self, path: str) -> bool:
        """Neither written nor renamed lately. A clock that was set back makes nothing old."""
        found = self.root.look_at(path)
        return found is not None and self.age_of(found) >= self.kept.min_age_seconds

    def age_of(self, status: os.stat_result) -> float:
        return min(self.now - status.st_mtime, self.now - status.st_ctime)

    def is_used_elsewhere(self, path: str, *, than: str) -> bool:
        """The path, or what lies below it."""
        return bool(self._users.get(path, set()) - {than})

    @cached_property
    def _users(self) -> dict[str, set[str]]:
        """Who uses a path, or something below it."""
        users: dict[str, set[str]] = {}
        for holder, paths in self.references.uses.items():
            for path in paths:
                parts = path.split("/")
                for depth in range(1, len(parts) + 1):
                    users.setdefault("/".join(parts[:depth]), set()).add(holder)
        return users


# The classes


def find_partials(stock: Inventory) -> Iterator[Finding]:
    for tree in stock.repos():
        for path in tree.partials:
            whole = f"{tree.folder}/{path}"
            if stock.is_old(whole):
                yield Finding(whole, "a download that nobody goes on with", tree.folder, (whole,))


def find_orphans(stock: Inventory) -> Iterator[Finding]:
    if stock.problem:
        return
    for tree in stock.repos():
        named = set().union(*names_of_revisions(stock.root, tree).values())
        for path in _blobs_of(tree):
            whole = f"{tree.folder}/{path}"
            is_named = path in named or stock.is_used_elsewhere(whole, than=tree.folder)
            if not is_named and stock.is_old(whole):
                yield Finding(whole, "a blob that no revision names", tree.folder, (whole,))
    yield from _find_stored(stock)


def _find_stored(stock: Inventory) -> Iterator[Finding]:
    used = stock.references.used_beside(frozenset())
    for path in stored_files(stock.root):
        if path not in used and stock.is_old(path):
            yield Finding(path, "a file of the shared store that no repo leads to", "", (path, f"{path}.refs"))


def find_superseded(stock: Inventory) -> Iterator[Finding]:
    if stock.problem:
        return
    for tree in stock.repos():
        gone = _superseded_commits(stock, tree)
        named = names_of_revisions(stock.root, tree)
        kept = set().union(*(blobs for commit, blobs in named.items() if commit not in gone))
        for commit in gone:
            blobs = sorted(named[commit] - kept)
            kept |= named[commit]  # a blob of two of them goes with the first
            yield Finding(
                name=f"{tree.folder} at {commit[:12]}",
                why="no branch, tag or model uses this revision",
                folder=tree.folder,
                paths=tuple(_paths_of(stock, tree, commit, blobs)),
            )


def _superseded_commits(stock: Inventory, tree: Tree) -> list[str]:
    """Where nothing says which one is wanted, the youngest is kept."""
    commits, wanted = revisions_of(tree), stock.kept.commits.get(tree.folder, frozenset())
    if wanted is None:
        return []
    kept = (wanted | read_refs(stock.root, tree)) & set(commits)
    kept = kept or set(sorted(commits, key=lambda commit: tree.entries[f"snapshots/{commit}"].modified_ns)[-1:])
    places = {commit: f"{tree.folder}/snapshots/{commit}" for commit in commits if commit not in kept}
    return [
        commit
        for commit, place in places.items()
        if stock.is_old(place) and not stock.is_used_elsewhere(place, than=tree.folder)
    ]


def _paths_of(stock: Inventory, tree: Tree, commit: str, blobs: list[str]) -> Iterator[str]:
    """The names go before their contents, so that no name ever leads nowhere."""
    for path in (f"snapshots/{commit}", f".no_exist/{commit}"):
        if path in tree.entries:
            yield f"{tree.folder}/{path}"
    for path in blobs:
        whole = f"{tree.folder}/{path}"
        if not stock.is_used_elsewhere(whole, than=tree.folder):
            yield whole


def find_locks(stock: Inventory) -> Iterator[Finding]:
    held = Place(stock.root.path, stock.root.descriptor).locked_inodes
    for folder in folders_in(stock.root, _LOCKS):
        if folder in stock.busy:
            continue
        for path in _files_in(stock.root, f"{_LOCKS}/{folder}"):
            found = stock.root.look_at(path)
            is_free = found is not None and stat.S_ISREG(found.st_mode) and found.st_ino not in held
            if is_free and stock.is_old(path):
                yield Finding(path, "a lock that nobody holds", folder, (path,))


def find_staging(stock: Inventory) -> Iterator[Finding]:
    held = Place(stock.root.path, stock.root.descriptor).locked_inodes
    for name in folders_in(stock.root, STAGING):
        path = f"{STAGING}/{name}"
        if name not in stock.kept.open_jobs and _is_left(stock, path, held=held):
            yield Finding(path, f"a half-made copy: job {name} is not open", "", (path,))
    for name in _files_in(stock.root, ""):
        if name.startswith(f"{MARKER_FILE}.") and stock.is_old(name):
            yield Finding(name, "a marker that was never put in its place", "", (name,))


def _is_left(stock: Inventory, path: str, *, held: Set[int]) -> bool:
    """Nobody holds a lock in it, and nothing right in it is young."""
    found = [stock.root.look_at(each) for each in (path, *_files_in(stock.root, path))]
    seen = [each for each in found if each is not None]
    is_old = all(stock.age_of(each) >= stock.kept.min_age_seconds for each in seen)
    return is_old and not any(each.st_ino in held for each in seen)


FINDERS: dict[str, Callable[[Inventory], Iterator[Finding]]] = {
    "partials": find_partials,
    "orphans": find_orphans,
    "superseded": find_superseded,
    "locks": find_locks,
    "staging": find_staging,
}


# Reading a repo's tree


def revisions_of(tree: Tree) -> list[str]:
    names = [
        path.split("/")[1] for path in tree.paths(FOLDER) if path.count("/") == 1 and path.startswith("snapshots/")
    ]
    return [name for name in names if COMMIT.fullmatch(name)]


def names_of_revisions(root: Root, tree: Tree) -> dict[str, set[str]]:
    """By what is in `snapshots`, commit or not: the repo's own blobs that it leads to, by text and in truth."""
    named: dict[str, set[str]] = {commit: set() for commit in revisions_of(tree)}
    own = f"{tree.folder}/"
    for path in tree.paths(LINK):
        end = tree.ends.get(path)
        places = {said_by(root, tree, path), end.path if end else "", f"{own}{end.blob}" if end else ""}
        blobs = {place.removeprefix(own) for place in places if place.startswith(own + BLOBS)}
        holder = path.split("/")[1] if path.startswith("snapshots/") else ""
        named.setdefault(holder, set()).update(blobs - {path})
    return named


def _blobs_of(tree: Tree) -> list[str]:
    return [path for path in tree.paths(FILE, LINK) if path.startswith(BLOBS) and path not in tree.partials]


def read_refs(root: Root, tree: Tree) -> set[str]:
    found = set()
    for path in tree.paths(FILE):
        if path.startswith("refs/"):
            with root.file(f"{tree.folder}/{path}") as descriptor:
                found.add(os.read(descriptor, _REF_LIMIT_BYTES).decode("ascii", "replace").strip())
    return found


def _files_in(root: Root, path: str) -> list[str]:
    """Whatever is no folder, right in that folder, as paths below the cache."""
    if not root.has_folder(path):
        return []
    with root.folder(path) as descriptor, os.scandir(descriptor) as entries:
        names = sorted(entry.name for entry in entries if not entry.is_dir(follow_symlinks=False))
    return [f"{path}/{name}" if path else name for name in names]
