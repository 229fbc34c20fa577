"""Rows that share a folder share its work and what is known of its bytes."""

from pathlib import Path

import pytest
from django.db import connection

from cachemgr.models import Reservation
from cachemgr.monitor import measure_caches
from registry import checkups, downloads, jobs, moves, services
from registry.errors import JobOpen, NotNow
from registry.locating import locate
from registry.models import Job, ModelRegistry
from tests.factories import loadable_files, write_hub_repo
from tests.registry.downloading import run

pytestmark = pytest.mark.django_db(transaction=True)
REPO, FOLDER = "org/model.v1", "models--org--model.v1"


@pytest.fixture
def model(caches, hub, hub_repos) -> ModelRegistry:
    write_hub_repo(hub_repos, REPO, files=loadable_files(weights=50_000) | {"tokenizer.json": b"{}"})
    model = services.register(services.Wish("m", REPO, cache_location="primary")).model
    run(services.request_download(model))
    model.refresh_from_db()
    return model


@pytest.fixture
def twin(model) -> ModelRegistry:
    twin = services.register(services.Wish("twin", REPO, cache_location="primary")).model
    assert twin.status == "ready"
    return twin


def sql(model: ModelRegistry, location: str, path: str | None = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE modelregistry SET cache_location = %s, cache_path = %s WHERE id = %s", [location, path, model.pk]
        )


def damage(caches) -> None:
    (path,) = (Path(caches.primary.path) / FOLDER / "snapshots").glob("*/model.safetensors")
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.resolve().write_bytes(content)
    assert run(checkups.request_verify(ModelRegistry.objects.get(model_name="m"))).error_code == "hash_mismatch"


@pytest.mark.parametrize(
    "request_work",
    [services.request_download, checkups.request_verify, checkups.request_repair],
    ids=lambda f: f.__name__,
)
def test_while_a_model_moves_nobody_works_on_a_row_with_the_same_files(model, twin, request_work) -> None:
    moves.request_move(model, cache_location="secondary")
    ModelRegistry.objects.filter(pk=twin.pk).update(status="ready")
    twin.refresh_from_db()
    with pytest.raises(JobOpen, match="twin shares its files with m, which has unfinished work \\(move\\)"):
        request_work(twin)
    assert Job.objects.open().count() == 1


def test_while_a_model_moves_nothing_is_downloaded_into_the_folder_where_it_goes(model) -> None:
    there = ModelRegistry.objects.create(model_name="there", hf_path=REPO, cache_location="secondary")
    moves.request_move(model, cache_location="secondary")
    with pytest.raises(JobOpen, match="there shares its files with m"):
        services.request_download(there)


def test_nobody_moves_a_folder_in_which_another_row_has_work(model, twin) -> None:
    services.request_download(twin)
    checkups.request_verify(model)  # both read and add: they get along
    Job.objects.filter(model=model, kind="verify").delete()
    with pytest.raises(JobOpen, match=r"m shares its files with twin, which has unfinished work \(download\)"):
        moves.request_move(model, cache_location="secondary")


def test_a_name_for_files_that_are_about_to_go_is_not_ready(model, caches) -> None:
    job = moves.request_move(model, cache_location="secondary")
    ModelRegistry.objects.update(cache_location="secondary")
    Job.objects.filter(pk=job.pk).update(committed=True, state="running")
    late = services.register(services.Wish("late", REPO, cache_location="primary")).model
    assert late.status == "registered" and Reservation.objects.get(owner=late.owner_key).remaining_bytes > 50_000


def test_a_model_whose_row_points_elsewhere_by_now_has_its_work_all_the_same(model) -> None:
    job = services.request_download(model)
    sql(model, "secondary")
    model.refresh_from_db()
    assert services.request_download(model).pk == job.pk
    with pytest.raises(JobOpen, match=r"m has unfinished work \(download\)"):
        checkups.request_verify(model)


def test_a_download_says_nothing_of_a_row_that_was_given_another_place_meanwhile(model, caches) -> None:
    job = services.request_download(model)
    commit = model.revision
    ModelRegistry.objects.update(status="downloading", revision="")

    class Meddling(jobs.Reporter):
        def __call__(self, **progress: object) -> None:
            if progress["stage"] != "planning":
                sql(model, "secondary")
            super().__call__(**progress)

    job.claim()
    downloads.download(job, report=Meddling(job))
    model.refresh_from_db()
    assert (model.cache_location, model.status, model.revision) == ("secondary", "missing", "")
    job.close(Job.State.DONE)
    Job.objects.all().delete()
    measure_caches()
    model.refresh_from_db()
    assert (model.cache_location, model.status, model.revision) == ("primary", "ready", commit)


def test_a_download_over_bad_bytes_ends_the_damage_for_all_rows_of_that_commit(model, twin, caches) -> None:
    damage(caches)
    twin.refresh_from_db()
    assert twin.damaged and twin.status == "failed"
    assert run(services.request_download(model)).state == "done"
    for row in ModelRegistry.objects.all():
        assert (row.status, row.damaged, row.error) == ("ready", [], "")
        assert locate(row).model_name == row.model_name


def test_a_cancelled_download_does_not_make_bad_bytes_good(model, caches) -> None:
    damage(caches)
    model.refresh_from_db()
    job = services.request_download(model)
    jobs.cancel_job(job)
    for _ in range(2):
        model.refresh_from_db()
        assert (model.status, job.state) == ("failed", "cancelled") and "model.safetensors" in model.error
        measure_caches(full=True)
    assert run(checkups.request_repair(model)).model.status == "ready"


def test_a_damaged_model_is_never_ready_by_a_scan(model, caches) -> None:
    damage(caches)
    ModelRegistry.objects.update(status="registered", error="")
    measure_caches(full=True)
    model.refresh_from_db()
    assert model.status == "failed" and "/repair" in model.error


def test_bad_bytes_are_those_of_a_row_whose_path_sql_filled_too(model, twin, caches) -> None:
    sql(twin, "primary", "/mnt/z/llm-models-cache")
    damage(caches)
    twin.refresh_from_db()
    assert twin.status == "failed" and twin.damaged


def test_a_model_that_is_repaired_keeps_its_place_until_then(model, caches) -> None:
    damage(caches)
    ModelRegistry.objects.update(damaged=[])
    model.refresh_from_db()
    checkups.request_repair(model)
    with pytest.raises(JobOpen):
        services.relocate(model, cache_location="secondary", cache_path=None)
    model.refresh_from_db()
    assert model.cache_location == "primary"


def test_a_place_is_not_changed_by_who_read_the_row_before_others_changed_it(caches) -> None:
    model = ModelRegistry.objects.create(model_name="m", hf_path=REPO)
    ModelRegistry.objects.update(status="downloading")
    with pytest.raises(NotNow, match="changed while"):
        services.relocate(model, cache_location="secondary", cache_path=None)
    assert ModelRegistry.objects.get().cache_location == "primary"
