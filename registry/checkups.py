"""Checking models against the bytes on their drives: on request, a few each night, and what to do about bad ones.

A file's promise is its digest: the name of its blob, what a move wrote down, or what the Hub says of the commit.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from cachemgr import locks, monitor, moving
from cachemgr.errors import ErrandFailed
from cachemgr.layout import repo_folder
from cachemgr.models import Cache
from cachemgr.units import GB
from registry import downloads, folders, services
from registry.errors import HubError, JobOpen, NotNow
from registry.estimates import ask_hub
from registry.following import Report, follow
from registry.models import Job, ModelRegistry
from registry.placing import known_repo

_LOCK_SECONDS = 5.0
_ONE_NIGHT = timedelta(hours=20)


@dataclass(frozen=True, slots=True)
class Checkup:
    """What a verification found. `bad` are files with the reason."""

    bad: tuple[dict[str, str], ...]
    next_file: str  # where the next one goes on, when the budget was used up before the end


# On request


def request_verify(model: ModelRegistry) -> Job:
    """Queues a reading of all its files. Raises NotNow, JobOpen."""
    if model.status not in {ModelRegistry.Status.READY, ModelRegistry.Status.FAILED}:
        raise NotNow(f"{model} is {model.status}: only files that are at hand can be verified.")
    return _queue(model, Job.Kind.VERIFY, {})


def request_repair(model: ModelRegistry) -> Job:
    """Queues the fetching of what is bad or missing, and of that alone. Raises NotNow, JobOpen."""
    if not model.revision:
        raise NotNow(f"{model} was never downloaded. Download it: POST /api/models/{model}/download.")
    return _queue(model, Job.Kind.REPAIR, {})


def _queue(model: ModelRegistry, kind: Job.Kind, options: dict[str, Any]) -> Job:
    cache = services.cache_of(model)
    place = {"target": cache} if kind == Job.Kind.REPAIR else {"source": cache}
    with folders.change(model, cache):
        job = Job.objects.create(kind=kind, model=model, options=options, bytes_total=model.size_bytes or 0, **place)
    transaction.on_commit(lambda: services.wake_worker(job))
    return job


# The work


def verify(job: Job, *, report: Report) -> None:
    """The work of a verify job. A bad file makes the model `failed`, and no engine loads it before it is repaired."""
    model, cache = job.model, services.cache_of(job.model)
    monitor.require_drive(cache)
    checkup = _read_all(job, cache=cache, report=report)
    if checkup.bad:
        folders.note_damaged(cache, model, checkup.bad)
        error = folders.describe_damage(model, checkup.bad)
        raise ErrandFailed(error, code="hash_mismatch", is_permanent=True, details={"bad": list(checkup.bad)})
    if checkup.next_file:
        ModelRegistry.objects.filter(pk=model.pk).update(verified_up_to=checkup.next_file)
    else:
        folders.note_whole(cache, model.hf_path, commit=model.revision)


def _read_all(job: Job, *, cache: Cache, report: Report) -> Checkup:
    model = job.model
    errand = moving.verify(
        cache,
        folder=repo_folder(model.hf_path),
        commit=model.revision,
        digests=_promised(model),
        after=job.options.get("after", ""),
        budget_bytes=job.options.get("budget_bytes"),
    )
    with locks.shared(cache.home_of(model.hf_path), wait_seconds=_LOCK_SECONDS):
        done = follow(errand, report=report)
    return Checkup(bad=tuple(done["bad"]), next_file=done.get("next", ""))


def _promised(model: ModelRegistry) -> dict[str, tuple[str, int]]:
    """What the Hub says of the commit, where the names of blobs do not tell; {} where it does not answer."""
    repo = known_repo(services.cache_of(model), model.hf_path)
    if repo is None or repo.layout in {"links", "shared"}:
        return {}
    try:
        snapshot = ask_hub(model.hf_path, revision=model.revision)
    except HubError:
        return {}
    return {file.name: (file.digest, file.size_bytes) for file in snapshot.files}


def repair(job: Job, *, report: Report) -> None:
    """The work of a repair job: the download of that very commit, which keeps what is whole."""
    downloads.download(job, report=report)


# At night


def scrub_tonight() -> list[Job]:
    """What of the night's bytes is left is spent. Asking again the same night spends nothing twice."""
    since = timezone.now() - _ONE_NIGHT
    tonight = Job.objects.filter(kind=Job.Kind.VERIFY, created_at__gte=since, options__has_key="budget_bytes")
    spent = sum(min(job.options["budget_bytes"], job.bytes_total) for job in tonight)
    return scrub(budget_bytes=round(settings.SCRUB_GB_PER_NIGHT * GB) - spent)


def scrub(*, budget_bytes: int) -> list[Job]:
    """Queues the reading of whoever was verified longest ago, as many bytes as that. A model that is larger than what
    is left of them goes on the next night where it stopped."""
    jobs, left = [], budget_bytes
    for model in _longest_unread():
        if left <= 0:
            break
        portion = {"after": model.verified_up_to, "budget_bytes": left}
        try:
            jobs.append(_queue(model, Job.Kind.VERIFY, portion))
        except JobOpen:
            continue
        left -= model.size_bytes or 0
    return jobs


def _longest_unread() -> QuerySet[ModelRegistry]:
    ready = ModelRegistry.objects.filter(status=ModelRegistry.Status.READY)
    return ready.order_by(F("verified_at").asc(nulls_first=True), "pk")
