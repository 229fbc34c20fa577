"""The trash: real folders on real drives, what they free to the byte, and what a crash leaves."""

import fcntl
import os
import shutil
import subprocess
import threading
from contextlib import suppress
from datetime import timedelta
from itertools import product
from pathlib import Path

import pytest
from django.utils import timezone
from huggingface_hub import scan_cache_dir

from cachemgr import chores, errands, locks, monitor, recovery, services, trash
from cachemgr.chores import Weight
from cachemgr.errors import CacheUnavailable, ErrandFailed, InsufficientSpace, NotInTrash, PlaceTaken, RepoBusy
from cachemgr.hands import trash as in_child
from cachemgr.hands.errors import Trouble
from cachemgr.hands.root import open_root
from cachemgr.hands.store import collect
from cachemgr.models import Cache, TrashedRepo
from cachemgr.space import Verdict
from cachemgr.tasks import tend_trash
from tests.cachemgr.conftest import make_image
from tests.cachemgr.killing import crash_points, killed_at
from tests.cachemgr.trees import as_the_hub_sees_it, picture, share_blob, used_bytes
from tests.factories import loadable_files, make_cached_repo

FOLDER = "models--org--m"
STORED = "ab" + "5" * 62


@pytest.fixture
def primary(caches) -> Cache:
    """The adopted primary cache."""
    monitor.measure_cache(caches.primary)
    caches.primary.refresh_from_db()
    assert caches.primary.uuid
    return caches.primary


def put(cache: Cache, folder: str = FOLDER) -> TrashedRepo:
    (weight,) = chores.weigh(cache, [folder])
    return trash.put(cache, folder=folder, title=folder, remembered={}, weight=weight)


def home(entry: TrashedRepo) -> Path:
    return Path(entry.cache.path) / ".homelab" / "trash" / entry.name


def empty_all() -> int:
    return trash.empty(trash.weigh_entries(trash.entries()))


# There and back


def test_a_removed_repo_lies_in_the_trash_as_it_was_and_comes_back_the_same(primary) -> None:
    path = Path(primary.path)
    make_cached_repo(path, "org/other", files=loadable_files())
    kept, seen_without = picture(path), as_the_hub_sees_it(path)
    repo = make_cached_repo(path, "org/m", files=loadable_files() | {"deep/er/notes.txt": b"n"})
    make_cached_repo(path, "org/m", files={"config.json": b"{}"}, commit="b" * 40, refs={"pr/1": "b" * 40})
    before, seen, content = picture(path), as_the_hub_sees_it(path), picture(repo)
    entry = put(primary)
    assert picture(path) == kept and as_the_hub_sees_it(path) == seen_without
    assert picture(home(entry) / FOLDER) == content
    trash.restore(entry)
    assert picture(path) == before and as_the_hub_sees_it(path) == seen
    assert not TrashedRepo.objects.exists() and not home(entry).exists()


def test_the_list_of_digests_that_a_move_wrote_goes_along(primary) -> None:
    path = Path(primary.path)
    make_cached_repo(path, "org/m", files=loadable_files())
    manifest = path / ".homelab" / "manifests" / f"{FOLDER}.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{}")
    entry = put(primary)
    assert not manifest.exists()
    trash.restore(entry)
    assert manifest.read_text() == "{}"


def test_a_repo_does_not_come_back_to_a_place_that_is_taken(primary) -> None:
    path = Path(primary.path)
    make_cached_repo(path, "org/m", files=loadable_files())
    entry = put(primary)
    make_cached_repo(path, "org/m", files=loadable_files())
    before = picture(path)
    with pytest.raises(PlaceTaken, match=FOLDER):
        trash.restore(entry)
    assert picture(path) == before and trash.find_entry(entry.pk).state == "trashed"
    shutil.rmtree(path / FOLDER)
    trash.restore(trash.find_entry(entry.pk))
    assert as_the_hub_sees_it(path).keys() == {"org/m"}


def test_what_is_emptied_is_gone_and_cannot_come_back(primary) -> None:
    make_cached_repo(Path(primary.path), "org/m", files=loadable_files())
    entry = put(primary)
    empty_all()
    assert not home(entry).exists() and not TrashedRepo.objects.exists()
    with pytest.raises(NotInTrash):
        trash.find_entry(entry.pk)
    with pytest.raises(NotInTrash):
        trash.restore(entry)


# Exact figures


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request, primary, mount, tmp_path) -> Cache:
    """The primary cache on a filesystem of its own, adopted there."""
    image = make_image(tmp_path / "disk.img", size=32 << 20) if request.param == "ext4" else None
    mount(Path(primary.path), size="32m", image=image)
    Cache.objects.filter(pk=primary.pk).update(uuid="")
    monitor.measure_cache(primary)
    primary.refresh_from_db()
    path = Path(primary.path)
    (path / ".homelab" / "trash").mkdir(parents=True)  # the house stays: its folders take room once
    (path / ".homelab" / "staging").mkdir()
    return primary


def freed_by(cache: Cache, do) -> int:
    before = used_bytes(Path(cache.path))
    do()
    return before - used_bytes(Path(cache.path))


def test_the_trash_says_to_the_byte_what_it_frees_and_that_it_frees_nothing_before(disk) -> None:
    path = Path(disk.path)
    make_cached_repo(path, "org/m", files=loadable_files(weights=3_000_001) | {"n" * 200: b"x", "empty": b""})
    os.sync()
    (planned,) = chores.weigh(disk, [FOLDER])
    before = used_bytes(path)
    entry = put(disk)
    assert used_bytes(path) >= before
    (load,) = trash.weigh_entries(trash.entries())
    assert freed_by(disk, empty_all) == load.weight.freed_bytes
    assert before - used_bytes(path) == planned.freed_bytes == entry.freed_bytes
    assert planned.size_bytes == planned.going_bytes > 3_000_001


def test_bytes_with_a_name_outside_the_trash_are_not_promised(disk) -> None:
    path = Path(disk.path)
    repo = make_cached_repo(path, "org/m", files=loadable_files(weights=2_000_000))
    make_cached_repo(path, "org/twin", files={"config.json": b"{}"})
    (weights,) = (blob for blob in (repo / "blobs").iterdir() if blob.stat().st_size == 2_000_000)
    os.link(weights, path / "models--org--twin" / "blobs" / weights.name)
    os.sync()
    put(disk)
    (load,) = trash.weigh_entries(trash.entries())
    assert load.weight.freed_bytes < 1_000_000 < load.weight.size_bytes
    assert load.weight.size_bytes - load.weight.going_bytes == 2_000_000
    put(disk, "models--org--twin")
    first, second = trash.weigh_entries(trash.entries())
    assert first.weight == load.weight and second.weight.freed_bytes >= 2_000_000
    assert freed_by(disk, empty_all) == first.weight.freed_bytes + second.weight.freed_bytes


def test_a_file_of_the_shared_store_goes_with_the_last_repo_that_leads_to_it(disk) -> None:
    path, content = Path(disk.path), os.urandom(1_500_000)
    for name in ("m", "twin"):
        repo = make_cached_repo(path, f"org/{name}", files={"config.json": b"{}"})
        stored = share_blob(path, repo, name="model.safetensors", stored=STORED, content=content)
    os.sync()
    put(disk)
    (load,) = trash.weigh_entries(trash.entries())
    assert load.weight.freed_bytes < 1_000_000
    assert freed_by(disk, empty_all) == load.weight.freed_bytes
    assert (path / "models--org--twin/snapshots" / ("a" * 40) / "model.safetensors").read_bytes() == content
    (planned,) = chores.weigh(disk, ["models--org--twin"])
    assert planned.freed_bytes > 1_500_000
    before = used_bytes(path)
    put(disk, "models--org--twin")
    empty_all()
    assert not stored.exists() and before - used_bytes(path) == planned.freed_bytes


def test_the_hubs_own_clean_up_takes_nothing_from_a_repo_in_the_trash(primary) -> None:
    """Its library counts only users that are in their place."""
    path, content = Path(primary.path), os.urandom(10_000)
    for name in ("m", "twin"):
        repo = make_cached_repo(
            path, f"org/{name}", files={"config.json": b"{}"}, commit=name[0] * 40 if name == "m" else "a" * 40
        )
        stored = share_blob(path, repo, name="model.safetensors", stored=STORED, content=content)
    entry = put(primary)
    scan_cache_dir(path).delete_revisions("a" * 40).execute()
    assert not stored.exists()
    trash.restore(entry)
    assert (path / FOLDER / "snapshots" / ("m" * 40) / "model.safetensors").read_bytes() == content
    assert stored.with_name(f"{STORED}.refs").read_text() == f"{FOLDER}/blobs/{STORED[:40]}\n"
    twin = make_cached_repo(path, "org/twin", files={"config.json": b"{}"})
    share_blob(path, twin, name="model.safetensors", stored=STORED, content=content)
    scan_cache_dir(path).delete_revisions("a" * 40).execute()
    assert stored.read_bytes() == content


def test_a_stored_file_stays_where_its_list_names_a_user_that_came_meanwhile(primary) -> None:
    """The Hub's library writes the list first, under the same lock."""
    path = Path(primary.path)
    repo = make_cached_repo(path, "org/m", files={"config.json": b"{}"})
    stored = share_blob(path, repo, name="model.safetensors", stored=STORED, content=b"s")
    with open_root({"path": primary.path, "uuid": primary.uuid}) as root:
        assert not collect(root, f"blobs/ab/{STORED}") and stored.exists()
        shutil.rmtree(repo)
        assert collect(root, f"blobs/ab/{STORED}") and not stored.exists()


# Who may not be disturbed


def test_a_repo_that_somebody_holds_is_busy_and_stays(primary) -> None:
    path = Path(primary.path)
    make_cached_repo(path, "org/m", files=loadable_files())
    before = picture(path)
    with locks.shared(path / FOLDER), pytest.raises(RepoBusy):
        trash.put(primary, folder=FOLDER, title="m", remembered={}, weight=Weight())
    assert picture(path) == before and not TrashedRepo.objects.exists()


def test_a_repo_that_another_program_downloads_into_is_busy(primary) -> None:
    path = Path(primary.path)
    repo = make_cached_repo(path, "org/m", files=loadable_files())
    (repo / "blobs" / "1234.abcdef01.incomplete").write_bytes(b"x")
    lock = path / ".locks" / FOLDER / "1234.lock"
    lock.parent.mkdir(parents=True)
    with open(lock, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(RepoBusy, match="Another program"):
            put(primary)
    assert repo.is_dir() and not TrashedRepo.objects.exists()
    put(primary)
    assert not repo.exists()


# Drives that go


def test_a_drive_that_vanished_loses_nothing_and_gets_nothing(caches, mount) -> None:
    path = Path(caches.primary.path)
    mount(path)
    monitor.measure_cache(caches.primary)
    caches.primary.refresh_from_db()
    make_cached_repo(path, "org/m", files=loadable_files())
    make_cached_repo(path, "org/old", files=loadable_files())
    old = put(caches.primary, "models--org--old")
    before = picture(path)
    twin = path.with_name("elsewhere")
    mount(twin, bind=path)
    subprocess.run(["umount", "-l", str(path)], check=True)
    with pytest.raises(ErrandFailed) as error:
        trash.put(caches.primary, folder=FOLDER, title="m", remembered={}, weight=Weight())
    assert error.value.code == "cache_unavailable"
    TrashedRepo.objects.update(removed_at=timezone.now() - timedelta(days=99))
    tend_trash()
    with pytest.raises(ErrandFailed):
        trash.restore(trash.find_entry(old.pk))
    assert list(path.iterdir()) == [] and picture(twin) == before
    mount(path, bind=twin)
    recovery.recover()
    assert {entry.folder: entry.state for entry in TrashedRepo.objects.all()} == {"models--org--old": "trashed"}
    trash.restore(trash.find_entry(old.pk))
    assert as_the_hub_sees_it(path).keys() == {"org/m", "org/old"}


def test_another_drive_at_the_same_path_is_not_touched(primary, mount) -> None:
    path = Path(primary.path)
    make_cached_repo(path, "org/m", files=loadable_files())
    put(primary)
    mount(path)
    make_cached_repo(path, "org/m", files=loadable_files())
    stranger = path / ".homelab" / "trash" / trash.entries()[0].name / FOLDER
    stranger.mkdir(parents=True)
    before = picture(path)
    for attempt in (lambda: put(primary), empty_all, lambda: trash.restore(trash.entries()[0])):
        with pytest.raises(ErrandFailed, match="marker"):
            attempt()
    recovery.recover()
    assert picture(path) == before and stranger.is_dir() and trash.entries().count() == 1


def test_a_drive_that_hangs_is_given_up_and_settled_when_it_is_back(caches, hung_drive, monkeypatch) -> None:
    Cache.objects.filter(pk=caches.primary.pk).update(path=str(hung_drive.path), uuid="")
    cache = Cache.objects.get(pk=caches.primary.pk)
    repo = hung_drive.path / FOLDER / "snapshots" / ("a" * 40)
    repo.mkdir(parents=True)
    (repo / "config.json").write_bytes(b"{}")
    monkeypatch.setattr(chores.do_chore, "__kwdefaults__", {"quiet_seconds": 1.0})
    monkeypatch.setattr(errands, "_STOP_SECONDS", 0.2)
    hung_drive.hang()
    with pytest.raises(CacheUnavailable, match="did not answer"):
        trash.put(cache, folder=FOLDER, title="m", remembered={}, weight=Weight())
    assert TrashedRepo.objects.get().state == "leaving"
    hung_drive.go_on()
    monitor.measure_cache(cache)
    assert not TrashedRepo.objects.exists() and (repo / "config.json").read_bytes() == b"{}"


def test_a_drive_that_takes_no_links_has_a_trash_too(caches, drive_without_links) -> None:
    Cache.objects.filter(pk=caches.primary.pk).update(path=str(drive_without_links.path), uuid="")
    cache = Cache.objects.get(pk=caches.primary.pk)
    monitor.measure_cache(cache)
    cache.refresh_from_db()
    snapshot = drive_without_links.path / FOLDER / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(b"w" * 5000)
    before = picture(drive_without_links.path)
    entry = put(cache)
    assert not (drive_without_links.path / FOLDER).exists() and entry.freed_bytes == 5120  # of 512 each
    trash.restore(entry)
    assert picture(drive_without_links.path) == before
    put(cache)
    empty_all()
    assert not trash.entries().exists()


# What a crash leaves


def do_here(cache: Cache, **order) -> None:
    """As the child does it, without its start."""
    in_child.run({"root": {"path": cache.path, "uuid": cache.uuid}, "folder": FOLDER} | order, say=lambda **_: None)


def entry_of(cache: Cache, state: str) -> TrashedRepo:
    return TrashedRepo.objects.create(cache=cache, name="t-1", folder=FOLDER, title="m", state=state)


@pytest.fixture
def shared_repo(primary):
    """Makes the repo afresh, with a file in the shared store, and a neighbour that uses it too."""

    def make() -> dict[str, object]:
        path = Path(primary.path)
        for each in path.iterdir():
            if each.name != ".homelab-cache.json":
                shutil.rmtree(each)
        TrashedRepo.objects.all().delete()
        for name in ("m", "twin"):
            repo = make_cached_repo(path, f"org/{name}", files={"config.json": b"{}", "model.safetensors": b"w" * 100})
            share_blob(path, repo, name="shared.safetensors", stored=STORED, content=b"s" * 100)
        return picture(path)

    return make


def without_locks(tree: dict[str, object]) -> dict[str, object]:
    return {name: content for name, content in tree.items() if not name.endswith((".lock", "blobs/ab"))}


def test_a_removal_that_is_killed_at_any_call_is_undone_or_finished(primary, shared_repo) -> None:
    path = Path(primary.path)

    def run(call: str, number: int) -> bool:
        before = shared_repo()
        content = picture(path / FOLDER)
        entry = entry_of(primary, "leaving")
        was_killed = killed_at(primary, call, number, task="trash", step="put", folder=FOLDER, name=entry.name)
        recovery.recover_cache(primary)
        if TrashedRepo.objects.filter(state="trashed").exists():
            assert picture(home(entry) / FOLDER) == content and not (path / FOLDER).exists()
            do_here(primary, step="restore", name=entry.name)
            TrashedRepo.objects.all().delete()
        assert without_locks(picture(path)) == without_locks(before)
        assert not TrashedRepo.objects.exists() and not home(entry).exists()
        return was_killed

    assert crash_points(run) >= 8


def test_a_return_that_is_killed_at_any_call_can_be_repeated(primary, shared_repo) -> None:
    path = Path(primary.path)

    def run(call: str, number: int) -> bool:
        before = shared_repo()
        entry = entry_of(primary, "leaving")
        do_here(primary, step="put", name=entry.name)
        (path / "blobs" / "ab" / STORED).unlink()  # the Hub's library took it meanwhile
        TrashedRepo.objects.update(state="restoring")
        was_killed = killed_at(primary, call, number, task="trash", step="restore", folder=FOLDER, name=entry.name)
        recovery.recover_cache(primary)
        for waiting in trash.entries():
            trash.restore(waiting)
        assert without_locks(picture(path)) == without_locks(before)
        assert (path / "blobs" / "ab" / STORED).read_bytes() == b"s" * 100
        assert not TrashedRepo.objects.exists() and not home(entry).exists()
        return was_killed

    assert crash_points(run) >= 8


def test_an_emptying_that_is_killed_at_any_call_is_finished_and_takes_nothing_else(primary, shared_repo) -> None:
    path = Path(primary.path)

    def run(call: str, number: int) -> bool:
        shared_repo()
        entry = entry_of(primary, "leaving")
        do_here(primary, step="put", name=entry.name)
        kept = picture(path)
        TrashedRepo.objects.update(state="purging")
        was_killed = killed_at(primary, call, number, task="trash", step="purge", name=entry.name)
        recovery.recover_cache(primary)
        assert picture(path) == kept
        assert not TrashedRepo.objects.exists() and not home(entry).exists()
        return was_killed

    assert crash_points(run) >= 8


def test_what_no_row_knows_is_taken_in_and_can_come_back(primary) -> None:
    """The database was lost, or made anew."""
    path = Path(primary.path)
    make_cached_repo(path, "org/m", files=loadable_files())
    before = picture(path)
    entry = put(primary)
    TrashedRepo.objects.all().delete()
    recovery.recover()
    found = trash.entries().get()
    assert (found.name, found.title, found.size_bytes) == (entry.name, "org/m", entry.size_bytes)
    trash.restore(found)
    assert picture(path) == before


def test_what_somebody_took_out_by_hand_is_not_listed_any_more(primary) -> None:
    make_cached_repo(Path(primary.path), "org/m", files=loadable_files())
    shutil.rmtree(home(put(primary)))
    recovery.recover()
    assert not TrashedRepo.objects.exists()


def test_what_somebody_restores_at_this_moment_is_left_alone_by_recovery(primary) -> None:
    make_cached_repo(Path(primary.path), "org/m", files=loadable_files())
    entry = put(primary)
    TrashedRepo.objects.update(state="restoring")
    with recovery.hold(entry):
        recovery.recover()
        assert TrashedRepo.objects.get().state == "restoring"
    recovery.recover()
    assert TrashedRepo.objects.get().state == "trashed"


# Time and pressure


def removed_days_ago(cache: Cache, name: str, *, days: float, weights: int = 1000) -> TrashedRepo:
    make_cached_repo(Path(cache.path), f"org/{name}", files=loadable_files(weights=weights))
    entry = put(cache, f"models--org--{name}")
    TrashedRepo.objects.filter(pk=entry.pk).update(removed_at=timezone.now() - timedelta(days=days))
    return entry


def folders() -> list[str]:
    return [entry.folder for entry in trash.entries()]


def test_the_trash_is_emptied_after_seven_days_and_not_before(primary, settings) -> None:
    removed_days_ago(primary, "young", days=6.9)
    old = removed_days_ago(primary, "old", days=7.1)
    assert tend_trash() >= old.freed_bytes > 0
    assert folders() == ["models--org--young"] and not home(old).exists()
    settings.TRASH_DAYS = 6
    tend_trash()
    assert folders() == []


def test_a_clock_that_was_set_back_empties_nothing(primary) -> None:
    removed_days_ago(primary, "m", days=-400)
    tend_trash()
    assert folders() == ["models--org--m"]


def lacking(cache: Cache, size_bytes: int) -> Verdict:
    """The verdict on what does not fit by so many bytes, with the trash in place."""
    monitor.measure_cache(cache)
    cache.refresh_from_db()
    Cache.objects.filter(pk=cache.pk).update(limit_bytes=cache.latest.used_bytes)
    cache.refresh_from_db()
    return services.check(cache, required_bytes=size_bytes)


def test_room_is_made_oldest_first_and_no_more_than_is_needed(primary) -> None:
    removed_days_ago(primary, "newest", days=1, weights=50_000)
    removed_days_ago(primary, "oldest", days=3, weights=50_000)
    removed_days_ago(primary, "older", days=2, weights=50_000)
    assert trash.make_room(lacking(primary, 60_000)) >= 100_000
    assert folders() == ["models--org--newest"]


def test_nothing_is_emptied_where_that_would_not_be_enough(primary) -> None:
    removed_days_ago(primary, "m", days=1, weights=50_000)
    assert trash.make_room(lacking(primary, 60_000)) == 0
    assert folders() == ["models--org--m"]


def test_the_trash_of_another_cache_gives_way_where_it_fills_the_same_disk(caches, mount, tmp_path, settings) -> None:
    settings.DISK_RESERVE_BYTES = 0
    disk = mount(tmp_path / "disk", size="1m")
    for cache in (caches.primary, caches.secondary):
        (disk / cache.location).mkdir()
        Cache.objects.filter(pk=cache.pk).update(path=str(disk / cache.location))
        monitor.measure_cache(cache)
        cache.refresh_from_db()
    removed_days_ago(caches.secondary, "m", days=1, weights=700_000)
    monitor.measure_caches()
    verdict = services.check(caches.primary, required_bytes=800_000)
    assert verdict.limiting_factor == "disk" and not verdict.sufficient
    assert trash.make_room(verdict) >= 700_000
    assert services.check(caches.primary, required_bytes=800_000).sufficient


def test_what_is_booked_is_booked_again_after_the_trash_gave_way(primary) -> None:
    removed_days_ago(primary, "m", days=1, weights=50_000)
    verdict, calls = lacking(primary, 40_000), []

    def attempt() -> str:
        calls.append(trash.entries().count())
        if trash.entries().exists():
            raise InsufficientSpace(verdict)
        return "booked"

    assert trash.with_room(attempt) == "booked" and calls == [1, 0]


# Traps


@pytest.fixture
def canary(tmp_path) -> Path:
    folder = tmp_path / "canary"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").write_bytes(b"precious")
    return folder


def test_links_in_a_repo_are_moved_and_emptied_as_links(primary, canary) -> None:
    path = Path(primary.path)
    repo = make_cached_repo(path, "org/m", files=loadable_files())
    for place in (repo / "out", repo / "blobs" / "out", repo / "snapshots" / ("a" * 40) / "out"):
        place.symlink_to(canary)
    before = picture(canary)
    put(primary)
    empty_all()
    assert picture(canary) == before and not repo.exists()


@pytest.mark.parametrize("place", [".homelab", ".homelab/trash"])
def test_a_trash_that_is_a_link_is_not_entered(primary, canary, place) -> None:
    path = Path(primary.path)
    repo = make_cached_repo(path, "org/m", files=loadable_files())
    shutil.rmtree(path / ".homelab", ignore_errors=True)
    (path / place).parent.mkdir(exist_ok=True)
    (path / place).symlink_to(canary)
    before = picture(canary)
    with pytest.raises(ErrandFailed):
        put(primary)
    recovery.recover()
    assert picture(canary) == before and repo.is_dir() and not TrashedRepo.objects.exists()


def test_a_repo_that_is_a_link_is_no_repo_to_remove(primary, canary) -> None:
    (Path(primary.path) / FOLDER).symlink_to(canary)
    with pytest.raises(ErrandFailed, match="no folder"):
        put(primary)
    assert (Path(primary.path) / FOLDER).is_symlink() and (canary / "deep" / "file").exists()


def test_a_name_that_is_a_path_is_refused(primary) -> None:
    make_cached_repo(Path(primary.path), "org/m", files=loadable_files())
    put(primary)
    before = picture(Path(primary.path) / ".homelab")
    for name, step in product(["", ".", "..", "../..", "a/b", "/etc"], ["put", "restore", "purge"]):
        with pytest.raises(Trouble, match="no name in the trash"):
            do_here(primary, step=step, name=name)
    with pytest.raises(Trouble, match="no repo's folder"):
        do_here(primary, step="put", name="a", folder="../models--org--m")
    assert picture(Path(primary.path) / ".homelab") == before


def test_a_folder_that_becomes_a_link_while_it_is_emptied_loses_only_itself(primary, canary) -> None:
    """Two processes at once: one empties, one swaps folders for links to what is precious, as fast as it can."""
    path = Path(primary.path)
    repo = make_cached_repo(path, "org/m", files={"config.json": b"{}"})
    for number in range(100):
        (repo / f"part{number}" / "deep").mkdir(parents=True)
        (repo / f"part{number}" / "deep" / "file").write_bytes(b"x")
    entry, before, stop = put(primary), picture(canary), threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for number in range(99, -1, -1):
                place = home(entry) / FOLDER / f"part{number}"
                with suppress(OSError):
                    place.rename(home(entry) / FOLDER / f"away{number}")
                    place.symlink_to(canary)

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for _ in range(20):
            with suppress(OSError):
                do_here(primary, step="purge", name=entry.name)
    finally:
        stop.set()
        swapping.join()
    assert picture(canary) == before
