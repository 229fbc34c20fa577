"""Downloads onto drives that grow full, fail, take no more files, or no large ones. The drives are real, and small."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from cachemgr.errors import ErrandFailed
from cachemgr.models import Reservation
from cachemgr.monitor import measure_cache
from registry import downloads, jobs, services
from tests.cachemgr.conftest import make_image, skip_or_fail
from tests.processes import is_over
from tests.registry.downloading import (
    downloaders,
    free_bytes,
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

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.root]
MB = 10**6
WEIGHTS = 12 * MB


@pytest.fixture
def files(hub_repos, settings) -> dict[str, bytes]:
    settings.DISK_RESERVE_BYTES = 0
    return publish(hub_repos, weights=WEIGHTS)


@pytest.fixture
def drive(caches, mount) -> Path:
    """16 MB, as the primary cache."""
    return mount(Path(caches.primary.path), size="16m")


def fill(drive: Path, *, leave_bytes: int) -> Path:
    """As another program does."""
    filler = drive / "filler"
    with open(filler, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, free_bytes(drive) - leave_bytes)
    return filler


def test_a_disk_that_another_program_fills_ends_it_with_numbers_and_gets_its_room_back(
    drive, hub, hub_repos, files
) -> None:
    job = order_download()
    before = free_bytes(drive)
    hub.faults.rate_bytes_per_second = 8 * MB
    with running(job):
        wait_for(lambda: size_of(partial_of(drive, files)) > WEIGHTS // 3)
        filler = fill(drive, leave_bytes=MB)
        hub.hurry()
    assert (job.state, job.error_code, job.attempt) == ("failed", "insufficient_space", 1), job.error_message
    assert "MB were still to come" in job.error_message and "are free" in job.error_message
    filler.unlink()
    assert not litter(drive) and abs(free_bytes(drive) - before) <= MB
    assert Reservation.objects.get().owner == job.model.owner_key  # until the model is forgotten or moved
    publish(hub_repos, weights=1000, repo_id="org/small")
    assert run(order_download(name="small", repo_id="org/small")).state == "done"


def test_a_drive_without_inodes_says_that_and_not_that_it_is_full(
    caches, hub, hub_repos, mount, tmp_path, settings
) -> None:
    """They go between the check and the files, as to another program."""
    settings.DISK_RESERVE_BYTES = 0
    drive = mount(Path(caches.primary.path), image=make_image(tmp_path / "drive.img", "-N", "160", size=32 << 20))
    publish(hub_repos, weights=1000, **{f"voice-{number}.json": b"%d" % number for number in range(20)})
    plan = downloads.plan_download(order_download().model)
    for number in range(os.statvfs(drive).f_favail - 12):
        (drive / f"small-{number}").touch()
    with pytest.raises(ErrandFailed) as caught:
        downloads.fetch(plan, report=lambda **_: None)
    assert caught.value.code == "no_more_files" and "no inodes" in caught.value.message
    assert free_bytes(drive) > 10 * MB and not litter(drive)


def test_a_file_that_is_too_large_for_the_drive_has_a_code_of_its_own(drive, hub, files) -> None:
    """FAT ends at 4 GiB; here the limit is the process's, and the kernel's answer is the same."""
    job = order_download()
    hub.faults.rate_bytes_per_second = 8 * MB
    with running(job):
        wait_for(lambda: size_of(partial_of(drive, files)) > MB)
        (child,) = downloaders()
        child.rlimit(psutil.RLIMIT_FSIZE, (4 * MB, 4 * MB))
    assert (job.state, job.error_code) == ("failed", "file_too_big_for_drive") and "another cache" in job.error_message


def test_a_drive_that_turns_read_only_has_a_code_of_its_own(caches, hub, files, tmp_path, mount) -> None:
    """A filesystem that met an error does that, and a USB drive with a bad cable."""
    image = make_image(tmp_path / "drive.img", "-e", "remount-ro", size=64 << 20)
    drive = mount(Path(caches.primary.path), image=image)
    job = order_download()
    hub.faults.rate_bytes_per_second = 4 * MB
    with running(job):
        wait_for(lambda: size_of(partial_of(drive, files)) > MB)
        trigger_error(drive)
    assert (job.state, job.error_code) == ("failed", "drive_read_only"), job.error_message
    assert str(drive) in job.error_message and job.model.status == "failed"


def trigger_error(drive: Path) -> None:
    device = drive.stat().st_dev
    loop = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve().name
    switch = Path(f"/sys/fs/ext4/{loop}/trigger_fs_error")
    if not switch.exists():
        skip_or_fail("this kernel cannot be told to fail an ext4")
    switch.write_text("1")


@pytest.mark.parametrize(
    ("call", "errno", "code"),
    [
        ("write", "EDQUOT", "quota_exceeded"),
        ("write", "EIO", "drive_error"),
        ("fdatasync", "EIO", "drive_error"),
        ("preadv", "EIO", "drive_error"),
    ],
)
def test_what_a_failing_drive_answers_is_told_once_and_nothing_of_it_is_trusted(
    call, errno, code, drive, hub, files
) -> None:
    job = order_download()
    partial = partial_of(drive, files)
    hub.faults.rate_bytes_per_second = 8 * MB
    with running(job):
        wait_for(lambda: size_of(partial) > MB)
        (child,) = downloaders()
        with failing(child.pid, partial, call=call, errno=errno):
            hub.hurry()
            wait_for(lambda: is_over(child))
    assert (job.state, job.error_code) == ("failed", code), job.error_message
    assert not partial.exists() and not downloaders()
    again = run(services.request_download(job.model))
    assert again.state == "done" and is_intact(drive, again, files)


@contextmanager
def failing(pid: int, path: Path, *, call: str, errno: str) -> Iterator[None]:
    """The kernel's answer to these calls on the file, by strace."""
    if shutil.which("strace") is None:
        skip_or_fail("strace is not installed: apt-get install strace")
    kinds = {"preadv": "preadv,preadv2", "write": "write"}.get(call, call)
    rule = [f"inject={kinds}:error={errno}", "-P", str(path), "-o", os.devnull]
    with subprocess.Popen(["strace", "-f", "-p", str(pid), "-e", *rule], stderr=subprocess.PIPE, text=True) as tracer:
        assert "attached" in tracer.stderr.readline()
        try:
            yield
        finally:
            tracer.kill()  # asked to end, it waits for threads of a dead child for ever


def test_used_plus_reserved_stays_within_one_percent_while_a_file_lands_and_goes_on(caches, hub, hub_repos) -> None:
    publish(hub_repos, weights=4 * MB)
    job = order_download()
    booked = Reservation.objects.get().total_bytes
    sums = []

    def look(**progress: int) -> None:
        measure_cache(caches.primary)
        landed = sum(repo.size_bytes for repo in caches.primary.repos.all())
        sums.append(landed + Reservation.objects.total_bytes())
        if len(sums) in {3, 5}:
            raise jobs.Interrupted

    hub.faults.rate_bytes_per_second = 2 * MB
    for _ in range(2):
        with pytest.raises(jobs.Interrupted):
            downloads.download(job, report=look)
    hub.hurry()
    downloads.download(job, report=look)
    assert len(sums) > 6 and all(abs(each - booked) <= booked * 0.01 for each in sums), (booked, sums)
