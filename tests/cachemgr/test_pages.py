"""The Settings page: what it says of each cache, and its buttons."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from cachemgr.layout import MARKER_FILE
from cachemgr.models import Cache, CacheSnapshot
from cachemgr.monitor import measure_caches
from homelab.owner import owner_account

pytestmark = pytest.mark.django_db
GB = 10**9
DISK = {"disk_total_bytes": 100 * GB, "disk_used_bytes": 40 * GB, "disk_free_bytes": 60 * GB, "device": 7}


@pytest.fixture
def browser(db) -> Client:
    client = Client()
    client.force_login(owner_account())
    return client


def page_of(browser: Client, query: str = "") -> str:
    answer = browser.get(f"/settings{query}")
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def measured(cache: Cache, *, slot: int = 10**9, **values: Any) -> CacheSnapshot:
    snapshot = CacheSnapshot.objects.create(
        cache=cache, slot=slot, **{"state": "ok", "figures_at": timezone.now(), **DISK, **values}
    )
    Cache.objects.filter(pk=cache.pk).update(latest=snapshot)
    return snapshot


def test_a_card_says_what_fills_the_cache_and_what_fills_its_disk(browser, caches) -> None:
    measured(caches.primary, used_bytes=GB // 4, physical_bytes=GB // 5, foreign_bytes=7 * 10**7)
    things = [("notes.txt", "file", 6 * 10**7), ("old", "folder", 10**7), (".homelab", "house", 5)]
    Cache.objects.filter(pk=caches.primary.pk).update(
        foreign=[{"name": name, "kind": kind, "size_bytes": size} for name, kind, size in things],
        scan_problems=["models--a--b cannot be read"],
        filesystem="vfat",
        mount_point="/mnt/stick",
        takes_links=False,
        read_bytes_per_second=120 * 10**6,
    )
    page = page_of(browser)
    for words in (
        "25.0 %", "250 MB of 1.0 GB", "200 MB here", "39.8 GB others", "60.0 GB free", "120 MB/s", "vfat, mounted at",
        "/mnt/stick", "It takes no links", "70.0 MB here are no models", "notes.txt", "1 problem found",
        "models--a--b cannot be read",
    ):  # fmt: skip
        assert words in page, words
    assert ".homelab" not in page


def test_caches_that_share_their_free_space_name_each_other(browser, caches) -> None:
    for cache in (caches.primary, caches.secondary):
        measured(cache)
    page = page_of(browser)
    assert "shares this free space with secondary" in page and "shares this free space with primary" in page
    CacheSnapshot.objects.filter(cache=caches.primary).update(device=8)
    assert "shares this free space" not in page_of(browser)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"used_bytes": 95 * GB // 100}, "Nearly full"),
        ({"used_bytes": 98 * GB // 100}, "Almost no room left"),
        ({"used_bytes": 2 * GB}, "Over its limit"),
        ({"state": "read_only", "message": "It is mounted read-only."}, "nothing can be downloaded to it"),
        ({"state": "unresponsive", "message": "It did not answer."}, "The figures are the last good ones"),
        ({"state": "unmounted", "message": "Mount the drive.", "model_count": 3}, "missing until the drive is back"),
    ],
)
def test_each_state_is_told_in_words_with_what_to_do(browser, caches, values: dict[str, Any], words: str) -> None:
    measured(caches.primary, **values)
    page = page_of(browser)
    assert words in page and values.get("message", "") in page


def test_the_picture_covers_the_chosen_time(browser, caches) -> None:
    now = timezone.now()
    for hours in (1, 30, 200):
        measured(caches.primary, slot=hours, taken_at=now - timedelta(hours=hours), used_bytes=(300 - hours) * 10**6)
    assert "Steady at 299 MB." in page_of(browser)
    assert "Grew by 29.0 MB, to 299 MB." in page_of(browser, "?period=week")
    page = page_of(browser, "?period=year")
    assert "Grew by 199 MB, to 299 MB." in page and "1 year ago" in page and 'aria-current="true">1 year' in page
    assert 'aria-current="true">24 hours' in page_of(browser, "?period=nonsense")


def test_the_page_takes_the_same_few_queries_for_any_number_of_events_and_snapshots(
    browser, caches, django_assert_num_queries
) -> None:
    for cache in (caches.primary, caches.secondary):
        measured(cache)
    with CaptureQueriesContext(connection) as queries:
        page_of(browser)
    for number in range(30):
        caches.primary.events.create(kind="state", before="ok", after="missing", message=f"event {number}")
        measured(caches.primary, slot=number)
    with django_assert_num_queries(len(queries)):
        page = page_of(browser)
    assert page.count("event 2") == 8  # 22 to 29: the newest alone


def test_refresh_measures_now(browser, caches) -> None:
    answer = browser.post("/settings", follow=True)
    assert "The caches were measured just now." in answer.content.decode()
    assert CacheSnapshot.objects.count() == 2


def test_create_folder_is_offered_where_only_the_owner_may_say_so(browser, caches) -> None:
    deep = Path(caches.secondary.path) / "not" / "there"
    Cache.objects.filter(pk=caches.secondary.pk).update(path=str(deep))
    measure_caches()
    assert 'value="create"' in page_of(browser) and not deep.exists()
    answer = browser.post("/settings", {"action": "create", "cache": caches.secondary.pk}, follow=True)
    assert f"The secondary cache uses {deep} from now on." in answer.content.decode()
    assert (deep / MARKER_FILE).exists() and 'value="create"' not in page_of(browser)


def test_use_this_drive_is_offered_where_the_drive_is_another_one(browser, caches) -> None:
    measure_caches()
    Path(caches.primary.path, MARKER_FILE).unlink()
    measure_caches()
    page = page_of(browser)
    assert 'value="replace"' in page and "Nothing is removed from either drive" in page
    browser.post("/settings", {"action": "replace", "cache": caches.primary.pk})
    assert Path(caches.primary.path, MARKER_FILE).exists() and 'value="replace"' not in page_of(browser)


@pytest.mark.parametrize("key", ["", "x", "0", "9" * 30, "-1", "1.5"])
def test_a_button_for_a_cache_that_is_not_there_is_a_404(browser, caches, key: str) -> None:
    assert browser.post("/settings", {"action": "create", "cache": key}).status_code == 404
