"""Code of a repo: never, unless a shell allowed it for one commit, and then only these very files."""

import json
import logging
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from registry import checkups, locating, remote_code, services
from registry.models import Job, ModelRegistry
from tests.factories import blob_name, loadable_files, write_hub_repo
from tests.registry.downloading import FOLDER, REPO, publish, run

pytestmark = pytest.mark.django_db(transaction=True)
CODE = b"class Evil: ...\n"
HASH = blob_name("modeling_x.py", CODE)


@pytest.fixture
def files(hub_repos) -> dict[str, bytes]:
    return publish(hub_repos, weights=1000, **{"modeling_x.py": CODE, "tools/convert.py": b"pass\n"})


@pytest.fixture
def model(caches, hub, files) -> ModelRegistry:
    return services.register(services.Wish("m", REPO, cache_location="primary")).model


@pytest.fixture
def commit(hub, model) -> str:
    return hub.repos.find(REPO).commit


def shell(*arguments: str) -> str:
    out = StringIO()
    call_command("allow_remote_code", *arguments, stdout=out)
    return out.getvalue()


def lying(caches, commit: str) -> set[str]:
    snapshot = Path(caches.primary.path) / FOLDER / "snapshots" / commit
    return {str(path.relative_to(snapshot)) for path in snapshot.rglob("*.py")}


def test_without_permission_no_code_is_downloaded_or_handed_to_an_engine(model, commit, caches) -> None:
    assert run(services.request_download(model)).state == "done"
    assert lying(caches, commit) == set()
    assert locating.locate(ModelRegistry.objects.get()).code == ()
    assert remote_code.describe(model) == "None of its repo is run."


def test_what_was_allowed_comes_with_the_next_download_and_goes_to_the_engine(model, commit, caches, caplog) -> None:
    with caplog.at_level(logging.WARNING, "registry.remote_code"):
        said = shell("m", "--commit", commit)
    assert "WARNING" in said and f"{HASH}  modeling_x.py" in said and "manage.py download m" in said
    assert commit in caplog.text
    model.refresh_from_db()
    assert model.wanted_revision == commit and model.remote_code["commit"] == commit
    assert run(services.request_download(model)).state == "done"
    assert lying(caches, commit) == {"modeling_x.py", "tools/convert.py"}
    assert dict(locating.locate(ModelRegistry.objects.get()).code)["modeling_x.py"] == HASH


def test_another_commit_has_no_permission(model, commit, caches, hub, hub_repos) -> None:
    shell("m", "--commit", commit)
    write_hub_repo(hub_repos, REPO, files={"modeling_x.py": b"import os\n"})
    ModelRegistry.objects.update(wanted_revision="main")
    model.refresh_from_db()
    assert run(services.request_download(model)).state == "done"
    now = ModelRegistry.objects.get()
    assert now.revision != commit and lying(caches, now.revision) == set()
    assert locating.locate(now).code == ()


def test_a_hub_that_has_other_code_for_the_same_commit_gets_none_in(model, commit, caches, hub) -> None:
    shell("m", "--commit", commit)
    model.refresh_from_db()
    hub.faults.lies_of["modeling_x.py"] = {"blobId": "b" * 40}
    assert run(services.request_download(model)).state == "done"
    assert lying(caches, commit) == {"tools/convert.py"}


def test_a_permission_that_is_taken_back_is_over(model, commit, caches) -> None:
    shell("m", "--commit", commit)
    model.refresh_from_db()
    run(services.request_download(model))
    assert "None of its repo is run." in shell("m", "--revoke") and "unload" in shell("m", "--revoke")
    assert locating.locate(ModelRegistry.objects.get()).code == ()
    assert json.loads(shell("m", "--revoke", "--json")) == {"model": "m", "commit": "", "files": {}}


@pytest.mark.parametrize("wrong", ["main", "a" * 39, "A" * 40, "../" + "a" * 37])
def test_a_branch_is_no_commit(wrong, model) -> None:
    with pytest.raises(CommandError, match="is no commit"):
        shell("m", "--commit", wrong)
    assert not ModelRegistry.objects.get().remote_code


def test_a_commit_without_code_or_that_the_hub_does_not_know_is_a_sentence(model, commit, hub, hub_repos) -> None:
    with pytest.raises(CommandError, match="has no revision"):
        shell("m", "--commit", "b" * 40)
    hub.faults.lies["sha"] = "c" * 40
    with pytest.raises(CommandError, match=r"it is about c+, not"):
        shell("m", "--commit", commit)
    hub.faults.lies.clear()
    write_hub_repo(hub_repos, "org/plain", files=loadable_files())
    services.register(services.Wish("plain", "org/plain", cache_location="primary"))
    with pytest.raises(CommandError, match="has no Python code"):
        shell("plain", "--commit", hub.repos.find("org/plain").commit)


def test_one_of_commit_and_revoke_is_needed(model) -> None:
    for arguments in ((), ("--revoke", "--commit", "a" * 40)):
        with pytest.raises(CommandError):
            shell("m", *arguments)


def test_no_request_and_no_form_can_allow_it(model, commit, api, client, django_user_model) -> None:
    wish = {"remote_code": {"commit": commit, "files": {"modeling_x.py": HASH}}}
    api.patch("/api/models/m", wish, format="json")
    body = {"model_name": "n", "hf_path": REPO, "cache_location": "primary"}
    api.post("/api/models", body | wish, format="json")
    assert ModelRegistry.objects.exclude(remote_code={}).count() == 0
    assert "remote_code" not in api.get("/api/models/m").json()


def test_the_models_page_warns(model, commit, client, django_user_model) -> None:
    client.force_login(django_user_model.objects.create_superuser("boss"))
    page = f"/admin/registry/modelregistry/{model.pk}/change/"
    assert "None of its repo is run." in client.get(page).content.decode()
    shell("m", "--commit", commit)
    text = client.get(page).content.decode()
    assert "WARNING: its engine runs the Python code" in text and "remote_code" not in text.replace(
        "allow_remote_code", ""
    )


def test_a_verification_knows_the_code_too(model, commit, caches) -> None:
    shell("m", "--commit", commit)
    model.refresh_from_db()
    run(services.request_download(model))
    job = run(checkups.request_verify(ModelRegistry.objects.get()))
    assert job.state == Job.State.DONE and ModelRegistry.objects.get().unproven == []
