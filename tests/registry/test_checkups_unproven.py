"""Files that are read, and of which nobody knows what they have to be: said so, and never called verified."""

import io
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from django.apps import apps
from django.core.management import call_command
from django.test import Client

from cachemgr.monitor import measure_caches
from homelab.owner import owner_account
from registry import checkups, removal, services
from registry.checkups import Checkup
from registry.models import Job, ModelRegistry
from tests.factories import age_tree, loadable_files, write_hub_repo
from tests.registry.downloading import FOLDER, REPO, run

pytestmark = pytest.mark.django_db(transaction=True)
COMMIT = "a" * 40
NOWHERE = "http://127.0.0.1:9"


def make_copies(cache: str, files: dict[str, bytes], *, name: str = "own", commit: str = COMMIT) -> Path:
    """As somebody's `cp` leaves a model: files of which no name tells a digest."""
    repo = Path(cache) / f"models--org--{name}"
    for path, content in files.items():
        (repo / "snapshots" / commit / path).parent.mkdir(parents=True, exist_ok=True)
        (repo / "snapshots" / commit / path).write_bytes(content)
    age_tree(repo)
    return repo


def copy_links(repo: Path) -> Path:
    """As on a drive without links. Answers the snapshot."""
    (snapshot,) = (repo / "snapshots").iterdir()
    for path in snapshot.iterdir():
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    for blob in (repo / "blobs").iterdir():
        blob.unlink()
    measure_caches(full=True)
    return snapshot


@pytest.fixture
def own(caches) -> ModelRegistry:
    """Nobody knows a checksum of it."""
    make_copies(caches.primary.path, loadable_files(weights=5000) | {"a/notes.txt": b"mine"})
    measure_caches()
    return ModelRegistry.objects.get()


@pytest.fixture
def model(caches, hub, hub_repos) -> ModelRegistry:
    """The Hub knows all of it."""
    write_hub_repo(hub_repos, REPO, files=loadable_files(weights=5000) | {"tokenizer.json": b"{}"})
    model = services.register(services.Wish("m", REPO, cache_location="primary")).model
    run(services.request_download(model))
    copy_links(Path(caches.primary.path) / FOLDER)
    ModelRegistry.objects.update(read_at=None, verified_at=None)
    return ModelRegistry.objects.get()


def verify(model: ModelRegistry) -> Job:
    return run(checkups.request_verify(ModelRegistry.objects.get(pk=model.pk)))


def test_what_nobody_can_prove_is_read_and_named_and_not_called_verified(own, api) -> None:
    job = verify(own)
    names = ["a/notes.txt", "config.json", "model.safetensors"]
    message = f"Read 3 files; nobody knows the checksum of 3 of them: {', '.join(names)}."
    assert (job.state, job.error_code, job.error_message) == ("done", "", message)
    assert job.model.read_at >= job.started_at and job.model.verified_at is None
    assert (job.model.status, job.model.unproven, job.model.verified_up_to) == ("ready", names, "")
    shown = api.get("/api/models/own").json()
    assert shown["read_at"].endswith("Z") and shown["verified_at"] is None and shown["unproven"] == names


def test_the_shell_and_the_page_of_the_model_say_so(own) -> None:
    output = io.StringIO()
    call_command("verify", "own", stdout=output)
    said = " ".join(output.getvalue().split())
    assert "The verify of own: done: Read 3 files; nobody knows the checksum of 3 of them: a/notes.txt," in said
    assert not said.endswith("..")
    browser = Client()
    browser.force_login(owner_account())
    page = browser.get(f"/admin/registry/modelregistry/{own.pk}/change/").content.decode()
    assert "nobody knows the checksum of 3 of them: a/notes.txt, config.json, model.safetensors" in page
    ModelRegistry.objects.update(read_at=None)
    page = browser.get(f"/admin/registry/modelregistry/{own.pk}/change/").content.decode()
    assert "Read again" in page and "checksum" not in page


def test_one_file_that_the_hub_does_not_tell_of_is_enough(model, caches) -> None:
    (snapshot,) = (Path(caches.primary.path) / FOLDER / "snapshots").iterdir()
    (snapshot / "notes.txt").write_bytes(b"mine")
    job = verify(model)
    assert job.error_message == "Read 4 files; nobody knows the checksum of 1 of them: notes.txt."
    assert job.model.read_at and job.model.verified_at is None
    run(services.request_download(job.model))  # which proves the others, and does not read this one
    assert (ModelRegistry.objects.get().unproven, ModelRegistry.objects.get().verified_at) == (["notes.txt"], None)
    (snapshot / "notes.txt").unlink()
    job = verify(model)
    assert (job.model.unproven, job.error_message) == ([], "") and job.model.verified_at == job.model.read_at


def test_a_proof_of_before_keeps_its_date_when_the_hub_is_away(model, settings) -> None:
    proven = verify(model).model.verified_at
    settings.HF_ENDPOINT = NOWHERE
    now = verify(model).model
    assert proven and now.verified_at == proven and now.read_at > proven and len(now.unproven) == 3


@pytest.mark.parametrize(
    "hurt", [lambda path: path.write_bytes(b"[]"), lambda path: path.unlink()], ids=["wrong bytes", "missing"]
)
def test_what_is_bad_is_not_good_because_the_hub_is_away(model, caches, settings, hurt: Callable[[Path], None]) -> None:
    (path,) = (Path(caches.primary.path) / FOLDER).glob("snapshots/*/tokenizer.json")
    hurt(path)
    assert verify(model).state == "failed"
    settings.HF_ENDPOINT = NOWHERE
    job = verify(model)
    assert (job.state, job.model.status) == ("failed", "failed") and "tokenizer.json" in job.model.error
    path.write_bytes(b"{}")  # by hand, from elsewhere
    job = verify(model)
    assert (job.state, job.model.status, job.model.damaged) == ("done", "ready", [])


def test_what_several_nights_could_not_prove_is_named_at_the_end_and_others_have_their_turn(own, caches) -> None:
    nights = 0
    while ModelRegistry.objects.get().read_at is None and nights < 10:
        (job,) = checkups.scrub(budget_bytes=1)
        assert run(job).state == "done", job.error_message
        nights += 1
    after = ModelRegistry.objects.get()
    assert nights == 3 and after.verified_at is None
    assert after.unproven == ["a/notes.txt", "config.json", "model.safetensors"]
    make_copies(caches.primary.path, loadable_files(), name="other")
    measure_caches()
    assert [job.model.model_name for job in checkups.scrub(budget_bytes=1)] == ["other"]


def test_a_name_that_is_no_text_ends_a_night_as_any_other(own, caches) -> None:
    odd = Path(caches.primary.path) / "models--org--own/snapshots" / COMMIT / "b\udcff.txt"
    odd.write_bytes(b"odd")
    for _ in range(4):
        (job,) = checkups.scrub(budget_bytes=1)
        assert run(job).state == "done", job.error_message
    assert ModelRegistry.objects.get().unproven[1] == "b\\udcff.txt" and ModelRegistry.objects.get().read_at


def test_a_night_does_not_go_on_in_the_files_of_another_commit(own) -> None:
    ModelRegistry.objects.update(verified_up_to=f"{'b' * 40}/config.json")
    (job,) = checkups.scrub(budget_bytes=10**6)
    assert run(job).error_message.startswith("Read 3 files;") and job.model.read_at


def test_where_no_file_is_nothing_was_read(own, caches) -> None:
    ModelRegistry.objects.update(revision="c" * 40)
    job = verify(own)
    assert (job.state, job.error_code) == ("failed", "source_missing") and f"no file of {'c' * 40}" in job.error_message
    assert job.model.read_at is None and job.model.status == "ready"


def test_a_row_that_stays_forgets_with_its_files_what_was_read_of_them(own) -> None:
    verify(own)
    removal.remove(ModelRegistry.objects.get(), keeps_row=True)
    assert (ModelRegistry.objects.get().read_at, ModelRegistry.objects.get().unproven) == (None, [])


@pytest.mark.parametrize(
    ("after", "next_file", "found", "known"),
    [
        ("", "", ["b"], ["b"]),
        ("", "c/b", ["b"], ["b", "d"]),
        ("c/a", "", [], ["a"]),
        ("c/a", "c/b", ["b"], ["a", "b", "d"]),
        ("c/b", "c/d", [], ["a"]),
    ],
)
def test_what_a_night_read_is_known_anew_and_the_rest_as_before(after, next_file, found, known) -> None:
    checkup = Checkup("c", after, file_count=1, bad=(), unproven=tuple(found), next_file=next_file)
    assert checkup.unproven_after(["a", "d"]) == known


def test_rows_of_before_were_read_when_they_were_verified_and_begun_readings_begin_anew(own) -> None:
    other = ModelRegistry.objects.create(model_name="other", hf_path="org/other", verified_up_to="b/x")
    ModelRegistry.objects.filter(pk=own.pk).update(verified_at=own.created_at)
    import_module("registry.migrations.0004_unproven").read_what_was_verified(apps, None)
    own.refresh_from_db()
    other.refresh_from_db()
    assert (own.read_at, other.read_at, other.verified_up_to) == (own.created_at, None, "")
