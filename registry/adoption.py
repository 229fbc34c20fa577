"""From what a scan found to rows of the registry: new models join, known ones become ready or missing."""

import logging
from collections.abc import Container, Iterable
from itertools import chain, count
from typing import Any

from django.db import transaction

from cachemgr.layout import repo_folder
from cachemgr.models import Cache, CachedRepo
from cachemgr.report import RevisionReport
from cachemgr.services import release
from cachemgr.units import MB
from registry.models import ModelRegistry

logger = logging.getLogger(__name__)

_SETTLED = [ModelRegistry.Status.REGISTERED, ModelRegistry.Status.READY, ModelRegistry.Status.MISSING]


def follow_measurement(*, cache: Cache, is_scanned: bool, **_: Any) -> None:
    """Receives cachemgr's `cache_measured`."""
    if is_scanned:
        reconcile(cache)
    else:
        why = f"Its drive ({cache.path}) is away or does not answer."
        ModelRegistry.objects.in_cache(cache).filter(status=ModelRegistry.Status.READY).update(
            status=ModelRegistry.Status.MISSING, error=why
        )


def reconcile(cache: Cache) -> None:
    repos = {repo.folder: repo for repo in CachedRepo.objects.filter(cache=cache, repo_type="model")}
    known = list(ModelRegistry.objects.in_cache(cache))
    with transaction.atomic():
        for model in known:
            if model.status in _SETTLED:
                _settle(model, repos.get(repo_folder(model.hf_path)))
        folders = {repo_folder(model.hf_path) for model in known}
        _adopt([repo for folder, repo in repos.items() if folder not in folders], cache=cache)


def _settle(model: ModelRegistry, repo: CachedRepo | None) -> None:
    revision = loadable_revision(repo, commit=model.revision) if repo else None
    if revision is not None:
        if model.status != ModelRegistry.Status.READY or model.revision != revision.commit:
            release(model.owner_key)
            model.mark(ModelRegistry.Status.READY, **describe_revision(revision))
    elif model.status == ModelRegistry.Status.READY:
        where = f"the {model.cache_location} cache"
        model.mark(ModelRegistry.Status.MISSING, error=f"Its files are not in {where}. Download it, or put them back.")


def _adopt(repos: Iterable[CachedRepo], *, cache: Cache) -> None:
    """A row for each loadable repo that lay in the cache. Their files stay where they are."""
    taken = set(ModelRegistry.objects.values_list("model_name", flat=True))
    models = []
    for repo in repos:
        revision = loadable_revision(repo)
        if revision is not None:
            name = free_name(repo.repo_id, taken=taken)
            taken.add(name)
            models.append(_found_model(repo, name=name, cache=cache, revision=revision))
    ModelRegistry.objects.bulk_create(models)
    for model in models:
        logger.info("Found %s in %s: it is now the model %s.", model.hf_path, cache.path, model.model_name)


def _found_model(repo: CachedRepo, *, name: str, cache: Cache, revision: RevisionReport) -> ModelRegistry:
    is_custom = cache.location == Cache.Location.CUSTOM or not cache.is_configured
    return ModelRegistry(
        model_name=name,
        hf_path=repo.repo_id,
        cache_location=Cache.Location.CUSTOM if is_custom else cache.location,
        cache_path=cache.path if is_custom else None,
        status=ModelRegistry.Status.READY,
        **describe_revision(revision),
    )


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
