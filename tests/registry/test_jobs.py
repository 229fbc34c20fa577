"""The life of a job row: claims, leases, and what becomes of the work of the dead."""

import os
import socket
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from registry import jobs, services
from registry.errors import JobOpen, NotNow
from registry.models import Job, ModelRegistry, lease_is_alive, own_lease_name

pytestmark = pytest.mark.django_db


@pytest.fixture
def model() -> ModelRegistry:
    return ModelRegistry.objects.create(model_name="m", hf_path="org/m")


@pytest.fixture
def job(model) -> Job:
    return services.request_download(model)


def test_only_one_worker_gets_a_job(job) -> None:
    assert job.claim()
    assert not Job.objects.get(pk=job.pk).claim()
    assert (job.state, job.attempt) == ("running", 1)


def test_a_job_that_waits_for_its_time_cannot_be_claimed(job) -> None:
    Job.objects.update(not_before=timezone.now() + timedelta(minutes=1))
    assert not job.claim()


def test_there_is_one_open_job_a_model_by_rule_of_the_database(job) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Job.objects.create(kind="download", model=job.model)


def test_asking_twice_for_a_download_answers_the_open_one(job) -> None:
    assert services.request_download(job.model) == job


def test_a_beat_of_a_job_that_is_not_ours_any_more_says_so(job) -> None:
    job.claim()
    assert job.beat(bytes_done=5)
    Job.objects.update(lease_owner="elsewhere:1:1.0")
    assert not job.beat(bytes_done=6)
    assert not job.close(Job.State.DONE)
    assert Job.objects.get().bytes_done == 5


def test_a_beat_hears_of_a_wish_to_cancel(job) -> None:
    job.claim()
    Job.objects.update(cancel_requested=True)
    assert not job.beat()


def test_the_lease_of_a_dead_process_is_free_at_once(job) -> None:
    job.claim()
    assert lease_is_alive(own_lease_name())
    dead = f"{socket.gethostname()}:{os.getpid()}:1.00"
    assert not lease_is_alive(dead)
    Job.objects.update(lease_owner=dead)
    jobs.reconcile()
    job.refresh_from_db()
    assert (job.state, job.attempt) == ("queued", 1)


def test_another_hosts_lease_is_good_until_it_runs_out(job) -> None:
    job.claim()
    Job.objects.update(lease_owner="elsewhere:1:1.0")
    jobs.reconcile()
    assert Job.objects.get().state == "running"
    Job.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    jobs.reconcile()
    assert Job.objects.get().state == "queued"


def test_a_job_whose_worker_died_five_times_fails_with_a_sentence(job) -> None:
    job.claim()
    Job.objects.update(attempt=5, lease_owner="elsewhere:1:1.0", lease_expires_at=timezone.now() - timedelta(seconds=1))
    jobs.reconcile()
    job.refresh_from_db()
    assert (job.state, job.error_code) == ("failed", "worker_lost") and "5 times" in job.error_message
    assert ModelRegistry.objects.get().status == "failed"


def test_a_queued_job_is_cancelled_at_once_and_only_once(job) -> None:
    assert services.cancel_job(job).state == "cancelled"
    assert ModelRegistry.objects.get().status == "registered"
    with pytest.raises(NotNow):
        services.cancel_job(job)


def test_a_model_with_open_work_is_not_forgotten(job) -> None:
    with pytest.raises(JobOpen):
        services.forget(job.model)


def test_progress_rate_and_time_left_are_figures(job) -> None:
    job.claim()
    job.beat(stage="downloading", bytes_done=250, bytes_total=1000, rate=50)
    job.refresh_from_db()
    assert (job.percent, job.eta_seconds) == (25.0, 15)


def test_a_worker_that_stops_puts_its_job_back(job, monkeypatch) -> None:
    jobs.stopping.set()
    try:
        jobs.run_job(job.pk)
    finally:
        jobs.stopping.clear()
    job.refresh_from_db()
    assert job.state == "queued" and job.lease_owner == ""


def test_jobs_are_listed_and_shown_by_the_api(api, job) -> None:
    assert [each["id"] for each in api.get("/api/jobs").json()] == [job.pk]
    assert api.get(f"/api/jobs/{job.pk}").json()["model"] == "m"
    assert api.get("/api/jobs/999").json()["error"]["code"] == "job_not_found"
    assert api.post(f"/api/jobs/{job.pk}/cancel").json()["state"] == "cancelled"
    assert api.post(f"/api/jobs/{job.pk}/cancel").status_code == 409
