"""Drives that hang or are slow: what one costs, whom it keeps waiting, and how it comes back."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from cachemgr import drives
from cachemgr.drive_report import request_to_json
from cachemgr.drives import DriveReport, ProbeRequest
from cachemgr.turns import turn_on
from tests.cachemgr.conftest import HungDrive, probes_of
from tests.e2e.server import wait_for

Ask = Callable[..., DriveReport]
MARKER = "11111111-1111"


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(20) as pool:
        yield pool


def scan_for_long(ask: Ask, drive: HungDrive, threads: ThreadPoolExecutor, **wishes: object) -> "Future[DriveReport]":
    """Starts a scan of the drive that lasts until the drive may go on, and returns when it is under way."""
    (drive.path / "models--org--big").mkdir(exist_ok=True)
    drive.slow_down()
    scan = threads.submit(ask, drive.path, scan=True, device=device_of(drive), **wishes)
    wait_for(lambda: probes_of(drive.path))
    (child,) = probes_of(drive.path)
    wait_for(lambda: Path(f"/proc/{child.pid}/wchan").read_text() == "request_wait_answer")
    return scan


def device_of(drive: HungDrive) -> int:
    return drive.path.stat().st_dev


def took(seconds: float, started: float) -> bool:
    return time.monotonic() - started < seconds


# Hung


@pytest.mark.root
def test_a_drive_that_hangs_in_the_kernel_costs_one_child_and_comes_back_alone(ask: Ask, hung_drive: HungDrive) -> None:
    assert ask(hung_drive.path, scan=True).state == "ok"
    hung_drive.hang()
    for _ in range(5):
        started = time.monotonic()
        report = ask(hung_drive.path, limit_seconds=0.4)
        assert report.state == "unresponsive" and "did not answer within 0.4 s" in report.message
        assert took(1.5, started) and report.duration_seconds >= 0.4
    (stuck,) = probes_of(hung_drive.path)
    assert stuck.status() == psutil.STATUS_DISK_SLEEP  # SIGKILL was sent, and changed nothing
    hung_drive.go_on()
    assert ask(hung_drive.path).state == "ok"
    assert not probes_of(hung_drive.path) and drives._killed == []


@pytest.mark.root
def test_a_drive_whose_server_is_stopped_is_unresponsive_until_it_goes_on(ask: Ask, hung_drive: HungDrive) -> None:
    hung_drive.server.send_signal(signal.SIGSTOP)
    assert ask(hung_drive.path, scan=True, limit_seconds=0.4).state == "unresponsive"
    hung_drive.server.send_signal(signal.SIGCONT)
    assert ask(hung_drive.path, scan=True).state == "ok"


@pytest.mark.root
def test_however_many_ask_about_all_caches_on_a_hung_drive_one_child_is_stuck(
    ask: Ask, hung_drive: HungDrive, threads: ThreadPoolExecutor
) -> None:
    caches, device = [hung_drive.path / name for name in ("a", "b", "c")], device_of(hung_drive)
    for path in caches:
        path.mkdir()
    hung_drive.hang()
    questions = [
        threads.submit(ask, path, device=device, limit_seconds=0.8, **wish)
        for path in caches
        for wish in ({}, {"scan": True}, {"repo": "models--org--m"}, {"speed": True}, {"files": "models--org--m"})
    ]
    assert {each.result().state for each in questions} == {"unresponsive"}
    assert sum(len(probes_of(path)) for path in caches) == 1
    hung_drive.go_on()
    assert {ask(path, device=device).state for path in caches} == {"ok"}


@pytest.mark.root
def test_the_right_drive_is_not_kept_waiting_by_the_one_that_was_thrown_out(
    ask: Ask, hung_drive: HungDrive, mount: Callable[..., Path]
) -> None:
    device = device_of(hung_drive)
    hung_drive.hang()
    assert ask(hung_drive.path, device=device, limit_seconds=0.3).state == "unresponsive"
    subprocess.run(["umount", "-l", str(hung_drive.path)], check=True)
    mount(hung_drive.path)
    started = time.monotonic()
    assert ask(hung_drive.path, device=device).state == "ok" and took(2, started)


@pytest.mark.root
def test_a_link_to_a_hung_drive_does_not_hold_up_the_disk_that_it_lies_on(
    ask: Ask, hung_drive: HungDrive, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(hung_drive.path)
    hung_drive.hang()
    root_device = tmp_path.stat().st_dev
    for device in (None, root_device - 1):
        assert ask(tmp_path / "link", device=device, limit_seconds=0.3).state == "unresponsive"
    assert ask(tmp_path, device=root_device, limit_seconds=2).state == "ok"


@pytest.mark.root
def test_caches_seen_by_bind_mounts_share_a_turn_and_other_drives_do_not(
    mount: Callable[..., Path], tmp_path: Path
) -> None:
    drive, other = mount(tmp_path / "drive"), mount(tmp_path / "other")
    (drive / "hub").mkdir()
    bound = mount(tmp_path / "bound", bind=drive / "hub")
    device = drive.stat().st_dev

    def turn(path: Path, *, seen: int | None = device) -> str:
        return turn_on(str(path), device=seen, folder=tmp_path).name

    assert turn(drive / "hub") == turn(drive / "elsewhere") == turn(bound)
    assert turn(other, seen=other.stat().st_dev) != turn(bound)
    assert turn(drive, seen=None) != turn(drive)  # never seen: nobody knows yet where the path leads
    assert turn(drive / "hub", seen=None) != turn(drive / "other", seen=None)


# Slow


@pytest.mark.root
def test_while_a_scan_runs_its_child_answers_all_other_questions_about_its_drive(
    ask: Ask, hung_drive: HungDrive, threads: ThreadPoolExecutor
) -> None:
    device, other = device_of(hung_drive), hung_drive.path / "other"
    (other / "datasets--org--d").mkdir(parents=True)
    scan = scan_for_long(ask, hung_drive, threads, adopt=MARKER)
    started = time.monotonic()
    wishes = [{}, {"uuid": "another"}, {"repo": "datasets--org--d"}] * 5
    answers = list(threads.map(lambda wish: ask(other, device=device, limit_seconds=5, **wish), wishes))
    assert took(3, started) and not probes_of(other)
    assert [each.state for each in answers] == ["ok", "unmounted", "ok"] * 5
    assert answers[0].disk.device == device and answers[2].contents.repos[0].repo_id == "org/d"
    assert ask(hung_drive.path, device=device, uuid=MARKER, limit_seconds=2).state == "ok"
    assert not scan.done()
    hung_drive.go_on()
    assert [each.repo_id for each in scan.result().contents.repos if each.repo_type == "model"] == ["org/big"]
    assert ask(other, device=device).state == "ok"


@pytest.mark.root
def test_a_drive_that_hangs_in_the_middle_of_a_scan_is_found_out_at_the_cost_of_that_child(
    ask: Ask, hung_drive: HungDrive, threads: ThreadPoolExecutor
) -> None:
    device = device_of(hung_drive)
    scan = scan_for_long(ask, hung_drive, threads)
    hung_drive.hang()
    started = time.monotonic()
    for path in (hung_drive.path, hung_drive.path / "other"):
        assert ask(path, device=device, limit_seconds=0.4).state == "unresponsive"
    assert took(2, started) and len(probes_of(hung_drive.path)) == 1
    assert not probes_of(hung_drive.path / "other")
    hung_drive.go_on()
    assert scan.result().state == "ok"


@pytest.mark.root
def test_a_scan_that_takes_too_long_on_a_drive_that_answers_is_told_from_a_hung_one(
    ask: Ask, hung_drive: HungDrive, threads: ThreadPoolExecutor
) -> None:
    device = device_of(hung_drive)
    (hung_drive.path / "models--org--big").mkdir()
    hung_drive.slow_down()
    report = ask(hung_drive.path, scan=True, device=device, limit_seconds=2)
    assert (report.state, report.contents) == ("ok", None) and report.disk.total_bytes == 4096000
    assert "answers, but reading all of it takes longer than 2 s. Its usage is older." in report.message
    assert 1.5 < report.duration_seconds < 3
    hung_drive.go_on()
    wait_for(lambda: not probes_of(hung_drive.path))
    assert ask(hung_drive.path, scan=True, device=device).contents is not None


@pytest.mark.root
def test_a_second_scan_waits_for_its_turn_and_says_so_when_it_does_not_come(
    ask: Ask, hung_drive: HungDrive, threads: ThreadPoolExecutor
) -> None:
    device = device_of(hung_drive)
    scan = scan_for_long(ask, hung_drive, threads)
    second = ask(hung_drive.path, scan=True, device=device, limit_seconds=1)
    assert (second.state, second.contents) == ("ok", None) and "takes longer than 1 s" in second.message
    third = threads.submit(ask, hung_drive.path, scan=True, device=device)
    hung_drive.go_on()
    assert scan.result().contents is not None and third.result().contents is not None


@pytest.mark.root
def test_a_slow_drive_that_is_not_the_adopted_one_is_unmounted(
    ask: Ask, hung_drive: HungDrive, threads: ThreadPoolExecutor
) -> None:
    scan_for_long(ask, hung_drive, threads)
    report = ask(hung_drive.path, scan=True, uuid=MARKER, device=device_of(hung_drive), limit_seconds=1)
    assert report.state == "unmounted" and "its marker" in report.message
    hung_drive.go_on()


# Children


def test_a_child_whose_parent_is_gone_ends_itself(tmp_path: Path) -> None:
    request = json.dumps(request_to_json(ProbeRequest(str(tmp_path))))
    command = [sys.executable, "-m", "cachemgr.probe", request, "0", ""]
    with subprocess.Popen(command, cwd=drives._PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as orphan:
        assert orphan.wait(timeout=10) == -signal.SIGALRM  # it never got its input


def test_the_lock_folder_may_lie_deeper_than_a_sockets_path_may_be_long(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100) / ("y" * 100)
    folder.mkdir(parents=True)
    report = drives.probe_drive(ProbeRequest(str(tmp_path), scan=True), limit_seconds=20, lock_folder=folder)
    assert report.state == "ok" and report.contents is not None
    assert {each.suffix: each.stat().st_mode & 0o777 for each in folder.iterdir()} == {".lock": 0o600, ".sock": 0o600}


def test_whoever_asks_where_nobody_listens_gets_no_answer(tmp_path: Path) -> None:
    turn = turn_on(str(tmp_path), device=None, folder=tmp_path)
    assert turn.ask({}, limit_seconds=1) is None
    with turn.claim() as lock, turn.listen():
        started = time.monotonic()
        assert lock is not None and turn.ask({}, limit_seconds=0.1) is None  # a child that hangs
        assert took(1, started)
        with turn.claim() as second:
            assert second is None
    assert turn.ask({}, limit_seconds=1) is None  # a socket that was left behind
    with turn.claim() as lock:
        assert lock is not None and os.get_inheritable(lock) is False
