"""Repos as the last scan found them: rows of the database, and from them what the next scan need not read again."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from django.utils import timezone

from cachemgr.models import Cache, CachedRepo
from cachemgr.report import RepoReport
from cachemgr.report_json import repo_from_json, repo_to_json

# Filesystems of this machine alone, whose folders carry the time of the last change of their names.
TRUSTED = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "bcachefs", "zfs", "tmpfs", "overlay"})

_SAME_NAME = (
    "repo_type",
    "repo_id",
    "size_bytes",
    "physical_bytes",
    "file_count",
    "partials",
    "orphan_count",
    "orphan_bytes",
    "layout",
    "revisions",
    "problems",
    "memory",
)
_COLUMNS = (*_SAME_NAME, "partial_bytes", "modified_at", "seen_at")


def why_distrusted(filesystem: str) -> str:
    """Why each scan reads everything; "" where folder times tell of every change, or nothing is known yet."""
    if not filesystem or filesystem in TRUSTED:
        return ""
    return (
        f"Each scan reads all of it: on {filesystem}, which may be shared or keep times loosely, "
        "the time of a folder does not tell whether something changed in it."
    )


def remembered(cache: Cache) -> dict[str, RepoReport]:
    """The repos of the last scan, by folder."""
    return {row.folder: report_of(row) for row in CachedRepo.objects.filter(cache=cache)}


def store_repos(cache: Cache, repos: Iterable[RepoReport]) -> None:
    """Makes the rows follow a scan; what is as before is not written. Call it in the scan's transaction."""
    known = {row.folder: row for row in CachedRepo.objects.filter(cache=cache)}
    found = {repo.folder: _rounded(repo) for repo in repos}
    CachedRepo.objects.filter(pk__in=[row.pk for folder, row in known.items() if folder not in found]).delete()
    changed = [
        CachedRepo(cache=cache, folder=folder, seen_at=timezone.now(), **_columns(repo))
        for folder, repo in found.items()
        if folder not in known or report_of(known[folder]) != repo
    ]
    CachedRepo.objects.bulk_create(
        changed, update_conflicts=True, unique_fields=["cache", "folder"], update_fields=_COLUMNS
    )


def report_of(row: CachedRepo) -> RepoReport:
    """The report that was stored as this row."""
    values = {name: getattr(row, name) for name in _SAME_NAME}
    modified_at = row.modified_at.timestamp() if row.modified_at else 0.0
    return repo_from_json({**values, "folder": row.folder, "modified_at": modified_at})


def _columns(repo: RepoReport) -> dict[str, Any]:
    values = repo_to_json(repo)
    columns = {name: values[name] for name in _SAME_NAME}
    return columns | {"partial_bytes": repo.partial_bytes, "modified_at": _moment(repo.modified_at)}


def _rounded(repo: RepoReport) -> RepoReport:
    """With its time as exact as a database keeps it, so that a report and its row can be compared."""
    moment = _moment(repo.modified_at)
    return replace(repo, modified_at=moment.timestamp() if moment else 0.0)


def _moment(seconds: float) -> datetime | None:
    """None for 0, and for a time that no calendar has: a drive may say anything."""
    try:
        return datetime.fromtimestamp(seconds, tz=UTC) if seconds else None
    except (ValueError, OverflowError):
        return None
