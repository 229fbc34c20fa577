"""Questions to a drive that somebody waits for: its owner's word on adoption, and what lies there at this second."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.utils import timezone

from cachemgr.errors import CacheUnavailable, ErrandFailed
from cachemgr.layout import MARKER_FILE
from cachemgr.models import Cache, CacheSnapshot
from cachemgr.monitor import (
    adopt_cache,
    current_snapshot,
    list_repo_files,
    look_up_repo,
    measure_cache,
    require_drive,
    those_that_answer,
)
from tests.cachemgr.broker import Broker, running_broker
from tests.cachemgr.conftest import HungDrive
from tests.factories import loadable_files, make_cached_repo

pytestmark = pytest.mark.django_db


@pytest.fixture
def primary(caches) -> Path:
    return Path(caches.primary.path)


@pytest.fixture
def broker() -> Iterator[Broker]:
    with running_broker(django_settings.BROKER_SOCKET) as running:
        yield running


# The owner's word


def test_a_missing_folder_is_made_and_adopted_only_with_the_owners_word(
    caches, primary: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("cachemgr.drives.MOUNT_ROOTS", (tmp_path,))
    shutil.rmtree(primary)
    refused = adopt_cache(caches.primary, create=False, replace=False)
    assert refused.state == "missing" and "cache_adopt primary --create" in refused.message
    assert not primary.exists()
    made = adopt_cache(caches.primary, create=True, replace=False)
    caches.primary.refresh_from_db()
    assert made.state == "ok" and caches.primary.uuid in (primary / MARKER_FILE).read_text()
    assert caches.primary.latest == made


def test_another_drive_at_the_path_is_taken_only_with_the_owners_word(caches, primary: Path) -> None:
    measure_cache(caches.primary)
    Cache.objects.update(read_bytes_per_second=10**8, speed_measured_at=timezone.now())
    caches.primary.refresh_from_db()
    first = caches.primary.uuid
    (primary / MARKER_FILE).unlink()
    assert adopt_cache(caches.primary, create=True, replace=False).state == "unmounted"
    assert not (primary / MARKER_FILE).exists()
    assert adopt_cache(caches.primary, create=False, replace=True).state == "ok"
    caches.primary.refresh_from_db()
    assert caches.primary.uuid != first and caches.primary.uuid in (primary / MARKER_FILE).read_text()
    assert caches.primary.read_bytes_per_second is None and caches.primary.speed_measured_at is None
    assert measure_cache(caches.primary).state == "ok"


# Asking now


def test_what_is_asked_now_has_fresh_disk_figures_and_is_not_stored(caches, primary: Path) -> None:
    measure_cache(caches.primary)
    (primary / "file").write_bytes(b"12345")
    stored = caches.primary.snapshots.get()
    now = current_snapshot(caches.primary)
    assert now.pk is None and now.used_bytes == stored.used_bytes and now.state == "ok"
    assert now.figures_at == stored.figures_at and now.disk_total_bytes > 0 and now.taken_at > stored.taken_at
    assert caches.primary.snapshots.count() == 1


@pytest.mark.parametrize("reason", ["never measured", "was never there"])
def test_a_cache_that_was_never_read_is_measured_when_it_is_asked_for(caches, reason: str) -> None:
    if reason == "was never there":
        measure_cache(caches.primary)
        CacheSnapshot.objects.update(figures_at=None)
    before = timezone.now()
    assert current_snapshot(caches.primary).figures_at >= before
    assert caches.primary.snapshots.get().figures_at >= before


def test_old_usage_is_used_with_the_disk_of_this_second_and_the_monitor_is_woken(
    caches, settings, broker: Broker
) -> None:
    settings.CACHE_MONITOR_INTERVAL_SECONDS = 60
    measure_cache(caches.primary)
    assert current_snapshot(caches.primary).state == "ok" and broker.tasks() == []
    old = timezone.now() - timedelta(seconds=121)
    CacheSnapshot.objects.update(taken_at=old, figures_at=old, disk_free_bytes=1)
    now = current_snapshot(caches.primary)
    assert now.figures_at == old and now.disk_free_bytes > 1
    assert broker.tasks() == ["cachemgr.tasks.measure_caches"]


def test_a_drive_that_has_come_back_wakes_the_monitor(caches, broker: Broker) -> None:
    measure_cache(caches.primary)
    CacheSnapshot.objects.update(state="missing")
    assert current_snapshot(caches.primary).state == "ok"
    assert broker.tasks() == ["cachemgr.tasks.measure_caches"]


@pytest.mark.root
@pytest.mark.parametrize("is_known", [True, False])
def test_a_hung_drive_is_told_in_two_seconds(caches, hung_drive: HungDrive, is_known: bool) -> None:
    nas = Cache.objects.create(location="custom", path=str(hung_drive.path))
    if is_known:
        assert measure_cache(nas).state == "ok"
    hung_drive.hang()
    begun = timezone.now()
    now = current_snapshot(nas)
    assert now.state == "unresponsive" and (timezone.now() - begun).total_seconds() < 2.7
    assert (now.disk_total_bytes > 0) == is_known


def test_one_repo_is_looked_up_as_it_lies_there_now(caches, primary: Path) -> None:
    assert look_up_repo(caches.primary, repo_id="org/m").contents.repos == ()
    make_cached_repo(primary, "org/m", files=loadable_files())
    (repo,) = look_up_repo(caches.primary, repo_id="org/m").contents.repos
    assert repo.revisions[0].is_loadable


def test_the_files_of_one_repo_are_listed_on_demand(caches, primary: Path) -> None:
    make_cached_repo(primary, "org/m", files={"config.json": b"{}", "weights.safetensors": b"12345"})
    measure_cache(caches.primary)
    files = list_repo_files(caches.primary, repo_id="org/m")
    assert {(each.name, each.size_bytes) for each in files} == {("config.json", 2), ("weights.safetensors", 5)}
    shutil.rmtree(primary)
    assert list_repo_files(caches.primary, repo_id="org/m") is None
    assert not primary.exists()


# Before work is begun


def put_on(drive: Path, cache: Cache) -> Cache:
    """The cache, measured, on that drive."""
    Cache.objects.filter(pk=cache.pk).update(path=str(drive), uuid="")
    cache.refresh_from_db()
    assert measure_cache(cache).state == "ok"
    cache.refresh_from_db()
    return cache


def test_a_drive_that_answers_may_be_worked_on(caches) -> None:
    measure_cache(caches.primary)
    assert require_drive(caches.primary).state == require_drive(caches.primary, writable=True).state == "ok"


@pytest.mark.root
def test_work_is_not_begun_on_a_drive_that_hangs_and_the_question_takes_two_seconds(caches, hung_drive) -> None:
    nas = put_on(hung_drive.path, caches.secondary)
    measure_cache(caches.primary)
    caches.primary.refresh_from_db()
    assert those_that_answer([nas, caches.primary]) == [nas, caches.primary]
    hung_drive.hang()
    began = time.monotonic()
    with pytest.raises(CacheUnavailable, match=f"{hung_drive.path} did not answer within 2 s"):
        require_drive(nas)
    assert those_that_answer([nas, caches.primary]) == [caches.primary]
    assert time.monotonic() - began < 6


@pytest.mark.root
def test_a_drive_that_takes_no_writes_is_read_and_writing_to_it_is_refused_for_good(caches, mount, tmp_path) -> None:
    cache = put_on(mount(tmp_path / "drive"), caches.secondary)
    subprocess.run(["mount", "-o", "remount,ro", cache.path], check=True)
    assert require_drive(cache).state == "read_only"
    with pytest.raises(ErrandFailed, match=cache.path) as refused:
        require_drive(cache, writable=True)
    assert (refused.value.code, refused.value.is_permanent) == ("drive_read_only", True)


@pytest.mark.root
def test_work_is_not_begun_under_an_empty_mount_point(caches, mount, tmp_path) -> None:
    cache = put_on(mount(tmp_path / "drive"), caches.secondary)
    subprocess.run(["umount", cache.path], check=True)
    with pytest.raises(CacheUnavailable, match=cache.path):
        require_drive(cache)
