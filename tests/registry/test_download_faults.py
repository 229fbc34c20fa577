"""What a hub can do to a download, each really done to it: what the job says, and what stays on the drive."""

import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from huggingface_hub import close_session

from cachemgr.errors import ErrandFailed
from registry import downloads, following, jobs
from registry.fetch import transfer
from registry.fetch.order import read_order
from registry.fetch.work import fetch
from registry.hub import read_hub
from registry.models import Job
from tests.factories import write_hub_repo
from tests.registry.downloading import (
    FOLDER,
    WEIGHTS_FILE,
    downloaders,
    is_intact,
    litter,
    order_download,
    partial_of,
    publish,
    run,
    running,
    size_of,
    wait_for,
)

pytestmark = pytest.mark.django_db(transaction=True)
MB = 10**6
WEIGHTS = 2 * MB


@pytest.fixture
def files(hub_repos) -> dict[str, bytes]:
    return publish(hub_repos, weights=WEIGHTS)


@pytest.fixture
def job(caches, hub, files) -> Job:
    return order_download()


def blobs(caches) -> list[str]:
    folder = Path(caches.primary.path) / FOLDER / "blobs"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


# The line


def test_a_hub_that_stands_still_is_given_up_and_tried_again_later(job, hub, files, caches, monkeypatch) -> None:
    monkeypatch.setattr(following, "STALL_SECONDS", 2.0)
    partial = partial_of(caches.primary.path, files)
    hub.faults.rate_bytes_per_second = 2_000_000
    with running(job):
        wait_for(lambda: size_of(partial) > WEIGHTS // 4)
        hub.faults.stall = True
    assert (job.state, job.error_code) == ("queued", "stalled") and not downloaders()
    assert "2 s" in job.error_message and size_of(partial) > WEIGHTS // 4
    hub.faults.stall = False
    hub.hurry()
    assert run(job).state == "done" and is_intact(caches.primary.path, job, files)


def test_a_slow_line_is_no_line_that_stands_still(job, hub, caches, files, monkeypatch) -> None:
    monkeypatch.setattr(following, "STALL_SECONDS", 2.0)
    write_hub_repo(hub.repos._folder, "org/small", files=files | {WEIGHTS_FILE: b"w" * 400_000})
    hub.faults.rate_bytes_per_second = 100_000  # a block of the hub in 0.7 s, all of it in 4
    assert run(order_download(name="small", repo_id="org/small")).state == "done"


@pytest.mark.parametrize("status", [429, 503])
def test_a_hub_that_says_when_is_asked_again_then(status, job, hub) -> None:
    hub.faults.retry_after = "600"
    hub.faults.refuse[WEIGHTS_FILE] = [status] * 12
    run(job)
    assert (job.state, job.error_code) == ("queued", "hub_rate_limited" if status == 429 else "hub_error")
    assert "600 s" in job.error_message
    assert timedelta(seconds=590) < job.not_before - timezone.now() <= timedelta(seconds=600)
    assert hub.downloads_of(WEIGHTS_FILE) == 1


def test_a_date_says_when_too_and_a_short_wait_is_waited_for(job, hub, caches, files) -> None:
    in_two_seconds = datetime.now(UTC) + timedelta(seconds=2)
    hub.faults.retry_after = in_two_seconds.strftime("%a, %d %b %Y %H:%M:%S GMT")
    hub.faults.refuse[WEIGHTS_FILE] = [429]
    assert run(job).state == "done" and job.attempt == 1
    assert hub.downloads_of(WEIGHTS_FILE) == 2


@pytest.mark.parametrize(("status", "code"), [(401, "hub_not_found"), (403, "hub_not_found"), (404, "hub_not_found")])
def test_a_refusal_in_the_middle_is_final_and_says_what_to_do(status, code, job, hub) -> None:
    hub.faults.refuse[WEIGHTS_FILE] = [status] * 12
    run(job)
    assert (job.state, job.error_code, job.model.status) == ("failed", code, "failed")
    assert "HF_TOKEN" in job.error_message and hub.downloads_of(WEIGHTS_FILE) == 1


def test_a_hub_that_is_down_is_tried_again(job, hub, settings) -> None:
    settings.HF_ENDPOINT = "http://127.0.0.1:9"
    run(job)
    assert (job.state, job.error_code) == ("queued", "hub_unreachable") and "127.0.0.1:9" in job.error_message


def test_a_rate_limit_holds_for_all_files_together(caches, hub, hub_repos, settings) -> None:
    publish(hub_repos, weights=MB // 2, **{"part-2.safetensors": b"2" * (MB // 2), "part-3.safetensors": b"3" * MB})
    settings.TRANSFER_RATE_LIMIT_BYTES = MB // 2
    started = time.monotonic()
    assert run(order_download()).state == "done"
    assert time.monotonic() - started > 3.9


# What it sends


@pytest.mark.parametrize("no_length", [False, True])
def test_more_than_was_promised_is_stopped_at_the_promise_and_removed(no_length, job, hub, caches) -> None:
    hub.faults.declare[WEIGHTS_FILE] = WEIGHTS // 2
    hub.faults.no_length = no_length
    run(job)
    assert (job.state, job.error_code) == ("failed", "size_exceeds_reservation")
    assert "1.0 MB" in job.error_message and WEIGHTS_FILE in job.error_message
    assert not (Path(caches.primary.path) / FOLDER).exists()


def test_an_answer_without_a_length_is_as_good_as_any(job, hub, caches, files) -> None:
    hub.faults.no_length = True
    assert run(job).state == "done", job.error_message
    assert is_intact(caches.primary.path, job, files)


def test_a_file_that_is_too_large_for_one_answer_is_asked_for_in_pieces(hub, files, tmp_path, monkeypatch) -> None:
    """The Hub's servers send 50 GB at most. In this process, where the size of a piece can be set."""
    monkeypatch.setattr(transfer, "_PIECE_BYTES", 700_000)
    snapshot = read_hub("org/model.v1", revision="main", endpoint=hub.endpoint, token="", wait_seconds=10)
    order = {"repo_id": "org/model.v1", "commit": snapshot.commit, "ref": "main", "endpoint": hub.endpoint}
    order |= {"files": [asdict(file) for file in snapshot.files], "root": {"path": str(tmp_path)}, "takes_links": True}
    fetch(read_order(order), token="", say=lambda **_: None)
    close_session()
    assert [asked for name, asked in hub.ranges if name == WEIGHTS_FILE] == [
        "bytes=0-699999",
        "bytes=700000-1399999",
        "bytes=1400000-1999999",
    ]
    weights = tmp_path / FOLDER / "snapshots" / snapshot.commit / WEIGHTS_FILE
    assert weights.read_bytes() == files[WEIGHTS_FILE]


def test_less_than_was_promised_is_never_ready(job, hub, caches) -> None:
    hub.faults.truncate[WEIGHTS_FILE] = WEIGHTS // 2
    for state in ("queued", "failed"):
        run(job)
        assert (job.state, job.error_code) == (state, "hash_mismatch")
    assert job.model.status == "failed" and not any(len(name) == 64 for name in blobs(caches))


def test_wrong_bytes_are_removed_and_fetched_once_more(job, hub, caches, files) -> None:
    hub.faults.garble.add(WEIGHTS_FILE)
    run(job)
    assert (job.state, job.error_code) == ("queued", "hash_mismatch") and WEIGHTS_FILE in job.error_message
    assert not partial_of(caches.primary.path, files).exists()
    hub.faults.garble.clear()
    assert run(job).state == "done" and hub.downloads_of("config.json") == 1


# What it lists


HOSTILE_NAMES = ["../../evil.json", "/etc/evil.json", "a/../../b.json", "x\u202ey.json", "a\0b.json", ".git/x.json"]


def test_a_name_that_a_drive_should_not_see_refuses_the_repo(job, hub, caches) -> None:
    hub.faults.also_listed.append("a\nb.json")
    run(job)
    assert (job.state, job.error_code) == ("failed", "hub_hostile"), job.error_message
    assert not (Path(caches.primary.path) / FOLDER).exists() and hub.downloads_of("config.json") == 0


@pytest.mark.parametrize("name", [*HOSTILE_NAMES, "deep/" * 60 + "x.json", "config.json/x.json"])
def test_no_such_name_gets_past_the_list(name, hub, files) -> None:
    hub.faults.also_listed.append(name)
    with pytest.raises(ErrandFailed) as caught:
        read_hub("org/model.v1", revision="main", endpoint=hub.endpoint, token="", wait_seconds=10)
    assert caught.value.code == "hub_hostile" and caught.value.is_permanent


def test_ten_thousand_files_are_enough(job, hub) -> None:
    hub.faults.also_listed += [f"part-{number}.json" for number in range(10_001)]
    run(job)
    assert (job.state, job.error_code) == ("failed", "hub_hostile") and "10000" in job.error_message


def test_many_files_and_deep_names_all_come(caches, hub, hub_repos) -> None:
    more = {f"{'sub folder/' * (number % 15)}voice-{number}+x@1.json": b"%d" % number for number in range(60)}
    files = publish(hub_repos, weights=1000, repo_id="org/many", **more)
    job = run(order_download(name="many", repo_id="org/many"))
    assert job.state == "done", job.error_message
    snapshot = Path(caches.primary.path) / "models--org--many" / "snapshots" / job.model.revision
    assert all((snapshot / name).read_bytes() == content for name, content in files.items())
    assert not litter(caches.primary.path)


def test_a_branch_name_cannot_lead_out_of_the_refs(caches, hub, files) -> None:
    plan = downloads.plan_download(order_download().model)
    for ref in ("../../escaped", "/etc/escaped", "a//b", "a\nb", ""):
        with pytest.raises(ErrandFailed, match="no usable name"):
            downloads.fetch(replace(plan, ref=ref), report=lambda **_: None)
    assert not list(Path(caches.primary.path).parent.rglob("escaped"))


# Locks


def test_a_stale_lock_of_the_library_stops_nobody(job, hub, caches, files, tmp_path) -> None:
    """As a soft lock on NFS, whose owner is gone; here somebody even holds it, and sleeps."""
    locks = Path(caches.primary.path) / ".locks" / FOLDER
    locks.mkdir(parents=True)
    held = locks / f"{partial_of('', files).name.removesuffix('.incomplete')}.lock"
    with held_by_a_sleeper(held):
        started = time.monotonic()
        assert run(job).state == "done", job.error_message
        assert time.monotonic() - started < 20


@contextmanager
def held_by_a_sleeper(path: Path):
    code = f"import fcntl, time; f = open({str(path)!r}, 'w'); fcntl.flock(f, 2); print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as sleeper:
        assert sleeper.stdout.readline() == b"held\n"
        try:
            yield
        finally:
            sleeper.kill()


# Twice


def test_a_job_that_two_workers_get_is_done_by_one(job, hub, caches, files) -> None:
    hub.faults.rate_bytes_per_second = 4_000_000
    with running(job):
        wait_for(downloaders)
        assert jobs.run_job(job.pk) == "duplicate"
    assert job.state == "done" and jobs.run_job(job.pk) == "duplicate"
    assert all(hub.downloads_of(name) == 1 for name in files)


def test_the_home_drive_gets_nothing(job, hub, caches, tmp_path, monkeypatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    assert run(job).state == "done"
    assert not list(home.rglob("*"))
    house = Path(caches.primary.path) / ".homelab"
    assert not [path for path in house.rglob("*") if path.is_file()]
