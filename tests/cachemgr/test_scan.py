"""What the scan makes of whole, shared, unfinished, broken and hostile caches."""

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
from huggingface_hub import scan_cache_dir

from cachemgr.report import CacheReport, RepoReport
from cachemgr.scan import list_files, scan_cache, scan_one_repo
from tests.factories import loadable_files, make_cached_repo

COMMIT = "a" * 40
SNAPSHOT = f"snapshots/{COMMIT}"


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return make_cached_repo(tmp_path / "hub", "org/m", files=loadable_files())


def scan(repo: Path) -> RepoReport:
    (report,) = scan_cache(str(repo.parent)).repos
    assert scan_one_repo(str(repo.parent), folder=repo.name).repos == (report,)
    return report


# Each byte once


def test_a_hard_link_is_counted_once(repo: Path) -> None:
    before = scan_cache(str(repo.parent)).used_bytes
    blob = max((repo / "blobs").iterdir(), key=lambda each: each.stat().st_size)
    twin = repo.parent / "models--org--twin" / SNAPSHOT
    twin.mkdir(parents=True)
    os.link(blob, twin / "model.safetensors")
    report = scan_cache(str(repo.parent))
    assert report.used_bytes == before
    assert [each.size_bytes for each in report.repos] == [before, blob.stat().st_size]


def test_the_hubs_shared_blob_store_is_counted_once(tmp_path: Path) -> None:
    """`models--*/blobs/<etag>` links to `<cache>/blobs/xx/<hash>`, as huggingface_hub 2 lays it out."""
    weights, name = b"w" * 9000, "e" * 64
    store = tmp_path / "blobs" / name[:2] / name
    store.parent.mkdir(parents=True)
    store.write_bytes(weights)
    (tmp_path / "blobs" / ".huggingface-shared-blobs").write_text('{"version": "1"}')
    for repo_id in ("org/one", "org/two"):
        repo = make_cached_repo(tmp_path, repo_id, files={"model.safetensors": weights, "config.json": b"{}"}, refs={})
        blob = (repo / SNAPSHOT / "model.safetensors").resolve()
        blob.unlink()
        blob.symlink_to(os.path.relpath(store, blob.parent))
    report = scan_cache(str(tmp_path))
    assert [each.size_bytes for each in report.repos] == [9002, 9002]
    assert [each.size_on_disk for each in scan_cache_dir(tmp_path).repos] == [9002, 9002]
    marker_bytes = (tmp_path / "blobs" / ".huggingface-shared-blobs").stat().st_size
    assert report.used_bytes == 9000 + 2 + 2 + marker_bytes
    shutil.rmtree(tmp_path / "models--org--one")
    assert scan_cache(str(tmp_path)).used_bytes == 9000 + 2 + marker_bytes


def test_foreign_files_and_our_own_folder_are_used_space_and_no_repos(repo: Path) -> None:
    before = scan_cache(str(repo.parent)).used_bytes
    names = ("notes.txt", ".homelab/staging/7.1/blob", "models--bad--a--b/file", ".homelab-cache.json")
    for name in (*names, ".locks/models--org--m/x.lock"):
        path = repo.parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    report = scan_cache(str(repo.parent))
    assert report.used_bytes == before + 20
    assert report.foreign_bytes == 10
    assert [each.repo_id for each in report.repos] == ["org/m"]
    assert [(each.name, each.kind, each.file_count, each.size_bytes) for each in report.foreign] == [
        (".homelab", "house", 1, 5),
        (".homelab-cache.json", "house", 1, 5),
        ("models--bad--a--b", "folder", 1, 5),
        ("notes.txt", "file", 1, 5),
    ]


# What can be loaded


def test_a_whole_model_is_loadable_and_its_config_is_read(repo: Path) -> None:
    (revision,) = scan(repo).revisions
    assert revision.is_loadable
    assert (revision.commit, revision.refs, revision.format, revision.missing) == (COMMIT, ("main",), "safetensors", ())
    assert revision.config == {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "max_position_embeddings": 512,
    }


@pytest.mark.parametrize(
    ("names", "weights"),
    [
        (["model.safetensors", "pytorch_model.bin"], "safetensors"),
        (["m.Q4_K_M.gguf", "pytorch_model.bin"], "gguf"),
        (["pytorch_model.bin"], "pickle"),
        (["README.md"], ""),
    ],
)
def test_the_best_weights_format_is_named(tmp_path: Path, names: list[str], weights: str) -> None:
    repo = make_cached_repo(tmp_path, "org/m", files={"config.json": b"{}"} | dict.fromkeys(names, b"w"))
    (revision,) = scan(repo).revisions
    assert revision.format == weights
    assert not revision.is_loadable  # the config says nothing


def test_a_broken_link_is_missing_and_the_model_not_loadable(repo: Path) -> None:
    (repo / SNAPSHOT / "model.safetensors").resolve().unlink()
    (revision,) = scan(repo).revisions
    assert revision.missing == ("model.safetensors",)
    assert not revision.is_loadable


def test_a_shard_that_the_index_names_and_nobody_fetched_is_missing(tmp_path: Path) -> None:
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    index = {"weight_map": {"a": first, "b": second, "c": second}}
    files = loadable_files() | {"model.safetensors.index.json": json.dumps(index).encode(), first: b"1"}
    (revision,) = scan(make_cached_repo(tmp_path, "org/m", files=files)).revisions
    assert revision.missing == (second,)
    assert not revision.is_loadable


def test_the_index_of_a_very_large_model_is_read_too(tmp_path: Path) -> None:
    index = {
        "weight_map": {f"model.layers.{i}.mlp.experts.down_proj.weight": "gone.safetensors" for i in range(90_000)}
    }
    content = json.dumps(index).encode()
    assert len(content) > 5 * 10**6
    files = loadable_files() | {"model.safetensors.index.json": content}
    assert scan(make_cached_repo(tmp_path, "org/m", files=files)).revisions[0].missing == ("gone.safetensors",)


# Broken and hostile repos are values, never errors


def replace(path: Path, *, by: str) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    if by == "file":
        path.write_text("x")
    elif by == "pipe":
        os.mkfifo(path)
    elif by != "nothing":
        path.symlink_to(by)


@pytest.mark.parametrize("by", ["nothing", "file", "pipe", "/etc", "/dev/zero", "loop", "."])
@pytest.mark.parametrize(
    "part",
    ["refs", "refs/main", "snapshots", SNAPSHOT, "blobs", f"{SNAPSHOT}/config.json"],
    ids=lambda part: part[-12:],
)
def test_a_part_that_is_something_else_never_raises_hangs_or_leads_outside(repo: Path, part: str, by: str) -> None:
    replace(repo / part, by=Path(part).name if by == "loop" else by)
    if part == SNAPSHOT and by != "nothing":
        assert f"{SNAPSHOT} is not a revision" in scan(repo).problems
    report = scan(repo)
    assert report.size_bytes < 5000
    if part.startswith("refs"):
        assert report.revisions[0].is_loadable and not report.revisions[0].refs
    else:
        assert not any(each.is_loadable for each in report.revisions)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"nul", b"\xff\xfe", b'{"model_type": NaN}', b'{"model_type": 1e999}', b'{"model_type": "\\ud800"}',
        b'{"model_type": "\\u0000"}', b'{"auto_map": ' + b"[" * 400 + b"]" * 400 + b"}", b"[" * 10**5,
        b'{"model_type": "' + b"x" * 10**6 + b'"}', b" " * (4 * 10**6 + 1),
    ],
    ids=range(12),
)  # fmt: skip
def test_a_hostile_config_is_an_empty_one(tmp_path: Path, content: bytes) -> None:
    files = {"config.json": content, "model.safetensors": b"w", "model.safetensors.index.json": content}
    repo = make_cached_repo(tmp_path, "org/m", files=files)
    (revision,) = scan(repo).revisions
    assert revision.config == {} and not revision.is_loadable
    json.dumps(asdict(scan(repo)), allow_nan=False)


def test_a_name_that_is_no_text_is_shown_in_ascii(repo: Path) -> None:
    (repo / SNAPSHOT / "\udcff.bin").symlink_to("nowhere")
    (repo / "snapshots" / "\udcfe").mkdir()
    (repo / "refs" / "\udcfd").symlink_to("nowhere")
    report = scan(repo)
    assert report.revisions[0].missing == ("\\udcff.bin",)
    assert report.problems == ("refs/\\udcfd is not a file", "snapshots/\\udcfe is not a revision")


def test_a_repo_without_snapshots_does_not_hide_the_others(repo: Path) -> None:
    (repo.parent / "models--org--empty").mkdir()
    report = scan_cache(str(repo.parent))
    assert [(each.repo_id, each.problems) for each in report.repos] == [
        ("org/empty", ("no snapshots",)),
        ("org/m", ()),
    ]


def test_a_repo_that_is_not_there_is_an_empty_report(tmp_path: Path) -> None:
    for folder in ("models--org--m", "../..", "notes"):
        assert scan_one_repo(str(tmp_path), folder=folder) == CacheReport(0, 0, (), (), (), reread_count=0)
        assert list_files(str(tmp_path), folder=folder) == ()
