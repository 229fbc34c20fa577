"""What a crash leaves of a removal, a return or an emptying, and how it is finished."""

import shutil
from pathlib import Path

import pytest

from cachemgr import recovery, trash
from cachemgr.models import Cache, TrashedRepo
from tests.cachemgr.killing import crash_points, killed_at
from tests.cachemgr.trashing import FOLDER, STORED, do_here, home, put
from tests.cachemgr.trees import picture, share_blob
from tests.factories import loadable_files, make_cached_repo


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
        assert TrashedRepo.objects.get().state == "emptied" and not home(entry).exists()
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
