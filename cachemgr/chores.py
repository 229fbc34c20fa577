"""Chores: short work on the files of a cache, done by a child process, whose answer somebody waits for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cachemgr.errands import STALL_SECONDS, Errand, Line, finish, place_of
from cachemgr.errors import CacheUnavailable, ErrandFailed
from cachemgr.models import Cache

AWAY = (ErrandFailed, CacheUnavailable)
"""What a chore raises where the drive is not there, or does not do it."""


@dataclass(frozen=True, slots=True)
class Weight:
    """What goes away, in bytes: `size_bytes` is what the files say, each once; `going_bytes` the part of it that lies
    nowhere else, by which the cache's use shrinks; `freed_bytes` what the disk gets back."""

    file_count: int = 0
    size_bytes: int = 0
    going_bytes: int = 0
    freed_bytes: int = 0


def do_chore(cache: Cache, *, task: str, step: str, quiet_seconds: float = STALL_SECONDS, **order: Any) -> Line:
    """What the child says is done. Raises ErrandFailed with its code: "stalled" where the drive lets it wait for so
    long without a word. Somebody waits for it: see to it before that the drive answers (`monitor.require_drive`)."""
    errand = Errand("cachemgr.hands", {"task": task, "step": step, "root": place_of(cache)} | order)
    return finish(errand, quiet_seconds=quiet_seconds)


def weigh(cache: Cache, holders: Sequence[str]) -> list[Weight]:
    """What it would free if these repo folders went, one after the other: in their place or in the trash, as paths
    below the cache. Asks the drive."""
    if not holders:
        return []
    done = do_chore(cache, task="trash", step="weigh", holders=list(holders))
    return [Weight(**each) for each in done["weights"]]
