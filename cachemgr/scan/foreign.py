"""What lies in a cache beside its repos: it takes space too, and somebody may wonder what it is."""

import os
import re
from dataclasses import dataclass, field

from cachemgr.layout import HOUSE_FOLDER, MARKER_FILE, STAGING
from cachemgr.report import ForeignReport
from cachemgr.scan.place import Place, shown
from cachemgr.scan.tally import Tally

_STORE = "blobs"
_STORE_MARKER = ".huggingface-shared-blobs"
_OLD_NAME = re.compile(r"[0-9a-f]{64}(\.[0-9a-f]{64})?(\.h5)?(\.json|\.lock)?")  # hash of a URL, hash of its ETag
_OLD_TITLE = "files of transformers before 4.22"
_HOUSE_FILES = (MARKER_FILE, "CACHEDIR.TAG")  # the Hub's library writes the second: back-up programs skip such a folder
_NAMED_LIMIT = 200
_REST_TITLE = "(many others)"


def read_foreign(tally: Tally, *, is_folder: bool) -> ForeignReport:
    name = tally.folder
    tally.count_below("")
    kind = _kind_of_folder(tally) if is_folder else _kind_of_file(name)
    size_bytes, physical_bytes = tally.sum_up()
    title = _OLD_TITLE if kind == "old_cache" else shown(name)
    return ForeignReport(title, kind, tally.file_count, size_bytes, physical_bytes)


def read_staged(place: Place) -> dict[str, int]:
    """Bytes in `.homelab/staging/<job>`, by the repo folder that the job brings: that and the file on its way."""
    staged: dict[str, int] = {}
    for job in _folders_in(place, STAGING):
        for folder in _folders_in(place, f"{STAGING}/{job}")[:1]:
            tally = Tally(place, f"{STAGING}/{job}")
            tally.count_below("")
            staged[folder] = staged.get(folder, 0) + tally.sum_up()[0]
    return staged


def _folders_in(place: Place, path: str) -> list[str]:
    """Empty where there is no such folder, or it went meanwhile."""
    try:
        descriptor = place.open_folder(path)
    except OSError:
        return []
    try:
        with os.scandir(descriptor) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    finally:
        os.close(descriptor)


def _kind_of_folder(tally: Tally) -> str:
    if tally.folder == HOUSE_FOLDER:
        return "house"
    if tally.folder == _STORE and os.path.lexists(os.path.join(tally.place.path, _STORE, _STORE_MARKER)):
        return "store"
    return "folder"


def _kind_of_file(name: str) -> str:
    if name.startswith(_HOUSE_FILES):
        return "house"
    return "old_cache" if _OLD_NAME.fullmatch(name) else "file"


@dataclass(slots=True)
class Beside:
    """What was found beside the repos. A folder that is no cache at all may hold a million files: the largest keep
    their names, and the rest is one sum."""

    named: list[ForeignReport] = field(default_factory=list)
    sums: dict[tuple[str, str], ForeignReport] = field(default_factory=dict)

    def add(self, found: ForeignReport) -> None:
        if found.kind == "old_cache":
            self._sum_up(found, title=found.name)
            return
        self.named.append(found)
        if len(self.named) > 2 * _NAMED_LIMIT:
            self._fold()

    def reports(self) -> tuple[ForeignReport, ...]:
        """By name."""
        self._fold()
        return tuple(sorted([*self.named, *self.sums.values()], key=lambda each: each.name))

    def _fold(self) -> None:
        self.named.sort(key=lambda each: (-each.size_bytes, each.name))
        for each in self.named[_NAMED_LIMIT:]:
            self._sum_up(each, title=_REST_TITLE)
        del self.named[_NAMED_LIMIT:]

    def _sum_up(self, found: ForeignReport, *, title: str) -> None:
        last = self.sums.get((title, found.kind), ForeignReport(title, found.kind, 0, 0, 0))
        self.sums[title, found.kind] = ForeignReport(
            title,
            found.kind,
            last.file_count + found.file_count,
            last.size_bytes + found.size_bytes,
            last.physical_bytes + found.physical_bytes,
        )
