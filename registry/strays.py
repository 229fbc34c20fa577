"""Rows that point where nothing is, while their files lie elsewhere: what a `cp`, a `mv` or SQL by hand leaves behind.

1. The named drive answers and has nothing of the repo: the row follows the files, the same commit first.
2. The drive is away, or has a part of the repo: the row stays missing, and says where a whole copy is.
"""

import logging
from collections.abc import Container, Iterable
from dataclasses import dataclass
from datetime import timedelta

from django.utils import timezone

from cachemgr.drive_report import ANSWERING
from cachemgr.layout import repo_folder
from cachemgr.models import Cache, CachedRepo
from cachemgr.monitor import look_up_repo
from cachemgr.report import RevisionReport
from registry.adoption import as_it_was, choose_loadable, loadable_revision, mark_ready, place_columns
from registry.models import ModelRegistry

logger = logging.getLogger(__name__)

_COPIED_LATELY = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Copy:
    """A whole revision of a repo, in a cache that the last scan could read."""

    cache: Cache
    revision: RevisionReport


def find_files(*, without: Container[str]) -> None:
    """Looks after all missing models but those of these repos, which jobs look after."""
    missing = ModelRegistry.objects.filter(status=ModelRegistry.Status.MISSING)
    models = [model for model in missing if model.hf_path not in without]
    repos = _repos_named({repo_folder(model.hf_path) for model in models})
    for model in models:
        lying = [repo for repo in repos if repo.folder == repo_folder(model.hf_path)]
        copies = _copies(lying, commit=model.revision)
        home = _home(model)
        if copies and home is not None and answers(home) and all(repo.cache_id != home.pk for repo in lying):
            _follow(model, home=home, copy=copies[0])
        elif copies:
            _mention(model, copies[0])


def is_being_copied(repo: CachedRepo, revision: RevisionReport) -> bool:
    """True for a folder that somebody fills by hand: it was written to lately, and lacks bytes that another copy of the
    same commit has. Under its final name a file may be half there."""
    if repo.modified_at is None or abs(timezone.now() - repo.modified_at) > _COPIED_LATELY:
        return False
    others = [other for other in _repos_named({repo.folder}) if other.pk != repo.pk and other.layout == repo.layout]
    twins = [RevisionReport(**each) for other in others for each in other.revisions]
    return any(twin.commit == revision.commit and twin.size_bytes > revision.size_bytes for twin in twins)


def _repos_named(folders: Iterable[str]) -> list[CachedRepo]:
    return list(CachedRepo.objects.filter(folder__in=folders).select_related("cache__latest").order_by("cache_id"))


def _copies(repos: Iterable[CachedRepo], *, commit: str) -> list[Copy]:
    """Those of the wanted commit first."""
    revisions = [(repo, loadable_revision(repo, commit=commit)) for repo in repos if answers(repo.cache)]
    copies = [Copy(repo.cache, found) for repo, found in revisions if found and not is_being_copied(repo, found)]
    return sorted(copies, key=lambda copy: copy.revision.commit != commit)


def _home(model: ModelRegistry) -> Cache | None:
    """The cache that the row names, if it was ever measured."""
    named = Cache.objects.select_related("latest")
    if model.cache_location == Cache.Location.CUSTOM:
        return named.filter(path=(model.cache_path or "").rstrip("/")).first()
    return named.filter(location=model.cache_location, is_configured=True).first()


def answers(cache: Cache) -> bool:
    """By its last measurement."""
    return cache.latest is not None and cache.latest.figures_at is not None and cache.latest.state in ANSWERING


def _follow(model: ModelRegistry, *, home: Cache, copy: Copy) -> None:
    """Both drives are asked again: a scan can be minutes old."""
    left = look_up_repo(home, repo_id=model.hf_path).contents
    lying = look_up_repo(copy.cache, repo_id=model.hf_path).contents
    if left is None or left.repos or lying is None:
        return
    found = [revision for repo in lying.repos for revision in repo.revisions]
    revision = choose_loadable(found, commit=copy.revision.commit)
    if revision is not None and mark_ready(model, revision, **place_columns(copy.cache)):
        logger.warning(
            "The files of %s are in %s and not in %s, which its row named: the row follows them.",
            model,
            copy.cache.path,
            home.path,
        )


def _mention(model: ModelRegistry, copy: Copy) -> None:
    hint = f"A whole copy of it is in {copy.cache.path}."
    if hint not in model.error:
        as_it_was(model).update(error=f"{model.error} {hint}".strip())
