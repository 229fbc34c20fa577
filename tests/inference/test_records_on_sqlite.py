"""Records in SQLite: a file that another connection locks for a while, and how the stats are read from it."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import connection, connections

from inference.models import UsageRecord
from inference.records import UsageRecorder
from inference.stats import stats_of
from tests.inference.usage import make_model, make_usage, until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def recorder(monkeypatch):
    """Its connection waits a tenth of a second for a lock, not twenty."""
    monkeypatch.setitem(connections.settings["default"]["OPTIONS"], "timeout", 0.1)
    recorder = UsageRecorder(bound=100, every_seconds=0.05)
    recorder.start()
    yield recorder
    recorder.close(wait_seconds=30)


@contextmanager
def locked_database() -> Iterator[None]:
    other = sqlite3.connect(connections.settings["default"]["NAME"], isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def test_nothing_up_to_the_bound_is_lost_while_the_database_is_locked_and_nobody_waits(recorder, caplog):
    model = make_model()
    with locked_database():
        recorder.note(make_usage(model))
        until(lambda: "wait in memory" in caplog.text)
        started = time.monotonic()
        for _ in range(150):
            recorder.note(make_usage(model))
        assert time.monotonic() - started < 0.1
        until(lambda: "51 usage records were dropped" in caplog.text)
        assert not UsageRecord.objects.exists()
    until(lambda: UsageRecord.objects.count() == 100)
    model.refresh_from_db()
    assert model.use_count == 100
    assert caplog.text.count("wait in memory") == 1
    recorder.note(make_usage(model))
    until(lambda: UsageRecord.objects.count() == 101)


def test_the_end_does_not_wait_for_a_database_that_does_not_answer(monkeypatch, caplog):
    monkeypatch.setitem(connections.settings["default"]["OPTIONS"], "timeout", 20)
    recorder = UsageRecorder(every_seconds=0.05)
    recorder.start()
    with locked_database():
        recorder.note(make_usage())
        started = time.monotonic()
        recorder.close(wait_seconds=0.5)
        assert time.monotonic() - started < 5
    assert "1 usage records are lost: the database did not take them" in caplog.text
    recorder.close(wait_seconds=30)  # its thread ends with the test


def test_no_query_of_the_stats_reads_rows_that_it_does_not_need():
    """Each goes through an index that begins with the model; only the loads look a few rows up."""
    model, asked = make_model(), []

    def remember(execute, sql, params, many, context):
        asked.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(remember):
        stats_of(model)
    with connection.cursor() as cursor:
        plans = [cursor.execute(f"EXPLAIN QUERY PLAN {sql}", params).fetchall()[0][3] for sql, params in asked]
    covering = [plan for plan in plans if "USING COVERING INDEX usage_" in plan]
    assert len(covering) == len(plans) - 1, plans
    assert all("USING INDEX usage_" in plan for plan in plans if plan not in covering)
    assert sum("(model_id=? AND was_cold=?)" in plan for plan in plans) == 2
