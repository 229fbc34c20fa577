"""The trash: real folders on real drives, there and back, and what they free to the byte."""

import fcntl
import os
import shutil
from pathlib import Path

import pytest
from huggingface_hub import scan_cache_dir

from cachemgr import chores, locks, monitor, trash
from cachemgr.chores import Weight
from cachemgr.errors import NotInTrash, PlaceTaken, RepoBusy
from cachemgr.hands.root import open_root
from cachemgr.hands.store import collect
from cachemgr.models import Cache, TrashedRepo
from tests.cachemgr.conftest import make_image
from tests.cachemgr.trashing import FOLDER, STORED, empty_all, home, put
from tests.cachemgr.trees import as_the_hub_sees_it, picture, share_blob, used_bytes
from tests.factories import loadable_files, make_cached_repo

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
    assert not home(entry).exists() and not trash.entries().exists()
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
