"""Reports as JSON, there and back: between the child that scans and its parent, and into the database and out of it.

A repo that a re-scan took over as remembered is not sent again: its folder's name stands for it.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache
from itertools import starmap
from operator import attrgetter
from typing import Any

from cachemgr.report import (
    CacheReport,
    FileMark,
    FolderMark,
    ForeignReport,
    Memory,
    Partial,
    RepoReport,
    RevisionReport,
    SharedInode,
)

Known = Mapping[str, RepoReport]  # by folder


def report_to_json(report: CacheReport, *, known: Known | None = None) -> dict[str, Any]:
    known = known or {}
    repos = [repo.folder if repo is known.get(repo.folder) else repo_to_json(repo) for repo in report.repos]
    return _values(report) | {"repos": repos, "foreign": [_values(each) for each in report.foreign]}


def report_from_json(data: dict[str, Any], *, known: Known | None = None) -> CacheReport:
    """`known` as it was given to the scan; a repo that it lacks, and that was not sent, is a KeyError."""
    known = known or {}
    repos = tuple(known[each] if isinstance(each, str) else repo_from_json(each) for each in data["repos"])
    foreign = tuple(ForeignReport(**each) for each in data["foreign"])
    return CacheReport(**{**data, "repos": repos, "foreign": foreign, "problems": tuple(data["problems"])})


def repo_to_json(repo: RepoReport) -> dict[str, Any]:
    parts = {
        "partials": [_values(each) for each in repo.partials],
        "revisions": [_values(each) for each in repo.revisions],
        "memory": memory_to_json(repo.memory),
    }
    return _values(repo) | parts


def repo_from_json(data: dict[str, Any]) -> RepoReport:
    """The inverse; a repo without `memory` is read again by the next scan."""
    parts = {
        "partials": tuple(Partial(**each) for each in data["partials"]),
        "revisions": tuple(map(_revision_from_json, data["revisions"])),
        "problems": tuple(data["problems"]),
        "memory": memory_from_json(data.get("memory", {})),
    }
    return RepoReport(**{**data, **parts})


def _revision_from_json(data: dict[str, Any]) -> RevisionReport:
    return RevisionReport(**{**data, "refs": tuple(data["refs"]), "missing": tuple(data["missing"])})


def known_to_json(known: Known) -> dict[str, Any]:
    """Of the repos only what the scan compares and adds up: most of a report says what is in them."""
    return {
        folder: {
            "sizes": [repo.size_bytes, repo.physical_bytes],
            "partials": [_values(each) for each in repo.partials],
            "memory": memory_to_json(repo.memory),
        }
        for folder, repo in known.items()
    }


def known_from_json(data: dict[str, Any]) -> dict[str, RepoReport]:
    """Good for a scan to compare with, and for nothing else: what is not in it is empty."""
    return {folder: _outline(folder, each) for folder, each in data.items()}


def _outline(folder: str, data: dict[str, Any]) -> RepoReport:
    return RepoReport(
        repo_type="",
        repo_id="",
        folder=folder,
        size_bytes=data["sizes"][0],
        physical_bytes=data["sizes"][1],
        file_count=0,
        partials=tuple(Partial(**each) for each in data["partials"]),
        orphan_count=0,
        orphan_bytes=0,
        layout="",
        modified_at=0.0,
        revisions=(),
        problems=(),
        memory=memory_from_json(data["memory"]),
    )


_MARKS: dict[str, Any] = {
    "folders": FolderMark,
    "files": FileMark,
    "shared": SharedInode,
}


def memory_to_json(memory: Memory) -> dict[str, Any]:
    """Marks are lists without names, in the order of their fields: there are thousands of them."""
    marks = {name: list(map(_values_of(mark), getattr(memory, name))) for name, mark in _MARKS.items()}
    return _values(memory) | marks


def memory_from_json(data: dict[str, Any]) -> Memory:
    """Empty for the memory of another version, so that the repo is read again."""
    if data.keys() != set(_names_of(Memory)):
        return Memory()
    try:
        marks = {name: tuple(starmap(mark, data[name])) for name, mark in _MARKS.items()}
    except TypeError:  # a mark of more or fewer fields
        return Memory()
    return Memory(**{**data, **marks})


def _values(report: Any) -> dict[str, Any]:
    """The fields of one dataclass, not copied: what lies deeper is frozen too."""
    kind: Any = type(report)
    return dict(zip(_names_of(kind), _values_of(kind)(report), strict=True))


@cache
def _names_of(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


@cache
def _values_of(kind: type) -> Callable[[Any], tuple[Any, ...]]:
    return attrgetter(*_names_of(kind))
