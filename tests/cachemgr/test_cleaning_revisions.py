"""Cleaning up revisions that no branch, tag or model uses, and what they share with others."""

import shutil
from pathlib import Path

import pytest

from cachemgr.hands import clean as in_child
from tests.cachemgr.cleaning_up import FOLDER, NEW, OLD, OLDER, clean, names, three_revisions
from tests.cachemgr.killing import crash_points, killed_at
from tests.cachemgr.trees import as_the_hub_sees_it
from tests.factories import make_cached_repo

pytestmark = pytest.mark.usefixtures("nothing_is_young")


def test_revisions_that_nobody_uses_go_and_keep_what_they_share(disk) -> None:
    path = Path(disk.path)
    repo = three_revisions(path, main=NEW)
    (repo / ".no_exist" / OLD).mkdir(parents=True)
    (repo / ".no_exist" / OLD / "adapter.json").touch()
    kept = {name: revisions[NEW] for name, revisions in as_the_hub_sees_it(path).items()}
    assert names(disk, "superseded") == [f"{FOLDER} at {OLD[:12]}", f"{FOLDER} at {OLDER[:12]}"]
    gone = clean(disk, "superseded")
    weights = {name for name in gone if "/blobs/" in name}
    assert len(weights) == 2 and all(len(Path(name).name) == 64 for name in weights)
    assert as_the_hub_sees_it(path) == {"org/m": {NEW: kept["org/m"]}}
    assert not (repo / ".no_exist" / OLD).exists() and list((path / ".homelab" / "staging").iterdir()) == []


def test_a_revision_that_a_branch_or_a_model_uses_stays(disk, wanted) -> None:
    three_revisions(Path(disk.path), main=NEW)
    wanted.commits[FOLDER] = frozenset({OLDER})
    assert names(disk, "superseded") == [f"{FOLDER} at {OLD[:12]}"]
    make_cached_repo(Path(disk.path), "org/m", files={}, commit=OLD, refs={"pr/1": OLD})
    assert names(disk, "superseded") == []


def test_a_model_that_is_tied_to_no_commit_keeps_them_all(disk, wanted) -> None:
    three_revisions(Path(disk.path), main=NEW)
    wanted.commits[FOLDER] = None
    assert names(disk, "superseded") == []


def test_where_nothing_says_which_is_wanted_the_youngest_stays(disk) -> None:
    three_revisions(Path(disk.path))
    assert names(disk, "superseded") == [f"{FOLDER} at {OLD[:12]}", f"{FOLDER} at {OLDER[:12]}"]
    clean(disk, "superseded")
    assert names(disk, "superseded") == []
    assert as_the_hub_sees_it(Path(disk.path))["org/m"].keys() == {NEW}


def test_copies_of_an_old_revision_go_too_where_a_drive_takes_no_links(disk) -> None:
    repo = Path(disk.path) / FOLDER
    for commit in (OLD, NEW):
        (repo / "snapshots" / commit).mkdir(parents=True)
        (repo / "snapshots" / commit / "model.safetensors").write_bytes(b"w" * 100_000)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(NEW)
    (repo / "blobs").mkdir()
    assert clean(disk, "superseded") == {
        f"{FOLDER}/snapshots/{OLD}",
        f"{FOLDER}/snapshots/{OLD}/model.safetensors",
    }


def test_a_clean_up_that_is_killed_at_any_call_leaves_whole_revisions_and_is_finished_by_the_next(primary) -> None:
    path = Path(primary.path)
    order: dict[str, object] = {"task": "clean", "step": "remove", "classes": ["superseded"], "folders": [FOLDER]}
    root = {"path": primary.path, "uuid": primary.uuid}
    order |= {"commits": {}, "busy_folders": [], "open_jobs": [], "min_age_seconds": 0}

    def run(call: str, number: int) -> bool:
        shutil.rmtree(path / FOLDER, ignore_errors=True)
        three_revisions(path, main=NEW)
        whole = as_the_hub_sees_it(path)["org/m"]
        was_killed = killed_at(primary, call, number, **order)
        left = as_the_hub_sees_it(path)["org/m"]
        assert NEW in left and all(whole[commit] == left[commit] for commit in left)
        in_child.run({**order, "root": root, "classes": ["orphans", "superseded", "staging"]}, say=lambda **_: None)
        assert as_the_hub_sees_it(path)["org/m"] == {NEW: whole[NEW]}
        assert (
            list((path / ".homelab" / "staging").iterdir()) == []
            and len(list((path / FOLDER / "blobs").iterdir())) == 3
        )
        return was_killed

    assert crash_points(run) >= 8
