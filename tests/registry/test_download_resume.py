"""A download goes on from the byte where it stood: after a kill, a cut, a restart, and in another process."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from cachemgr.models import Reservation
from registry import jobs
from registry.models import Job
from tests.cachemgr.conftest import make_image
from tests.registry.downloading import (
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
WEIGHTS = 6_000_000
RATE = 3_000_000


@pytest.fixture
def files(hub_repos, settings) -> dict[str, bytes]:
    settings.DISK_RESERVE_BYTES = 0
    return publish(hub_repos, weights=WEIGHTS)


@pytest.fixture
def job(caches, hub, files) -> Job:
    hub.faults.rate_bytes_per_second = RATE
    return order_download()


def kill_at(share: float, job: Job, partial: Path) -> int:
    """Runs the job until that share of the weights is there, and kills the downloader. Answers what had landed."""
    with running(job):
        wait_for(lambda: size_of(partial) >= share * WEIGHTS)
        (child,) = downloaders()
        child.send_signal(signal.SIGKILL)
    return size_of(partial)


def test_killed_at_10_50_and_90_percent_it_goes_on_each_time_and_no_byte_comes_twice(job, caches, hub, files) -> None:
    partial = partial_of(caches.primary.path, files)
    stood_at = [0]
    for share in (0.1, 0.5, 0.9):
        stood_at.append(kill_at(share, job, partial))
        assert (job.state, job.error_code) == ("queued", "errand_died") and job.attempt == len(stood_at) - 1
        assert Reservation.objects.get().owner == job.model.owner_key
    hub.hurry()
    assert run(job).state == "done", job.error_message
    assert is_intact(caches.primary.path, job, files) and not litter(caches.primary.path)
    begins = [int(asked.removeprefix("bytes=").partition("-")[0]) for name, asked in hub.ranges if name == WEIGHTS_FILE]
    assert begins == stood_at[1:] == sorted(stood_at[1:])
    assert hub.downloads_of("config.json") == hub.downloads_of("tokenizer.json") == 1


@pytest.mark.root
def test_it_goes_on_in_another_process_after_the_drive_was_mounted_anew(caches, hub, files, mount, tmp_path) -> None:
    """As after a restart of the machine."""
    image = make_image(tmp_path / "drive.img", size=64 << 20)
    drive = mount(Path(caches.primary.path), image=image)
    hub.faults.rate_bytes_per_second = RATE
    job = order_download()
    stood_at = kill_at(0.5, job, partial_of(drive, files))
    subprocess.run(["umount", drive], check=True)
    assert not any(drive.iterdir())
    mount(drive, image=image)
    lies_there = size_of(partial_of(drive, files))
    hub.hurry()
    assert run(job).state == "done", job.error_message
    assert 0 < lies_there <= stood_at
    assert hub.ranges[-1] == (WEIGHTS_FILE, f"bytes={lies_there}-{WEIGHTS - 1}")
    assert is_intact(drive, job, files)


def test_a_cut_line_costs_no_byte_twice_and_no_attempt(job, caches, hub, files) -> None:
    hub.hurry()
    hub.faults.cut_after[WEIGHTS_FILE] = WEIGHTS // 3
    assert run(job).state == "done" and job.attempt == 1
    assert is_intact(caches.primary.path, job, files)
    assert hub.sent_bytes[WEIGHTS_FILE] <= WEIGHTS


def test_a_worker_that_stops_keeps_what_has_landed_for_the_next(job, caches, hub, files) -> None:
    partial = partial_of(caches.primary.path, files)
    with running(job):
        wait_for(lambda: size_of(partial) > WEIGHTS // 3)
        jobs.stopping.set()
    jobs.stopping.clear()
    assert job.state == "queued" and size_of(partial) > WEIGHTS // 3 and not downloaders()
    hub.hurry()
    assert run(job).state == "done"
    assert hub.sent_bytes[WEIGHTS_FILE] < 1.5 * WEIGHTS


def test_a_hub_that_does_not_go_on_from_there_sends_all_again(job, caches, hub, files) -> None:
    kill_at(0.5, job, partial_of(caches.primary.path, files))
    hub.faults.no_ranges = True
    hub.hurry()
    assert run(job).state == "done", job.error_message
    assert is_intact(caches.primary.path, job, files)


@pytest.mark.parametrize("left_bytes", [WEIGHTS // 2, WEIGHTS, WEIGHTS + 1])
def test_what_lies_there_is_trusted_only_as_far_as_the_hash_of_the_whole(left_bytes, job, caches, hub, files) -> None:
    partial = partial_of(caches.primary.path, files)
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"\0" * left_bytes)
    hub.hurry()
    assert run(job).state == "done", job.error_message
    assert is_intact(caches.primary.path, job, files) and not litter(caches.primary.path)


def test_what_lies_there_under_a_second_name_is_never_written_to(job, caches, hub, files, tmp_path) -> None:
    partial = partial_of(caches.primary.path, files)
    partial.parent.mkdir(parents=True)
    other = tmp_path / "primary" / "precious"
    other.write_bytes(b"\0" * 1000)
    os.link(other, partial)
    hub.hurry()
    assert run(job).state == "done"
    assert other.read_bytes() == b"\0" * 1000 and is_intact(caches.primary.path, job, files)


def test_two_models_of_one_repo_share_the_download(job, caches, hub, files, settings) -> None:
    settings.JOBS_PER_DRIVE_PAIR = 2
    second = order_download(name="m2")
    with running(job), running(second):
        wait_for(lambda: len(downloaders()) == 2)
        hub.hurry()
    assert job.state == second.state == "done", (job.error_message, second.error_message)
    assert hub.sent_bytes[WEIGHTS_FILE] == WEIGHTS and not litter(caches.primary.path)


def test_a_cancel_gives_the_room_back_and_leaves_no_folder(job, caches, hub, files) -> None:
    partial = partial_of(caches.primary.path, files)
    with running(job):
        wait_for(lambda: size_of(partial) > WEIGHTS // 3)
        jobs.cancel_job(Job.objects.get(pk=job.pk))
    assert (job.state, job.model.status) == ("cancelled", "registered")
    assert not partial.parent.parent.exists()


def test_a_cancel_leaves_alone_what_another_download_of_the_repo_lands(job, caches, hub, files, settings) -> None:
    settings.JOBS_PER_DRIVE_PAIR = 2
    hub.faults.rate_bytes_per_second = RATE // 5  # the second has to begin before the first is done
    second = order_download(name="m2")
    partial = partial_of(caches.primary.path, files)
    with running(job):
        wait_for(lambda: size_of(partial) > WEIGHTS // 3)
        with running(second):
            wait_for(lambda: len(downloaders()) == 2)
            jobs.cancel_job(Job.objects.get(pk=second.pk))
        hub.hurry()
    assert (job.state, second.state) == ("done", "cancelled"), job.error_message
    assert is_intact(caches.primary.path, job, files)
