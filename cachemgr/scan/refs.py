"""The refs of a repo: `refs/main` holds the commit that a branch or tag pointed to when it was downloaded."""

import os

from cachemgr.scan.place import shown
from cachemgr.scan.tally import Tally

_LITTER = {".DS_Store", "Thumbs.db", "desktop.ini"}
_LIMIT_BYTES = 64


def read_refs(tally: Tally) -> dict[str, str]:
    """{"main": commit}; names may have slashes, as in `refs/pr/1`."""
    refs: dict[str, str] = {}
    for path, listing in tally.walk("refs"):
        for name in sorted(listing.files.keys() - _LITTER):
            commit = _read_ref(tally, f"{path}/{name}")
            if commit is not None:
                refs[shown(f"{path}/{name}".removeprefix("refs/"))] = commit
        for name in sorted([*listing.links, *listing.others]):
            tally.complain(f"{path}/{name} is not a file")
    return refs


def _read_ref(tally: Tally, path: str) -> str | None:
    """A ref is written in place, so that its folder's time does not tell: it has a mark of its own."""
    try:
        descriptor = tally.place.open_file(tally.below_cache(path))
    except OSError as error:
        tally.miss(path, error)
        return None
    try:
        tally.mark_file(path, os.fstat(descriptor))
        return os.read(descriptor, _LIMIT_BYTES).decode("ascii").strip()
    except (OSError, ValueError):
        tally.complain(f"{path} holds no commit")
        return None
    finally:
        os.close(descriptor)
