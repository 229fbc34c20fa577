"""Downloads that did not finish: `blobs/<etag>.<random>.incomplete`. Those of a killed process stay for ever.

Who downloads holds a lock on `.locks/<repo folder>/<etag>.lock`. The kernel lists all locks that are held, so nobody
has to try one, which would disturb the downloader. It lists none of another container or host: there, the time of
the last write tells.
"""

from collections.abc import Iterable

from cachemgr.report import Partial
from cachemgr.scan.place import Place, shown
from cachemgr.scan.tally import WRITING_SECONDS, Tally

PARTIAL = ".incomplete"


def read_partials(tally: Tally, names: Iterable[str]) -> tuple[Partial, ...]:
    found = []
    for name in sorted(names):
        try:
            status = tally.place.look_at(tally.below_cache(f"blobs/{name}"))
        except FileNotFoundError:  # finished since it was listed
            tally.is_settled = False
            continue
        tally.mark_file(f"blobs/{name}", status)
        found.append(Partial(f"blobs/{shown(name)}", status.st_size, is_live=False, modified_at=status.st_mtime))
    live = find_live(tally.place, tally.folder, found)
    if live:
        tally.is_settled = False
    return tuple(
        Partial(each.name, each.size_bytes, is_live=each.name in live, modified_at=each.modified_at) for each in found
    )


def find_live(place: Place, folder: str, partials: Iterable[Partial]) -> set[str]:
    """Names of those that somebody is writing. Of several for one etag, its lock speaks for the youngest alone."""
    live, youngest = set(), {}
    for each in sorted(partials, key=lambda each: each.modified_at):
        youngest[_etag(each.name)] = each.name
        if abs(place.now - each.modified_at) < WRITING_SECONDS:
            live.add(each.name)
    return live | {name for etag, name in youngest.items() if _is_locked(place, f".locks/{folder}/{etag}.lock")}


def _etag(name: str) -> str:
    return name.rpartition("/")[2].partition(".")[0]


def _is_locked(place: Place, path: str) -> bool:
    try:
        return place.look_at(path).st_ino in place.locked_inodes
    except OSError:
        return False
