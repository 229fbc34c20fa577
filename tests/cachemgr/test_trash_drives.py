"""The trash on drives that go, hang or are others, and with links that lead out of it."""

import shutil
import subprocess
import threading
from contextlib import suppress
from datetime import timedelta
from itertools import product
from pathlib import Path

import pytest
from django.utils import timezone

from cachemgr import chores, errands, monitor, recovery, trash
from cachemgr.chores import Weight
from cachemgr.errors import CacheUnavailable, ErrandFailed
from cachemgr.hands.errors import Trouble
from cachemgr.models import Cache, TrashedRepo
from cachemgr.tasks import tend_trash
from tests.cachemgr.trashing import FOLDER, do_here, empty_all, home, put
from tests.cachemgr.trees import as_the_hub_sees_it, picture
from tests.factories import loadable_files, make_cached_repo

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
    with pytest.raises(CacheUnavailable):
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
        with pytest.raises(chores.AWAY, match="marker"):
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
    with pytest.raises(ErrandFailed, match="did not answer"):
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


@pytest.mark.root
def test_a_link_to_a_drive_that_hangs_is_weighed_and_emptied_without_a_look_at_where_it_leads(
    primary, hung_drive, monkeypatch
) -> None:
    monkeypatch.setattr(chores.do_chore, "__kwdefaults__", {"quiet_seconds": 5.0})
    repo = make_cached_repo(Path(primary.path), "org/m", files=loadable_files())
    (repo / "out").symlink_to(hung_drive.path)
    (repo / "blobs" / "out").symlink_to(hung_drive.path / "file")
    hung_drive.hang()
    put(primary)
    assert empty_all() > 0 and not repo.exists()


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
