"""The life of a job row: claims, leases, and what becomes of the work of the dead."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, OperationalError, transaction
from django.utils import timezone

from cachemgr.errors import CacheUnavailable, ErrandFailed
from registry import downloads, jobs, services
from registry.errors import JobOpen, NotNow
from registry.models import Job, ModelRegistry

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


def test_a_job_whose_worker_died_five_times_fails_with_a_sentence(job) -> None:
    job.claim()
    Job.objects.update(attempt=5, lease_owner="elsewhere:1:1.0", lease_expires_at=timezone.now() - timedelta(seconds=1))
    jobs.reconcile()
    job.refresh_from_db()
    assert (job.state, job.error_code) == ("failed", "worker_lost") and "5 times" in job.error_message
    assert ModelRegistry.objects.get().status == "failed"


def test_a_model_with_open_work_is_not_forgotten(job) -> None:
    with pytest.raises(JobOpen):
        services.forget(job.model)


def test_progress_rate_and_time_left_are_figures(job) -> None:
    job.claim()
    job.beat(stage="downloading", bytes_done=250, bytes_total=1000, rate=50)
    job.refresh_from_db()
    assert (job.percent, job.eta_seconds) == (25.0, 15)


def test_a_worker_that_stops_puts_its_job_back_and_the_job_keeps_its_attempts(job) -> None:
    jobs.stopping.set()
    try:
        jobs.run_job(job.pk)
    finally:
        jobs.stopping.clear()
    job.refresh_from_db()
    assert (job.state, job.lease_owner, job.attempt) == ("queued", "", 0) and job.started_at


# What a job's work does, and how it ends


class FakeWork:
    """Work that does what the test says, and remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.raises: Exception | None = None
        self.clean_up_raises: Exception | None = None
        self.during = lambda job: None

    def run(self, job: Job, *, report) -> None:
        self.calls.append("run")
        self.during(job)
        report(stage="working", bytes_done=1, bytes_total=2)
        if self.raises:
            raise self.raises

    def clean_up(self, job: Job) -> None:
        self.calls.append("clean up" if job.started_at else "clean up what never began")
        if self.clean_up_raises:
            raise self.clean_up_raises


@pytest.fixture
def work(monkeypatch) -> FakeWork:
    fake = FakeWork()
    monkeypatch.setitem(jobs.WORK, Job.Kind.DOWNLOAD, jobs.Work(fake.run, fake.clean_up, downloads.begin_again))
    return fake


def run(job: Job) -> Job:
    jobs.run_job(job.pk)
    job.refresh_from_db()
    return job


def trouble(code: str = "hub_unreachable", *, is_permanent: bool = False, **details) -> ErrandFailed:
    return ErrandFailed(f"It is {code}.", code=code, is_permanent=is_permanent, details=details)


def due_again(job: Job) -> Job:
    Job.objects.filter(pk=job.pk).update(not_before=timezone.now())
    return job


def test_work_that_ends_well_is_done_and_leaves_nothing_to_clean(job, work) -> None:
    assert run(job).state == "done" and work.calls == ["run"]
    assert jobs.run_job(job.pk) == "duplicate"


def test_a_passing_trouble_is_tried_five_times_with_growing_pauses_and_cleaned_up_once(job, work) -> None:
    work.raises = trouble()
    pauses = []
    for _ in range(Job.MAX_ATTEMPTS - 1):
        began = timezone.now()
        assert run(due_again(job)).state == "queued" and job.error_code == "hub_unreachable"
        assert job.error_message == "It is hub_unreachable. It is tried again."
        pauses.append(round((job.not_before - began).total_seconds(), -1))
        assert jobs.run_job(job.pk) == "waiting"
    assert pauses == [10, 20, 40, 80]
    run(due_again(job))
    assert (job.state, job.attempt, job.error_message) == ("failed", 5, "It is hub_unreachable.")
    assert work.calls == ["run"] * 5 + ["clean up"]


@pytest.mark.parametrize(("asked", "seconds"), [(0, 10), (90, 90), (10**9, 3600)])
def test_the_pause_is_as_long_as_the_hub_asks_for_but_an_hour_at_most(asked, seconds) -> None:
    assert jobs.pause_after(1, asked_seconds=asked) == timedelta(seconds=seconds)


def test_a_pause_that_the_hub_asked_for_is_kept(job, work) -> None:
    work.raises = trouble("hub_busy", retry_after_seconds=600)
    began = timezone.now()
    assert timedelta(seconds=599) < run(job).not_before - began < timedelta(seconds=660)


def test_a_trouble_for_good_fails_at_once_and_is_cleaned_up(job, work) -> None:
    work.raises = trouble("hub_gated", is_permanent=True)
    assert run(job).state == "failed" and work.calls == ["run", "clean up"]
    assert (job.model.status, job.model.error) == ("failed", "It is hub_gated.")


def test_what_nobody_expected_is_a_failure_with_a_sentence(job, work, caplog) -> None:
    work.raises = ZeroDivisionError("division by zero")
    assert run(job).state == "failed"
    assert (job.error_code, job.error_message) == ("internal_error", "ZeroDivisionError: division by zero")
    assert "in a way that nobody expected" in caplog.text


def test_a_database_that_fails_for_a_moment_costs_an_attempt_and_no_job(job, work) -> None:
    work.raises = OperationalError("database is locked")
    assert run(job).state == "queued" and job.error_code == "database_unavailable"


def test_what_cannot_be_cleaned_up_is_said_beside_the_reason(job, work) -> None:
    work.raises = trouble("hub_gated", is_permanent=True)
    work.clean_up_raises = CacheUnavailable("The drive is away.")
    assert run(job).error_message == "It is hub_gated. What it left behind is still there: The drive is away."
    assert job.model.error == "It is hub_gated."


def test_a_mistake_in_cleaning_up_keeps_no_job_open(job, work, caplog) -> None:
    work.raises, work.clean_up_raises = trouble(is_permanent=True), ZeroDivisionError("oh")
    assert run(job).state == "failed" and "ZeroDivisionError: oh" in job.error_message
    assert "could not be removed" in caplog.text


def test_work_whose_lease_went_to_another_worker_cleans_up_nothing_of_theirs(job, work) -> None:
    work.during = lambda job: Job.objects.update(lease_owner="elsewhere:1:1.0")
    assert run(job).state == "running" and work.calls == ["run"]


def test_work_that_comes_back_to_life_in_the_same_process_hears_that_another_thread_has_its_job(job, work) -> None:
    def lose_and_claim_again(job: Job) -> None:
        Job.objects.update(state="queued")
        assert Job.objects.get(pk=job.pk).claim()

    work.during = lose_and_claim_again
    assert (run(job).state, job.attempt) == ("running", 2) and work.calls == ["run"]


# Cancel


def test_a_job_that_never_began_is_cancelled_at_once_and_only_once(job, work) -> None:
    assert jobs.cancel_job(job).state == "cancelled" and work.calls == ["clean up what never began"]
    assert ModelRegistry.objects.get().status == "registered"
    with pytest.raises(NotNow, match=f"Job {job.pk} is cancelled already"):
        jobs.cancel_job(job)


def test_a_running_job_hears_of_the_wish_to_cancel_and_cleans_up(job, work) -> None:
    work.during = lambda job: jobs.cancel_job(Job.objects.get(pk=job.pk))
    assert run(job).state == "cancelled" and work.calls == ["run", "clean up"]
    assert (job.error_message, job.model.status) == ("", "registered")


def test_a_job_that_waits_for_its_next_attempt_is_cancelled_without_the_wait_and_cleans_up(job, work) -> None:
    work.raises = trouble()
    run(job)
    assert jobs.cancel_job(job).state == "queued" and job.cancel_requested
    assert run(job).state == "cancelled" and work.calls == ["run", "clean up"]


def test_a_trouble_that_comes_with_the_wish_to_cancel_ends_the_job(job, work) -> None:
    def fail_when_cancelled(job: Job) -> None:
        Job.objects.update(cancel_requested=True)
        raise trouble()

    work.during = fail_when_cancelled
    assert run(job).state == "cancelled" and work.calls == ["run", "clean up"]


def test_what_is_committed_cannot_be_cancelled_and_a_cancel_before_it_wins(job) -> None:
    job.claim()
    assert job.commit() and job.beat()
    with pytest.raises(NotNow, match="is in its new place already"):
        jobs.cancel_job(job)
    Job.objects.update(committed=False, cancel_requested=True)
    assert not job.commit() and not job.committed


def test_a_wish_to_cancel_that_came_too_late_does_not_stop_the_tidying(job, work) -> None:
    def commit_then_hear_it(job: Job) -> None:
        job.commit()
        Job.objects.update(cancel_requested=True)

    work.during = commit_then_hear_it
    assert run(job).state == "done"


# Try again


def test_a_failed_job_is_tried_again_with_all_of_its_attempts(job, work) -> None:
    work.raises = trouble(is_permanent=True)
    run(job)
    again = jobs.retry_job(job)
    assert (again.pk, again.state, again.attempt, again.error_code) == (job.pk, "queued", 0, "")
    assert ModelRegistry.objects.get().status == "downloading"
    work.raises = None
    assert run(job).state == "done"
    with pytest.raises(NotNow, match="is done: only a job that failed"):
        jobs.retry_job(job)


def test_a_job_is_not_tried_again_beside_another_of_its_model(job, work) -> None:
    jobs.cancel_job(job)
    services.request_download(job.model)
    with pytest.raises(JobOpen):
        jobs.retry_job(job)
    assert Job.objects.get(pk=job.pk).state == "cancelled"
