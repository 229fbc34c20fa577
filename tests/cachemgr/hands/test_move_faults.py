"""Moves that meet real faults: whatever happens, the source has all of it, and no name leads to half a file."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cachemgr.marker import write_marker
from tests.cachemgr.conftest import make_image, run_or_skip
from tests.cachemgr.hands.trips import (
    FOLDER,
    LONGER_BYTES,
    Trip,
    child,
    contents,
    everything,
    fill,
    fill_up,
    flip,
    litter,
    make_caches,
    make_longer,
    names,
    refused,
    remount,
    said_by_library,
    strained,
    unharmed,
    watched,
    weights,
)

MB = 10**6


@pytest.fixture
def trip(tmp_path: Path, mount: Callable[..., Path]) -> Trip:
    """Between two filesystems, both of them adopted."""
    trip = make_caches(tmp_path)
    mount(trip.target)
    write_marker(str(trip.source), uuid="the-source")
    write_marker(str(trip.target), uuid="the-target")
    fill(trip.source)
    return trip


# Bytes that are not what they should be


def test_a_source_that_was_corrupted_is_named_and_nothing_arrives(trip: Trip) -> None:
    flip(weights(trip.source / FOLDER))
    with unharmed(trip):
        trouble = refused(trip)
        trip.do("abandon")
    assert (trouble.code, trouble.is_permanent) == ("source_corrupt", True)
    assert trouble.message.startswith(f"model.safetensors of {FOLDER} in {trip.source} has not the bytes")
    assert litter(trip.target) == []


def test_a_read_error_of_the_source_stops_the_move_and_names_the_file(trip: Trip) -> None:
    with unharmed(trip):
        *_, last = strained(trip, "stage", "readv:error=EIO", path=weights(trip.source / FOLDER))
    assert (last["error"]["code"], last["error"]["is_permanent"]) == ("source_corrupt", True)
    assert last["error"]["message"].startswith(
        f"model.safetensors of {FOLDER} in {trip.source} cannot be read: Input/output error"
    )


def test_a_file_that_goes_while_it_is_moved_is_looked_for_again(trip: Trip) -> None:
    make_longer(trip.source / FOLDER)
    for line in watched(trip, rate_limit=4 * LONGER_BYTES, code="source_changed"):
        if line.get("bytes"):
            (trip.source / FOLDER / "snapshots" / ("a" * 40) / "extra-3").unlink(missing_ok=True)
    trip.go()
    assert "refs/main" in contents(trip.moved)


def test_bytes_that_do_not_come_back_as_they_were_written_are_thrown_away(trip: Trip) -> None:
    """The drive says that it wrote them."""
    with unharmed(trip):
        *_, last = strained(trip, "stage", "write:retval=300000", path=trip.staging / "part")
    assert (last["error"]["code"], last["error"]["is_permanent"]) == ("target_corrupt", False)
    assert not (trip.staging / "part").exists()


@pytest.mark.parametrize("call", ["fsync", "renameat", "mkdirat", "symlinkat"])
def test_an_error_of_the_target_stops_the_move_and_another_attempt_may_succeed(trip: Trip, call: str) -> None:
    with unharmed(trip):
        *_, last = strained(trip, "stage", f"{call}:error=EIO:when=2+")
    assert last["error"]["code"] == "drive_error"
    trip.go()
    assert (trip.moved / "refs" / "main").read_text() == "b" * 40


def test_a_fsync_that_failed_is_not_tried_again_for_those_bytes(trip: Trip) -> None:
    with unharmed(trip):
        *_, last = strained(trip, "stage", "fsync:error=EIO:when=1", path=trip.staging / "part")
    assert last["error"]["code"] == "drive_error"
    assert not (trip.staging / "part").exists()
    assert not [path for path in (trip.staging / FOLDER).rglob("*") if path.is_file()]


# Room


def test_a_target_without_room_is_refused_before_a_byte_is_written(trip: Trip) -> None:
    (trip.target / "filler").write_bytes(bytes(16_700_000))
    with unharmed(trip):
        trouble = refused(trip)
    assert (trouble.code, trouble.is_permanent) == ("insufficient_space", True)
    assert "300 kB were still to come" in trouble.message and "are free" in trouble.message


def test_a_target_that_others_fill_meanwhile_ends_the_move(trip: Trip) -> None:
    make_longer(trip.source / FOLDER)
    with unharmed(trip):
        for line in watched(trip, rate_limit=2 * LONGER_BYTES, code="insufficient_space"):
            if line.get("bytes"):
                fill_up(trip.target)
        assert trip.do("abandon") == {"removed": True}
        assert litter(trip.target) == []
    (trip.target / "filler").unlink()
    trip.go()


def test_a_target_without_inodes_says_so(tmp_path: Path, mount: Callable[..., Path]) -> None:
    trip = make_caches(tmp_path)
    mount(trip.target, inodes=15)
    fill(trip.source)
    with unharmed(trip):
        trouble = refused(trip)
    assert trouble.code == "no_more_files" and "no inodes" in trouble.message


def test_a_target_whose_quota_is_used_up_says_so(trip: Trip) -> None:
    with unharmed(trip):
        *_, last = strained(trip, "stage", "write:error=EDQUOT", path=trip.staging / "part")
    assert (last["error"]["code"], last["error"]["is_permanent"]) == ("quota_exceeded", True)
    assert str(trip.target) in last["error"]["message"] and "quota" in last["error"]["message"]


def test_a_file_that_is_too_big_for_the_target_is_named_as_such(trip: Trip) -> None:
    with unharmed(trip), child("move", trip.order("stage"), "prlimit", "--fsize=100000") as process:
        *_, last = map(json.loads, process.stdout)
    assert last["error"]["code"] == "file_too_big_for_drive"


def test_a_drive_that_lies_about_its_size_loses_nothing(tmp_path: Path, mount: Callable[..., Path]) -> None:
    """It claims 64 MB and has 16."""
    trip = make_caches(tmp_path)
    fill(trip.source, files={"model.safetensors": os.urandom(24 * MB), "config.json": b"{}"})
    host = mount(tmp_path / "host", size="16m")
    mount(trip.target, image=make_image(host / "image", "-O", "^has_journal", size=64 << 20))
    assert trip.do("plan")["bytes"] < shutil.disk_usage(trip.target).free
    library = said_by_library(trip.source)
    with unharmed(trip):
        trouble = refused(trip)
    assert trouble.code in {"drive_error", "target_corrupt", "insufficient_space"}  # what the kernel makes of it
    assert said_by_library(trip.source) == library


def test_a_read_only_target_says_so(trip: Trip) -> None:
    remount(trip.target, "ro")
    with unharmed(trip):
        assert refused(trip, "plan").code == "drive_read_only"


# Drives that come and go


def test_a_target_that_is_unmounted_on_the_way_gets_nothing(trip: Trip) -> None:
    make_longer(trip.source / FOLDER)
    with unharmed(trip):
        for line in watched(trip, rate_limit=2 * LONGER_BYTES, code="cache_unavailable"):
            if line.get("bytes"):
                subprocess.run(["umount", "-l", trip.target], check=False, capture_output=True)
        assert names(trip.target) == []


def test_a_source_that_is_unmounted_on_the_way_is_no_corrupt_one(tmp_path: Path, mount: Callable[..., Path]) -> None:
    trip = make_caches(tmp_path)
    mount(trip.source)
    make_longer(fill(trip.source))
    for line in watched(trip, rate_limit=2 * LONGER_BYTES, code="cache_unavailable"):
        if line.get("bytes"):
            subprocess.run(["umount", "-l", trip.source], check=False, capture_output=True)
    assert not trip.moved.exists()


def test_another_drive_at_the_targets_path_gets_nothing(trip: Trip, tmp_path: Path, mount: Callable[..., Path]) -> None:
    trip.do("stage")
    order = trip.order("publish")
    mount(trip.target)
    write_marker(str(trip.target), uuid="another")
    with unharmed(trip):
        for step in ("publish", "stage", "abandon", "leave"):
            trouble = refused(trip, step, target=order["target"])
            assert (trouble.code, trouble.is_permanent) == ("cache_unavailable", False)
            assert "marker another" in trouble.message
        assert names(trip.target) == [".homelab-cache.json"]


def test_another_drive_at_the_sources_path_loses_nothing(trip: Trip, mount: Callable[..., Path]) -> None:
    trip.do("stage")
    trip.do("publish")
    order = trip.order("leave")
    mount(trip.source)
    fill(trip.source)
    before = everything(trip.source)
    for marker in ("", "another"):
        if marker:
            write_marker(str(trip.source), uuid=marker)
        trouble = refused(trip, "leave", source=order["source"])
        assert (trouble.code, trouble.is_permanent) == ("cache_unavailable", False)
    (trip.source / ".homelab-cache.json").unlink()
    assert everything(trip.source) == before


@pytest.mark.parametrize("swapped", [".homelab", ".homelab/staging"])
def test_a_link_in_the_targets_own_folders_leads_nobody_out(trip: Trip, tmp_path: Path, swapped: str) -> None:
    canary = tmp_path / "canary"
    canary.mkdir()
    (trip.target / swapped).parent.mkdir(exist_ok=True)
    (trip.target / swapped).symlink_to(canary)
    with unharmed(trip):
        refused(trip)
    assert names(canary) == []


def test_a_link_in_place_of_the_repo_is_not_moved(trip: Trip, tmp_path: Path) -> None:
    (trip.source / FOLDER).rename(tmp_path / "elsewhere")
    (trip.source / FOLDER).symlink_to(tmp_path / "elsewhere")
    before = everything(tmp_path / "elsewhere")
    assert refused(trip).code == "source_missing"
    assert trip.do("leave")["removed"] == 0
    assert everything(tmp_path / "elsewhere") == before


@pytest.fixture
def alias_trip(tmp_path: Path) -> Iterator[Trip]:
    """One folder under two mounts, with other devices and inodes: as a share of this machine that it mounts itself, or
    a pool and a disk in it."""
    trip = make_caches(tmp_path)
    fill(trip.source)
    for name in ("lower", "work"):
        (tmp_path / name).mkdir()
    layers = f"lowerdir={tmp_path / 'lower'},upperdir={trip.source},workdir={tmp_path / 'work'}"
    run_or_skip("mount", "-t", "overlay", "overlay", "-o", layers, str(trip.target))
    yield trip
    subprocess.run(["umount", "-l", trip.target], check=False, capture_output=True)


def test_one_folder_under_two_mounts_is_not_moved_onto_itself(alias_trip: Trip) -> None:
    before = everything(alias_trip.source / FOLDER)
    for step in ("plan", "stage"):
        trouble = refused(alias_trip, step)
        assert (trouble.code, trouble.is_permanent) == ("same_place", True)
    assert everything(alias_trip.source / FOLDER) == before


def test_a_source_that_became_the_target_is_not_removed(trip: Trip, tmp_path: Path) -> None:
    """Its drive was mounted elsewhere between the copy and the end."""
    trip.do("stage")
    trip.do("publish")
    before = everything(trip.moved)
    (tmp_path / "lower").mkdir()
    layers = f"lowerdir={trip.target}:{tmp_path / 'lower'}"
    run_or_skip("mount", "-t", "overlay", "overlay", "-o", layers, str(trip.source))
    try:
        order = trip.order("leave") | {"source": {"path": str(trip.source), "uuid": ""}}
        assert refused(trip, "leave", source=order["source"]).code == "same_place"
    finally:
        subprocess.run(["umount", "-l", trip.source], check=False, capture_output=True)
    assert everything(trip.moved) == before
