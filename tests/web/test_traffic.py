"""The requests of the last hour, by the clock's five minutes."""

from datetime import UTC, datetime, timedelta

import pytest

from inference.models import UsageRecord
from web.traffic import last_hour

NOW = datetime(2026, 7, 1, 12, 33, 20, tzinfo=UTC)

pytestmark = pytest.mark.django_db


def add(at: datetime, **values: object) -> None:
    usual = {"kind": "request", "model_name": "x", "duration_seconds": 1, "status": "ok", "prompt_tokens": 3}
    UsageRecord.objects.create(started_at=at, **usual | values)


def test_each_is_in_the_five_minutes_in_which_it_began(django_assert_num_queries) -> None:
    for at in ("11:34", "11:35", "11:39", "12:30", "12:33"):
        add(datetime.fromisoformat(f"2026-07-01T{at}:00+00:00"))
    add(NOW, status="error", prompt_tokens=None)
    add(NOW, kind="load")
    with django_assert_num_queries(1):
        found = last_hour(now=NOW)
    words = [column.words for column in found.columns]
    assert len(words) == 12 and words[0] == "11:35: 2 requests" and words[1] == "11:40: 0 requests"
    assert words[-1] == "12:30: 3 requests, 1 failed"
    assert (found.count, found.failed, found.prompt_tokens, found.completion_tokens) == (5, 1, 12, 0)
    assert found.summary.startswith("Requests for each five minutes. 11:35: 2 requests; ")


def test_an_hour_without_any_says_so() -> None:
    add(NOW - timedelta(hours=2))
    assert last_hour(now=NOW).summary == "No requests in the last hour."
