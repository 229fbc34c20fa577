"""`/api/cache/…`: the answers, and what nonsense gets."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from cachemgr.layout import MARKER_FILE
from cachemgr.models import Cache, CacheSnapshot
from cachemgr.monitor import measure_caches
from registry.models import ModelRegistry
from tests.factories import loadable_files, make_cached_repo

pytestmark = pytest.mark.django_db
CHECK, HISTORY, ADOPT = "/api/cache/check", "/api/cache/history", "/api/cache/adopt"
QUESTION = {"cache_location": "primary", "required_space_mb": 5000}
STATS_FIELDS = {
    "cache_location", "cache_path", "status", "level", "warning", "used_gb", "limit_gb", "usage_percent", "reserved_gb",
    "available_gb", "disk_total_gb", "disk_used_gb", "disk_free_gb", "disk_usage_percent", "model_count", "updated_at",
    "age_seconds", "message", "filesystem", "mount_point", "takes_links", "read_mb_per_second", "pool",
}  # fmt: skip
CHECK_FIELDS = {
    "cache_location", "cache_path", "required_space_mb", "sufficient", "warning", "available_mb", "projected_usage_gb",
    "usage_percent", "limit_gb", "disk_free_gb", "limiting_factor", "message", "would_make_room",
}  # fmt: skip


# Stats, refresh


def test_stats_have_every_promised_figure_in_gb_and_in_bytes(api, caches) -> None:
    make_cached_repo(Path(caches.primary.path), "org/m", files=loadable_files(weights=5 * 10**6))
    measure_caches()
    body = api.get("/api/cache/stats").json()
    assert set(body) == {"primary", "secondary", "custom", "warning_threshold", "updated_at"}
    line = body["primary"]
    assert set(line) >= STATS_FIELDS
    for name in (
        "used",
        "physical",
        "foreign",
        "limit",
        "reserved",
        "available",
        "disk_total",
        "disk_used",
        "disk_free",
    ):
        assert line[f"{name}_gb"] == round(line[f"{name}_bytes"] / 10**9, 3)
    assert (line["status"], line["level"], line["warning"], line["limit_gb"]) == ("ok", "green", False, 1.0)
    assert (line["used_gb"], line["usage_percent"], line["model_count"]) == (0.005, 0.5, 1)
    assert (body["custom"], body["warning_threshold"]) == ([], 0.9)


def test_stats_say_what_each_drive_is_and_what_else_lies_there(api, caches) -> None:
    Path(caches.primary.path, "notes.txt").write_bytes(b"x" * 70_000)
    measure_caches()
    Cache.objects.filter(pk=caches.primary.pk).update(read_bytes_per_second=543_210_000)
    line = api.get("/api/cache/stats").json()["primary"]
    assert (line["read_mb_per_second"], line["foreign_bytes"], line["takes_links"]) == (543.2, 70_000, True)
    assert line["physical_bytes"] >= 69_000 and caches.primary.path.startswith(line["mount_point"])
    assert line["filesystem"] and line["pool"] == ["secondary"]  # both are folders of one temporary disk


def test_stats_before_any_measurement_are_an_answer_too(api, caches) -> None:
    body = api.get("/api/cache/stats").json()
    assert body["updated_at"] is None and body["primary"]["status"] == "not_measured"
    assert body["primary"]["age_seconds"] is None and body["primary"]["level"] == "green"


def test_a_custom_cache_and_one_that_left_the_settings_are_listed_with_the_custom_ones(
    api, caches, tmp_path: Path
) -> None:
    Cache.objects.create(location="custom", path=f"{tmp_path}/x")
    old = Cache.objects.create(location="primary", path=f"{tmp_path}/old", limit_bytes=5)
    old.repos.create(folder="models--m", repo_type="model", repo_id="m", size_bytes=1)
    custom = api.get("/api/cache/stats").json()["custom"]
    assert [(each["cache_path"], each["configured"], each["limit_gb"]) for each in custom] == [
        (f"{tmp_path}/old", False, 0.0),
        (f"{tmp_path}/x", False, None),
    ]


def test_refresh_measures_and_answers_with_the_stats(api, caches) -> None:
    body = api.post("/api/cache/refresh").json()
    assert body["primary"]["status"] == body["secondary"]["status"] == "ok"
    assert body["updated_at"] is not None and CacheSnapshot.objects.count() == 2


def test_stats_and_recommend_cannot_be_posted_nor_refresh_be_read(api, caches) -> None:
    for answer in (api.post("/api/cache/stats"), api.get("/api/cache/refresh"), api.get(CHECK)):
        assert answer.status_code == 405 and answer.json()["error"]["code"] == "method_not_allowed"


# History and events


def past(cache: Cache, count: int, *, minutes: float = 1) -> None:
    now = timezone.now()
    CacheSnapshot.objects.bulk_create(
        CacheSnapshot(cache=cache, slot=n, taken_at=now - timedelta(minutes=minutes * n), state="ok", used_bytes=n)
        for n in range(count)
    )


def test_history_is_thinned_to_what_a_plot_shows(api, caches) -> None:
    for row in (caches.primary, caches.secondary):
        past(row, 999)
    points = api.get(HISTORY).json()
    assert len(points) == 500
    dates = [point["taken_at"] for point in points]
    assert dates == sorted(dates) and points[-1]["used_bytes"] == 0  # the newest is there
    assert set(points[0]) >= {"taken_at", "state", "used_gb", "used_bytes", "disk_free_gb", "disk_total_bytes"}


@pytest.mark.parametrize(("since", "count"), [("1h", 1), ("24h", 24), ("2d", 48), ("1w", 168), ("1y", 200), ("", 24)])
def test_history_goes_as_far_back_as_it_is_asked_to(api, caches, since: str, count: int) -> None:
    past(caches.secondary, 200, minutes=60)
    question = {"cache": "secondary"} | ({"since": since} if since else {})
    assert len(api.get(HISTORY, question).json()) == count


def test_history_takes_a_date(api, caches) -> None:
    past(caches.primary, 99)
    since = (timezone.now() - timedelta(minutes=9, seconds=30)).isoformat()
    assert len(api.get(HISTORY, {"since": since}).json()) == 10
    assert api.get(HISTORY, {"since": "2999-01-01"}).json() == []


def test_a_custom_cache_has_a_history_too(api, caches, tmp_path: Path) -> None:
    past(Cache.objects.create(location="custom", path=f"{tmp_path}/x"), 3)
    assert len(api.get(HISTORY, {"cache": "custom", "cache_path": f"{tmp_path}/x"}).json()) == 3
    assert api.get(HISTORY, {"cache": "custom", "cache_path": f"{tmp_path}/unused"}).json() == []
    assert Cache.objects.count() == 3


def test_events_are_listed_the_newest_first(api, caches, django_assert_max_num_queries) -> None:
    now = timezone.now()
    for age in range(120):
        caches.primary.events.create(
            kind="level", before="green", after="yellow", message=f"{age} h ago", happened_at=now - timedelta(hours=age)
        )
    with django_assert_max_num_queries(1):
        events = api.get("/api/cache/events").json()
    assert [event["message"] for event in events] == [f"{age} h ago" for age in range(100)]
    assert events[0] | {"happened_at": None} == {
        "happened_at": None, "cache_location": "primary", "cache_path": caches.primary.path, "kind": "level",
        "before": "green", "after": "yellow", "message": "0 h ago", "sent_at": None,
    }  # fmt: skip
    assert len(api.get("/api/cache/events", {"since": "3h"}).json()) == 3


# Check


@pytest.mark.parametrize("way", ["query", "json", "query with an empty form", "both"])
def test_a_question_may_come_by_query_or_by_json(api, caches, way: str) -> None:
    query = "?cache_location=secondary&required_space_mb=5000"
    if way == "json":
        answer = api.post(CHECK, QUESTION | {"cache_location": "secondary"}, format="json")
    elif way == "both":
        answer = api.post(CHECK + query, {"required_space_mb": 5000}, format="json")
    elif way == "query":
        answer = api.post(CHECK + query)
    else:  # as `curl -X POST -d ''` sends it
        answer = api.post(CHECK + query, data="", content_type="application/x-www-form-urlencoded")
    assert answer.status_code == 200, answer.content
    body = answer.json()
    assert set(body) >= CHECK_FIELDS
    assert (body["cache_location"], body["required_space_mb"], body["sufficient"], body["warning"]) == (
        "secondary", 5000.0, True, False,
    )  # fmt: skip
    assert (body["limit_gb"], body["limiting_factor"], body["usage_percent"]) == (10.0, "limit", 50.0)


def test_what_does_not_fit_is_an_answer_and_no_error(api, caches) -> None:
    body = api.post(CHECK, QUESTION, format="json").json()
    assert body["sufficient"] is False and body["warning"] is True
    assert body["available_bytes"] < 10**9 and "5.0 GB do not fit" in body["message"]


def test_a_cache_that_is_away_never_has_room(api, caches) -> None:
    measure_caches()
    Path(caches.primary.path).rename(caches.primary.path + ".away")
    body = api.post(CHECK, QUESTION | {"required_space_mb": 1}, format="json").json()
    assert (body["sufficient"], body["limiting_factor"], body["available_mb"]) == (False, "unavailable", 0)


def test_a_question_about_a_custom_path_leaves_no_trace(api, caches, tmp_path: Path) -> None:
    (tmp_path / "extra").mkdir()
    question = QUESTION | {"cache_location": "custom", "required_space_mb": 1, "cache_path": f"{tmp_path}/extra"}
    body = api.post(CHECK, question, format="json").json()
    assert (body["sufficient"], body["limit_gb"], body["limiting_factor"]) == (True, None, "disk")
    body = api.post(CHECK, question | {"cache_path": f"{tmp_path}/none"}, format="json").json()
    assert (body["sufficient"], body["limiting_factor"]) == (False, "unavailable")
    assert Cache.objects.count() == 2 and list((tmp_path / "extra").iterdir()) == []
    assert not (tmp_path / "none").exists()


def old_model(cache: Cache, name: str, *, weights: int, **values: Any) -> ModelRegistry:
    make_cached_repo(Path(cache.path), f"org/{name}", files=loadable_files(weights=weights))
    return ModelRegistry.objects.create(
        model_name=name, hf_path=f"org/{name}", cache_location=cache.location, status="ready", **values
    )


def test_models_that_would_make_room_are_named_with_their_bytes(api, caches) -> None:
    used = timezone.now() - timedelta(days=30)
    old_model(caches.primary, "old", weights=6 * 10**6, last_used_at=used)
    old_model(caches.primary, "fresh", weights=6 * 10**6, last_used_at=timezone.now())
    old_model(caches.primary, "kept", weights=6 * 10**6, pinned=True)
    measure_caches()
    body = api.post(CHECK, QUESTION | {"required_space_mb": 985}, format="json").json()
    assert body["sufficient"] is False
    (candidate,) = body["would_make_room"]
    assert (candidate["name"], candidate["cache_location"]) == ("old", "primary")
    assert candidate["size_bytes"] >= 6 * 10**6 and candidate["size_gb"] == 0.006
    assert candidate["last_used_at"].startswith(f"{used:%Y-%m-%d}")
    assert api.post(CHECK, QUESTION | {"required_space_mb": 10}, format="json").json()["would_make_room"] == []


# Recommend


@pytest.mark.parametrize(
    ("size_mb", "best", "reason"),
    [
        (100, "primary", "100 MB fit the primary cache, and 90% of it stay free."),
        (950, "secondary", "950 MB fit the secondary cache, and 90.5% of it stay free."),
        (5000, "secondary", "5.0 GB fit the secondary cache"),
        (9500, "secondary", "9.5 GB fit, but the secondary cache"),
        (50_000, None, "It fits nowhere now. 50.0 GB do not fit: the primary cache"),
    ],
)
def test_the_best_place_is_named_with_its_reason(api, caches, size_mb: int, best: str | None, reason: str) -> None:
    body = api.get("/api/cache/recommend", {"estimated_size_mb": size_mb}).json()
    assert body["recommended_cache"] == best and body["reason"].startswith(reason)
    assert [each["cache_location"] for each in body["verdicts"]] == ["primary", "secondary"]
    assert body["would_make_room"] == []


# Adopt


def test_the_owner_may_have_a_folder_made_that_the_monitor_does_not_dare_to_make(api, caches) -> None:
    path = Path(caches.secondary.path)
    path.rmdir()
    deep = path / "not" / "there"
    Cache.objects.filter(pk=caches.secondary.pk).update(path=str(deep))
    answer = api.post(ADOPT, {"cache_location": "secondary"}, format="json")
    assert answer.status_code == 503 and answer.json()["error"]["code"] == "cache_unavailable"
    assert "--create" in answer.json()["error"]["message"] and not path.exists()
    answer = api.post(ADOPT, {"cache_location": "secondary", "create": True}, format="json")
    assert answer.status_code == 200, answer.content
    assert (answer.json()["status"], answer.json()["cache_path"]) == ("ok", str(deep))
    assert (deep / MARKER_FILE).exists()


def test_another_drive_is_taken_only_when_the_owner_says_so(api, caches) -> None:
    measure_caches()
    marker = Path(caches.primary.path, MARKER_FILE)
    marker.unlink()
    refused = api.post(ADOPT, {"cache_location": "primary"}, format="json")
    assert refused.status_code == 503 and "--replace" in refused.json()["error"]["message"] and not marker.exists()
    taken = api.post(ADOPT, {"cache_location": "primary", "replace": True}, format="json")
    assert taken.status_code == 200 and taken.json()["status"] == "ok" and marker.exists()
    assert api.post("/api/cache/refresh").json()["primary"]["status"] == "ok"


def test_nobody_comes_in_without_an_account(db) -> None:
    from rest_framework.test import APIClient

    for answer in (APIClient().get("/api/cache/stats"), APIClient().post(CHECK)):
        assert answer.status_code in (401, 403) and "error" in answer.json()
