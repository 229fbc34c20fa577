"""The scan finds in any cache what huggingface_hub's own scan finds there, and so it does where the library itself
downloaded."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from huggingface_hub import scan_cache_dir
from hypothesis import given, settings
from hypothesis import strategies as st

from cachemgr.report import CacheReport
from cachemgr.scan import scan_cache
from tests.factories import make_cached_repo, write_hub_repo
from tests.hub import FaultyHub

COMMITS = [digit * 40 for digit in "abc"]
NAMES = ["config.json", "model.safetensors", "a/b/deep.txt", "name.with.dots.bin", "ünïcode.txt"]
IDS = ["gpt2", "org/a", "org/Qwen2.5-0.5B", "o.r.g/a_b"]

Found = dict[tuple[str, str], tuple[int, int, dict[str, tuple[set[str], int, int]]]]


# What both say


def bytes_below(*folders: Path) -> int:
    files = [path for folder in folders for path in folder.rglob("*")]
    return sum(path.lstat().st_size for path in files if path.is_file() and not path.is_symlink())


def what_we_say(report: CacheReport, cache: Path) -> Found:
    """By repo: its files, the bytes that its snapshots name, and the same by revision with the refs."""
    found: Found = {}
    for repo in report.repos:
        beside = bytes_below(*(cache / repo.folder / part for part in ("refs", ".no_exist", "trees")))
        named = repo.size_bytes - repo.partial_bytes - repo.orphan_bytes - beside
        revisions = {each.commit: (set(each.refs), each.file_count, each.size_bytes) for each in repo.revisions}
        found[repo.repo_type, repo.repo_id] = (repo.file_count, named, revisions)
    return found


def what_the_library_says(cache: Path) -> Found:
    return {
        (repo.repo_type, repo.repo_id): (
            repo.nb_files,
            repo.size_on_disk,
            {each.commit_hash: (set(each.refs), len(each.files), each.size_on_disk) for each in repo.revisions},
        )
        for repo in scan_cache_dir(cache).repos
    }


def assert_agreement(cache: Path) -> CacheReport:
    """What the library lists, we list with the same figures and no complaint; what it refuses, we complain about."""
    report, theirs = scan_cache(str(cache)), what_the_library_says(cache)
    ours = what_we_say(report, cache)
    assert {key: value for key, value in ours.items() if key in theirs} == theirs
    sound = {
        (repo.repo_type, repo.repo_id)
        for repo in report.repos
        if not repo.problems and not any(revision.missing for revision in repo.revisions)
    }
    assert sound == theirs.keys()
    partials = {(f"{repo.folder}/{each.name}", each.size_bytes) for repo in report.repos for each in repo.partials}
    incomplete = scan_cache_dir(cache).incomplete_files
    assert partials == {(str(each.file_path.relative_to(cache.resolve())), each.size_on_disk) for each in incomplete}
    return report


# Any cache


@dataclass(frozen=True)
class Repo:
    """`layouts` says for a name how it lies there, if not as a link to a blob; `damage` what is wrong."""

    repo_type: str
    revisions: Mapping[str, Mapping[str, bytes]]
    refs: Mapping[str, str]
    layouts: Mapping[str, str]
    damage: str


@st.composite
def repos(draw: st.DrawFn) -> Repo:
    contents = st.sampled_from([b"", b"one", b"another", b"x" * 5000])  # few: revisions and repos share blobs
    files = st.dictionaries(st.sampled_from(NAMES), contents, min_size=1, max_size=4)
    revisions = draw(st.dictionaries(st.sampled_from(COMMITS), files, min_size=1, max_size=3))
    refs = draw(
        st.dictionaries(st.sampled_from(["main", "v1.0", "refs/pr/1"]), st.sampled_from(sorted(revisions)), max_size=3)
    )
    return Repo(
        draw(st.sampled_from(["model", "dataset", "space"])),
        revisions,
        refs,
        draw(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["copy", "shared", "hard"]))),
        draw(st.sampled_from(["", "", "", "partial", "orphan", "broken", "ref", "file", "empty", "litter"])),
    )


def write(cache: Path, repo_id: str, repo: Repo) -> None:
    for commit, files in repo.revisions.items():
        folder = make_cached_repo(cache, repo_id, files=files, refs=repo.refs, commit=commit, repo_type=repo.repo_type)
        for name, layout in repo.layouts.items():
            if name in files:
                LAYOUTS[layout](cache, folder / "snapshots" / commit / name)
    DAMAGES[repo.damage](folder)


def as_copy(cache: Path, link: Path) -> None:
    content = link.read_bytes()
    link.unlink()
    link.write_bytes(content)


def as_shared(cache: Path, link: Path) -> None:
    """`models--*/blobs/<etag>` becomes a link into the cache's store."""
    blob = link.parent / link.readlink()
    if not blob.is_symlink():
        name = hashlib.sha256(blob.name.encode()).hexdigest()
        store = cache / "blobs" / name[:2] / name
        store.parent.mkdir(parents=True, exist_ok=True)
        (cache / "blobs" / ".huggingface-shared-blobs").write_text("1\n")
        blob.replace(store)
        blob.unlink(missing_ok=True)  # a rename of a file to another name of itself does nothing
        blob.symlink_to(f"../../blobs/{name[:2]}/{name}")


def as_hard_link(cache: Path, link: Path) -> None:
    """As a program leaves it that finds equal files in several repos."""
    blob = link.parent / link.readlink()
    if blob.is_symlink():
        return
    for other in cache.glob(f"*/blobs/{blob.name}"):
        if other.parent != blob.parent.resolve() and not other.is_symlink():
            blob.unlink()
            os.link(other, blob)
            return


LAYOUTS = {"copy": as_copy, "shared": as_shared, "hard": as_hard_link}


def put(path: Path, content: bytes) -> int:
    return path.write_bytes(content)


DAMAGES = {
    "": lambda folder: None,
    "partial": lambda folder: put(folder / "blobs" / "e.12345678.incomplete", b"half"),
    "orphan": lambda folder: put(folder / "blobs" / ("e" * 40), b"12345"),
    "broken": lambda folder: (
        next((folder / "snapshots").iterdir(), folder).joinpath("gone").symlink_to("../../blobs/0")
    ),
    "ref": lambda folder: ((folder / "refs").mkdir(exist_ok=True), put(folder / "refs" / "gone", b"d" * 40)),
    "file": lambda folder: put(folder / "snapshots" / "file", b"1"),
    "empty": lambda folder: shutil.rmtree(folder / "snapshots"),
    "litter": lambda folder: put(folder / "snapshots" / ".DS_Store", b""),
}


def each_inode_once(cache: Path) -> int:
    statuses = [path.lstat() for path in cache.rglob("*") if path.is_file() and not path.is_symlink()]
    return sum({(status.st_dev, status.st_ino): status.st_size for status in statuses}.values())


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(st.sampled_from(IDS), repos(), max_size=3))
def test_sizes_refs_revisions_partials_and_broken_repos_agree_on_any_cache(found: dict[str, Repo]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        for repo_id, repo in found.items():
            write(cache, repo_id, repo)
        assert assert_agreement(cache).used_bytes == each_inode_once(cache)


def test_two_revisions_that_share_blobs_hold_them_once(tmp_path: Path) -> None:
    weights = {"model.safetensors": b"w" * 9000}
    make_cached_repo(tmp_path, "org/m", files=weights | {"config.json": b"{}"}, refs={}, commit="a" * 40)
    make_cached_repo(tmp_path, "org/m", files=weights | {"config.json": b"{ }"}, refs={}, commit="b" * 40)
    (repo,) = assert_agreement(tmp_path).repos
    assert [each.size_bytes for each in repo.revisions] == [9002, 9003]
    assert repo.size_bytes == 9005 == scan_cache_dir(tmp_path).size_on_disk


def test_a_model_and_a_dataset_of_one_name_are_two_repos(tmp_path: Path) -> None:
    for repo_type in ("model", "dataset"):
        make_cached_repo(tmp_path, "org/same.name-v1.5", files={"a": b"a"}, repo_type=repo_type)
    assert [(repo.repo_type, repo.repo_id) for repo in assert_agreement(tmp_path).repos] == [
        ("dataset", "org/same.name-v1.5"),
        ("model", "org/same.name-v1.5"),
    ]


# What the real library downloads

DOWNLOAD = """
import sys
from pathlib import Path
from huggingface_hub import snapshot_download
from huggingface_hub.utils._shared_blobs import publish_blob_to_shared_store, shared_blobs_enabled
cache, *repo_ids = sys.argv[1:]
for repo_id in repo_ids:
    snapshot = snapshot_download(repo_id, cache_dir=cache)
    for blob in Path(snapshot).parents[1].joinpath("blobs").iterdir():
        # The Hub names such a hash for files on its newer storage, which is not here; the rest is the library's work.
        if shared_blobs_enabled() and len(blob.name) == 64 and not blob.is_symlink():
            size = blob.stat().st_size
            assert publish_blob_to_shared_store(
                blob_path=str(blob), xet_hash=blob.name, cache_dir=cache, expected_size=size
            )
"""
SETTINGS = {
    "links": {"HF_HUB_DISABLE_SHARED_BLOBS": "1"},
    "copies": {"HF_HUB_DISABLE_SYMLINKS": "1", "HF_HUB_DISABLE_SHARED_BLOBS": "1"},
    "shared": {},
}


def download(cache: Path, hub: FaultyHub, *repo_ids: str, layout: str) -> None:
    fixed = {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HOME": str(cache),
        "PATH": os.environ["PATH"],
    }
    command = [sys.executable, "-c", DOWNLOAD, str(cache), *repo_ids]
    subprocess.run(command, env=fixed | SETTINGS[layout], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize("layout", SETTINGS)
def test_a_cache_that_the_library_downloaded_is_read_as_the_library_reads_it(tmp_path: Path, layout: str) -> None:
    """Two models with the same weights, then a second revision of one of them."""
    weights = os.urandom(1_500_000)  # large enough for the hub to name them by their sha256
    files = {"config.json": b'{"model_type": "llama"}', "model.safetensors": weights, "sub/notes.txt": b"notes"}
    for repo_id in ("org/one", "org/two"):
        write_hub_repo(tmp_path / "repos", repo_id, files=files)
    cache = tmp_path / "hub"
    with FaultyHub(tmp_path / "repos").serve() as hub:
        download(cache, hub, "org/one", "org/two", layout=layout)
        write_hub_repo(tmp_path / "repos", "org/one", files={"config.json": b'{"model_type": "qwen2"}'})
        download(cache, hub, "org/one", layout=layout)
    report = assert_agreement(cache)
    one, two = report.repos
    assert (one.layout, two.layout) == (layout, layout)
    assert {each.config["model_type"]: each.refs for each in one.revisions} == {"llama": (), "qwen2": ("main",)}
    assert all(each.is_loadable and each.file_count == 3 for repo in report.repos for each in repo.revisions)
    assert one.orphan_count == two.orphan_count == 0
    stored = {"links": 2, "copies": 3, "shared": 1}[layout] * len(weights)
    assert stored <= report.used_bytes < stored + 20_000
