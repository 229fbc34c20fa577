"""Does what a scan remembers of a repo still hold? A few looks at folders answer for thousands of files."""

import os

from cachemgr.report import Memory, RepoReport
from cachemgr.scan.partials import find_live
from cachemgr.scan.place import Place


def still_holds(place: Place, repo: RepoReport) -> bool:
    """True where each folder has the times that it had when it was read, and so has each file that folders do not
    answer for. A download that was dead and goes on is news too."""
    if not repo.memory.is_settled:
        return False
    try:
        is_as_before = _are_unchanged(place.descriptor, repo.folder, repo.memory)
    except OSError:
        return False
    return is_as_before and not (repo.partials and find_live(place, repo.folder, repo.partials))


def _are_unchanged(root: int, folder: str, memory: Memory) -> bool:
    look = os.stat
    for mark in memory.folders:
        now = look(f"{folder}/{mark.path}" if mark.path else folder, dir_fd=root, follow_symlinks=False)
        if now.st_mtime_ns != mark.modified_ns or now.st_ctime_ns != mark.changed_ns or now.st_ino != mark.inode:
            return False
    for file in memory.files:
        now = look(f"{folder}/{file.path}", dir_fd=root, follow_symlinks=False)
        if now.st_mtime_ns != file.modified_ns or now.st_size != file.size_bytes:
            return False
    return True
