"""Filling a job's staging: each file is hashed while it is read, made durable, read back from the drive, and compared.

Only then it gets its name in staging. What has one is not copied again when the job goes on after a kill.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace

from cachemgr.digests import hash_like
from cachemgr.hands.clearing import remove_file, remove_files
from cachemgr.hands.copying import Pace, Pump, Unreadable, drop_pages
from cachemgr.hands.durable import create
from cachemgr.hands.errors import Trouble
from cachemgr.hands.layouting import Parcel
from cachemgr.hands.root import Root
from cachemgr.hands.staging import PART, Record, Staging
from cachemgr.hands.survey import Move, Survey, link_over
from cachemgr.hands.tree import FILE, LINK, read_tree
from cachemgr.hands.troubles import source_changed, source_corrupt, target_corrupt


def fill(move: Move, survey: Survey, staging: Staging, pace: Pace) -> Record:
    """Raises Trouble (source_corrupt, target_corrupt, ...), OSError."""
    earlier = staging.read_record()
    with move.target.folder(staging.repo(move.folder), make=True) as repo:
        record = Record.of(survey.cargo, survey.source, inode=os.fstat(repo).st_ino, is_taken=False)
    _remove_strays(staging, record)
    filler = _Filler(move, survey, staging, Pump(pace), _finished(staging, record, earlier))
    staging.write_record(record)
    for path in survey.cargo.folders:
        _make_folder(move.target, f"{staging.repo(move.folder)}/{path}")
    record = record.with_parcels([filler.bring(parcel) for parcel in record.parcels])
    for path, text in record.links.items():
        _make_link(move.target, f"{staging.repo(move.folder)}/{path}", text)
    staging.write_record(record)
    return record


def _remove_strays(staging: Staging, record: Record) -> None:
    """What an earlier attempt brought, and is not wanted any more."""
    repo = staging.repo(record.folder)
    wanted = {each.path for each in record.parcels} | record.links.keys()
    strays = [path for path in read_tree(staging.root, repo).paths(FILE, LINK) if path not in wanted]
    remove_files(staging.root, [f"{repo}/{path}" for path in strays])


def take_stock(staging: Staging, survey: Survey) -> int:
    """Of what has to be written, how much an earlier attempt brought. What it left half goes: it would take its room
    twice, once as what lies there and once as what is still to come."""
    remove_file(staging.root, f"{staging.path}/{PART}")
    record = Record.of(survey.cargo, survey.source, inode=0, is_taken=False)
    finished = _finished(staging, record, staging.read_record()).values()
    return sum(each.size_bytes for each in finished if not each.twin_of)


def _finished(staging: Staging, record: Record, earlier: Record | None) -> dict[str, Parcel]:
    """Parcels that an earlier attempt brought from the very same source, by path."""
    if earlier is None or not staging.root.has_folder(staging.repo(record.folder)):
        return {}
    tree = read_tree(staging.root, staging.repo(record.folder))
    before = {each.path: each for each in earlier.parcels}
    found = {each.path: before[each.path] for each in record.parcels if _is_as_before(each, before.get(each.path))}
    lacking = set(replace(earlier, links={}, parcels=tuple(found.values())).lacks(tree))
    return {path: parcel for path, parcel in found.items() if path not in lacking}


def _is_as_before(parcel: Parcel, before: Parcel | None) -> bool:
    """A digest that nobody knew may have been worked out since."""
    return before is not None and replace(before, digest=parcel.digest) == parcel


def _make_folder(root: Root, path: str) -> None:
    with root.folder(path, make=True):
        return


def _make_link(root: Root, path: str, text: str) -> None:
    with root.parent(path, make=True) as (folder, name):
        try:
            os.symlink(text, name, dir_fd=folder)
        except FileExistsError:
            if os.readlink(name, dir_fd=folder) != text:
                os.unlink(name, dir_fd=folder)
                os.symlink(text, name, dir_fd=folder)


@dataclass(slots=True)
class _Filler:
    move: Move
    survey: Survey
    staging: Staging
    pump: Pump
    finished: dict[str, Parcel] = field(default_factory=dict)

    @property
    def repo(self) -> str:
        return self.staging.repo(self.move.folder)

    def name_of(self, parcel: Parcel) -> str:
        return self.survey.cargo.name_of(parcel)

    def bring(self, parcel: Parcel) -> Parcel:
        """Answers the parcel with its digest, where its bytes were read.

        1. It is there: nothing to do.
        2. It is a further name of a file that is there: a hard link.
        3. Both caches are on one filesystem: a hard link. Not for a ref: that is written in place.
        4. It is copied.
        """
        if parcel.path in self.finished:
            self.pump.pace.skip(parcel.size_bytes)
            return self.finished[parcel.path]
        if self._link_twin(parcel) or self._link_source(parcel):
            self.pump.pace.skip(parcel.size_bytes)
            return parcel
        return self._copy(parcel)

    def _link_twin(self, parcel: Parcel) -> bool:
        is_wanted = parcel.twin_of and self.survey.abilities.hard_links
        return bool(is_wanted) and self._link(self.move.target, f"{self.repo}/{parcel.twin_of}", parcel)

    def _link_source(self, parcel: Parcel) -> bool:
        is_wanted = self.survey.abilities.source_links and not parcel.path.startswith("refs/")
        return is_wanted and self._link(self.move.source, parcel.source, parcel)

    def _link(self, root: Root, path: str, parcel: Parcel) -> bool:
        """False where the drive takes no such link."""
        remove_file(self.move.target, f"{self.repo}/{parcel.path}")
        with self.move.target.parent(f"{self.repo}/{parcel.path}", make=True) as (folder, name):
            try:
                link_over(root, path, folder, name)
            except OSError:
                return False
        return True

    def _copy(self, parcel: Parcel) -> Parcel:
        self.move.source.still_there()
        self.move.target.still_there()
        try:
            digest = self._write(parcel)
        except BaseException:
            with suppress(OSError):  # the next attempt begins with that
                remove_file(self.move.target, f"{self.staging.path}/{PART}")
            raise
        with self.move.target.parent(f"{self.repo}/{parcel.path}", make=True) as (folder, name):
            os.rename(PART, name, src_dir_fd=self.staging.descriptor, dst_dir_fd=folder)
        return replace(parcel, digest=digest)

    def _write(self, parcel: Parcel) -> str:
        """Writes the part, and answers the digest of what was read and read back."""
        with ExitStack() as opened:
            source = self._open_source(opened, parcel)
            part = opened.enter_context(self._part())
            digest = self._copy_bytes(parcel, source, part)
            drop_pages(part)
            self._compare(parcel, part, digest=digest)
            status = os.fstat(source)
            os.utime(part, ns=(status.st_atime_ns, status.st_mtime_ns))
        return digest

    def _open_source(self, opened: ExitStack, parcel: Parcel) -> int:
        try:
            return opened.enter_context(self.move.source.file(parcel.source))
        except FileNotFoundError as error:
            raise source_changed(self.move, self.name_of(parcel)) from error
        except OSError as error:
            raise self._unreadable(parcel, error) from error

    def _unreadable(self, parcel: Parcel, error: OSError) -> Trouble:
        """A drive that went away is no broken file."""
        self.move.source.still_there()
        return self._source_corrupt(parcel, f"cannot be read: {error.strerror}")

    def _source_corrupt(self, parcel: Parcel, what: str) -> Trouble:
        return source_corrupt(self.move, self.name_of(parcel), what)

    def _target_corrupt(self, parcel: Parcel, what: str) -> Trouble:
        return target_corrupt(self.move, self.name_of(parcel), what)

    @contextmanager
    def _part(self) -> Iterator[int]:
        descriptor = create(self.staging.descriptor, PART)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _copy_bytes(self, parcel: Parcel, source: int, part: int) -> str:
        digest = hash_like(parcel.digest, size_bytes=parcel.size_bytes)
        try:
            self.pump.copy_file(source, part, digest)
        except Unreadable as failure:
            raise self._unreadable(parcel, failure.error) from failure
        found = digest.hexdigest()
        if parcel.digest and found != parcel.digest:
            raise self._source_corrupt(parcel, f"has not the bytes that its digest promises ({found[:12]})")
        status = os.fstat(source)
        if (status.st_size, status.st_mtime_ns) != (parcel.size_bytes, parcel.modified_ns):
            raise source_changed(self.move, self.name_of(parcel))
        return found

    def _compare(self, parcel: Parcel, part: int, *, digest: str) -> None:
        again = hash_like(digest, size_bytes=parcel.size_bytes)
        try:
            self.pump.hash_file(part, again)
        except Unreadable as failure:
            self.move.target.still_there()
            raise self._target_corrupt(parcel, f"cannot be read back: {failure.error.strerror}") from failure
        if again.hexdigest() != digest:
            raise self._target_corrupt(parcel, "came back from the drive with other bytes than were written")
