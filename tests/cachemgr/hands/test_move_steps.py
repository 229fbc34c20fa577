"""The steps of a move: each can be done again, and at every moment between them one place has all of it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cachemgr.hands.errors import Trouble
from tests.cachemgr.hands.trips import (
    FILES,
    FOLDER,
    Trip,
    child,
    contents,
    everything,
    fill,
    flip,
    litter,
    make_caches,
    names,
    stored_bytes,
    weights,
)
from tests.factories import make_cached_repo

COMMIT = "a" * 40


@pytest.fixture
def near_trip(tmp_path: Path) -> Trip:
    """Both caches on one filesystem."""
    trip = make_caches(tmp_path)
    fill(trip.source)
    return trip


def blob_inodes(repo: Path) -> set[int]:
    return {path.stat().st_ino for path in (repo / "blobs").iterdir()}


# One filesystem


def test_on_one_filesystem_nothing_is_copied(near_trip: Trip) -> None:
    before, inodes = everything(near_trip.source / FOLDER), blob_inodes(near_trip.source / FOLDER)
    plan = near_trip.do("plan")
    assert (plan["method"], plan["bytes"]) == ("link", 0)
    assert near_trip.go()["kept"] == []
    assert blob_inodes(near_trip.moved) == inodes
    assert everything(near_trip.moved) == before
    assert not (near_trip.source / FOLDER).exists()


def test_a_ref_that_is_written_in_place_later_changes_in_one_place_alone(near_trip: Trip) -> None:
    near_trip.do("stage")
    near_trip.do("publish")
    (near_trip.source / FOLDER / "refs" / "main").write_text("c" * 40)
    assert (near_trip.moved / "refs" / "main").read_text() == "b" * 40
    assert near_trip.do("leave")["kept"] == ["refs/main"]


def test_each_folder_is_made_once(near_trip: Trip, tmp_path: Path) -> None:
    log = tmp_path / "calls"
    watching = ("strace", "-f", "-qq", "-e", "trace=mkdir,mkdirat", "-o", log)
    with child("move", near_trip.order("stage"), *watching) as process:
        assert '"done"' in process.stdout.read()
    calls = log.read_text().splitlines()
    assert calls and [call for call in calls if not call.endswith("= 0")] == []


def test_two_mounts_of_one_filesystem_are_copied_between(near_trip: Trip, mount: Callable[..., Path]) -> None:
    """The kernel takes no hard link from one to the other."""
    mount(near_trip.target, bind=near_trip.target)
    assert near_trip.do("plan")["method"] == "copy"
    before = everything(near_trip.source / FOLDER)
    near_trip.go()
    assert everything(near_trip.moved) == before


# Planning


def test_a_plan_changes_nothing(trip: Trip) -> None:
    before = everything(trip.source)
    plan = trip.do("plan")
    assert everything(trip.source) == before
    assert litter(trip.target) == [] and names(trip.target) == [".homelab"]
    assert plan == {
        "method": "copy",
        "layout": "links",
        "files": 9,
        "size_bytes": stored_bytes(trip.source),
        "bytes": stored_bytes(trip.source),
        "present_bytes": 0,
        "target_exists": "",
        "skipped": [],
        "problems": [],
    }


# Staging


def test_what_is_staged_has_no_final_name_and_is_reported_byte_by_byte(trip: Trip) -> None:
    trip.send("stage")
    assert not trip.moved.exists() and (trip.source / FOLDER).exists()
    assert contents(trip.staging / FOLDER) == contents(trip.source / FOLDER)
    *_, last = trip.said
    assert last["stage"] == "copying" and last["bytes"] == last["total"] == stored_bytes(trip.source)


def test_files_that_are_finished_are_not_copied_again(trip: Trip) -> None:
    trip.do("stage")
    lost = next((trip.staging / FOLDER / "blobs").iterdir())
    lost.unlink()
    inodes = blob_inodes(trip.staging / FOLDER)
    assert trip.do("plan")["present_bytes"] > 0
    trip.do("stage")
    assert blob_inodes(trip.staging / FOLDER) > inodes
    trip.do("publish")
    assert contents(trip.moved) == contents(trip.source / FOLDER)


def test_a_file_that_changed_at_the_source_is_copied_again(trip: Trip) -> None:
    trip.do("stage")
    ref = trip.source / FOLDER / "refs" / "main"
    ref.write_text("a" * 40)
    os.utime(ref, (1, 1))
    trip.do("stage")
    trip.do("publish")
    assert (trip.moved / "refs" / "main").read_text() == "a" * 40
    assert trip.do("leave")["kept"] == []


def test_what_went_from_the_source_between_two_attempts_does_not_arrive(trip: Trip) -> None:
    trip.do("stage")
    (trip.source / FOLDER / "refs" / "main").unlink()
    (trip.source / FOLDER / "snapshots" / COMMIT / "empty.txt").unlink()
    before = everything(trip.source / FOLDER)
    trip.do("stage")
    trip.do("publish")
    assert everything(trip.moved) == before


def test_a_file_that_is_too_short_in_staging_is_copied_again(trip: Trip) -> None:
    trip.do("stage")
    for blob in (trip.staging / FOLDER / "blobs").iterdir():
        os.truncate(blob, blob.stat().st_size // 2)
    trip.do("stage")
    trip.do("publish")
    assert contents(trip.moved) == contents(trip.source / FOLDER)


# Publishing


def test_nothing_is_published_that_was_not_staged_whole(trip: Trip) -> None:
    with pytest.raises(Trouble) as refused:
        trip.do("publish")
    assert refused.value.code == "not_staged"
    trip.do("stage")
    (trip.staging / FOLDER / "refs" / "main").unlink()
    with pytest.raises(Trouble, match="refs/main") as refused:
        trip.do("publish")
    assert (refused.value.code, refused.value.is_permanent) == ("not_staged", False)
    assert not trip.moved.exists()


def test_a_publication_can_be_done_again_and_staged_again_and_changes_nothing(trip: Trip) -> None:
    trip.do("stage")
    trip.do("publish")
    before = everything(trip.target)
    for step in ("publish", "stage", "publish"):
        trip.do(step)
        assert everything(trip.target) == before
    assert trip.do("plan")["target_exists"] == "same"
    assert trip.do("leave")["kept"] == []


def test_another_repo_in_its_place_is_left_alone(trip: Trip) -> None:
    other = make_cached_repo(trip.target, "org/m", files={"config.json": b"another"}, commit="c" * 40)
    before = everything(trip.source), everything(other)
    assert trip.do("plan")["target_exists"] == "other"
    with pytest.raises(Trouble, match="other files") as refused:
        trip.do("stage")
    assert (refused.value.code, refused.value.is_permanent) == ("target_exists", True)
    trip.do("abandon")
    assert (everything(trip.source), everything(other)) == before


def test_a_folder_that_came_in_the_meantime_is_not_replaced(trip: Trip) -> None:
    trip.do("stage")
    other = make_cached_repo(trip.target, "org/m", files={"config.json": b"another"}, commit="c" * 40)
    before = everything(other)
    with pytest.raises(Trouble) as refused:
        trip.do("publish")
    assert refused.value.code == "target_exists"
    assert everything(other) == before


def copy_by_hand(trip: Trip) -> None:
    """As `cp -r --preserve=links` would."""
    for name, content in everything(trip.source / FOLDER).items():
        path = trip.moved / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir(exist_ok=True)
        elif isinstance(content, str):
            path.symlink_to(content)
        else:
            path.write_bytes(content)


def test_an_equal_copy_that_is_there_already_is_verified_and_taken(trip: Trip) -> None:
    copy_by_hand(trip)
    inodes = blob_inodes(trip.moved)
    plan = trip.do("plan")
    assert (plan["target_exists"], plan["bytes"]) == ("same", 0)
    assert trip.go()["kept"] == []
    assert blob_inodes(trip.moved) == inodes
    assert not (trip.source / FOLDER).exists() and litter(trip.target) == []


def test_a_copy_that_only_looks_equal_is_not_taken(trip: Trip) -> None:
    copy_by_hand(trip)
    flip(weights(trip.moved))
    with pytest.raises(Trouble, match=r"its model\.safetensors is damaged") as refused:
        trip.do("stage")
    assert refused.value.code == "target_exists"
    assert contents(trip.source / FOLDER)["snapshots/" + COMMIT + "/model.safetensors"] == FILES["model.safetensors"]


def test_a_ref_to_another_commit_is_seen_before_the_weights_are_read(trip: Trip) -> None:
    copy_by_hand(trip)
    flip(weights(trip.moved))
    (trip.moved / "refs" / "main").write_text("d" * 40)
    with pytest.raises(Trouble, match="and its refs/main differs") as refused:
        trip.do("stage")
    assert refused.value.code == "target_exists"


def test_a_copy_that_was_there_before_survives_a_job_that_is_given_up(trip: Trip) -> None:
    copy_by_hand(trip)
    before = everything(trip.moved)
    trip.do("stage")
    trip.do("publish")
    trip.do("abandon")
    assert everything(trip.moved) == before
