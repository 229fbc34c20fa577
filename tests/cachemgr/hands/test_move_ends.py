"""How a move ends: the source's files go after the commit, or the job's copy goes instead of it."""

import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from cachemgr.hands.errors import Trouble
from tests.cachemgr.hands.trips import (
    FILES,
    FOLDER,
    Trip,
    child,
    contents,
    everything,
    litter,
    names,
    remount,
    strained,
    weights,
)
from tests.factories import make_cached_repo

COMMIT = "a" * 40
NEWER = "c" * 40


# Leaving


def published(trip: Trip) -> Trip:
    trip.do("stage")
    trip.do("publish")
    return trip


def test_leaving_can_be_done_again_and_again(trip: Trip) -> None:
    published(trip).do("leave")
    assert trip.do("leave") == {"removed": 0, "kept": []}


def test_what_is_new_at_the_source_stays_and_is_named(trip: Trip) -> None:
    published(trip)
    make_cached_repo(trip.source, "org/m", files={"new.txt": b"new"}, refs={"main": "c" * 40}, commit="c" * 40)
    kept = trip.do("leave")["kept"]
    assert "refs/main" in kept and f"snapshots/{'c' * 40}/new.txt" in kept and len(kept) == 3
    assert (trip.source / FOLDER / "snapshots" / ("c" * 40) / "new.txt").read_bytes() == b"new"


def add_newer(trip: Trip) -> Path:
    """As a download of any program does: a commit whose weights lie there already under another name, and stay."""
    snapshot = trip.source / FOLDER / "snapshots" / NEWER
    snapshot.mkdir()
    (snapshot / "new.txt").write_bytes(b"new")
    (snapshot / "renamed.safetensors").symlink_to(f"../../blobs/{weights(trip.source / FOLDER).name}")
    return snapshot


def test_what_a_newer_commit_leads_to_stays_with_it(trip: Trip) -> None:
    published(trip)
    blob, snapshot = weights(trip.source / FOLDER).name, add_newer(trip)
    kept = trip.do("leave")["kept"]
    assert kept == [f"blobs/{blob}", f"snapshots/{NEWER}/new.txt", f"snapshots/{NEWER}/renamed.safetensors"]
    assert (snapshot / "renamed.safetensors").read_bytes() == FILES["model.safetensors"]


def test_what_leads_to_a_name_that_leads_to_a_blob_keeps_them_all(trip: Trip) -> None:
    published(trip)
    snapshot = trip.source / FOLDER / "snapshots" / NEWER
    snapshot.mkdir()
    (snapshot / "w").symlink_to(f"../{COMMIT}/model.safetensors")
    trip.do("leave")
    assert (snapshot / "w").read_bytes() == FILES["model.safetensors"]


def test_a_commit_that_comes_while_the_source_is_removed_keeps_what_it_leads_to(trip: Trip) -> None:
    """The child is stopped where it removes its first name, and goes on when the commit is there."""
    published(trip)
    stop = ["-e", "trace=unlinkat", "-e", "inject=unlinkat:signal=SIGSTOP:when=1"]
    with child("move", trip.order("leave"), "strace", "-qq", "-f", "-o", "/dev/null", *stop) as process:
        while (trip.source / FOLDER / "refs" / "main").exists() and (trip.source / FOLDER / "refs/refs/pr/1").exists():
            assert process.poll() is None
        snapshot = add_newer(trip)
        (worker,) = psutil.Process(process.pid).children()
        worker.send_signal(signal.SIGCONT)
        assert process.wait() == 0
    assert (snapshot / "renamed.safetensors").read_bytes() == FILES["model.safetensors"]


def test_a_name_that_the_target_lost_stays_at_the_source_with_its_bytes(trip: Trip) -> None:
    published(trip)
    (trip.moved / "snapshots" / COMMIT / "model.safetensors").unlink()
    trip.do("leave")
    name = trip.source / FOLDER / "snapshots" / COMMIT / "model.safetensors"
    assert name.read_bytes() == FILES["model.safetensors"]


def test_without_a_record_nothing_is_removed(trip: Trip) -> None:
    before = everything(trip.source)
    done = trip.do("leave")
    assert done["removed"] == 0 and len(done["kept"]) == len(before) - len(
        [1 for each in before.values() if each is None]
    )
    assert everything(trip.source) == before


def test_nothing_is_removed_that_is_not_at_the_target(trip: Trip) -> None:
    published(trip)
    lost = weights(trip.moved)
    lost.unlink()
    assert trip.do("leave")["kept"] == [f"blobs/{lost.name}"]


def test_nothing_is_removed_while_the_target_has_no_such_folder(trip: Trip) -> None:
    published(trip)
    trip.moved.rename(trip.target / "elsewhere")
    before = everything(trip.source)
    with pytest.raises(Trouble) as refused:
        trip.do("leave")
    assert (refused.value.code, refused.value.is_permanent) == ("target_incomplete", False)
    assert everything(trip.source) == before


def test_a_blob_that_another_repo_leads_to_stays(trip: Trip) -> None:
    other = make_cached_repo(trip.source, "org/other", files={})
    (other / "snapshots" / COMMIT).mkdir(parents=True)
    blob = weights(trip.source / FOLDER)
    (other / "snapshots" / COMMIT / "w").symlink_to(f"../../../{FOLDER}/blobs/{blob.name}")
    assert published(trip).do("leave")["kept"] == [f"blobs/{blob.name}"]
    assert (other / "snapshots" / COMMIT / "w").read_bytes() == FILES["model.safetensors"]


def test_a_blob_that_a_repo_in_the_trash_leads_to_stays_too(trip: Trip) -> None:
    other = make_cached_repo(trip.source, "org/other", files={})
    (other / "snapshots" / COMMIT).mkdir(parents=True)
    blob = weights(trip.source / FOLDER)
    (other / "snapshots" / COMMIT / "w").symlink_to(f"../../../{FOLDER}/blobs/{blob.name}")
    trash = trip.source / ".homelab" / "trash" / "1"
    trash.mkdir(parents=True)
    other.rename(trash / other.name)
    assert published(trip).do("leave")["kept"] == [f"blobs/{blob.name}"]


def test_a_source_that_takes_no_writes_keeps_all_of_it(trip: Trip, mount: Callable[..., Path]) -> None:
    published(trip)
    mount(trip.source, bind=trip.source)
    remount(trip.source, "bind", "ro")
    before = everything(trip.source)
    done = trip.do("leave")
    assert (done["removed"], len(done["kept"])) == (0, len([each for each in before.values() if each is not None]))
    assert everything(trip.source) == before
    assert contents(trip.moved) == contents(trip.source / FOLDER) and litter(trip.target) == []


def test_a_download_that_runs_in_the_source_keeps_its_file(trip: Trip) -> None:
    partial = trip.source / FOLDER / "blobs" / f"{'e' * 64}.incomplete"
    partial.write_bytes(b"half")
    assert published(trip).do("leave")["kept"] == [f"blobs/{partial.name}"]


# Giving up


def test_giving_up_leaves_no_trace_and_can_be_done_again(trip: Trip) -> None:
    before = everything(trip.source)
    trip.do("stage")
    assert trip.do("abandon") == {"removed": True}
    assert trip.do("abandon") == {"removed": False}
    assert everything(trip.source) == before
    assert litter(trip.target) == [] and names(trip.target) == [".homelab"]


def test_giving_up_takes_a_published_copy_back_beside_a_whole_source(trip: Trip) -> None:
    before = everything(trip.source)
    published(trip).do("abandon")
    assert everything(trip.source) == before
    assert names(trip.target) == [".homelab"] and litter(trip.target) == []


@pytest.mark.parametrize("loss", ["a file", "the repo", "the cache", "nobody knows"])
def test_giving_up_never_removes_what_may_be_the_only_whole_copy(trip: Trip, loss: str) -> None:
    published(trip)
    before = everything(trip.moved)
    places = {}
    if loss == "a file":
        next((trip.source / FOLDER / "blobs").iterdir()).unlink()
    elif loss == "the repo":
        (trip.source / FOLDER).rename(trip.source.parent / "gone")
    elif loss == "the cache":
        trip.source.rename(trip.source.parent / "gone")
    else:
        places = {"source": None}
    trip.do("abandon", **places)
    assert everything(trip.moved) == before


# Drives on which each name takes its time

SLOW = "unlinkat:delay_enter=200000"


def test_a_source_that_is_removed_slowly_is_told_of_as_it_goes(trip: Trip) -> None:
    lines = strained(published(trip), "leave", SLOW)
    assert "done" in lines[-1] and not (trip.source / FOLDER).exists()
    figures = [line for line in lines if "bytes" in line]
    told = [line["bytes"] for line in figures]
    assert len(set(told)) >= 3 and told == sorted(told) and told[-1] <= figures[-1]["total"]


def test_a_copy_that_is_thrown_away_slowly_is_told_of_as_it_goes(trip: Trip) -> None:
    trip.do("stage")
    lines = strained(trip, "abandon", SLOW)
    assert len(lines) >= 4 and all(line == {"alive": True} for line in lines[:-1])
    assert lines[-1] == {"done": {"removed": True}} and litter(trip.target) == []
