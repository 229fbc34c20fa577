"""Cleaning a cache: what could go is found and weighed, and, when that is the order, removed.

{"task": "clean", "step": "find" | "remove", "root": {...}, "classes": [...], "commits": {...}, "busy_folders": [...],
 "open_jobs": [...], "min_age_seconds": 3600, "folders": [those whose lock the master holds, for "remove"]}
"""

import fcntl
import os
from collections.abc import Iterable, Mapping
from typing import Any

from cachemgr.hands.clearing import remove, rename
from cachemgr.hands.errors import Trouble
from cachemgr.hands.root import Root, open_root
from cachemgr.hands.store import collect, is_stored
from cachemgr.hands.telling import Say
from cachemgr.hands.unused import FINDERS, Finding, Inventory, Kept
from cachemgr.hands.weighing import Scales, Weight, total_of
from cachemgr.layout import STAGING
from cachemgr.scan.place import shown

_SHOWN = 200


def run(order: Mapping[str, Any], *, say: Say) -> dict[str, Any]:
    steps = {"find": _find, "remove": _remove}
    with open_root(order["root"]) as root:
        _refuse_read_only(root)
        return steps[order["step"]](root, order)


def _refuse_read_only(root: Root) -> None:
    if os.fstatvfs(root.descriptor).f_flag & os.ST_RDONLY:
        raise Trouble(f"{root.path} is on a drive that takes no writes now.", code="drive_read_only")


# What could go


def _find(root: Root, order: Mapping[str, Any]) -> dict[str, Any]:
    """Each class is weighed alone, and then all of them together: a file may have names in two."""
    stock = Inventory(root, Kept.from_order(order))
    found = {kind: stock.find(kind) for kind in _classes(order)}
    classes = [_described(kind, _weighed(root, findings)) for kind, findings in found.items()]
    together = Scales(root).weigh(path for findings in found.values() for each in findings for path in each.paths)
    return {"classes": classes, "weight": together.as_json(), "problem": stock.problem}


def _classes(order: Mapping[str, Any]) -> list[str]:
    return [kind for kind in FINDERS if kind in order["classes"]]


def _weighed(root: Root, findings: Iterable[Finding]) -> list[tuple[Finding, Weight]]:
    scales = Scales(root)
    return [(finding, scales.weigh(finding.paths)) for finding in findings]


def _described(kind: str, weighed: list[tuple[Finding, Weight]]) -> dict[str, Any]:
    """The largest items, largest first."""
    largest = sorted(weighed, key=lambda each: (-each[1].freed_bytes, each[0].name))[:_SHOWN]
    items = [
        {"name": shown(finding.name), "why": finding.why, "freed_bytes": weight.freed_bytes}
        for finding, weight in largest
    ]
    return {
        "name": kind,
        "count": len(weighed),
        "items": items,
        "folders": sorted({finding.folder for finding, _ in weighed if finding.folder}),
        "weight": total_of(weight for _, weight in weighed).as_json(),
    }


# Removing it


def _remove(root: Root, order: Mapping[str, Any]) -> dict[str, Any]:
    """Looks again before each class: what was wanted meanwhile is not found any more. Repos whose lock the master could
    not get are left alone."""
    allowed = {*order["folders"], ""}
    gone: dict[str, list[tuple[Finding, Weight]]] = {}
    for kind in _classes(order):
        gone[kind] = []
        for finding in Inventory(root, Kept.from_order(order)).find(kind):
            weight = Scales(root).weigh(finding.paths)  # just before: what went already has lost its names
            if finding.folder in allowed and _take_away(root, finding, kind=kind):
                gone[kind].append((finding, weight))
    total = total_of(weight for weighed in gone.values() for _, weight in weighed)
    classes = [_described(kind, weighed) for kind, weighed in gone.items()]
    return {"classes": classes, "weight": total.as_json(), "problem": ""}


def _take_away(root: Root, finding: Finding, *, kind: str) -> bool:
    """False for what somebody took into use since it was found."""
    root.still_there()
    if is_stored(finding.paths[0]):
        return collect(root, finding.paths[0])
    if kind == "locks":
        return _take_lock_away(root, finding.paths[0])
    for path in finding.paths:
        if kind == "superseded" and path == finding.paths[0]:
            path = _out_of_sight(root, path)
        remove(root, path)
    return True


def _out_of_sight(root: Root, snapshot: str) -> str:
    """A revision goes from its repo at once: a half-removed one would look like a broken download."""
    hidden = f"{STAGING}/clean-{snapshot.rpartition('/')[2]}-{os.getpid()}/snapshot"
    rename(root, snapshot, hidden)
    return hidden.rpartition("/")[0]


def _take_lock_away(root: Root, path: str) -> bool:
    """Holds the lock meanwhile; who waits for it sees that its file is gone, and makes another."""
    try:
        with root.file(path) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(root, path)
    except BlockingIOError:
        return False
    return True
