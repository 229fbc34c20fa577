"""A removal that a crash cut, and one while a scan runs: what went to the trash comes back from there alone."""

import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.db.models.signals import post_save

from cachemgr import monitor, recovery, trash
from cachemgr.chores import do_chore
from cachemgr.drives import DriveReport
from cachemgr.models import CachedRepo, TrashedRepo
from registry import jobs, removal, services
from registry.models import Job, ModelRegistry
from tests.factories import loadable_files, make_cached_repo

FOLDER = "models--org--m"


@pytest.fixture
def model(caches) -> ModelRegistry:
    make_cached_repo(Path(caches.primary.path), "org/m", files=loadable_files(weights=100_000))
    monitor.measure_cache(caches.primary)
    ModelRegistry.objects.update(model_name="mine")
    return ModelRegistry.objects.get()


def repo_of(model: ModelRegistry) -> Path:
    return Path(services.cache_path_of(model)) / FOLDER


class InThisThread(Executor):
    """So that what happens meanwhile has the test's own transaction."""

    def submit(self, do: Callable[..., object], /, *args: object, **kwargs: object) -> Future:
        future: Future = Future()
        future.set_result(do(*args, **kwargs))
        return future


@pytest.fixture
def while_scanned(monkeypatch) -> Callable[..., None]:
    """`while_scanned(do)` measures all caches, and does that when the drives have told what lies there, before the scan
    is over."""
    ask_drive = monitor.probe_drive

    def run(do: Callable[[], object]) -> None:
        waiting = [do]

        def probe(*args: object, **kwargs: object) -> DriveReport:
            began_at, report = time.monotonic(), ask_drive(*args, **kwargs)
            if waiting:
                waiting.pop()()
            return replace(report, duration_seconds=time.monotonic() - began_at)

        monkeypatch.setattr(monitor, "ThreadPoolExecutor", lambda **_: InThisThread())
        monkeypatch.setattr(monitor, "probe_drive", probe)
        monitor.measure_caches()
        monkeypatch.setattr(monitor, "probe_drive", ask_drive)

    return run


def test_a_model_that_was_removed_is_not_there_when_it_is_registered_again(model, caches) -> None:
    """Before any scan."""
    removal.remove(model)
    again = services.register(services.Wish("m", "org/m", cache_location="primary", estimated_bytes=10**6)).model
    assert again.status == "registered" and caches.primary.reservations.get().remaining_bytes == 10**6


def test_a_scan_that_began_before_a_removal_does_not_bring_the_model_back(model, while_scanned, caches) -> None:
    make_cached_repo(Path(caches.primary.path), "org/other", files=loadable_files())
    while_scanned(lambda: removal.remove(model))
    assert [repo.folder for repo in CachedRepo.objects.filter(cache=caches.primary)] == ["models--org--other"]
    assert [model.hf_path for model in ModelRegistry.objects.all()] == ["org/other"]
    trash.restore(trash.entries().get())
    assert ModelRegistry.objects.get(hf_path="org/m").status == "ready"


def test_such_a_scan_does_not_bring_back_what_was_emptied_meanwhile(model, while_scanned, caches) -> None:
    """As where the room is needed at once."""

    def remove_for_good() -> None:
        removal.remove(model)
        trash.empty(trash.weigh_entries(trash.entries()))

    while_scanned(remove_for_good)
    assert not CachedRepo.objects.exists() and not ModelRegistry.objects.exists()


def test_such_a_scan_does_not_make_a_row_ready_whose_files_alone_went(model, while_scanned) -> None:
    while_scanned(lambda: removal.remove(model, keeps_row=True))
    assert ModelRegistry.objects.get(pk=model.pk).status == "registered"


def test_such_a_scan_takes_nothing_from_a_promise_that_came_after_it(model, while_scanned, caches) -> None:
    def remove_and_register() -> None:
        removal.remove(model)
        services.register(services.Wish("m", "org/m", cache_location="primary", estimated_bytes=10**6))

    while_scanned(remove_and_register)
    assert caches.primary.reservations.get().remaining_bytes == 10**6
    assert ModelRegistry.objects.get(hf_path="org/m").status == "registered"


def test_a_recovery_that_comes_between_the_row_and_the_rename_leaves_the_removal_alone(model, caches) -> None:
    """Its row is held before there is one."""

    def recover(**_: object) -> None:
        recovery.recover_cache(caches.primary)

    post_save.connect(recover, sender=TrashedRepo)
    try:
        entry = removal.remove(model)
    finally:
        post_save.disconnect(recover, sender=TrashedRepo)
    assert trash.find_entry(entry.pk).remembered["model"]["fields"]["hf_path"] == "org/m"
    trash.restore(entry)
    assert ModelRegistry.objects.filter(model_name=model.model_name, status="ready").exists()


def test_a_removal_that_recovery_finished_leaves_nothing_to_register_again(model, caches) -> None:
    """Nothing was measured since."""
    crash_before(model, moved=True)
    jobs.reconcile()
    jobs.run_job(Job.objects.get().pk)
    again = services.register(services.Wish("m", "org/m", cache_location="primary", estimated_bytes=10**6)).model
    assert again.status == "registered" and caches.primary.reservations.get().remaining_bytes == 10**6


# Crashes of the process that removes


def crash_before(model: ModelRegistry, *, moved: bool, keeps_row: bool = False) -> TrashedRepo:
    """All that a web process has done when it is killed: the claim, the row, and maybe the rename."""
    job = removal._claim(model, keeps_row=keeps_row)
    Job.objects.filter(pk=job.pk).update(
        lease_owner="elsewhere:1:boot.1", lease_expires_at=datetime(2026, 1, 1, tzinfo=UTC)
    )
    cache = services.cache_of(model)
    entry = TrashedRepo.objects.create(
        cache=cache, name="t-1", folder=FOLDER, title="mine", remembered=removal._remembered(model, keeps_row=keeps_row)
    )
    if moved:
        do_chore(cache, task="trash", step="put", folder=FOLDER, name=entry.name)
    return entry


@pytest.mark.parametrize("moved", [False, True])
def test_a_removal_whose_process_was_killed_is_finished_by_a_worker(model, moved) -> None:
    crash_before(model, moved=moved)
    jobs.reconcile()
    assert jobs.run_job(Job.objects.get().pk) == "done"
    assert not ModelRegistry.objects.exists() and not repo_of(model).exists()
    assert Job.objects.get().trash == trash.entries().get().pk
    trash.restore(trash.entries().get())
    assert Job.objects.get().trash is None
    assert ModelRegistry.objects.get().model_name == "mine" and repo_of(model).is_dir()


def test_a_removal_that_was_told_as_failed_and_came_true_later_says_where_the_files_are(model) -> None:
    """As where the drive went away right after the rename."""
    earlier = Job.objects.create(kind="remove", model=model, state="failed")
    crash_before(model, moved=True)
    Job.objects.update(state="failed")
    recovery.recover()
    assert not ModelRegistry.objects.exists()
    assert Job.objects.exclude(pk=earlier.pk).get().trash == trash.entries().get().pk
    assert Job.objects.get(pk=earlier.pk).trash is None


@pytest.mark.parametrize("moved", [False, True])
def test_a_removal_of_files_alone_is_finished_as_such(model, moved) -> None:
    crash_before(model, moved=moved, keeps_row=True)
    jobs.reconcile()
    assert jobs.run_job(Job.objects.get().pk) == "done"
    assert ModelRegistry.objects.get().status == "registered" and not repo_of(model).exists()
    assert trash.entries().count() == 1


def test_files_that_came_to_the_place_since_the_crash_keep_their_model(model, caches) -> None:
    crash_before(model, moved=True)
    Job.objects.all().delete()
    make_cached_repo(Path(caches.primary.path), "org/m", files=loadable_files())
    recovery.recover()
    assert ModelRegistry.objects.get() == model and trash.entries().count() == 1


def test_a_removal_that_was_undone_leaves_the_model_as_it_was(model) -> None:
    crash_before(model, moved=False)
    recovery.recover()
    assert not TrashedRepo.objects.exists() and repo_of(model).is_dir() and ModelRegistry.objects.get() == model
