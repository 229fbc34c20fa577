"""A job's own folder on the target, `.homelab/staging/<job>`: what is copied lies there until all of it is whole.

`manifest.json` in it says what is moved, from the first byte until the source is gone; the repo's folder beside it gets
its final name by one rename. One process at a time works there.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from cachemgr.hands import clearing
from cachemgr.hands.durable import read_json, write_json
from cachemgr.hands.errors import Trouble
from cachemgr.hands.layouting import Cargo, Parcel
from cachemgr.hands.root import Root
from cachemgr.hands.tree import FILE, LINK, Tree
from cachemgr.layout import STAGING

MANIFEST = "manifest.json"
PART = "part"  # the file that is being copied: one name for all, so that a long name does not become too long


@dataclass(frozen=True, slots=True)
class Record:
    """What a job moves. `inode` is that of the staged folder, and of the published one after the rename; `is_taken`
    that an equal folder was there before, which is not ours; `leaving` has the names that are taken from the source,
    with what they were when they were read."""

    folder: str
    inode: int
    is_taken: bool = False
    parcels: tuple[Parcel, ...] = ()
    links: dict[str, str] = field(default_factory=dict)
    leaving: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, cargo: Cargo, source: Tree, *, inode: int, is_taken: bool) -> Self:
        leaving = {path: source.entries[path].mark for path in source.paths(FILE, LINK)}
        return cls(cargo.folder, inode, is_taken, tuple(cargo.parcels), cargo.links, leaving)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        return cls(**data | {"parcels": tuple(Parcel(**parcel) for parcel in data["parcels"])})

    def with_parcels(self, parcels: list[Parcel]) -> Self:
        return replace(self, parcels=tuple(parcels))

    def lacks(self, tree: Tree) -> list[str]:
        """What is not there, or not whole by its size."""
        files = [each.path for each in self.parcels if not _is_whole(tree, each)]
        return files + [path for path, text in self.links.items() if not _is_link(tree, path, text)]


def _is_whole(tree: Tree, parcel: Parcel) -> bool:
    end = tree.content(parcel.path)
    return end is not None and end.entry.size_bytes == parcel.size_bytes


def _is_link(tree: Tree, path: str, text: str) -> bool:
    entry = tree.entries.get(path)
    return entry is not None and entry.kind == LINK and entry.text == text


@dataclass(frozen=True, slots=True)
class Staging:
    """`descriptor` is the job's folder, open and locked."""

    root: Root
    job: str
    descriptor: int

    @property
    def path(self) -> str:
        return f"{STAGING}/{self.job}"

    def repo(self, folder: str) -> str:
        """Where a repo's folder is staged, below the cache."""
        return f"{self.path}/{folder}"

    def read_record(self) -> Record | None:
        data = read_json(self.descriptor, MANIFEST)
        return Record.from_json(data) if data else None

    def write_record(self, record: Record) -> None:
        write_json(self.descriptor, MANIFEST, asdict(record))

    def is_published(self, record: Record) -> bool:
        """True when the folder at the final name is the one that was staged here."""
        found = self.root.look_at(record.folder)
        is_ours = found is not None and found.st_ino == record.inode and not record.is_taken
        return is_ours and not self.root.has_folder(self.repo(record.folder))

    def remove(self) -> None:
        clearing.remove(self.root, self.path)


@contextmanager
def open_staging(root: Root, *, job: str) -> Iterator[Staging]:
    """Makes the folder. Raises Trouble (duplicate) while another process works in it."""
    with root.folder(f"{STAGING}/{job}", make=True) as descriptor:
        _lock(root, job, descriptor)
        yield Staging(root, job, descriptor)


@contextmanager
def find_staging(root: Root, *, job: str) -> Iterator[Staging | None]:
    """As open_staging, but None where there is no such folder."""
    if not root.has_folder(f"{STAGING}/{job}"):
        yield None
        return
    with open_staging(root, job=job) as staging:
        yield staging


def _lock(root: Root, job: str, descriptor: int) -> None:
    """Where a drive takes no locks, the job's lease decides alone. A folder that was removed while it was waited for
    is nobody's."""
    is_free = True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        is_free = not isinstance(error, BlockingIOError)
    found = root.look_at(f"{STAGING}/{job}")
    if not is_free or found is None or found.st_ino != os.fstat(descriptor).st_ino:
        message = f"Another process works on job {job} in {root.path}. This one leaves it to that."
        raise Trouble(message, code="duplicate", is_permanent=False)


@contextmanager
def trial_folder(root: Root, *, job: str) -> Iterator[int]:
    """A descriptor of the job's folder, for trials of what the drive takes. It is removed again if nothing is in it."""
    with root.folder(f"{STAGING}/{job}", make=True) as descriptor:
        try:
            yield descriptor
        finally:
            with root.folder(STAGING) as above, suppress(OSError):  # there is more in it
                os.rmdir(job, dir_fd=above)
