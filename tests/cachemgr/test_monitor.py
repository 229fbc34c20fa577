"""Measuring: a snapshot a slot, old figures with their date, and no cache that waits for another."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone

from cachemgr import monitor
from cachemgr.drives import Disk, DriveReport, Filesystem
from cachemgr.layout import MARKER_FILE
from cachemgr.memory import why_distrusted
from cachemgr.models import Cache, CachedRepo, CacheSnapshot
from cachemgr.monitor import current_snapshot, measure_cache, measure_caches
from cachemgr.recording import Measurement, record
from cachemgr.report import CacheReport, ForeignReport
from cachemgr.signals import cache_measured
from cachemgr.stats import cache_lines
from cachemgr.tasks import measure_caches as measure_caches_task
from tests.cachemgr.conftest import HungDrive
from tests.factories import loadable_files, make_cached_repo

pytestmark = pytest.mark.django_db
PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def primary(caches) -> Path:
    return Path(caches.primary.path)


@pytest.fixture
def slots(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`slots()` goes on to the next slot of the monitor; `slots(by=-2)` sets the clock back."""
    now = [1000]
    monkeypatch.setattr(monitor, "current_slot", lambda: now[0])

    def step(*, by: int = 1) -> None:
        now[0] += by

    return step


@pytest.fixture
def heard() -> Iterator[list[tuple[str, bool]]]:
    """What those above were told: which cache, and whether it could be scanned."""
    told: list[tuple[str, bool]] = []

    def listen(*, cache: Cache, is_scanned: bool, **_: object) -> None:
        told.append((cache.location, is_scanned))

    cache_measured.connect(listen)
    yield told
    cache_measured.disconnect(listen)


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
    assert caches.primary.latest == first
    assert caches.primary.uuid in (primary / MARKER_FILE).read_text()
    model = CachedRepo.objects.get(repo_id="org/m")
    assert (model.folder, model.repo_type, model.partial_bytes) == ("models--org--m", "model", 4)
    assert model.partials[0]["name"].endswith("x.incomplete") and model.partials[0]["size_bytes"] == 4
    assert model.revisions[0]["refs"] == ["main"] and model.problems == []


def test_what_the_drive_is_and_what_else_lies_there_is_kept(caches, primary: Path) -> None:
    (primary / "notes").mkdir()
    (primary / "notes/a.txt").write_bytes(b"1234567")
    snapshot = measure_cache(caches.primary)
    caches.primary.refresh_from_db()
    cache = caches.primary
    assert str(primary).startswith(cache.mount_point) and cache.filesystem and cache.takes_links is True
    notes = next(each for each in cache.foreign if each["name"] == "notes")
    assert {"kind": "folder", "file_count": 1, "size_bytes": 7}.items() <= notes.items()
    assert snapshot.foreign_bytes == 7 and snapshot.physical_bytes > 0
    assert cache.full_scan_at is not None and cache.scan_problems == []
    assert cache.scan_distrust == why_distrusted(cache.filesystem)


def test_of_much_that_is_foreign_the_largest_is_kept(caches) -> None:
    junk = tuple(ForeignReport(f"f{size}", "file", 1, size, 0) for size in range(300))
    contents = CacheReport(10, 10, repos=(), foreign=junk, problems=(), reread_count=0)
    record(caches.primary, found=found_now(DriveReport("ok", contents=contents)))
    caches.primary.refresh_from_db()
    sizes = [each["size_bytes"] for each in caches.primary.foreign]
    assert sizes == list(range(299, 99, -1))
    assert caches.primary.latest.foreign_bytes == sum(range(300))


def test_a_mount_point_whose_name_is_no_text_is_kept_as_one(caches) -> None:
    odd = Filesystem(mount_point="/mnt/\udcff", kind="fuse.a-name-that-is-longer-than-anybody-thought", source="x")
    record(caches.primary, found=found_now(DriveReport("ok", filesystem=odd)))
    caches.primary.refresh_from_db()
    assert caches.primary.mount_point == "/mnt/\\udcff" and len(caches.primary.filesystem) == 32


# One snapshot a slot


def test_there_is_one_snapshot_a_slot_and_the_newest_figures_win(caches, primary: Path, slots) -> None:
    measure_cache(caches.primary)
    used = caches.primary.snapshots.get().used_bytes
    (primary / "file").write_bytes(b"12345")
    measure_caches_task()
    assert caches.primary.snapshots.get().used_bytes >= used + 5
    slots()
    measure_cache(caches.primary)
    assert caches.primary.snapshots.count() == 2


def test_a_clock_that_was_set_back_writes_over_the_slot_and_its_figures_are_the_latest(
    caches, primary: Path, slots
) -> None:
    measure_cache(caches.primary)
    slots(by=2)
    measure_cache(caches.primary)
    in_the_future = timezone.now() + timedelta(hours=1)
    CacheSnapshot.objects.filter(slot=1002).update(taken_at=in_the_future, figures_at=in_the_future)
    slots(by=-2)
    (primary / "file").write_bytes(b"12345")
    newest = measure_cache(caches.primary)
    assert set(caches.primary.snapshots.values_list("slot", flat=True)) == {1000, 1002}
    caches.primary.refresh_from_db()
    assert caches.primary.latest == newest and newest.slot == 1000
    assert cache_lines()[0].figures.used_bytes == newest.used_bytes
    assert current_snapshot(caches.primary).used_bytes == newest.used_bytes


def found_now(report: DriveReport, *, seconds_ago: float = 0, slot: int = 5) -> Measurement:
    taken_at = timezone.now() - timedelta(seconds=seconds_ago)
    return Measurement(report, taken_at, slot=slot, limit_seconds=120)


def test_a_measurement_that_comes_late_takes_nothing_back(caches, primary: Path) -> None:
    make_cached_repo(primary, "org/new", files=loadable_files())
    newest = measure_cache(caches.primary)
    empty = CacheReport(0, 0, repos=(), foreign=(), problems=(), reread_count=0)
    for slot in (newest.slot, newest.slot + 1):
        late = found_now(DriveReport("ok", contents=empty), seconds_ago=60, slot=slot)
        assert record(caches.primary, found=late) == newest
    assert CachedRepo.objects.count() == 1 and CacheSnapshot.objects.count() == 1


MEASURE = "import django; django.setup(); from cachemgr.monitor import measure_caches; {ready}measure_caches()"


def database_url() -> str:
    name = connection.settings_dict["NAME"]
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    return os.environ["TEST_DATABASE_URL"].rpartition("/")[0] + f"/{name}"


@pytest.mark.django_db(transaction=True)
def test_two_beats_at_once_leave_one_snapshot_a_slot(caches, primary: Path) -> None:
    make_cached_repo(primary, "org/m", files=loadable_files())
    environment = os.environ | {
        "DATABASE_URL": database_url(),
        "DJANGO_SETTINGS_MODULE": "homelab.settings",
        "CACHE_MONITOR_INTERVAL_SECONDS": "86400",
    }
    gate = MEASURE.format(ready="print('ready', flush=True); input(); ")
    beats = [
        subprocess.Popen(
            [sys.executable, "-c", gate],
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    assert [beat.stdout.readline() for beat in beats] == ["ready\n"] * 3
    for beat in beats:
        beat.stdin.write("\n")
        beat.stdin.flush()
    errors = [beat.communicate(timeout=60)[1] for beat in beats]
    assert [beat.returncode for beat in beats] == [0, 0, 0], errors
    assert CacheSnapshot.objects.count() == 2 and CachedRepo.objects.count() == 1
    caches.primary.refresh_from_db()
    assert caches.primary.uuid in (primary / MARKER_FILE).read_text()
    assert caches.primary.latest.state == "ok"


# Drives that are away


def test_when_the_drive_vanishes_its_figures_stay_with_their_date(caches, primary: Path, slots) -> None:
    make_cached_repo(primary, "org/m", files=loadable_files())
    good = measure_cache(caches.primary)
    primary.rename(primary.with_name("unplugged"))
    primary.mkdir()  # the empty mount point
    slots()
    away = measure_cache(caches.primary)
    assert away.state == "unmounted" and MARKER_FILE in away.message
    kept = ("used_bytes", "physical_bytes", "model_count", "disk_total_bytes", "disk_free_bytes", "device")
    for field in (*kept, "figures_at"):
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


def test_each_measurement_is_told_and_says_whether_it_could_scan(caches, primary: Path, heard) -> None:
    measure_cache(caches.primary)
    shutil.rmtree(primary)
    measure_cache(caches.primary)
    assert heard == [("primary", True), ("primary", False)]


def test_a_drive_that_answers_but_was_not_read_loses_no_models(caches, heard) -> None:
    disk = Disk(100, 50, 50, None, device=7, read_only=False)
    busy = found_now(DriveReport("ok", "Another scan of it runs.", disk=disk))
    monitor._tell(caches.primary, busy, stored=record(caches.primary, found=busy))
    assert heard == []


def test_an_empty_mount_point_is_neither_adopted_nor_made(caches, primary: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("cachemgr.drives.MOUNT_ROOTS", (tmp_path,))
    shutil.rmtree(caches.secondary.path)
    states = {each.cache.location: each.state for each in measure_caches()}
    assert states == {"primary": "unmounted", "secondary": "missing"}
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
