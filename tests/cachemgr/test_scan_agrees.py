"""The scan finds in any cache what huggingface_hub's own scan finds there."""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import scan_cache_dir
from hypothesis import given, settings
from hypothesis import strategies as st

from cachemgr.scan import CacheReport, scan_cache
from tests.factories import make_cached_repo

COMMITS = [digit * 40 for digit in "abc"]
NAMES = ["config.json", "model.safetensors", "a/b/deep.txt", "name.with.dots.bin", "ünïcode.txt"]

Found = dict[tuple[str, str], dict[str, tuple[set[str], int, int]]]


@dataclass(frozen=True)
class Repo:
    repo_type: str
    revisions: Mapping[str, Mapping[str, bytes]]
    refs: Mapping[str, str]


@st.composite
def repos(draw: st.DrawFn) -> Repo:
    contents = st.sampled_from([b"", b"one", b"another", b"x" * 5000])  # few: revisions share blobs
    files = st.dictionaries(st.sampled_from(NAMES), contents, min_size=1, max_size=4)
    revisions = draw(st.dictionaries(st.sampled_from(COMMITS), files, min_size=1, max_size=3))
    refs = draw(
        st.dictionaries(st.sampled_from(["main", "v1.0", "refs/pr/1"]), st.sampled_from(sorted(revisions)), max_size=3)
    )
    return Repo(draw(st.sampled_from(["model", "dataset", "space"])), revisions, refs)


def write(cache: Path, repo_id: str, repo: Repo) -> None:
    for commit, files in repo.revisions.items():
        make_cached_repo(cache, repo_id, files=files, refs=repo.refs, commit=commit, repo_type=repo.repo_type)


def what_we_say(report: CacheReport) -> Found:
    return {
        (repo.repo_type, repo.repo_id): {
            each.commit: (set(each.refs), each.file_count, each.size_bytes) for each in repo.revisions
        }
        for repo in report.repos
    }


def what_the_library_says(cache: Path) -> Found:
    info = scan_cache_dir(cache)
    assert not info.warnings
    return {
        (repo.repo_type, repo.repo_id): {
            each.commit_hash: (set(each.refs), len(each.files), each.size_on_disk) for each in repo.revisions
        }
        for repo in info.repos
    }


def plain_sum(cache: Path) -> int:
    return sum(path.lstat().st_size for path in cache.rglob("*") if path.is_file() and not path.is_symlink())


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from(["gpt2", "org/a", "org/Qwen2.5-0.5B", "o.r.g/a_b"]), repos(), max_size=3))
def test_sizes_refs_and_revisions_agree_on_any_cache(found: dict[str, Repo]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        for repo_id, repo in found.items():
            write(cache, repo_id, repo)
        report = scan_cache(folder)
        assert what_we_say(report) == what_the_library_says(cache)
        assert report.used_bytes == sum(repo.size_bytes for repo in report.repos) == plain_sum(cache)
        assert not report.problems and not any(repo.problems for repo in report.repos)


def test_two_revisions_that_share_blobs_hold_them_once(tmp_path: Path) -> None:
    weights = {"model.safetensors": b"w" * 9000}
    make_cached_repo(tmp_path, "org/m", files=weights | {"config.json": b"{}"}, refs={}, commit="a" * 40)
    make_cached_repo(tmp_path, "org/m", files=weights | {"config.json": b"{ }"}, refs={}, commit="b" * 40)
    (repo,) = scan_cache(str(tmp_path)).repos
    assert [each.size_bytes for each in repo.revisions] == [9002, 9003]
    assert repo.size_bytes == 9005 == scan_cache_dir(tmp_path).size_on_disk


def test_a_cache_without_links_holds_copies_and_counts_each(tmp_path: Path) -> None:
    weights = {"model.safetensors": b"w" * 9000}
    for commit in ("a" * 40, "b" * 40):
        repo = make_cached_repo(tmp_path, "org/m", files=weights, refs={}, commit=commit)
    for link in list(repo.rglob("model.safetensors")):
        content = link.read_bytes()
        link.unlink()
        link.write_bytes(content)
    shutil.rmtree(repo / "blobs")
    report = scan_cache(str(tmp_path))
    assert report.used_bytes == 18000 == scan_cache_dir(tmp_path).size_on_disk
    assert what_we_say(report) == what_the_library_says(tmp_path)


def test_a_model_and_a_dataset_of_one_name_are_two_repos(tmp_path: Path) -> None:
    for repo_type in ("model", "dataset"):
        make_cached_repo(tmp_path, "org/same.name-v1.5", files={"a": b"a"}, repo_type=repo_type)
    report = scan_cache(str(tmp_path))
    assert [(repo.repo_type, repo.repo_id) for repo in report.repos] == [
        ("dataset", "org/same.name-v1.5"),
        ("model", "org/same.name-v1.5"),
    ]
    assert what_we_say(report) == what_the_library_says(tmp_path)
