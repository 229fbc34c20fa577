"""A disk that turns and had nothing to do is not woken: a real disk image, which the kernel is told to call turning."""

import os
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from cachemgr.models import Cache, CacheEvent, CacheSnapshot
from cachemgr.monitor import measure_cache, measure_caches
from cachemgr.sleeping import LONGEST, SHORTEST
from tests.cachemgr.conftest import make_image, skip_or_fail
from tests.factories import loadable_files, make_cached_repo

pytestmark = [pytest.mark.django_db, pytest.mark.root]


def call_turning(folder: Path, *, is_turning: bool) -> None:
    device = folder.stat().st_dev
    switch = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/queue/rotational")
    try:
        switch.write_text("1" if is_turning else "0")
    except OSError as error:
        skip_or_fail(f"{switch} cannot be written here: {error}")


@pytest.fixture
def disk(db, settings, tmp_path: Path, mount: Callable[..., Path]):
    """A cache on a disk that turns, measured a while ago, with nothing left to write."""
    Cache.objects.all().delete()
    folder = mount(tmp_path / "disk", image=make_image(tmp_path / "image"))
    call_turning(folder, is_turning=True)
    settings.CACHE_ALLOWED_ROOTS = [tmp_path]
    make_cached_repo(folder, "org/m", files=loadable_files())
    cache = Cache.objects.create(location="custom", path=str(folder))
    measure_cache(cache)
    flush(folder)
    measure_cache(cache)
    assert Cache.objects.get().io_mark != ""
    let_time_pass(SHORTEST)
    yield folder
    call_turning(folder, is_turning=False)


def flush(folder: Path) -> None:
    subprocess.run(["sync", "-f", str(folder)], check=True)


def let_time_pass(time: timedelta) -> None:
    for snapshot in CacheSnapshot.objects.order_by("slot"):
        CacheSnapshot.objects.filter(pk=snapshot.pk).update(
            slot=snapshot.slot - 1000, taken_at=snapshot.taken_at - time, figures_at=snapshot.figures_at - time
        )


def beat() -> CacheSnapshot:
    """What the monitor's beat stores."""
    (snapshot,) = measure_caches(spare_sleeping=True)
    return snapshot


def is_fresh(snapshot: CacheSnapshot) -> bool:
    return timezone.now() - snapshot.figures_at < timedelta(seconds=60)


def test_a_disk_without_io_is_left_asleep_and_its_figures_keep_their_date(disk: Path) -> None:
    last = Cache.objects.get().latest
    spared = beat()
    assert not is_fresh(spared) and spared.figures_at == last.figures_at and spared.taken_at > last.taken_at
    assert spared.state == "ok" and "sleeps on" in spared.message
    for field in ("used_bytes", "model_count", "disk_free_bytes", "device"):
        assert getattr(spared, field) == getattr(last, field)
    assert Cache.objects.get().latest == spared and CacheSnapshot.objects.count() == 2
    assert not CacheEvent.objects.filter(kind="state").exists()


def test_whoever_asks_by_hand_is_answered_by_the_disk(disk: Path) -> None:
    assert is_fresh(measure_caches()[0])


def test_a_disk_that_worked_meanwhile_is_measured(disk: Path) -> None:
    used = Cache.objects.get().latest.used_bytes
    (disk / "file").write_bytes(b"12345")
    flush(disk)
    assert is_fresh(beat()) and Cache.objects.get().latest.used_bytes == used + 5


def test_a_disk_sleeps_an_hour_at_most(disk: Path) -> None:
    let_time_pass(LONGEST - SHORTEST - timedelta(seconds=30))
    assert not is_fresh(beat())
    let_time_pass(timedelta(seconds=60))
    assert is_fresh(beat())


def test_a_disk_that_was_just_measured_is_no_sleeper(disk: Path) -> None:
    measure_caches()
    assert "sleeps on" not in beat().message


def test_a_disk_that_is_no_longer_mounted_is_looked_at(disk: Path) -> None:
    flush(disk)
    subprocess.run(["umount", str(disk)], check=True)
    assert beat().state in {"unmounted", "missing"}


def test_a_disk_that_does_not_turn_is_always_measured(disk: Path) -> None:
    call_turning(disk, is_turning=False)
    measure_caches()
    assert Cache.objects.get().io_mark == ""
    let_time_pass(SHORTEST)
    assert is_fresh(beat())
