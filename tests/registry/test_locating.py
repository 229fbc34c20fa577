"""Where a model is loaded from while its files move, and that nobody removes them meanwhile."""

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from django.conf import settings
from django.db import connection

from cachemgr.errors import CacheUnavailable, RepoBusy
from cachemgr.locks import exclusive
from cachemgr.models import Cache
from cachemgr.monitor import measure_caches
from registry.errors import ModelNotDownloaded
from registry.locating import hold, locate, look_again
from registry.models import Job, ModelRegistry
from registry.services import home_of
from tests.cachemgr.test_locks import HOLD, SET_UP
from tests.e2e.server import PROJECT
from tests.factories import loadable_files, make_cached_repo

pytestmark = pytest.mark.django_db

FOLDER = "models--org--m"


@contextmanager
def removing(folder: Path) -> Iterator[None]:
    """Another process has the folder for itself."""
    command = [sys.executable, "-c", SET_UP + HOLD, str(settings.DATA_DIR), str(folder), "exclusive"]
    with subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as remover:
        assert remover.stdout.readline() == "held\n"
        yield
        remover.stdin.close()


def folder_in(cache: Cache) -> Path:
    return Path(cache.path) / FOLDER


def move_files(caches) -> None:
    """To secondary, with the row, as a move does when it is done."""
    shutil.move(folder_in(caches.primary), caches.secondary.path)
    ModelRegistry.objects.update(cache_location="secondary")


def open_move(model: ModelRegistry, caches, **values) -> Job:
    return Job.objects.create(
        kind="move", model=model, state="running", source=caches.primary, target=caches.secondary, **values
    )


def has_locks_open() -> bool:
    locks = str(settings.DATA_DIR / "locks")
    return any(file.path.startswith(locks) for file in psutil.Process().open_files())


def test_what_is_held_cannot_be_removed_and_what_was_only_located_can(caches, model) -> None:
    located = locate(model)
    exclusive(folder_in(caches.primary)).release()
    held = hold(model)
    assert held.located == located and located.home == folder_in(caches.primary) == home_of(model)
    with pytest.raises(RepoBusy):
        exclusive(folder_in(caches.primary))
    held.lock.release()
    exclusive(folder_in(caches.primary)).release()


def test_what_has_to_be_read_of_a_model_is_read_by_the_child_that_looks_for_it(caches, model) -> None:
    held = hold(model, describer="tests.cachemgr.slow_describer")
    with held.lock:
        assert "model.safetensors" in held.description
    held = hold(model)
    with held.lock:
        assert held.description is None


def test_files_that_moved_since_the_row_was_read_are_found_where_they_are(caches, model) -> None:
    move_files(caches)
    assert model.cache_location == "primary"
    held = hold(model)
    with held.lock:
        assert held.located.home == folder_in(caches.secondary)
        assert held.located.snapshot_path.is_relative_to(folder_in(caches.secondary))


def test_a_load_while_the_old_files_are_removed_goes_to_the_new_ones(caches, model) -> None:
    shutil.copytree(folder_in(caches.primary), folder_in(caches.secondary), symlinks=True)
    ModelRegistry.objects.update(cache_location="secondary")
    with removing(folder_in(caches.primary)):
        assert locate(model).snapshot_path.is_relative_to(folder_in(caches.secondary))


@pytest.mark.django_db(transaction=True)
def test_whoever_holds_a_model_that_moves_to_and_fro_always_has_all_of_its_files(caches, model) -> None:
    content = (folder_in(caches.primary) / "snapshots" / ("a" * 40) / "model.safetensors").read_bytes()
    is_over = threading.Event()

    def look_again_and_again() -> int:
        looks = 0
        while not is_over.is_set():
            held = hold(ModelRegistry.objects.get(pk=model.pk))
            with held.lock:
                is_over.wait(0.02)
                assert (held.located.snapshot_path / "model.safetensors").read_bytes() == content
            looks += 1
        connection.close()
        return looks

    with ThreadPoolExecutor(3) as readers:
        looking = [readers.submit(look_again_and_again) for _ in range(3)]
        try:
            for source, target in [(caches.primary, caches.secondary), (caches.secondary, caches.primary)] * 3:
                shutil.copytree(folder_in(source), folder_in(target), symlinks=True)
                ModelRegistry.objects.update(cache_location=target.location)
                with exclusive(folder_in(source), wait_seconds=30):
                    shutil.rmtree(folder_in(source))
        finally:
            is_over.set()
        assert all(reader.result() > 3 for reader in looking)


def test_a_load_while_the_only_files_are_removed_is_refused_and_leaves_no_lock(caches, model) -> None:
    with removing(folder_in(caches.primary)), pytest.raises(RepoBusy, match="being removed"):
        locate(model)
    shutil.rmtree(folder_in(caches.primary))
    with pytest.raises(ModelNotDownloaded):
        locate(model)
    shutil.rmtree(caches.primary.path)
    with pytest.raises(CacheUnavailable):
        locate(model)
    assert not has_locks_open()


def test_after_the_commit_the_old_place_serves_while_the_new_drive_is_away(caches, model) -> None:
    open_move(model, caches, committed=True)
    ModelRegistry.objects.update(cache_location="secondary")
    model.refresh_from_db()
    shutil.rmtree(caches.secondary.path)
    located = locate(model)
    assert located.snapshot_path.is_relative_to(folder_in(caches.primary))
    assert located.home == folder_in(caches.secondary)
    shutil.rmtree(folder_in(caches.primary))
    with pytest.raises(CacheUnavailable, match=str(caches.secondary.path)):
        locate(model)


def test_what_a_move_has_begun_to_remove_is_served_no_more(caches, model) -> None:
    """All that makes a revision loadable is still there, but not all that was in it."""
    snapshot = folder_in(caches.primary) / "snapshots" / ("a" * 40)
    (snapshot / "notes.md").write_text("more")
    measure_caches(full=True)
    ModelRegistry.objects.update(model_size_mb=locate(model).size_bytes / 10**6)
    open_move(model, caches, committed=True)
    ModelRegistry.objects.update(cache_location="secondary")
    model.refresh_from_db()
    assert locate(model).snapshot_path == snapshot
    (snapshot / "notes.md").unlink()
    with pytest.raises(ModelNotDownloaded):
        locate(model)
    assert not has_locks_open()


def test_a_published_copy_serves_when_the_source_dies_before_the_commit(caches, model) -> None:
    shutil.copytree(folder_in(caches.primary), folder_in(caches.secondary), symlinks=True)
    shutil.rmtree(folder_in(caches.primary))
    with pytest.raises(ModelNotDownloaded, match=str(caches.primary.path)):
        locate(model)
    other = ModelRegistry.objects.create(model_name="other", hf_path="org/m", status="moving")
    job = open_move(other, caches)
    ModelRegistry.objects.update(status="moving")
    model.refresh_from_db()
    assert locate(model).snapshot_path.is_relative_to(folder_in(caches.secondary))
    model.refresh_from_db()
    assert (model.status, model.cache_location) == ("moving", "primary")
    Job.objects.filter(pk=job.pk).update(state="failed")
    with pytest.raises(ModelNotDownloaded):
        locate(model)


def test_a_model_that_moves_is_loaded_from_its_source_and_keeps_its_state(caches, model) -> None:
    open_move(model, caches)
    ModelRegistry.objects.update(status="moving")
    model.refresh_from_db()
    assert locate(model).snapshot_path.is_relative_to(folder_in(caches.primary))
    model.refresh_from_db()
    assert model.status == "moving"


def test_during_a_download_only_the_revision_that_was_whole_before_is_loaded(caches, model) -> None:
    ModelRegistry.objects.update(status="downloading")
    model.refresh_from_db()
    assert locate(model).snapshot_path.name == "a" * 40
    shutil.rmtree(folder_in(caches.primary))
    make_cached_repo(Path(caches.primary.path), "org/m", files=loadable_files(), commit="b" * 40)
    with pytest.raises(ModelNotDownloaded):
        locate(model)
    model.refresh_from_db()
    assert model.status == "downloading"


def test_what_many_rows_say_by_now_is_one_query(caches, model, django_assert_num_queries) -> None:
    other = ModelRegistry.objects.create(model_name="o", hf_path="o", cache_location="custom", cache_path="/mnt/usb/")
    here = locate(model)
    moved, gone = replace(here, pk=other.pk), replace(here, pk=10**6)
    ModelRegistry.objects.filter(pk=model.pk).update(pinned=True, priority=5)
    with django_assert_num_queries(1):
        found = look_again([here, moved, gone])
    assert found == {model.pk: replace(here, is_pinned=True, serving=replace(here.serving, priority=5))}
