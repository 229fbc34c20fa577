"""A model before it is registered: its size, what of it lies on which drive, and where the rest would fit."""

import hashlib
from pathlib import Path

import pytest

from cachemgr.models import Cache, Reservation
from cachemgr.monitor import measure_caches
from cachemgr.report import FileReport
from registry.hub import HubFile, HubSnapshot
from registry.models import ModelRegistry
from registry.placing import Need, still_needed
from tests.factories import loadable_files, make_cached_repo, write_hub_repo

pytestmark = pytest.mark.django_db
COMMIT, OTHER = "a" * 40, "b" * 40
SNAPSHOT = HubSnapshot(
    "org/m",
    COMMIT,
    (
        HubFile("model.safetensors", 1000, "c" * 64),
        HubFile("config.json", 10, "d" * 40),
        HubFile("copy_of_config.json", 10, "d" * 40),
    ),
)


@pytest.mark.parametrize(
    ("lying", "need"),
    [
        ([], Need(1010, 2, 0, 0)),
        ([FileReport(OTHER, "weights", 1000, "c" * 64)], Need(10, 1, 1000, 1)),
        ([FileReport(OTHER, "model.safetensors", 999, "c" * 64)], Need(1010, 2, 0, 0)),
        ([FileReport(OTHER, "model.safetensors", 1000, "e" * 64)], Need(1010, 2, 0, 0)),
        ([FileReport(COMMIT, "model.safetensors", 1000, "")], Need(10, 1, 1000, 1)),
        ([FileReport(OTHER, "model.safetensors", 1000, "")], Need(1010, 2, 0, 0)),
        (
            [FileReport(COMMIT, "config.json", 10, "d" * 40), FileReport(OTHER, "m", 1000, "c" * 64)],
            Need(0, 0, 1010, 2),
        ),
    ],
)
def test_what_lies_there_whole_is_not_needed_again(lying: list[FileReport], need: Need) -> None:
    assert still_needed(SNAPSHOT, lying=lying) == need


def estimate(api, **query: str) -> dict:
    answer = api.get("/api/models/estimate", {"hf_path": "org/m"} | query)
    assert answer.status_code == 200, answer.json()
    return answer.json()


@pytest.fixture
def hub_files(hub, hub_repos) -> dict[str, bytes]:
    files = loadable_files(weights=3_000_000)
    write_hub_repo(hub_repos, "org/m", files=files | {"pytorch_model.bin": b"x" * 10**6, "model.py": b"import os"})
    return files


def test_the_hubs_list_is_counted_as_it_would_be_taken(api, caches, hub_files) -> None:
    found = estimate(api)
    size_bytes = sum(map(len, hub_files.values()))
    assert (found["size_bytes"], found["size_mb"], found["size_source"]) == (size_bytes, 3.0, "hub")
    assert {each["name"] for each in found["files"]} == set(hub_files) and found["file_count"] == 2
    assert len(found["revision"]) == 40 and found["warnings"] == []
    assert found["recommended_cache"] == "primary" and "fit the primary cache" in found["reason"]
    assert [(each["cache_location"], each["present_bytes"], each["missing_bytes"]) for each in found["places"]] == [
        ("primary", 0, size_bytes),
        ("secondary", 0, size_bytes),
    ]
    assert all(each["verdict"]["sufficient"] for each in found["places"])


def test_blobs_of_an_older_revision_are_not_needed_again_on_that_drive_alone(api, caches, hub_files) -> None:
    old = {"model.safetensors": hub_files["model.safetensors"], "old.json": b"{}"}
    make_cached_repo(Path(caches.secondary.path), "org/m", files=old, commit=OTHER)
    measure_caches()
    primary, secondary = estimate(api)["places"]
    assert (primary["present_bytes"], primary["present_files"]) == (0, 0)
    assert (secondary["present_bytes"], secondary["present_files"]) == (3_000_000, 1)
    assert secondary["missing_bytes"] == len(hub_files["config.json"])
    assert (primary["verdict"]["required_space_mb"], secondary["verdict"]["required_space_mb"]) == (3.0, 0.0)
    body = {"model_name": "m", "hf_path": "org/m", "cache_location": "secondary"}
    answer = api.post("/api/models", body, format="json")
    assert answer.json()["size_bytes"] == 3_000_000 + len(hub_files["config.json"])
    assert Reservation.objects.get().total_bytes == len(hub_files["config.json"])


def test_a_blob_counts_without_a_snapshot_but_not_when_it_is_cut_off(api, caches, hub_files) -> None:
    repo = make_cached_repo(Path(caches.primary.path), "org/m", files=hub_files, commit=OTHER)
    digest = hashlib.sha256(hub_files["model.safetensors"]).hexdigest()
    (repo / "blobs" / digest).write_bytes(hub_files["model.safetensors"][:-1])
    (repo / "snapshots" / OTHER / "config.json").unlink()
    measure_caches()
    place = estimate(api)["places"][0]
    assert (place["present_bytes"], place["present_files"]) == (len(hub_files["config.json"]), 1)
    assert place["missing_bytes"] == 3_000_000


def test_what_is_there_in_part_may_fit_where_the_whole_would_not(api, caches, hub_files) -> None:
    old = {"model.safetensors": hub_files["model.safetensors"]}
    make_cached_repo(Path(caches.primary.path), "org/m", files=old, commit=OTHER)
    for cache in (caches.primary, caches.secondary):
        Cache.objects.filter(pk=cache.pk).update(limit_bytes=3_100_000 if cache == caches.primary else 1_000_000)
    measure_caches()
    found = estimate(api)
    assert found["recommended_cache"] == "primary"
    answer = api.post("/api/models", {"model_name": "m", "hf_path": "org/m"}, format="json")
    assert answer.status_code == 201 and answer.json()["cache_location"] == "primary"


def test_a_model_that_lies_there_whole_needs_nothing_also_in_a_custom_cache(
    api, caches, hub_files, tmp_path: Path
) -> None:
    (tmp_path / "usb").mkdir()
    Cache.objects.create(location="custom", path=str(tmp_path / "usb"))
    make_cached_repo(tmp_path / "usb", "org/m", files=hub_files, commit=OTHER)
    measure_caches()
    places = estimate(api)["places"]
    assert [each["cache_location"] for each in places] == ["primary", "secondary", "custom"]
    assert places[2]["cache_path"] == str(tmp_path / "usb") and places[2]["missing_bytes"] == 0
    assert places[2]["present_bytes"] == sum(map(len, hub_files.values()))


def test_without_a_hub_the_name_tells_and_the_answer_says_so(api, caches) -> None:
    found = estimate(api, hf_path="org/model-0.3B-4bit")
    assert (found["size_source"], found["size_mb"], found["files"], found["file_count"]) == ("name", 150, [], None)
    assert [each["code"] for each in found["warnings"]] == ["hub_unreachable", "size_guessed"]
    assert found["recommended_cache"] == "primary" and found["revision"] is None


def test_a_size_that_nobody_can_tell_is_said_to_be_unknown(api, caches) -> None:
    found = estimate(api, hf_path="org/model")
    assert (found["size_source"], found["size_bytes"]) == ("unknown", 0)
    assert [each["code"] for each in found["warnings"]] == ["hub_unreachable", "size_unknown"]


def test_the_exact_revision_is_asked_for(api, caches, hub, hub_files) -> None:
    commit = estimate(api)["revision"]
    assert estimate(api, revision=commit)["revision"] == commit
    assert any(path.endswith(f"/revision/{commit}") for path in hub.requests)
    assert [each["code"] for each in estimate(api, revision="v9")["warnings"]] == [
        "hub_revision_not_found",
        "size_unknown",
    ]


@pytest.mark.parametrize(
    "query", [{}, {"hf_path": ""}, {"hf_path": "../x"}, {"hf_path": "a/b", "revision": "../x"}, {"hf_path": "x" * 300}]
)
def test_a_question_that_makes_no_sense_is_refused(api, caches, hub, query: dict[str, str]) -> None:
    answer = api.get("/api/models/estimate", query)
    assert answer.status_code == 400 and answer.json()["error"]["message"] and not hub.requests


def test_an_estimate_writes_nothing(api, caches, hub_files) -> None:
    estimate(api)
    assert not ModelRegistry.objects.exists() and not Reservation.objects.exists() and Cache.objects.count() == 2


def test_a_refused_registration_leaves_no_custom_cache_behind(api, caches, tmp_path: Path) -> None:
    (tmp_path / "usb").mkdir()
    body = {"model_name": "m", "hf_path": "org/m", "cache_location": "custom", "cache_path": str(tmp_path / "usb")}
    assert api.post("/api/models", body | {"estimated_size_mb": 10**9}, format="json").status_code == 507
    assert Cache.objects.count() == 2
    assert api.post("/api/models", body | {"estimated_size_mb": 1}, format="json").status_code == 201
    assert Cache.objects.count() == 3
