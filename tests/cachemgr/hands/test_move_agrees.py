"""Whatever a repo is made of: for the Hub's library, and for who reads its names, it is the same on the other side."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, given, settings

from cachemgr.layout import repo_folder
from tests.cachemgr.conftest import HungDrive
from tests.cachemgr.hands.trips import Trip, contents, litter, said_by_library
from tests.cachemgr.test_scan_agrees import Repo, repos, write
from tests.factories import age_tree, make_cached_repo

REPO_ID = "o.r.g/Qwen2.5-0.5B"
per_example = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])


def prepare(source: Path, repo: Repo) -> str:
    """The repo, and another one whose blobs it may share."""
    make_cached_repo(source, "org/other", files={"a": b"one", "b": b"another", "c.safetensors": b"x" * 5000})
    write(source, REPO_ID, repo)
    folder = repo_folder(REPO_ID, repo_type=repo.repo_type)
    age_tree(source / folder)  # nobody is downloading into it
    return folder


def move_and_compare(source: Path, target: Path, repo: Repo) -> None:
    """There, and back again."""
    folder = prepare(source, repo)
    library, read = said_by_library(source), contents(source / folder)
    Trip(source, target, folder).go()
    assert contents(target / folder) == read
    if repo.damage != "broken":  # on a drive without links, a link that leads nowhere is nothing
        assert said_by_library(target) == {key: value for key, value in library.items() if key == REPO_ID}
    assert "org/other" in said_by_library(source)
    Trip(target, source, folder, job="18").go()
    assert contents(source / folder) == read
    if repo.damage != "broken":
        assert said_by_library(source) == library
    assert not (target / folder).exists() and litter(source) == litter(target) == []


@per_example
@given(repos())
def test_between_two_filesystems(mount: Callable[..., Path], tmp_path: Path, repo: Repo) -> None:
    """A tmpfs, which is made for the first example and used by all."""
    drive = tmp_path / "drive"
    if not drive.exists():
        mount(drive)
    in_new_folders(tmp_path, drive, repo)


@per_example
@given(repos())
def test_on_one_filesystem(tmp_path: Path, repo: Repo) -> None:
    in_new_folders(tmp_path, tmp_path, repo)


@per_example
@given(repos())
def test_to_a_drive_without_links_and_back(tmp_path: Path, drive_without_links: HungDrive, repo: Repo) -> None:
    in_new_folders(tmp_path, drive_without_links.path, repo)


def in_new_folders(near: Path, far: Path, repo: Repo) -> None:
    source, target = Path(tempfile.mkdtemp(dir=near)), Path(tempfile.mkdtemp(dir=far))
    try:
        move_and_compare(source, target, repo)
    finally:
        shutil.rmtree(source)
        shutil.rmtree(target)
