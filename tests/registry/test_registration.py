"""Registering: names, places and space, by the service and by the API."""

import pytest

from cachemgr.models import Cache, Reservation
from cachemgr.monitor import measure_caches
from registry.models import Job, ModelRegistry
from tests.factories import loadable_files, write_hub_repo

pytestmark = pytest.mark.django_db
GB_IN_MB = 1000


def body(**changes: object) -> dict[str, object]:
    return {"model_name": "m", "hf_path": "org/m", "cache_location": "primary", "estimated_size_mb": 100} | changes


def post(api, **changes):
    return api.post("/api/models", body(**changes), format="json")


def test_a_model_that_fits_is_registered_and_its_bytes_are_booked(api, caches) -> None:
    answer = post(api)
    assert answer.status_code == 201, answer.json()
    assert (
        answer.json() | {"model_name": "m", "model_size_mb": 100, "status": "registered", "warnings": []}
        == answer.json()
    )
    assert Reservation.objects.get().remaining_bytes == 100 * 10**6


def test_it_warns_above_the_threshold_and_registers_all_the_same(api, caches) -> None:
    answer = post(api, estimated_size_mb=950)
    assert answer.status_code == 201
    assert [each["code"] for each in answer.json()["warnings"]] == ["space_low"]
    assert "95%" in answer.json()["warnings"][0]["message"]


def test_exactly_at_the_threshold_there_is_no_warning(api, caches) -> None:
    measure_caches()
    used_mb = caches.primary.snapshots.first().used_bytes / 10**6
    assert post(api, estimated_size_mb=900 - used_mb).json()["warnings"] == []


def test_what_does_not_fit_is_refused_with_numbers_and_ways_out(api, caches) -> None:
    measure_caches()
    answer = post(api, estimated_size_mb=2 * GB_IN_MB)
    assert answer.status_code == 507
    error = answer.json()["error"]
    assert error["code"] == "insufficient_space"
    assert error["details"]["needed_mb"] == 2000
    assert error["details"]["limiting_factor"] == "limit"
    assert error["details"]["shortfall_bytes"] == 2 * 10**9 - error["details"]["available_bytes"]
    assert [way["action"] for way in error["details"]["actions"]] == ["choose_cache", "raise_limit", "free_space"]
    assert "2.0 GB do not fit" in error["message"] and "secondary" in error["message"]
    assert not ModelRegistry.objects.exists() and not Reservation.objects.exists()


def test_two_promises_never_both_fit(api, caches) -> None:
    assert post(api, estimated_size_mb=600).status_code == 201
    assert post(api, model_name="m2", hf_path="org/m2", estimated_size_mb=600).status_code == 507


def test_a_drive_that_is_away_registers_with_a_warning(api, caches, tmp_path) -> None:
    (tmp_path / "secondary").rename(tmp_path / "gone")
    Cache.objects.filter(pk=caches.secondary.pk).update(uuid="00000000-0000-0000-0000-000000000000")
    answer = post(api, cache_location="secondary")
    assert answer.status_code == 201
    assert [each["code"] for each in answer.json()["warnings"]] == ["cache_unavailable"]


def test_a_drive_that_is_away_still_refuses_what_its_limit_can_never_hold(api, caches, tmp_path) -> None:
    (tmp_path / "secondary").rename(tmp_path / "gone")
    Cache.objects.filter(pk=caches.secondary.pk).update(uuid="00000000-0000-0000-0000-000000000000")
    assert post(api, cache_location="secondary", estimated_size_mb=20 * GB_IN_MB).status_code == 507


def test_a_custom_path_that_is_not_there_registers_with_a_warning(api, caches, tmp_path) -> None:
    answer = post(api, cache_location="custom", cache_path=str(tmp_path / "usb" / "deep" / "models"))
    assert answer.status_code == 201
    assert [each["code"] for each in answer.json()["warnings"]] == ["cache_unavailable"]
    assert not (tmp_path / "usb").exists()


def test_without_a_hub_the_size_is_guessed_from_the_name(api, caches) -> None:
    answer = post(api, hf_path="org/model-0.3B", estimated_size_mb=None)
    assert answer.json()["model_size_mb"] == 600
    assert [each["code"] for each in answer.json()["warnings"]] == ["hub_unreachable", "size_guessed"]


def test_a_size_that_nobody_can_tell_registers_with_a_warning(api, caches) -> None:
    answer = post(api, hf_path="org/model", estimated_size_mb=None)
    assert answer.status_code == 201 and answer.json()["model_size_mb"] is None
    assert [each["code"] for each in answer.json()["warnings"]] == ["hub_unreachable", "size_unknown"]


def test_with_a_hub_the_exact_size_is_read_from_it(api, caches, hub, hub_repos) -> None:
    files = loadable_files(weights=2_000_000) | {"pytorch_model.bin": b"x" * 10**6, "evil.py": b"import os"}
    write_hub_repo(hub_repos, "org/m", files=files)
    answer = post(api, estimated_size_mb=None)
    assert answer.json()["size_bytes"] == 2_000_000 + len(files["config.json"])
    assert answer.json()["warnings"] == []


def test_a_hub_that_knows_no_such_repo_is_a_warning(api, caches, hub) -> None:
    codes = [each["code"] for each in post(api, hf_path="org/none", estimated_size_mb=None).json()["warnings"]]
    assert codes == ["hub_not_found", "size_unknown"]


def test_without_a_location_the_recommended_one_is_taken(api, caches) -> None:
    assert post(api, cache_location=None, estimated_size_mb=100).json()["cache_location"] == "primary"
    answer = post(api, model_name="large", cache_location=None, estimated_size_mb=5 * GB_IN_MB)
    assert answer.json()["cache_location"] == "secondary"


def test_a_model_whose_files_lie_there_is_ready_at_once_and_books_nothing(
    api, caches, make_cached_repo, tmp_path
) -> None:
    make_cached_repo(tmp_path / "primary", "org/m", files=loadable_files())
    measure_caches()
    ModelRegistry.objects.all().delete()  # it was adopted by the scan
    answer = post(api)
    assert answer.json()["status"] == "ready" and not Reservation.objects.exists()


def test_a_taken_name_is_a_conflict(api, caches) -> None:
    post(api)
    answer = post(api)
    assert answer.status_code == 409 and answer.json()["error"]["code"] == "name_taken"


@pytest.mark.parametrize("name", ["", "-x", ".x", "a b", "a/b", "estimate", "x" * 97, "ü", "a\n", None, 5.5, {}])
def test_a_bad_name_is_refused(api, caches, name) -> None:
    answer = post(api, model_name=name)
    assert answer.status_code == 400
    assert "model_name" in answer.json()["error"]["details"]["fields"]


@pytest.mark.parametrize(
    "hf_path",
    [
        "../../x",
        "/etc",
        "./x",
        "a/b/c",
        "https://h/x",
        "file:///etc",
        "a\\b",
        "a/..",
        "..",
        ".",
        "a--b",
        "a%2e/x",
        "%2e%2e/x",
        "x/y.git",
    ]
    + ["x" * 300, "ab\0", "a\u202eb/c", "\uff21/b", "a b", "", None, 7],
)
def test_a_hostile_repo_id_is_refused_before_anybody_is_asked(api, caches, hub, hf_path) -> None:
    answer = post(api, hf_path=hf_path, estimated_size_mb=None)
    assert answer.status_code == 400
    assert "hf_path" in answer.json()["error"]["details"]["fields"]
    assert not hub.requests


@pytest.mark.parametrize("size", ["nan", "inf", -1, 0, True, "1_0", 10**400, "", [], {}, "1e400", "5 GB"])
def test_a_bad_size_is_refused(api, caches, size) -> None:
    answer = post(api, estimated_size_mb=size)
    assert answer.status_code == 400
    assert "estimated_size_mb" in answer.json()["error"]["details"]["fields"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"cache_location": "attic"}, "cache_location"),
        ({"cache_location": "custom"}, "cache_path"),
        ({"cache_location": "custom", "cache_path": ""}, "cache_path"),
        ({"cache_location": "custom", "cache_path": "relative/x"}, "cache_path"),
        ({"cache_location": "custom", "cache_path": "/etc"}, "cache_path"),
        ({"cache_location": "primary", "cache_path": "/srv/x"}, "cache_path"),
        ({"revision": "../x"}, "revision"),
    ],
)
def test_a_bad_place_is_refused(api, caches, changes, field) -> None:
    answer = post(api, **changes)
    assert answer.status_code == 400, answer.json()
    assert field in answer.json()["error"]["details"]["fields"]


@pytest.mark.parametrize("content", [b"[]", b'"x"', b"3", b"null", b"{", b"\xff"])
def test_a_body_that_is_no_object_is_refused(api, caches, content) -> None:
    answer = api.post("/api/models", content, content_type="application/json")
    assert answer.status_code == 400 and answer.json()["error"]["message"]


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"])
def test_only_json_is_read(api, caches, kind) -> None:
    answer = api.post("/api/models", b'{"model_name": "m"}', content_type=kind)
    assert answer.status_code == 415 and not ModelRegistry.objects.exists()


def test_download_true_queues_a_job_with_the_registration(api, caches, django_capture_on_commit_callbacks) -> None:
    answer = post(api, download=True)
    assert answer.json()["job"]["state"] == "queued"
    assert Job.objects.get().model.model_name == "m"


def test_models_are_a_plain_list_with_a_fixed_number_of_queries(api, caches, django_assert_num_queries) -> None:
    for number in range(20):
        ModelRegistry.objects.create(model_name=f"m{number}", hf_path=f"org/m{number}")
    with django_assert_num_queries(1):
        models = api.get("/api/models").json()
    assert len(models) == 20 and models[0]["cache_path"] == caches.primary.path


def test_a_model_is_found_by_its_repo_while_only_one_has_it(api, caches) -> None:
    post(api)
    assert api.get("/api/models/m").json()["hf_path"] == "org/m"
    assert api.get("/api/models/none").json()["error"]["code"] == "model_not_found"
    assert api.get("/api/models/no%00body").json()["error"]["code"] == "model_not_found"
    assert ModelRegistry.objects.named("org/m").model_name == "m"
    ModelRegistry.objects.create(model_name="m2", hf_path="org/m")
    assert ModelRegistry.objects.named("org/m") is None


def test_the_place_of_a_model_without_files_can_change_and_its_promise_moves_along(api, caches) -> None:
    post(api)
    answer = api.patch("/api/models/m", {"cache_location": "secondary", "pinned": True}, format="json")
    assert answer.json()["cache_path"] == caches.secondary.path and answer.json()["pinned"] is True
    assert Reservation.objects.get().cache == caches.secondary


def test_the_place_of_a_model_whose_files_are_away_is_not_changed_silently(api, caches) -> None:
    ModelRegistry.objects.create(model_name="m", hf_path="org/m", status="missing")
    answer = api.patch("/api/models/m", {"cache_location": "secondary"}, format="json")
    assert answer.status_code == 409 and ModelRegistry.objects.get().cache_location == "primary"


def test_forgetting_a_model_gives_its_promise_back(api, caches) -> None:
    post(api)
    assert api.delete("/api/models/m").status_code == 204
    assert not ModelRegistry.objects.exists() and not Reservation.objects.exists()


def test_forgetting_a_model_with_files_wants_a_word_about_them(api, caches, make_cached_repo, tmp_path) -> None:
    repo = make_cached_repo(tmp_path / "primary", "org/m", files=loadable_files())
    measure_caches()
    assert api.delete("/api/models/m").json()["error"]["code"] == "files_choice_needed"
    assert api.delete("/api/models/m?files=keep").status_code == 204
    assert (repo / "snapshots").is_dir()


def test_the_estimate_says_where_it_comes_from(api, caches, hub, hub_repos) -> None:
    write_hub_repo(hub_repos, "org/m", files=loadable_files(weights=3_000_000))
    answer = api.get("/api/models/estimate?hf_path=org/m").json()
    assert answer["size_source"] == "hub" and answer["recommended_cache"] == "primary" and answer["file_count"] == 2
    assert api.get("/api/models/estimate?hf_path=org/x-0.1B").json()["size_source"] == "name"
    assert api.get("/api/models/estimate?hf_path=../x").status_code == 400
