"""A scan ends what nobody works on any more, and does not believe what it saw too early."""

from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from cachemgr.models import CachedRepo, Reservation, TrashedRepo
from cachemgr.monitor import measure_cache, measure_caches
from registry.models import Job, ModelRegistry
from registry.settling import reconcile
from tests.factories import loadable_files, make_cached_repo

pytestmark = pytest.mark.django_db
FOLDER = "models--org--m"


def add_job(model: ModelRegistry, **values) -> Job:
    return Job.objects.create(kind="move", model=model, **values)


@pytest.mark.parametrize("status", ["moving", "downloading"])
def test_a_row_whose_work_is_gone_is_what_its_files_are(model, caches, status) -> None:
    ModelRegistry.objects.update(status=status)
    job = add_job(model, state="running")
    measure_caches()
    model.refresh_from_db()
    assert model.status == status
    Job.objects.filter(pk=job.pk).update(state="cancelled", finished_at=timezone.now() - timedelta(hours=1))
    measure_caches()
    model.refresh_from_db()
    assert model.status == "ready"
    ModelRegistry.objects.update(status=status, cache_location="secondary")
    CachedRepo.objects.all().delete()
    measure_cache(caches.secondary)
    model.refresh_from_db()
    assert model.status == "missing" and "are not in the secondary cache" in model.error


def test_a_download_that_nobody_does_any_more_never_was_one(caches) -> None:
    ModelRegistry.objects.create(model_name="m", hf_path="org/m", status="downloading")
    measure_caches()
    assert ModelRegistry.objects.get().status == "registered"


def test_a_scan_that_began_before_a_repo_went_to_the_trash_brings_no_model_back(model, caches) -> None:
    ModelRegistry.objects.all().delete()
    kept = ModelRegistry.objects.create(model_name="kept", hf_path="org/m")
    entry = TrashedRepo.objects.create(cache=caches.primary, name="x", folder=FOLDER, title="m", state="trashed")
    reconcile(caches.primary)
    kept.refresh_from_db()
    assert kept.status == "registered"
    kept.delete()
    reconcile(caches.primary)
    assert not ModelRegistry.objects.exists()
    TrashedRepo.objects.filter(pk=entry.pk).update(removed_at=timezone.now() - timedelta(hours=1))
    reconcile(caches.primary)
    assert ModelRegistry.objects.get().model_name == "m"


def test_a_scan_that_began_before_a_move_left_the_source_makes_no_row_there_ready(model, caches) -> None:
    ModelRegistry.objects.update(cache_location="secondary")
    job = add_job(model, source=caches.primary, target=caches.secondary, committed=True, state="running")
    late = ModelRegistry.objects.create(model_name="late", hf_path="org/m")
    reconcile(caches.primary)
    late.refresh_from_db()
    assert late.status == "registered"
    Job.objects.filter(pk=job.pk).update(state="done", finished_at=timezone.now() - timedelta(hours=1))
    reconcile(caches.primary)
    late.refresh_from_db()
    assert late.status == "ready"


def test_what_a_move_is_leaving_is_no_new_model_also_where_its_own_is_gone(model, caches) -> None:
    job = add_job(model, source=caches.primary, target=caches.secondary, committed=True, state="running")
    model.delete()
    reconcile(caches.primary)
    assert not ModelRegistry.objects.exists()
    Job.objects.filter(pk=job.pk).update(state="done", finished_at=timezone.now() - timedelta(hours=1))
    reconcile(caches.primary)
    assert ModelRegistry.objects.get().hf_path == "org/m"


@pytest.mark.parametrize("status", ["failed", "downloading"])
def test_a_spare_copy_is_no_second_model_while_the_first_is_damaged_or_comes(model, caches, status) -> None:
    add_job(model, state="running")
    ModelRegistry.objects.update(status=status, damaged=[{"name": "x", "reason": "wrong_hash"}])
    make_cached_repo(Path(caches.secondary.path), "org/m", files=loadable_files())
    measure_caches()
    assert ModelRegistry.objects.count() == 1


def test_a_promise_ends_with_its_job(model, caches) -> None:
    job = add_job(model, state="running")
    ModelRegistry.objects.update(status="moving")
    for owner in (f"job:{job.pk}", "job:999999"):
        promise = {"owner": owner, "folder": FOLDER, "total_bytes": 5, "remaining_bytes": 5}
        Reservation.objects.create(cache=caches.secondary, **promise)
    measure_cache(caches.secondary)
    assert list(Reservation.objects.values_list("owner", flat=True)) == [f"job:{job.pk}"]
