"""The demo hub, asked by the real huggingface_hub over real HTTP."""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import HfApi, hf_hub_download, scan_cache_dir, snapshot_download
from huggingface_hub.errors import RemoteEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

from demo.hub import make_app
from tests.demo.conftest import serve

REPO = "acme/tiny"


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def test_a_snapshot_download_brings_every_byte_and_a_clean_cache(hub: str, repos_folder: Path, tmp_path: Path) -> None:
    snapshot = Path(snapshot_download(REPO, endpoint=hub, cache_dir=tmp_path / "cache"))
    source = repos_folder / REPO
    names = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    assert {path.relative_to(snapshot) for path in snapshot.rglob("*") if path.is_file()} == names
    assert all((snapshot / name).read_bytes() == (source / name).read_bytes() for name in names)
    report = scan_cache_dir(tmp_path / "cache")
    assert not report.warnings
    assert [(repo.repo_id, len(repo.revisions)) for repo in report.repos] == [(REPO, 1)]


def test_blobs_are_named_by_the_hashes_of_git_and_lfs(hub: str, repos_folder: Path, tmp_path: Path) -> None:
    snapshot_download(REPO, endpoint=hub, cache_dir=tmp_path)
    blobs = {path.name: path.read_bytes() for path in (tmp_path / "models--acme--tiny" / "blobs").iterdir()}
    assert all(name in {git_oid(content), hashlib.sha256(content).hexdigest()} for name, content in blobs.items())
    assert sorted(len(name) for name in blobs) == [40, 40, 64, 64]


def test_one_file_downloads_at_a_pinned_commit(hub: str, tmp_path: Path) -> None:
    commit = HfApi(endpoint=hub).model_info(REPO).sha
    path = hf_hub_download(REPO, "onnx/deep/notes.txt", revision=commit, endpoint=hub, cache_dir=tmp_path)
    assert Path(path).read_text() == "Nested, and small."
    assert commit in path


def test_model_info_tells_sizes_and_hashes(hub: str, repos_folder: Path) -> None:
    info = HfApi(endpoint=hub).model_info(REPO, files_metadata=True, revision="main")
    files = {each.rfilename: each for each in info.siblings or []}
    weights = (repos_folder / REPO / "model.safetensors").read_bytes()
    lfs = files["model.safetensors"].lfs
    assert lfs and (lfs.size, lfs.sha256) == (len(weights), hashlib.sha256(weights).hexdigest())
    assert files["config.json"].lfs is None
    assert files["config.json"].blob_id == git_oid((repos_folder / REPO / "config.json").read_bytes())
    assert files["vocab.txt"].size == 1_500_000 and files["vocab.txt"].lfs
    assert info.safetensors and info.safetensors.parameters == {"F32": 1_000_000}


def test_model_info_without_metadata_lists_names_only(hub: str) -> None:
    siblings = HfApi(endpoint=hub).model_info(REPO).siblings or []
    assert {each.size for each in siblings} == {None}


def test_the_tree_has_folders_and_lfs_blocks(hub: str) -> None:
    tree = {entry.path: entry for entry in HfApi(endpoint=hub).list_repo_tree(REPO, recursive=True)}
    assert set(tree) == {"config.json", "model.safetensors", "onnx", "onnx/deep", "onnx/deep/notes.txt", "vocab.txt"}
    assert tree["model.safetensors"].lfs.size == tree["model.safetensors"].size
    top = {entry.path for entry in HfApi(endpoint=hub).list_repo_tree(REPO)}
    assert top == {"config.json", "model.safetensors", "onnx", "vocab.txt"}
    assert [entry.path for entry in HfApi(endpoint=hub).list_repo_tree(REPO, "onnx")] == ["onnx/deep"]


def test_the_list_can_be_searched(hub: str) -> None:
    api = HfApi(endpoint=hub)
    assert {model.id for model in api.list_models()} == {REPO, "acme/other-name"}
    assert [model.id for model in api.list_models(search="OTHER")] == ["acme/other-name"]
    assert list(api.list_models(author="nobody")) == []
    assert len(list(api.list_models(limit=1))) == 1


def test_what_is_not_there_has_the_error_of_the_real_hub(hub: str, tmp_path: Path) -> None:
    with pytest.raises(RepositoryNotFoundError):
        HfApi(endpoint=hub).model_info("acme/nothing")
    with pytest.raises(RevisionNotFoundError):
        HfApi(endpoint=hub).model_info(REPO, revision="v2")
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download(REPO, "nothing.txt", endpoint=hub, cache_dir=tmp_path)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/acme/nothing/resolve/main/config.json", "RepoNotFound"),
        ("/acme/tiny/resolve/v2/config.json", "RevisionNotFound"),
        ("/acme/tiny/resolve/main/nothing.txt", "EntryNotFound"),
        ("/acme/tiny/resolve/main/..%2f..%2f..%2fsecret.txt", "EntryNotFound"),
        ("/..%2f/acme/resolve/main/tiny", "RepoNotFound"),
        ("/api/models/%2e%2e/secret.txt", "RepoNotFound"),
        ("/api/models/acme/tiny/tree/main/nothing", "EntryNotFound"),
    ],
)
def test_each_404_has_its_code(hub: str, path: str, code: str) -> None:
    answer = httpx2.get(hub + path)
    assert answer.status_code == 404
    assert answer.headers.get("X-Error-Code", code) == code
    assert "outside" not in answer.text


def test_a_link_out_of_the_folder_is_not_served(repos_folder: Path) -> None:
    (repos_folder / REPO / "link.txt").symlink_to(repos_folder.parent / "secret.txt")
    with serve(make_app(repos_folder)) as hub:
        assert httpx2.get(f"{hub}/{REPO}/resolve/main/link.txt").status_code == 404


def test_head_and_get_have_the_headers_that_downloads_read(hub: str, repos_folder: Path) -> None:
    content = (repos_folder / REPO / "model.safetensors").read_bytes()
    url = f"{hub}/{REPO}/resolve/main/model.safetensors"
    head, got = httpx2.head(url), httpx2.get(url)
    assert got.content == content
    for answer in (head, got):
        assert answer.headers["ETag"] == f'"{hashlib.sha256(content).hexdigest()}"' == answer.headers["X-Linked-Etag"]
        assert answer.headers["X-Linked-Size"] == answer.headers["Content-Length"] == str(len(content))
        assert answer.headers["Accept-Ranges"] == "bytes"
        assert len(answer.headers["X-Repo-Commit"]) == 40


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ("bytes=0-9", slice(0, 10)),
        ("bytes=5-", slice(5, None)),
        ("bytes=-8", slice(-8, None)),
        ("bytes=3-9999", slice(3, None)),
    ],
)
def test_a_range_gets_its_bytes(hub: str, repos_folder: Path, asked: str, wanted: slice) -> None:
    content = (repos_folder / REPO / "config.json").read_bytes()
    start, end, _ = wanted.indices(len(content))
    answer = httpx2.get(f"{hub}/{REPO}/resolve/main/config.json", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, content[wanted])
    assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(content)}"


@pytest.mark.parametrize("asked", ["bytes=99999-", "bytes=9-3", "bytes=-", "bytes=0-1,4-5", "lines=1-2"])
def test_a_range_that_cannot_be_satisfied_is_refused(hub: str, asked: str) -> None:
    answer = httpx2.get(f"{hub}/{REPO}/resolve/main/config.json", headers={"Range": asked})
    assert answer.status_code == 416
    assert answer.headers["Content-Range"].startswith("bytes */")


def test_the_commit_follows_the_contents(hub: str, repos_folder: Path) -> None:
    before = HfApi(endpoint=hub).model_info(REPO).sha
    assert HfApi(endpoint=hub).model_info(REPO).sha == before
    (repos_folder / REPO / "config.json").write_text('{"model_type": "qwen2"}')
    assert HfApi(endpoint=hub).model_info(REPO).sha != before


def test_the_rate_holds_over_the_whole_answer(repos_folder: Path) -> None:
    with serve(make_app(repos_folder, rate_bytes_per_second=4_000_000)) as hub:
        started = time.monotonic()
        size = len(httpx2.get(f"{hub}/{REPO}/resolve/main/model.safetensors").content)
        seconds = time.monotonic() - started
    assert 0.9 * size / 4_000_000 < seconds < 3 * size / 4_000_000


def test_the_command_refuses_to_listen_beyond_loopback(repos_folder: Path) -> None:
    command = [sys.executable, "-m", "demo.hub", "--repos", str(repos_folder), "--port", "0", "--host", "0.0.0.0"]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False, timeout=60)
    assert result.returncode == 2
    assert "not on loopback" in result.stderr
