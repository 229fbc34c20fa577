"""How a repo lies on another drive, pure: a tree that was read -> what has to be written there.

On a drive that takes links it is the Hub's own layout: blobs under the names of their hashes, and snapshots of links to
them. Elsewhere each name of a snapshot is a file, once, and blobs has only what no snapshot names.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cachemgr.digests import DIGEST
from cachemgr.hands.tree import BLOBS, FILE, FOLDER, LINK, ODD, End, Tree
from cachemgr.layout import COMMIT

SNAPSHOTS = "snapshots/"

Known = Mapping[str, tuple[str, int]]
"""`{"<commit>/<name>": (digest, size in bytes)}`, of files that are no blobs."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """One file to write. `path` is below the repo's folder, `source` below the source cache. `digest` is what its bytes
    promise to be, "" where nobody knows; `twin_of` the path of another parcel with the very same file as its source.
    """

    path: str
    source: str
    size_bytes: int
    modified_ns: int
    digest: str = ""
    twin_of: str = ""


@dataclass(slots=True)
class Cargo:
    """All that moves. `links` are paths with their texts, `skipped` unfinished downloads, `unsafe` links out of the
    cache; `problems` are sentences about what cannot be taken along."""

    folder: str
    layout: str
    parcels: list[Parcel] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    unsafe: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def name_of(self, parcel: Parcel) -> str:
        """For a person: the file's name in a snapshot, not the blob's."""
        names = [path for path, text in self.links.items() if text.endswith(f"/{parcel.path}")]
        path = min(names, default=parcel.path)
        return path.split("/", 2)[2] if path.startswith(SNAPSHOTS) else path

    def size_bytes(self, *, twins_too: bool) -> int:
        return sum(each.size_bytes for each in self.parcels if twins_too or not each.twin_of)


def lay_out(tree: Tree, *, known: Known, takes_links: bool) -> Cargo:
    partials = tree.partials
    cargo = Cargo(tree.folder, "links" if takes_links else "copies", skipped=partials, unsafe=sorted(tree.unsafe))
    loading = _Loading(tree, known, cargo)
    names = [path for path in tree.paths(FILE, LINK) if path not in tree.unsafe and path not in partials]
    inside = [path for path in names if is_in_snapshot(path)]
    blobs, orphans = _split_blobs(tree, names, inside)
    if takes_links:
        loading.take_files(blobs)
        loading.link_names(inside)
    else:
        loading.take_files(inside)
    loading.take_as_they_are(orphans)
    loading.take_as_they_are(path for path in names if not _is_blob(path) and not is_in_snapshot(path))
    cargo.folders = tree.paths(FOLDER)
    cargo.problems += [f"{path} is neither a file nor a link, and stays where it is" for path in tree.paths(ODD)]
    return cargo


def _is_blob(path: str) -> bool:
    return path.startswith(BLOBS) and path.count("/") == 1


def is_in_snapshot(path: str) -> bool:
    top, _, rest = path.partition("/")
    commit, _, name = rest.partition("/")
    return top == "snapshots" and bool(name) and bool(COMMIT.fullmatch(commit))


def _split_blobs(tree: Tree, names: Iterable[str], inside: Iterable[str]) -> tuple[list[str], list[str]]:
    """Those whose bytes a snapshot names, and the others."""
    ends = [end for path in inside if (end := tree.content(path))]
    named = {end.blob for end in ends} | {end.path for end in ends}
    blobs = [path for path in names if _is_blob(path)]
    orphans = [path for path in blobs if path not in named and f"{tree.folder}/{path}" not in named]
    return sorted(set(blobs) - set(orphans)), orphans


@dataclass(slots=True)
class _Loading:
    """Fills a cargo. `first` has the path that each source file went to first, and its digest; `taken` has all paths
    that are in use."""

    tree: Tree
    known: Known
    cargo: Cargo
    first: dict[object, tuple[str, str]] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)

    def take_files(self, paths: Iterable[str]) -> None:
        """Each as a file of its own, also where it was a link."""
        for path in paths:
            self.take(path, digest=digest_in(self.known, path, self.tree.content(path)))

    def take_as_they_are(self, paths: Iterable[str]) -> None:
        """What no snapshot names, whatever its name promises: nobody could repair it, and it is nobody's model."""
        for path in paths:
            self.take(path, digest="")

    def take(self, path: str, *, digest: str) -> None:
        end = self.tree.content(path)
        if end is None:
            self.link_on(path)
        else:
            self.load(path, end, digest=digest)

    def link_names(self, paths: Iterable[str]) -> None:
        """Names of snapshots, on a drive that takes links.

        1. A link to a blob of the repo stays one; so does one that is broken: it is an unfinished download.
        2. A link to elsewhere in the cache becomes a file.
        3. A file whose digest is known becomes a blob, and the name a link to it.
        4. Another file stays one.
        """
        for path in paths:
            end = self.tree.content(path)
            if end is None:
                self.link_on(path)
            elif end.blob:
                self.link(path, end.blob)
            elif digest := digest_in(self.known, path, end):
                blob = BLOBS + digest
                self.load(blob, end, digest=digest)
                self.link(path, blob)
            else:
                self.load(path, end, digest="")

    def load(self, path: str, end: End, *, digest: str) -> None:
        """A file with several names is known by its inode, where its filesystem knows of such files at all."""
        if path in self.taken:
            return
        self.taken.add(path)
        entry = end.entry
        first = self.first.setdefault(entry.inode if entry.twins > 1 else end.path, (path, digest))
        is_twin = first[0] != path and (not digest or digest == first[1])
        twin_of = first[0] if is_twin else ""
        self.cargo.parcels.append(Parcel(path, end.path, entry.size_bytes, entry.modified_ns, digest, twin_of))

    def link(self, path: str, target: str) -> None:
        self.cargo.links[path] = os.path.relpath(target, os.path.dirname(path))

    def link_on(self, path: str) -> None:
        """A link that ends at no file stays what it is, if it stays in the repo, and the drive takes links."""
        text = self.tree.entries[path].text
        target = os.path.normpath(os.path.join(os.path.dirname(path), text))
        if self.cargo.layout == "links" and not target.startswith(("/", "..")):
            self.cargo.links[path] = text
        else:
            self.cargo.problems.append(f"{path} is a link to {text}, which is no file: it is not taken along")


def digest_in(known: Known, path: str, end: End | None) -> str:
    """What the bytes of a name promise to be: a blob's name is its hash, of other files in snapshots a list may tell.
    "" where nobody knows."""
    blob = end.blob if end is not None else ""
    name = (blob or path).removeprefix(BLOBS)
    if DIGEST.fullmatch(name):
        return name
    digest, _ = known.get(path.removeprefix(SNAPSHOTS), ("", 0))
    return digest if DIGEST.fullmatch(digest) else ""
