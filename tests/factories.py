"""Writers of what tests need on a disk: cached repos in the Hub's own layout, and repos for the test hub."""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

from cachemgr.layout import repo_folder

TINY_CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "max_position_embeddings": 512}


def make_cached_repo(
    cache_path: Path,
    repo_id: str,
    *,
    files: Mapping[str, bytes],
    refs: Mapping[str, str] | None = None,
    commit: str = "a" * 40,
    repo_type: str = "model",
) -> Path:
    """A revision as huggingface_hub leaves it. Called again with another commit, it adds that revision."""
    repo = cache_path / repo_folder(repo_id, repo_type=repo_type)
    snapshot = repo / "snapshots" / commit
    (repo / "blobs").mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        blob = repo / "blobs" / blob_name(name, content)
        blob.write_bytes(content)
        link = snapshot / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    for ref, target in (refs if refs is not None else {"main": commit}).items():
        path = repo / "refs" / ref
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(target)
    return repo


def blob_name(name: str, content: bytes) -> str:
    """As the Hub names it: sha256 for weights, git's sha1 for small files."""
    if name.endswith(".safetensors"):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def loadable_files(*, weights: int = 1000) -> dict[str, bytes]:
    """What a scan takes for a model that can be loaded. The weights are no real tensors."""
    return {"config.json": json.dumps(TINY_CONFIG).encode(), "model.safetensors": os.urandom(weights)}


def write_hub_repo(folder: Path, repo_id: str, *, files: Mapping[str, bytes]) -> Path:
    repo = folder / repo_id
    for name, content in files.items():
        path = repo / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return repo


def age_tree(folder: Path, *, seconds: float = 3600) -> None:
    """Makes all in a folder look as if nobody had touched it for an hour. The times of change (ctime) stay."""
    moment = time.time() - seconds
    for path, names, files in os.walk(folder, topdown=False):
        for name in (*files, *names):
            os.utime(Path(path, name), (moment, moment), follow_symlinks=False)
    os.utime(folder, (moment, moment))
