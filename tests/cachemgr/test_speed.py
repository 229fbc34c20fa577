"""How fast drives read: told once, for all caches of a drive, and again when the drive is another one."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from cachemgr import speed
from cachemgr.layout import MARKER_FILE
from cachemgr.models import Cache, CachedRepo
from cachemgr.monitor import adopt_cache, measure_cache, measure_caches
from cachemgr.tasks import measure_caches as measure_caches_task
from tests.factories import make_cached_repo

pytestmark = pytest.mark.django_db


@pytest.fixture
def primary(caches) -> Path:
    """With a file that is large enough to be timed."""
    make_cached_repo(Path(caches.primary.path), "org/m", files={"weights": os.urandom(16_000_000)})
    return Path(caches.primary.path)


def speeds() -> dict[str, int | None]:
    return dict(Cache.objects.values_list("location", "read_bytes_per_second"))


def test_after_the_first_measurement_the_speed_of_a_drive_is_known_for_all_its_caches(caches, primary: Path) -> None:
    assert speed.measure_due() == []
    measure_caches_task()
    assert speeds()["primary"] == speeds()["secondary"] > 10**6
    assert Cache.objects.filter(speed_measured_at=None).count() == 0


def test_it_is_measured_once(caches, primary: Path) -> None:
    measure_caches()
    assert {cache.location for cache in speed.measure_due()} == {"primary", "secondary"}
    measure_caches()
    assert speed.measure_due() == []


def test_another_drive_is_measured_again(caches, primary: Path, mount: Callable[..., Path]) -> None:
    measure_caches()
    speed.measure_due()
    mount(primary)
    assert adopt_cache(caches.primary, create=False, replace=True).state == "ok"
    assert speeds()["primary"] is None and speeds()["secondary"] is not None
    assert [cache.location for cache in speed.due()] == ["primary"]
    measure_cache(caches.primary)
    assert (primary / MARKER_FILE).exists()


def test_a_new_number_of_the_same_drive_is_measured_again_and_the_old_figure_stands_until_then(
    caches, primary: Path
) -> None:
    measure_caches()
    Cache.objects.update(read_bytes_per_second=1234, speed_measured_at=timezone.now())
    last = Cache.objects.get(location="primary").latest
    last.device += 1
    last.save()
    measure_cache(caches.primary)
    assert speeds()["primary"] == 1234 and [cache.location for cache in speed.due()] == ["primary"]


def test_a_drive_that_a_download_writes_to_is_not_measured(caches, primary: Path) -> None:
    (primary / "models--org--m/blobs/x.incomplete").write_bytes(b"half")
    measure_caches()
    assert CachedRepo.objects.get().partials[0]["is_live"]
    assert speed.measure_due() == [] and speeds()["primary"] is None
    (primary / "models--org--m/blobs/x.incomplete").unlink()
    measure_caches()
    assert speed.measure_due() != []


def test_what_could_not_be_told_is_tried_again_the_next_day(caches) -> None:
    measure_caches()
    for hours, is_due in ((23, False), (25, True)):
        Cache.objects.update(speed_measured_at=timezone.now() - timedelta(hours=hours))
        assert bool(speed.due()) is is_due


def test_a_drive_that_is_away_waits_for_its_return(caches, primary: Path) -> None:
    measure_caches()
    away = primary.rename(primary.with_name("away"))
    measure_caches()
    assert [cache.location for cache in speed.due()] == ["secondary"]
    away.rename(primary)
    measure_caches()
    assert len(speed.due()) == 2
