"""From a repo that lies in a cache to a row of the registry: new models join, and a row tells of its revision."""

import logging
from collections.abc import Container, Iterable
from functools import cache as once
from itertools import chain, count
from typing import Any

from django.db import transaction
from django.db.models import Q

from cachemgr.models import Cache, CachedRepo
from cachemgr.report import RevisionReport
from cachemgr.services import release
from cachemgr.units import MB
from registry.models import ModelQuerySet, ModelRegistry

logger = logging.getLogger(__name__)

_HAS_FILES = Q(
    status__in=[
        ModelRegistry.Status.READY,
        ModelRegistry.Status.MOVING,
        ModelRegistry.Status.MISSING,
        ModelRegistry.Status.DOWNLOADING,
    ]
) | (Q(status=ModelRegistry.Status.FAILED) & ~Q(revision=""))


def adopt(repos: Iterable[CachedRepo], *, cache: Cache) -> None:
    """A row for each loadable repo that lay in the cache. Their files stay where they are.

    A second copy of a repo that a row has elsewhere is no second model: it is a spare, also while that one is away, is
    damaged or comes.
    """
    taken = set(ModelRegistry.objects.values_list("model_name", flat=True))
    served = dict(ModelRegistry.objects.filter(_HAS_FILES).values_list("hf_path", "model_name"))
    models = []
    for repo in repos:
        revision = loadable_revision(repo)
        if revision is not None and repo.repo_id in served:
            _mention_spare(repo.folder, cache_path=cache.path, model_name=served[repo.repo_id])
        elif revision is not None:
            name = free_name(repo.repo_id, taken=taken)
            taken.add(name)
            models.append(_found_model(repo, name=name, cache=cache, revision=revision))
    ModelRegistry.objects.bulk_create(models)
    for model in models:
        logger.info("Found %s in %s: it is now the model %s.", model.hf_path, cache.path, model.model_name)


@once
def _mention_spare(folder: str, *, cache_path: str, model_name: str) -> None:
    """Once in the life of a process: each scan sees it again."""
    logger.info("%s/%s is a spare copy: the model %s is served from elsewhere.", cache_path, folder, model_name)


def _found_model(repo: CachedRepo, *, name: str, cache: Cache, revision: RevisionReport) -> ModelRegistry:
    return ModelRegistry(
        model_name=name,
        hf_path=repo.repo_id,
        status=ModelRegistry.Status.READY,
        **place_columns(cache),
        **describe_revision(revision),
    )


def place_columns(cache: Cache) -> dict[str, Any]:
    """The columns of a row whose files are in this cache. A path that left `.env` is a custom one."""
    is_custom = cache.location == Cache.Location.CUSTOM or not cache.is_configured
    return {
        "cache_location": Cache.Location.CUSTOM if is_custom else cache.location,
        "cache_path": cache.path if is_custom else None,
    }


def free_name(repo_id: str, *, taken: Container[str]) -> str:
    """The repo's name; with the org where that is taken; with a number where that is taken too."""
    org, _, name = repo_id.rpartition("/")
    full = f"{org}-{name}".strip("-")[:90]
    candidates = chain([name[:96], full], (f"{full}-{number}" for number in count(2)))
    return next(each for each in candidates if each not in taken and each != "estimate")


def loadable_revision(repo: CachedRepo, *, commit: str = "") -> RevisionReport | None:
    """The one to load of what the last scan found."""
    return choose_loadable([RevisionReport(**each) for each in repo.revisions], commit=commit)


def choose_loadable(revisions: Iterable[RevisionReport], *, commit: str) -> RevisionReport | None:
    """The wanted commit if it can be loaded, else what `main` points to, else the first that can."""
    loadable = [revision for revision in revisions if revision.is_loadable]
    return min(loadable, key=lambda each: (each.commit != commit, "main" not in each.refs), default=None)


def describe_revision(revision: RevisionReport) -> dict[str, Any]:
    """The columns of a row whose files are this revision."""
    return {
        "revision": revision.commit,
        "model_size_mb": revision.size_bytes / MB,
        "metadata": revision.config,
    }


def mark_ready(model: ModelRegistry, revision: RevisionReport, **place: Any) -> bool:
    """Ready with what lies on a drive, at another place if one is given; its promise of space is over.

    False, and nothing is written, when its state or place is not what `model` says any more: a job or its owner was
    faster than the scan.
    """
    values = {"status": ModelRegistry.Status.READY, "error": "", **describe_revision(revision), **place}
    with transaction.atomic():
        is_written = as_it_was(model).update(**values) == 1
        if is_written:
            release(model.owner_key)
    return is_written


def as_it_was(model: ModelRegistry) -> ModelQuerySet:
    """Its row, as long as nobody changed its state or place since it was read."""
    read = {"status": model.status, "cache_location": model.cache_location, "cache_path": model.cache_path}
    return ModelRegistry.objects.filter(pk=model.pk, **read)
