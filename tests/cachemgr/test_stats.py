"""What is read of the caches without touching a disk."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cachemgr.models import Cache, CacheSnapshot, Reservation
from cachemgr.monitor import measure_caches
from cachemgr.stats import cache_lines, figures_now, latest_snapshots

pytestmark = pytest.mark.django_db
GB = 10**9


def snapshot(cache: Cache, slot: int = 1, **values: Any) -> CacheSnapshot:
    disk = {"disk_total_bytes": 100 * GB, "disk_used_bytes": 40 * GB, "disk_free_bytes": 60 * GB, "device": 7}
    newest = CacheSnapshot.objects.create(cache=cache, slot=slot, **{"state": "ok", **disk, **values})
    Cache.objects.filter(pk=cache.pk).update(latest=newest)
    return newest


def custom_caches(tmp_path: Path, count: int) -> Iterator[Cache]:
    for number in range(count):
        yield Cache.objects.create(location="custom", path=f"{tmp_path}/custom{number}")


def test_it_takes_three_queries_however_many_caches_there_are(
    caches, tmp_path: Path, django_assert_num_queries
) -> None:
    with django_assert_num_queries(3):
        cache_lines()
    for cache in custom_caches(tmp_path, 18):
        snapshot(cache)
        snapshot(cache, 2)
        Reservation.objects.create(
            cache=cache, owner=f"model:{cache.pk}", folder="models--a--b", total_bytes=1, remaining_bytes=1
        )
    with django_assert_num_queries(3):
        assert len(cache_lines()) == 20


def test_the_newest_snapshot_of_each_cache_counts(caches) -> None:
    snapshot(caches.primary, 1, used_bytes=1)
    newest = snapshot(caches.primary, 2, used_bytes=2)
    assert latest_snapshots() == {caches.primary.pk: newest}


def test_a_cache_names_the_others_that_fill_the_same_free_space(caches, tmp_path: Path) -> None:
    """Also one on a disk image with holes, which fills the drive that the image lies on."""
    image, alone = custom_caches(tmp_path, 2)
    for cache, device, host in (
        (caches.primary, 7, None),
        (caches.secondary, 7, None),
        (image, 9, 7),
        (alone, 8, None),
    ):
        snapshot(cache, device=device, host_device=host)
    assert {line.name: line.pool for line in cache_lines()} == {
        "primary": ("secondary", image.path),
        "secondary": ("primary", image.path),
        image.path: ("primary", "secondary"),
        alone.path: (),
    }


def test_the_part_that_is_no_models_is_shown_within_the_use(caches, tmp_path: Path) -> None:
    snapshot(caches.primary, used_bytes=GB // 2, foreign_bytes=GB // 5)
    line = cache_lines()[0]
    assert (line.usage_percent, line.models_percent, line.foreign_percent) == (50.0, 30.0, 20.0)


def test_the_configured_caches_come_first(caches, tmp_path: Path) -> None:
    old = Cache.objects.create(location="primary", path=f"{tmp_path}/old")
    Reservation.objects.create(cache=old, owner="model:1", folder="f", total_bytes=1, remaining_bytes=1)
    custom = list(custom_caches(tmp_path, 1))
    assert [line.cache for line in cache_lines()] == [caches.primary, caches.secondary, old, *custom]


@pytest.mark.parametrize(
    ("values", "status", "level", "percent"),
    [
        ({"used_bytes": 0}, "ok", "green", 0.0),
        ({"used_bytes": 75 * GB // 100}, "ok", "yellow", 75.0),
        ({"used_bytes": 90 * GB // 100}, "ok", "yellow", 90.0),
        ({"used_bytes": 91 * GB // 100}, "warning", "red", 91.0),
        ({"used_bytes": 97 * GB // 100}, "critical", "red", 97.0),
        ({"used_bytes": 2 * GB}, "over_limit", "red", 200.0),
        ({"used_bytes": GB // 2, "state": "unmounted"}, "unmounted", "green", 50.0),
        ({"used_bytes": GB // 2, "state": "read_only"}, "read_only", "green", 50.0),
    ],
)
def test_a_line_has_status_level_and_percent(
    caches, values: dict[str, Any], status: str, level: str, percent: float
) -> None:
    snapshot(caches.primary, **values)
    line = cache_lines()[0]
    assert (line.status, line.level, line.usage_percent) == (status, level, percent)
    assert line.warning == (status != "ok")
    assert line.disk_usage_percent == 40.0
    if status not in {"ok", "warning", "critical"}:
        assert line.available_bytes == 0


def test_a_custom_cache_is_measured_against_its_disk(caches, tmp_path: Path) -> None:
    (cache,) = custom_caches(tmp_path, 1)
    snapshot(cache, used_bytes=GB)
    line = cache_lines()[-1]
    assert (line.usage_percent, line.figures.size_bytes, line.available_bytes) == (40.0, 100 * GB, 58 * GB)


def test_a_cache_that_was_never_measured_says_so(caches) -> None:
    line = cache_lines()[0]
    assert (line.status, line.updated_at, line.age_seconds, line.disk_usage_percent) == (
        "not_measured",
        None,
        None,
        0.0,
    )
    assert "Refresh" in line.figures.state_message


def test_what_is_promised_to_a_neighbour_on_the_same_disk_is_not_available(caches) -> None:
    snapshot(caches.primary)
    snapshot(caches.secondary, disk_free_bytes=10 * GB)
    Reservation.objects.create(
        cache=caches.primary, owner="model:1", folder="f", total_bytes=GB // 4, remaining_bytes=GB // 4
    )
    primary, secondary = cache_lines()
    assert (primary.reserved_percent, primary.available_bytes) == (25.0, GB * 3 // 4)
    assert (secondary.reserved_percent, secondary.available_bytes) == (0.0, 10 * GB - 2 * GB - GB // 4)
    CacheSnapshot.objects.filter(cache=caches.secondary).update(device=8)
    assert cache_lines()[1].available_bytes == 8 * GB


def promised_files(cache: Cache, count: int) -> None:
    """A promise of so many files, all bytes of which have landed."""
    Reservation.objects.create(
        cache=cache, owner=f"model:{cache.pk}", folder="f", total_bytes=GB, remaining_bytes=0, file_count=count
    )


def test_inodes_that_are_promised_to_a_neighbour_on_the_same_filesystem_are_not_free(caches, tmp_path: Path) -> None:
    """Those in a disk image are the image's own: the drive below has lost none."""
    image, alone = custom_caches(tmp_path, 2)
    for cache, device, host in (
        (caches.primary, 7, None),
        (caches.secondary, 7, None),
        (image, 9, 7),
        (alone, 8, None),
    ):
        snapshot(cache, device=device, host_device=host, host_free_bytes=60 * GB, inodes_free=100 * device)
    for cache, files in ((caches.primary, 10), (caches.secondary, 20), (image, 40)):
        promised_files(cache, files)
    own = {line.name: line.figures.pools[0] for line in cache_lines()}
    assert {name: (pool.inodes_free, pool.inodes_reserved) for name, pool in own.items()} == {
        "primary": (700, 2 * 16 + 30 * 3),
        "secondary": (700, 2 * 16 + 30 * 3),
        image.path: (900, 16 + 40 * 3),
        alone.path: (800, 0),
    }


def test_inodes_that_files_took_since_the_drive_was_asked_are_not_free(caches) -> None:
    """The promise that they were of may have ended meanwhile."""
    before = snapshot(caches.primary, 1, inodes_free=300)
    snapshot(caches.primary, 2, inodes_free=200)
    snapshot(caches.secondary, 2, inodes_free=150)
    assert figures_now(caches.primary, before).pools[0].inodes_free == 150


def test_a_filesystem_that_counts_no_inodes_is_not_short_of_them(caches) -> None:
    snapshot(caches.primary, inodes_free=None)
    promised_files(caches.primary, 10**6)
    assert cache_lines()[0].available_bytes == GB


def test_after_a_measurement_the_line_has_its_date(caches) -> None:
    measure_caches()
    line = cache_lines()[0]
    assert line.updated_at is not None and 0 <= line.age_seconds < 60
    disk = os.statvfs(caches.primary.path)
    assert line.figures.disk_total_bytes == disk.f_blocks * disk.f_frsize
