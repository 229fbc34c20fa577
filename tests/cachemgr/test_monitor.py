"""Measuring: a snapshot a slot, old figures with their date, and no cache that waits for another."""

import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from cachemgr import monitor
from cachemgr.layout import MARKER_FILE
from cachemgr.models import Cache, CachedRepo, CacheSnapshot
from cachemgr.monitor import current_snapshot, look_up_repo, measure_cache, measure_caches
from cachemgr.signals import cache_measured
from cachemgr.tasks import measure_caches as measure_caches_task
from tests.cachemgr.conftest import HungDrive
from tests.factories import loadable_files, make_cached_repo

pytestmark = pytest.mark.django_db


@pytest.fixture
def primary(caches) -> Path:
    return Path(caches.primary.path)


@pytest.fixture
def slots(monkeypatch: pytest.MonkeyPatch):
    """`slots()` goes on to the next slot of the monitor."""
    now = [1000]
    monkeypatch.setattr(monitor, "current_slot", lambda: now[0])
    return lambda: now.__setitem__(0, now[0] + 1)


def test_the_first_measurement_adopts_the_folders_and_finds_the_models(caches, primary: Path) -> None:
    make_cached_repo(primary, "org/m", files=loadable_files())
    make_cached_repo(primary, "org/d", files={"a": b"a"}, repo_type="dataset")
    (primary / "models--org--m/blobs/x.incomplete").write_bytes(b"half")
    snapshots = {each.cache.location: each for each in measure_caches()}
    first = snapshots["primary"]
    assert (first.state, first.model_count, snapshots["secondary"].model_count) == ("ok", 1, 0)
    assert first.used_bytes == sum(
        each.stat().st_size for each in primary.rglob("*") if each.is_file() and not each.is_symlink()
    )
    assert first.figures_at is not None and first.device == primary.stat().st_dev
    caches.primary.refresh_from_db()
    assert caches.primary.uuid in (primary / MARKER_FILE).read_text()
    model = CachedRepo.objects.get(repo_id="org/m")
    assert (model.folder, model.repo_type, model.partial_bytes) == ("models--org--m", "model", 4)
    assert model.revisions[0]["refs"] == ["main"] and model.problems == []


def test_there_is_one_snapshot_a_slot_and_the_newest_figures_win(caches, primary: Path, slots) -> None:
    measure_cache(caches.primary)
    used = caches.primary.snapshots.get().used_bytes
    (primary / "file").write_bytes(b"12345")
    caches.primary.refresh_from_db()
    measure_caches_task()
    assert caches.primary.snapshots.get().used_bytes == used + 5
    slots()
    measure_cache(caches.primary)
    assert caches.primary.snapshots.count() == 2


def test_a_repo_that_went_away_is_forgotten_and_one_that_changed_is_updated(caches, primary: Path) -> None:
    make_cached_repo(primary, "org/gone", files={"a": b"a"})
    make_cached_repo(primary, "org/stays", files={"a": b"a"})
    measure_cache(caches.primary)
    key = CachedRepo.objects.get(repo_id="org/stays").pk
    shutil.rmtree(primary / "models--org--gone")
    make_cached_repo(primary, "org/stays", files={"b": b"bbb"}, commit="b" * 40)
    measure_cache(caches.primary)
    repo = CachedRepo.objects.get()
    assert (repo.pk, len(repo.revisions)) == (key, 2)


def test_when_the_drive_vanishes_its_figures_stay_with_their_date(caches, primary: Path, slots) -> None:
    make_cached_repo(primary, "org/m", files=loadable_files())
    measure_cache(caches.primary)
    good = caches.primary.snapshots.get()
    caches.primary.refresh_from_db()
    primary.rename(primary.with_name("unplugged"))
    primary.mkdir()  # the empty mount point
    slots()
    measure_cache(caches.primary)
    away = caches.primary.snapshots.first()
    assert away.state == "unmounted" and MARKER_FILE in away.message
    for field in ("used_bytes", "model_count", "disk_total_bytes", "disk_free_bytes", "device", "figures_at"):
        assert getattr(away, field) == getattr(good, field)
    assert away.taken_at > good.taken_at
    assert CachedRepo.objects.count() == 1 and list(primary.iterdir()) == []
    primary.rmdir()
    primary.with_name("unplugged").rename(primary)
    slots()
    assert measure_cache(caches.primary).state == "ok"


def test_a_clock_that_was_set_back_makes_no_negative_age(caches) -> None:
    snapshot = measure_cache(caches.primary)
    snapshot.figures_at = timezone.now() + timedelta(hours=2)
    assert snapshot.age == timedelta(0)
    snapshot.figures_at, snapshot.taken_at = None, timezone.now() - timedelta(hours=1)
    assert 3600 <= snapshot.age.total_seconds() < 3660


def test_each_measurement_is_told_and_says_whether_it_could_scan(caches, primary: Path) -> None:
    heard: list[tuple[Cache, bool]] = []

    def listen(*, cache: Cache, is_scanned: bool, **_: object) -> None:
        heard.append((cache, is_scanned))

    cache_measured.connect(listen)
    try:
        measure_cache(caches.primary)
        primary.rmdir() if not any(primary.iterdir()) else shutil.rmtree(primary)
        caches.primary.refresh_from_db()
        measure_cache(caches.primary)
    finally:
        cache_measured.disconnect(listen)
    assert heard == [(caches.primary, True), (caches.primary, False)]


def test_a_change_of_state_is_logged_once(caches, primary: Path, slots, caplog: pytest.LogCaptureFixture) -> None:
    measure_cache(caches.primary)
    caches.primary.refresh_from_db()
    shutil.rmtree(primary)
    for _ in range(2):
        slots()
        measure_cache(caches.primary)
    said = [each.getMessage() for each in caplog.records if each.name == "cachemgr.monitor"]
    assert said == [
        f"The primary cache ({primary}) is now missing. {primary} does not exist. Is the drive plugged in and mounted?"
    ]


def test_an_empty_mount_point_is_neither_adopted_nor_made(caches, primary: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("cachemgr.drives.MOUNT_ROOTS", (tmp_path,))
    shutil.rmtree(caches.secondary.path)
    states = {each.cache.location: each.state for each in measure_caches()}
    assert states == {"primary": "ok", "secondary": "missing"}
    assert list(primary.iterdir()) == [] and not Path(caches.secondary.path).exists()
    assert not Cache.objects.exclude(uuid="").exists()


def test_a_hostile_repo_does_not_stop_the_measurement(caches, primary: Path) -> None:
    make_cached_repo(
        primary, "org/bad", files={"config.json": b'{"model_type": NaN, "auto_map": ' + b"[" * 300 + b"]" * 300 + b"}"}
    )
    (primary / "models--org--worse").mkdir()
    make_cached_repo(primary, "org/good", files=loadable_files())
    assert measure_cache(caches.primary).model_count == 3
    assert CachedRepo.objects.get(repo_id="org/worse").problems == ["no snapshots"]


# Asking now


def test_what_is_asked_now_has_fresh_disk_figures_and_is_not_stored(caches, primary: Path) -> None:
    measure_cache(caches.primary)
    (primary / "file").write_bytes(b"12345")
    stored = caches.primary.snapshots.get()
    now = current_snapshot(caches.primary)
    assert now.pk is None and now.used_bytes == stored.used_bytes and now.state == "ok"
    assert now.figures_at == stored.figures_at and now.disk_total_bytes > 0
    assert caches.primary.snapshots.count() == 1


@pytest.mark.parametrize("reason", ["never measured", "too old", "was never there"])
def test_it_is_measured_in_full_where_that_is_due(caches, settings, reason: str) -> None:
    settings.CACHE_MONITOR_INTERVAL_SECONDS = 60
    if reason != "never measured":
        measure_cache(caches.primary)
        date = timezone.now() - timedelta(seconds=121) if reason == "too old" else None
        CacheSnapshot.objects.update(figures_at=date)
    before = timezone.now()
    assert current_snapshot(caches.primary).figures_at >= before
    assert caches.primary.snapshots.first().figures_at >= before


def test_one_repo_is_looked_up_as_it_lies_there_now(caches, primary: Path) -> None:
    assert look_up_repo(caches.primary, repo_id="org/m").contents.repos == ()
    make_cached_repo(primary, "org/m", files=loadable_files())
    (repo,) = look_up_repo(caches.primary, repo_id="org/m").contents.repos
    assert repo.revisions[0].is_loadable


@pytest.mark.root
def test_a_cache_that_hangs_delays_no_other_and_comes_back(caches, hung_drive: HungDrive) -> None:
    nas = Cache.objects.create(location="custom", path=str(hung_drive.path))
    hung_drive.hang()
    begun = timezone.now()
    snapshots = {each.cache.location: each for each in measure_caches(limit_seconds=3.0)}
    assert 3 <= (timezone.now() - begun).total_seconds() < 4.5
    assert {each: snapshots[each].state for each in snapshots} == {
        "primary": "ok",
        "secondary": "ok",
        "custom": "unresponsive",
    }
    assert (snapshots["primary"].taken_at - begun).total_seconds() < 2.7, "it was stored only after the other"
    assert snapshots["custom"].figures_at is None
    hung_drive.go_on()
    assert measure_cache(nas).state == "ok"
