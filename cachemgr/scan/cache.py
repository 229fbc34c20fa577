"""A whole cache -> a CacheReport: repos, each read or taken over as remembered, and what lies beside them."""

import gc
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from cachemgr.layout import parse_repo_folder
from cachemgr.report import CacheReport, FileReport, ForeignReport, RepoReport, SharedInode
from cachemgr.scan.foreign import Beside, read_foreign, read_staged
from cachemgr.scan.marks import still_holds
from cachemgr.scan.place import Inode, Place, open_place
from cachemgr.scan.readers import read_all
from cachemgr.scan.repo import list_repo, read_repo
from cachemgr.scan.tally import Tally

_LOCKS = ".locks"  # as many empty files as blobs, which nobody wants to see


@dataclass(slots=True)
class _Census:
    """The sums of a cache, in which each inode counts once: `names` has those with several names, and how many of
    them were seen; `links` those that were read now, and how many there are."""

    size_bytes: int = 0
    physical_bytes: int = 0
    names: dict[Inode, int] = field(default_factory=dict)
    links: dict[Inode, int] = field(default_factory=dict)
    repos: list[RepoReport] = field(default_factory=list)
    reread_count: int = 0
    beside: Beside = field(default_factory=Beside)
    problems: list[str] = field(default_factory=list)

    def add_known(self, repo: RepoReport) -> None:
        memory = repo.memory
        self.repos.append(repo)
        self.size_bytes += repo.size_bytes - memory.borrowed_bytes
        self.physical_bytes += repo.physical_bytes - memory.borrowed_physical_bytes
        self._count_once(memory.shared)

    def add_read(self, repo: RepoReport) -> None:
        self.add_known(repo)
        self.reread_count += 1
        self._note_links(repo.memory.shared)

    def add_foreign(self, foreign: ForeignReport, tally: Tally) -> None:
        self.beside.add(foreign)
        self.problems += tally.list_problems()
        self.size_bytes += foreign.size_bytes
        self.physical_bytes += foreign.physical_bytes
        self._count_once(tally.shared.values())
        self._note_links(tally.shared.values())

    def _count_once(self, shared: Iterable[SharedInode]) -> None:
        for each in shared:
            inode = each.device, each.inode
            if inode in self.names:
                self.size_bytes -= each.size_bytes
                self.physical_bytes -= each.physical_bytes
            self.names[inode] = self.names.get(inode, 0) + each.name_count

    def _note_links(self, shared: Iterable[SharedInode]) -> None:
        self.links |= {(each.device, each.inode): each.link_count for each in shared}

    @property
    def may_count_twice(self) -> bool:
        """True when a name was not seen: it may be in a remembered repo, which a new hard link does not touch."""
        is_any_known = self.reread_count < len(self.repos)
        return is_any_known and any(self.names[inode] < count for inode, count in self.links.items())


def scan_cache(
    path: str, *, known: Mapping[str, RepoReport] | None = None, distrust: str = "", readers: int = 1
) -> CacheReport:
    """`known` are repos of an earlier report, by folder: one whose folders have not changed since is taken over as it
    is. `distrust` says why folder times tell nothing here; then all is read, by two processes where `readers` allows
    it. Raises OSError for a path that is none.
    """
    with _no_collector(), open_place(path) as place:
        census = _take_all(place, {} if distrust else known or {}, readers=readers)
        if census.may_count_twice:
            census = _take_all(place, {}, readers=readers)
        staged = read_staged(place)
    return CacheReport(
        used_bytes=census.size_bytes,
        physical_bytes=census.physical_bytes,
        repos=tuple(census.repos),
        foreign=census.beside.reports(),
        problems=tuple(census.problems),
        reread_count=census.reread_count,
        distrust=distrust,
        staged=staged,
    )


@contextmanager
def _no_collector() -> Iterator[None]:
    """A scan makes a million objects and no circles of them, which the collector would look for again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _take_all(place: Place, known: Mapping[str, RepoReport], *, readers: int) -> _Census:
    census = _Census()
    folders = sorted(_read_beside(place, census))
    held = {folder for folder in folders if folder in known and still_holds(place, known[folder])}
    changed = [folder for folder in folders if folder not in held]
    read = read_all(lambda folder: _read(place, folder), changed, readers=readers)
    for folder in folders:
        if folder in held:
            census.add_known(known[folder])
        elif (repo := read[folder]) is not None:
            census.add_read(repo)
    return census


def _read_beside(place: Place, census: _Census) -> list[str]:
    """Counts what is no repo; answers the folders of the repos."""
    repos = []
    with os.scandir(place.descriptor) as entries:
        for entry in entries:
            is_folder = entry.is_dir(follow_symlinks=False)
            if entry.is_symlink():
                _refuse_link(place, entry.name, census)
            elif is_folder and parse_repo_folder(entry.name):
                repos.append(entry.name)
            elif entry.name != _LOCKS:
                tally = Tally(place, entry.name, prefix=f"{entry.name}/", is_settled=False)
                census.add_foreign(read_foreign(tally, is_folder=is_folder), tally)
    return repos


def _refuse_link(place: Place, name: str, census: _Census) -> None:
    tally = Tally(place, name)
    if parse_repo_folder(name):
        tally.refuse_link("")
    else:
        tally.follow("")
    census.problems += tally.problems


def _read(place: Place, folder: str) -> RepoReport | None:
    named = parse_repo_folder(folder)
    if named is None:
        return None
    repo_type, repo_id = named
    return read_repo(place, folder, repo_type=repo_type, repo_id=repo_id)


def scan_one_repo(path: str, *, folder: str) -> CacheReport:
    """The report of one repo folder of a cache; without repos where it is not there."""
    with open_place(path) as place:
        repo = _read(place, folder) if _is_folder(path, folder) else None
    return CacheReport(
        used_bytes=repo.size_bytes if repo else 0,
        physical_bytes=repo.physical_bytes if repo else 0,
        repos=(repo,) if repo else (),
        foreign=(),
        problems=(),
        reread_count=1 if repo else 0,
    )


def list_files(path: str, *, folder: str) -> tuple[FileReport, ...]:
    """The whole files of one repo, by revision and name, then blobs that no snapshot names. Empty where it is not."""
    if parse_repo_folder(folder) is None or not _is_folder(path, folder):
        return ()
    with open_place(path) as place:
        return tuple(list_repo(place, folder))


def _is_folder(path: str, folder: str) -> bool:
    """Never for a link to one: what lies elsewhere is not this cache's."""
    here = os.path.join(path, folder)
    return os.path.isdir(here) and not os.path.islink(here)
