"""Models that already lie in a cache join the registry where they are; rows follow what scans see."""

import subprocess
from pathlib import Path

import pytest
from django.db import connection

from cachemgr.models import Cache
from cachemgr.monitor import measure_caches
from registry.errors import ModelNotDownloaded
from registry.locating import locate
from registry.models import ModelRegistry
from tests.factories import loadable_files

pytestmark = pytest.mark.django_db


def names() -> dict[str, str]:
    return dict(ModelRegistry.objects.values_list("model_name", "cache_location"))


def test_models_in_both_caches_become_ready_rows_and_nothing_is_moved(caches, make_cached_repo) -> None:
    first = make_cached_repo(Path(caches.primary.path), "org/Qwen2.5-0.5B", files=loadable_files())
    second = make_cached_repo(Path(caches.secondary.path), "gpt2", files=loadable_files())
    before = sorted(str(path) for repo in (first, second) for path in repo.rglob("*"))
    measure_caches()
    assert names() == {"Qwen2.5-0.5B": "primary", "gpt2": "secondary"}
    assert set(ModelRegistry.objects.values_list("status", flat=True)) == {"ready"}
    assert sorted(str(path) for repo in (first, second) for path in repo.rglob("*")) == before
    measure_caches()
    assert ModelRegistry.objects.count() == 2


def test_a_taken_name_gets_its_org_and_then_a_number(caches, make_cached_repo) -> None:
    ModelRegistry.objects.create(model_name="b-m", hf_path="other/repo")
    for org in ("a", "b"):
        make_cached_repo(Path(caches.primary.path), f"{org}/m", files=loadable_files())
    measure_caches()
    assert sorted(names()) == ["b-m", "b-m-2", "m"]


def test_a_copy_by_hand_is_a_spare_and_no_second_model(caches, make_cached_repo, caplog) -> None:
    repo = make_cached_repo(Path(caches.primary.path), "org/m", files=loadable_files())
    measure_caches()
    subprocess.run(["cp", "-r", repo, caches.secondary.path], check=True)
    with caplog.at_level("INFO", "registry.adoption"):
        measure_caches()
        measure_caches()
    assert names() == {"m": "primary"}
    assert sum("is a spare copy: the model m" in message for message in caplog.messages) == 1
    away = Path(caches.primary.path).rename(caches.primary.path + "-away")
    measure_caches()
    assert ModelRegistry.objects.get().status == "missing"
    away.rename(caches.primary.path)
    measure_caches()
    assert names() == {"m": "primary"} and ModelRegistry.objects.get().status == "ready"


def test_the_same_repo_in_both_caches_at_first_start_is_one_model_in_the_fast_one(caches, make_cached_repo) -> None:
    for cache in (caches.secondary, caches.primary):
        make_cached_repo(Path(cache.path), "org/m", files=loadable_files())
    measure_caches()
    assert names() == {"m": "primary"}


def test_a_model_that_was_only_registered_hides_no_copy(caches, make_cached_repo) -> None:
    ModelRegistry.objects.create(model_name="wish", hf_path="org/m", cache_location="primary")
    make_cached_repo(Path(caches.secondary.path), "org/m", files=loadable_files())
    measure_caches()
    assert names() == {"wish": "primary", "m": "secondary"}


def test_what_cannot_be_loaded_is_not_adopted(caches, make_cached_repo) -> None:
    primary = Path(caches.primary.path)
    make_cached_repo(primary, "org/pickle", files={"config.json": b"{}", "pytorch_model.bin": b"x"})
    make_cached_repo(primary, "org/half", files={"config.json": b'{"model_type": "llama"}'})
    make_cached_repo(primary, "org/data", files=loadable_files(), repo_type="dataset")
    measure_caches()
    assert names() == {}


def test_a_drive_that_goes_takes_its_models_away_and_brings_them_back(caches, make_cached_repo) -> None:
    make_cached_repo(Path(caches.primary.path), "org/m", files=loadable_files())
    measure_caches()
    away = Path(caches.primary.path).rename(caches.primary.path + "-away")
    measure_caches()
    model = ModelRegistry.objects.get()
    assert model.status == "missing" and caches.primary.path in model.error
    away.rename(caches.primary.path)
    measure_caches()
    model.refresh_from_db()
    assert model.status == "ready" and model.error == ""


def test_files_that_were_removed_by_hand_make_the_model_missing_not_deleted(caches, make_cached_repo) -> None:
    repo = make_cached_repo(Path(caches.primary.path), "org/m", files=loadable_files())
    measure_caches()
    repo.rename(repo.parent / "elsewhere")
    measure_caches()
    assert ModelRegistry.objects.get().status == "missing"


def test_the_users_sql_takes_effect_at_the_next_load(caches, make_cached_repo) -> None:
    make_cached_repo(Path(caches.primary.path), "org/m", files=loadable_files())
    measure_caches()
    copied = make_cached_repo(Path(caches.secondary.path), "org/m", files=loadable_files())
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE modelregistry SET cache_location = 'secondary', cache_path = '/mnt/z/llm-models-cache' "
            "WHERE model_name = 'm'"
        )
    located = locate(ModelRegistry.objects.get(model_name="m"))
    assert located.snapshot_path.is_relative_to(copied)


def test_the_users_sql_may_name_a_custom_path(caches, make_cached_repo, tmp_path) -> None:
    ModelRegistry.objects.create(model_name="m", hf_path="org/m")
    copied = make_cached_repo(tmp_path / "usb", "org/m", files=loadable_files())
    with connection.cursor() as cursor:
        sql = "UPDATE modelregistry SET cache_location = 'custom', cache_path = %s WHERE model_name = 'm'"
        cursor.execute(sql, [str(tmp_path / "usb")])
    model = ModelRegistry.objects.get()
    assert locate(model).snapshot_path.is_relative_to(copied)
    assert Cache.objects.filter(path=str(tmp_path / "usb"), location="custom").exists()
    assert ModelRegistry.objects.get().status == "ready"


def test_a_model_that_is_on_no_drive_says_what_to_do(caches) -> None:
    model = ModelRegistry.objects.create(model_name="m", hf_path="org/m")
    with pytest.raises(ModelNotDownloaded, match="POST /api/models/m/download"):
        locate(model)


def test_a_pinned_commit_is_loaded_while_it_is_there(caches, make_cached_repo) -> None:
    primary = Path(caches.primary.path)
    make_cached_repo(primary, "org/m", files=loadable_files(), commit="a" * 40)
    measure_caches()
    make_cached_repo(primary, "org/m", files=loadable_files(), commit="b" * 40)
    assert locate(ModelRegistry.objects.get()).snapshot_path.name == "a" * 40
