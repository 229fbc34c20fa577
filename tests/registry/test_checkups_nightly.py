"""Nightly checks make room for whatever anybody asks for, at once, and without a trace: real children read real files,
slowly."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from cachemgr import locks
from cachemgr.errors import RepoBusy
from cachemgr.monitor import measure_caches
from registry import checkups, jobs, moves, removal, services
from registry.errors import Cancelled, JobOpen
from registry.models import Job, ModelRegistry
from tests.factories import loadable_files, make_cached_repo, write_hub_repo
from tests.registry.downloading import FOLDER, REPO, run, running, wait_for

pytestmark = pytest.mark.django_db(transaction=True)
NAME = "model.v1"
FILES = loadable_files(weights=3_000_000) | {"tokenizer.json": b"{}"}
SLOW = 150_000  # bytes per second
NIGHT = 10**9


@pytest.fixture
def model(caches) -> ModelRegistry:
    make_cached_repo(Path(caches.primary.path), REPO, files=FILES)
    measure_caches()
    model = ModelRegistry.objects.get()
    assert (model.model_name, model.status) == (NAME, "ready")
    return model


@pytest.fixture
def nightly(model, settings) -> Iterator[Job]:
    """It is read, by a worker's thread and its child, for twenty seconds if nobody minds."""
    settings.TRANSFER_RATE_LIMIT_BYTES = SLOW
    (job,) = checkups.scrub(budget_bytes=NIGHT)
    with running(job):
        wait_for(lambda: fresh(job).bytes_done and readers())
        settings.TRANSFER_RATE_LIMIT_BYTES = None
        yield job
        Job.objects.open().filter(pk=job.pk).ask_to_end()


def fresh(row):
    return type(row).objects.get(pk=row.pk)


def readers() -> list[psutil.Process]:
    """The living children that read files."""
    return [each for each in psutil.Process().children() if _is_reading(each)]


def _is_reading(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and "cachemgr.hands" in process.cmdline()
    except psutil.Error:  # it died meanwhile
        return False


def ended_after(asked: float) -> float:
    wait_for(lambda: not readers())
    return time.monotonic() - asked


def test_what_a_user_asks_for_begins_at_once_and_the_reader_ends_within_seconds(model, nightly, caches) -> None:
    asked = time.monotonic()
    job = checkups.request_verify(model)
    assert time.monotonic() - asked < 3 and ended_after(asked) < 6
    told = fresh(nightly)
    assert (told.state, told.error_code, told.error_message) == (
        "cancelled",
        "",
        "It made room for other work; a later night goes on.",
    )
    assert (told.lease_owner, told.lease_expires_at, told.rate) == ("", None, 0) and told.finished_at
    assert (job.state, fresh(model).status, fresh(model).read_at) == ("queued", "ready", None)
    assert run(job).state == "done" and fresh(model).read_at


def test_a_move_begins_while_a_night_reads_and_leaves_nothing_behind(model, nightly, caches) -> None:
    job = moves.request_move(model, cache_location="secondary")
    assert fresh(nightly).state == "cancelled" and fresh(model).status == "moving"
    assert run(job).state == "done", job.error_message
    assert (fresh(model).status, fresh(model).cache_location) == ("ready", "secondary")
    assert not (Path(caches.primary.path) / FOLDER).exists()


def test_a_move_takes_the_folder_from_a_night_that_reads_it_for_another_row(model, caches, settings) -> None:
    twin = services.register(services.Wish("twin", REPO, cache_location="primary")).model
    settings.TRANSFER_RATE_LIMIT_BYTES, settings.JOBS_PER_DRIVE_PAIR = SLOW, 2
    job = next(job for job in checkups.scrub(budget_bytes=NIGHT) if job.model == twin)
    Job.objects.filter(model=model, kind="verify").delete()
    with running(job):
        wait_for(lambda: fresh(job).bytes_done)
        settings.TRANSFER_RATE_LIMIT_BYTES = None
        verify = checkups.request_verify(model)  # both read: they get along
        assert fresh(job).state == "running"
        assert run(verify).state == "done" and fresh(job).state == "running"
        moves.request_move(model, cache_location="secondary")
        assert fresh(job).state == "cancelled"
    assert set(ModelRegistry.objects.values_list("status", flat=True)) == {"moving"}


def test_a_removal_waits_for_the_reader_alone_and_goes(api, model, nightly, caches) -> None:
    asked = time.monotonic()
    answer = api.delete(f"/api/models/{NAME}?files=trash")
    assert answer.status_code == 200, answer.json()
    assert time.monotonic() - asked < 10
    assert not ModelRegistry.objects.exists() and not (Path(caches.primary.path) / FOLDER).exists()
    wait_for(lambda: not readers())
    assert not Job.objects.open().exists()


def test_a_removal_of_what_is_loaded_is_refused_as_ever_and_the_night_is_over_all_the_same(model, nightly) -> None:
    with locks.shared(services.home_of(model)), pytest.raises(RepoBusy):
        removal.remove(model)
    assert fresh(nightly).state == "cancelled" and fresh(model).status == "ready"


def test_without_a_night_a_removal_of_what_is_loaded_is_refused_at_once(model) -> None:
    with locks.shared(services.home_of(model)), pytest.raises(RepoBusy):
        asked = time.monotonic()
        removal.remove(model)
    assert time.monotonic() - asked < 3


@pytest.mark.parametrize("ask", [checkups.request_repair, services.forget], ids=["repair", "forget"])
def test_other_work_need_not_wait_for_the_night_either(nightly, model, ask: Callable[[ModelRegistry], object]) -> None:
    ask(model)
    assert fresh(nightly).state == "cancelled" and ended_after(time.monotonic()) < 6


def test_a_download_works_beside_a_reader_that_goes(nightly, model, hub, hub_repos) -> None:
    write_hub_repo(hub_repos, REPO, files=FILES)
    job = run(services.request_download(model))
    assert (fresh(nightly).state, job.state, fresh(model).status) == ("cancelled", "done", "ready"), job.error_message


def test_a_plan_does_not_end_a_night(model, nightly) -> None:
    plan = moves.plan_move(model, cache_location="secondary")
    moves.refuse_what_cannot_be(model, plan)
    assert fresh(nightly).state == "running"


def test_what_is_refused_ends_no_night(model, nightly) -> None:
    there = ModelRegistry.objects.create(model_name="there", hf_path=REPO, cache_location="secondary")
    Job.objects.create(kind="download", model=there, target=services.cache_of(there))
    with pytest.raises(JobOpen, match="shares its files with there"):
        moves.request_move(model, cache_location="secondary")
    assert fresh(nightly).state == "running"


def test_nights_push_nobody_aside(model, nightly) -> None:
    assert checkups.scrub(budget_bytes=NIGHT) == []
    assert fresh(nightly).state == "running"
    checkups.request_verify(model)
    open_job = Job.objects.open().get()
    assert checkups.scrub(budget_bytes=NIGHT) == []
    assert Job.objects.open().get() == open_job and "budget_bytes" not in open_job.options


def test_what_a_night_found_that_made_room_meanwhile_is_not_written_down(model, caches) -> None:
    """It had read all, and said so; then, before it wrote, somebody began to move the model."""
    damage(caches)
    (job,) = checkups.scrub(budget_bytes=NIGHT)

    class Meddling(jobs.Reporter):
        def __call__(self, **progress: object) -> None:
            super().__call__(**progress)
            if progress["stage"] == "verifying" and progress["bytes_done"] == progress["bytes_total"]:
                moves.request_move(model, cache_location="secondary")

    job.claim()
    with pytest.raises(Cancelled):
        checkups.verify(job, report=Meddling(job))
    assert (fresh(model).status, fresh(model).damaged, fresh(job).state) == ("moving", [], "cancelled")


def damage(caches) -> None:
    (path,) = (Path(caches.primary.path) / FOLDER / "snapshots").glob("*/model.safetensors")
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.resolve().write_bytes(content)


def test_a_night_that_waits_for_its_worker_makes_room_too(model) -> None:
    (job,) = checkups.scrub(budget_bytes=NIGHT)
    checkups.request_verify(model)
    assert fresh(job).state == "cancelled" and jobs.run_job(job.pk) == "duplicate"
    measure_caches()
    assert fresh(model).status == "ready"
