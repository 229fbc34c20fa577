"""Free space belongs to a filesystem: caches that share one never both get it. On real, small drives."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import transaction

from cachemgr.errors import InsufficientSpace
from cachemgr.layout import repo_folder
from cachemgr.models import Cache, Reservation
from cachemgr.monitor import current_snapshot, measure_cache, measure_caches
from cachemgr.services import Booking, book, check, release, sync_configured_caches
from cachemgr.space import Verdict, inodes_needed
from tests.cachemgr.conftest import make_image, run_or_skip

pytestmark = [pytest.mark.django_db, pytest.mark.root]
MB = 10**6


@pytest.fixture
def place(settings, tmp_path: Path) -> Callable[..., tuple[Cache, Cache]]:
    """Both caches at these paths, with limits that do not bind."""

    def do(primary: Path, secondary: Path) -> tuple[Cache, Cache]:
        for name, path in (("PRIMARY", primary), ("SECONDARY", secondary)):
            path.mkdir(exist_ok=True)
            setattr(settings, f"{name}_CACHE_PATH", path)
            setattr(settings, f"{name}_CACHE_LIMIT_BYTES", 10**15)
        settings.DISK_RESERVE_BYTES = 0
        Cache.objects.all().delete()
        sync_configured_caches()
        measure_caches()
        return Cache.objects.get(location="primary"), Cache.objects.get(location="secondary")

    return do


def promise(cache: Cache, size_bytes: int, *, owner: str, files: int = 8) -> Verdict:
    measured = current_snapshot(cache)
    with transaction.atomic():
        return book(cache, Booking(owner, "org/m", size_bytes, files), measured=measured)


def land(cache: Cache, size_bytes: int) -> None:
    blobs = Path(cache.path, repo_folder("org/m"), "blobs")
    blobs.mkdir(parents=True)
    (blobs / "a").write_bytes(os.urandom(size_bytes))


def test_two_caches_on_one_drive_never_both_get_its_space(mount, place, tmp_path: Path) -> None:
    (tmp_path / "drive").mkdir()
    drive = mount(tmp_path / "drive", size="64m")
    primary, secondary = place(drive / "a", drive / "b")
    promise(primary, 40 * MB, owner="test:1")
    with pytest.raises(InsufficientSpace) as refused:
        promise(secondary, 40 * MB, owner="test:2")
    assert refused.value.details["limiting_factor"] == "disk"
    assert [way["action"] for way in refused.value.details["actions"]] == ["free_space"]
    assert promise(secondary, 20 * MB, owner="test:2").sufficient


def test_bytes_that_landed_in_the_other_cache_since_the_drive_was_asked_are_counted(
    mount, place, tmp_path: Path
) -> None:
    (tmp_path / "drive").mkdir()
    drive = mount(tmp_path / "drive", size="64m")
    primary, secondary = place(drive / "a", drive / "b")
    promise(primary, 40 * MB, owner="test:1")
    measured = current_snapshot(secondary)
    land(primary, 40 * MB)
    measure_cache(primary)
    assert Reservation.objects.get().remaining_bytes == 0
    with pytest.raises(InsufficientSpace), transaction.atomic():
        book(secondary, Booking("test:2", "org/m", 40 * MB, 8), measured=measured)


def test_an_image_with_holes_and_the_drive_below_it_share_what_is_free_below(mount, place, tmp_path: Path) -> None:
    for name in ("drive", "image"):
        (tmp_path / name).mkdir()
    drive = mount(tmp_path / "drive", size="64m")
    image = drive / "disk.img"
    image.touch()
    os.truncate(image, 400 * MB)
    run_or_skip("mkfs.ext4", "-q", "-E", "lazy_itable_init=1", str(image))
    inside = mount(tmp_path / "image", image=image)
    primary, secondary = place(inside / "cache", drive / "cache")
    below = check(secondary, required_bytes=1).available_bytes
    verdict = check(primary, required_bytes=200 * MB)
    assert verdict.figures.disk_free_bytes > 300 * MB and verdict.available_bytes == pytest.approx(below, abs=MB)
    assert "the free space of the drive on which its disk image lies is what binds" in verdict.message
    promise(primary, 30 * MB, owner="test:1")
    assert check(secondary, required_bytes=1).available_bytes == pytest.approx(below - 30 * MB, abs=MB)
    promise(secondary, 20 * MB, owner="test:2")
    assert check(primary, required_bytes=1).available_bytes == pytest.approx(below - 50 * MB, abs=MB)


def test_a_drive_with_few_inodes_takes_only_models_with_few_files(mount, place, tmp_path: Path) -> None:
    drive = mount(tmp_path / "drive", image=make_image(tmp_path / "disk.img", "-N", "128", size=32 * MB))
    primary, _ = place(drive / "cache", tmp_path / "other")
    assert promise(primary, MB, owner="test:1", files=8).sufficient
    with pytest.raises(InsufficientSpace, match="has no room for so many files") as refused:
        promise(primary, MB, owner="test:2", files=100)
    assert refused.value.details["limiting_factor"] == "inodes"


@pytest.mark.parametrize("neighbour", ["primary", "secondary"])
def test_two_models_never_both_get_the_last_inodes_of_a_drive(mount, place, tmp_path: Path, neighbour: str) -> None:
    drive = mount(tmp_path / "drive", image=make_image(tmp_path / "disk.img", "-N", "256", size=32 * MB))
    caches = dict(zip(("primary", "secondary"), place(drive / "a", drive / "b"), strict=True))
    free = os.statvfs(drive).f_favail
    files = free // 5  # three inodes each
    promise(caches["primary"], MB, owner="test:1", files=files)
    with pytest.raises(InsufficientSpace) as refused:
        promise(caches[neighbour], MB, owner="test:2", files=files)
    assert refused.value.details["limiting_factor"] == "inodes"
    assert f"has {free} left, with {inodes_needed(files)} promised already" in refused.value.message
    assert [way["action"] for way in refused.value.details["actions"]] == ["free_space"]
    release("test:1")
    assert promise(caches[neighbour], MB, owner="test:2", files=files).sufficient


def test_a_promise_keeps_its_inodes_while_its_files_land(mount, place, tmp_path: Path) -> None:
    drive = mount(tmp_path / "drive", image=make_image(tmp_path / "disk.img", "-N", "256", size=32 * MB))
    primary, _ = place(drive / "a", tmp_path / "other")
    promise(primary, MB, owner="test:1", files=8)
    free = os.statvfs(drive).f_favail
    land(primary, MB)
    measure_cache(primary)
    own = check(primary, required_bytes=1).figures.pools[0]
    assert (own.reserved_bytes, own.inodes_reserved) == (0, inodes_needed(8))
    assert own.inodes_free == os.statvfs(drive).f_favail < free
    release("test:1")
    assert check(primary, required_bytes=1).figures.pools[0].inodes_reserved == 0
