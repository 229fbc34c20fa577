"""What a scan found: frozen reports, as values between the child that reads a drive and those who remember.

Sizes are in bytes. `size_bytes` is apparent (what the files say), `physical_bytes` what they take on the disk.
Only the standard library is imported: the scan runs in a child process that starts in a blink (see probe.py).
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class FolderMark:
    """A folder as it was when it was read. One that has the same marks later holds the same names."""

    path: str  # below the repo, "" is the repo itself
    inode: int
    modified_ns: int
    changed_ns: int


@dataclass(frozen=True, slots=True)
class FileMark:
    """A file of which no folder's time tells: one that is written in place, or lies elsewhere in the cache."""

    path: str  # seen from the repo: "refs/main", or "../blobs/ab/abcd" in the Hub's shared store
    size_bytes: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class SharedInode:
    """A file in the repo's folder that has several names (hard links), maybe in other repos.

    `name_count` of them are in this folder, of `link_count` in the whole filesystem.
    """

    device: int
    inode: int
    size_bytes: int
    physical_bytes: int
    name_count: int
    link_count: int


@dataclass(frozen=True, slots=True)
class Memory:
    """What a later scan compares before it reads a repo again, and what it needs to count each byte once.

    `borrowed_bytes` are in the repo's size, and lie elsewhere in the cache, where they are counted for the whole of it.
    """

    folders: tuple[FolderMark, ...] = ()
    files: tuple[FileMark, ...] = ()
    shared: tuple[SharedInode, ...] = ()
    borrowed_bytes: int = 0
    borrowed_physical_bytes: int = 0
    is_settled: bool = False  # False: something changed so shortly before it was read that its time may not tell more


@dataclass(frozen=True, slots=True)
class Partial:
    """A download that did not finish. Live: somebody holds its lock, or wrote to it within the last minutes."""

    name: str  # below the repo
    size_bytes: int
    is_live: bool
    modified_at: float  # seconds since 1970


@dataclass(frozen=True, slots=True)
class RevisionReport:
    """One snapshot. `format` is the best weights format in it: safetensors, gguf, pickle or "" for none."""

    commit: str
    refs: tuple[str, ...]
    file_count: int
    size_bytes: int
    format: str
    missing: tuple[str, ...]  # links that lead nowhere, and shards that the index names but nobody fetched
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def is_loadable(self) -> bool:
        return self.format == "safetensors" and bool(self.config) and not self.missing


@dataclass(frozen=True, slots=True)
class RepoReport:
    """`layout`: links (the Hub's own), copies (files in snapshots, where a drive takes no links), shared (blobs are
    links into the cache's shared store), mixed, or empty."""

    repo_type: str
    repo_id: str
    folder: str
    size_bytes: int  # each inode once, shared ones included
    physical_bytes: int
    file_count: int  # blobs that snapshots name, and copies in them: what the Hub's own scan counts
    partials: tuple[Partial, ...]
    orphan_count: int  # blobs that no snapshot names
    orphan_bytes: int
    layout: str
    modified_at: float  # the youngest file, seconds since 1970; 0 without files
    revisions: tuple[RevisionReport, ...]
    problems: tuple[str, ...]
    memory: Memory = Memory()

    @property
    def partial_bytes(self) -> int:
        return sum(partial.size_bytes for partial in self.partials)


NOT_OURS = ("file", "folder", "old_cache")  # kinds of foreign things that neither we nor the Hub's library made


@dataclass(frozen=True, slots=True)
class ForeignReport:
    """What lies beside the repos. `kind`: file, folder, old_cache (transformers before 4.22), store (the Hub's shared
    blobs) or house (our marker, staging and trash)."""

    name: str
    kind: str
    file_count: int
    size_bytes: int
    physical_bytes: int


@dataclass(frozen=True, slots=True)
class FileReport:
    """One whole file of a repo, listed on demand. `digest` is its blob's name, "" where it is a copy.

    `revision` and `name` are "" for a blob that no snapshot names.
    """

    revision: str
    name: str
    size_bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class CacheReport:
    """`used_bytes` is everything below the path, each inode once, foreign files and our own included. The Hub's lock
    files are empty, and nobody looks into their folder.

    `distrust` says why folder times could not be trusted, so that all was read; "" where they were. `staged` are bytes
    by repo folder that moves have brought so far, and that have not got their final names.
    """

    used_bytes: int
    physical_bytes: int
    repos: tuple[RepoReport, ...]
    foreign: tuple[ForeignReport, ...]
    problems: tuple[str, ...]
    reread_count: int  # repos that were read; the others were as remembered
    distrust: str = ""
    staged: dict[str, int] = field(default_factory=dict)

    @property
    def foreign_bytes(self) -> int:
        return sum(each.size_bytes for each in self.foreign if each.kind in NOT_OURS)
