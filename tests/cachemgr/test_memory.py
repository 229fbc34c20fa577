"""What a re-scan takes over as remembered, and what it writes."""

import os
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.utils import timezone

from cachemgr import monitor
from cachemgr.drives import probe_drive
from cachemgr.memory import TRUSTED, remembered, why_distrusted
from cachemgr.models import Cache, CachedRepo, Reservation
from cachemgr.monitor import look_up_repo, measure_cache
from tests.factories import loadable_files, make_cached_repo

pytestmark = pytest.mark.django_db


@pytest.fixture
def primary(caches) -> Path:
    return Path(caches.primary.path)


def test_a_repo_that_went_away_is_forgotten_and_one_that_changed_is_updated(caches, primary: Path) -> None:
    make_cached_repo(primary, "org/gone", files={"a": b"a"})
    make_cached_repo(primary, "org/stays", files={"a": b"a"})
    measure_cache(caches.primary)
    key = CachedRepo.objects.get(repo_id="org/stays").pk
    shutil.rmtree(primary / "models--org--gone")
    make_cached_repo(primary, "org/stays", files={"b": b"bbb"}, commit="b" * 40)
    measure_cache(caches.primary)
    repo = CachedRepo.objects.get()
    assert (repo.pk, len(repo.revisions)) == (key, 2)


def age(folder: Path) -> None:
    """As if nobody had touched it for an hour."""
    for each in [*folder.rglob("*"), folder]:
        os.utime(each, (each.lstat().st_atime, each.lstat().st_mtime - 3600), follow_symlinks=False)


def test_what_did_not_change_is_neither_read_nor_written_again(
    caches, primary: Path, django_assert_max_num_queries
) -> None:
    for number in range(5):
        make_cached_repo(primary, f"org/m{number}", files=loadable_files())
    age(primary)
    measure_cache(caches.primary)
    seen = dict(CachedRepo.objects.values_list("folder", "seen_at"))
    make_cached_repo(primary, "org/m3", files={"new": b"new"}, commit="c" * 40)
    asked = monitor._scan_request(monitor._fresh(caches.primary))
    assert asked.known == remembered(caches.primary) and len(asked.known) == 5
    read_again = probe_drive(asked, limit_seconds=20, lock_folder=django_settings.RUNTIME_DIR).contents.reread_count
    assert read_again == 1
    with django_assert_max_num_queries(36):
        measure_cache(caches.primary)
    now_seen = dict(CachedRepo.objects.values_list("folder", "seen_at"))
    assert {folder for folder in seen if now_seen[folder] != seen[folder]} == {"models--org--m3"}


def test_a_row_gives_back_the_very_report_that_it_was_made_of(caches, primary: Path) -> None:
    make_cached_repo(primary, "org/m", files=loadable_files())
    (primary / "models--org--m/blobs/x.incomplete").write_bytes(b"half")
    report = look_up_repo(caches.primary, repo_id="org/m").contents.repos[0]
    measure_cache(caches.primary)
    again = remembered(caches.primary)["models--org--m"]
    assert abs(again.modified_at - report.modified_at) < 1e-5
    for name in ("revisions", "partials", "size_bytes", "physical_bytes", "file_count", "layout", "problems"):
        assert getattr(again, name) == getattr(report, name), name


@pytest.mark.parametrize("reason", ["asked for", "a week ago", "the clock was set back", "never yet", "NFS"])
def test_everything_is_read_where_that_is_due(caches, primary: Path, reason: str) -> None:
    make_cached_repo(primary, "org/m", files=loadable_files())
    measure_cache(caches.primary)
    changes = {
        "a week ago": {"full_scan_at": timezone.now() - timedelta(days=7, seconds=1)},
        "the clock was set back": {"full_scan_at": timezone.now() + timedelta(days=8)},
        "never yet": {"full_scan_at": None},
        "NFS": {"filesystem": "nfs4"},
        "asked for": {},
    }
    Cache.objects.update(filesystem="ext4")
    row = monitor._fresh(caches.primary)
    assert monitor._scan_request(row).known is not None
    for name, value in changes[reason].items():
        setattr(row, name, value)
    asked = monitor._scan_request(row, full=reason == "asked for")
    assert asked.known is None and bool(asked.distrust) == (reason == "NFS")


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "vfat", "exfat", "ntfs3", "9p", "virtiofs"])
def test_folder_times_of_shared_and_loose_filesystems_are_not_trusted(kind: str) -> None:
    assert f"on {kind}," in why_distrusted(kind)


def test_folder_times_of_filesystems_of_this_machine_are_trusted() -> None:
    assert {why_distrusted(kind) for kind in ["", *TRUSTED]} == {""}


def test_a_promise_shrinks_by_what_a_scan_saw(caches, primary: Path) -> None:
    make_cached_repo(primary, "org/m", files={"a": b"x" * 700})
    promise = {"owner": "test:1", "folder": "models--org--m", "total_bytes": 1000, "remaining_bytes": 1000}
    Reservation.objects.create(cache=caches.primary, **promise)
    before = measure_cache(caches.primary)
    landed = CachedRepo.objects.get().size_bytes
    assert 700 <= landed < 1000 and before.used_bytes >= landed
    assert Reservation.objects.get().remaining_bytes == 1000 - landed
