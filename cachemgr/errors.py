"""Errors of the cache manager.

HomelabError
  InvalidValue (400)
    InvalidCachePath     a custom path is not acceptable; the code says why
  InsufficientSpace (507)  the bytes do not fit
  CacheUnavailable (503)   the drive is not there, hangs, or takes no writes
  RepoBusy (409)           somebody holds the repo's folder: see locks.py
  PlaceTaken (409)         a repo cannot come back from the trash: another one is in its place
  NotInTrash (404)
  ErrandFailed (503)       work on a drive ended with a code of its own; `is_permanent` says whether to try again
"""

from typing import Any

from cachemgr.space import Candidate, Verdict
from cachemgr.units import GB, MB
from homelab.errors import Conflict, HomelabError, InvalidValue, NotFound


class InvalidCachePath(InvalidValue):
    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message, field="cache_path", code=code)


class CacheUnavailable(HomelabError):
    code = "cache_unavailable"
    status = 503


class RepoBusy(Conflict):
    code = "model_busy"


class PlaceTaken(Conflict):
    code = "place_taken"


class NotInTrash(NotFound):
    code = "trash_entry_not_found"


class ErrandFailed(HomelabError):
    code = "errand_failed"
    status = 503

    def __init__(self, message: str, *, code: str, is_permanent: bool, details: dict[str, Any] | None = None) -> None:
        super().__init__(message, details=details)
        self.code = code
        self.is_permanent = is_permanent


class InsufficientSpace(HomelabError):
    """The verdict with its numbers, and what the user can do now."""

    code = "insufficient_space"
    status = 507

    def __init__(self, verdict: Verdict, *, actions: list[dict[str, Any]] | None = None) -> None:
        ways = actions or []
        advice = " ".join(str(way["sentence"]) for way in ways)
        super().__init__(f"{verdict.message} {advice}".strip(), details=describe_shortage(verdict) | {"actions": ways})
        self.verdict = verdict


def describe_shortage(verdict: Verdict) -> dict[str, Any]:
    sizes = {
        "needed": verdict.required_bytes,
        "available": verdict.available_bytes,
        "shortfall": verdict.shortfall_bytes,
    }
    megabytes = {f"{name}_mb": round(size / MB, 1) for name, size in sizes.items()}
    exact = {f"{name}_bytes": size for name, size in sizes.items()}
    leaving = {"would_make_room": [describe_candidate(candidate) for candidate in verdict.would_make_room]}
    figures = verdict.figures
    place = {"cache_location": figures.location, "cache_path": figures.path, "limiting_factor": verdict.limiting_factor}
    return place | megabytes | exact | leaving


def describe_candidate(candidate: Candidate) -> dict[str, Any]:
    """JSON for a model that could leave: one shape in errors and answers."""
    used_at = candidate.last_used_at
    return {
        "name": candidate.name,
        "cache_location": candidate.location,
        "size_bytes": candidate.size_bytes,
        "size_gb": round(candidate.size_bytes / GB, 3),
        "last_used_at": used_at.isoformat().replace("+00:00", "Z") if used_at else None,
    }
