"""Jobs outlive their model: what was done stays as history for a year, and nothing that is open is left behind."""

import io
import json
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from cachemgr import monitor, trash
from cachemgr.models import Reservation
from homelab.owner import owner_account
from registry import checkups, jobs, moves, removal, services
from registry.errors import NotNow
from registry.models import Job, ModelRegistry
from registry.tasks import forget_jobs
from tests.factories import loadable_files, make_cached_repo
from tests.registry.downloading import (
    litter,
    order_download,
    partial_of,
    publish,
    run,
    running,
    size_of,
    wait_for,
)
from tests.registry.test_moves import far  # noqa: F401  (a fixture)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def model(caches) -> ModelRegistry:
    make_cached_repo(Path(caches.primary.path), "org/m", files=loadable_files())
    monitor.measure_cache(caches.primary)
    ModelRegistry.objects.update(model_name="mine")
    return ModelRegistry.objects.get()


@pytest.fixture
def removed(model) -> list[Job]:
    """The jobs of a model that was checked and then removed, newest first."""
    jobs.cancel_job(checkups.request_verify(model))
    removal.remove(model)
    assert not ModelRegistry.objects.exists()
    return list(Job.objects.all())


def shell(*words: str) -> str:
    output = io.StringIO()
    call_command("jobs", *words, stdout=output)
    return output.getvalue()


# What is shown


def test_the_api_shows_what_was_done_to_a_model_that_is_gone_and_how_to_get_it_back(api, removed) -> None:
    told = [(each["kind"], each["state"], each["model"], each["hf_path"]) for each in api.get("/api/jobs").json()]
    assert told == [("remove", "done", "mine", "org/m"), ("verify", "cancelled", "mine", "org/m")]
    one = api.get(f"/api/jobs/{removed[0].pk}").json()
    assert (one["state"], one["trash"]) == ("done", trash.entries().get().pk)
    assert api.get(f"/api/jobs/{removed[1].pk}").json()["trash"] is None
    assert api.post(f"/api/cache/trash/{one['trash']}/restore").status_code == 204
    assert api.get(f"/api/jobs/{removed[0].pk}").json()["trash"] is None
    assert ModelRegistry.objects.get().model_name == "mine"


def test_what_was_emptied_from_the_trash_does_not_come_back(api, removed) -> None:
    trash.empty(trash.weigh_entries(trash.entries()))
    assert api.get(f"/api/jobs/{removed[0].pk}").json()["trash"] is None


def test_the_jobs_of_a_name_are_those_of_all_that_had_it(api, removed) -> None:
    def found(name: str) -> list[str]:
        return [each["kind"] for each in api.get(f"/api/jobs?model={name}").json()]

    assert found("mine") == ["remove", "verify"]
    services.request_download(ModelRegistry.objects.create(model_name="mine", hf_path="org/new"))
    assert found("mine") == ["download", "remove", "verify"] and found("org/new") == ["download"]
    assert api.get("/api/jobs?model=nobody").json()["error"]["code"] == "model_not_found"


def test_the_list_is_one_query_also_with_what_is_in_the_trash(api, removed, django_assert_num_queries) -> None:
    api.get("/api/jobs")
    with django_assert_num_queries(1):
        assert len(api.get("/api/jobs").json()) == 2


def test_the_shell_and_the_admin_show_it_too(removed) -> None:
    assert "remove mine" in shell() and "done" in shell("--model", "mine")
    assert json.loads(shell("--json", "--kind", "remove"))[0]["model"] == "mine"
    browser = Client()
    browser.force_login(owner_account())
    page = browser.get("/admin/registry/job/").content.decode()
    assert page.count("mine") >= 2
    assert browser.get(f"/admin/registry/job/{removed[0].pk}/change/").status_code == 200


def test_a_model_that_was_renamed_by_hand_has_its_new_name_here(model) -> None:
    job = checkups.request_verify(model)
    ModelRegistry.objects.update(model_name="renamed")
    assert json.loads(shell("--json"))[0]["model"] == "renamed" and str(Job.objects.get()).startswith("verify of rena")
    assert job.hf_path == "org/m"


# What is not there is not worked on


def test_a_job_is_not_tried_again_without_its_model(api, removed) -> None:
    answer = api.post(f"/api/jobs/{removed[1].pk}/retry")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_now")
    assert "its model mine was removed. Register org/m again." in answer.json()["error"]["message"]
    with pytest.raises(CommandError, match="was removed"):
        shell("--retry", str(removed[1].pk))
    assert Job.objects.get(pk=removed[1].pk).state == "cancelled"


def test_a_model_with_open_work_goes_through_none_of_our_doors(api, model) -> None:
    services.request_download(model)
    browser = Client()
    browser.force_login(owner_account())
    for files in ("trash", "keep"):
        assert api.delete(f"/api/models/mine?files={files}").json()["error"]["code"] == "job_open"
        with pytest.raises(CommandError, match="unfinished work"):
            call_command("remove", "mine", "--files", files)
        asked = {"action": "remove_selected", "_selected_action": model.pk, "files": files}
        assert "unfinished work" in browser.post("/admin/registry/modelregistry/", asked, follow=True).content.decode()
    assert ModelRegistry.objects.get() == model


# Where a model goes past our doors


def test_a_removal_whose_model_is_gone_already_is_done(model) -> None:
    job = removal._claim(model)
    ModelRegistry.objects.all().delete()
    Job.objects.update(lease_owner="elsewhere:1:boot.1", lease_expires_at=timezone.now() - timedelta(minutes=1))
    jobs.reconcile()
    assert jobs.run_job(job.pk) == "done" and Job.objects.get().title == "mine"


def test_work_that_waits_ends_with_its_model(model) -> None:
    waits = services.request_download(model)
    ModelRegistry.objects.all().delete()
    assert jobs.reconcile() == 1
    assert jobs.run_job(waits.pk) == "cancelled"


def test_a_download_that_runs_hears_of_it_and_leaves_nothing(caches, hub, hub_repos) -> None:
    files = publish(hub_repos, weights=4_000_000)
    hub.faults.rate_bytes_per_second = 1_000_000
    job = order_download()
    with running(job):
        wait_for(lambda: size_of(partial_of(caches.primary.path, files)) > 100_000)
        ModelRegistry.objects.all().delete()
    assert (job.state, job.error_code) == ("cancelled", "") and not litter(caches.primary.path)


def test_a_move_that_runs_takes_its_copy_back(model, caches, far, settings) -> None:  # noqa: F811
    settings.TRANSFER_RATE_LIMIT_BYTES = 200
    job = moves.request_move(model, cache_location="secondary")
    with running(job):
        wait_for(lambda: list(far.glob(".homelab/staging/*/part")))
        ModelRegistry.objects.all().delete()
    assert job.state == "cancelled" and not list(far.glob(".homelab/staging/*")) and not Reservation.objects.exists()
    assert (Path(caches.primary.path) / "models--org--m").is_dir()


def test_work_begun_without_a_model_fails_with_a_sentence(model) -> None:
    job = services.request_download(model)
    Job.objects.update(model=None)
    assert jobs.run_job(job.pk) == "failed"
    assert "its model mine was removed" in Job.objects.get().error_message


def test_whoever_needs_the_model_hears_that_it_is_gone(removed) -> None:
    with pytest.raises(NotNow, match="was removed"):
        services.model_of(removed[0])


# For how long


def test_what_ended_a_year_ago_is_forgotten_and_what_is_open_never_is(model) -> None:
    old = timezone.now() - timedelta(days=366)
    young = jobs.cancel_job(checkups.request_verify(model))
    ended = jobs.cancel_job(checkups.request_verify(model))
    waits = checkups.request_verify(model)
    Job.objects.filter(pk__in=[ended.pk, waits.pk]).update(finished_at=old, created_at=old)
    assert forget_jobs() == 1 and forget_jobs() == 0
    assert list(Job.objects.all()) == [waits, young]


def test_a_model_that_came_back_is_loaded_and_moved_as_before(removed, caches) -> None:
    trash.restore(trash.entries().get())
    back = ModelRegistry.objects.get()
    assert run(moves.request_move(back, cache_location="secondary")).state == "done"
