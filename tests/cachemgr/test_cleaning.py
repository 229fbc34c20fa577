"""Cleaning up: each class on real drives, what it frees to the byte, and all that it must not touch."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cachemgr import chores, cleaning, locks, monitor, trash
from cachemgr.cleaning import ClassFindings, plan_clean
from cachemgr.hands import clean as in_child
from cachemgr.models import Cache
from cachemgr.wanted import Wanted, wanted_asked
from homelab.errors import InvalidValue
from registry import room
from tests.cachemgr.killing import crash_points, killed_at
from tests.cachemgr.trees import as_the_hub_sees_it, picture, share_blob, used_bytes
from tests.factories import age_tree, loadable_files, make_cached_repo

FOLDER = "models--org--m"
NEW, OLD, OLDER = "a" * 40, "b" * 40, "c" * 40
STORED = "cd" + "7" * 62


@pytest.fixture
def primary(caches, monkeypatch) -> Cache:
    """The adopted primary cache. What is a minute old by its content's time may go: a test cannot age a folder's own
    time of change."""
    monitor.measure_cache(caches.primary)
    caches.primary.refresh_from_db()
    monkeypatch.setattr(cleaning, "MIN_AGE_SECONDS", 0.0)
    return caches.primary


@dataclass
class Wish:
    """What those above want, in place of the registry."""

    commits: dict[str, frozenset[str] | None] = field(default_factory=dict)
    busy_folders: frozenset[str] = frozenset()
    open_jobs: frozenset[str] = frozenset()

    def tell(self, **_: object) -> Wanted:
        return Wanted(self.commits, self.busy_folders, self.open_jobs)


@pytest.fixture
def wanted() -> Iterator[Wish]:
    wish = Wish()
    wanted_asked.disconnect(room.tell_wanted)
    wanted_asked.connect(wish.tell)
    yield wish
    wanted_asked.disconnect(wish.tell)
    wanted_asked.connect(room.tell_wanted)


def find(cache: Cache, name: str) -> ClassFindings:
    (findings,) = plan_clean([name], caches=[cache]).caches
    assert not findings.skipped
    (found,) = findings.classes
    return found


def names(cache: Cache, name: str) -> list[str]:
    return sorted(item.name for item in find(cache, name).items)


def clean(cache: Cache, *classes: str) -> set[str]:
    """Executes it, compares what it says with what the disk has, and answers the names that went."""
    path = Path(cache.path)
    (path / ".homelab" / "staging").mkdir(parents=True, exist_ok=True)
    plan = plan_clean(classes, caches=[cache])
    before, used = picture(path), used_bytes(path)
    done = plan.execute()
    assert used - used_bytes(path) == plan.freed_bytes == done.freed_bytes
    assert done.count == plan.count
    after = picture(path)
    assert all(after[name] == content for name, content in before.items() if name in after)
    return before.keys() - after.keys()


@pytest.fixture
def disk(primary, mount) -> Cache:
    """The primary cache on a filesystem of its own: nobody else changes its free bytes."""
    mount(Path(primary.path), size="16m")
    Cache.objects.filter(pk=primary.pk).update(uuid="")
    monitor.measure_cache(primary)
    primary.refresh_from_db()
    return primary


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


# Superseded revisions


def three_revisions(path: Path, **refs: str) -> Path:
    shared = {"config.json": b"{}", "tokenizer.json": b"same in all"}
    for number, commit in enumerate((OLDER, OLD, NEW)):
        files = shared | {"model.safetensors": bytes([number]) * (100_000 * (number + 1))}
        repo = make_cached_repo(path, "org/m", files=files, commit=commit, refs=refs)
        age_tree(repo / "snapshots" / commit, seconds=9000 - 1000 * number)
    return repo


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
    assert "is not there" in plan.caches[0].skipped
    assert plan.execute().count == 0 and picture(path) == under


def test_an_unknown_class_is_refused(primary) -> None:
    with pytest.raises(InvalidValue, match="partials, orphans"):
        plan_clean(["everything"])


def test_the_doors_show_first_and_clean_what_is_named(api, disk, tmp_path) -> None:
    three_revisions(Path(disk.path), main=NEW)
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
