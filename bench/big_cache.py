"""Builds large Hub caches for the benchmarks: real folders, blobs, links, refs and configs; the weights are holes."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

_CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "max_position_embeddings": 4096}
_WEIGHTS_BYTES = 10**8


@dataclass(frozen=True)
class Shape:
    """Half of the files of a revision are weights (sha256 names), half are small (sha1 names), as in real repos.

    A quarter of them differ from one revision to the next; the other blobs are shared by all revisions.
    """

    repos: int = 500
    revisions: int = 3
    files: int = 40

    @property
    def blobs_of_repo(self) -> int:
        own = self.files // 4
        return self.files - own + self.revisions * own

    @property
    def words(self) -> str:
        links = self.repos * self.revisions * self.files
        return (
            f"{self.repos:,} repos x {self.revisions} revisions x {self.files} files: "
            f"{self.repos * self.blobs_of_repo:,} blobs, {links:,} links"
        )


def build_cache(path: Path, shape: Shape) -> None:
    for number in range(shape.repos):
        _build_repo(path / f"models--org--model-{number}", shape, number)


def _build_repo(repo: Path, shape: Shape, number: int) -> None:
    for part in ("blobs", "refs", "snapshots"):
        (repo / part).mkdir(parents=True)
    names = _file_names(shape.files)
    for revision in range(shape.revisions):
        commit = hashlib.sha1(f"{number}.{revision}".encode()).hexdigest()
        (repo / "snapshots" / commit).mkdir()
        for index, name in enumerate(names):
            is_own = index % 4 == 3
            _add_file(repo, commit, name, seed=f"{number}.{revision if is_own else 0}.{name}")
    (repo / "refs" / "main").write_text(commit)


def _file_names(count: int) -> list[str]:
    small = ["config.json", "model.safetensors.index.json", "tokenizer.json"]
    small += [f"notes-{number}.json" for number in range(len(small), count // 2)]
    shards = count - count // 2
    weights = [f"model-{number + 1:05}-of-{shards:05}.safetensors" for number in range(shards)]
    return sorted([*small[: count // 2], *weights])


def _add_file(repo: Path, commit: str, name: str, *, seed: str) -> None:
    digest = hashlib.sha256 if name.endswith(".safetensors") else hashlib.sha1
    blob = repo / "blobs" / digest(seed.encode()).hexdigest()
    if not blob.exists():
        with blob.open("wb") as file:
            file.write(_content_of(name, seed))
            if name.endswith(".safetensors"):
                file.truncate(_WEIGHTS_BYTES)
    (repo / "snapshots" / commit / name).symlink_to(f"../../blobs/{blob.name}")


def _content_of(name: str, seed: str) -> bytes:
    if name == "config.json":
        return json.dumps(_CONFIG | {"seed": seed}).encode()
    return b"" if name.endswith(".safetensors") else json.dumps({"seed": seed}).encode()
