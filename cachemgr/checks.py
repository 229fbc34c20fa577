"""System checks: a cache that is not as it should be is a hint at the start, never a reason not to start."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, register

from cachemgr.drives import DriveReport, ProbeRequest, folders_to_make, probe_drive
from cachemgr.monitor import own_folders
from cachemgr.units import format_bytes

_SAFE_SHARE = 0.8


def _configured() -> list[tuple[str, Path, int]]:
    return [
        ("PRIMARY", settings.PRIMARY_CACHE_PATH, settings.PRIMARY_CACHE_LIMIT_BYTES),
        ("SECONDARY", settings.SECONDARY_CACHE_PATH, settings.SECONDARY_CACHE_LIMIT_BYTES),
    ]


@register()
def caches_do_not_overlap(**_: Any) -> list[CheckMessage]:
    primary, secondary = settings.PRIMARY_CACHE_PATH, settings.SECONDARY_CACHE_PATH
    if not (primary.is_relative_to(secondary) or secondary.is_relative_to(primary)):
        return []
    return [
        Error(
            f"PRIMARY_CACHE_PATH ({primary}) and SECONDARY_CACHE_PATH ({secondary}) are the same or lie in each other.",
            hint="Give each cache a folder of its own, or their models would be counted and moved twice.",
            id="cachemgr.E001",
        )
    ]


@register()
def caches_are_there(**_: Any) -> list[CheckMessage]:
    return [message for name, path, limit in _configured() for message in _check_cache(name, path, limit)]


def _check_cache(name: str, path: Path, limit_bytes: int) -> list[CheckMessage]:
    if folders_to_make(path, own_folders=own_folders()) == "all" and not path.exists():
        return []  # it is made at the first measurement
    report = probe_drive(ProbeRequest(str(path)), limit_seconds=2, lock_folder=settings.RUNTIME_DIR)
    if report.state != "ok":
        hint = f"Mount the drive, make the folder, or set {name}_CACHE_PATH. Until then no model can be stored there."
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
