"""Room in caches, as the registry knows it: which models could leave, what is wanted, and which promises of space are
over."""

from collections import defaultdict
from typing import Any

from django.db.models import Q

from cachemgr.layout import COMMIT, repo_folder
from cachemgr.models import Cache, CachedRepo, Reservation
from cachemgr.services import release
from cachemgr.space import Candidate
from cachemgr.wanted import Wanted
from registry.models import Job, ModelRegistry


def offer_room(*, cache: Cache, **_: Any) -> list[Candidate]:
    """Receives cachemgr's `room_wanted`: the models whose folder nobody holds there. A folder counts once, by the row
    that used it last; a pinned row or one with open work holds it."""
    by_folder: dict[str, list[ModelRegistry]] = defaultdict(list)
    for model in ModelRegistry.objects.in_cache(cache):
        by_folder[repo_folder(model.hf_path)].append(model)
    held = _held_folders(by_folder)
    repos = CachedRepo.objects.filter(cache=cache, folder__in=by_folder.keys() - held)
    sizes = repos.values_list("folder", "size_bytes").order_by("folder")
    return [_candidate(by_folder[folder], size_bytes=size_bytes) for folder, size_bytes in sizes]


def _held_folders(by_folder: dict[str, list[ModelRegistry]]) -> set[str]:
    busy = set(Job.objects.open().values_list("model_id", flat=True))
    return {
        folder
        for folder, models in by_folder.items()
        if any(model.pinned or model.pk in busy or model.status != ModelRegistry.Status.READY for model in models)
    }


def _candidate(models: list[ModelRegistry], *, size_bytes: int) -> Candidate:
    used = [model for model in models if model.last_used_at]
    latest = max(used, key=lambda model: model.last_used_at or model.created_at, default=models[0])
    return Candidate(latest.model_name, size_bytes, latest.last_used_at, latest.cache_location)


def tell_wanted(*, cache: Cache, **_: Any) -> Wanted:
    """Receives cachemgr's `wanted_asked`. A model that is not tied to a commit may be served from any that lies there.
    What has open work is left alone in all caches: a move has two of them."""
    commits: dict[str, frozenset[str] | None] = {}
    for model in ModelRegistry.objects.in_cache(cache):
        folder = repo_folder(model.hf_path)
        before = commits.get(folder, frozenset())
        own = _commits_of(model)
        commits[folder] = None if own is None or before is None else before | own
    jobs = list(Job.objects.open())
    busy = frozenset(repo_folder(job.hf_path) for job in jobs)
    return Wanted(commits, busy_folders=busy, open_jobs=frozenset(str(job.pk) for job in jobs))


def _commits_of(model: ModelRegistry) -> frozenset[str] | None:
    named = {model.revision, model.wanted_revision}
    return frozenset(filter(COMMIT.fullmatch, named)) if model.revision else None


def owner_of(job: Job) -> str:
    """The job's name in the cache manager's reservations."""
    return f"job:{job.pk}"


def end_stale_promises(**_: Any) -> None:
    """Receives cachemgr's `cache_measured`. A promise ends with its model or job: also with a model that SQL by hand
    removed, or whose files came in another way, and with a job whose worker wrote it down after its end. The owners are
    read first: whoever is written down with a promise comes in the same transaction."""
    kinds = Q(owner__startswith="model:") | Q(owner__startswith="job:")
    owners = set(Reservation.objects.filter(kinds).values_list("owner", flat=True))
    if not owners:
        return
    is_busy = Q(pk__in=Job.objects.open().values("model"))
    waiting = ModelRegistry.objects.filter(~Q(status=ModelRegistry.Status.READY) | is_busy)
    kept = {model.owner_key for model in waiting} | {owner_of(job) for job in Job.objects.open()}
    for owner in owners - kept:
        release(owner)
