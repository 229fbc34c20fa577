"""System checks: a cache that is not as it should be is a hint at the start. Caches that overlap stop it."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections
from django.db.models import Q

from cachemgr.drives import DriveReport, ProbeRequest, folders_to_make, probe_drive
from cachemgr.models import Cache
from cachemgr.monitor import own_folders
from cachemgr.mounts import do_overlap, read_mounts, true_place
from cachemgr.units import format_bytes

_SAFE_SHARE = 0.8
_LIMIT_SECONDS = 2.0


def _configured() -> list[tuple[str, Path, int]]:
    return [
        ("PRIMARY", settings.PRIMARY_CACHE_PATH, settings.PRIMARY_CACHE_LIMIT_BYTES),
        ("SECONDARY", settings.SECONDARY_CACHE_PATH, settings.SECONDARY_CACHE_LIMIT_BYTES),
    ]


@register()
def caches_do_not_overlap(**_: Any) -> list[CheckMessage]:
    primary, secondary = settings.PRIMARY_CACHE_PATH, settings.SECONDARY_CACHE_PATH
    if not _overlap(primary, secondary):
        return []
    return [
        Error(
            f"PRIMARY_CACHE_PATH ({primary}) and SECONDARY_CACHE_PATH ({secondary}) are the same or lie in each other.",
            hint="Give each cache a folder of its own, or their models would be counted and moved twice.",
            id="cachemgr.E001",
        )
    ]


@register(Tags.database)
def custom_caches_are_apart(*, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """From those of `.env`. Runs before migrations too, so it reads no more than what was always there."""
    return [
        Error(
            f"{name}_CACHE_PATH ({path}) and the custom cache {custom} are the same or lie in each other.",
            hint=f"Set {name}_CACHE_PATH to a folder of its own: models live in the custom cache.",
            id="cachemgr.E002",
        )
        for custom in chain.from_iterable(map(_custom_paths_in_use, databases or []))
        for name, path, _limit in _configured()
        if str(path) != custom and _overlap(path, Path(custom))
    ]


def _custom_paths_in_use(database: str) -> list[str]:
    if Cache._meta.db_table not in connections[database].introspection.table_names():
        return []
    in_use = Q(repos__isnull=False) | Q(reservations__isnull=False)
    custom = Cache.objects.using(database).filter(in_use, location=Cache.Location.CUSTOM)
    return sorted(set(custom.values_list("path", flat=True)))


def _overlap(path: Path, other: Path) -> bool:
    is_nested = path.is_relative_to(other) or other.is_relative_to(path)
    return is_nested or do_overlap(_true_place(path), _true_place(other))


def _true_place(path: Path) -> tuple[int, str]:
    """Where a path leads, through links and bind mounts. A drive that does not answer is taken by its name."""
    report = _look_at(path)
    if report.disk is None or report.filesystem is None:
        return true_place(str(path), mounts=read_mounts())
    return report.disk.device, report.filesystem.inner_path


def _look_at(path: Path, *, location: str = "") -> DriveReport:
    request = ProbeRequest(str(path), location=location)
    return probe_drive(request, limit_seconds=_LIMIT_SECONDS, lock_folder=settings.RUNTIME_DIR)


@register()
def caches_are_there(**_: Any) -> list[CheckMessage]:
    return [message for name, path, limit in _configured() for message in _check_cache(name, path, limit)]


def _check_cache(name: str, path: Path, limit_bytes: int) -> list[CheckMessage]:
    if folders_to_make(path, own_folders=own_folders()) == "all" and not path.exists():
        return []  # it is made at the first measurement
    report = _look_at(path, location=name.lower())
    if report.state != "ok":
        hint = f"Until that is so, or you set {name}_CACHE_PATH to another folder, no model can be stored there."
        return [checks.Warning(report.message, hint=hint, id="cachemgr.W001")]
    return _check_limit(name, path, limit_bytes=limit_bytes, report=report)


def _check_limit(name: str, path: Path, *, limit_bytes: int, report: DriveReport) -> list[CheckMessage]:
    assert report.disk is not None
    safe_bytes = int(report.disk.total_bytes * _SAFE_SHARE)
    if limit_bytes <= safe_bytes:
        return []
    limit, total = format_bytes(limit_bytes), format_bytes(report.disk.total_bytes)
    message = f"{name}_CACHE_LIMIT_GB is {limit}, but the disk of {path} has {total}."
    hint = f"Set it to at most 80 % of the disk: {name}_CACHE_LIMIT_GB={safe_bytes // 10**6 / 1000}"
    return [checks.Warning(message, hint=hint, id="cachemgr.W002")]
