"""Drives that go away in the middle of a download, others in their place, and drives that take no links."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import scan_cache_dir

from cachemgr.monitor import measure_caches
from cachemgr.services import sync_configured_caches
from registry import downloads, services
from tests.cachemgr.conftest import make_image
from tests.registry.downloading import (
    FOLDER,
    REPO,
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

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.root]
MB = 10**6
WEIGHTS = 4 * MB


@pytest.fixture
def files(hub_repos, settings) -> dict[str, bytes]:
    settings.DISK_RESERVE_BYTES = 0
    return publish(hub_repos, weights=WEIGHTS)


# Drives that go away


def test_a_drive_that_is_pulled_ends_it_soon_and_nothing_lands_under_its_mount_point(
    caches, hub, files, mount, tmp_path
) -> None:
    image = make_image(tmp_path / "drive.img", size=64 << 20)
    drive = mount(Path(caches.primary.path), image=image)
    job = order_download()
    hub.faults.rate_bytes_per_second = MB // 2
    with running(job):
        wait_for(lambda: size_of(partial_of(drive, files)) > MB // 2)
        subprocess.run(["umount", "-l", drive], check=True)
    assert (job.state, job.error_code) == ("queued", "cache_unavailable"), job.error_message
    assert str(drive) in job.error_message and not list(drive.iterdir()) and not downloaders()
    assert hub.sent_bytes[WEIGHTS_FILE] < WEIGHTS
    hub.hurry()
    run(job)
    assert (job.state, job.error_code) == ("queued", "cache_unavailable") and not list(drive.iterdir())
    mount(drive, image=image)
    again = run(services.request_download(job.model))
    assert again.state == "done" and is_intact(drive, again, files)
    assert hub.sent_bytes[WEIGHTS_FILE] < 1.5 * WEIGHTS


def test_a_drive_that_is_pulled_in_the_last_moment_is_missed_before_the_snapshot_appears(
    caches, hub, files, mount, tmp_path
) -> None:
    image = make_image(tmp_path / "drive.img", size=64 << 20)
    drive = mount(Path(caches.primary.path), image=image)
    job = order_download()
    hub.faults.rate_bytes_per_second = 2 * MB
    with running(job):
        wait_for(lambda: size_of(partial_of(drive, files)) > WEIGHTS // 2)
        subprocess.run(["umount", "-l", drive], check=True)
        hub.hurry()
    assert (job.state, job.error_code) == ("queued", "cache_unavailable"), job.error_message
    mount(drive, image=image)
    assert not list((drive / FOLDER / "snapshots").iterdir()) and not list((drive / FOLDER).glob("refs"))


def test_another_drive_in_its_place_gets_nothing(caches, hub, files, mount, tmp_path) -> None:
    drive = mount(Path(caches.primary.path), image=make_image(tmp_path / "drive.img", size=64 << 20))
    job = order_download()
    hub.faults.rate_bytes_per_second = MB // 2
    with running(job):
        wait_for(lambda: size_of(partial_of(drive, files)) > MB // 2)
        mount(drive, image=make_image(tmp_path / "other.img", size=64 << 20))
    assert (job.state, job.error_code) == ("queued", "cache_unavailable"), job.error_message
    assert [path.name for path in drive.iterdir()] == ["lost+found"]


def test_a_folder_that_becomes_a_link_leads_nobody_out(caches, hub, files, tmp_path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    job = order_download()
    (Path(caches.primary.path) / FOLDER).symlink_to(elsewhere)
    run(job)
    assert job.state == "failed" and not list(elsewhere.iterdir())


def test_a_blob_that_leads_out_of_the_cache_is_refused_and_not_read(caches, hub, files, tmp_path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(files[WEIGHTS_FILE])
    blob = Path(caches.primary.path) / FOLDER / "blobs" / weights_name(files)
    blob.parent.mkdir(parents=True)
    blob.symlink_to(secret)
    job = run(order_download())
    assert (job.state, job.error_code) == ("failed", "unsafe_entry") and str(secret) in job.error_message
    assert secret.read_bytes() == files[WEIGHTS_FILE]


def test_a_blob_in_the_shared_store_of_the_cache_counts_as_there(caches, hub, files) -> None:
    """As recent versions of the library lay them."""
    store = Path(caches.primary.path) / "blobs" / "ab" / "abcd"
    store.parent.mkdir(parents=True)
    store.write_bytes(files[WEIGHTS_FILE])
    blob = Path(caches.primary.path) / FOLDER / "blobs" / weights_name(files)
    blob.parent.mkdir(parents=True)
    blob.symlink_to("../../blobs/ab/abcd")
    job = run(order_download())
    assert job.state == "done", job.error_message
    assert hub.downloads_of(WEIGHTS_FILE) == 0 and blob.is_symlink() and is_intact(caches.primary.path, job, files)


# Drives without links


PLAIN_WEIGHTS = MB


@pytest.fixture
def plain_drive(caches, drive_without_links, settings) -> Path:
    """As exFAT: the primary cache, of 4 MB."""
    settings.DISK_RESERVE_BYTES = 0
    settings.PRIMARY_CACHE_PATH = drive_without_links.path
    sync_configured_caches()
    measure_caches()
    return drive_without_links.path


def test_a_drive_without_links_gets_each_file_once_and_its_digests_written_down(plain_drive, hub, hub_repos) -> None:
    files = publish(hub_repos, weights=100_000, **{"sub/tokenizer.json": b"{}", "vocab.txt": b"a"})
    job = run(order_download())
    assert job.state == "done", job.error_message
    assert is_intact(plain_drive, job, files) and not litter(plain_drive)
    assert not list((plain_drive / FOLDER / "blobs").iterdir())
    listed = json.loads((plain_drive / ".homelab" / "manifests" / f"{FOLDER}.json").read_text())
    commit = job.model.revision
    assert listed[f"{commit}/{WEIGHTS_FILE}"] == {"digest": weights_name(files), "size_bytes": 100_000}
    assert listed.keys() == {f"{commit}/{name}" for name in files}
    (repo,) = scan_cache_dir(plain_drive).repos
    (revision,) = repo.revisions
    assert (revision.commit_hash, sorted(revision.refs), repo.size_on_disk) == (
        commit,
        ["main"],
        sum(map(len, files.values())),
    )


def test_there_too_it_is_checked_on_the_second_time_and_only_what_is_bad_comes_again(
    plain_drive, hub, hub_repos
) -> None:
    files = publish(hub_repos, weights=PLAIN_WEIGHTS)
    job = run(order_download())
    weights = plain_drive / FOLDER / "snapshots" / job.model.revision / WEIGHTS_FILE
    weights.write_bytes(b"\0" * PLAIN_WEIGHTS)
    again = run(services.request_download(job.model))
    assert again.state == "done" and is_intact(plain_drive, again, files)
    assert hub.downloads_of(WEIGHTS_FILE) == 2 and hub.downloads_of("config.json") == 1


def test_what_lies_on_a_drive_without_links_is_found_by_the_digests_that_were_written_down(
    plain_drive, hub, hub_repos, caches
) -> None:
    files = publish(hub_repos, weights=PLAIN_WEIGHTS)
    run(order_download())
    publish(hub_repos, weights=1, repo_id="org/twin")
    (hub_repos / "org" / "twin" / WEIGHTS_FILE).write_bytes(files[WEIGHTS_FILE])
    twin = run(order_download(name="twin", repo_id="org/twin", location="secondary"))
    assert twin.state == "done", twin.error_message
    path = Path(caches.secondary.path) / "models--org--twin" / "snapshots" / twin.model.revision / WEIGHTS_FILE
    assert path.read_bytes() == files[WEIGHTS_FILE]
    assert hub.downloads_of(WEIGHTS_FILE) == 1


# With the library


def test_the_library_and_we_see_the_same_files(caches, hub, files) -> None:
    job = run(order_download())
    cache = caches.primary.path
    code = f"from huggingface_hub import snapshot_download as get; print(get({REPO!r}, cache_dir={cache!r}))"
    environment = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True)
    assert done.stdout.strip().endswith(job.model.revision), done.stderr
    assert hub.downloads_of(WEIGHTS_FILE) == 1
    assert downloads.plan_download(job.model).fetched_bytes == 0
