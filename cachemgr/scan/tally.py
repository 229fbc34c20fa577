"""What is gathered while one folder of a cache is read: sizes, each inode once, marks for the next scan, problems."""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from cachemgr.report import FileMark, FolderMark, Memory, SharedInode
from cachemgr.scan.place import Inode, LeadsOutside, Place, Trail, shown

SETTLED_SECONDS = 3.0  # a folder that is younger may change again without a new time, on the coarsest of clocks
WRITING_SECONDS = 120.0  # a file that is younger may still grow in place, which no folder's time tells

UNSAFE = "unsafe_entry"
_PROBLEMS_LIMIT = 100


@dataclass(slots=True)
class Listing:
    """The names in one folder. `files` with their sizes in bytes; `others` are pipes, sockets and devices; `problem`
    is why not all could be read."""

    files: dict[str, int] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    problem: str = ""


@dataclass(slots=True)
class Tally:
    """`folder` is the one that is read, below the cache; paths are below it. In problems they begin with `prefix`."""

    place: Place
    folder: str
    prefix: str = ""
    size_bytes: int = 0  # of files with one name
    physical_bytes: int = 0
    file_count: int = 0
    modified_at: float = 0.0
    is_settled: bool = True
    folders: list[FolderMark] = field(default_factory=list)
    files: list[FileMark] = field(default_factory=list)
    shared: dict[Inode, SharedInode] = field(default_factory=dict)
    borrowed: dict[Inode, SharedInode] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def list_folder(self, path: str) -> Listing:
        """One that cannot be read is a problem, and hides nothing beside it. Files in it are counted."""
        listing = Listing()
        try:
            descriptor = self.place.open_folder(self.below_cache(path))
            try:
                self.mark_folder(path, os.fstat(descriptor))
                self._fill(listing, path, descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            listing.problem = self.miss(path, error)
        return listing

    def _fill(self, listing: Listing, path: str, descriptor: int) -> None:
        files, links, count, readlink = listing.files, listing.links, self._count, os.readlink
        with os.scandir(descriptor) as entries:
            for entry in entries:
                name = entry.name
                try:
                    if entry.is_symlink():
                        links[name] = readlink(name, dir_fd=descriptor)
                    elif entry.is_file(follow_symlinks=False):
                        files[name] = count(path, name, entry.stat(follow_symlinks=False))
                    elif entry.is_dir(follow_symlinks=False):
                        listing.folders.append(name)
                    else:
                        listing.others.append(name)
                except FileNotFoundError:
                    self.is_settled = False  # removed since it was listed

    def _count(self, folder: str, name: str, status: os.stat_result) -> int:
        """Adds a file, and answers its size."""
        size_bytes: int = status.st_size
        self.file_count += 1
        if status.st_nlink == 1:
            self.size_bytes += size_bytes
            self.physical_bytes += status.st_blocks * 512
        else:
            self._count_shared(f"{folder}/{name}" if folder else name, status)
        if (modified_at := status.st_mtime) > self.modified_at:
            self.modified_at = modified_at
        return size_bytes

    def _count_shared(self, path: str, status: os.stat_result) -> None:
        """It may be written by its other name, in a folder that is not ours: so it has a mark of its own."""
        self.mark_file(path, status)
        inode = status.st_dev, status.st_ino
        before = self.shared.get(inode)
        self.shared[inode] = as_shared(status, name_count=before.name_count + 1 if before else 1)

    def mark_folder(self, path: str, status: os.stat_result) -> None:
        if status.st_mtime > self.place.now - SETTLED_SECONDS:
            self.is_settled = False
        if self.is_settled:
            self.folders.append(FolderMark(path, status.st_ino, status.st_mtime_ns, status.st_ctime_ns))

    def mark_file(self, path: str, status: os.stat_result) -> None:
        self.modified_at = max(self.modified_at, status.st_mtime)
        if self.is_settled:
            self.files.append(FileMark(path, status.st_size, status.st_mtime_ns))

    def follow(self, path: str) -> Trail | None:
        """None, and a problem, for a link out of the cache; None for a broken one."""
        try:
            return self.place.follow(self.below_cache(path))
        except LeadsOutside:
            self.complain(f"{UNSAFE}: {self.named(path)} leads out of the cache, and was not followed")
        except OSError:
            self.is_settled = False  # what it leads to may come
        return None

    def borrow(self, trail: Trail) -> None:
        """Bytes of the repo that lie elsewhere in the cache. Those in its own folder are counted where they lie."""
        if not trail.path.startswith(f"{self.folder}/"):
            self.mark_file(f"../{trail.path}", trail.status)
            self.borrowed[trail.status.st_dev, trail.status.st_ino] = as_shared(trail.status, name_count=0)

    def complain(self, problem: str) -> None:
        self.problems.append(shown(problem))

    def miss(self, path: str, error: OSError) -> str:
        """The problem with what could not be read. It may be readable the next time, and no mark would tell."""
        self.is_settled = False
        problem = shown(f"{self.named(path)} cannot be read: {error.strerror}")
        if not isinstance(error, FileNotFoundError):  # that was removed since it was listed
            self.problems.append(problem)
        return problem

    def below_cache(self, path: str) -> str:
        return f"{self.folder}/{path}" if path else self.folder

    def named(self, path: str) -> str:
        return self.prefix + path if path else self.folder

    def walk(self, path: str) -> Iterator[tuple[str, Listing]]:
        """Each folder at and below the path, with what is in it. A linked folder is not entered."""
        folders = [path]
        while folders:
            here = folders.pop()
            listing = self.list_folder(here)
            folders += [f"{here}/{name}" for name in listing.folders]
            yield here, listing

    def count_below(self, path: str) -> None:
        """Counts all files at and below the path, of which nobody wants to know the names: there may be millions."""
        folders = [path]
        while folders:
            here = folders.pop()
            try:
                status = self.place.look_at(self.below_cache(here))
                if stat.S_ISDIR(status.st_mode):
                    folders += self._count_in(here)
                elif stat.S_ISREG(status.st_mode):
                    self._count("", here, status)
            except OSError as error:
                self.miss(here, error)

    def _count_in(self, path: str) -> list[str]:
        """The folders in it, as paths."""
        prefix, folders = f"{path}/" if path else "", []
        descriptor = self.place.open_folder(self.below_cache(path))
        try:
            self.mark_folder(path, os.fstat(descriptor))
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(prefix + entry.name)
                    elif entry.is_file(follow_symlinks=False):
                        with suppress(FileNotFoundError):  # removed since it was listed
                            self._count(path, entry.name, entry.stat(follow_symlinks=False))
        finally:
            os.close(descriptor)
        return folders

    def sum_up(self) -> tuple[int, int]:
        """Apparent and physical bytes, each inode once."""
        several = (self.borrowed | self.shared).values()
        return (
            self.size_bytes + sum(each.size_bytes for each in several),
            self.physical_bytes + sum(each.physical_bytes for each in several),
        )

    def refuse_link(self, path: str) -> None:
        """A link in place of a folder is never entered, wherever it leads."""
        if self.follow(path) is not None:
            self.complain(f"{self.named(path)} is a link, and was not followed")

    def list_problems(self) -> tuple[str, ...]:
        """Each once, and of very many the first ones: a report has to be read."""
        problems = tuple(dict.fromkeys(self.problems))
        rest = len(problems) - _PROBLEMS_LIMIT
        return problems if rest <= 0 else (*problems[:_PROBLEMS_LIMIT], f"({rest} more problems)")

    def memory(self) -> Memory:
        """Names that are not UTF-8 have no place in a database: such a repo is read each time."""
        is_written = self.modified_at > self.place.now - WRITING_SECONDS
        paths = [mark.path for mark in self.folders] + [mark.path for mark in self.files]
        is_settled = self.is_settled and not is_written and _is_text("".join(paths))
        borrowed = [each for inode, each in self.borrowed.items() if inode not in self.shared]
        return Memory(
            folders=tuple(self.folders) if is_settled else (),
            files=tuple(self.files) if is_settled else (),
            shared=tuple(self.shared.values()),
            borrowed_bytes=sum(each.size_bytes for each in borrowed),
            borrowed_physical_bytes=sum(each.physical_bytes for each in borrowed),
            is_settled=is_settled,
        )


def as_shared(status: os.stat_result, *, name_count: int) -> SharedInode:
    return SharedInode(
        device=status.st_dev,
        inode=status.st_ino,
        size_bytes=status.st_size,
        physical_bytes=status.st_blocks * 512,
        name_count=name_count,
        link_count=status.st_nlink,
    )


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
