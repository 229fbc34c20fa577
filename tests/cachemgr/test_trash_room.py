"""When the trash is emptied: after its days, and before that when its room is needed."""

from datetime import timedelta
from pathlib import Path

from django.utils import timezone

from cachemgr import monitor, services, trash
from cachemgr.errors import InsufficientSpace
from cachemgr.models import Cache, TrashedRepo
from cachemgr.space import Verdict
from cachemgr.tasks import tend_trash
from tests.cachemgr.trashing import home, put
from tests.factories import loadable_files, make_cached_repo


def removed_days_ago(cache: Cache, name: str, *, days: float, weights: int = 1000) -> TrashedRepo:
    make_cached_repo(Path(cache.path), f"org/{name}", files=loadable_files(weights=weights))
    entry = put(cache, f"models--org--{name}")
    TrashedRepo.objects.filter(pk=entry.pk).update(removed_at=timezone.now() - timedelta(days=days))
    return entry


def folders() -> list[str]:
    return [entry.folder for entry in trash.entries()]


def test_the_trash_is_emptied_after_seven_days_and_not_before(primary, settings) -> None:
    removed_days_ago(primary, "young", days=6.9)
    old = removed_days_ago(primary, "old", days=7.1)
    assert tend_trash() >= old.freed_bytes > 0
    assert folders() == ["models--org--young"] and not home(old).exists()
    settings.TRASH_DAYS = 6
    tend_trash()
    assert folders() == []


def test_what_was_emptied_is_remembered_for_scans_that_run_and_forgotten_after_a_day(primary) -> None:
    began = timezone.now()
    removed_days_ago(primary, "m", days=0)
    trash.empty(trash.weigh_entries(trash.entries()))
    tend_trash()
    assert folders() == [] and TrashedRepo.objects.gone_since(began, cache=primary) == {"models--org--m"}
    TrashedRepo.objects.update(removed_at=timezone.now() - timedelta(days=2))
    tend_trash()
    assert not TrashedRepo.objects.exists()


def test_a_clock_that_was_set_back_empties_nothing(primary) -> None:
    removed_days_ago(primary, "m", days=-400)
    tend_trash()
    assert folders() == ["models--org--m"]


def lacking(cache: Cache, size_bytes: int) -> Verdict:
    """The verdict on what does not fit by so many bytes, with the trash in place."""
    monitor.measure_cache(cache)
    cache.refresh_from_db()
    Cache.objects.filter(pk=cache.pk).update(limit_bytes=cache.latest.used_bytes)
    cache.refresh_from_db()
    return services.check(cache, required_bytes=size_bytes)


def test_room_is_made_oldest_first_and_no_more_than_is_needed(primary) -> None:
    removed_days_ago(primary, "newest", days=1, weights=50_000)
    removed_days_ago(primary, "oldest", days=3, weights=50_000)
    removed_days_ago(primary, "older", days=2, weights=50_000)
    assert trash.make_room(lacking(primary, 60_000)) >= 100_000
    assert folders() == ["models--org--newest"]


def test_nothing_is_emptied_where_that_would_not_be_enough(primary) -> None:
    removed_days_ago(primary, "m", days=1, weights=50_000)
    assert trash.make_room(lacking(primary, 60_000)) == 0
    assert folders() == ["models--org--m"]


def test_the_trash_of_another_cache_gives_way_where_it_fills_the_same_disk(caches, mount, tmp_path, settings) -> None:
    settings.DISK_RESERVE_BYTES = 0
    disk = mount(tmp_path / "disk", size="1m")
    for cache in (caches.primary, caches.secondary):
        (disk / cache.location).mkdir()
        Cache.objects.filter(pk=cache.pk).update(path=str(disk / cache.location))
        monitor.measure_cache(cache)
        cache.refresh_from_db()
    removed_days_ago(caches.secondary, "m", days=1, weights=700_000)
    monitor.measure_caches()
    verdict = services.check(caches.primary, required_bytes=800_000)
    assert verdict.limiting_factor == "disk" and not verdict.sufficient
    assert trash.make_room(verdict) >= 700_000
    assert services.check(caches.primary, required_bytes=800_000).sufficient


def test_what_is_booked_is_booked_again_after_the_trash_gave_way(primary) -> None:
    removed_days_ago(primary, "m", days=1, weights=50_000)
    verdict, calls = lacking(primary, 40_000), []

    def attempt() -> str:
        calls.append(trash.entries().count())
        if trash.entries().exists():
            raise InsufficientSpace(verdict)
        return "booked"

    assert trash.with_room(attempt) == "booked" and calls == [1, 0]
