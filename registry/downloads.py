"""Downloading a model: a plan that can be shown, then a child process that fetches and verifies it."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path

from django.conf import settings
from django.db import transaction

from cachemgr import monitor
from cachemgr import services as caches
from cachemgr.errands import Errand
from cachemgr.errors import CacheUnavailable
from cachemgr.layout import HOUSE_FOLDER
from cachemgr.models import Cache
from cachemgr.units import MB
from registry import services
from registry.adoption import describe_revision, loadable_revision
from registry.errors import HubError
from registry.estimates import Size, ask_hub
from registry.following import Report, follow
from registry.hub import HubSnapshot
from registry.models import Job, ModelRegistry
from registry.placing import Need, known_repo, need_in

HUB_SECONDS = 30.0


@dataclass(frozen=True)
class DownloadPlan:
    """What would be fetched, and where to. `replaced_bytes` of unfinished files lie there: they are removed first."""

    cache: Cache
    snapshot: HubSnapshot
    ref: str
    need: Need
    replaced_bytes: int


def plan_download(model: ModelRegistry) -> DownloadPlan:
    """Asks the drive and the Hub; changes nothing but the cache's measurement. Raises CacheUnavailable, HubError."""
    cache = services.cache_of(model)
    measured = monitor.measure_cache(cache)
    if measured.state != "ok":
        raise CacheUnavailable(f"{model} cannot be stored: {measured.message or measured.state}")
    snapshot = ask_hub(model.hf_path, revision=model.wanted_revision, wait_seconds=HUB_SECONDS)
    need = need_in(cache, model.hf_path, size=Size(snapshot.size_bytes, "hub", snapshot=snapshot))
    repo = known_repo(cache, model.hf_path)
    return DownloadPlan(cache, snapshot, model.wanted_revision, need, repo.partial_bytes if repo else 0)


def download(job: Job, *, report: Report) -> None:
    """The work of a download job."""
    model = job.model
    report(stage="planning", bytes_done=0, bytes_total=job.bytes_total)
    plan = plan_download(model)
    _book(model, plan)
    fetch(plan, report=report)
    _settle(model, plan)


def _book(model: ModelRegistry, plan: DownloadPlan) -> None:
    """The exact size takes the place of the estimate, before the first byte."""
    measured = monitor.current_snapshot(plan.cache)
    booking = caches.Booking(
        model.owner_key,
        model.hf_path,
        required_bytes=plan.need.size_bytes,
        required_files=plan.need.file_count,
        replaced_bytes=plan.replaced_bytes,
    )
    with transaction.atomic():
        caches.book(plan.cache, booking, measured=measured)
        ModelRegistry.objects.filter(pk=model.pk).update(model_size_mb=plan.snapshot.size_bytes / MB)


def _settle(model: ModelRegistry, plan: DownloadPlan) -> None:
    """Measured first, released after: the bytes are counted at every moment."""
    monitor.measure_cache(plan.cache)
    repo = known_repo(plan.cache, model.hf_path)
    revision = loadable_revision(repo, commit=plan.snapshot.commit) if repo else None
    if revision is None or revision.commit != plan.snapshot.commit:
        message = f"{model.hf_path} is downloaded, but cannot be loaded: config.json or whole safetensors are missing."
        raise HubError(message, code="not_loadable", is_permanent=True)
    with transaction.atomic():
        caches.release(model.owner_key)
        model.mark(ModelRegistry.Status.READY, **describe_revision(revision))


def fetch(plan: DownloadPlan, *, report: Report) -> None:
    """Runs the child, which fetches and verifies."""
    follow(_errand(plan), report=report, filling=[plan.cache])


def _errand(plan: DownloadPlan) -> Errand:
    order = {
        "repo_id": plan.snapshot.repo_id,
        "commit": plan.snapshot.commit,
        "ref": plan.ref,
        "files": [asdict(file) for file in plan.snapshot.files],
        "cache_path": plan.cache.path,
        "endpoint": settings.HF_ENDPOINT,
    }
    return Errand("registry.fetch", order, environment=_environment(plan.cache))


def _environment(cache: Cache) -> dict[str, str]:
    """The library's side files go to the model's own drive: they must not fill the home drive."""
    kept = {
        name: os.environ[name]
        for name in ("PATH", "HOME", "LANG", "SSL_CERT_FILE", "HTTPS_PROXY")
        if name in os.environ
    }
    return kept | {
        "HF_HOME": str(Path(cache.path) / HOUSE_FOLDER / "hub"),
        "HF_TOKEN": settings.HF_TOKEN,
        "HF_HUB_DISABLE_XET": "1",  # its chunk cache is outside of our accounts
        "HF_HUB_DISABLE_SHARED_BLOBS": "1",  # a repo's bytes stay in the repo's folder
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DOWNLOAD_TIMEOUT": "20",
        "PYTHONPATH": str(settings.BASE_DIR),
    }
