"""Verifying names each bad file, and reads nothing twice."""

import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cachemgr.errands import Errand, run_errand
from cachemgr.errors import ErrandFailed
from cachemgr.hands import verify
from cachemgr.hands.errors import Trouble
from cachemgr.marker import write_marker
from tests.cachemgr.conftest import HungDrive
from tests.cachemgr.hands.trips import (
    FILES,
    FOLDER,
    LONGER_BYTES,
    Trip,
    fill,
    flip,
    make_longer,
    strained_task,
    weights,
)
from tests.factories import make_cached_repo

COMMIT = "a" * 40


def check(cache: Path, *, commit: str | None = COMMIT, **more: Any) -> dict[str, Any]:
    place = {"path": str(cache), "uuid": ""}
    return verify.run({"root": place, "folder": FOLDER, "commit": commit, **more}, say=lambda **line: None)


def bad(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["name"], each["reason"]) for each in found["bad"]]


def test_a_sound_model_is_read_to_the_last_byte_and_each_file_once(tmp_path: Path) -> None:
    repo = fill(tmp_path)
    different = sum(map(len, {content: content for content in FILES.values()}))
    assert check(tmp_path) == {"files": len(FILES), "bytes": different, "bad": [], "unknown": [], "next": ""}
    both = check(tmp_path, commit=None)
    assert (both["files"], both["bad"]) == (2 * len(FILES), [])
    assert both["bytes"] == sum(blob.stat().st_size for blob in (repo / "blobs").iterdir())


def test_a_flipped_bit_names_the_file_and_its_digest(tmp_path: Path) -> None:
    blob = weights(fill(tmp_path))
    flip(blob)
    assert check(tmp_path)["bad"] == [
        {
            "name": "model.safetensors",
            "commit": COMMIT,
            "digest": blob.name,
            "size_bytes": None,
            "reason": "hash_mismatch",
        }
    ]


def test_each_name_of_a_bad_file_is_named(tmp_path: Path) -> None:
    repo = fill(tmp_path)
    flip((repo / "snapshots" / COMMIT / "a/b/c/deep.txt").resolve(), at=0)
    assert bad(check(tmp_path)) == [("a/b/c/deep.txt", "hash_mismatch"), ("twin of deep.txt", "hash_mismatch")]


def test_a_blob_that_is_gone_is_missing_under_the_digest_that_its_link_says(tmp_path: Path) -> None:
    blob = weights(fill(tmp_path))
    blob.unlink()
    (told,) = check(tmp_path)["bad"]
    assert (told["name"], told["digest"], told["reason"]) == ("model.safetensors", blob.name, "missing")


def test_what_the_hub_promises_is_compared_with_names_sizes_and_bytes(tmp_path: Path) -> None:
    make_cached_repo(tmp_path, "org/m", files={"config.json": b"{}", "short.txt": b"12", "other.txt": b"123"})
    snapshot = tmp_path / FOLDER / "snapshots" / COMMIT
    for path in list(snapshot.iterdir()):  # as on a drive without links
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    digests = {
        "config.json": [hashlib.sha1(b"blob 2\0{}").hexdigest(), 2],
        "short.txt": [hashlib.sha256(b"1234").hexdigest(), 4],
        "other.txt": [hashlib.sha256(b"124").hexdigest(), 3],
        "absent.txt": ["e" * 64, 7],
    }
    found = check(tmp_path, digests=digests)
    assert {each["name"]: (each["digest"], each["size_bytes"]) for each in found["bad"]}["absent.txt"] == ("e" * 64, 7)
    assert bad(found) == [
        ("absent.txt", "missing"),
        ("other.txt", "hash_mismatch"),
        ("short.txt", "wrong_size"),
    ]


def test_copies_are_known_after_a_move_and_unknown_without_a_list(
    tmp_path: Path, drive_without_links: HungDrive
) -> None:
    (tmp_path / "fast").mkdir()
    trip = Trip(tmp_path / "fast", drive_without_links.path)
    fill(trip.source)
    trip.go()
    assert check(trip.target)["unknown"] == [] == check(trip.target)["bad"]
    flip(trip.moved / "snapshots" / COMMIT / "config.json", at=0)
    assert bad(check(trip.target)) == [("config.json", "hash_mismatch")]
    os.truncate(trip.moved / "snapshots" / COMMIT / "config.json", 1)
    assert bad(check(trip.target)) == [("config.json", "wrong_size")]
    (trip.target / ".homelab" / "manifests" / f"{FOLDER}.json").write_text("[nonsense")
    found = check(trip.target)
    assert (found["bad"], len(found["unknown"])) == ([], len(FILES))


def test_a_file_that_cannot_be_read_is_unreadable_and_the_others_are_checked(tmp_path: Path) -> None:
    blob = weights(fill(tmp_path))
    order = {"root": {"path": str(tmp_path), "uuid": ""}, "folder": FOLDER, "commit": COMMIT}
    *_, last = strained_task("verify", order, "readv:error=EIO", path=blob)
    assert last["done"]["files"] == len(FILES)
    assert bad(last["done"]) == [("model.safetensors", "unreadable")]


def test_a_drive_that_goes_away_is_no_bad_model(tmp_path: Path, mount: Callable[..., Path]) -> None:
    cache = mount(tmp_path / "cache")
    write_marker(str(cache), uuid="mine")
    make_longer(fill(cache))
    place = {"path": str(cache), "uuid": "mine"}
    order = {"task": "verify", "root": place, "folder": FOLDER, "commit": COMMIT, "rate_limit": 2 * LONGER_BYTES}
    with pytest.raises(ErrandFailed) as failed, run_errand(Errand("cachemgr.hands", order)) as lines:
        for line in lines:
            if "bytes" in line:
                subprocess.run(["umount", "-l", cache], check=False, capture_output=True)
    assert (failed.value.code, failed.value.is_permanent) == ("cache_unavailable", False)


def test_a_budget_is_kept_and_the_next_time_goes_on_from_there(tmp_path: Path) -> None:
    fill(tmp_path)
    seen, after = [], ""
    while True:
        found = check(tmp_path, after=after, budget_bytes=1)
        seen.append(found["files"])
        after = found["next"]
        if not after:
            break
    assert sum(seen) == len(FILES) and len(seen) > 2


def test_a_name_that_is_no_text_is_told_as_one_and_gone_on_from(tmp_path: Path) -> None:
    snapshot = fill(tmp_path) / "snapshots" / COMMIT
    names = ["B\udcff.txt", "B\udcfe.txt"]
    for name in names:
        (snapshot / name).write_bytes(b"odd")
    seen, after = [], ""
    while True:
        found = check(tmp_path, after=after, budget_bytes=1)
        seen += found["unknown"]
        after = found["next"]
        assert after.isprintable() and after.isascii()
        if not after:
            break
    assert seen == ["B\\udcfe.txt", "B\\udcff.txt"]


def test_a_repo_or_a_commit_that_is_not_there_is_no_sound_one(tmp_path: Path) -> None:
    with pytest.raises(Trouble, match="has no models--org--m"):
        check(tmp_path)
    fill(tmp_path)
    with pytest.raises(Trouble, match="has no file of " + "e" * 40):
        check(tmp_path, commit="e" * 40)
