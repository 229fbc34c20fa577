"""An equal folder that lies at the target already, as a copy by hand leaves it: it is verified, and taken as it is."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from cachemgr.digests import Hash, hash_like
from cachemgr.hands.copying import Pace, Pump, Unreadable, drop_pages
from cachemgr.hands.errors import Trouble
from cachemgr.hands.layouting import Parcel
from cachemgr.hands.staging import Record, Staging
from cachemgr.hands.survey import Move, Survey
from cachemgr.hands.tree import Tree, read_tree
from cachemgr.hands.troubles import source_corrupt, target_corrupt, target_exists


def take_standing(move: Move, survey: Survey, staging: Staging, pace: Pace) -> Record:
    """Reads all of it, from the drive. Raises Trouble where it only looks equal. Refs come first: whether they name
    another commit is seen before weights are read for an hour."""
    found = move.target.look_at(move.folder)
    assert found is not None
    taker = _Taker(move, survey, read_tree(move.target, move.folder), Pump(pace))
    in_turn = sorted(survey.cargo.parcels, key=lambda parcel: not parcel.path.startswith("refs/"))
    parcels = [taker.check(parcel) for parcel in in_turn]
    record = Record.of(survey.cargo, survey.source, inode=found.st_ino, is_taken=True).with_parcels(parcels)
    staging.write_record(record)
    return record


@dataclass(frozen=True, slots=True)
class _Taker:
    move: Move
    survey: Survey
    standing: Tree
    pump: Pump

    def check(self, parcel: Parcel) -> Parcel:
        """Answers it with its digest. A file that is one and the same on both sides is not read."""
        end, source = self.standing.content(parcel.path), self.move.source.look_at(parcel.source)
        assert end is not None
        if source is not None and end.entry.inode == (source.st_dev, source.st_ino):
            self.pump.pace.skip(parcel.size_bytes)
            return parcel
        digest = parcel.digest or self._hash_source(parcel)
        if self._hash_standing(parcel, end.path, digest=digest) != digest:
            verdict = "is damaged" if parcel.digest else "differs"  # without a promise, either may be the right one
            raise target_exists(self.move, f"its {self.survey.cargo.name_of(parcel)} {verdict}")
        return replace(parcel, digest=digest)

    def _hash_standing(self, parcel: Parcel, path: str, *, digest: str) -> str:
        """Whoever wrote it may not have waited for the drive."""
        found = hash_like(digest, size_bytes=parcel.size_bytes)
        with self.move.target.file(path) as descriptor:
            os.fsync(descriptor)
            drop_pages(descriptor)
            self._read(parcel, descriptor, found, failed=target_corrupt)
        return found.hexdigest()

    def _hash_source(self, parcel: Parcel) -> str:
        found = hash_like("", size_bytes=parcel.size_bytes)
        with self.move.source.file(parcel.source) as descriptor:
            self._read(parcel, descriptor, found, failed=source_corrupt)
        return found.hexdigest()

    def _read(
        self, parcel: Parcel, descriptor: int, found: Hash, *, failed: Callable[[Move, str, str], Trouble]
    ) -> None:
        try:
            self.pump.hash_file(descriptor, found)
        except Unreadable as failure:
            name = self.survey.cargo.name_of(parcel)
            raise failed(self.move, name, f"cannot be read: {failure.error.strerror}") from failure
