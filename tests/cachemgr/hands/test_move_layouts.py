"""A repo that moved is the same repo, whatever either drive takes: for the Hub's library, and to the last byte."""

import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cachemgr.hands.errors import Trouble
from tests.cachemgr.conftest import HungDrive, skip_or_fail
from tests.cachemgr.hands.trips import (
    FILES,
    FOLDER,
    PROJECT,
    Trip,
    contents,
    everything,
    fill,
    litter,
    make_caches,
    names,
    said_by_library,
    stored_bytes,
    strained,
)
from tests.factories import make_cached_repo

COMMIT = "a" * 40


@pytest.fixture
def trip(tmp_path: Path, mount: Callable[..., Path]) -> Trip:
    """Between two filesystems: the target is a tmpfs."""
    trip = make_caches(tmp_path)
    mount(trip.target)
    return trip


@pytest.fixture
def bare_trip(tmp_path: Path, drive_without_links: HungDrive) -> Trip:
    """To a drive that takes neither symbolic nor hard links."""
    (tmp_path / "fast").mkdir()
    return Trip(tmp_path / "fast", drive_without_links.path)


def back(trip: Trip) -> Trip:
    return Trip(trip.target, trip.source, trip.folder, job="18")


# Links to links


def test_a_repo_arrives_as_it_was_and_leaves_nothing_behind(trip: Trip) -> None:
    before = everything(fill(trip.source))
    library = said_by_library(trip.source)
    assert trip.go() == {"removed": len([each for each in before.values() if each is not None]), "kept": []}
    assert everything(trip.moved) == before
    assert said_by_library(trip.target) == library
    assert (names(trip.source), litter(trip.target)) == ([], [])


def test_the_time_of_the_last_change_comes_along(trip: Trip) -> None:
    blob = next((fill(trip.source) / "blobs").iterdir())
    os.utime(blob, ns=(10**18, 10**18))
    trip.go()
    assert (trip.moved / "blobs" / blob.name).stat().st_mtime_ns == 10**18


def test_a_repo_comes_back_as_it_went(trip: Trip) -> None:
    before = everything(fill(trip.source))
    trip.go()
    back(trip).go()
    assert everything(trip.source / FOLDER) == before
    assert not trip.moved.exists()


def test_an_absolute_link_to_a_blob_of_its_own_becomes_a_relative_one(trip: Trip) -> None:
    repo = fill(trip.source)
    link = repo / "snapshots" / COMMIT / "a" / "b" / "c" / "deep.txt"
    blob = (link.parent / link.readlink()).resolve()
    link.unlink()
    link.symlink_to(blob)
    trip.go()
    moved = trip.moved / link.relative_to(repo)
    assert moved.readlink() == Path(f"../../../../../blobs/{blob.name}")
    assert moved.read_bytes() == b"deep"


def test_a_link_to_another_repos_file_becomes_a_file(trip: Trip) -> None:
    fill(trip.source)
    other = make_cached_repo(trip.source, "org/other", files={"shared.bin": b"from the other repo"})
    (blob,) = (other / "blobs").iterdir()
    link = trip.source / FOLDER / "snapshots" / COMMIT / "borrowed.bin"
    link.symlink_to(f"../../../{other.name}/blobs/{blob.name}")
    trip.go()
    moved = trip.moved / "snapshots" / COMMIT / "borrowed.bin"
    assert not moved.is_symlink() and moved.read_bytes() == b"from the other repo"
    assert blob.exists()


def test_a_file_with_two_names_is_written_once(trip: Trip) -> None:
    repo = make_cached_repo(trip.source, "org/m", files={"model.safetensors": b"w" * 100_000})
    (blob,) = (repo / "blobs").iterdir()
    os.link(blob, repo / "snapshots" / COMMIT / "hard.safetensors")
    assert trip.do("plan")["bytes"] == 100_040
    trip.go()
    assert stored_bytes(trip.moved) == 100_040
    assert (trip.moved / "snapshots" / COMMIT / "hard.safetensors").read_bytes() == b"w" * 100_000


def test_unfinished_downloads_and_what_they_lack_do_not_stop_a_move(trip: Trip) -> None:
    repo = fill(trip.source)
    (repo / "blobs" / f"{'e' * 64}.12345678.incomplete").write_bytes(b"half")
    os.utime(repo / "blobs" / f"{'e' * 64}.12345678.incomplete", (1, 1))
    (repo / "snapshots" / COMMIT / "shard-2.safetensors").symlink_to(f"../../blobs/{'e' * 64}")
    plan = trip.do("plan")
    assert plan["skipped"] == [f"blobs/{'e' * 64}.12345678.incomplete"]
    assert trip.go()["kept"] == []
    assert (trip.moved / "snapshots" / COMMIT / "shard-2.safetensors").readlink() == Path(f"../../blobs/{'e' * 64}")
    assert not list(trip.moved.glob("blobs/*.incomplete"))


def test_a_link_to_a_folder_of_the_repo_stays_one(trip: Trip) -> None:
    repo = fill(trip.source)
    (repo / "snapshots" / "latest").symlink_to(COMMIT)
    (repo / "snapshots" / COMMIT / "z").symlink_to("a/b")
    before = everything(repo)
    assert trip.go()["kept"] == []
    assert everything(trip.moved) == before


# The Hub's shared store


def share(cache: Path, repo: Path) -> list[Path]:
    """Its blobs become links into the cache's store; answers the files there."""
    (cache / "blobs").mkdir(exist_ok=True)
    (cache / "blobs" / ".huggingface-shared-blobs").write_text("1\n")
    stored = []
    for blob in (repo / "blobs").iterdir():
        name = hashlib.sha256(blob.name.encode()).hexdigest()
        store = cache / "blobs" / name[:2] / name
        store.parent.mkdir(exist_ok=True)
        blob.rename(store)
        blob.symlink_to(f"../../blobs/{name[:2]}/{name}")
        stored.append(store)
    return stored


def test_a_repo_of_the_shared_store_moves_with_its_bytes_and_the_store_keeps_its_own(trip: Trip) -> None:
    repo = fill(trip.source)
    read = contents(repo)
    stored = share(trip.source, repo)
    assert trip.go()["kept"] == []
    assert contents(trip.moved) == read
    assert not any(blob.is_symlink() for blob in (trip.moved / "blobs").iterdir())
    assert all(path.exists() for path in stored) and not repo.exists()


def test_bytes_that_are_shared_are_copied_also_to_a_drive_without_links(bare_trip: Trip) -> None:
    repo = fill(bare_trip.source)
    read = contents(repo)
    share(bare_trip.source, repo)
    bare_trip.go()
    assert contents(bare_trip.moved) == read


# A drive without links


def test_on_a_drive_without_links_each_name_is_a_file_and_nothing_lies_there_twice(bare_trip: Trip) -> None:
    files = {name: content for name, content in FILES.items() if not name.startswith("twin")}
    repo = make_cached_repo(bare_trip.source, "org/m", files=files)
    read, library = contents(repo), said_by_library(bare_trip.source)
    plan = bare_trip.do("plan")
    assert (plan["method"], plan["layout"]) == ("copy", "copies")
    bare_trip.go()
    assert contents(bare_trip.moved) == read
    assert said_by_library(bare_trip.target) == library
    assert stored_bytes(bare_trip.moved) == sum(map(len, files.values())) + 40 == plan["bytes"]
    assert not list((bare_trip.moved / "blobs").iterdir())


def test_names_that_share_a_blob_are_counted_as_often_as_they_are_written(bare_trip: Trip) -> None:
    fill(bare_trip.source)
    plan = bare_trip.do("plan")
    bare_trip.go()
    assert stored_bytes(bare_trip.moved) == plan["bytes"] == plan["size_bytes"]


def test_what_went_to_a_drive_without_links_comes_back_to_blobs_and_links(bare_trip: Trip) -> None:
    before = everything(fill(bare_trip.source))
    bare_trip.go()
    manifest = json.loads((bare_trip.target / ".homelab" / "manifests" / f"{FOLDER}.json").read_text())
    assert manifest[f"{COMMIT}/a/b/c/deep.txt"] == {
        "digest": hashlib.sha1(b"blob 4\0deep").hexdigest(),
        "size_bytes": 4,
    }
    back(bare_trip).go()
    assert everything(bare_trip.source / FOLDER) == before
    assert not (bare_trip.target / ".homelab" / "manifests" / f"{FOLDER}.json").exists()
    assert not (bare_trip.source / ".homelab" / "manifests" / f"{FOLDER}.json").exists()


def test_a_list_of_digests_does_not_outlive_a_job_that_is_given_up(bare_trip: Trip) -> None:
    fill(bare_trip.source)
    bare_trip.do("stage")
    lines = strained(bare_trip, "publish", "renameat:signal=SIGKILL:when=2")
    lists = bare_trip.target / ".homelab" / "manifests"
    assert not any("done" in line for line in lines) and names(lists) == [f"{FOLDER}.json"]
    bare_trip.do("abandon")
    assert names(lists) == []


def test_an_orphan_blob_stays_a_blob(bare_trip: Trip) -> None:
    repo = fill(bare_trip.source)
    orphan = hashlib.sha256(b"orphan").hexdigest()
    (repo / "blobs" / orphan).write_bytes(b"orphan")
    bare_trip.go()
    assert [path.name for path in (bare_trip.moved / "blobs").iterdir()] == [orphan]


def test_copies_of_unknown_digest_stay_files_and_are_known_from_then_on(trip: Trip) -> None:
    snapshot = trip.source / FOLDER / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_bytes(b"{}")
    trip.go()
    moved = trip.moved / "snapshots" / COMMIT / "config.json"
    assert moved.read_bytes() == b"{}" and not moved.is_symlink()
    manifest = json.loads((trip.target / ".homelab" / "manifests" / f"{FOLDER}.json").read_text())
    assert manifest == {f"{COMMIT}/config.json": {"digest": hashlib.sha256(b"{}").hexdigest(), "size_bytes": 2}}


# A drive that takes two names for one


@pytest.fixture
def one_case_trip(tmp_path: Path) -> Iterator[Trip]:
    trip = make_caches(tmp_path)
    command = [sys.executable, "-m", "tests.cachemgr.hands.one_case_drive", trip.target]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        if server.stdout.readline() != "mounted\n":
            skip_or_fail(f"FUSE is refused here: {server.stderr.read().strip()[-200:]}")
        try:
            yield trip
        finally:
            subprocess.run(["umount", "-l", trip.target], capture_output=True, check=False)
            server.wait(timeout=10)


def test_names_that_differ_in_case_do_not_replace_each_other(one_case_trip: Trip) -> None:
    make_cached_repo(one_case_trip.source, "org/m", files={"README": b"one", "readme": b"two"})
    before = everything(one_case_trip.source)
    for step in ("plan", "stage"):
        with pytest.raises(Trouble, match="differ in case") as refused:
            one_case_trip.do(step)
        assert refused.value.code == "names_collide"
        one_case_trip.do("abandon")
    assert everything(one_case_trip.source) == before and litter(one_case_trip.target) == []


def test_other_names_keep_their_case(one_case_trip: Trip) -> None:
    read = contents(make_cached_repo(one_case_trip.source, "org/m", files={"README.md": b"one", "Model.bin": b"two"}))
    one_case_trip.go()
    assert contents(one_case_trip.moved) == read


# What cannot be moved, or not all of it


@pytest.mark.parametrize("path", ["snapshots/" + COMMIT + "/passwd", "blobs/" + "c" * 40, "refs/odd", "odd"])
@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../../../../../etc/passwd"])
def test_a_link_out_of_the_cache_is_refused(tmp_path: Path, path: str, target: str) -> None:
    trip = make_caches(tmp_path)
    repo = fill(trip.source)
    (repo / path).symlink_to(target)
    before = everything(trip.source)
    for step in ("plan", "stage"):
        with pytest.raises(Trouble, match="lead out of") as refused:
            trip.do(step)
        assert (refused.value.code, refused.value.is_permanent) == ("unsafe_entry", True)
        trip.do("abandon")
    assert everything(trip.source) == before
    assert not trip.moved.exists() and litter(trip.target) == []


def test_what_is_no_file_stays_and_is_named(trip: Trip) -> None:
    repo = fill(trip.source)
    os.mkfifo(repo / "snapshots" / COMMIT / "pipe")
    os.mknod(repo / "socket", 0o600 | stat.S_IFSOCK)
    (repo / "snapshots" / COMMIT / "astray").symlink_to("../../../nowhere")
    plan = trip.do("plan")
    assert len(plan["problems"]) == 3
    assert trip.go()["kept"] == [f"snapshots/{COMMIT}/pipe", "socket"]


def test_names_that_are_no_text_move_too(trip: Trip) -> None:
    repo = fill(trip.source)
    snapshot = repo / "snapshots" / COMMIT
    (snapshot / "config.json").rename(snapshot / os.fsdecode(b"\xff\xfe.json"))
    (snapshot / "empty.txt").rename(snapshot / ("n" * 255))
    before = everything(repo)
    trip.do("stage")
    trip.do("publish")
    assert everything(trip.moved) == before
    assert trip.do("leave")["kept"] == []


def test_a_folder_that_is_not_there_is_not_moved(trip: Trip) -> None:
    with pytest.raises(Trouble, match="has no models--org--m"):
        trip.do("plan")


@pytest.mark.parametrize(
    "wrong", [{"folder": "../x"}, {"folder": "blobs"}, {"job": "../17"}, {"job": ""}, {"step": "fly"}]
)
def test_an_order_that_makes_no_sense_is_refused(trip: Trip, wrong: dict[str, str]) -> None:
    fill(trip.source)
    with pytest.raises(Trouble) as refused:
        trip.do(**{"step": "plan"} | wrong)
    assert refused.value.code == "bad_order"


def test_a_cache_is_no_target_for_itself(trip: Trip) -> None:
    fill(trip.source)
    with pytest.raises(Trouble, match="already"):
        Trip(trip.source, trip.source).do("plan")
