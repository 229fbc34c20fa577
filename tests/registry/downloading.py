"""What the tests of downloads share: one model on a real hub, its job, and ways to end what runs."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from django.db import connections
from django.utils import timezone

from registry import jobs, services
from registry.models import Job
from tests.factories import blob_name, loadable_files, write_hub_repo
from tests.processes import command_of

REPO = "org/model.v1"
FOLDER = "models--org--model.v1"
WEIGHTS_FILE = "model.safetensors"


def publish(hub_repos: Path, *, weights: int, repo_id: str = REPO, **more: bytes) -> dict[str, bytes]:
    """A model on the hub. Answers its files."""
    files = loadable_files(weights=weights) | {"tokenizer.json": b"{}"} | more
    write_hub_repo(hub_repos, repo_id, files=files)
    return files


def order_download(*, name: str = "m", repo_id: str = REPO, location: str = "primary") -> Job:
    """The queued job of a model that is registered for it."""
    return services.request_download(services.register(services.Wish(name, repo_id, cache_location=location)).model)


def run(job: Job) -> Job:
    """Now, also where it has to wait for its time."""
    make_due(job)
    jobs.run_job(job.pk)
    read_again(job)
    return job


def read_again(job: Job) -> None:
    """And its model, where that is still there."""
    job.refresh_from_db()
    if job.model is not None:
        job.model.refresh_from_db()


def make_due(job: Job) -> None:
    Job.objects.filter(pk=job.pk, state="queued").update(not_before=timezone.now())


@contextmanager
def running(job: Job) -> Iterator[threading.Thread]:
    """In a thread, as a worker has it; the block ends when it does."""

    def work() -> None:
        jobs.run_job(job.pk)
        connections.close_all()

    make_due(job)
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(timeout=30)
        read_again(job)
    assert not thread.is_alive()


def wait_for(condition: Callable[[], Any], *, seconds: float = 15) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return found


def downloaders() -> list[psutil.Process]:
    """The living children that download."""
    return [each for each in psutil.Process().children() if "registry.fetch" in command_of(each)]


def weights_name(files: dict[str, bytes]) -> str:
    """Of the blob."""
    return blob_name(WEIGHTS_FILE, files[WEIGHTS_FILE])


def partial_of(cache: Path | str, files: dict[str, bytes]) -> Path:
    return Path(cache) / FOLDER / "blobs" / f"{weights_name(files)}.incomplete"


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def litter(cache: Path | str) -> list[Path]:
    return [*Path(cache).rglob("*.incomplete")]


def free_bytes(path: Path | str) -> int:
    figures = os.statvfs(path)
    return figures.f_bavail * figures.f_frsize


def is_intact(cache: Path | str, job: Job, files: dict[str, bytes]) -> bool:
    """Byte by byte, as a loader would find them."""
    snapshot = Path(cache) / FOLDER / "snapshots" / job.model.revision
    return all((snapshot / name).read_bytes() == content for name, content in files.items())
