"""Jobs that have to wait: for a lock, while their work is silent, and what becomes of a move that waited too long."""

import threading
from pathlib import Path

import pytest
from django.db import OperationalError

from cachemgr import locks
from registry import jobs, leases
from registry.errors import JobOpen, NotNow
from registry.models import Job, ModelRegistry
from tests.registry.downloading import wait_for
from tests.registry.test_jobs_claims import drives, make_job

__all__ = ["drives"]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quick_beats(monkeypatch) -> None:
    monkeypatch.setattr(leases, "_BEAT_SECONDS", 0.02)


@pytest.fixture
def job(drives) -> Job:
    return make_job(1, kind="verify", source=drives[0])


def beat_of(job: Job) -> float:
    return Job.objects.get(pk=job.pk).lease_beat_at


def beating_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "(_beat)" in thread.name]


# Signs of life


def test_the_lease_of_work_that_says_nothing_for_long_is_renewed_until_its_end(job, monkeypatch) -> None:
    def wait_in_silence(job: Job, *, report) -> None:
        began = beat_of(job)
        later = wait_for(lambda: beat_of(job) > began and beat_of(job))
        wait_for(lambda: beat_of(job) > later)

    monkeypatch.setitem(jobs.WORK, Job.Kind.VERIFY, jobs.Work(wait_in_silence))
    assert jobs.run_job(job.pk) == "done" and not beating_threads()
    assert Job.objects.get(pk=job.pk).lease_expires_at is None


def test_the_lease_of_a_job_that_cleans_up_in_silence_is_renewed_too(job, monkeypatch) -> None:
    def fail(job: Job, *, report) -> None:
        raise NotNow("It is over.")

    def clean_up(job: Job) -> None:
        began = beat_of(job)
        wait_for(lambda: beat_of(job) > began)

    monkeypatch.setitem(jobs.WORK, Job.Kind.VERIFY, jobs.Work(fail, clean_up))
    assert jobs.run_job(job.pk) == "failed" and not beating_threads()
    assert Job.objects.get(pk=job.pk).error_message == "It is over."


@pytest.mark.parametrize(
    "taken",
    [{"lease_owner": "elsewhere:1:1.0"}, {"state": "queued"}, {"attempt": 2}],
    ids=["by another worker", "back to the queue", "by another thread of this worker"],
)
def test_a_job_that_was_taken_away_is_not_kept_alive_by_whoever_lost_it(job, taken) -> None:
    assert job.claim()
    with job.kept_alive():
        began = beat_of(job)
        wait_for(lambda: beat_of(job) > began)
        Job.objects.update(**taken)
        Job.objects.update(lease_beat_at=1.0)
        wait_for(lambda: not beating_threads())
        assert beat_of(job) == 1.0


def test_a_database_that_fails_for_a_moment_ends_no_beating() -> None:
    calls: list[int] = []

    def renew() -> bool:
        calls.append(len(calls))
        if len(calls) == 2:
            raise OperationalError("database is locked")
        return len(calls) < 4

    with leases.beating(renew):
        wait_for(lambda: len(calls) == 4 and not beating_threads())


# For whoever holds the model


def test_a_job_whose_model_is_held_waits_ten_seconds_and_loses_no_attempt(job, drives, monkeypatch) -> None:
    folder, woken = Path(drives[0].path) / "models--org--m1", []
    folder.mkdir()

    def read(job: Job, *, report) -> None:
        with locks.shared(folder, wait_seconds=0.1):
            report(stage="reading", bytes_done=0, bytes_total=1)

    monkeypatch.setitem(jobs.WORK, Job.Kind.VERIFY, jobs.Work(read))
    monkeypatch.setattr(jobs, "wake_worker", lambda job, **how: woken.append(how))
    with locks.exclusive(folder):
        assert jobs.run_job(job.pk) == "queued"
    job.refresh_from_db()
    assert (job.error_code, job.attempt, job.state) == ("model_busy", 0, "queued")
    assert [how["pause"].total_seconds() for how in woken] == [10.0] and job.not_before > job.updated_at
    Job.objects.update(not_before=job.created_at)
    assert jobs.run_job(job.pk) == "done"


# A move that is tried again


@pytest.fixture
def move(drives) -> Job:
    job = make_job(1, source=drives[0], target=drives[1])
    job.model.mark("ready", cache_location="primary")
    Job.objects.update(state="failed")
    return Job.objects.get()


def test_a_move_is_tried_again_while_its_model_is_where_it_began_and_takes_all_along_that_is_ready(move) -> None:
    for name, status in (("twin", "ready"), ("failed", "failed")):
        values = {"hf_path": move.hf_path, "cache_location": "primary", "status": status}
        ModelRegistry.objects.create(model_name=name, **values)
    assert jobs.retry_job(move).state == "queued"
    states = dict(ModelRegistry.objects.values_list("model_name", "status"))
    assert states == {"m1": "moving", "twin": "moving", "failed": "failed"}


@pytest.mark.parametrize("status", ["missing", "failed", "registered"])
def test_a_move_whose_model_is_not_ready_any_more_is_not_tried_again(move, drives, status) -> None:
    move.model.mark(status)
    with pytest.raises(NotNow, match=f"m1 changed: it is not ready in {drives[0].path}"):
        jobs.retry_job(move)
    assert Job.objects.get().state == "failed" and ModelRegistry.objects.get().status == status


def test_a_move_whose_model_was_set_to_another_place_is_not_tried_again(move, drives) -> None:
    move.model.mark("ready", cache_location="secondary")
    with pytest.raises(NotNow, match=f"from {drives[0].path}, but it is in {drives[1].path} now"):
        jobs.retry_job(move)
    assert Job.objects.get().state == "failed"


def test_a_move_that_has_only_to_remove_old_files_is_not_tried_again_once_they_are_in_use(move, drives) -> None:
    Job.objects.update(committed=True)
    move.refresh_from_db()
    with pytest.raises(NotNow, match=f"the files in {drives[0].path}, which are in use"):
        jobs.retry_job(move)
    move.model.mark("ready", cache_location="secondary")
    assert jobs.retry_job(move).state == "queued" and ModelRegistry.objects.get().status == "ready"


def test_a_move_whose_cache_is_not_known_any_more_is_not_tried_again(move) -> None:
    Job.objects.update(target=None)
    move.refresh_from_db()
    with pytest.raises(NotNow, match="one of its caches was removed"):
        jobs.retry_job(move)


def test_a_move_is_not_tried_again_while_another_model_of_its_folder_has_work(move, drives) -> None:
    twin = ModelRegistry.objects.create(model_name="twin", hf_path=move.model.hf_path, cache_location="primary")
    Job.objects.create(kind="verify", model=twin, source=drives[0])
    with pytest.raises(JobOpen, match="shares its files with twin"):
        jobs.retry_job(move)
    assert Job.objects.get(pk=move.pk).state == "failed"
