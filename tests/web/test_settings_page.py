"""The Settings page: what it says of each cache, its buttons, and the part of it that follows by itself."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from cachemgr.layout import MARKER_FILE
from cachemgr.models import Cache, CachedRepo, CacheSnapshot, Reservation
from cachemgr.monitor import measure_caches
from registry.models import ModelRegistry
from tests.web.measuring import GB, measured

pytestmark = pytest.mark.django_db


def page_of(browser: Client, query: str = "") -> str:
    answer = browser.get(f"/settings{query}")
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def hold(cache: Cache, *, repo_id: str, size_bytes: int) -> None:
    folder = f"models--{repo_id.replace('/', '--')}"
    CachedRepo.objects.create(cache=cache, folder=folder, repo_type="model", repo_id=repo_id, size_bytes=size_bytes)


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


def test_models_are_pieces_of_the_bar_and_lines_of_a_list_under_the_names_that_they_have_here(browser, caches) -> None:
    measured(caches.primary, used_bytes=GB // 2)
    for repo_id, size_bytes in (("a/large", GB // 4), ("a/second", GB // 10), ("a/unknown", GB // 20)):
        hold(caches.primary, repo_id=repo_id, size_bytes=size_bytes)
    ModelRegistry.objects.create(model_name="my-large", hf_path="a/large", status="ready")
    elsewhere = Path(caches.primary.path)
    for name in ("one", "two"):
        ModelRegistry.objects.create(
            model_name=name, hf_path="a/second", cache_location="custom", cache_path=f"{elsewhere}/"
        )
    page = page_of(browser)
    assert 'title="my-large: 250 MB">my-large</span>' in page
    assert ">my-large</a>" in page and ">one, two</a>" in page and "<span>a/unknown</span>" in page
    assert "100 MB other files in it" in page and "500 MB free" in page


def test_yellow_is_said_in_words(browser, caches) -> None:
    measured(caches.primary, used_bytes=8 * GB // 10)
    assert "Filling up" in page_of(browser)


def fill(caches, *, count: int) -> None:
    for number in range(count):
        caches.primary.events.create(kind="state", before="ok", after="missing", message=f"event {number}")
        measured(caches.primary, slot=number, used_bytes=GB // 2)
        hold(caches.secondary, repo_id=f"a/{count}-{number}", size_bytes=number)
        ModelRegistry.objects.create(model_name=f"m-{count}-{number}", hf_path=f"a/{count}-{number}")


@pytest.mark.parametrize("path", ["/settings", "/settings?period=year", "/settings/live"])
def test_the_page_takes_the_same_few_queries_for_any_number_of_models_events_and_snapshots(
    browser, caches, django_assert_num_queries, path: str
) -> None:
    fill(caches, count=3)
    with CaptureQueriesContext(connection) as queries:
        browser.get(path)
    assert len(queries) <= 16
    CacheSnapshot.objects.all().delete()
    fill(caches, count=30)
    with django_assert_num_queries(len(queries)):
        page = browser.get(path).content.decode()
    assert page.count("event 2") == 8  # 22 to 29: the newest alone


# The part that follows by itself


def stamp_of(page: str) -> str:
    return page.partition('name="seen" value="')[2].partition('"')[0]


def test_an_open_page_hears_of_each_new_measurement_and_of_nothing_else(browser, caches) -> None:
    measured(caches.primary, used_bytes=GB // 4)
    stamp = stamp_of(page_of(browser))
    assert browser.get("/settings/live", {"seen": stamp}).status_code == 204
    measured(caches.primary, slot=5, used_bytes=GB // 2)
    answer = browser.get("/settings/live", {"seen": stamp, "period": "week"})
    part = answer.content.decode()
    assert "50.0 %" in part and "<html" not in part and 'name="period" value="week"' in part
    assert browser.get("/settings/live", {"seen": stamp_of(part)}).status_code == 204


@pytest.mark.parametrize("what", ["promise", "event", "same slot", "limit"])
def test_whatever_changes_the_figures_changes_the_stamp(browser, caches, what: str) -> None:
    snapshot = measured(caches.primary)
    stamp = stamp_of(page_of(browser))
    if what == "promise":
        row = {"owner": "model:1", "folder": "x", "total_bytes": 5, "remaining_bytes": 5}
        Reservation.objects.create(cache=caches.primary, **row)
    elif what == "event":
        caches.primary.events.create(kind="state", before="ok", after="missing", message="gone")
    elif what == "limit":
        Cache.objects.filter(pk=caches.primary.pk).update(limit_bytes=5)
    else:
        CacheSnapshot.objects.filter(pk=snapshot.pk).update(taken_at=timezone.now() + timedelta(seconds=1))
    assert browser.get("/settings/live", {"seen": stamp}).status_code == 200


def test_who_is_not_signed_in_gets_no_sign_in_page_in_the_middle_of_another(caches) -> None:
    for path in ("/settings/live", "/settings/diagnostics", "/home/live"):
        answer = Client().get(path)
        assert answer.status_code == 401 and answer.content == b"Sign in first."


# Buttons


def test_refresh_measures_now(browser, caches) -> None:
    answer = browser.post("/settings", follow=True)
    assert "The caches were measured just now." in answer.content.decode()
    assert CacheSnapshot.objects.count() == 2


def test_refresh_in_place_answers_the_new_figures_and_a_sentence(browser, caches) -> None:
    (Path(caches.primary.path) / "notes.txt").write_bytes(bytes(123_000))
    answer = browser.post("/settings", {"period": "week"}, headers={"HX-Request": "true"})
    part = " ".join(answer.content.decode().split())
    assert answer.status_code == 200 and "<html" not in part
    assert "The caches were measured just now." in part and 'hx-swap-oob="true"' in part
    assert "123 kB here are no models" in part and 'name="period" value="week"' in part


def test_a_drive_that_hangs_is_told_in_words(browser, caches, monkeypatch) -> None:
    measure_caches()
    monkeypatch.setattr("cachemgr.monitor.REFRESH_SECONDS", 0.0)
    part = browser.post("/settings", headers={"HX-Request": "true"}).content.decode()
    assert "No answer within 0 s from primary and secondary" in part and "hl-said-trouble" in part
    assert "Does not answer" in part


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
