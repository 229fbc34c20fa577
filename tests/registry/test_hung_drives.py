"""Drives that stop answering under a job: it waits or is tried again, what it started is there once at most, and nobody
else waits for it."""

import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cachemgr import errands
from cachemgr.models import Cache
from cachemgr.monitor import measure_caches
from cachemgr.services import sync_configured_caches
from registry import checkups, following, jobs, moves
from registry.models import Job, ModelRegistry
from tests.factories import age_tree, loadable_files
from tests.registry.downloading import REPO, is_intact, order_download, publish, run, running, wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.root]
WEIGHTS = 1_000_000


@pytest.fixture(autouse=True)
def impatience(monkeypatch, settings) -> Iterator[None]:
    monkeypatch.setattr(following, "STALL_SECONDS", 1.2)
    monkeypatch.setattr(errands, "STALL_SECONDS", 1.2)
    monkeypatch.setattr(errands, "_STOP_SECONDS", 0.2)
    settings.DISK_RESERVE_BYTES = 0
    yield
    wait_for(lambda: not workers())  # the drive is gone by now
    errands._collect_hanging()


@pytest.fixture
def nas(caches, settings, hung_drive):
    """The secondary cache lies on a drive that can hang."""
    settings.SECONDARY_CACHE_PATH = hung_drive.path
    Cache.objects.filter(location="secondary").update(path=str(hung_drive.path), uuid="")
    sync_configured_caches()
    measure_caches()
    return hung_drive


def put_model(cache: str, make_cached_repo, *, repo_id: str = REPO) -> ModelRegistry:
    age_tree(make_cached_repo(Path(cache), repo_id, files=loadable_files(weights=WEIGHTS)))
    measure_caches()
    return ModelRegistry.objects.get(hf_path=repo_id)


def workers() -> list[psutil.Process]:
    """The living children that do the work of jobs."""
    children = [each for each in psutil.Process().children() if each.status() != psutil.STATUS_ZOMBIE]
    return [each for each in children if {"registry.fetch", "cachemgr.hands"} & set(each.cmdline())]


def is_at(job: Job, *stages: str) -> bool:
    job.refresh_from_db()
    return job.stage in stages


def hang_while_it_works(nas, job: Job, *stages: str) -> None:
    with running(job):
        wait_for(lambda: is_at(job, *stages))
        nas.hang()
    assert (job.state, job.error_code, job.attempt) == ("queued", "stalled", 1), job.error_message
    assert len(workers()) <= 1


def wait_for_the_drive(job: Job) -> None:
    run(job)
    assert (job.state, job.error_code, job.attempt) == ("queued", "cache_unavailable", 1), job.error_message
    assert "did not answer" in job.error_message and len(workers()) <= 1


def go_on(nas, job: Job) -> None:
    nas.go_on()
    wait_for(lambda: not workers())
    assert run(job).state == "done", job.error_message
    assert job.model.status == "ready"


def test_a_download_waits_for_a_drive_that_hangs_and_goes_on_when_it_is_back(nas, hub, hub_repos) -> None:
    files = publish(hub_repos, weights=WEIGHTS)
    job = order_download(location="secondary")
    hub.faults.rate_bytes_per_second = WEIGHTS // 4
    hang_while_it_works(nas, job, "downloading")
    wait_for_the_drive(job)
    hub.hurry()
    go_on(nas, job)
    assert is_intact(nas.path, job, files)


@pytest.mark.parametrize("way", ["to", "from"])
def test_a_move_waits_for_a_drive_that_hangs_and_nothing_is_lost(way, nas, caches, make_cached_repo, settings) -> None:
    begins = nas.path if way == "from" else caches.primary.path
    model = put_model(begins, make_cached_repo)
    settings.TRANSFER_RATE_LIMIT_BYTES = WEIGHTS // 2
    job = moves.request_move(model, cache_location="primary" if way == "from" else "secondary")
    hang_while_it_works(nas, job, "copying", "verifying")
    wait_for_the_drive(job)
    settings.TRANSFER_RATE_LIMIT_BYTES = None
    go_on(nas, job)
    assert job.model.cache_location == ("primary" if way == "from" else "secondary")


def test_a_verification_waits_for_a_drive_that_hangs_and_says_nothing_bad_of_the_model(
    nas, make_cached_repo, settings
) -> None:
    model = put_model(nas.path, make_cached_repo)
    settings.TRANSFER_RATE_LIMIT_BYTES = WEIGHTS // 2
    job = checkups.request_verify(model)
    hang_while_it_works(nas, job, "verifying", "reading", "starting")
    wait_for_the_drive(job)
    settings.TRANSFER_RATE_LIMIT_BYTES = None
    go_on(nas, job)


def test_a_cancel_ends_a_job_on_a_drive_that_hangs_within_seconds(nas, hub, hub_repos) -> None:
    publish(hub_repos, weights=WEIGHTS)
    job = order_download(location="secondary")
    hub.faults.rate_bytes_per_second = WEIGHTS // 4
    with running(job) as thread:
        wait_for(lambda: is_at(job, "downloading"))
        nas.hang()
        jobs.cancel_job(job)
        thread.join(timeout=10)
        assert not thread.is_alive()
    assert job.state == "cancelled" and "is still there" in job.error_message and len(workers()) <= 1
    assert job.model.status == "registered"


def test_work_on_other_drives_goes_on_while_one_hangs(nas, caches, make_cached_repo, settings) -> None:
    hung = checkups.request_verify(put_model(nas.path, make_cached_repo))
    other = checkups.request_verify(put_model(caches.primary.path, make_cached_repo, repo_id="org/other"))
    nas.hang()
    with running(hung):
        began = time.monotonic()
        assert run(other).state == "done" and time.monotonic() - began < 5
    assert (hung.state, hung.error_code, hung.attempt) == ("queued", "cache_unavailable", 0) and not workers()
