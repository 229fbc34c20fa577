"""Downloading a model: a plan that can be shown, then a child process that fetches and verifies it."""

import logging
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction

from cachemgr import locks, monitor, trash
from cachemgr import services as caches
from cachemgr.errands import Errand, finish, place_of
from cachemgr.errors import ErrandFailed
from cachemgr.finding import find_contents
from cachemgr.layout import HOUSE_FOLDER, repo_folder
from cachemgr.models import Cache
from cachemgr.report import RevisionReport
from cachemgr.units import MB
from registry import folders, services
from registry.adoption import describe_revision, loadable_revision
from registry.download_plan import DownloadPlan, FilePlan, Findings, choose_ways, missing_weights
from registry.errors import HubError
from registry.estimates import ask_hub
from registry.following import Report, follow
from registry.hub import HubSnapshot
from registry.models import Job, ModelRegistry
from registry.placing import known_repo
from registry.remote_code import add_code

logger = logging.getLogger(__name__)

HUB_SECONDS = 30.0
_LOCK_SECONDS = 5.0


# The plan


def plan_download(model: ModelRegistry, *, revision: str = "", use_drives: bool = True) -> DownloadPlan:
    """Asks the drives and the Hub; changes nothing but the cache's measurement. `revision` is the wanted one if it is
    not given; without `use_drives`, all comes from the Hub. Nothing is read: of bad files it knows what the last
    verification found. Raises CacheUnavailable, HubError."""
    cache = services.cache_of(model)
    monitor.require_drive(cache, writable=True)
    monitor.measure_cache(cache)
    cache.refresh_from_db()
    ref = revision or model.wanted_revision
    snapshot = add_code(model, ask_hub(model.hf_path, revision=ref, wait_seconds=HUB_SECONDS))
    findings = replace(_look_around(cache, snapshot, use_drives=use_drives), bad=_known_bad(model))
    return DownloadPlan(cache, snapshot, ref, choose_ways(snapshot, cache=cache, findings=findings))


def _look_around(cache: Cache, snapshot: HubSnapshot, *, use_drives: bool) -> Findings:
    repo = known_repo(cache, snapshot.repo_id)
    lying = monitor.list_repo_files(cache, repo_id=snapshot.repo_id) or () if repo else ()
    sizes = missing_weights(snapshot, lying=lying) if use_drives else {}
    partials = {each["name"]: each["size_bytes"] for each in repo.partials} if repo else {}
    ours = {file.digest: partials.get(f"blobs/{file.digest}.incomplete", 0) for file in snapshot.contents}
    return Findings(lying, ours, find_contents(sizes, near=cache))


def _known_bad(model: ModelRegistry) -> set[str]:
    """Digests of contents that lie there, and are not what they have to be."""
    return {each.get("digest", "") for each in model.damaged if each["reason"] != "missing"}


# The work of a job


def download(job: Job, *, report: Report) -> None:
    """The work of a download job; of a repair too, which brings what is bad or missing of the very commit that lies
    there."""
    model = services.model_of(job)
    revision = model.revision if job.kind == Job.Kind.REPAIR else ""
    report(stage="planning", bytes_done=0, bytes_total=job.bytes_total)
    with locks.shared(services.home_of(model), wait_seconds=_LOCK_SECONDS):
        try:
            plan = _bring(model, plan_download(model, revision=revision), report=report)
        except ErrandFailed as error:
            if error.code != "source_failed":
                raise
            logger.warning("Job %s: %s", job.pk, error.message)
            plan = _bring(model, plan_download(model, revision=revision, use_drives=False), report=report)
    _settle(model, plan)


def clean_up(job: Job) -> None:
    """After one that ended early. Who cancels wants the room back; what failed is gone on with by the next one."""
    job.refresh_from_db(fields=["cancel_requested"])
    if not job.cancel_requested or job.started_at is None or job.target is None:
        return
    monitor.require_drive(job.target)
    finish(Errand("registry.fetch", {"forget": repo_folder(job.hf_path), "root": place_of(job.target)}))
    monitor.measure_cache(job.target)


def begin_again(job: Job) -> None:
    """What is ready stays usable while it is checked."""
    model = services.model_of(job)
    if model.status != ModelRegistry.Status.READY:
        model.mark(ModelRegistry.Status.DOWNLOADING)


def _bring(model: ModelRegistry, plan: DownloadPlan, *, report: Report) -> DownloadPlan:
    _book(model, plan)
    fetch(plan, report=report)
    return plan


def _book(model: ModelRegistry, plan: DownloadPlan) -> None:
    """The exact size takes the place of the estimate, before the first byte."""

    def write_down() -> None:
        measured = monitor.current_snapshot(plan.cache)
        with transaction.atomic():
            caches.book(plan.cache, booking_of(model, plan), measured=measured)
            ModelRegistry.objects.filter(pk=model.pk).update(model_size_mb=plan.snapshot.size_bytes / MB)

    trash.with_room(write_down)


def booking_of(model: ModelRegistry, plan: DownloadPlan) -> caches.Booking:
    return caches.Booking(
        model.owner_key,
        model.hf_path,
        required_bytes=plan.need.size_bytes,
        required_files=plan.need.file_count,
        replaced_bytes=plan.resumed_bytes,
        linked_bytes=plan.linked_bytes,
    )


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
        _note_ready(model, revision, cache=plan.cache)
        unproven = _left_unproven(model, plan)
        folders.note_whole(plan.cache, model.hf_path, commit=revision.commit, unproven=unproven)


def _left_unproven(model: ModelRegistry, plan: DownloadPlan) -> list[str]:
    """Files in that commit's folder that the Hub does not tell of: the download proves the others."""
    told = {file.name for file in plan.snapshot.files}
    return [name for name in model.unproven if model.revision == plan.snapshot.commit and name not in told]


def _note_ready(model: ModelRegistry, revision: RevisionReport, *, cache: Cache) -> None:
    """Where the row names another place by now, it is not: nothing came there. A scan leads it to its files."""
    ready = {"status": ModelRegistry.Status.READY, "error": "", "damaged": [], **describe_revision(revision)}
    row = ModelRegistry.objects.filter(pk=model.pk)
    if not row.in_folder(cache, model.hf_path).update(**ready):
        error = f"It was given another place while its files came into {cache.path}."
        logger.warning("%s: %s", model, error)
        row.filter(status=ModelRegistry.Status.DOWNLOADING).update(status=ModelRegistry.Status.MISSING, error=error)


# The child


def fetch(plan: DownloadPlan, *, report: Report) -> None:
    """Runs the child, which fetches and verifies."""
    errand = Errand("registry.fetch", _order(plan), environment=_environment(plan.cache))
    follow(errand, report=report, filling=[plan.cache])


def _order(plan: DownloadPlan) -> dict[str, Any]:
    return {
        "repo_id": plan.snapshot.repo_id,
        "commit": plan.snapshot.commit,
        "ref": plan.ref,
        "files": [asdict(file) for file in plan.snapshot.files],
        "sources": {each.file.digest: _source(each) for each in plan.files if each.source is not None},
        "root": place_of(plan.cache),
        "takes_links": plan.cache.takes_links is not False,
        "endpoint": settings.HF_ENDPOINT,
    }


def _source(each: FilePlan) -> dict[str, Any]:
    assert each.source is not None
    return place_of(each.source.cache) | {"name": each.source.name, "link_only": each.way == "link"}


def _environment(cache: Cache) -> dict[str, str]:
    """The library's side files go to the model's own drive: they must not fill the home drive."""
    kept = {
        name: os.environ[name]
        for name in ("PATH", "HOME", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "NO_PROXY")
        if name in os.environ
    }
    return kept | {
        "HF_HOME": str(Path(cache.path) / HOUSE_FOLDER / "hub"),
        "HF_TOKEN": settings.HF_TOKEN,
        "HF_HUB_DISABLE_XET": "1",  # its chunk cache is outside of our accounts
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONPATH": str(settings.BASE_DIR),
    }
