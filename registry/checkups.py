"""Checking models against the bytes on their drives: on request, a few each night, and what to do about bad ones.

A file's promise is its digest: the name of its blob, what a move wrote down, or what the Hub says of the commit.
"""

from collections.abc import Iterable
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
from registry.download_plan import DownloadPlan
from registry.errors import Cancelled, HubError, JobOpen, NotNow
from registry.estimates import ask_hub
from registry.following import Report, follow
from registry.models import Job, ModelRegistry
from registry.placing import known_repo
from registry.remote_code import add_code

_LOCK_SECONDS = 5.0
_ONE_NIGHT = timedelta(hours=20)


@dataclass(frozen=True, slots=True)
class Checkup:
    """What a verification found. `bad` are files with the reason, `unproven` the names of those of which nobody knows
    the digest. It read what is behind `after`, up to `next_file`; "" are both ends. These two begin with the commit."""

    commit: str
    after: str
    file_count: int
    bad: tuple[dict[str, Any], ...]
    unproven: tuple[str, ...]
    next_file: str

    def unproven_after(self, before: Iterable[str]) -> list[str]:
        """What was read is known anew; of the files before and behind it, what was known still is."""
        return sorted({*self.unproven, *(name for name in before if not self._has_read(f"{self.commit}/{name}"))})

    def _has_read(self, key: str) -> bool:
        return self.after < key and (not self.next_file or key <= self.next_file)

    def describe(self) -> str:
        """ "" where all is proven."""
        files = "1 file" if self.file_count == 1 else f"{self.file_count} files"
        return f"Read {files}{folders.describe_unproven(self.unproven)}." if self.unproven else ""


# On request


def request_verify(model: ModelRegistry) -> Job:
    """Queues a reading of all its files. Raises NotNow, JobOpen."""
    refuse_not_at_hand(model)
    return _queue(model, Job.Kind.VERIFY, {})


def refuse_not_at_hand(model: ModelRegistry) -> None:
    """Raises NotNow."""
    if model.status not in {ModelRegistry.Status.READY, ModelRegistry.Status.FAILED}:
        raise NotNow(f"{model} is {model.status}: only files that are at hand can be verified.")


def plan_repair(model: ModelRegistry) -> DownloadPlan:
    """What a repair would do, as far as the last verification knows of bad files. Raises NotNow, CacheUnavailable,
    HubError."""
    _refuse_never_downloaded(model)
    return downloads.plan_download(model, revision=model.revision)


def request_repair(model: ModelRegistry) -> Job:
    """Queues the fetching of what is bad or missing, and of that alone. Raises NotNow, JobOpen."""
    _refuse_never_downloaded(model)
    return _queue(model, Job.Kind.REPAIR, {})


def _refuse_never_downloaded(model: ModelRegistry) -> None:
    if not model.revision:
        raise NotNow(f"{model} was never downloaded. Download it: POST /api/models/{model}/download.")


def _queue(model: ModelRegistry, kind: Job.Kind, options: dict[str, Any]) -> Job:
    cache = services.cache_of(model)
    place = {"target": cache} if kind == Job.Kind.REPAIR else {"source": cache}
    with folders.change(model, cache, is_nightly="budget_bytes" in options):
        job = Job.objects.create(kind=kind, model=model, options=options, bytes_total=model.size_bytes or 0, **place)
    transaction.on_commit(lambda: services.wake_worker(job))
    return job


def describe_reading(model: ModelRegistry) -> str:
    """When all of it was read, and what that could not tell."""
    if model.read_at is None:
        return "never"
    return f"all files, last on {model.read_at:%Y-%m-%d %H:%M} UTC{folders.describe_unproven(model.unproven)}"


# The work


def verify(job: Job, *, report: Report) -> None:
    """The work of a verify job. A bad file makes the model `failed`, and no engine loads it before it is repaired."""
    model = services.model_of(job)
    cache = services.cache_of(model)
    monitor.require_drive(cache)
    checkup = _read(model, _portion(job, model), cache=cache, report=report)
    with transaction.atomic():
        _write_down(job, checkup, model=model, cache=cache)
    if checkup.bad:
        error = folders.describe_damage(model, checkup.bad)
        raise ErrandFailed(error, code="hash_mismatch", is_permanent=True, details={"bad": list(checkup.bad)})


def _portion(job: Job, model: ModelRegistry) -> moving.Portion:
    """The files of another commit are others: they are read from the first."""
    after = str(job.options.get("after", ""))
    goes_on = after.startswith(f"{model.revision}/")
    return {"after": after if goes_on else "", "budget_bytes": job.options.get("budget_bytes")}


def _read(model: ModelRegistry, portion: moving.Portion, *, cache: Cache, report: Report) -> Checkup:
    folder, digests = repo_folder(model.hf_path), _promised(model)
    errand = moving.verify(cache, folder=folder, commit=model.revision, digests=digests, **portion)
    with locks.shared(cache.home_of(model.hf_path), wait_seconds=_LOCK_SECONDS):
        report(stage="starting", bytes_done=0, bytes_total=model.size_bytes or 0)  # or it made room, and the files went
        done = follow(errand, report=report)
    unproven = tuple(done["unknown"])
    return Checkup(model.revision, portion["after"], done["files"], tuple(done["bad"]), unproven, done["next"])


def _promised(model: ModelRegistry) -> dict[str, tuple[str, int]]:
    """What the Hub says of the commit, where the names of blobs do not tell. Where it does not answer, what bad files
    had to be when they were found: they are not better for that."""
    repo = known_repo(services.cache_of(model), model.hf_path)
    if repo is None or repo.layout in {"links", "shared"}:
        return {}
    try:
        snapshot = add_code(model, ask_hub(model.hf_path, revision=model.revision))
    except HubError:
        known = [each for each in model.damaged if each.get("size_bytes") is not None]
        return {each["name"]: (each["digest"], each["size_bytes"]) for each in known}
    return {file.name: (file.digest, file.size_bytes) for file in snapshot.files}


def _write_down(job: Job, checkup: Checkup, *, model: ModelRegistry, cache: Cache) -> None:
    """One that found nothing bad is done by that. Raises Cancelled where the job is not ours any more: whoever works
    there now knows better."""
    is_ours = job.renew() if checkup.bad else job.close(Job.State.DONE, error_message=checkup.describe())
    if not is_ours:
        raise Cancelled
    if checkup.bad:
        return folders.note_damaged(cache, model, checkup.bad)
    before = ModelRegistry.objects.filter(pk=model.pk).values_list("unproven", flat=True).first() or []
    unproven = checkup.unproven_after(before)
    if checkup.next_file:
        folders.note_part(cache, model, up_to=checkup.next_file, unproven=unproven)
    else:
        folders.note_whole(cache, model.hf_path, commit=model.revision, unproven=unproven)


def repair(job: Job, *, report: Report) -> None:
    """The work of a repair job: the download of that very commit, which keeps what is whole."""
    downloads.download(job, report=report)


# At night


def scrub_tonight() -> list[Job]:
    """What of the night's bytes is left is spent. Asking again the same night spends nothing twice."""
    since = timezone.now() - _ONE_NIGHT
    tonight = Job.objects.filter(folders.NIGHTLY, created_at__gte=since)
    spent = sum(min(job.options["budget_bytes"], job.bytes_total) for job in tonight)
    return scrub(budget_bytes=round(settings.SCRUB_GB_PER_NIGHT * GB) - spent)


def scrub(*, budget_bytes: int) -> list[Job]:
    """Queues the reading of whoever was read longest ago, as many bytes as that. A model that is larger than what
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
    return ready.order_by(F("read_at").asc(nulls_first=True), "pk")
