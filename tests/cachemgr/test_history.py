"""The past: every row for a week, one an hour for a year, and what a plot can show of it."""

import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from cachemgr.history import EVERY_ROW_FOR, KEPT_FOR, points, rows_to_drop, samples, thin
from cachemgr.models import CacheEvent, CacheSnapshot
from cachemgr.monitor import measure_cache
from cachemgr.tasks import thin_history

NOW = datetime(2026, 7, 1, 12, 34, 56, tzinfo=UTC)
pytestmark = pytest.mark.django_db


def hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


# Ages bunch up around the two borders, and some rows come from a clock that was ahead.
AGES = st.one_of(
    st.integers(-7200, 400 * 86400),
    st.integers(-7200, 7200).map(lambda seconds: seconds + int(EVERY_ROW_FOR.total_seconds())),
    st.integers(-7200, 7200).map(lambda seconds: seconds + int(KEPT_FOR.total_seconds())),
)
ROWS = st.lists(st.tuples(st.integers(1, 3), AGES), max_size=80).map(
    lambda found: [
        (key, cache, NOW - timedelta(seconds=age))
        for key, (cache, age) in enumerate(sorted(found, key=lambda each: -each[1]))
    ]
)


@given(ROWS)
def test_young_rows_stay_old_ones_go_and_of_the_others_each_hours_first_stays(rows) -> None:
    dropped = set(rows_to_drop(rows, now=NOW))
    hours = defaultdict(list)
    for key, cache, taken_at in rows:
        age = NOW - taken_at
        if age > KEPT_FOR:
            assert key in dropped
        elif age <= EVERY_ROW_FOR:
            assert key not in dropped
        if age <= KEPT_FOR:
            hours[cache, hour_of(taken_at)].append(key)
    for keys in hours.values():
        old = [key for key in keys if NOW - rows[key][2] > EVERY_ROW_FOR]
        assert [key for key in old if key not in dropped] == old[:1]


@given(ROWS, st.integers(0, 3 * 86400))
def test_a_second_thinning_drops_nothing_more_and_a_later_one_leaves_no_more_than_one_alone(rows, seconds: int) -> None:
    first = set(rows_to_drop(rows, now=NOW))
    left = [row for row in rows if row[0] not in first]
    assert list(rows_to_drop(left, now=NOW)) == []
    later = NOW + timedelta(seconds=seconds)
    assert first | set(rows_to_drop(left, now=later)) >= set(rows_to_drop(rows, now=later))


def fill(cache, *, count: int, every: timedelta, now: datetime) -> None:
    rows = (
        CacheSnapshot(cache=cache, slot=-number, taken_at=now - every * number, state="ok", used_bytes=number)
        for number in range(count)
    )
    CacheSnapshot.objects.bulk_create(rows, batch_size=2000)


def copy_rows(source, target) -> None:
    """In the database: twice as fast as making them."""
    names = [field.column for field in CacheSnapshot._meta.concrete_fields if field.column not in ("id", "cache_id")]
    table, columns = CacheSnapshot._meta.db_table, ", ".join(names)
    statement = f"INSERT INTO {table} (cache_id, {columns}) SELECT %s, {columns} FROM {table} WHERE cache_id = %s"
    with connection.cursor() as cursor:
        cursor.execute(statement, [target.pk, source.pk])


def test_a_hundred_thousand_rows_are_thinned_in_seconds_and_once(caches) -> None:
    now = timezone.now()
    fill(caches.primary, count=50_000, every=timedelta(minutes=11), now=now)
    copy_rows(caches.primary, caches.secondary)
    begun = time.monotonic()
    dropped = thin(now=now)
    assert time.monotonic() - begun < 10
    in_a_week = 7 * 24 * 60 // 11 + 1
    for cache in (caches.primary, caches.secondary):
        kept = list(cache.snapshots.values_list("taken_at", flat=True))
        young = [each for each in kept if now - each <= EVERY_ROW_FOR]
        old = [each for each in kept if now - each > EVERY_ROW_FOR]
        assert len(young) == in_a_week and len({hour_of(each) for each in old}) == len(old)
        assert 358 * 24 - 1 <= len(old) <= 358 * 24 + 2
        assert now - min(kept) <= KEPT_FOR
    assert dropped == 100_000 - CacheSnapshot.objects.count()
    assert thin_history() == 0


def test_what_a_cache_shows_as_its_latest_stays_however_old_it_is(caches) -> None:
    latest = measure_cache(caches.primary)
    old = timezone.now() - timedelta(days=500)
    CacheSnapshot.objects.filter(pk=latest.pk).update(taken_at=old)
    CacheSnapshot.objects.create(cache=caches.primary, slot=1, taken_at=old, state="ok")
    assert thin() == 1
    caches.primary.refresh_from_db()
    assert caches.primary.latest == latest


def test_events_are_kept_for_a_year(caches) -> None:
    for days in (1, 364, 366):
        when = timezone.now() - timedelta(days=days)
        CacheEvent.objects.create(cache=caches.primary, kind="level", after="red", message=str(days), happened_at=when)
    thin()
    assert {event.message for event in CacheEvent.objects.all()} == {"1", "364"}


def test_a_plot_gets_evenly_spread_points_with_the_newest_among_them(caches) -> None:
    now = timezone.now()
    fill(caches.primary, count=1000, every=timedelta(minutes=5), now=now)
    fill(caches.secondary, count=10, every=timedelta(minutes=5), now=now)
    found = points(caches.primary, since=now - timedelta(days=30), limit=100)
    assert [each.used_bytes for each in found] == list(range(990, -1, -10))
    assert points(caches.secondary, since=now)[0].used_bytes == 0
    some = points(caches.primary, since=now - timedelta(hours=1), until=now - timedelta(minutes=30))
    assert [each.used_bytes for each in some] == list(range(12, 5, -1))


def test_pictures_get_the_newest_row_of_each_span_of_time_for_all_caches_in_one_query(
    caches, django_assert_num_queries
) -> None:
    now = timezone.now()
    fill(caches.primary, count=1000, every=timedelta(minutes=5), now=now)
    fill(caches.secondary, count=3, every=timedelta(hours=30), now=now)
    both = [caches.primary, caches.secondary]
    with django_assert_num_queries(1):
        found = samples(both, since=now - timedelta(hours=50), until=now, limit=100)
    primary, secondary = ([each.used_bytes for each in found[cache.pk]] for cache in both)
    assert primary == list(range(594, -1, -6)) and secondary == [1, 0]
    assert samples(both, since=now + timedelta(hours=1), until=now + timedelta(hours=2)) == {
        cache.pk: [] for cache in both
    }
    assert samples([], since=now, until=now) == {}


def test_of_a_hundred_thousand_rows_a_picture_is_made_in_milliseconds(caches) -> None:
    now = timezone.now()
    fill(caches.primary, count=50_000, every=timedelta(minutes=10), now=now)
    copy_rows(caches.primary, caches.secondary)
    begun = time.process_time()
    found = samples([caches.primary, caches.secondary], since=now - timedelta(days=365), until=now)
    assert time.process_time() - begun < 0.1
    assert [len(rows) for rows in found.values()] == [476, 476]  # of 500 spans: the rows reach back 347 days
