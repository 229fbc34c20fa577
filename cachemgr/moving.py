"""Moving a repo between caches, and verifying it where it lies: what the child with hands on the drives is told.

The steps of a move and their order are described in hands/move.py. `plan_move` and `abandon` run a child to its end;
the other functions make errands, for whoever shows their progress.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict, Unpack

from cachemgr import monitor
from cachemgr.errands import Errand, finish, place_of
from cachemgr.models import Cache

DRY_RUN = "dry-run"
_MODULE = "cachemgr.hands"


@dataclass(frozen=True, slots=True)
class MovePlan:
    """What a move would do.

    `size_bytes` is all that moves, as it will lie on the target; of that, `bytes_to_write` have to be written, and
    `present_bytes` lie in the job's staging from an earlier attempt. `method` is "copy", or "link" on one filesystem.
    `target_exists` is "", "same" (it is verified and taken), or "other" (it is in the way). `skipped` are unfinished
    downloads, `problems` sentences about names that cannot be taken along.
    """

    source: Cache
    target: Cache
    folder: str
    job: str
    method: str
    layout: str
    file_count: int
    size_bytes: int
    bytes_to_write: int
    present_bytes: int
    target_exists: str
    skipped: tuple[str, ...]
    problems: tuple[str, ...]


def plan_move(source: Cache, target: Cache, *, folder: str, job: str = DRY_RUN) -> MovePlan:
    """Reads both drives. Raises CacheUnavailable; ErrandFailed: a link leads out of a cache, ..."""
    for cache in (source, target):
        monitor.require_drive(cache)
    done = finish(_step("plan", source, target, folder=folder, job=job))
    return MovePlan(
        source=source,
        target=target,
        folder=folder,
        job=job,
        method=done["method"],
        layout=done["layout"],
        file_count=done["files"],
        size_bytes=done["size_bytes"],
        bytes_to_write=done["bytes"],
        present_bytes=done["present_bytes"],
        target_exists=done["target_exists"],
        skipped=tuple(done["skipped"]),
        problems=tuple(done["problems"]),
    )


def stage(plan: MovePlan) -> Errand:
    return _step("stage", plan.source, plan.target, folder=plan.folder, job=plan.job)


def publish(plan: MovePlan) -> Errand:
    return _step("publish", plan.source, plan.target, folder=plan.folder, job=plan.job)


def leave(source: Cache, target: Cache, *, folder: str, job: str) -> Errand:
    """Its `kept` names what stays at the source, because it is not what was moved."""
    return _step("leave", source, target, folder=folder, job=job)


def abandon(target: Cache, *, job: str, source: Cache | None = None) -> None:
    """Throws the job's copy away; one that has its final name already only where `source` is given, and whole. Raises
    ErrandFailed."""
    order = {"task": "move", "step": "abandon", "target": place_of(target), "job": job}
    finish(Errand(_MODULE, order | {"source": place_of(source) if source else None}))


class Portion(TypedDict, total=False):
    """Of a verification that stops early: how many bytes it may read, and the `next` of the one that it goes on for."""

    budget_bytes: int | None
    after: str


def verify(
    cache: Cache,
    *,
    folder: str,
    commit: str | None,
    digests: Mapping[str, tuple[str, int]] | None = None,
    **portion: Unpack[Portion],
) -> Errand:
    """`digests` has digests and sizes in bytes by name, where they are known from elsewhere."""
    order = {"task": "verify", "root": place_of(cache), "folder": folder, "commit": commit, "digests": digests}
    return Errand(_MODULE, {**order, **portion})


def _step(name: str, source: Cache, target: Cache, *, folder: str, job: str) -> Errand:
    places = {"source": place_of(source), "target": place_of(target)}
    return Errand(_MODULE, {"task": "move", "step": name, **places, "folder": folder, "job": job})
