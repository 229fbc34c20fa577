"""Downloading a model: a plan that can be shown, then a child process that fetches and verifies it."""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from django.conf import settings
from django.db import transaction

from cachemgr import monitor
from cachemgr import services as caches
from cachemgr.errors import CacheUnavailable
from cachemgr.layout import HOUSE_FOLDER
from cachemgr.models import Cache
from cachemgr.units import MB
from registry import services
from registry.adoption import describe_revision, loadable_revision
from registry.errors import HubError
from registry.estimates import Size, ask_hub
from registry.hub import HubSnapshot
from registry.models import Job, ModelRegistry
from registry.placing import Need, known_repo, need_in

STALL_SECONDS = 60.0
HUB_SECONDS = 30.0
_MEASURE_EVERY_SECONDS = 30.0
_RATE_WINDOW_SECONDS = 5.0
_STOP_SECONDS = 3.0


class Report(Protocol):
    """Stores progress; raises when the work has to end."""

    def __call__(self, *, stage: str, bytes_done: int, bytes_total: int, rate: int = 0) -> None: ...


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
    """Runs the child, passes its progress on, and ends it when it stalls or when `report` raises."""
    child = _start_child(plan)
    try:
        _follow(child, plan, report=report)
    finally:
        _end_child(child)


def _end_child(child: "subprocess.Popen[str]") -> None:
    """Asks first: the child removes its partial files. One that hangs on a drive is killed."""
    child.terminate()
    try:
        child.wait(timeout=_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()


def _follow(child: "subprocess.Popen[str]", plan: DownloadPlan, *, report: Report) -> None:
    total, rate, stalls = plan.snapshot.size_bytes, Rate(), Watch()
    measured_at = time.monotonic()
    for line in _lines(child):
        if "error" in line:
            raise HubError(**line["error"])
        if "done" in line:
            return
        if "bytes" in line:
            stalls.see((line["stage"], line["bytes"]))
            rate.add(line["bytes"])
        report(stage=stalls.stage, bytes_done=min(stalls.count, total), bytes_total=total, rate=rate.per_second)
        if stalls.quiet_seconds > STALL_SECONDS:
            message = f"No byte came for {STALL_SECONDS:.0f} s. It is tried again."
            raise HubError(message, code="stalled", is_permanent=False)
        if time.monotonic() - measured_at > _MEASURE_EVERY_SECONDS:
            monitor.measure_cache(plan.cache)
            measured_at = time.monotonic()
    message = f"The downloader ended without a word (exit status {child.wait()}). It is tried again."
    raise HubError(message, code="downloader_died", is_permanent=False)


class Watch:
    """Remembers when the figures last changed."""

    def __init__(self) -> None:
        self.stage, self.count = "downloading", 0
        self.changed_at = time.monotonic()

    def see(self, figures: tuple[str, int]) -> None:
        if figures != (self.stage, self.count):
            self.stage, self.count = figures
            self.changed_at = time.monotonic()

    @property
    def quiet_seconds(self) -> float:
        return time.monotonic() - self.changed_at


class Rate:
    """Bytes per second over the last few seconds."""

    def __init__(self) -> None:
        self.points: list[tuple[float, int]] = []

    def add(self, count: int) -> None:
        now = time.monotonic()
        if self.points and count < self.points[-1][1]:
            self.points = []  # another stage counts from 0
        self.points = [*(point for point in self.points if now - point[0] <= _RATE_WINDOW_SECONDS), (now, count)]

    @property
    def per_second(self) -> int:
        if not self.points:
            return 0
        (first_at, first), (last_at, last) = self.points[0], self.points[-1]
        return round((last - first) / (last_at - first_at)) if last_at > first_at else 0


def _lines(child: "subprocess.Popen[str]") -> Iterator[dict[str, Any]]:
    """The child's lines, and {} for each second without one, so that the caller can look around."""
    arrived: queue.Queue[str | None] = queue.Queue()
    assert child.stdout is not None
    stdout = child.stdout

    def read() -> None:
        for text in stdout:
            arrived.put(text)
        arrived.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            text = arrived.get(timeout=1.0)
        except queue.Empty:
            yield {}
            continue
        if text is None:
            return
        yield json.loads(text)


def _start_child(plan: DownloadPlan) -> "subprocess.Popen[str]":
    order = {
        "repo_id": plan.snapshot.repo_id,
        "commit": plan.snapshot.commit,
        "ref": plan.ref,
        "files": [asdict(file) for file in plan.snapshot.files],
        "cache_path": plan.cache.path,
        "endpoint": settings.HF_ENDPOINT,
    }
    child = subprocess.Popen(
        [sys.executable, "-m", "registry.fetch"],
        cwd=settings.BASE_DIR,
        env=_child_environment(plan.cache),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    child.stdin.write(json.dumps(order) + "\n")
    child.stdin.flush()  # it stays open: when this process dies, the child reads its end and dies too
    return child


def _child_environment(cache: Cache) -> dict[str, str]:
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
