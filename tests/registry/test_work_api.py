"""The doors to work on files: REST and shell. What the work does is in test_moves.py and test_checkups.py."""

import json
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from cachemgr.monitor import measure_caches
from registry.models import Job, ModelRegistry
from tests.factories import age_tree, loadable_files

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def model(caches, make_cached_repo) -> ModelRegistry:
    age_tree(make_cached_repo(Path(caches.primary.path), "org/m", files=loadable_files(weights=5000)))
    measure_caches()
    return ModelRegistry.objects.get()


def test_a_move_is_accepted_with_its_job(api, model) -> None:
    answer = api.post("/api/models/m/move", {"cache_location": "secondary"}, format="json")
    assert answer.status_code == 202, answer.json()
    job = answer.json()
    assert (job["kind"], job["state"], job["source"]["cache_location"]) == ("move", "queued", "primary")
    assert api.get("/api/models/m").json()["status"] == "moving"


def test_a_dry_run_says_what_would_be_done(api, model, caches) -> None:
    answer = api.post("/api/models/m/move?dry_run=true", {"cache_location": "secondary"}, format="json")
    plan = answer.json()
    assert answer.status_code == 200 and not Job.objects.exists()
    assert (plan["models"], plan["method"], plan["bytes_to_write"], plan["seconds"]) == (["m"], "link", 0, 0.0)
    assert plan["target"]["cache_path"] == caches.secondary.path and plan["verdict"]["sufficient"]


def test_a_dry_run_into_a_new_folder_leaves_no_trace(api, model, tmp_path) -> None:
    folder = tmp_path / "third"
    folder.mkdir()
    body = {"cache_location": "custom", "cache_path": str(folder), "dry_run": True}
    plan = api.post("/api/models/m/move", body, format="json").json()
    assert plan["size_bytes"] > 5000 and "no cache yet" in plan["problems"][0]
    assert list(folder.iterdir()) == []
    assert api.post("/api/models/m/move", body | {"dry_run": False}, format="json").status_code == 202


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "required"),
        ({"cache_location": "attic"}, 400, "invalid_choice"),
        ({"cache_location": "custom"}, 400, "required"),
        ({"cache_location": "secondary", "cache_path": "/x"}, 400, "path_without_custom"),
        ({"cache_location": "primary"}, 409, "not_now"),
    ],
)
def test_a_move_to_nowhere_is_refused(api, model, body, status, code) -> None:
    answer = api.post("/api/models/m/move", body, format="json")
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert not Job.objects.exists()


def test_another_location_by_patch_is_a_move_never_a_silent_edit(api, model) -> None:
    answer = api.patch("/api/models/m", {"cache_location": "secondary", "pinned": True}, format="json").json()
    assert (answer["cache_location"], answer["status"], answer["pinned"]) == ("primary", "moving", True)
    assert answer["job"]["kind"] == "move"
    again = api.patch("/api/models/m", {"cache_location": "primary"}, format="json").json()
    assert again["job"] is None


def test_verify_and_repair_are_accepted_once(api, model) -> None:
    assert api.post("/api/models/m/verify").json()["kind"] == "verify"
    refused = api.post("/api/models/m/repair")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "job_open")
    Job.objects.update(state="done")
    assert api.post("/api/models/m/repair").status_code == 202


def test_what_was_never_downloaded_cannot_be_verified_repaired_or_moved(api, caches) -> None:
    body = {"model_name": "new", "hf_path": "org/new", "cache_location": "primary", "estimated_size_mb": 1}
    assert api.post("/api/models", body, format="json").status_code == 201
    for work in ("verify", "repair", "move"):
        answer = api.post(f"/api/models/new/{work}", {"cache_location": "secondary"}, format="json")
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_now"), answer.json()


def shell(*words: str) -> str:
    output = StringIO()
    call_command(*words, stdout=output)
    return output.getvalue()


def test_the_shell_plans_and_moves(model, caches) -> None:
    plan = shell("move", "m", "secondary", "--dry-run")
    assert f"from {caches.primary.path} to {caches.secondary.path}" in plan and "nothing is copied" in plan
    queued = json.loads(shell("move", "m", "secondary", "--no-wait", "--json"))
    assert queued["kind"] == "move"
    with pytest.raises(CommandError, match="m is moving"):
        call_command("move", "m", "secondary")


def test_the_shell_does_the_work_itself_where_no_worker_runs(model, caches) -> None:
    assert "The verify of m: done." in shell("verify", "m")
    assert "done." in shell("move", "m", "secondary")
    model.refresh_from_db()
    assert model.cache_location == "secondary" and model.verified_at is not None
