"""What has to be true after every fault: nothing lost, no lie, no litter, nothing outside touched, no space promised
twice, a sound database."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

from huggingface_hub import scan_cache_dir

from tests.torture.site import FOLDER, LIMIT_BYTES, REPO_ID, Site, digest

_HONEST = (
    ("verify", "failed", "hash_mismatch"),  # what it has to say of a bad file
    ("remove", "failed", "errand_died"),  # whoever asked for it heard of it at once, and the model is as it was
)
_GOING_BACK = """
    SELECT path FROM cachemgr_trashedrepo JOIN cachemgr_cache ON cachemgr_cache.id = cache_id
    WHERE cachemgr_trashedrepo.state = 'restoring'
"""
_PROMISED = """
    SELECT cachemgr_cache.location, used_bytes + TOTAL(remaining_bytes) FROM cachemgr_cache
    JOIN cachemgr_cachesnapshot ON cachemgr_cachesnapshot.id = latest_id
    LEFT JOIN cachemgr_reservation ON cachemgr_reservation.cache_id = cachemgr_cache.id
    WHERE limit_bytes IS NOT NULL GROUP BY cachemgr_cache.id
"""
_LITTER = ("*.incomplete", "*.part", ".homelab/staging/*", ".homelab/trash/*")


def violations(site: Site, contents: Mapping[str, str], *, canaries: dict[str, str]) -> list[str]:
    """Each as a sentence. Call it when all work is over. `contents` are the sums of all files that the model has."""
    return [
        *losses(site, contents),
        *overbooked(site),
        *_dishonest(site, revisions=len({name.partition("/")[0] for name in contents})),
        *_litter(site),
        *_strangers(site),
        *_unfinished(site),
        *([] if site.canaries == canaries else ["something outside of the caches changed"]),
    ]


def losses(site: Site, contents: Mapping[str, str]) -> Iterator[str]:
    """The model is whole at the place that the database names, or in a trash, or where a trash's row says that it goes
    back to. That holds at every instant, also right after a kill."""
    folders = [path for cache in site.caches.values() for path in cache.glob(f".homelab/trash/*/{FOLDER}")]
    folders += [Path(cache) / FOLDER for (cache,) in _rows(site, _GOING_BACK)]
    if named := place_of(site):
        folders.insert(0, named[0] / FOLDER)
    found = [list(_bad_files(folder, contents)) for folder in folders]
    if [] not in found:
        yield from found[0] if found else ["LOST: no row names a place, and no trash has it"]


def _bad_files(folder: Path, contents: Mapping[str, str]) -> Iterator[str]:
    for name, wanted in contents.items():
        path = folder / "snapshots" / name
        if not path.is_file():
            yield f"LOST {name} at {folder}"
        elif digest(path) != wanted:
            yield f"CHANGED {name} at {folder}"


def overbooked(site: Site) -> Iterator[str]:
    """No cache holds more than its limit, and none is promised more than it has. That holds at every instant, too."""
    for location in ("primary", "secondary"):
        size_bytes = _size_bytes(site.caches[location])
        if size_bytes > LIMIT_BYTES:
            yield f"OVERBOOKED: {location} holds {size_bytes} bytes of {LIMIT_BYTES}"
    for location, promised_bytes in _rows(site, _PROMISED):
        if promised_bytes > LIMIT_BYTES:
            yield f"OVERBOOKED: {location} is promised {promised_bytes:.0f} bytes of {LIMIT_BYTES}"


def _size_bytes(folder: Path) -> int:
    """A file with several names counts once."""
    found = [path.lstat() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return sum({each.st_ino: each.st_size for each in found}.values())


def _dishonest(site: Site, *, revisions: int) -> Iterator[str]:
    """It is ready, and the Hub's own library sees it as well."""
    cache, status = place_of(site) or (site.caches[site.place], "forgotten")
    if status != "ready":
        yield f"the model is {status}"
    info = scan_cache_dir(cache)
    found = {repo.repo_id: len(repo.revisions) for repo in info.repos}
    warnings = [each for each in map(str, info.warnings) if "/.homelab" not in each]
    if found.get(REPO_ID) != revisions or warnings:
        yield f"the Hub's scan of {cache} finds {found} and {warnings}"


def place_of(site: Site) -> tuple[Path, str] | None:
    """Where the database says that the model is, and its status; None where it has no such row."""
    rows = _rows(site, "SELECT cache_location, cache_path, status FROM modelregistry")
    if not rows:
        return None
    ((location, path, status),) = rows
    return Path(path) if location == "custom" else site.caches[location], status


def _litter(site: Site) -> Iterator[str]:
    for cache in site.caches.values():
        for pattern in _LITTER:
            yield from (f"litter: {path}" for path in cache.rglob(pattern))


def _strangers(site: Site) -> Iterator[str]:
    """The model is in one place only."""
    found = [str(cache) for cache in site.caches.values() if (cache / FOLDER).exists()]
    if len(found) != 1:
        yield f"the model's folder is in {found}"


def _unfinished(site: Site) -> Iterator[str]:
    if _rows(site, "PRAGMA integrity_check") != [("ok",)]:
        yield "the database is damaged"
    for kind, state, code, error in _rows(site, "SELECT kind, state, error_code, error_message FROM registry_job"):
        if state != "done" and (kind, state, code) not in _HONEST:
            yield f"a {kind} job is {state}: {error}"
    for owner, left in _rows(site, "SELECT owner, remaining_bytes FROM cachemgr_reservation"):
        yield f"{owner} still has a promise of {left} bytes"


def _rows(site: Site, query: str) -> list[tuple]:
    with closing(sqlite3.connect(site.database)) as database:
        return database.execute(query).fetchall()
