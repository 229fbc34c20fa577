"""A large cache is read by two processes, and the report is the same as by one."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from cachemgr.mounts import mount_of, read_mounts
from cachemgr.probe import readers_for
from cachemgr.report import RepoReport
from cachemgr.scan import scan_cache, scan_one_repo
from cachemgr.scan.readers import read_all
from tests.cachemgr.conftest import make_image
from tests.factories import make_cached_repo

FOLDERS = [f"models--org--m{number:02}" for number in range(40)]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    for number in range(40):
        repo = make_cached_repo(tmp_path, f"org/m{number:02}", files={"config.json": b"{}", "a": bytes(number + 1)})
        if number:
            os.link(tmp_path / "models--org--m00" / "refs" / "main", repo / "blobs" / "linked")
    (tmp_path / FOLDERS[7] / "snapshots" / "odd").touch()
    return tmp_path


def reader_of(cache: Path) -> Callable[[str], RepoReport | None]:
    return lambda folder: next(iter(scan_one_repo(str(cache), folder=folder).repos), None)


def no_child_is_left() -> bool:
    """Of this process, by the name of this program: other tests may have servers."""
    return not [each for each in psutil.Process().children() if each.cmdline() == psutil.Process().cmdline()]


def test_two_readers_report_what_one_reports(cache: Path) -> None:
    alone = scan_cache(str(cache))
    assert scan_cache(str(cache), readers=2) == alone
    assert len(alone.repos) == 40 and alone.reread_count == 40
    assert no_child_is_left()


def test_what_a_second_reader_that_is_killed_did_not_tell_is_read_by_the_first(cache: Path) -> None:
    first, read = os.getpid(), reader_of(cache)

    def read_or_die(folder: str) -> RepoReport | None:
        if os.getpid() != first and folder == FOLDERS[21]:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(folder)

    assert read_all(read_or_die, FOLDERS, readers=2) == {folder: read(folder) for folder in FOLDERS}
    assert no_child_is_left()


@pytest.mark.parametrize("where", ["first", "second"])
def test_an_error_of_either_reader_reaches_the_caller_and_leaves_no_process(cache: Path, where: str) -> None:
    read, bad = reader_of(cache), FOLDERS[20 if where == "first" else 21]

    def read_or_fail(folder: str) -> RepoReport | None:
        if folder == bad:
            raise OSError(f"{folder} cannot be read")
        return read(folder)

    with pytest.raises(OSError, match=bad):
        read_all(read_or_fail, FOLDERS, readers=2)
    assert no_child_is_left()


def test_few_repos_are_read_by_one_process() -> None:
    pids: list[int] = []
    read_all(lambda folder: pids.append(os.getpid()), FOLDERS[:31], readers=2)
    assert pids == [os.getpid()] * 31


@pytest.mark.root
def test_a_drive_that_is_no_local_disk_has_one_reader(mount: Callable[..., Path], tmp_path: Path) -> None:
    drive = mount(tmp_path)
    assert readers_for(mount_of(str(drive), mounts=read_mounts())) == 1
    assert readers_for(None) == 1


@pytest.mark.root
def test_a_disk_that_turns_has_one_reader_and_another_has_two(mount: Callable[..., Path], tmp_path: Path) -> None:
    image = make_image(tmp_path / "image")
    folder = tmp_path / "drive"
    folder.mkdir()
    mount(folder, image=image)
    seen = mount_of(str(folder), mounts=read_mounts())
    turns = Path(f"/sys/dev/block/{os.major(seen.device)}:{os.minor(seen.device)}/queue/rotational")
    for value, readers in (("1", 1), ("0", min(2, len(os.sched_getaffinity(0))))):
        turns.write_text(value)
        assert readers_for(seen) == readers
