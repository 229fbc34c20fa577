"""Downloads from a real hub over HTTP, by the real child process, onto a real disk."""

import threading
import time
from pathlib import Path

import pytest
from django.utils import timezone
from huggingface_hub import scan_cache_dir

from cachemgr.models import Reservation
from cachemgr.monitor import measure_cache
from registry import downloads, jobs, services
from registry.models import Job, ModelRegistry
from tests.factories import loadable_files, write_hub_repo

pytestmark = pytest.mark.django_db(transaction=True)
WEIGHTS = 4_000_000


@pytest.fixture
def files(hub_repos) -> dict[str, bytes]:
    content = loadable_files(weights=WEIGHTS) | {"tokenizer.json": b"{}", "evil.py": b"boom", "pytorch_model.bin": b"x"}
    write_hub_repo(hub_repos, "org/model.v1", files=content)
    return content


@pytest.fixture
def job(caches, hub, files) -> Job:
    done = services.register(services.Wish("m", "org/model.v1", cache_location="primary"))
    return services.request_download(done.model)


def run(job: Job) -> Job:
    jobs.run_job(job.pk)
    job.refresh_from_db()
    job.model.refresh_from_db()
    return job


def repo_of(caches) -> Path:
    return Path(caches.primary.path) / "models--org--model.v1"


def litter(caches) -> list[Path]:
    return [*repo_of(caches).rglob("*.incomplete")]


def test_a_model_is_downloaded_into_its_own_cache_verified_and_ready(job, caches, hub, files) -> None:
    run(job)
    assert job.state == "done", job.error_message
    assert job.model.status == "ready" and job.model.context_length == 512
    assert job.bytes_done == job.bytes_total == job.model.size_bytes
    info = scan_cache_dir(caches.primary.path)
    (repo,) = info.repos
    (revision,) = repo.revisions
    assert (repo.repo_id, revision.commit_hash, sorted(revision.refs)) == ("org/model.v1", job.model.revision, ["main"])
    assert {file.file_name for file in revision.files} == {"config.json", "model.safetensors", "tokenizer.json"}
    assert (repo_of(caches) / "snapshots" / job.model.revision / "model.safetensors").read_bytes() == files[
        "model.safetensors"
    ]
    assert not Reservation.objects.exists() and not litter(caches)
    assert not Path(caches.secondary.path, "models--org--model.v1").exists()


def test_used_plus_reserved_stays_the_same_while_bytes_land(job, caches, hub) -> None:
    hub.faults.rate_bytes_per_second = 2_000_000
    booked = Reservation.objects.get().total_bytes
    sums = []

    def report(**progress: object) -> None:
        snapshot = measure_cache(caches.primary)
        model_bytes = sum(repo.size_bytes for repo in caches.primary.repos.all())
        sums.append(model_bytes + Reservation.objects.total_bytes())
        assert snapshot.used_bytes >= model_bytes

    downloads.fetch(downloads.plan_download(job.model), report=report)
    assert len(sums) >= 3
    assert all(abs(each - booked) <= booked * 0.01 for each in sums)


def test_a_finished_file_is_not_fetched_again_after_the_downloader_was_killed(job, caches, hub, files) -> None:
    hub.faults.rate_bytes_per_second = 2_000_000
    seen = []

    def kill_late(**progress: int) -> None:
        seen.append(progress)
        if progress["bytes_done"] > 1_000_000:
            raise jobs.Interrupted

    with pytest.raises(jobs.Interrupted):
        downloads.fetch(downloads.plan_download(job.model), report=kill_late)
    hub.faults.rate_bytes_per_second = None
    run(job)
    assert job.state == "done" and not litter(caches)
    assert hub.downloads_of("config.json") == 1


def test_wrong_bytes_of_the_right_length_are_never_ready(job, caches, hub) -> None:
    hub.faults.garble.add("model.safetensors")
    run(job)
    assert (job.state, job.error_code) == ("queued", "hash_mismatch")
    Job.objects.filter(pk=job.pk).update(not_before=job.created_at)
    run(job)
    assert (job.state, job.error_code, job.model.status) == ("failed", "hash_mismatch", "failed")
    assert "model.safetensors" in job.error_message
    assert not (repo_of(caches) / "snapshots" / "x").exists()
    assert all(path.stat().st_size != WEIGHTS for path in (repo_of(caches) / "blobs").iterdir())


def test_a_hub_that_stumbles_is_tried_again(job, caches, hub) -> None:
    hub.faults.refuse["model.safetensors"] = [500] * 12
    run(job)
    assert job.state == "queued" and job.error_code and job.not_before > job.created_at
    hub.faults.refuse.clear()
    Job.objects.filter(pk=job.pk).update(not_before=job.created_at)
    assert run(job).state == "done"


def test_a_gated_repo_says_what_to_do_and_is_not_tried_again(job, hub) -> None:
    hub.faults.gate_repos = True
    run(job)
    assert (job.state, job.error_code) == ("failed", "hub_gated")
    assert "HF_TOKEN" in job.error_message


def test_a_repo_that_left_the_hub_fails_for_good(job, hub_repos) -> None:
    (hub_repos / "org" / "model.v1").rename(hub_repos / "gone")
    run(job)
    assert (job.state, job.error_code) == ("failed", "hub_not_found")


def test_a_repo_without_safetensors_is_refused(caches, hub, hub_repos) -> None:
    write_hub_repo(hub_repos, "org/pickle", files={"config.json": b"{}", "pytorch_model.bin": b"x" * 100})
    model = services.register(services.Wish("p", "org/pickle", cache_location="primary", estimated_bytes=100)).model
    job = run(services.request_download(model))
    assert (job.state, job.error_code) == ("failed", "no_safetensors")


def test_more_than_was_promised_is_booked_before_the_first_byte_or_refused(caches, hub, files, settings) -> None:
    model = services.register(services.Wish("m", "org/model.v1", cache_location="primary", estimated_bytes=10)).model
    type(caches.primary).objects.filter(pk=caches.primary.pk).update(limit_bytes=1_000_000)
    job = run(services.request_download(model))
    assert (job.state, job.error_code) == ("failed", "insufficient_space")
    assert "4.0 MB" in job.error_message
    assert hub.downloads_of("model.safetensors") == 0


def test_a_download_waits_for_a_drive_that_is_away_and_that_costs_no_attempt(job, caches) -> None:
    measure_cache(caches.primary)
    Path(caches.primary.path).rename(caches.primary.path + "-gone")
    for _ in range(Job.MAX_ATTEMPTS + 1):
        run(job)
        assert (job.state, job.error_code, job.attempt) == ("queued", "cache_unavailable", 0)
        assert job.not_before > timezone.now() and caches.primary.path in job.error_message
        Job.objects.update(not_before=timezone.now())
    assert not Path(caches.primary.path).exists()
    Path(caches.primary.path + "-gone").rename(caches.primary.path)
    assert run(job).state == "done", job.error_message


def test_cancelling_a_running_download_ends_it_within_seconds_and_cleans_up(job, caches, hub) -> None:
    hub.faults.rate_bytes_per_second = 500_000
    worker = threading.Thread(target=jobs.run_job, args=[job.pk])
    worker.start()
    wait_for(lambda: Job.objects.get(pk=job.pk).bytes_done > 100_000)
    jobs.cancel_job(Job.objects.get(pk=job.pk))
    worker.join(timeout=10)
    job.refresh_from_db()
    assert job.state == "cancelled" and not worker.is_alive()
    assert ModelRegistry.objects.get().status == "registered"
    hub.faults.rate_bytes_per_second = None
    assert not litter(caches)


def test_a_job_that_is_delivered_twice_runs_once(job, hub) -> None:
    outcomes = []
    threads = [threading.Thread(target=lambda: outcomes.append(jobs.run_job(job.pk))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["done", "duplicate"]
    assert jobs.run_job(job.pk) == "duplicate"
    assert hub.downloads_of("model.safetensors") == 1


def test_a_download_of_a_ready_model_checks_it_and_repairs_what_is_missing(job, caches, hub) -> None:
    run(job)
    snapshot = repo_of(caches) / "snapshots" / job.model.revision
    (snapshot / "tokenizer.json").resolve().unlink()
    (snapshot / "tokenizer.json").unlink()
    again = run(services.request_download(job.model))
    assert (
        again.state == "done" and hub.downloads_of("tokenizer.json") == 2 and hub.downloads_of("model.safetensors") == 1
    )


def wait_for(condition, *, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
