"""When the trash is emptied: after its days, and before that when its room is needed."""

from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from cachemgr import monitor, services, trash
from cachemgr.errors import InsufficientSpace
from cachemgr.models import Cache, TrashedRepo
from cachemgr.space import Trashed, Verdict
from cachemgr.tasks import tend_trash
from homelab.owner import owner_account
from registry.services import Wish, register
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


@pytest.fixture
def small_disk(caches, mount, tmp_path, settings) -> Path:
    """Of a megabyte, with both caches on it: that of secondary has most of it in its trash."""
    settings.DISK_RESERVE_BYTES = 0
    disk = mount(tmp_path / "disk", size="1m")
    for cache in (caches.primary, caches.secondary):
        (disk / cache.location).mkdir()
        Cache.objects.filter(pk=cache.pk).update(path=str(disk / cache.location))
        monitor.measure_cache(cache)
        cache.refresh_from_db()
    removed_days_ago(caches.secondary, "m", days=1, weights=700_000)
    monitor.measure_caches()
    return disk


def test_the_trash_of_another_cache_gives_way_where_it_fills_the_same_disk(caches, small_disk) -> None:
    verdict = services.check(caches.primary, required_bytes=800_000)
    assert verdict.limiting_factor == "disk" and not verdict.sufficient
    assert trash.make_room(verdict) >= 700_000
    assert services.check(caches.primary, required_bytes=800_000).sufficient


def test_it_gives_way_to_a_folder_too_that_is_no_cache_yet(small_disk) -> None:
    custom = small_disk / "custom"
    custom.mkdir()
    place = {"cache_location": "custom", "cache_path": str(custom)}
    assert register(Wish("new", "org/new", estimated_bytes=800_000, **place)).verdict.sufficient
    assert folders() == []


def test_what_is_booked_is_booked_again_after_the_trash_gave_way(primary) -> None:
    removed_days_ago(primary, "m", days=1, weights=50_000)
    verdict, calls = lacking(primary, 40_000), []

    def attempt() -> str:
        calls.append(trash.entries().count())
        if trash.entries().exists():
            raise InsufficientSpace(verdict)
        return "booked"

    assert trash.with_room(attempt) == "booked" and calls == [1, 0]


# What a refusal says of it


def wish(**more: object) -> dict[str, object]:
    return {"model_name": "new", "hf_path": "org/new", "cache_location": "primary", "estimated_size_mb": 0.2, **more}


def test_a_refusal_offers_to_empty_a_trash_that_is_not_enough(api, primary) -> None:
    entry = removed_days_ago(primary, "m", days=1, weights=50_000)
    lacking(primary, 1)
    answer = api.post("/api/models", wish(), format="json")
    listed = api.get("/api/cache/trash").json()
    (way,) = [way for way in answer.json()["error"]["details"]["actions"] if way["action"] == "empty_trash"]
    assert answer.status_code == 507 and listed["freed_bytes"] == entry.freed_bytes
    assert (way["entries"], way["frees_bytes"]) == ([entry.pk], entry.freed_bytes)
    assert (
        "Empty the trash there: that frees" in way["sentence"] and "of the 200 kB that are lacking" in way["sentence"]
    )
    assert way["sentence"] in answer.json()["error"]["message"]


def test_the_page_and_the_shell_offer_it_too(primary) -> None:
    removed_days_ago(primary, "m", days=1, weights=50_000)
    lacking(primary, 1)
    browser = Client()
    browser.force_login(owner_account())
    page = browser.post("/admin/registry/modelregistry/add/", wish(wanted_revision="main"))
    assert "Empty the trash there: that frees" in page.content.decode()
    with pytest.raises(CommandError, match="Empty the trash there: that frees"):
        call_command("register", "new", "org/new", "--cache-location", "primary", "--estimated-size-mb", "0.2")


def test_only_a_trash_that_would_make_room_there_is_offered(caches, primary) -> None:
    monitor.measure_cache(caches.secondary)
    removed_days_ago(Cache.objects.get(pk=caches.secondary.pk), "m", days=1, weights=50_000)
    assert lacking(primary, 60_000).in_trash == Trashed()
    assert services.check(caches.secondary, required_bytes=60_000).in_trash == Trashed()  # it fits


def test_what_a_recommendation_promises_of_the_trash_a_registration_keeps(api, primary, settings) -> None:
    Cache.objects.filter(location="secondary").update(limit_bytes=1)
    removed_days_ago(primary, "m", days=1, weights=50_000)
    lacking(primary, 1)
    reason = api.get("/api/cache/recommend?estimated_size_mb=0.04").json()["reason"]
    assert "It would if the trash of the primary cache were emptied, as registering it there does" in reason
    assert api.post("/api/models", wish(estimated_size_mb=0.04), format="json").status_code == 201
    assert folders() == []
