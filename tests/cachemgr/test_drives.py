"""What a probe says of drives that are whole, away, read-only or foreign. Every probe is a real process."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from cachemgr import drives, probe
from cachemgr.drive_report import report_from_answer, request_to_json
from cachemgr.drives import DriveReport, ProbeRequest, folders_to_make, is_on_mounted_drive, probe_drive
from cachemgr.layout import HOUSE_FOLDER, MARKER_FILE
from cachemgr.marker import read_marker, write_marker
from cachemgr.report import CacheReport
from cachemgr.scan import scan_cache
from tests.cachemgr.conftest import HungDrive, make_image, run_or_skip
from tests.factories import loadable_files, make_cached_repo

Ask = Callable[..., DriveReport]
MARKER, OTHER = "11111111-1111", "22222222-2222"
NOBODY = 65534


def ask_as_nobody(path: Path, **wishes: Any) -> DriveReport:
    """Root may write everywhere, so it would never see a read-only folder."""
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.geteuid() == 0 else []
    request = json.dumps(request_to_json(ProbeRequest(str(path), **wishes)))
    place = ["/usr/bin/env", f"PYTHONPATH={drives._PROJECT}", "python3", "-m", "cachemgr.probe"]
    done = subprocess.run([*user, *place, request, "20", ""], input="", capture_output=True, text=True, check=True)
    return report_from_answer(json.loads(done.stdout))


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


def test_what_can_be_loaded_of_a_repo_is_described_by_whom_one_asks_for(ask: Ask, tmp_path: Path) -> None:
    whole = loadable_files()
    make_cached_repo(tmp_path, "org/m", files=whole, commit="a" * 40)
    make_cached_repo(tmp_path, "org/m", files={"README.md": b"no weights"}, commit="b" * 40)
    report = ask(tmp_path, repo="models--org--m", describer="tests.cachemgr.slow_describer")
    assert report.descriptions == {"a" * 40: sorted(whole)} and len(report.contents.repos[0].revisions) == 2
    assert ask(tmp_path, repo="models--org--m").descriptions is None
    assert ask(tmp_path, repo="models--org--n", describer="tests.cachemgr.slow_describer").descriptions == {}


def test_a_drive_that_hangs_while_it_is_described_does_not_answer(ask: Ask, tmp_path: Path) -> None:
    make_cached_repo(tmp_path, "org/m", files=loadable_files() | {"hang": b""})
    began = time.monotonic()
    report = ask(tmp_path, repo="models--org--m", describer="tests.cachemgr.slow_describer", limit_seconds=2)
    assert report.state == "unresponsive" and time.monotonic() - began < 10
    assert ask(tmp_path, repo="models--org--m").contents.repos  # the child is gone
    assert ask(tmp_path).contents is None


def test_a_second_scan_is_told_what_the_first_found_and_sends_no_more_than_changed(ask: Ask, tmp_path: Path) -> None:
    for name in ("one", "two"):
        repo = make_cached_repo(tmp_path, f"org/{name}", files={"a": name.encode()})
    for folder in (repo.parent / "models--org--one", repo):
        for each in [folder, *folder.rglob("*")]:
            os.utime(each, (1, 1), follow_symlinks=False)
    first = ask(tmp_path, scan=True).contents
    known = {repo.folder: repo for repo in first.repos}
    second = ask(tmp_path, scan=True, known=known).contents
    assert (first.reread_count, second.reread_count) == (2, 0)
    assert (second.repos, second.used_bytes) == (first.repos, first.used_bytes)
    distrusted = ask(tmp_path, scan=True, known=known, distrust="It is a NAS.").contents
    assert (distrusted.reread_count, distrusted.distrust) == (2, "It is a NAS.")


def test_the_files_of_one_repo_are_listed(ask: Ask, tmp_path: Path) -> None:
    make_cached_repo(tmp_path, "org/m", files={"a": b"123", "b/c": b"12345"})
    files = ask(tmp_path, files="models--org--m").files
    assert {(each.name, each.size_bytes) for each in files} == {("a", 3), ("b/c", 5)}
    assert ask(tmp_path, files="models--org--none").files == () and ask(tmp_path).files is None


def test_free_space_is_from_after_the_scan_so_that_no_landed_byte_counts_as_free(
    mount: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive = tmp_path / "drive"
    drive.mkdir()
    mount(drive, size="16m")

    def land_and_scan(path: str, **wishes: Any) -> CacheReport:
        Path(path, "landed").write_bytes(bytes(4 << 20))
        return scan_cache(path, **wishes)

    monkeypatch.setattr(probe, "scan_cache", land_and_scan)
    report = probe.probe(ProbeRequest(str(drive), scan=True))
    assert report.contents.used_bytes == 4 << 20
    assert report.disk.free_bytes == 12 << 20


@pytest.mark.parametrize(
    ("made", "sentence"),
    [("nothing", "does not exist. Is the drive plugged in"), ("file", "cannot be used: Not a directory. Look at")],
)
def test_what_is_no_folder_is_missing(ask: Ask, tmp_path: Path, made: str, sentence: str) -> None:
    if made == "file":
        (tmp_path / "hub").write_text("")
    report = ask(tmp_path / "hub", scan=True, adopt=MARKER)
    assert report.state == "missing" and sentence in report.message
    assert report.disk is None and report.contents is None


def test_a_drive_without_its_marker_or_with_anothers_is_unmounted_and_left_alone(ask: Ask, tmp_path: Path) -> None:
    report = ask(tmp_path / "locks", uuid=MARKER, adopt=OTHER, scan=True)
    assert report.state == "unmounted"
    assert report.message.endswith(f"its marker {MARKER_FILE} is missing. Mount the drive.")
    assert report.contents is None and not (tmp_path / "locks" / MARKER_FILE).exists()
    (tmp_path / MARKER_FILE).write_text(json.dumps({"uuid": OTHER}))
    report = ask(tmp_path, uuid=MARKER, location="secondary")
    assert report.state == "unmounted" and report.message == (
        f"{tmp_path} holds another drive than the one that was adopted (marker {OTHER[:8]}). Mount the right one. "
        "Or take this one from now on: manage.py cache_adopt secondary --replace, or the button Use This Drive on the "
        "Settings page."
    )


def test_an_owner_takes_another_drive_by_its_own_marker_and_a_bare_folder_by_a_new_one(
    ask: Ask, tmp_path: Path
) -> None:
    (tmp_path / MARKER_FILE).write_text(json.dumps({"uuid": OTHER}))
    report = ask(tmp_path, uuid=MARKER, adopt=MARKER, replace=True)
    assert (report.state, report.uuid) == ("ok", OTHER)
    bare = tmp_path / "bare"
    assert ask(bare, uuid=MARKER, adopt=OTHER, make="all").state == "missing"  # never made where a drive is away
    report = ask(bare, uuid=MARKER, adopt=OTHER, make="all", replace=True)
    assert (report.state, report.uuid) == ("ok", OTHER) and (bare / MARKER_FILE).exists()


def test_adoption_writes_the_marker_once(ask: Ask, tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    hub.mkdir()
    assert ask(hub, adopt=MARKER).uuid == MARKER
    written = (hub / MARKER_FILE).read_bytes()
    assert ask(hub, adopt=OTHER).uuid == MARKER  # an older row's drive is recognised
    assert ask(hub, uuid=MARKER, adopt=OTHER).state == "ok"
    assert (hub / MARKER_FILE).read_bytes() == written
    assert [each.name for each in hub.iterdir()] == [MARKER_FILE]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b"\xff",
        b'{"uuid": 7}',
        b'{"uuid": "%s"}' % (b"1" * 37),
        pytest.param(b"[" * 4000, id="deep"),
    ],
)
def test_a_marker_that_says_nothing_is_none_and_gives_way_to_one(ask: Ask, tmp_path: Path, content: bytes) -> None:
    (tmp_path / MARKER_FILE).write_bytes(content)
    assert ask(tmp_path, uuid=MARKER).state == "unmounted"
    assert ask(tmp_path, adopt=MARKER).uuid == MARKER and ask(tmp_path, uuid=MARKER).state == "ok"


def test_a_pipe_in_place_of_the_marker_keeps_nobody_waiting(ask: Ask, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / MARKER_FILE)  # opening one waits for a writer that never comes
    assert ask(tmp_path, uuid=MARKER).state == "unmounted"


def test_of_many_who_adopt_at_once_all_get_the_same_uuid(tmp_path: Path) -> None:
    """As the children of several processes do, where a first contact gives each a turn of its own."""
    with ThreadPoolExecutor(6) as threads:
        for number in range(40):
            hub, together = tmp_path / str(number), Barrier(6)
            hub.mkdir()
            wishes = [threads.submit(adopt_together, hub, f"uuid-{each}", together) for each in range(6)]
            assert {each.result() for each in wishes} == {read_marker(str(hub))}
            assert [each.name for each in hub.iterdir()] == [MARKER_FILE]


def adopt_together(hub: Path, uuid: str, together: Barrier) -> str | None:
    together.wait()
    return write_marker(str(hub), uuid=uuid)


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
    report = ask_as_nobody(open_folder / "mine", adopt=MARKER, scan=True)
    if os.geteuid() == 0:
        assert report.state == "read_only" and report.uuid is None and report.contents.used_bytes == 0
        problem, remedy = "nothing can be written there: Permission denied.", f"sudo chown nobody {open_folder}/mine"
        assert problem in report.message and report.message.endswith(remedy)
        assert not list((open_folder / "mine").iterdir())
    (open_folder / "mine").chmod(0o000)
    report = ask_as_nobody(open_folder / "mine")
    assert report.state == "missing"
    assert report.message.startswith(f"{open_folder}/mine cannot be used: Permission denied. Give nobody the right to")


def test_a_folder_that_may_not_be_read_hides_no_other(open_folder: Path) -> None:
    for name in ("a", "b"):
        repo = make_cached_repo(open_folder, f"org/{name}", files={"config.json": b"{}", "x/y": b"12345"}, refs={})
    (repo / "snapshots" / ("a" * 40) / "x").chmod(0o000)
    (open_folder / "foreign").mkdir()
    (open_folder / "foreign" / "closed").mkdir(mode=0o000)
    (open_folder / "foreign" / "file").write_text("123")
    found = ask_as_nobody(open_folder, scan=True).contents
    assert [each.repo_id for each in found.repos] == ["org/a", "org/b"]
    assert any("cannot be read: Permission denied" in each for each in found.repos[1].problems)
    assert any("cannot be read: Permission denied" in each for each in found.repos[1].revisions[0].missing)
    assert found.used_bytes == 2 * 7 + 3 and "closed cannot be read: Permission denied" in found.problems[0]


def test_a_probe_that_breaks_is_a_sentence(tmp_path: Path) -> None:
    report = probe_drive(ProbeRequest("a\0b"), limit_seconds=20, lock_folder=tmp_path)
    assert report.state == "missing" and "could not be read: ValueError: embedded null byte" in report.message


# Whether it takes writes


@pytest.mark.root
def test_a_drive_remounted_read_only_is_read_only(ask: Ask, mount: Callable[..., Path], tmp_path: Path) -> None:
    hub = mount(tmp_path / "hub", size="1m")
    assert ask(hub).disk.total_bytes == 1 << 20
    run_or_skip("mount", "-o", "remount,ro", str(hub))
    report = ask(hub, adopt=MARKER)
    assert report.state == "read_only" and report.uuid is None and report.disk.read_only
    assert "Read-only file system. It is mounted read-only" in report.message
    assert report.message.endswith(f"sudo mount -o remount,rw {hub}")


@pytest.mark.root
def test_a_full_drive_is_there_though_it_cannot_be_adopted(
    ask: Ask, mount: Callable[..., Path], tmp_path: Path
) -> None:
    hub = mount(tmp_path / "hub", size="1m")
    (hub / "filler").write_bytes(b"x" * (1 << 20))
    report = ask(hub, adopt=MARKER, scan=True)
    assert (report.state, report.uuid, report.disk.free_bytes) == ("ok", None, 0)
    assert "No space left on device. Free some space there." in report.message
    assert [each.name for each in hub.iterdir()] == ["filler"]


@pytest.mark.root
def test_an_adopted_drive_that_is_full_is_not_read_only(ask: Ask, mount: Callable[..., Path], tmp_path: Path) -> None:
    hub = mount(tmp_path / "hub", size="1m")
    assert ask(hub, adopt=MARKER, scan=True).filesystem.takes_links is True
    (hub / "filler").write_bytes(b"x" * os.statvfs(hub).f_bavail * 4096)
    report = ask(hub, uuid=MARKER, scan=True)
    assert (report.state, report.message, report.filesystem.takes_links) == ("ok", "", None)


def test_a_scan_of_an_adopted_cache_tries_to_write_and_leaves_an_empty_house(ask: Ask, tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    hub.mkdir()
    assert ask(hub, adopt=MARKER).filesystem.takes_links is None  # a mere check tries nothing
    assert not (hub / HOUSE_FOLDER).exists()
    for leftover in ("write-test", "link-test"):  # of a child that was killed
        (hub / HOUSE_FOLDER).mkdir(exist_ok=True)
        (hub / HOUSE_FOLDER / leftover).write_text("half")
    age_house(hub)
    assert ask(hub, uuid=MARKER, scan=True).filesystem.takes_links is True
    assert list((hub / HOUSE_FOLDER).iterdir()) == []


def age_house(hub: Path) -> None:
    """A disk that turns is tried once an hour; the test's own disk may be one."""
    os.utime(hub / HOUSE_FOLDER, (0, 0))


def test_a_house_that_is_a_link_to_elsewhere_is_not_written_to(ask: Ask, tmp_path: Path) -> None:
    hub, elsewhere = tmp_path / "hub", tmp_path / "elsewhere"
    hub.mkdir()
    elsewhere.mkdir()
    (hub / HOUSE_FOLDER).symlink_to(elsewhere)
    report = ask(hub, adopt=MARKER, scan=True)
    assert report.state == "read_only" and "Not a directory" in report.message
    assert list(elsewhere.iterdir()) == []


@pytest.mark.root
def test_a_folder_whose_filesystem_forbids_writing_is_found_out_by_writing(ask: Ask, tmp_path: Path) -> None:
    """The flags and modes of an immutable folder allow everything, and root is not asked."""
    hub = tmp_path / "hub"
    hub.mkdir()
    ask(hub, adopt=MARKER)
    run_or_skip("chattr", "+i", str(hub))
    try:
        report = ask(hub, uuid=MARKER, scan=True)
    finally:
        subprocess.run(["chattr", "-i", str(hub)], check=True)
    assert report.state == "read_only" and report.uuid == MARKER and report.contents is not None
    assert "Operation not permitted" in report.message and f"lsattr -d {hub}" in report.message


@pytest.mark.root
def test_a_drive_without_symbolic_links_says_so(ask: Ask, drive_without_links: HungDrive) -> None:
    report = ask(drive_without_links.path, adopt=MARKER, scan=True)
    assert (report.state, report.uuid) == ("ok", MARKER)
    assert (report.filesystem.kind, report.filesystem.takes_links) == ("fuse", False)


@pytest.mark.root
def test_a_drive_that_is_out_of_inodes_is_not_read_only(ask: Ask, mount: Callable[..., Path], tmp_path: Path) -> None:
    hub = mount(tmp_path / "hub", image=make_image(tmp_path / "image", "-N", "32"))
    before = ask(hub, adopt=MARKER, scan=True)
    assert before.state == "ok" and 0 < before.disk.inodes_free < 32
    with suppress(OSError):
        for number in count():
            (hub / str(number)).touch()
    report = ask(hub, uuid=MARKER, scan=True)
    assert (report.state, report.disk.inodes_free) == ("ok", 0) and report.disk.free_bytes > 1 << 20


@pytest.mark.root
def test_blocks_reserved_for_root_are_not_free(open_folder: Path, mount: Callable[..., Path]) -> None:
    hub = mount(open_folder / "hub", image=make_image(open_folder / "image", "-m", "20"))
    disk = ask_as_nobody(hub).disk
    free_for_root = disk.total_bytes - disk.used_bytes
    assert disk.free_bytes < free_for_root - (1 << 20)


# What it is


@pytest.mark.root
def test_a_drive_says_what_it_is_and_one_seen_twice_is_one(
    ask: Ask, mount: Callable[..., Path], tmp_path: Path
) -> None:
    drive = mount(tmp_path / "my drive")
    (drive / "hub").mkdir()
    (tmp_path / "link").symlink_to(drive / "hub")
    bound = mount(tmp_path / "bound", bind=drive / "hub")
    direct, by_link, by_bind = (ask(path) for path in (drive / "hub", tmp_path / "link", bound))
    assert (direct.filesystem.kind, direct.filesystem.mount_point) == ("tmpfs", str(drive))
    assert by_bind.filesystem.mount_point == str(bound)
    assert direct.disk.device == by_link.disk.device == by_bind.disk.device != ask(tmp_path).disk.device
    assert {each.filesystem.inner_path for each in (direct, by_link, by_bind)} == {"/hub"}


@pytest.mark.root
def test_an_image_with_holes_shares_its_hosts_free_space(ask: Ask, mount: Callable[..., Path], tmp_path: Path) -> None:
    host = mount(tmp_path / "host", size="32m")
    hub = mount(tmp_path / "hub", image=make_image(host / "image", size=24 << 20))
    disk, host_disk = ask(hub).disk, ask(host).disk
    assert disk.host_device == host_disk.device != disk.device
    assert disk.host_free_bytes == host_disk.free_bytes


@pytest.mark.root
def test_an_image_that_has_all_its_bytes_shares_nothing(ask: Ask, mount: Callable[..., Path], tmp_path: Path) -> None:
    host = mount(tmp_path / "host", size="32m")
    hub = mount(tmp_path / "hub", image=make_image(host / "image", size=8 << 20, is_sparse=False))
    assert ask(hub).disk.host_device is None and ask(hub).disk.host_free_bytes is None


# Drives that come and go


@pytest.mark.root
def test_the_drive_that_comes_back_is_known_and_its_empty_mount_point_is_not(
    ask: Ask, mount: Callable[..., Path], tmp_path: Path
) -> None:
    hub = mount(tmp_path / "hub")
    assert ask(hub, adopt=MARKER).state == "ok"
    subprocess.run(["umount", "-l", str(hub)], check=True)
    assert ask(hub, uuid=MARKER, adopt=OTHER, make="all", scan=True).state == "unmounted"
    assert list(hub.iterdir()) == []


@pytest.mark.root
def test_another_drive_at_the_same_path_is_told_from_the_right_one(
    ask: Ask, mount: Callable[..., Path], tmp_path: Path
) -> None:
    images = [make_image(tmp_path / name) for name in ("right", "wrong")]
    hub = tmp_path / "hub"
    for image, uuid in zip(images, (MARKER, OTHER), strict=True):
        mount(hub, image=image)
        assert ask(hub, adopt=uuid).state == "ok"
        subprocess.run(["umount", "-l", str(hub)], check=True)
    for image, state in zip(images, ("ok", "unmounted"), strict=True):
        mount(hub, image=image)
        assert ask(hub, uuid=MARKER, adopt=OTHER, scan=True).state == state
        subprocess.run(["umount", "-l", str(hub)], check=True)


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
    assert folders_to_make(cache, own_folders=()) == "last" and is_on_mounted_drive(cache, root=root)
    assert not is_on_mounted_drive(root / "other", root=root)
    assert ask(cache, make="last", adopt=MARKER).state == "ok"


def test_an_empty_folder_below_a_mount_root_without_a_drive_is_explained_and_left_alone(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "mnt"
    (root / "z").mkdir(parents=True)
    monkeypatch.setattr(drives, "MOUNT_ROOTS", (root,))
    way_out = "create it: manage.py cache_adopt secondary --create, or the button Create Folder on the Settings page."
    for path, state, problem in ((root / "z", "unmounted", "is empty"), (root / "z/hub", "missing", "does not exist")):
        report = ask(path, location="secondary", scan=True)
        assert report.state == state
        assert report.message.startswith(f"{path} {problem}, and no drive is mounted below {root} on the way.")
        assert "Mount the drive; or, to use the disk of /" in report.message and report.message.endswith(way_out)
        assert list((root / "z").iterdir()) == []
    made = ask(root / "z" / "hub", location="secondary", adopt=MARKER, make="all", scan=True)
    assert (made.state, made.uuid) == ("ok", MARKER)
    (root / "z" / "own").mkdir()
    (root / "z" / "own" / "models--org--m").mkdir()
    kept = ask(root / "z" / "own", location="secondary", scan=True)  # what the owner keeps there is read
    assert (kept.state, len(kept.contents.repos), kept.uuid) == ("ok", 1, None)
    assert "without a marker" in kept.message and kept.message.endswith("cache_adopt secondary --create")


def test_a_cache_whose_parent_is_missing_says_how_to_make_both(ask: Ask, tmp_path: Path) -> None:
    report = ask(tmp_path / "no" / "hub", location="custom", make="last", adopt=MARKER)
    assert report.state == "missing" and f"nor does {tmp_path}/no. Mount its drive; or" in report.message
    assert f"manage.py cache_adopt custom --cache-path {tmp_path}/no/hub --create" in report.message
