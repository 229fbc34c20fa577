"""Drives that stop answering: a job waits or is tried again, what it started is there once at most, and nobody else
waits for it. Who asks for something there in a request is answered within seconds."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.test import Client

from cachemgr import chores, drives, errands, trash
from cachemgr.models import Cache
from cachemgr.monitor import measure_caches
from cachemgr.services import sync_configured_caches
from homelab.owner import owner_account
from registry import checkups, following, jobs, moves
from registry.models import Job, ModelRegistry
from tests.factories import age_tree, loadable_files
from tests.processes import command_of, is_over
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
    drives._collect_killed()


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
    children = [each for each in psutil.Process().children() if not is_over(each)]
    return [each for each in children if {"registry.fetch", "cachemgr.hands"} & set(command_of(each))]


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


# In a request

SOON_SECONDS = 5.0


@pytest.fixture
def lying(nas, make_cached_repo, monkeypatch) -> dict[str, str | int]:
    """A model on the drive, and one in its trash; who works there is given up only after a minute."""
    model = put_model(nas.path, make_cached_repo)
    make_cached_repo(nas.path, "org/old", files=loadable_files())
    cache = Cache.objects.get(pk=Cache.objects.get(location="secondary").pk)
    (weight,) = chores.weigh(cache, ["models--org--old"])
    entry = trash.put(cache, folder="models--org--old", title="old", remembered={}, weight=weight)
    monkeypatch.setattr(errands, "STALL_SECONDS", 60.0)
    return {"model": f"/api/models/{model.model_name}", "entry": f"/api/cache/trash/{entry.pk}", "pk": entry.pk}


def answers_soon(call: Callable[..., Any], *wish: Any, **more: Any) -> Any:
    began = time.monotonic()
    answer = call(*wish, **more)
    assert time.monotonic() - began < SOON_SECONDS, wish
    assert not workers(), wish
    return answer


def test_what_is_asked_of_a_drive_that_hangs_is_refused_within_seconds(api, nas, lying) -> None:
    model, entry = lying["model"], lying["entry"]
    nas.hang()
    for call, path, wish in (
        (api.delete, f"{model}?files=trash", None),
        (api.delete, f"{model}?files=trash&dry_run=true", None),
        (api.post, f"{model}/move", {"cache_location": "primary"}),
        (api.post, f"{model}/move", {"cache_location": "primary", "dry_run": True}),
        (api.post, f"{model}/download", {"dry_run": True}),
        (api.post, f"{entry}/restore", None),
        (api.post, f"{entry}/restore?dry_run=true", None),
        (api.delete, entry, None),
        (api.delete, "/api/cache/trash?dry_run=true", None),
        (api.post, "/api/cache/adopt", {"cache_location": "secondary", "replace": True}),
    ):
        answer = answers_soon(call, path, wish, format="json")
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (503, "cache_unavailable"), (path, error)
        assert f"{nas.path} did not answer within 2 s" in error["message"], (path, error)
    assert ModelRegistry.objects.get().status == "ready" and trash.entries().count() == 1
    assert not Job.objects.exists()


def test_a_clean_up_passes_over_a_drive_that_hangs_and_says_so(api, nas, lying) -> None:
    nas.hang()
    for call, wish in ((api.get, None), (api.post, {"classes": ["orphans"]})):
        shown = answers_soon(call, "/api/cache/clean", wish, format="json").json()
        assert [f"{nas.path} did not answer" in cache["skipped"] for cache in shown["caches"]] == [False, True]


def test_pages_about_a_drive_that_hangs_come_within_seconds_and_say_so(nas, lying, db) -> None:
    browser = Client()
    browser.force_login(owner_account())
    models, removed = "/admin/registry/modelregistry/", "/admin/cachemgr/trashedrepo/"
    model = {"_selected_action": ModelRegistry.objects.get().pk, "action": "remove_selected"}
    entry = {"_selected_action": lying["pk"]}
    nas.hang()
    for call, path, wish in (
        (browser.get, "/settings/clean", {}),
        (browser.post, models, model),
        (browser.post, models, model | {"files": "trash"}),
        (browser.post, removed, entry | {"action": "restore_selected"}),
        (browser.post, removed, entry | {"action": "empty_selected"}),
    ):
        page = answers_soon(call, path, wish, follow=True)
        assert f"{nas.path} did not answer within 2 s" in page.content.decode(), (path, wish)
