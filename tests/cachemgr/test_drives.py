"""What a probe says of drives that are whole, away, read-only, foreign or hung. Every probe is a real process."""

import fcntl
import json
import os
import subprocess
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import psutil
import pytest

from cachemgr import drives
from cachemgr.drives import DriveReport, ProbeRequest, folders_to_make, is_on_mounted_drive, mount_points, probe_drive
from cachemgr.layout import MARKER_FILE
from tests.cachemgr.conftest import HungDrive, run_or_skip
from tests.factories import make_cached_repo

Ask = Callable[..., DriveReport]
MARKER, OTHER = "11111111-1111", "22222222-2222"
NOBODY = 65534


def probes_of(path: Path) -> list[psutil.Process]:
    children = [each for each in psutil.Process().children() if each.status() != psutil.STATUS_ZOMBIE]
    return [each for each in children if "cachemgr.probe" in each.cmdline() and str(path) in each.cmdline()[-1]]


def wait_until(claim: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not claim():
        assert time.monotonic() < deadline, "it did not happen within 10 s"
        time.sleep(0.01)


def ask_as_nobody(path: Path, **wishes: Any) -> Any:
    """Root may write everywhere, so it would never see a read-only folder."""
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.geteuid() == 0 else []
    request = json.dumps(vars(ProbeRequest(str(path), **wishes)))
    command = [*user, "/usr/bin/env", f"PYTHONPATH={drives._PROJECT}", "python3", "-m", "cachemgr.probe", request]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


# There, away, or another


def test_a_drive_that_is_there_gives_its_sizes_and_its_contents(ask: Ask, tmp_path: Path) -> None:
    make_cached_repo(tmp_path / "hub", "org/m", files={"a": b"12345"}, refs={})
    report = ask(tmp_path / "hub", scan=True)
    assert (report.state, report.message, report.uuid) == ("ok", "", None)
    figures = os.statvfs(tmp_path)
    assert report.disk.total_bytes == figures.f_blocks * figures.f_frsize
    assert report.disk.used_bytes + figures.f_bfree * figures.f_frsize == pytest.approx(
        report.disk.total_bytes, rel=0.01
    )
    assert report.disk.free_bytes == pytest.approx(figures.f_bavail * figures.f_frsize, rel=0.01)
    assert report.disk.device == tmp_path.stat().st_dev
    assert report.contents.used_bytes == 5 and report.contents.repos[0].repo_id == "org/m"
    assert 0 < report.duration_seconds < 20


def test_one_repo_can_be_asked_for(ask: Ask, tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_cached_repo(tmp_path, f"org/{name}", files={"a": b"a"})
    assert [each.repo_id for each in ask(tmp_path, repo="models--org--two").contents.repos] == ["org/two"]
    assert ask(tmp_path, repo="models--org--three").contents.repos == ()
    assert ask(tmp_path).contents is None


@pytest.mark.parametrize(
    ("made", "sentence"),
    [("nothing", "does not exist. Is the drive plugged in"), ("file", "cannot be used: Not a directory.")],
)
def test_what_is_no_folder_is_missing(ask: Ask, tmp_path: Path, made: str, sentence: str) -> None:
    if made == "file":
        (tmp_path / "hub").write_text("")
    report = ask(tmp_path / "hub", scan=True, adopt=MARKER)
    assert report.state == "missing" and sentence in report.message
    assert report.disk is None and report.contents is None


def test_a_drive_without_its_marker_or_with_anothers_is_unmounted_and_left_alone(ask: Ask, tmp_path: Path) -> None:
    report = ask(tmp_path / "locks", uuid=MARKER, adopt=OTHER, scan=True)
    assert report.state == "unmounted" and f"its marker {MARKER_FILE} is missing. Mount the drive." in report.message
    assert report.contents is None and not (tmp_path / "locks" / MARKER_FILE).exists()
    (tmp_path / MARKER_FILE).write_text(json.dumps({"uuid": OTHER}))
    report = ask(tmp_path, uuid=MARKER)
    assert (
        report.state == "unmounted"
        and f"another drive than the one that was adopted (marker {OTHER[:8]})" in report.message
    )


def test_adoption_writes_the_marker_once(ask: Ask, tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    hub.mkdir()
    assert ask(hub, adopt=MARKER).uuid == MARKER
    written = (hub / MARKER_FILE).read_bytes()
    assert ask(hub, adopt=OTHER).uuid == MARKER  # an older row's drive is recognised
    assert ask(hub, uuid=MARKER, adopt=OTHER).state == "ok"
    assert (hub / MARKER_FILE).read_bytes() == written
    assert [each.name for each in hub.iterdir()] == [MARKER_FILE]


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"null", b"\xff", b'{"uuid": 7}'])
def test_a_marker_that_says_nothing_is_none(ask: Ask, tmp_path: Path, content: bytes) -> None:
    (tmp_path / MARKER_FILE).write_bytes(content)
    assert ask(tmp_path, uuid=MARKER).state == "unmounted"


def test_a_mere_question_leaves_no_trace(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    ask(tmp_path / "hub", scan=True)
    ask(tmp_path / "gone" / "hub", scan=True)
    assert list((tmp_path / "hub").iterdir()) == [] and not (tmp_path / "gone").exists()


@pytest.mark.parametrize(("make", "one_deep", "two_deep"), [("no", 0, 0), ("last", 1, 0), ("all", 1, 1)])
def test_as_many_folders_are_made_as_may_be(ask: Ask, tmp_path: Path, make: str, one_deep: int, two_deep: int) -> None:
    for path, is_made in ((tmp_path / "a", one_deep), (tmp_path / "b" / "c", two_deep)):
        assert ask(path, make=make).state == ("ok" if is_made else "missing")
        assert path.exists() == bool(is_made)


def test_a_link_below_the_allowed_root_is_refused_and_the_root_may_be_one(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "real" / "hub").mkdir(parents=True)
    (tmp_path / "root").symlink_to("real")
    (tmp_path / "real" / "link").symlink_to("/etc")
    assert ask(tmp_path / "root" / "hub", root=str(tmp_path / "root")).state == "ok"
    for path in ("link", "link/hub"):
        report = ask(tmp_path / "root" / path, root=str(tmp_path / "root"), make="all", adopt=MARKER)
        assert (
            report.state == "missing" and "leads to /etc" in report.message and "Give the real path." in report.message
        )


def test_an_ordinary_user_sees_a_read_only_and_a_closed_folder(open_folder: Path) -> None:
    (open_folder / "mine").mkdir(mode=0o755)
    answer = ask_as_nobody(open_folder / "mine", adopt=MARKER, scan=True)
    if os.geteuid() == 0:
        assert answer["state"] == "read_only" and answer["uuid"] is None and answer["scan"]["used_bytes"] == 0
        assert "nothing can be written there" in answer["message"]
        assert not list((open_folder / "mine").iterdir())
    (open_folder / "mine").chmod(0o000)
    answer = ask_as_nobody(open_folder / "mine")
    assert (answer["state"], answer["message"]) == ("missing", f"{open_folder}/mine cannot be used: Permission denied.")


def test_a_folder_that_may_not_be_read_hides_no_other(open_folder: Path) -> None:
    for name in ("a", "b"):
        repo = make_cached_repo(open_folder, f"org/{name}", files={"config.json": b"{}", "x/y": b"12345"}, refs={})
    (repo / "snapshots" / ("a" * 40) / "x").chmod(0o000)
    (open_folder / "foreign").mkdir()
    (open_folder / "foreign" / "closed").mkdir(mode=0o000)
    (open_folder / "foreign" / "file").write_text("123")
    found = ask_as_nobody(open_folder, scan=True)["scan"]
    assert [each["repo_id"] for each in found["repos"]] == ["org/a", "org/b"]
    assert found["repos"][1]["problems"] == ["x cannot be read: Permission denied"]
    assert found["repos"][1]["revisions"][0]["missing"] == ["x cannot be read: Permission denied"]
    assert found["used_bytes"] == 2 * 7 + 3 and found["problems"] == ["closed cannot be read: Permission denied"]


# Drives that hang


def test_a_probe_that_hangs_is_unresponsive_in_time_and_collected(ask: Ask, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / MARKER_FILE)  # opening it waits for a writer that never comes
    started = time.monotonic()
    report = ask(tmp_path, limit_seconds=0.5)
    assert report.state == "unresponsive" and "did not answer within 0.5 s" in report.message
    assert time.monotonic() - started < 2 and report.duration_seconds >= 0.5
    wait_until(lambda: not probes_of(tmp_path))
    (tmp_path / MARKER_FILE).unlink()
    assert ask(tmp_path).state == "ok"
    assert drives._killed == []


def test_while_one_child_is_stuck_no_other_is_started(ask: Ask, tmp_path: Path) -> None:
    """Whoever holds the drive's lock is its one child: here it is us."""
    name = sha256(os.fsencode(tmp_path)).hexdigest()[:16]
    with open(tmp_path / "locks" / f"probe-{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        started = time.monotonic()
        assert ask(tmp_path, limit_seconds=0.3).state == "unresponsive"
        assert time.monotonic() - started < 1 and not probes_of(tmp_path)
    assert ask(tmp_path).state == "ok"


@pytest.mark.root
def test_a_drive_that_hangs_in_the_kernel_costs_one_child_and_comes_back_alone(ask: Ask, hung_drive: HungDrive) -> None:
    assert ask(hung_drive.path, scan=True).state == "ok"
    hung_drive.hang()
    for _ in range(5):
        started = time.monotonic()
        assert ask(hung_drive.path, limit_seconds=0.4).state == "unresponsive"
        assert time.monotonic() - started < 1.5
    (stuck,) = probes_of(hung_drive.path)
    assert stuck.status() == psutil.STATUS_DISK_SLEEP  # SIGKILL was sent, and changed nothing
    hung_drive.go_on()
    assert ask(hung_drive.path).state == "ok"
    assert not probes_of(hung_drive.path) and drives._killed == []


def test_a_probe_that_breaks_is_a_sentence(tmp_path: Path) -> None:
    report = probe_drive(ProbeRequest("a\0b"), limit_seconds=20, lock_folder=tmp_path)
    assert report.state == "missing" and "could not be read: ValueError: embedded null byte" in report.message


# Mounted drives


@pytest.mark.root
def test_a_drive_remounted_read_only_is_read_only(ask: Ask, mount: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    hub = mount(tmp_path / "hub", size="1m")
    assert ask(hub).disk.total_bytes == 1 << 20
    run_or_skip("mount", "-o", "remount,ro", str(hub))
    report = ask(hub, adopt=MARKER)
    assert report.state == "read_only" and report.uuid is None and report.disk.read_only


@pytest.mark.root
def test_a_full_drive_is_there_though_it_cannot_be_adopted(
    ask: Ask, mount: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "hub").mkdir()
    hub = mount(tmp_path / "hub", size="1m")
    (hub / "filler").write_bytes(b"x" * (1 << 20))
    report = ask(hub, adopt=MARKER)
    assert (report.state, report.uuid, report.disk.free_bytes) == ("ok", None, 0)
    assert [each.name for each in hub.iterdir()] == ["filler"]


@pytest.mark.root
def test_blocks_reserved_for_root_are_not_free(open_folder: Path, mount: Callable[..., Path]) -> None:
    image, hub = open_folder / "image", open_folder / "hub"
    hub.mkdir()
    with open(image, "wb") as file:
        file.truncate(8 << 20)
    run_or_skip("/sbin/mkfs.ext4", "-q", "-m", "20", str(image))
    mount(hub, image=image)
    disk = ask_as_nobody(hub)["disk"]
    free_for_root = disk["total_bytes"] - disk["used_bytes"]
    assert disk["free_bytes"] < free_for_root - (1 << 20)


@pytest.mark.root
def test_the_drive_that_comes_back_is_known_and_its_empty_mount_point_is_not(
    ask: Ask, mount: Callable[..., Path], tmp_path: Path
) -> None:
    hub = tmp_path / "hub"
    hub.mkdir()
    mount(hub)
    assert ask(hub, adopt=MARKER).state == "ok"
    subprocess.run(["umount", "-l", str(hub)], check=True)
    assert ask(hub, uuid=MARKER, adopt=OTHER, make="all", scan=True).state == "unmounted"
    assert list(hub.iterdir()) == []


# Which folders may be made


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/home/me/a/b", "all"), ("/home/me", "all"), ("/home/meander/a", "last"), ("/data/a", "last"),
        ("/mnt/z/cache", "no"), ("/mnt", "no"), ("/media/me/disk/a", "no"), ("/run/media/me/a", "no"),
        ("/mntx/a", "last"), ("/mnt/own/deep/a", "all"),
    ],
)  # fmt: skip
def test_below_a_mount_root_nothing_is_made_without_a_drive(path: str, wanted: str) -> None:
    own = (Path("/home/me"), Path("/mnt/own"))
    assert folders_to_make(Path(path), own_folders=own) == wanted


@pytest.mark.root
def test_below_a_mounted_drive_the_last_folder_is_made(
    ask: Ask, mount: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, drive = tmp_path / "mnt", tmp_path / "mnt" / "my drive"
    drive.mkdir(parents=True)
    monkeypatch.setattr(drives, "MOUNT_ROOTS", (root,))
    cache = drive / "cache"
    assert folders_to_make(cache, own_folders=()) == "no" and not is_on_mounted_drive(cache, root=root)
    mount(drive)
    assert str(drive) in mount_points()
    assert folders_to_make(cache, own_folders=()) == "last" and is_on_mounted_drive(cache, root=root)
    assert not is_on_mounted_drive(root / "other", root=root)
    assert ask(cache, make="last", adopt=MARKER).state == "ok"
