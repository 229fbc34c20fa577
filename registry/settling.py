"""Rows follow what scans see: ready where their files are, missing where nothing is. New models join (adoption.py), and
a row that points beside its files finds them (strays.py)."""

from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet

from cachemgr.errors import InvalidCachePath
from cachemgr.layout import repo_folder
from cachemgr.models import Cache, CachedRepo, TrashedRepo
from cachemgr.services import find_cache, keep
from homelab.waking import wake
from registry import strays
from registry.adoption import adopt, as_it_was, loadable_revision, mark_ready
from registry.folders import describe_damage
from registry.models import Job, ModelRegistry

_SETTLED = [ModelRegistry.Status.REGISTERED, ModelRegistry.Status.READY, ModelRegistry.Status.MISSING]
_IN_WORK = [ModelRegistry.Status.DOWNLOADING, ModelRegistry.Status.MOVING]  # while there is a job, it says how it ends
_IS_OPEN = Q(state__in=Job.OPEN)


def follow_measurement(*, cache: Cache, is_scanned: bool, **_: Any) -> None:
    """Receives cachemgr's `cache_measured`."""
    _make_named_caches()
    if is_scanned:
        reconcile(cache)
    else:
        why = f"Its drive ({cache.path}) is away or does not answer."
        ModelRegistry.objects.in_cache(cache).filter(status=ModelRegistry.Status.READY).update(
            status=ModelRegistry.Status.MISSING, error=why
        )


def reconcile(cache: Cache) -> None:
    """After a scan of that cache."""
    known, began = list(ModelRegistry.objects.in_cache(cache)), _began(cache)
    worked_on, gone = _worked_on_since(began), _gone_since(began, cache=cache)
    repos = {repo.folder: repo for repo in CachedRepo.objects.filter(cache=cache, repo_type="model")}
    seen = {folder: repo for folder, repo in repos.items() if folder not in gone}
    with transaction.atomic():
        for model in known:
            folder, is_worked_on = repo_folder(model.hf_path), model.hf_path in worked_on
            if model.status in _SETTLED or (model.status in _IN_WORK and not is_worked_on):
                _settle(model, seen.get(folder), may_miss=not is_worked_on and folder not in gone)
        folders = {repo_folder(model.hf_path) for model in known}
        adopt([repo for folder, repo in seen.items() if folder not in folders], cache=cache)
    strays.find_files(without=worked_on)


def _settle(model: ModelRegistry, repo: CachedRepo | None, *, may_miss: bool) -> None:
    """Where bytes are known to be bad, whole names do not make them good."""
    revision = loadable_revision(repo, commit=model.revision) if repo else None
    if model.damaged:
        error = describe_damage(model, model.damaged)
        as_it_was(model).update(status=ModelRegistry.Status.FAILED, error=error)
    elif repo is not None and revision is not None and not strays.is_being_copied(repo, revision):
        if model.status != ModelRegistry.Status.READY or model.revision != revision.commit:
            mark_ready(model, revision)
    elif may_miss and (lacking := _without_files(model, repo)):
        as_it_was(model).update(**lacking)


def _without_files(model: ModelRegistry, repo: CachedRepo | None) -> dict[str, Any]:
    """What its row has to say now; {} where it says so. A download that nobody does any more never was one."""
    if model.status == ModelRegistry.Status.DOWNLOADING and not model.revision:
        return {"status": ModelRegistry.Status.REGISTERED}
    if model.status in {ModelRegistry.Status.READY, *_IN_WORK}:
        return {"status": ModelRegistry.Status.MISSING, "error": _what_is_missing(model, repo)}
    return {}


def _what_is_missing(model: ModelRegistry, repo: CachedRepo | None) -> str:
    place = f"the {model.cache_location} cache"
    if repo is None:
        return f"Its files are not in {place}. Download it, or put them back."
    return f"Only a part of its files is in {place}. Download it, or put the others there."


def _began(cache: Cache) -> datetime:
    """When its last scan did."""
    latest = Cache.objects.select_related("latest").get(pk=cache.pk).latest
    assert latest is not None
    return latest.began_at


def _worked_on_since(moment: datetime) -> set[str]:
    """Repos that a job may have moved while the scan ran: it saw what was, and does not count for their rows."""
    return set(_jobs_since(moment).values_list("hf_path", flat=True))


def _gone_since(moment: datetime, *, cache: Cache) -> set[str]:
    """Folders that may have left the cache while the scan ran, for the trash or for another cache: what it saw of them
    does not count."""
    moves = _jobs_since(moment).filter(kind=Job.Kind.MOVE, committed=True, source=cache)
    moved = map(repo_folder, moves.values_list("hf_path", flat=True))
    return {*TrashedRepo.objects.gone_since(moment, cache=cache), *moved}


def _jobs_since(moment: datetime) -> QuerySet[Job]:
    return Job.objects.filter(_IS_OPEN | Q(finished_at__gte=moment))


def _make_named_caches() -> None:
    """A custom path that somebody wrote into a row by SQL becomes a cache, which is measured at once."""
    known = set(Cache.objects.values_list("path", flat=True))
    custom = ModelRegistry.objects.filter(cache_location=Cache.Location.CUSTOM)
    new = [model for model in custom if (model.cache_path or "").rstrip("/") not in known]
    made = [model for model in new if _make_cache(model)]
    if made:
        wake("cachemgr.tasks.measure_caches", expires=60, otherwise="New caches are measured after its return.")


def _make_cache(model: ModelRegistry) -> bool:
    try:
        keep(find_cache(model.cache_location, path=model.cache_path))
    except InvalidCachePath as error:
        if model.status == ModelRegistry.Status.READY:
            as_it_was(model).update(status=ModelRegistry.Status.MISSING, error=error.message)
        return False
    return True
