"""Reading models again: bad files are named, refused by engines, and fetched alone."""

from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from cachemgr.monitor import measure_caches
from registry import checkups, services
from registry.errors import ModelDamaged
from registry.locating import locate
from registry.models import Job, ModelRegistry
from tests.factories import age_tree, loadable_files, write_hub_repo
from tests.registry.downloading import run

pytestmark = pytest.mark.django_db(transaction=True)
REPO, FOLDER = "org/model.v1", "models--org--model.v1"


@pytest.fixture
def model(caches, hub, hub_repos) -> ModelRegistry:
    write_hub_repo(hub_repos, REPO, files=loadable_files(weights=500_000) | {"tokenizer.json": b"{}"})
    model = services.register(services.Wish("m", REPO, cache_location="primary")).model
    run(services.request_download(model))
    model.refresh_from_db()
    assert model.status == "ready", model.error
    return model


def blob_of(caches, name: str) -> Path:
    (path,) = (Path(caches.primary.path) / FOLDER / "snapshots").glob(f"*/{name}")
    return path.resolve()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_whole_files_are_verified_and_the_moment_is_kept(model, caches) -> None:
    begun = timezone.now()
    job = run(checkups.request_verify(model))
    assert job.state == "done", job.error_message
    assert job.model.verified_at >= begun and job.bytes_done == job.bytes_total


def test_a_flipped_byte_is_named_refused_and_that_file_alone_is_fetched_again(model, caches, hub) -> None:
    flip(blob_of(caches, "model.safetensors"))
    job = run(checkups.request_verify(model))
    assert (job.state, job.error_code, job.model.status) == ("failed", "hash_mismatch", "failed")
    assert "model.safetensors" in job.error_message and "/repair" in job.model.error
    with pytest.raises(ModelDamaged, match=r"model\.safetensors"):
        locate(job.model)
    measure_caches(full=True)  # a scan sees whole sizes, and must not call it ready
    job.model.refresh_from_db()
    assert job.model.status == "failed"
    before = {name: hub.downloads_of(name) for name in ("model.safetensors", "config.json", "tokenizer.json")}
    repaired = run(checkups.request_repair(job.model))
    assert (repaired.state, repaired.model.status, repaired.model.damaged) == ("done", "ready", []), (
        repaired.error_message
    )
    after = {name: hub.downloads_of(name) for name in before}
    assert after == before | {"model.safetensors": before["model.safetensors"] + 1}
    assert run(checkups.request_verify(repaired.model)).state == "done"
    assert locate(repaired.model).model_name == "m"


def test_a_missing_file_is_named(model, caches) -> None:
    blob_of(caches, "tokenizer.json").unlink()
    job = run(checkups.request_verify(model))
    assert job.state == "failed" and "tokenizer.json (missing)" in job.error_message


def test_repair_fetches_the_commit_that_the_model_has_not_a_newer_one(model, caches, hub, hub_repos) -> None:
    commit = model.revision
    flip(blob_of(caches, "tokenizer.json"))
    run(checkups.request_verify(model))
    write_hub_repo(hub_repos, REPO, files=loadable_files(weights=600_000) | {"tokenizer.json": b"{}"})
    job = run(checkups.request_repair(ModelRegistry.objects.get()))
    assert job.model.revision == commit or job.state == "failed"


def test_a_night_reads_whoever_was_read_longest_ago_within_its_budget(model, caches, make_cached_repo) -> None:
    for name in ("org/b", "org/c"):
        age_tree(make_cached_repo(Path(caches.primary.path), name, files=loadable_files(weights=400_000)))
    measure_caches()
    ModelRegistry.objects.filter(model_name="m").update(read_at=timezone.now())
    ModelRegistry.objects.filter(model_name="b").update(read_at=timezone.now() - timedelta(days=9))
    assert [job.model.model_name for job in checkups.scrub(budget_bytes=500_000)] == ["c", "b"]
    Job.objects.all().delete()
    assert [job.model.model_name for job in checkups.scrub(budget_bytes=100)] == ["c"]


def test_a_night_has_one_budget_however_often_somebody_asks(model, caches, settings) -> None:
    settings.SCRUB_GB_PER_NIGHT = 0.0001
    (job,) = checkups.scrub_tonight()
    assert run(job).state == "done" and checkups.scrub_tonight() == []
    Job.objects.update(created_at=timezone.now() - timedelta(hours=23))
    assert len(checkups.scrub_tonight()) == 1


def test_a_model_larger_than_the_budget_is_read_over_several_nights(model, caches) -> None:
    nights = 0
    ModelRegistry.objects.update(verified_at=None)
    while ModelRegistry.objects.get().verified_at is None and nights < 10:
        (job,) = checkups.scrub(budget_bytes=1000)
        assert run(job).state == "done", job.error_message
        nights += 1
    assert 1 < nights <= 4
