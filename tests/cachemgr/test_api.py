"""`/api/cache/…`: the answers, and what nonsense gets."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from django.utils import timezone

from cachemgr.models import Cache, CacheSnapshot
from cachemgr.monitor import measure_caches
from tests.factories import loadable_files, make_cached_repo

pytestmark = pytest.mark.django_db
CHECK = "/api/cache/check"
QUESTION = {"cache_location": "primary", "required_space_mb": 5000}
STATS_FIELDS = {
    "cache_location", "cache_path", "status", "level", "warning", "used_gb", "limit_gb", "usage_percent", "reserved_gb",
    "available_gb", "disk_total_gb", "disk_used_gb", "disk_free_gb", "disk_usage_percent", "model_count", "updated_at",
    "age_seconds",
}  # fmt: skip
CHECK_FIELDS = {
    "cache_location", "cache_path", "required_space_mb", "sufficient", "warning", "available_mb", "projected_usage_gb",
    "usage_percent", "limit_gb", "disk_free_gb", "limiting_factor", "message",
}  # fmt: skip


def errors_of(answer) -> Any:
    assert answer.status_code == 400, answer.content
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "details"}
    assert error["message"]
    return error["details"].get("fields", {})


# Stats, refresh, history


def test_stats_have_every_promised_figure_in_gb_and_in_bytes(api, caches) -> None:
    make_cached_repo(Path(caches.primary.path), "org/m", files=loadable_files(weights=5 * 10**6))
    measure_caches()
    body = api.get("/api/cache/stats").json()
    assert set(body) == {"primary", "secondary", "custom", "warning_threshold", "updated_at"}
    line = body["primary"]
    assert set(line) >= STATS_FIELDS
    for name in ("used", "limit", "reserved", "available", "disk_total", "disk_used", "disk_free"):
        assert line[f"{name}_gb"] == round(line[f"{name}_bytes"] / 10**9, 3)
    assert (line["status"], line["level"], line["warning"], line["limit_gb"]) == ("ok", "green", False, 1.0)
    assert (line["used_gb"], line["usage_percent"], line["model_count"]) == (0.005, 0.5, 1)
    assert (body["custom"], body["warning_threshold"]) == ([], 0.9)


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


def test_history_is_thinned_to_what_a_plot_shows(api, caches) -> None:
    now = timezone.now()
    for row in (caches.primary, caches.secondary):
        CacheSnapshot.objects.bulk_create(
            CacheSnapshot(cache=row, slot=n, taken_at=now - timedelta(minutes=n), state="ok", used_bytes=n)
            for n in range(999)
        )
    CacheSnapshot.objects.create(cache=caches.primary, slot=-1, taken_at=now - timedelta(days=2), state="ok")
    points = api.get("/api/cache/history").json()
    assert len(points) == 500
    dates = [point["taken_at"] for point in points]
    assert dates == sorted(dates)
    assert set(points[0]) >= {"taken_at", "state", "used_gb", "used_bytes", "disk_free_gb", "disk_total_bytes"}
    since = (now - timedelta(minutes=9, seconds=30)).isoformat()
    assert len(api.get("/api/cache/history", {"cache": "secondary", "since": since}).json()) == 10
    assert "since" in errors_of(api.get("/api/cache/history", {"since": "yesterday"}))
    assert "cache" in errors_of(api.get("/api/cache/history", {"cache": "tertiary"}))


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


@pytest.mark.parametrize(
    ("number", "code"),
    [
        ("nan", "not_a_number"), ("inf", "not_a_number"), ("-inf", "not_a_number"), ("-1", "not_positive"),
        ("0", "not_positive"), ("0.0000001", "not_a_number"), ("1e400", "not_a_number"), ("true", "not_a_number"),
        ("1_0", "not_a_number"), ("1" + "0" * 400, "not_a_number"), ("", "not_a_number"), (" 5", "not_a_number"),
        ("٣", "not_a_number"), ("5,0", "not_a_number"), ("0x10", "not_a_number"), ("1000000001", "too_large"),
        ("-" + "9" * 400, "not_a_number"),
    ],
)  # fmt: skip
def test_a_bad_number_in_the_query_is_refused(api, caches, number: str, code: str) -> None:
    answer = api.post(f"{CHECK}?{urlencode({'cache_location': 'primary', 'required_space_mb': number})}")
    assert errors_of(answer)["required_space_mb"][0]["code"] == code
    assert answer.json()["error"]["code"] == code
    if number:
        answer = api.get("/api/cache/recommend", {"estimated_size_mb": number})
        assert errors_of(answer)["estimated_size_mb"][0]["code"] == code


@pytest.mark.parametrize(
    ("literal", "code"),
    [
        ('"nan"', "not_a_number"), ("-1", "not_positive"), ("-0.5", "not_positive"), ("0", "not_positive"),
        ("1e-9", "not_positive"), ("1e400", "not_a_number"), ("-1e400", "not_a_number"), ("true", "not_a_number"),
        ("false", "not_a_number"), ('"1_0"', "not_a_number"), ("1" + "0" * 400, "too_large"),
        ("-1" + "0" * 400, "not_positive"), ('""', "not_a_number"), ("null", "null"), ("[]", "not_a_number"),
        ("{}", "not_a_number"), ('"1e3"', "not_a_number"), ("1e15", "too_large"), ('"inf"', "not_a_number"),
    ],
)  # fmt: skip
def test_a_bad_number_in_json_is_refused(api, caches, literal: str, code: str) -> None:
    body = f'{{"cache_location": "primary", "required_space_mb": {literal}}}'
    answer = api.post(CHECK, body, content_type="application/json")
    assert errors_of(answer)["required_space_mb"][0]["code"] == code
    assert len(answer.content) < 600


@pytest.mark.parametrize(
    "body", ["NaN", '{"required_space_mb": NaN}', '{"a": Infinity}', "[1]", "7", '"x"', "{", "9" * 5000]
)
def test_a_body_that_is_no_json_object_is_refused(api, caches, body: str) -> None:
    assert errors_of(api.post(CHECK, body, content_type="application/json")) == {}


def test_a_form_is_not_taken(api, caches) -> None:
    answer = api.post(CHECK, "cache_location=primary", content_type="application/x-www-form-urlencoded")
    assert answer.status_code == 415 and answer.json()["error"]["code"] == "unsupported_media_type"


@pytest.mark.parametrize(
    ("changes", "field", "code"),
    [
        ({"cache_location": "tertiary"}, "cache_location", "invalid_choice"),
        ({"cache_location": ["primary"]}, "cache_location", "invalid_choice"),
        ({"cache_location": None}, "cache_location", "null"),
        ({"cache_location": "custom"}, "cache_path", "required"),
        ({"cache_location": "custom", "cache_path": ""}, "cache_path", "required"),
        ({"cache_location": "custom", "cache_path": None}, "cache_path", "required"),
        ({"cache_location": "custom", "cache_path": "/etc"}, "cache_path", "outside_allowed_roots"),
        ({"cache_location": "custom", "cache_path": "/tmp/\ud800"}, "cache_path", "surrogate_characters_not_allowed"),
        ({"cache_location": "custom", "cache_path": "/tmp/\0"}, "cache_path", "null_characters_not_allowed"),
    ],
)  # fmt: skip
def test_a_wrong_place_is_refused_with_its_code(api, caches, changes: dict[str, object], field: str, code: str) -> None:
    answer = api.post(CHECK, json.dumps(QUESTION | changes), content_type="application/json")
    assert errors_of(answer)[field][0]["code"] == code


def test_without_a_question_both_fields_are_named(api, caches) -> None:
    fields = errors_of(api.post(CHECK))
    assert {name: problems[0]["code"] for name, problems in fields.items()} == {
        "cache_location": "required",
        "required_space_mb": "required",
    }


# Recommend


@pytest.mark.parametrize(
    ("size_mb", "best", "reason"),
    [
        (100, "primary", "It fits the fast drive, with "),
        (950, "secondary", "The primary cache has no calm place for it."),
        (5000, "secondary", "The primary cache has no calm place for it."),
        (9500, "secondary", "9.5 GB fit, but the secondary cache"),
        (50_000, None, "It fits nowhere now. 50.0 GB do not fit: the primary cache"),
    ],
)
def test_the_best_place_is_named_with_its_reason(api, caches, size_mb: int, best: str | None, reason: str) -> None:
    body = api.get("/api/cache/recommend", {"estimated_size_mb": size_mb}).json()
    assert body["recommended_cache"] == best and body["reason"].startswith(reason)
    assert [each["cache_location"] for each in body["verdicts"]] == ["primary", "secondary"]


def test_nobody_comes_in_without_an_account(db) -> None:
    from rest_framework.test import APIClient

    for answer in (APIClient().get("/api/cache/stats"), APIClient().post(CHECK)):
        assert answer.status_code in (401, 403) and "error" in answer.json()
