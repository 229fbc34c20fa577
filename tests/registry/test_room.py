"""Which models could make room, what is offered about them, and when a promise of space is over."""

from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from cachemgr.models import Cache, Reservation
from cachemgr.monitor import measure_caches
from cachemgr.room import candidates_in
from registry.models import Job, ModelRegistry
from tests.factories import loadable_files, make_cached_repo

pytestmark = pytest.mark.django_db
MB = 10**6


def shelve(
    cache: Cache, name: str, size_mb: int, *, used_days_ago: int | None = None, **columns: object
) -> ModelRegistry:
    """A ready model of that size. Its weights are one hole: usage is what files say."""
    repo = make_cached_repo(Path(cache.path), f"org/{name}", files=loadable_files(weights=10))
    weights = next(path for path in (repo / "blobs").iterdir() if path.stat().st_size == 10)
    with weights.open("r+b") as file:
        file.truncate(size_mb * MB)
    used_at = None if used_days_ago is None else timezone.now() - timedelta(days=used_days_ago)
    return ModelRegistry.objects.create(
        model_name=name,
        hf_path=f"org/{name}",
        cache_location=cache.location,
        status="ready",
        **{"last_used_at": used_at} | columns,
    )


@pytest.fixture
def shelf(caches) -> list[str]:
    """900 MB of models in a cache of 1 GB."""
    shelve(caches.primary, "daily", 300, used_days_ago=0)
    shelve(caches.primary, "yearly", 200, used_days_ago=400)
    shelve(caches.primary, "never", 100)
    shelve(caches.primary, "kept", 300, pinned=True)
    measure_caches()
    return ["daily", "never", "yearly"]


def test_only_ready_models_that_nobody_holds_may_leave(caches, shelf: list[str]) -> None:
    found = candidates_in(caches.primary)
    assert sorted(each.name for each in found) == shelf
    assert {each.name: each.size_bytes // MB for each in found} == {"daily": 300, "yearly": 200, "never": 100}
    Job.objects.create(kind="download", model=ModelRegistry.objects.get(model_name="daily"))
    ModelRegistry.objects.filter(model_name="never").update(status="missing")
    assert [each.name for each in candidates_in(caches.primary)] == ["yearly"]
    assert candidates_in(caches.secondary) == []


def test_a_folder_of_several_models_counts_once_and_stays_while_one_of_them_is_pinned(caches, shelf) -> None:
    other = ModelRegistry.objects.create(
        model_name="alias", hf_path="org/yearly", cache_location="primary", status="ready", last_used_at=timezone.now()
    )
    found = {each.name: each for each in candidates_in(caches.primary)}
    assert "yearly" not in found and found["alias"].size_bytes // MB == 200
    assert found["alias"].last_used_at == other.last_used_at
    ModelRegistry.objects.filter(pk=other.pk).update(pinned=True)
    assert {each.name for each in candidates_in(caches.primary)} == {"daily", "never"}


def refuse(api, **changes: object) -> dict:
    body = {"model_name": "m", "hf_path": "org/m", "cache_location": "primary", "estimated_size_mb": 350} | changes
    answer = api.post("/api/models", body, format="json")
    assert answer.status_code == 507, answer.json()
    return answer.json()["error"]


def test_a_refusal_names_the_least_recently_used_models_that_would_make_room(api, caches, shelf) -> None:
    error = refuse(api)
    leaving = error["details"]["would_make_room"]
    assert [(each["name"], each["cache_location"], each["last_used_at"] is None) for each in leaving] == [
        ("never", "primary", True),
        ("yearly", "primary", False),
    ]
    assert [each["size_gb"] for each in leaving] == [0.1, 0.2]
    ways = {way["action"]: way for way in error["details"]["actions"]}
    assert list(ways) == ["choose_cache", "move", "raise_limit", "remove"]
    assert ways["move"]["models"] == ["never", "yearly"] and ways["move"]["cache_location"] == "secondary"
    assert ways["move"]["sentence"] == "Move never and yearly to the secondary cache: that frees 300 MB."
    assert ways["remove"]["sentence"] in error["message"]


def test_when_they_have_left_it_fits(api, caches, shelf, make_cached_repo) -> None:
    for each in refuse(api)["details"]["would_make_room"]:
        for blob in Path(caches.primary.path, f"models--org--{each['name']}", "blobs").iterdir():
            blob.unlink()
    measure_caches()
    assert (
        api.post(
            "/api/models",
            {"model_name": "m", "hf_path": "org/m", "cache_location": "primary", "estimated_size_mb": 350},
            format="json",
        ).status_code
        == 201
    )


def test_where_all_that_may_leave_is_too_little_nobody_is_named(api, caches, shelf, settings) -> None:
    settings.DISK_RESERVE_BYTES = -(10**10)  # whatever the disk of this machine
    error = refuse(api, estimated_size_mb=5000)
    assert error["details"]["would_make_room"] == []
    assert [way["action"] for way in error["details"]["actions"]] == ["choose_cache", "raise_limit", "free_space"]


def test_where_the_shared_disk_binds_models_of_the_other_cache_may_leave_but_not_to_it(
    api, caches, shelf, settings
) -> None:
    free = measure_caches()[0].disk_free_bytes
    settings.DISK_RESERVE_BYTES = free - 100 * MB  # room for 100 MB, more or less
    leaving = refuse(api, cache_location="secondary", estimated_size_mb=250)["details"]
    assert leaving["limiting_factor"] == "disk"
    assert [each["cache_location"] for each in leaving["would_make_room"]][:1] == ["primary"]
    assert "move" not in [way["action"] for way in leaving["actions"]]


def test_check_and_recommend_name_them_too(api, caches, shelf) -> None:
    asked = {"cache_location": "primary", "required_space_mb": 350}
    verdict = api.post("/api/cache/check", asked, format="json").json()
    assert [each["name"] for each in verdict["would_make_room"]] == ["never", "yearly"]
    Cache.objects.filter(pk=caches.secondary.pk).update(limit_bytes=100 * MB)
    advice = api.get("/api/cache/recommend?estimated_size_mb=350").json()
    assert advice["recommended_cache"] is None
    assert advice["reason"].endswith("It would if never and yearly left the primary cache.")


# The end of a promise


def test_a_promise_ends_with_a_row_that_sql_removed(api, caches) -> None:
    for name in ("a", "b"):
        body = {"model_name": name, "hf_path": f"org/{name}", "cache_location": "primary", "estimated_size_mb": 100}
        api.post("/api/models", body, format="json")
    Reservation.objects.create(
        cache=caches.primary, owner="somebody else", folder="f", total_bytes=1, remaining_bytes=1
    )
    ModelRegistry.objects.filter(model_name="a").delete()
    measure_caches()
    kept = ModelRegistry.objects.get(model_name="b").owner_key
    assert set(Reservation.objects.values_list("owner", flat=True)) == {kept, "somebody else"}


def test_a_promise_ends_when_the_model_is_ready_however_it_became_so(api, caches) -> None:
    body = {"model_name": "m", "hf_path": "org/m", "cache_location": "primary", "estimated_size_mb": 100}
    api.post("/api/models", body, format="json")
    model = ModelRegistry.objects.get()
    job = Job.objects.create(kind="download", model=model)
    ModelRegistry.objects.update(status="ready")
    make_cached_repo(Path(caches.primary.path), "org/m", files=loadable_files())
    ModelRegistry.objects.update(revision="a" * 40)
    measure_caches()
    assert Reservation.objects.exists()  # its download may still want the rest
    Job.objects.filter(pk=job.pk).update(state="done")
    measure_caches()
    assert not Reservation.objects.exists()
