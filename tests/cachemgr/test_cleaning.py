"""Cleaning up: each class on real drives, what it frees to the byte, and all that it must not touch."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from cachemgr import chores, cleaning, locks, monitor, trash
from cachemgr.cleaning import plan_clean
from homelab.errors import InvalidValue
from tests.cachemgr.cleaning_up import FOLDER, NEW, OLD, OLDER, clean, find, names, three_revisions
from tests.cachemgr.trees import as_the_hub_sees_it, picture, share_blob
from tests.factories import age_tree, loadable_files, make_cached_repo

pytestmark = pytest.mark.usefixtures("nothing_is_young")
STORED = "cd" + "7" * 62


# Partial downloads


def test_partial_downloads_of_dead_jobs_go_and_nothing_else(disk) -> None:
    path = Path(disk.path)
    repo = make_cached_repo(path, "org/m", files=loadable_files())
    (repo / "blobs" / "1234.abcdef01.incomplete").write_bytes(b"x" * 500_000)
    age_tree(repo)
    seen = as_the_hub_sees_it(path)
    assert find(disk, "partials").weight.freed_bytes >= 500_000
    assert clean(disk, "partials") == {f"{FOLDER}/blobs/1234.abcdef01.incomplete"}
    assert as_the_hub_sees_it(path) == seen


def test_a_partial_download_that_is_young_wanted_or_locked_stays(disk, wanted, monkeypatch) -> None:
    repo = make_cached_repo(Path(disk.path), "org/m", files=loadable_files())
    partial = repo / "blobs" / "1234.abcdef01.incomplete"
    partial.write_bytes(b"x")
    assert names(disk, "partials") == []  # written within the last minutes
    age_tree(repo)
    assert names(disk, "partials") == [f"{FOLDER}/blobs/{partial.name}"]
    wanted.busy_folders = frozenset({FOLDER})
    assert names(disk, "partials") == []
    wanted.busy_folders = frozenset()
    lock = Path(disk.path) / ".locks" / FOLDER / "1234.lock"
    lock.parent.mkdir(parents=True)
    with open(lock, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert names(disk, "partials") == []
    monkeypatch.setattr(cleaning, "MIN_AGE_SECONDS", 3600.0)
    assert names(disk, "partials") == []  # its time of change is not an hour old


# Orphans


def test_orphan_blobs_go_and_nothing_else(disk) -> None:
    path = Path(disk.path)
    repo = make_cached_repo(path, "org/m", files=loadable_files())
    (repo / "blobs" / ("0" * 64)).write_bytes(b"x" * 400_000)
    age_tree(repo)
    seen = as_the_hub_sees_it(path)
    assert find(disk, "orphans").count == 1
    assert clean(disk, "orphans") == {f"{FOLDER}/blobs/{'0' * 64}"}
    assert as_the_hub_sees_it(path) == seen


def test_a_blob_that_another_repo_leads_to_is_no_orphan_even_from_the_trash(disk) -> None:
    path = Path(disk.path)
    repo = make_cached_repo(path, "org/m", files=loadable_files())
    lent = repo / "blobs" / ("0" * 64)
    lent.write_bytes(b"x" * 1000)
    other = make_cached_repo(path, "org/other", files={"config.json": b"{}"})
    (other / "snapshots" / NEW / "model.safetensors").symlink_to(f"../../../{FOLDER}/blobs/{lent.name}")
    age_tree(path)
    assert names(disk, "orphans") == []
    (weight,) = chores.weigh(disk, ["models--org--other"])
    entry = trash.put(disk, folder="models--org--other", title="other", remembered={}, weight=weight)
    assert names(disk, "orphans") == []
    trash.empty(trash.weigh_entries([entry]))
    assert names(disk, "orphans") == [f"{FOLDER}/blobs/{lent.name}"]


def test_the_shared_store_loses_only_what_no_repo_leads_to(disk) -> None:
    path = Path(disk.path)
    repo = make_cached_repo(path, "org/m", files={"config.json": b"{}"})
    used = share_blob(path, repo, name="model.safetensors", stored=STORED, content=b"s" * 1000)
    left = used.with_name("cd" + "8" * 62)
    left.write_bytes(b"x" * 300_000)
    left.with_name(f"{left.name}.refs").write_text(f"{FOLDER}/blobs/gone\n")
    age_tree(path)
    seen = as_the_hub_sees_it(path)
    assert names(disk, "orphans") == [f"blobs/cd/{left.name}"]
    assert clean(disk, "orphans") == {f"blobs/cd/{left.name}", f"blobs/cd/{left.name}.refs"}
    assert as_the_hub_sees_it(path) == seen


def test_a_store_without_the_hubs_mark_is_somebodys_folder(disk) -> None:
    folder = Path(disk.path) / "blobs" / "cd"
    folder.mkdir(parents=True)
    (folder / STORED).write_bytes(b"mine")
    age_tree(Path(disk.path))
    assert names(disk, "orphans") == []


def test_where_one_repo_cannot_be_read_nobody_tells_what_is_unused(primary, hung_drive, mount) -> None:
    """A folder of it is a drive that died."""
    path = Path(primary.path)
    repo = make_cached_repo(path, "org/m", files=loadable_files())
    (repo / "blobs" / ("0" * 64)).write_bytes(b"x")
    other = make_cached_repo(path, "org/other", files={"config.json": b"{}"})
    mount(other / "away", bind=hung_drive.path)
    age_tree(repo)
    hung_drive.server.kill()
    hung_drive.server.wait()
    (findings,) = plan_clean(["orphans", "superseded"], caches=[primary]).caches
    assert "models--org--other cannot be read" in findings.problem
    assert [found.count for found in findings.classes] == [0, 0]


# Locks and staging


def test_locks_that_nobody_holds_go(disk) -> None:
    path = Path(disk.path)
    make_cached_repo(path, "org/m", files=loadable_files())
    locks_of = path / ".locks" / FOLDER
    locks_of.mkdir(parents=True)
    (locks_of / "free.lock").touch()
    with open(locks_of / "held.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert clean(disk, "locks") == {f".locks/{FOLDER}/free.lock"}
    assert names(disk, "locks") == [f".locks/{FOLDER}/held.lock"]


def test_staging_of_no_open_job_goes(disk, wanted) -> None:
    staging = Path(disk.path) / ".homelab" / "staging"
    for job in ("17", "18", "19"):
        make_cached_repo(staging / job, "org/m", files=loadable_files(weights=100_000))
    (Path(disk.path) / ".homelab-cache.json.1234").touch()
    wanted.open_jobs = frozenset({"18"})
    held = os.open(staging / "19", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    assert names(disk, "staging") == [".homelab-cache.json.1234", ".homelab/staging/17"]
    clean(disk, "staging")
    os.close(held)
    assert sorted(each.name for each in staging.iterdir()) == ["18", "19"]


# All of it


def test_a_file_with_names_in_two_classes_counts_once_in_the_sum(disk) -> None:
    path = Path(disk.path)
    repo = make_cached_repo(path, "org/m", files=loadable_files())
    (repo / "blobs" / ("0" * 64)).write_bytes(b"x" * 300_000)
    os.link(repo / "blobs" / ("0" * 64), repo / "blobs" / "1234.abcdef01.incomplete")
    age_tree(repo)
    plan = plan_clean(caches=[disk])
    assert [found.weight.freed_bytes for found in plan.caches[0].classes] == [0, 0, 0, 0, 0]
    assert plan.freed_bytes >= 300_000
    assert clean(disk, "partials", "orphans") == {
        f"{FOLDER}/blobs/{'0' * 64}",
        f"{FOLDER}/blobs/1234.abcdef01.incomplete",
    }


def test_a_preview_changes_nothing(disk) -> None:
    path = Path(disk.path)
    three_revisions(path, main=NEW)
    age_tree(path)
    before = picture(path)
    assert plan_clean(caches=[disk]).count == 2
    assert picture(path) == before


def test_a_repo_that_is_taken_into_use_after_the_preview_is_left_alone(disk, wanted) -> None:
    path = Path(disk.path)
    repo = three_revisions(path, main=NEW)
    (repo / "blobs" / ("0" * 64)).write_bytes(b"x")
    age_tree(repo)
    before, plan = picture(path), plan_clean(caches=[disk])
    assert plan.count == 3
    with locks.shared(path / FOLDER):
        done = plan.execute()
    assert done.count == 0 and done.caches[0].busy == (FOLDER,) and picture(path) == before
    wanted.busy_folders = frozenset({FOLDER})
    assert plan.execute().count == 0 and picture(path) == before


def test_what_was_wanted_since_the_preview_stays(disk) -> None:
    """A revision got a branch, and an orphan a name: the child looks again."""
    path = Path(disk.path)
    repo = three_revisions(path, main=NEW)
    orphan = repo / "blobs" / ("0" * 64)
    orphan.write_bytes(b"x")
    age_tree(repo)
    plan = plan_clean(["orphans", "superseded"], caches=[disk])
    (repo / "refs" / "old").write_text(OLD)
    (repo / "snapshots" / NEW / "late.safetensors").symlink_to(f"../../blobs/{orphan.name}")
    done = plan.execute()
    assert [item.name for found in done.caches[0].classes for item in found.items] == [f"{FOLDER} at {OLDER[:12]}"]
    assert orphan.exists() and as_the_hub_sees_it(path)["org/m"].keys() == {NEW, OLD}


def test_links_out_of_the_cache_are_never_followed(disk, tmp_path) -> None:
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "file").write_bytes(b"precious")
    path = Path(disk.path)
    repo = make_cached_repo(path, "org/m", files=loadable_files())
    (repo / "blobs" / "link").symlink_to(canary / "file")
    (repo / "snapshots" / NEW / "out").symlink_to(canary)
    (path / "models--org--linked").symlink_to(canary)
    (path / ".homelab").mkdir(exist_ok=True)
    (path / ".homelab" / "staging").symlink_to(canary)
    plan_clean(caches=[disk]).execute()
    assert picture(canary) == {"file": b"precious"}
    assert not (repo / "blobs" / "link").is_symlink()


def test_a_cache_that_is_away_or_takes_no_writes_is_skipped_with_the_reason(disk) -> None:
    path = Path(disk.path)
    three_revisions(path, main=NEW)
    subprocess.run(["mount", "-o", "remount,ro", str(path)], check=True)
    (findings,) = plan_clean(caches=[disk]).caches
    assert "takes no writes" in findings.skipped and not findings.classes
    subprocess.run(["umount", "-l", str(path)], check=True)
    plan, under = plan_clean(caches=[disk]), picture(path)
    assert "than the one that was adopted" in plan.caches[0].skipped
    assert plan.execute().count == 0 and picture(path) == under


def test_an_unknown_class_is_refused(primary) -> None:
    with pytest.raises(InvalidValue, match="partials, orphans"):
        plan_clean(["everything"])


def test_the_doors_show_first_and_clean_what_is_named(api, disk, tmp_path) -> None:
    three_revisions(Path(disk.path), main=NEW)
    monitor.measure_caches()
    shutil.rmtree(tmp_path / "secondary")
    shown = api.get("/api/cache/clean").json()
    assert shown["count"] == 2 and shown["freed_bytes"] >= 300_000
    assert [cache["skipped"] != "" for cache in shown["caches"]] == [False, True]
    assert api.post("/api/cache/clean", {}, format="json").status_code == 400
    assert api.post("/api/cache/clean", {"classes": []}, format="json").status_code == 400
    assert api.post("/api/cache/clean", {"classes": ["all"]}, format="json").status_code == 400
    wish = {"classes": ["superseded"]}
    assert api.post("/api/cache/clean", wish | {"dry_run": True}, format="json").json()["count"] == 2
    done = api.post("/api/cache/clean", wish, format="json").json()
    assert (done["count"], done["freed_bytes"]) == (2, shown["freed_bytes"])
    assert api.get("/api/cache/clean").json()["count"] == 0
