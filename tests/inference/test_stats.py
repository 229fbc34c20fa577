"""What the records say about a model."""

from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from homelab import settings as wiring
from inference import stats
from inference.figures import figure_lines
from inference.models import UsageRecord
from inference.stats import Period, Spread, spread, stats_of
from inference.tasks import thin_records
from tests.inference.usage import make_model, record, record_load

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
EMPTY = {"count": 0, "median": None, "p95": None}
NOTHING = {"uses": 0, "left": 0, "errors": 0, "prompt_tokens": 0, "completion_tokens": 0}
EMPTY_STATS: dict[str, object] = {
    "model_name": "m",
    "last_24h": NOTHING,
    "last_7d": NOTHING,
    "last_30d": NOTHING,
    "first_token_seconds": {"cold": EMPTY, "warm": EMPTY},
    "tokens_per_second": EMPTY,
    "load_seconds": [],
    "errors": [],
    "last_error": None,
}


@pytest.fixture
def model():
    return make_model()


def test_a_model_that_nobody_used_has_honest_empties(api, model):
    assert api.get("/api/models/m/stats").json() == EMPTY_STATS
    assert dict(figure_lines(stats_of(model))) == {
        "24 hours": "not used",
        "7 days": "not used",
        "30 days": "not used",
        "First token, in memory": "not measured yet",
        "First token, with a load": "not measured yet",
        "Speed": "not measured yet",
        "Load": "not measured yet",
        "Errors in 30 days": "none",
    }


def test_a_model_that_is_not_there_has_no_stats(api):
    answer = api.get("/api/models/nobody/stats")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_the_times_contain_one_another_and_nothing_older(model):
    for hours in (1, 23, 25, 24 * 6, 24 * 8, 24 * 29, 24 * 31):
        record(model, ago=timedelta(hours=hours), prompt_tokens=hours, completion_tokens=1)
    found = stats_of(model)
    assert found.last_24h == Period(uses=2, prompt_tokens=24, completion_tokens=2)
    assert found.last_7d == Period(uses=4, prompt_tokens=24 + 25 + 144, completion_tokens=4)
    assert found.last_30d == Period(uses=6, prompt_tokens=24 + 25 + 144 + 192 + 696, completion_tokens=6)


def test_loads_errors_and_other_models_are_no_uses(model):
    record(model)
    record(model, status="left", prompt_tokens=7)
    record(model, status="error", error_code="engine_failed")
    record(make_model("other"))
    record_load(model, path="/fast", seconds=1, at=timezone.now())
    assert stats_of(model).last_24h == Period(uses=2, left=1, errors=1, prompt_tokens=7)


def test_cold_and_warm_first_tokens_are_apart(model):
    for number in range(1, 101):
        record(model, first_token_seconds=number / 100, tokens_per_second=number)
    record(model, first_token_seconds=9.5, was_cold=True)
    record(model)
    found = stats_of(model)
    assert found.first_token_warm == Spread(100, 0.505, 0.95)
    assert found.first_token_cold == Spread(1, 9.5, 9.5)
    assert found.tokens_per_second == Spread(100, 50.5, 95)


def test_only_the_latest_requests_say_how_fast_a_model_is(model, monkeypatch):
    monkeypatch.setattr(stats, "_SAMPLE", 3)
    for minutes, seconds in zip(count(1), (1, 2, 3, 50, 60), strict=False):
        record(model, ago=timedelta(minutes=minutes), first_token_seconds=seconds, tokens_per_second=seconds)
    record(model, ago=timedelta(minutes=90), first_token_seconds=70, tokens_per_second=70, was_cold=True)
    found = stats_of(model)
    assert found.first_token_warm == found.tokens_per_second == Spread(3, 2, 3)
    assert found.first_token_cold == Spread(1, 70, 70)


def test_each_drive_has_the_median_of_its_latest_twenty_loads(model):
    for number in range(30):
        record_load(model, path="/fast", seconds=1.0 if number < 20 else 100.0, at=NOW - timedelta(hours=number))
    for number, seconds in enumerate((4, 8, 6)):
        place = {"path": "/slow", "cache_location": "secondary"}
        record_load(model, seconds=seconds, at=NOW - timedelta(days=1 + number), **place)
    record_load(model, path="/broken", seconds=500, at=NOW, status="error", error_code="engine_failed")
    fast, slow = stats_of(model).loads
    assert (fast.cache_location, fast.cache_path, fast.count, fast.median_seconds) == ("primary", "/fast", 20, 1.0)
    assert (slow.cache_location, slow.cache_path, slow.count, slow.median_seconds) == ("secondary", "/slow", 3, 6.0)


def test_errors_are_counted_by_code_and_the_last_one_is_told(api, model):
    for hours, code in ((1, "rare"), (2, "often"), (3, "often"), (24 * 31, "old")):
        record(model, ago=timedelta(hours=hours), status="error", error_code=code)
    answer = api.get("/api/models/m/stats").json()
    assert [(each["code"], each["count"]) for each in answer["errors"]] == [("often", 2), ("rare", 1)]
    assert answer["last_error"] == answer["errors"][1]


def test_the_figures_speak_for_themselves(model):
    record(model, prompt_tokens=123456, completion_tokens=1, first_token_seconds=0.25, tokens_per_second=40)
    record(model, status="left", was_cold=True, first_token_seconds=95)
    record(model, status="error", error_code="engine_failed")
    record_load(model, path="/fast", seconds=3.5, at=timezone.now())
    lines = dict(figure_lines(stats_of(model)))
    used = "2 requests, 1 of them left by the client, 1 failed; 123,456 tokens read, 1 written"
    assert lines["24 hours"] == lines["30 days"] == used
    assert lines["First token, in memory"] == "0.25 s; 95 of 100 within 0.25 s (one request)"
    assert lines["First token, with a load"].startswith("2 min; ")
    assert lines["Speed"] == "40.0 tokens per second (one request)"
    assert lines["Load"] == "3.50 s from the primary cache (/fast), median of 1"
    assert lines["Errors in 30 days"].startswith("engine_failed 1, last on 20")


def test_the_queries_are_as_many_for_any_number_of_rows(api, model):
    def queries_of_stats() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert api.get("/api/models/m/stats").status_code == 200
        return len(queries)

    before = queries_of_stats()
    for number in range(50):
        status = ("ok", "left", "error")[number % 3]
        record(model, status=status, first_token_seconds=1, was_cold=number % 2 == 0, error_code=f"e{number}")
        record_load(model, path=f"/{number}", seconds=1, at=timezone.now())
    assert queries_of_stats() == before <= 8


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([], Spread()),
        ([3.0], Spread(1, 3.0, 3.0)),
        ([1, 2], Spread(2, 1.5, 2)),
        (range(1, 101), Spread(100, 50.5, 95)),
        (range(20), Spread(20, 9.5, 18)),
        ([0.12345], Spread(1, 0.123, 0.123)),
    ],
)
def test_a_spread_is_the_median_and_what_95_of_100_do_not_exceed(numbers, expected):
    assert spread(numbers) == expected


# What is kept


def test_what_is_older_than_a_year_goes_and_nothing_else(model, monkeypatch):
    monkeypatch.setattr(stats, "_BATCH", 2)
    for days in (0, 364, 366, 400, 500):
        record(model, ago=timedelta(days=days))
    assert thin_records() == 3
    assert thin_records() == 0
    assert UsageRecord.objects.count() == 2


def test_every_hour_is_one_to_thin():
    beats = {entry["task"]: entry for entry in wiring.CELERY_BEAT_SCHEDULE.values()}
    assert beats["inference.tasks.thin_records"]["schedule"] == 3600
    assert thin_records.name == "inference.tasks.thin_records"
