"""Removing models: their files go to the trash and come back, or stay; and whoever uses them is not disturbed."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from cachemgr import chores, locks, monitor, trash
from cachemgr.errors import RepoBusy
from cachemgr.models import Reservation, TrashedRepo
from cachemgr.wanted import wanted_in
from registry import jobs, removal, services
from registry.errors import JobOpen
from registry.job_stream import JobWatch
from registry.models import Job, ModelRegistry
from tests.factories import loadable_files, make_cached_repo

FOLDER = "models--org--m"


@pytest.fixture
def model(caches) -> ModelRegistry:
    """A model that was found in the primary cache, and used."""
    make_cached_repo(Path(caches.primary.path), "org/m", files=loadable_files(weights=100_000))
    monitor.measure_cache(caches.primary)
    used = {"model_name": "mine", "pinned": True, "use_count": 7, "last_used_at": datetime(2026, 1, 2, tzinfo=UTC)}
    ModelRegistry.objects.update(**used)
    return ModelRegistry.objects.get()


def repo_of(model: ModelRegistry) -> Path:
    return Path(services.cache_path_of(model)) / FOLDER


def error_code(answer) -> str:
    return answer.json()["error"]["code"]


# The door


def test_the_owner_is_asked_what_becomes_of_the_files(api, model) -> None:
    answer = api.delete("/api/models/mine")
    assert answer.status_code == 400 and error_code(answer) == "files_choice_needed"
    assert "files=trash" in answer.json()["error"]["message"] and "7 days" in answer.json()["error"]["message"]
    assert api.delete("/api/models/mine?files=burn").status_code == 400
    assert repo_of(model).is_dir() and ModelRegistry.objects.exists()


def test_a_dry_run_tells_to_the_byte_and_removes_nothing(api, model) -> None:
    (weight,) = chores.weigh(services.cache_of(model), [FOLDER])
    plan = api.delete("/api/models/mine?files=trash&dry_run=true").json()
    assert (plan["freed_bytes"], plan["size_bytes"]) == (weight.freed_bytes, weight.size_bytes)
    assert plan["has_files"] and not plan["is_busy"] and plan["shared_with"] == []
    assert repo_of(model).is_dir() and ModelRegistry.objects.exists()


def test_a_removed_model_comes_back_from_the_trash_as_it_was(api, model) -> None:
    before = ModelRegistry.objects.values().get()
    entry = api.delete("/api/models/mine?files=trash").json()
    assert entry["title"] == "mine" and entry["freed_bytes"] >= 100_000
    assert not repo_of(model).exists() and not ModelRegistry.objects.exists() and not Job.objects.open().exists()
    listed = api.get("/api/cache/trash").json()
    assert [each["id"] for each in listed["entries"]] == [entry["id"]]
    assert listed["freed_bytes"] == entry["freed_bytes"]
    monitor.measure_caches()
    assert not ModelRegistry.objects.exists()  # a scan finds nothing of it
    shown = api.post(f"/api/cache/trash/{entry['id']}/restore?dry_run=true")
    assert shown.json() == entry and shown.status_code == 200 and not repo_of(model).exists()
    assert api.post(f"/api/cache/trash/{entry['id']}/restore").status_code == 204
    after = ModelRegistry.objects.values().get()
    assert {**after, "id": 0, "created_at": 0} == {**before, "id": 0, "created_at": 0}
    assert repo_of(model).is_dir() and api.get("/api/cache/trash").json()["entries"] == []


def test_files_that_are_kept_stay_and_the_row_goes(api, model) -> None:
    assert api.delete("/api/models/mine?files=keep").status_code == 204
    assert repo_of(model).is_dir() and not ModelRegistry.objects.exists() and not TrashedRepo.objects.exists()


def test_the_files_alone_go_and_the_model_stays_registered(api, model) -> None:
    assert api.delete("/api/models/mine?files=keep&row=keep").status_code == 400
    entry = api.delete("/api/models/mine?files=trash&row=keep").json()
    assert not repo_of(model).exists() and ModelRegistry.objects.get().status == "registered"
    monitor.measure_caches()
    assert ModelRegistry.objects.get().status == "registered" and Job.objects.get().state == "done"
    assert api.post(f"/api/cache/trash/{entry['id']}/restore").status_code == 204
    after = ModelRegistry.objects.get()
    assert (after.pk, after.model_name, after.status, after.pinned) == (model.pk, "mine", "ready", True)


def test_a_row_that_stays_forgets_its_files_and_knows_them_again_with_them(model) -> None:
    """Bad files stay bad in the trash, and those of a new download are others."""
    bad = [{"name": "model.safetensors", "reason": "hash_mismatch"}]
    known = {"damaged": bad, "verified_up_to": "a", "verified_at": datetime(2026, 1, 3, tzinfo=UTC)}
    ModelRegistry.objects.update(status="failed", error="1 file is bad.", **known)
    model.refresh_from_db()
    before = ModelRegistry.objects.values().get()
    entry = removal.remove(model, keeps_row=True)
    row = ModelRegistry.objects.get()
    assert (row.status, row.error, row.revision, row.damaged) == ("registered", "", "", [])
    assert (row.verified_at, row.verified_up_to) == (None, "")
    trash.restore(entry)
    assert {**ModelRegistry.objects.values().get(), "error": ""} == {**before, "error": ""}


def test_a_model_without_files_needs_no_word_and_leaves_nothing_in_the_trash(api, caches) -> None:
    services.register(services.Wish("new", "org/new", cache_location="primary", estimated_bytes=10**6))
    assert api.delete("/api/models/new?files=trash").status_code == 204
    assert not ModelRegistry.objects.exists() and not Reservation.objects.exists()
    assert not TrashedRepo.objects.exists() and Job.objects.get().state == "done"


def test_the_trash_is_emptied_through_its_door_after_it_said_what_that_frees(api, model) -> None:
    entry = api.delete("/api/models/mine?files=trash").json()
    place = f"/api/cache/trash/{entry['id']}"
    preview = api.delete(f"{place}?dry_run=true").json()
    assert api.get(place).json()["title"] == "mine"
    assert api.delete(place).json() == preview and preview["freed_bytes"] >= entry["freed_bytes"]
    assert api.get("/api/cache/trash").json()["entries"] == []
    for answer in (api.delete(place), api.post(f"{place}/restore"), api.get(place)):
        assert answer.status_code == 404 and error_code(answer) == "trash_entry_not_found"


def test_a_model_does_not_come_back_over_another_one(api, model, caches) -> None:
    entry = api.delete("/api/models/mine?files=trash").json()
    make_cached_repo(Path(caches.primary.path), "org/m", files=loadable_files())
    for place in (f"/api/cache/trash/{entry['id']}/restore", f"/api/cache/trash/{entry['id']}/restore?dry_run=true"):
        answer = api.post(place)
        assert answer.status_code == 409 and error_code(answer) == "place_taken"
    assert len(api.get("/api/cache/trash").json()["entries"]) == 1


def test_a_name_that_was_taken_meanwhile_stays_with_its_new_model(api, model, caches) -> None:
    entry = api.delete("/api/models/mine?files=trash").json()
    services.register(services.Wish("mine", "org/new", cache_location="primary", estimated_bytes=10**6))
    assert api.post(f"/api/cache/trash/{entry['id']}/restore").status_code == 204
    assert dict(ModelRegistry.objects.values_list("model_name", "hf_path")) == {"mine": "org/new", "m": "org/m"}


# Who may not be disturbed


def test_files_that_another_model_uses_are_not_removed(api, model) -> None:
    ModelRegistry.objects.create(model_name="twin", hf_path="org/m", cache_location="primary", status="ready")
    answer = api.delete("/api/models/mine?files=trash")
    assert answer.status_code == 409 and error_code(answer) == "files_shared"
    assert "twin" in answer.json()["error"]["message"] and "files=keep" in answer.json()["error"]["message"]
    assert api.delete("/api/models/mine?files=keep").status_code == 204
    assert api.delete("/api/models/twin?files=trash").status_code == 200


def test_a_model_that_is_loaded_is_busy_and_is_served_on(api, model) -> None:
    with locks.shared(repo_of(model)):
        assert removal.plan_removal(model).is_busy
        answer = api.delete("/api/models/mine?files=trash")
    assert answer.status_code == 409 and error_code(answer) == "model_busy"
    assert repo_of(model).is_dir() and not Job.objects.open().exists()
    assert ModelRegistry.objects.get().status == "ready"


def test_a_model_with_open_work_is_not_removed(api, model) -> None:
    services.request_download(model)
    for files in ("trash", "keep"):
        answer = api.delete(f"/api/models/mine?files={files}")
        assert answer.status_code == 409 and error_code(answer) == "job_open"
    assert repo_of(model).is_dir()


def test_nobody_begins_work_on_a_model_while_it_is_removed(model) -> None:
    job = removal._claim(model)
    with pytest.raises(JobOpen):
        services.request_download(model)
    with pytest.raises(JobOpen):
        removal.remove(model)
    assert Job.objects.get() == job


def test_a_drive_that_is_away_is_an_honest_503_and_the_model_stays(api, model, caches) -> None:
    Path(caches.primary.path).rename(f"{caches.primary.path}-away")
    answer = api.delete("/api/models/mine?files=trash")
    assert answer.status_code == 503 and error_code(answer) == "cache_unavailable"
    assert ModelRegistry.objects.exists() and not Job.objects.open().exists() and not TrashedRepo.objects.exists()
    assert api.delete("/api/models/mine?files=keep").status_code == 204


def test_who_follows_jobs_hears_how_a_removal_ended(model) -> None:
    watch = JobWatch()
    with locks.shared(repo_of(model)), pytest.raises(RepoBusy):
        removal.remove(model)
    assert [(job.kind, job.state, job.error_code) for job in watch.changed()] == [("remove", "failed", "model_busy")]
    removal.remove(model, keeps_row=True)
    assert [(job.kind, job.state) for job in watch.changed()] == [("remove", "done")]
    job = removal._claim(model)
    assert watch.changed() == [job]
    removal.finish(job, report=lambda **_: None)
    job.close(Job.State.DONE)
    assert [(job.kind, job.state, job.title) for job in watch.changed()] == [("remove", "done", "mine")]


def test_a_removal_that_failed_is_tried_again_as_it_was_asked_for(model) -> None:
    with locks.shared(repo_of(model)), pytest.raises(RepoBusy):
        removal.remove(model, keeps_row=True)
    job = jobs.retry_job(Job.objects.get())
    assert jobs.run_job(job.pk) == "done" and not repo_of(model).exists()
    assert ModelRegistry.objects.get().status == "registered"


# What cleaning up must keep


def test_the_registry_tells_which_revisions_and_folders_are_wanted(model, caches) -> None:
    assert wanted_in(caches.primary).commits == {FOLDER: {"a" * 40}}
    ModelRegistry.objects.create(model_name="branch", hf_path="org/m", revision="b" * 40, wanted_revision="dev")
    ModelRegistry.objects.create(model_name="pinned", hf_path="org/m", revision="a" * 40, wanted_revision="c" * 40)
    assert wanted_in(caches.primary).commits == {FOLDER: {"a" * 40, "b" * 40, "c" * 40}}
    ModelRegistry.objects.create(model_name="any", hf_path="org/m")
    assert wanted_in(caches.primary).commits == {FOLDER: None}
    assert wanted_in(caches.secondary).commits == {}


def test_what_has_open_work_is_wanted_in_all_caches(model, caches) -> None:
    job = services.request_download(model)
    for cache in (caches.primary, caches.secondary):
        wanted = wanted_in(cache)
        assert wanted.busy_folders == {FOLDER} and wanted.open_jobs == {str(job.pk)}


# Room


def test_a_registration_that_does_not_fit_takes_the_room_of_the_trash(model, caches) -> None:
    """Nothing else would be lost, and the oldest goes first."""
    removal.remove(model)
    caches.primary.limit_bytes = 150_000
    caches.primary.save()
    services.register(services.Wish("new", "org/new", cache_location="primary", estimated_bytes=140_000))
    assert not trash.entries().exists()


def test_a_registration_that_does_not_fit_anyway_leaves_the_trash_alone(api, model, caches) -> None:
    removal.remove(model)
    caches.primary.limit_bytes = 150_000
    caches.primary.save()
    wish = {"model_name": "new", "hf_path": "org/new", "cache_location": "primary", "estimated_size_mb": 0.2}
    assert api.post("/api/models", wish, format="json").status_code == 507
    assert trash.entries().count() == 1


def test_busy_is_raised_by_the_service_too(model) -> None:
    with locks.shared(repo_of(model)), pytest.raises(RepoBusy):
        removal.remove(model)
    assert not TrashedRepo.objects.exists()
