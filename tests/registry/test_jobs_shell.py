"""`manage.py jobs`: bars for people, JSON for programs."""

import json
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from types import SimpleNamespace

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from rich.console import Console

from registry import bars, jobs, services
from registry.bars import follow_job
from registry.job_words import facts_of
from registry.models import Job, ModelRegistry

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("jobs", *arguments, stdout=out)
    return out.getvalue()


@pytest.fixture
def job() -> Job:
    return services.request_download(ModelRegistry.objects.create(model_name="m", hf_path="org/m"))


def test_each_job_is_a_line_with_its_bar_and_how_it_goes_on(job) -> None:
    job.claim()
    job.beat(stage="downloading", bytes_done=10**9, bytes_total=4 * 10**9, rate=10**8)
    assert f"{job.pk} download m" in run() and "downloading: 1.0 GB of 4.0 GB, 100 MB/s, 30 s left" in run()
    assert "━" in run()


@pytest.mark.parametrize(
    ("values", "facts"),
    [
        ({}, "waits for its turn"),
        ({"state": "running", "attempt": 3}, "starting, attempt 3"),
        ({"state": "running", "cancel_requested": True, "stage": "copying"}, "ending"),
        ({"cancel_requested": True}, "ending"),
        ({"not_before": 30, "error_message": "The Hub is busy."}, "waits 30 s: The Hub is busy."),
        ({"state": "failed", "error_message": "No [room]."}, "failed: No [room]."),
        ({"state": "done"}, "done"),
        ({"state": "done", "options": {"kept": ["a"]}}, "done; 1 file stays at the source: a"),
        (
            {"state": "done", "options": {"kept": list("abcdef")}},
            "done; 6 files stay at the source: a, b, c, d, e, ...",
        ),
    ],
)
def test_a_line_says_how_a_job_is(job, values: dict, facts: str) -> None:
    if "not_before" in values:
        values = values | {"not_before": timezone.now() + timedelta(seconds=values["not_before"])}
    for name, value in values.items():
        setattr(job, name, value)
    assert facts_of(job) == facts


def test_names_and_sentences_are_printed_as_they_are(job) -> None:
    Job.objects.update(state="failed", error_message="No [bold]room[/bold] in /mnt/[x].")
    assert "failed: No [bold]room[/bold] in /mnt/[x]." in run()


def test_open_jobs_come_first_and_then_the_last_that_ended(job) -> None:
    for number in range(7):
        model = ModelRegistry.objects.create(model_name=f"old{number}", hf_path="org/old")
        jobs.cancel_job(services.request_download(model))
    shown = [each["model"] for each in json.loads(run("--json"))]
    assert shown == ["m", "old6", "old5", "old4", "old3", "old2"]


def test_the_words_of_the_api_choose_jobs_here_too(job) -> None:
    assert json.loads(run("--json", "--state", "open", "--model", "m", "--kind", "download"))[0]["id"] == job.pk
    assert run("--state", "done") == "There are no such jobs.\n"
    with pytest.raises(CommandError, match='state: "late" is not a valid choice'):
        run("--state", "late")
    with pytest.raises(CommandError, match="There is no model named 'nobody'"):
        run("--model", "nobody")


def test_a_job_is_cancelled_and_tried_again(job) -> None:
    assert "cancelled" in run("--cancel", str(job.pk))
    assert "waits for its turn" in run("--retry", str(job.pk))
    with pytest.raises(CommandError, match="There is no job 999"):
        run("--cancel", "999")


def test_watching_ends_with_the_last_job_and_tells_programs_each_change(job, monkeypatch) -> None:
    def live() -> Iterator[None]:
        job.claim()
        yield
        job.beat(stage="reading")
        yield
        job.close(Job.State.DONE)
        yield

    life = live()
    monkeypatch.setattr("registry.management.commands.jobs.time", SimpleNamespace(sleep=lambda _: next(life)))
    lines = [json.loads(line) for line in run("--watch", "--json").splitlines()]
    said = [(line["state"], line["stage"]) for line in lines]
    assert said == [("queued", ""), ("running", ""), ("running", "reading"), ("done", "reading")]
    assert "done" in run("--watch")  # nothing is open: it shows what ended, and does not stay


@pytest.fixture
def impatient(monkeypatch) -> None:
    monkeypatch.setattr(bars, "_PATIENCE_SECONDS", 0)
    monkeypatch.setitem(jobs.WORK, Job.Kind.DOWNLOAD, jobs.Work(lambda job, *, report: None))


def follow(job: Job) -> str:
    """What is printed until the job is done."""
    out = StringIO()
    assert follow_job(job, console=Console(file=out), is_hidden=True).state == "done"
    return out.getvalue()


def test_a_job_that_waits_for_its_turn_is_left_to_the_worker(job, impatient, monkeypatch) -> None:
    other = services.request_download(ModelRegistry.objects.create(model_name="other", hf_path="org/other"))
    other.claim()

    def live() -> Iterator[None]:
        yield
        assert Job.objects.get(pk=job.pk).started_at is None
        other.close(Job.State.DONE)
        assert jobs.run_job(job.pk) == "done"
        yield

    life = live()
    monkeypatch.setattr(bars, "time", SimpleNamespace(sleep=lambda _: next(life), monotonic=time.monotonic))
    assert "No worker" not in follow(job)


def test_a_job_that_nobody_takes_is_done_by_the_shell(job, impatient) -> None:
    assert follow(job).count("No worker is running: this process does the work.") == 1


def test_a_dead_worker_keeps_no_drive_from_the_shell(job, impatient) -> None:
    other = services.request_download(ModelRegistry.objects.create(model_name="other", hf_path="org/other"))
    other.claim()
    Job.objects.filter(pk=other.pk).update(lease_owner=f"{socket.gethostname()}:1:another-boot.1")
    assert follow(job) and Job.objects.get(pk=other.pk).state == "queued"
