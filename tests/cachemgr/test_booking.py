"""Promises of space: two never both fit, and what has landed is never counted twice."""

import os
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import transaction

from cachemgr import services
from cachemgr.errors import CacheUnavailable, InsufficientSpace, InvalidCachePath
from cachemgr.layout import MARKER_FILE, repo_folder
from cachemgr.models import Cache, CachedRepo, Reservation
from cachemgr.monitor import current_snapshot, measure_cache, measure_caches
from cachemgr.services import Booking, book, check, find_cache, keep, release, sync_configured_caches
from cachemgr.space import Verdict
from cachemgr.stats import figures_now
from homelab.errors import InvalidValue
from tests.factories import make_cached_repo

pytestmark = pytest.mark.django_db
MB, GB = 10**6, 10**9


def promise(cache: Cache, size_bytes: int, *, owner: str = "test:1", repo_id: str = "org/m", **more: int) -> Verdict:
    measured = current_snapshot(cache)
    with transaction.atomic():
        return book(cache, Booking(owner, repo_id, size_bytes, **more), measured=measured)


def test_two_promises_never_both_fit(caches) -> None:
    assert promise(caches.primary, 600 * MB).sufficient
    with pytest.raises(InsufficientSpace) as refused:
        promise(caches.primary, 600 * MB, owner="test:2")
    details = refused.value.details
    assert details["needed_bytes"] == 600 * MB and details["limiting_factor"] == "limit"
    assert 399 * MB < details["available_bytes"] < 400 * MB
    assert details["shortfall_bytes"] == details["needed_bytes"] - details["available_bytes"]
    assert Reservation.objects.get().owner == "test:1"


def test_the_owners_new_promise_takes_the_place_of_its_old_one(caches) -> None:
    promise(caches.primary, 600 * MB)
    promise(caches.primary, 700 * MB)
    assert Reservation.objects.get().remaining_bytes == 700 * MB
    with pytest.raises(InsufficientSpace):
        promise(caches.primary, 2 * GB)
    assert Reservation.objects.get().remaining_bytes == 700 * MB  # the refusal rolled back its delete


def test_a_released_promise_makes_room_again(caches) -> None:
    promise(caches.primary, 600 * MB)
    release("test:1")
    release("nobody")
    assert promise(caches.primary, 600 * MB, owner="test:2").sufficient


def test_two_caches_on_one_filesystem_share_its_free_space(caches, settings) -> None:
    for row in (caches.primary, caches.secondary):
        Cache.objects.filter(pk=row.pk).update(limit_bytes=10**15)
        row.refresh_from_db()
    measure_caches()
    free = figures_now(caches.primary, current_snapshot(caches.primary)).disk_free_bytes
    settings.DISK_RESERVE_BYTES = 0
    promise(caches.primary, free * 2 // 3)
    with pytest.raises(InsufficientSpace) as refused:
        promise(caches.secondary, free * 2 // 3, owner="test:2")
    assert refused.value.details["limiting_factor"] == "disk"
    assert refused.value.details["available_bytes"] == pytest.approx(free / 3, rel=0.05)
    assert promise(caches.secondary, free // 4, owner="test:2").sufficient


def test_what_landed_moves_from_promised_to_used_and_the_sum_stays(caches) -> None:
    promise(caches.primary, 8000)
    measure_cache(caches.primary)

    def used_and_reserved() -> tuple[int, int]:
        figures = figures_now(caches.primary, caches.primary.snapshots.first())
        return figures.used_bytes, figures.reserved_bytes

    used, reserved = used_and_reserved()
    assert reserved == 8000
    for landed, files in ((3000, {"a.safetensors": b"a" * 3000}), (8000, {"b.safetensors": b"b" * 5000})):
        make_cached_repo(Path(caches.primary.path), "org/m", files=files, refs={})
        measure_cache(caches.primary)
        assert used_and_reserved() == (used + landed, reserved - landed)
    make_cached_repo(Path(caches.primary.path), "org/m", files={"c.safetensors": b"c" * 5000}, refs={})
    measure_cache(caches.primary)
    assert used_and_reserved() == (used + 13000, 0)  # larger than promised: never below 0


def test_what_lay_there_before_the_promise_does_not_count_as_landed(caches) -> None:
    make_cached_repo(Path(caches.primary.path), "org/m", files={"old.bin": b"o" * 5000}, refs={})
    measure_cache(caches.primary)
    promise(caches.primary, 3000)
    measure_cache(caches.primary)
    assert Reservation.objects.get().remaining_bytes == 3000
    make_cached_repo(Path(caches.primary.path), "org/m", files={"new.bin": b"n" * 1000}, refs={})
    measure_cache(caches.primary)
    assert Reservation.objects.get().remaining_bytes == 2000


def land(cache: Cache, name: str, size_bytes: int, *, repo_id: str = "org/m") -> Path:
    """A blob of that size, with no bytes in it: usage is what files say."""
    path = Path(cache.path, repo_folder(repo_id), "blobs", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.truncate(path, size_bytes)
    return path


def test_bytes_that_landed_since_the_drive_was_asked_are_counted(caches) -> None:
    promise(caches.primary, 600 * MB)
    measured = current_snapshot(caches.primary)
    land(caches.primary, "a", 600 * MB)
    measure_cache(caches.primary)  # now they are used, and no more promised
    with pytest.raises(InsufficientSpace), transaction.atomic():
        book(caches.primary, Booking("test:2", "org/other", 600 * MB), measured=measured)


def test_the_limit_that_counts_is_that_of_the_moment(caches) -> None:
    measured = current_snapshot(caches.primary)
    Cache.objects.filter(pk=caches.primary.pk).update(limit_bytes=500 * MB)
    with pytest.raises(InsufficientSpace), transaction.atomic():
        book(caches.primary, Booking("test:1", "org/m", 600 * MB), measured=measured)


def test_a_partial_download_that_will_be_replaced_is_not_counted_twice(caches) -> None:
    partial = land(caches.primary, "a.12345678.incomplete", 600 * MB)
    measure_cache(caches.primary)
    with pytest.raises(InsufficientSpace):
        promise(caches.primary, 900 * MB)
    assert promise(caches.primary, 900 * MB, replaced_bytes=600 * MB).sufficient
    for happens, reserved in (
        (lambda: None, 300 * MB),
        (partial.unlink, 900 * MB),
        (lambda: land(caches.primary, "a", 400 * MB), 500 * MB),
        (lambda: land(caches.primary, "a", 900 * MB), 0),
    ):
        happens()
        measure_cache(caches.primary)
        assert Reservation.objects.get().remaining_bytes == reserved


def test_a_drive_that_is_away_takes_a_promise_its_limit_can_hold(caches) -> None:
    measure_caches()
    Path(caches.primary.path, MARKER_FILE).unlink()
    caches.primary.refresh_from_db()
    verdict = promise(caches.primary, 600 * MB)
    assert not verdict.sufficient and verdict.limiting_factor == "unavailable"
    with pytest.raises(InsufficientSpace):
        promise(caches.primary, 600 * MB, owner="test:2")
    assert CacheUnavailable.status == 503


@pytest.mark.parametrize(
    ("size_bytes", "actions"),
    [(2 * GB, ["choose_cache", "raise_limit", "free_space"]), (20 * GB, ["raise_limit", "free_space"])],
)
def test_a_refusal_says_what_would_help(caches, settings, size_bytes: int, actions: list[str]) -> None:
    settings.DISK_RESERVE_BYTES = -100 * GB  # whatever the disk of this machine
    measure_caches()
    with pytest.raises(InsufficientSpace) as refused:
        promise(caches.primary, size_bytes)
    assert [way["action"] for way in refused.value.details["actions"]] == actions
    assert "Raise PRIMARY_CACHE_LIMIT_GB in .env" in refused.value.message


def test_a_promise_survives_a_restart(caches) -> None:
    promise(caches.primary, 600 * MB)
    call_command("migrate", verbosity=0)  # what each start does
    assert check(find_cache("primary"), required_bytes=600 * MB).shortfall_bytes > 0


# Which cache is meant


def test_a_cache_is_found_by_its_location(caches) -> None:
    assert find_cache("primary") == caches.primary
    assert find_cache("secondary", path="/ignored") == caches.secondary
    with pytest.raises(InvalidValue) as refused:
        find_cache("tertiary")
    assert refused.value.code == "unknown_location" and "primary, secondary, custom" in refused.value.message


def test_a_new_custom_path_is_a_row_only_when_it_is_kept(caches, tmp_path: Path) -> None:
    (tmp_path / "extra").mkdir()
    found = find_cache("custom", path=f"{tmp_path}/extra/")
    verdict = check(found, required_bytes=MB)
    assert verdict.sufficient and verdict.figures.limit_bytes is None and verdict.limiting_factor == "disk"
    assert Cache.objects.count() == 2 and list((tmp_path / "extra").iterdir()) == []
    kept = keep(found)
    assert keep(kept) == keep(find_cache("custom", path=f"{tmp_path}/extra")) == kept
    assert Cache.objects.count() == 3


@pytest.mark.parametrize("path", [None, "", "/"])
def test_a_custom_cache_needs_a_path(caches, path: str | None) -> None:
    with pytest.raises(InvalidCachePath):
        find_cache("custom", path=path)


def test_the_path_of_a_known_cache_is_that_cache(caches) -> None:
    assert find_cache("custom", path=caches.primary.path + "/") == caches.primary
    for path in (caches.primary.path, f"{caches.primary.path}/inside"):
        with pytest.raises(InvalidCachePath, match="inside or around"):
            services.accept_custom_path(path)


def test_our_own_folders_are_no_cache(caches, settings, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path / "data"
    settings.BASE_DIR = tmp_path / "program"
    for path in ("data", "data/run", "program", "program/x"):
        with pytest.raises(InvalidCachePath) as refused:
            find_cache("custom", path=f"{tmp_path}/{path}")
        assert refused.value.code == "overlaps"


def test_a_changed_path_is_a_new_cache_and_the_old_one_stays_while_models_are_known_there(
    caches, settings, tmp_path: Path
) -> None:
    make_cached_repo(Path(caches.primary.path), "org/m", files={"a": b"a"})
    measure_caches()
    settings.PRIMARY_CACHE_PATH = tmp_path / "new"
    sync_configured_caches()
    sync_configured_caches()
    new = find_cache("primary")
    assert (new.path, new.limit_bytes) == (str(tmp_path / "new"), GB)
    assert set(Cache.objects.listed()) == {caches.primary, caches.secondary, new}
    assert find_cache("custom", path=caches.primary.path) == caches.primary
    CachedRepo.objects.all().delete()
    assert set(Cache.objects.listed()) == {caches.secondary, new}
    settings.PRIMARY_CACHE_PATH = Path(caches.primary.path)
    settings.PRIMARY_CACHE_LIMIT_BYTES = 2 * GB
    sync_configured_caches()
    assert find_cache("primary") == caches.primary and find_cache("primary").limit_bytes == 2 * GB


def test_an_unlisted_cache_with_a_promise_is_listed(caches, settings, tmp_path: Path) -> None:
    promise(caches.primary, MB)
    settings.PRIMARY_CACHE_PATH = tmp_path / "new"
    sync_configured_caches()
    assert caches.primary in Cache.objects.listed()
