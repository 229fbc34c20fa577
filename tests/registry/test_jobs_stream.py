"""`GET /api/jobs/events`: what is open, then each change; through the real web process, and without it where time is
played with."""

import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import psutil
import pytest
from django.db import connection
from django.utils import timezone

from registry import job_stream, jobs, services
from registry.job_stream import JobWatch, stream_jobs
from registry.models import Job, ModelRegistry
from tests.e2e.server import PROJECT, free_port, make_environment, wait_for

pytestmark = pytest.mark.django_db(transaction=True)


def make_job(name: str = "m") -> Job:
    return services.request_download(ModelRegistry.objects.create(model_name=name, hf_path=f"org/{name}"))


# What changed


def test_at_first_each_open_job_is_news_then_what_began_went_on_or_ended() -> None:
    jobs.cancel_job(make_job("over"))
    first = make_job("first")
    watch = JobWatch()
    assert watch.changed() == [first] and watch.changed() == []
    second = make_job("second")
    first.claim()
    assert watch.changed() == [first, second]
    first.beat(bytes_done=5)
    assert [job.bytes_done for job in watch.changed()] == [5]
    first.close(Job.State.DONE)
    assert [(job, job.state) for job in watch.changed()] == [(first, "done")] and watch.changed() == []


def test_a_job_that_began_and_ended_between_two_looks_is_news_once() -> None:
    watch = JobWatch()
    job = jobs.cancel_job(make_job())
    assert watch.changed() == [job] and watch.changed() == []


def test_a_job_that_is_tried_again_is_news() -> None:
    job = jobs.cancel_job(make_job())
    watch = JobWatch()
    jobs.retry_job(job)
    assert watch.changed() == [job]


def test_jobs_whose_model_is_gone_are_news_until_they_end() -> None:
    removed = ModelRegistry.objects.create(model_name="removed", hf_path="org/removed")
    removal = Job.objects.create(kind=Job.Kind.REMOVE, model=removed)
    removal.claim()
    deleted, watch = make_job("deleted"), JobWatch()
    assert [job.state for job in watch.changed()] == ["running", "queued"]
    ModelRegistry.objects.filter(pk__in=[removed.pk, deleted.model_id]).delete()
    assert [(job.kind, job.shall_end) for job in watch.changed()] == [("download", True)]
    removal.close(Job.State.DONE)
    assert jobs.run_job(deleted.pk) == "cancelled"
    assert [(job.title, job.state) for job in watch.changed()] == [("removed", "done"), ("deleted", "cancelled")]
    assert watch.changed() == []


def test_a_clock_that_is_set_back_hides_no_change() -> None:
    job, watch = make_job(), JobWatch()
    watch.changed()
    Job.objects.filter(pk=job.pk).update(stage="copying", updated_at=timezone.now() - timedelta(hours=1))
    assert [each.stage for each in watch.changed()] == ["copying"]


def test_while_nothing_changes_a_look_is_one_query_however_many_jobs_wait(django_assert_num_queries) -> None:
    for number in range(5):
        make_job(f"m{number}")
    watch = JobWatch()
    with django_assert_num_queries(2):
        watch.changed()
    with django_assert_num_queries(1):
        assert watch.changed() == []


async def test_a_quiet_stream_shows_now_and_then_that_it_lives(monkeypatch) -> None:
    monkeypatch.setattr(job_stream, "_QUIET_SECONDS", 0.1)
    monkeypatch.setattr(job_stream, "LOOK_SECONDS", 0.01)
    stream = stream_jobs()
    assert [await anext(stream), await anext(stream)] == [
        b": each open job, then each change\n\n",
        b": nothing new\n\n",
    ]
    await stream.aclose()


def test_nobody_who_is_not_signed_in_hears_of_jobs_and_the_refusal_is_json(client) -> None:
    answer = client.get("/api/jobs/events", headers={"Accept": "text/event-stream"})
    assert answer.status_code == 401 and answer.json()["error"]["code"] == "not_authenticated"


# The real web process


@pytest.fixture
def web(caches, tmp_path) -> Iterator[tuple[str, psutil.Process]]:
    """Its address and its process. It has the test's database."""
    if connection.vendor != "sqlite":
        pytest.skip("the web process shares the file of the test's database")
    port = free_port()
    database = {"DATABASE_URL": f"sqlite:///{connection.settings_dict['NAME']}"}
    process = subprocess.Popen(
        [sys.executable, "-m", "homelab.web"], cwd=PROJECT, env=make_environment(tmp_path, port=port, **database)
    )
    try:
        wait_for(lambda: answers(port))
        yield f"http://127.0.0.1:{port}", psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


def answers(port: int) -> bool:
    with socket.socket() as knock:
        return knock.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def listening(address: str) -> Iterator[Iterator[dict]]:
    """The jobs of the events as they come."""
    asked = urllib.request.Request(f"{address}/api/jobs/events", headers={"Accept": "text/event-stream"})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        lines = (line.decode() for line in answer)
        yield (json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: "))


def get(address: str) -> dict:
    with urllib.request.urlopen(address, timeout=10) as answer:
        return json.load(answer)


def test_a_listener_hears_of_each_change_and_costs_nothing_when_it_has_left(web) -> None:
    address, process = web
    job = make_job()
    get(f"{address}/api/jobs")
    threads = process.num_threads()
    with listening(address) as heard, listening(address) as heard_by_another:
        assert next(heard) == next(heard_by_another) == get(f"{address}/api/jobs/{job.pk}")
        job.claim()
        assert next(heard)["state"] == "running"
        job.beat(stage="downloading", bytes_done=50, bytes_total=200)
        assert (next(heard)["percent"], next(heard_by_another)["state"]) == (25.0, "running")
        job.close(Job.State.DONE)
        assert next(heard)["state"] == "done"
    wait_for(lambda: process.num_threads() <= threads)
    database = os.path.realpath(connection.settings_dict["NAME"])
    wait_for(lambda: database not in [file.path for file in process.open_files()])
