"""Locks on repo folders, between real processes: who shares, who waits, and what death releases."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from django.conf import settings

from cachemgr.errors import RepoBusy
from cachemgr.locks import RepoLock, exclusive, shared
from tests.e2e.server import PROJECT, wait_for

SET_UP = """
import os, sys
from pathlib import Path
from django.conf import settings
settings.configure(DATA_DIR=Path(sys.argv[1]))
from cachemgr import locks
folder = Path(sys.argv[2])
"""
HOLD = """
lock = getattr(locks, sys.argv[3])(folder)
print("held", flush=True)
sys.stdin.read()
"""
HAND_ON = """
import subprocess
lock = locks.shared(folder)
child = subprocess.Popen(["sleep", "60"], pass_fds=[lock.descriptor])
print(child.pid, flush=True)
sys.stdin.read()
"""
TAKE_TURNS = """
inside = Path(sys.argv[3])
for _ in range(40):
    with locks.exclusive(folder, wait_seconds=60):
        os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
        os.unlink(inside)
    with locks.shared(folder, wait_seconds=60):
        assert not inside.exists()
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models--org--m"


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Another process that runs a piece of code about the folder; stopped at the end."""
    started = []

    def do(code: str, *arguments: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", SET_UP + code, str(settings.DATA_DIR), str(folder), *arguments]
        process = subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield do
    for process in started:
        process.kill()
        process.communicate()


def hold(start: Start, kind: str) -> "subprocess.Popen[str]":
    process = start(HOLD, kind)
    assert process.stdout.readline() == "held\n"
    return process


def is_free(folder: Path) -> bool:
    try:
        exclusive(folder).release()
    except RepoBusy:
        return False
    return True


def test_readers_share_a_folder_and_a_removal_is_refused_until_the_last_has_left(start: Start, folder: Path) -> None:
    reader = hold(start, "shared")
    with shared(folder):
        with pytest.raises(RepoBusy, match=r"models--org--m is in use\. Its model is loaded") as refused:
            exclusive(folder)
        reader.communicate("")
        assert not is_free(folder)
    assert (refused.value.status, refused.value.code) == (409, "model_busy")
    assert refused.value.details == {"path": str(folder)}
    assert is_free(folder)


def test_nobody_reads_a_folder_whose_files_are_being_removed(start: Start, folder: Path) -> None:
    remover = hold(start, "exclusive")
    for attempt in (shared, exclusive):
        with pytest.raises(RepoBusy):
            attempt(folder)
    with pytest.raises(RepoBusy, match="being removed or renamed"):
        shared(folder)
    remover.communicate("")
    shared(folder).release()


@pytest.mark.parametrize("kind", ["shared", "exclusive"])
def test_the_lock_of_a_killed_process_is_free_at_once(start: Start, folder: Path, kind: str) -> None:
    holder = hold(start, kind)
    assert not is_free(folder)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert is_free(folder)


def test_a_child_that_was_given_the_lock_keeps_it_when_its_parent_is_killed(start: Start, folder: Path) -> None:
    parent = start(HAND_ON)
    child = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert not is_free(folder)
    os.kill(child, signal.SIGKILL)
    wait_for(lambda: is_free(folder))


def test_a_release_counts_for_children_too(folder: Path) -> None:
    lock = shared(folder)
    with subprocess.Popen(["sleep", "60"], pass_fds=[lock.descriptor]) as child:
        lock.release()
        assert is_free(folder)
        child.kill()


def test_other_children_do_not_get_the_lock(folder: Path) -> None:
    lock = shared(folder)
    with subprocess.Popen(["sleep", "60"]) as child:
        os.close(lock.descriptor)
        assert is_free(folder)
        child.kill()


def test_a_removal_waits_as_long_as_it_was_told_and_no_longer(start: Start, folder: Path) -> None:
    reader = hold(start, "shared")
    started = time.monotonic()
    with pytest.raises(RepoBusy, match="in use after 1 s"):
        exclusive(folder, wait_seconds=0.6)
    assert 0.6 <= time.monotonic() - started < 5
    leaving = threading.Timer(0.2, reader.communicate, args=[""])
    leaving.start()
    with exclusive(folder, wait_seconds=30):
        assert reader.poll() == 0
    leaving.join()


def test_each_folder_has_a_lock_of_its_own_and_needs_not_be_there(folder: Path) -> None:
    assert not folder.exists()
    with exclusive(folder), exclusive(folder.parent / "models--org--n"):
        assert not is_free(Path(f"{folder}/"))


def test_a_lock_is_released_once_however_often_it_is_asked(folder: Path) -> None:
    lock = exclusive(folder)
    lock.release()
    with open(os.devnull) as other:  # it gets the number that the lock's file had
        lock.release()
        assert other.fileno() >= 0 and not other.closed and os.fstat(other.fileno())
    assert not lock.is_held and is_free(folder)


def test_an_attempt_that_fails_leaves_no_file_open(folder: Path) -> None:
    lock: RepoLock
    with exclusive(folder) as lock:
        assert lock.is_held
        before = psutil.Process().num_fds()
        for _ in range(5):
            assert not is_free(folder)
        assert psutil.Process().num_fds() == before


def test_removers_of_four_processes_are_never_inside_together(start: Start, folder: Path, tmp_path: Path) -> None:
    turns = [start(TAKE_TURNS, str(tmp_path / "inside")) for _ in range(4)]
    assert [process.wait(timeout=60) for process in turns] == [0, 0, 0, 0]
