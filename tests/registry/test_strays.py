"""What a `cp`, a `mv` or SQL by hand leaves behind is put right by the next scan: rows point where files really are."""

import os
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone

from cachemgr.models import Cache, CachedRepo, Reservation
from cachemgr.monitor import measure_cache, measure_caches
from cachemgr.services import sync_configured_caches
from registry.adoption import loadable_revision, mark_ready
from registry.locating import locate
from registry.models import Job, ModelRegistry
from registry.settling import reconcile
from tests.factories import loadable_files, make_cached_repo

pytestmark = pytest.mark.django_db

FOLDER = "models--org--m"


def sql(location: str, path: str | None = None) -> None:
    """As the user's guide has it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE modelregistry SET cache_location = %s, cache_path = %s WHERE model_name = 'm'", [location, path]
        )


def copy(source: Cache, target: Cache) -> Path:
    subprocess.run(["cp", "-r", f"{source.path}/{FOLDER}", target.path], check=True)
    return Path(target.path) / FOLDER


def add_job(model: ModelRegistry, **values) -> Job:
    return Job.objects.create(kind="move", model=model, **values)


def state_of(model: ModelRegistry) -> tuple[str, str, str]:
    model.refresh_from_db()
    return model.cache_location, model.status, model.error


def test_the_users_sql_after_the_copy_stands(caches, model) -> None:
    copied = copy(caches.primary, caches.secondary)
    sql("secondary", "/mnt/z/llm-models-cache")
    measure_caches()
    assert state_of(model) == ("secondary", "ready", "")
    assert locate(model).snapshot_path.is_relative_to(copied)
    shutil.rmtree(Path(caches.primary.path) / FOLDER)
    measure_caches()
    assert state_of(model) == ("secondary", "ready", "")


def test_a_row_that_was_changed_and_never_copied_follows_its_files_back(caches, model, caplog) -> None:
    sql("secondary", "/mnt/z/llm-models-cache")
    measure_caches()
    assert state_of(model) == ("primary", "ready", "") and model.cache_path is None
    assert f"The files of m are in {caches.primary.path} and not in {caches.secondary.path}" in caplog.text


def test_files_that_were_moved_by_hand_take_their_row_along(caches, model) -> None:
    shutil.move(f"{caches.primary.path}/{FOLDER}", caches.secondary.path)
    measure_caches()
    assert state_of(model) == ("secondary", "ready", "") and ModelRegistry.objects.count() == 1


def test_the_row_prefers_a_copy_of_the_same_commit(caches, model, tmp_path) -> None:
    sql("custom", str(tmp_path / "usb"))
    (tmp_path / "usb").mkdir()
    shutil.rmtree(Path(caches.primary.path) / FOLDER)
    make_cached_repo(Path(caches.primary.path), "org/m", files=loadable_files(), commit="b" * 40)
    make_cached_repo(Path(caches.secondary.path), "org/m", files=loadable_files(), commit="a" * 40)
    measure_caches()
    measure_caches()
    assert state_of(model) == ("secondary", "ready", "") and model.revision == "a" * 40


def test_another_commit_is_better_than_none(caches, model) -> None:
    sql("secondary")
    shutil.rmtree(Path(caches.primary.path) / FOLDER)
    make_cached_repo(Path(caches.primary.path), "org/m", files=loadable_files(), commit="b" * 40)
    measure_caches()
    assert state_of(model) == ("primary", "ready", "") and model.revision == "b" * 40


def test_while_its_drive_is_away_a_row_stays_and_says_where_a_copy_is(caches, model) -> None:
    copy(caches.primary, caches.secondary)
    Path(caches.primary.path).rename(caches.primary.path + "-away")
    measure_caches()
    measure_caches()
    location, status, error = state_of(model)
    assert (location, status) == ("primary", "missing")
    assert error.endswith(f"does not answer. A whole copy of it is in {caches.secondary.path}.")
    sql("secondary")
    measure_caches()
    assert state_of(model) == ("secondary", "ready", "")


def test_a_copy_that_is_half_done_is_not_ready_however_whole_its_names_look(caches, model) -> None:
    copied = copy(caches.primary, caches.secondary)
    weights = (copied / "snapshots" / ("a" * 40) / "model.safetensors").resolve()
    content = weights.read_bytes()
    weights.write_bytes(content[:500])
    sql("secondary")
    measure_caches()
    location, status, error = state_of(model)
    assert (location, status) == ("secondary", "missing")
    assert error == (
        "Only a part of its files is in the secondary cache. Download it, or put the others there. "
        f"A whole copy of it is in {caches.primary.path}."
    )
    weights.write_bytes(content)
    measure_caches()
    assert state_of(model) == ("secondary", "ready", "")


def test_a_repo_that_somebody_made_smaller_long_ago_is_as_ready_as_before(caches, model) -> None:
    """A file that was removed by hand from one of two copies is the owner's business."""
    snapshot = copy(caches.primary, caches.secondary) / "snapshots" / ("a" * 40)
    (snapshot / "config.json").resolve().write_bytes(b'{"model_type": "llama"}')
    for folder, _, files in os.walk(snapshot.parent.parent):
        for name in files:
            os.utime(Path(folder, name), (10**9, 10**9))
    sql("secondary")
    measure_caches()
    assert state_of(model) == ("secondary", "ready", "")


def test_a_copy_that_is_gone_since_its_scan_draws_no_row(caches, model) -> None:
    sql("secondary")
    shutil.rmtree(Path(caches.primary.path) / FOLDER)
    measure_cache(caches.secondary)
    assert CachedRepo.objects.filter(cache=caches.primary).exists()
    assert state_of(model)[:2] == ("secondary", "missing")


def test_files_that_came_since_the_scan_keep_the_row_where_they_are(caches, model) -> None:
    sql("secondary")
    CachedRepo.objects.all().delete()
    measure_cache(caches.secondary)
    assert state_of(model)[:2] == ("secondary", "missing")
    copy(caches.primary, caches.secondary)
    measure_cache(caches.primary)
    assert state_of(model)[:2] == ("secondary", "missing")
    measure_cache(caches.secondary)
    assert state_of(model) == ("secondary", "ready", "")


def test_a_model_with_open_work_is_left_to_its_job(caches, model) -> None:
    job = add_job(model, state="running")
    sql("secondary")
    measure_caches()
    assert state_of(model) == ("secondary", "ready", "")
    ModelRegistry.objects.update(status="missing")
    measure_caches()
    assert state_of(model) == ("secondary", "missing", "")
    Job.objects.filter(pk=job.pk).update(state="done", finished_at=timezone.now() - timedelta(hours=1))
    measure_caches()
    assert state_of(model) == ("primary", "ready", "")


def test_a_scan_that_began_before_a_move_ended_does_not_judge_the_models_that_moved(caches, model) -> None:
    """It read the target before the files were there, and its answer came after the job was done. The job is that of
    another row with the same files."""
    measure_cache(caches.secondary)
    other = ModelRegistry.objects.create(model_name="other", hf_path="org/m", status="ready")
    job = add_job(other, state="done", finished_at=timezone.now())
    sql("secondary")
    reconcile(caches.secondary)
    assert state_of(model) == ("secondary", "ready", "")
    Job.objects.filter(pk=job.pk).update(finished_at=timezone.now() - timedelta(hours=1))
    reconcile(caches.secondary)
    assert state_of(model)[:2] == ("primary", "ready")


def test_a_custom_path_that_sql_names_is_measured_and_its_model_is_ready(caches, model, tmp_path) -> None:
    (tmp_path / "usb").mkdir()
    shutil.move(f"{caches.primary.path}/{FOLDER}", tmp_path / "usb")
    sql("custom", f"{tmp_path / 'usb'}/")
    measure_caches()
    assert Cache.objects.filter(path=str(tmp_path / "usb"), location="custom").exists()
    measure_caches()
    assert state_of(model) == ("custom", "ready", "")


def test_a_path_that_cannot_be_a_cache_makes_the_model_missing_with_the_reason(caches, model) -> None:
    sql("custom", "/etc")
    measure_caches()
    location, status, error = state_of(model)
    assert (location, status) == ("custom", "missing") and "/etc lies below no allowed folder" in error
    sql("custom", None)
    ModelRegistry.objects.update(status="ready")
    measure_caches()
    assert "needs cache_path" in state_of(model)[2]


def test_a_custom_path_may_be_the_one_of_a_configured_cache(caches, model) -> None:
    sql("custom", caches.primary.path)
    measure_caches()
    assert state_of(model) == ("custom", "ready", "") and ModelRegistry.objects.count() == 1
    shutil.rmtree(Path(caches.primary.path) / FOLDER)
    measure_caches()
    assert state_of(model)[:2] == ("custom", "missing")


def test_models_of_a_path_that_left_the_settings_stay_where_they_are_and_are_not_doubled(
    caches, model, settings, tmp_path
) -> None:
    settings.PRIMARY_CACHE_PATH = tmp_path / "new"
    settings.PRIMARY_CACHE_PATH.mkdir()
    sync_configured_caches()
    for _ in range(3):
        measure_caches()
    assert state_of(model) == ("custom", "ready", "") and model.cache_path == caches.primary.path
    assert ModelRegistry.objects.count() == 1


def test_whoever_changed_a_row_since_it_was_read_wins_over_a_scan(caches, model) -> None:
    promise = {"owner": model.owner_key, "folder": FOLDER, "total_bytes": 5, "remaining_bytes": 5}
    Reservation.objects.create(cache=caches.primary, **promise)
    revision = loadable_revision(CachedRepo.objects.get(cache=caches.primary))
    sql("secondary")
    assert not mark_ready(model, revision, cache_location="custom")
    assert state_of(model)[0] == "secondary" and Reservation.objects.exists()
    assert mark_ready(model, revision, cache_location="primary")
    assert state_of(model)[0] == "primary" and not Reservation.objects.exists()
