"""Records of what models do: taken in no time, written once a second, whatever else happens."""

import asyncio
import logging
import threading
from dataclasses import fields
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from inference.models import UsageRecord
from inference.records import Usage, UsageRecorder, write
from tests.inference.usage import make_model, make_usage, until

pytestmark = pytest.mark.django_db(transaction=True)
MOMENT = datetime(2026, 1, 31, 18, 0, 0, tzinfo=UTC)


@pytest.fixture
def recorder():
    recorder = UsageRecorder(every_seconds=0.05)
    recorder.start()
    yield recorder
    recorder.close(wait_seconds=30)


def test_what_is_noted_becomes_a_row_with_all_its_figures_and_counts(recorder):
    model = make_model()
    usage = make_usage(
        model,
        started_at=MOMENT,
        status="left",
        cache_location="primary",
        cache_path="/fast",
        was_cold=True,
        load_seconds=3.5,
        stage_seconds={"queued": 0.5, "reading": 3.0},
        is_streamed=True,
    )
    recorder.note(usage)
    until(UsageRecord.objects.exists)
    row = UsageRecord.objects.get()
    assert row.model == model
    assert {each.name: getattr(row, each.name) for each in fields(usage) if each.name != "model_pk"} == {
        each.name: getattr(usage, each.name) for each in fields(usage) if each.name != "model_pk"
    }
    model.refresh_from_db()
    assert (model.use_count, model.prompt_tokens, model.completion_tokens) == (1, 10, 5)
    assert model.last_used_at == MOMENT + timedelta(seconds=2)


def test_a_load_or_an_error_is_a_row_but_no_use():
    model = make_model()
    write([make_usage(model, kind="load"), make_usage(model, status="error", error_code="engine_failed")])
    model.refresh_from_db()
    assert UsageRecord.objects.count() == 2
    assert (model.use_count, model.last_used_at, model.completion_tokens) == (0, None, 0)


def test_uses_are_added_to_what_is_counted_already_once_for_each_model():
    models = [make_model(name) for name in "abc"]
    batch = [make_usage(model) for model in models for _ in range(100)]
    with CaptureQueriesContext(
        connection,
    ) as queries:
        write(batch)
        write(batch[:100])
    updates = [each["sql"] for each in queries if each["sql"].startswith('UPDATE "modelregistry"')]
    assert len(updates) == 4
    for model, uses in zip(models, (200, 100, 100), strict=True):
        model.refresh_from_db()
        assert (model.use_count, model.prompt_tokens) == (uses, uses * 10)


def test_the_latest_end_counts_in_whatever_order_they_came():
    model = make_model()
    write([make_usage(model, started_at=MOMENT), make_usage(model, started_at=MOMENT - timedelta(minutes=1))])
    model.refresh_from_db()
    assert model.last_used_at == MOMENT + timedelta(seconds=2)


def test_a_model_that_was_removed_meanwhile_leaves_its_name():
    model = make_model("gone")
    usage = make_usage(model)
    kept = make_usage(make_model("kept"))
    model.delete()
    write([usage, kept])
    assert set(UsageRecord.objects.values_list("model_name", "model__model_name")) == {("gone", None), ("kept", "kept")}


def test_the_rows_of_a_model_outlive_it():
    model = make_model()
    write([make_usage(model)])
    model.delete()
    assert UsageRecord.objects.values_list("model_name", "model").get() == ("m", None)


@pytest.mark.parametrize(
    "wrong", [{"completion_tokens": -1}, {"duration_seconds": None}, {"stage_seconds": {"queued": object()}}]
)
def test_a_row_that_cannot_be_written_costs_no_other(caplog, wrong):
    model = make_model()
    batch = [make_usage(model) for _ in range(20)]
    batch[7:7] = [make_usage(model, **wrong)]
    write(batch)
    assert UsageRecord.objects.count() == 20
    assert "A usage record of m cannot be written" in caplog.text
    model.refresh_from_db()
    assert model.use_count == 20


def test_threads_and_tasks_note_at_the_same_time_and_nothing_is_lost_or_doubled(recorder):
    model = make_model()
    usage = make_usage(model)

    async def from_tasks() -> None:
        for _ in range(10):
            await asyncio.gather(*(asyncio.to_thread(recorder.note, usage) for _ in range(20)))
            recorder.note(usage)

    threads = [threading.Thread(target=lambda: [recorder.note(usage) for _ in range(300)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    asyncio.run(from_tasks())
    for thread in threads:
        thread.join()
    recorder.close(wait_seconds=30)
    model.refresh_from_db()
    assert UsageRecord.objects.count() == model.use_count == 4 * 300 + 10 * 21


def test_at_the_end_what_waits_is_written():
    recorder = UsageRecorder(every_seconds=3600)
    recorder.start()
    model = make_model()
    for _ in range(1200):
        recorder.note(make_usage(model))
    assert not UsageRecord.objects.exists()
    recorder.close(wait_seconds=60)
    assert UsageRecord.objects.count() == 1200


def test_what_comes_after_the_bound_is_dropped_counted_and_said_once(caplog):
    recorder = UsageRecorder(bound=3)
    for name in "abcde":
        recorder.note(make_usage(model_name=name))
    for _ in range(2):
        recorder.flush()
    assert sorted(UsageRecord.objects.values_list("model_name", flat=True)) == ["a", "b", "c"]
    assert recorder.dropped == 2
    said = [each.message for each in caplog.records if each.levelno == logging.WARNING]
    assert said == ["2 usage records were dropped: 3 wait for the database already"]


def test_a_usage_has_no_place_for_what_was_said():
    """Texts are names, codes and paths of ours: whoever adds one here thinks of the prompts."""
    texts = {each.name for each in fields(Usage) if each.type is str or "Literal" in str(each.type)}
    assert texts == {"kind", "model_name", "status", "error_code", "cache_location", "cache_path", "endpoint"}
