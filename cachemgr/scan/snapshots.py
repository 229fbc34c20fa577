"""The snapshots of a repo: which names each has, and which blob or copy each name leads to.

A snapshot is a folder of links `../../blobs/<etag>`. Such a link is recognised by its text alone and its size is
known from one pass over the blobs; only what is something else costs a further look at the disk.
"""

import stat
from collections.abc import Iterator, Set
from dataclasses import dataclass, field

from cachemgr.layout import COMMIT
from cachemgr.scan.partials import PARTIAL
from cachemgr.scan.place import Trail
from cachemgr.scan.tally import Listing, Tally

OWN_BLOB = "../../blobs/"  # as seen from a snapshot
_LITTER = {".DS_Store", "Thumbs.db", "desktop.ini"}  # of file managers: the Hub's own scan overlooks them too


@dataclass(slots=True)
class Contents:
    """What names can lead to, by key: for a blob of the repo that is the text of a link to it.

    `places` has the real paths below the cache of whatever does not lie in the repo's blobs.
    """

    sizes: dict[str, int] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    partials: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Snapshot:
    """`links` are names with the keys of their contents, `keys` these keys, each once; `copies` have sizes in bytes."""

    commit: str
    links: dict[str, str] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    copies: dict[str, int] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    @property
    def names(self) -> Set[str]:
        return self.links.keys() | self.copies.keys() if self.copies else self.links.keys()

    def add(self, listing: Listing, *, below: str) -> None:
        """What is in one folder of it. That of the top, "", comes first, is mostly all there is, and is taken over."""
        if below:
            self.links |= _as_seen_from_top(listing.links, f"{below}/")
            self.copies |= {f"{below}/{name}": size_bytes for name, size_bytes in listing.files.items()}
            self.missing += [f"{below}/{name}" for name in listing.others]
        else:
            self.links, self.copies, self.missing = listing.links, listing.files, listing.others
        if listing.problem:
            self.missing.append(listing.problem)


def read_blobs(tally: Tally) -> Contents:
    contents = Contents()
    listing = tally.list_folder("blobs")
    contents.partials = [name for name in listing.files if name.endswith(PARTIAL)]
    contents.sizes = {OWN_BLOB + name: size_bytes for name, size_bytes in listing.files.items()}
    for name in contents.partials:
        del contents.sizes[OWN_BLOB + name]
    for name in listing.links:
        _read_linked_blob(tally, name, contents)
    for name in (*listing.folders, *listing.others):
        tally.complain(f"blobs/{name} is not a file")
        tally.count_below(f"blobs/{name}")
    return contents


def _read_linked_blob(tally: Tally, name: str, contents: Contents) -> None:
    trail = tally.follow(f"blobs/{name}")
    if trail is not None and stat.S_ISREG(trail.status.st_mode):
        contents.sizes[OWN_BLOB + name] = trail.status.st_size
        contents.places[OWN_BLOB + name] = trail.path
        tally.borrow(trail)


def read_snapshots(tally: Tally, contents: Contents) -> Iterator[Snapshot]:
    listing = tally.list_folder("snapshots")
    for name in sorted(listing.folders):
        if COMMIT.fullmatch(name):
            yield _read_snapshot(tally, name, contents)
        else:
            tally.complain(f"snapshots/{name} is not a revision")
            tally.count_below(f"snapshots/{name}")
    for name in sorted({*listing.files, *listing.links, *listing.others} - _LITTER):
        tally.complain(f"snapshots/{name} is not a revision")


def _read_snapshot(tally: Tally, commit: str, contents: Contents) -> Snapshot:
    snapshot = Snapshot(commit)
    top = f"snapshots/{commit}"
    for path, listing in tally.walk(top):
        snapshot.add(listing, below=path[len(top) + 1 :])
    snapshot.keys = set(snapshot.links.values())
    if not snapshot.keys <= contents.sizes.keys():
        _read_unusual_links(tally, snapshot, contents)
    snapshot.missing.sort()
    return snapshot


def _as_seen_from_top(links: dict[str, str], prefix: str) -> dict[str, str]:
    """The links of a folder deeper in a snapshot, as if they lay at its top: `../../../blobs/x` is `../../blobs/x`."""
    ups = "../" * prefix.count("/")
    return {prefix + name: target[len(ups) :] if target.startswith(ups) else "" for name, target in links.items()}


def _read_unusual_links(tally: Tally, snapshot: Snapshot, contents: Contents) -> None:
    """Those that are broken, absolute, or lead to something else than a blob of this repo."""
    for name in sorted(name for name, key in snapshot.links.items() if key not in contents.sizes):
        del snapshot.links[name]
        trail = tally.follow(f"snapshots/{snapshot.commit}/{name}")
        mode = trail.status.st_mode if trail is not None else 0
        if trail is not None and stat.S_ISREG(mode):
            snapshot.links[name] = _find_key(tally, trail, contents)
        elif not stat.S_ISDIR(mode):  # a linked folder is not entered
            snapshot.missing.append(name)
    snapshot.keys = set(snapshot.links.values())


def _find_key(tally: Tally, trail: Trail, contents: Contents) -> str:
    """That of the first blob of this repo on the way, else a new one, which no link's text can be."""
    own = f"{tally.folder}/blobs/"
    for path in (*trail.links, trail.path):
        key = OWN_BLOB + path.removeprefix(own)
        if path.startswith(own) and key in contents.sizes:
            return key
    key = f"\0{trail.path}"
    contents.sizes[key], contents.places[key] = trail.status.st_size, trail.path
    tally.borrow(trail)
    return key
