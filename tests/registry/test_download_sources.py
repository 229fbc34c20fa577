"""What lies on one of our drives already is not fetched once more: it is linked or copied, and verified like all else."""

import json
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from cachemgr import finding
from cachemgr import services as caches_services
from cachemgr.finding import find_contents
from cachemgr.models import Reservation
from cachemgr.monitor import current_snapshot, measure_caches
from cachemgr.services import sync_configured_caches
from registry import checkups, downloads, services
from registry.models import Job
from tests.factories import loadable_files, make_cached_repo, write_hub_repo
from tests.registry.downloading import (
    FOLDER,
    WEIGHTS_FILE,
    downloaders,
    is_intact,
    litter,
    order_download,
    partial_of,
    publish,
    run,
    running,
    size_of,
    wait_for,
    weights_name,
)

pytestmark = pytest.mark.django_db(transaction=True)
MB = 10**6
WEIGHTS = 3 * MB
TWIN = "models--other--twin"


@pytest.fixture
def files(hub_repos) -> dict[str, bytes]:
    return publish(hub_repos, weights=WEIGHTS)


def lay_twin(cache, files: dict[str, bytes]) -> Path:
    """Another repo with the same weights. Answers their blob."""
    twin = loadable_files() | {WEIGHTS_FILE: files[WEIGHTS_FILE], "README.md": b"another"}
    repo = make_cached_repo(Path(cache.path), "other/twin", files=twin)
    measure_caches()
    return repo / "blobs" / weights_name(files)


def own_blob(cache, files: dict[str, bytes]) -> Path:
    return Path(cache.path) / FOLDER / "blobs" / weights_name(files)


def way_of(job: Job, name: str) -> str:
    plan = downloads.plan_download(job.model)
    return {each.file.name: each.way for each in plan.files}[name]


def test_the_same_weights_in_the_same_cache_are_linked_and_take_no_room(caches, hub, files) -> None:
    twin = lay_twin(caches.primary, files)
    job = order_download()
    plan = downloads.plan_download(job.model)
    assert plan.need.size_bytes == plan.fetched_bytes == len(files["config.json"]) + len(files["tokenizer.json"])
    assert way_of(job, WEIGHTS_FILE) == "link" and way_of(job, "config.json") == "fetch"
    used = measure_caches()[0].used_bytes
    assert run(job).state == "done", job.error_message
    assert hub.downloads_of(WEIGHTS_FILE) == 0 and is_intact(caches.primary.path, job, files)
    assert twin.samefile(own_blob(caches.primary, files))
    assert measure_caches()[0].used_bytes < used + 10_000


def test_the_dry_run_tells_for_each_file_what_would_become_of_it(caches, hub, files, api, capsys) -> None:
    lay_twin(caches.primary, files)
    model = order_download().model
    found = api.post(f"/api/models/{model}/download?dry_run=true")
    assert found.status_code == 200, found.json()
    body = found.json()
    ways = {each["name"]: (each["way"], each["taken_from"]) for each in body["files"]}
    source = {"cache_path": caches.primary.path, "name": f"{TWIN}/blobs/{weights_name(files)}"}
    assert ways == {WEIGHTS_FILE: ("link", source), "config.json": ("fetch", None), "tokenizer.json": ("fetch", None)}
    assert (body["linked_bytes"], body["copied_bytes"], body["present_bytes"]) == (WEIGHTS, 0, 0)
    assert body["fetched_bytes"] == sum(map(len, files.values())) - WEIGHTS
    call_command("download", model.model_name, "--dry-run", "--json")
    assert json.loads(capsys.readouterr().out) == body
    call_command("download", model.model_name, "--dry-run")
    assert f"link       3.0 MB  {WEIGHTS_FILE} from {TWIN}" in " ".join(capsys.readouterr().out.splitlines())
    assert hub.downloads_of("config.json") == 0 and Job.objects.get().state == "queued"


def test_a_link_uses_up_nothing_of_what_is_promised_for_the_rest(caches, hub, files) -> None:
    twin = lay_twin(caches.primary, files)
    job = order_download()
    plan = downloads.plan_download(job.model)
    caches_services.book(plan.cache, downloads.booking_of(job.model, plan), measured=current_snapshot(plan.cache))
    partial = partial_of(caches.primary.path, files)
    partial.parent.mkdir(parents=True)
    partial.hardlink_to(twin)
    measure_caches()
    assert Reservation.objects.get().remaining_bytes == plan.need.size_bytes > 0


def test_twins_are_independent_of_each_other_ever_after(caches, hub, files) -> None:
    twin = lay_twin(caches.primary, files)
    job = run(order_download())
    twin.unlink()
    assert is_intact(caches.primary.path, job, files)


def test_the_same_weights_on_another_drive_are_copied(caches, hub, files, mount) -> None:
    mount(Path(caches.secondary.path), size="32m")
    twin = lay_twin(caches.secondary, files)
    job = order_download()
    assert way_of(job, WEIGHTS_FILE) == "copy"
    assert run(job).state == "done", job.error_message
    assert hub.downloads_of(WEIGHTS_FILE) == 0 and is_intact(caches.primary.path, job, files)
    assert twin.read_bytes() == files[WEIGHTS_FILE] and own_blob(caches.primary, files).stat().st_nlink == 1


@pytest.mark.parametrize("location", ["primary", "secondary"])
def test_a_bad_twin_is_found_out_left_alone_and_the_file_is_fetched(location, caches, hub, files) -> None:
    twin = lay_twin(getattr(caches, location), files)
    with open(twin, "r+b") as blob:
        blob.seek(WEIGHTS // 2)
        blob.write(bytes([files[WEIGHTS_FILE][WEIGHTS // 2] ^ 1]))
    spoiled = twin.read_bytes()
    job = run(order_download())
    assert job.state == "done" and job.attempt == 1, job.error_message
    assert hub.downloads_of(WEIGHTS_FILE) == 1 and is_intact(caches.primary.path, job, files)
    assert twin.read_bytes() == spoiled and not litter(caches.primary.path)


def test_a_twin_that_goes_away_after_the_plan_is_no_trouble(caches, hub, files, monkeypatch) -> None:
    twin = lay_twin(caches.primary, files)
    job = order_download()
    plan = downloads.plan_download(job.model)
    twin.unlink()
    with pytest.raises(downloads.ErrandFailed) as caught:
        downloads.fetch(plan, report=lambda **_: None)
    assert caught.value.code == "source_failed" and TWIN in caught.value.message
    assert run(job).state == "done" and is_intact(caches.primary.path, job, files)


def test_only_the_name_of_a_twin_counts_as_a_find_if_its_size_is_right_too(caches, files) -> None:
    twin = lay_twin(caches.primary, files)
    digest = weights_name(files)
    found = find_contents({digest: WEIGHTS, "0" * 64: 5}, near=caches.primary)
    assert {digest: each.name for digest, each in found.items()} == {digest: f"{TWIN}/blobs/{digest}"}
    assert find_contents({digest: WEIGHTS + 1}, near=caches.primary) == {}
    twin.rename(twin.with_name("elsewhere"))
    twin.symlink_to("elsewhere")
    assert find_contents({digest: WEIGHTS}, near=caches.primary) == {}


def test_of_several_twins_the_nearest_is_taken(caches, files) -> None:
    lay_twin(caches.primary, files)
    lay_twin(caches.secondary, files)
    caches.secondary.refresh_from_db()
    (found,) = find_contents({weights_name(files): WEIGHTS}, near=caches.secondary).values()
    assert found.cache == caches.secondary


def test_a_drive_that_hangs_is_not_searched_for_long(caches, hub, files, hung_drive, settings, monkeypatch) -> None:
    monkeypatch.setattr(finding, "_PATIENCE_SECONDS", 1.0)
    settings.SECONDARY_CACHE_PATH = hung_drive.path
    sync_configured_caches()
    measure_caches()
    job = order_download()
    hung_drive.hang()
    assert run(job).state == "done", job.error_message


def test_what_a_copy_left_half_done_is_gone_on_with_by_the_copy(caches, hub, files, mount, settings) -> None:
    mount(Path(caches.secondary.path), size="32m")
    lay_twin(caches.secondary, files)
    settings.TRANSFER_RATE_LIMIT_BYTES = 3 * MB
    job = order_download()
    with running(job):
        wait_for(lambda: size_of(partial_of(caches.primary.path, files)) > WEIGHTS // 3)
        downloaders()[0].kill()
    settings.TRANSFER_RATE_LIMIT_BYTES = None
    plan = downloads.plan_download(job.model)
    assert plan.resumed_bytes > WEIGHTS // 3 and way_of(job, WEIGHTS_FILE) == "copy"
    assert run(job).state == "done" and hub.downloads_of(WEIGHTS_FILE) == 0


def test_a_new_revision_fetches_what_is_new_alone(caches, hub, hub_repos, files) -> None:
    first = run(order_download())
    write_hub_repo(hub_repos, "org/model.v1", files={"tokenizer.json": b'{"new": 1}'})
    again = order_download(name="m2")
    assert way_of(again, WEIGHTS_FILE) == way_of(again, "config.json") == "present"
    assert run(again).state == "done" and again.model.revision != first.model.revision
    assert hub.downloads_of(WEIGHTS_FILE) == 1 and is_intact(caches.primary.path, first, files)


def test_the_dry_run_of_a_repair_tells_what_is_bad_or_missing_and_how_it_comes(caches, hub, files, api, capsys) -> None:
    model, base = run(order_download()).model, hub.downloads_of(WEIGHTS_FILE)
    with open(own_blob(caches.primary, files), "r+b") as blob:
        blob.write(b"\0\0\0\0")
    assert run(checkups.request_verify(model)).error_code == "hash_mismatch"
    (lost,) = Path(caches.primary.path).glob(f"{FOLDER}/snapshots/*/config.json")
    lost.resolve().unlink()
    answer = api.post(f"/api/models/{model}/repair?dry_run=true")
    assert answer.status_code == 200, answer.json()
    body = answer.json()
    ways = {each["name"]: each["way"] for each in body["files"]}
    assert ways == {WEIGHTS_FILE: "replace", "config.json": "fetch", "tokenizer.json": "present"}
    assert body["revision"] == model.revision
    assert body["fetched_bytes"] == WEIGHTS + len(files["config.json"])
    assert body["present_bytes"] == len(files["tokenizer.json"])
    call_command("verify", model.model_name, "--repair", "--dry-run", "--json")
    assert json.loads(capsys.readouterr().out) == body
    call_command("verify", model.model_name, "--repair", "--dry-run")
    assert f"replace    3.0 MB  {WEIGHTS_FILE}" in capsys.readouterr().out
    assert hub.downloads_of(WEIGHTS_FILE) == base and Job.objects.count() == 2
    assert run(checkups.request_repair(model)).state == "done"
    assert hub.downloads_of(WEIGHTS_FILE) == base + 1 and hub.downloads_of("tokenizer.json") == 1
    after = api.post(f"/api/models/{model}/repair", {"dry_run": True}, format="json").json()
    assert {each["way"] for each in after["files"]} == {"present"} and after["fetched_bytes"] == 0


def test_a_repair_that_cannot_be_has_no_dry_run(caches, hub, api) -> None:
    services.register(services.Wish("new", "org/new", cache_location="primary", estimated_bytes=MB))
    answer = api.post("/api/models/new/repair?dry_run=true")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_now")
    assert api.post("/api/models/new/repair?dry_run=maybe").status_code == 400
    with pytest.raises(CommandError, match="--dry-run is for --repair"):
        call_command("verify", "new", "--dry-run")


def test_a_repair_needs_no_more_room_than_the_bad_file_has(caches, hub, files) -> None:
    model = run(order_download()).model
    bad = [{"name": WEIGHTS_FILE, "commit": model.revision, "digest": weights_name(files), "reason": "hash_mismatch"}]
    model.mark("failed", damaged=bad)
    plan = checkups.plan_repair(model)
    assert (plan.need.size_bytes, plan.need.file_count, plan.fetched_bytes) == (0, 0, WEIGHTS)


def test_a_repair_brings_the_bad_file_of_the_very_commit_alone(caches, hub, files) -> None:
    job = run(order_download())
    with open(own_blob(caches.primary, files), "r+b") as blob:
        blob.write(b"\0\0\0\0")
    repair = Job.objects.create(kind=Job.Kind.REPAIR, model=job.model, target=caches.primary)
    repair.claim()
    downloads.download(repair, report=lambda **_: None)
    assert is_intact(caches.primary.path, job, files)
    assert hub.downloads_of(WEIGHTS_FILE) == 2 and hub.downloads_of("config.json") == 1
    assert not Reservation.objects.exists()
