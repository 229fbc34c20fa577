"""What of a cache is wanted. The cache manager knows no models and no jobs, so it asks whoever listens above."""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Model
from django.dispatch import Signal

wanted_asked = Signal()
"""Sent with `cache`. A receiver answers a Wanted."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """`commits` are those in use, by repo folder; None: all that lie there. `busy_folders` have unfinished work,
    `open_jobs` are the names that it has in the staging folder."""

    commits: Mapping[str, Set[str] | None] = field(default_factory=dict)
    busy_folders: frozenset[str] = frozenset()
    open_jobs: frozenset[str] = frozenset()

    def as_order(self) -> dict[str, Any]:
        return {
            "commits": {folder: None if each is None else sorted(each) for folder, each in self.commits.items()},
            "busy_folders": sorted(self.busy_folders),
            "open_jobs": sorted(self.open_jobs),
        }


def wanted_in(cache: Model) -> Wanted:
    answers: list[tuple[Any, Any]] = wanted_asked.send(sender=type(cache), cache=cache)
    found: list[Wanted] = [wanted for _, wanted in answers]
    return Wanted(
        commits=_merged(each.commits for each in found),
        busy_folders=frozenset().union(*(each.busy_folders for each in found)),
        open_jobs=frozenset().union(*(each.open_jobs for each in found)),
    )


def _merged(answers: Iterable[Mapping[str, Set[str] | None]]) -> dict[str, Set[str] | None]:
    merged: dict[str, Set[str] | None] = {}
    for commits in answers:
        for folder, each in commits.items():
            before = merged.get(folder, frozenset())
            merged[folder] = None if each is None or before is None else before | each
    return merged
