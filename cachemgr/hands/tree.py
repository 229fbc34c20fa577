"""What lies in a repo's folder, name by name, and where its links end. Nothing is changed, and no link is entered."""

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from cachemgr.hands.root import Root
from cachemgr.hands.telling import pulse
from cachemgr.report import Partial
from cachemgr.scan.partials import PARTIAL, find_live
from cachemgr.scan.place import LeadsOutside, Place

FILE, LINK, FOLDER, ODD = "file", "link", "folder", "odd"
BLOBS = "blobs/"


@dataclass(frozen=True, slots=True)
class Entry:
    """`twins` is how many names the file has; `text` is what a link says."""

    kind: str
    size_bytes: int = 0
    modified_ns: int = 0
    inode: tuple[int, int] = (0, 0)
    twins: int = 1
    text: str = ""

    @property
    def mark(self) -> list[int] | str:
        """Tells whether it is still what it was. Without its inode: some filesystems give another with each mount."""
        return self.text if self.kind == LINK else [self.size_bytes, self.modified_ns]


@dataclass(frozen=True, slots=True)
class End:
    """Where a link ends: a path below the cache, what is there, and the blob of the repo that the way led through
    (its path below the repo's folder), else ""."""

    path: str
    entry: Entry
    blob: str = ""


@dataclass(slots=True)
class Tree:
    """Paths are below the repo's folder. `ends` has the links that end somewhere in the cache, `broken` those that end
    nowhere, `unsafe` those that leave the cache."""

    folder: str
    entries: dict[str, Entry] = field(default_factory=dict)
    ends: dict[str, End] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    unsafe: set[str] = field(default_factory=set)

    def paths(self, *kinds: str) -> list[str]:
        """In order."""
        return sorted(path for path, entry in self.entries.items() if entry.kind in kinds)

    @property
    def partials(self) -> list[str]:
        return [path for path in self.paths(FILE, LINK) if path.startswith(BLOBS) and path.endswith(PARTIAL)]

    def content(self, path: str) -> End | None:
        """The bytes that a name leads to; None where there are none."""
        entry = self.entries.get(path)
        if entry is not None and entry.kind == FILE:
            return End(f"{self.folder}/{path}", entry, blob=path if path.startswith(BLOBS) else "")
        end = self.ends.get(path)
        return end if end is not None and end.entry.kind == FILE else None


def read_tree(root: Root, folder: str) -> Tree:
    """Raises OSError where the folder is not there, or cannot be read."""
    tree = Tree(folder)
    for path, entry in _walk(root, folder):
        tree.entries[path] = entry
    place = Place(root.path, root.descriptor)
    for path in tree.paths(LINK):
        _follow(place, tree, path)
        pulse.beat()
    return tree


def _walk(root: Root, folder: str) -> Iterator[tuple[str, Entry]]:
    waiting = [""]
    while waiting:
        here = waiting.pop()
        with root.folder(f"{folder}/{here}") as descriptor, os.scandir(descriptor) as names:
            for name in names:
                path = f"{here}/{name.name}" if here else name.name
                with suppress(FileNotFoundError):  # removed since it was listed
                    yield path, (entry := _entry(descriptor, name.name))
                    waiting += [path] if entry.kind == FOLDER else []


def _entry(folder: int, name: str) -> Entry:
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    text = os.readlink(name, dir_fd=folder) if stat.S_ISLNK(status.st_mode) else ""
    pulse.beat()
    return _described(status, text=text)


def _described(status: os.stat_result, *, text: str = "") -> Entry:
    kinds = {stat.S_IFREG: FILE, stat.S_IFLNK: LINK, stat.S_IFDIR: FOLDER}
    return Entry(
        kinds.get(stat.S_IFMT(status.st_mode), ODD),
        status.st_size,
        status.st_mtime_ns,
        (status.st_dev, status.st_ino),
        status.st_nlink,
        text,
    )


def _follow(place: Place, tree: Tree, path: str) -> None:
    """A link to a blob of its own repo is known by its text; others cost a look at each step."""
    blob = _own_blob(tree.entries, path)
    if blob:
        tree.ends[path] = End(f"{tree.folder}/{blob}", tree.entries[blob], blob)
        return
    try:
        trail = place.follow(f"{tree.folder}/{path}")
    except LeadsOutside:
        tree.unsafe.add(path)
    except OSError:
        tree.broken.add(path)
    else:
        blob = _blob_on_way(tree, (*trail.links[1:], trail.path))
        tree.ends[path] = End(trail.path, _described(trail.status), blob)


def _blob_on_way(tree: Tree, steps: Iterable[str]) -> str:
    """The steps are paths below the cache."""
    own = f"{tree.folder}/"
    inside = [step.removeprefix(own) for step in steps if step.startswith(own)]
    return next((path for path in inside if path.startswith(BLOBS)), "")


def _own_blob(entries: Mapping[str, Entry], path: str) -> str:
    """ "" unless the text is `../../blobs/<name>`, as deep as it has to be, and the blob is a file."""
    if not path.startswith("snapshots/"):
        return ""
    text, ups = entries[path].text, "../" * path.count("/")
    found = text.removeprefix(ups)
    is_own = text.startswith(ups + BLOBS) and found in entries and entries[found].kind == FILE
    return found if is_own else ""


def live_partials(root: Root, tree: Tree) -> set[str]:
    """Unfinished downloads that somebody is writing to."""
    found = []
    for path in tree.partials:
        entry = tree.entries[path]
        found.append(Partial(path, entry.size_bytes, is_live=False, modified_at=entry.modified_ns / 1e9))
    return find_live(Place(root.path, root.descriptor), tree.folder, found)
