"""From what a scan found to rows of the registry: new models join, known ones become ready or missing."""

import logging
from collections.abc import Iterable
from typing import Any

from django.db import transaction

from cachemgr.layout import repo_folder
from cachemgr.models import Cache, CachedRepo
from cachemgr.scan import RevisionReport
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
        taken = {repo_folder(model.hf_path) for model in known}
        for folder, repo in repos.items():
            if folder not in taken and loadable_revision(repo):
                adopt(repo)


def _settle(model: ModelRegistry, repo: CachedRepo | None) -> None:
    revision = loadable_revision(repo, commit=model.revision) if repo else None
    if revision is not None:
        if model.status != ModelRegistry.Status.READY or model.revision != revision.commit:
            model.mark(ModelRegistry.Status.READY, **describe_revision(revision))
            release(model.owner_key)
    elif model.status == ModelRegistry.Status.READY:
        where = f"the {model.cache_location} cache"
        model.mark(ModelRegistry.Status.MISSING, error=f"Its files are not in {where}. Download it, or put them back.")


def adopt(repo: CachedRepo) -> ModelRegistry:
    """A row for a repo that lay in a cache. Its files stay where they are."""
    cache, revision = repo.cache, loadable_revision(repo)
    assert revision is not None
    is_custom = cache.location == Cache.Location.CUSTOM or not cache.is_configured
    model = ModelRegistry.objects.create(
        model_name=free_name(repo.repo_id),
        hf_path=repo.repo_id,
        cache_location=Cache.Location.CUSTOM if is_custom else cache.location,
        cache_path=cache.path if is_custom else None,
        status=ModelRegistry.Status.READY,
        **describe_revision(revision),
    )
    logger.info("Found %s in %s: it is now the model %s.", repo.repo_id, cache.path, model.model_name)
    return model


def free_name(repo_id: str) -> str:
    """The repo's name; with the org where that is taken; with a number where that is taken too."""
    org, _, name = repo_id.rpartition("/")
    full = f"{org}-{name}".strip("-")[:90]
    candidates = [name[:96], full, *(f"{full}-{number}" for number in range(2, 1000))]
    taken = set(ModelRegistry.objects.filter(model_name__in=candidates).values_list("model_name", flat=True)) | {
        "estimate"
    }
    return next(candidate for candidate in candidates if candidate not in taken)


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
