"""What the demo hub knows about `<org>/<name>/<files>`: sizes, hashes and commits, as git and LFS count them."""

import hashlib
import json
import os
import struct
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

LFS_FROM_BYTES = 1_000_000
_READ_BYTES = 1 << 20
_LARGEST_HEADER_BYTES = 25_000_000
_HIDDEN_FOLDERS = frozenset({".git", ".cache", "__pycache__"})


@dataclass(frozen=True)
class HubFile:
    """One file of a repo. `git_oid` is the sha1 of the blob in git: for an LFS file that blob is the pointer."""

    name: str
    path: Path
    size_bytes: int
    git_oid: str
    sha256: str | None = None

    @property
    def etag(self) -> str:
        return self.sha256 or self.git_oid

    @property
    def pointer_size_bytes(self) -> int:
        return len(_make_pointer(self.sha256 or "", size_bytes=self.size_bytes))


@dataclass(frozen=True)
class HubRepo:
    id: str
    files: Mapping[str, HubFile]
    changed_at: datetime

    @cached_property
    def commit(self) -> str:
        """40 hex digits that change whenever a name or a byte of the repo does."""
        names_and_hashes = "".join(f"{file.etag} {name}\n" for name, file in sorted(self.files.items()))
        return hashlib.sha1(f"{self.id}\n{names_and_hashes}".encode(), usedforsecurity=False).hexdigest()

    def knows_revision(self, revision: str) -> bool:
        return revision in {"main", self.commit}


class Repos:
    """Reads a folder of repos. Each file is hashed once for as long as its size and change time stay the same."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._hashes: dict[tuple[Path, int, int], tuple[str, str | None]] = {}
        self._lock = threading.Lock()

    def list_ids(self) -> list[str]:
        folders = [path for path in self._folder.glob("*/*") if path.is_dir() and not path.name.startswith(".")]
        return sorted(path.relative_to(self._folder).as_posix() for path in folders if self._is_inside(path))

    def find(self, repo_id: str) -> HubRepo | None:
        """None for an unknown repo: a name that leads out of the folder is one, because only listed ids are known."""
        if repo_id not in self.list_ids():
            return None
        paths = sorted(self._walk(self._folder / repo_id))
        with self._lock:
            files = {name: self._describe(path, name=name) for name, path in paths}
        changed = max((file.path.stat().st_mtime for file in files.values()), default=0.0)
        return HubRepo(id=repo_id, files=files, changed_at=datetime.fromtimestamp(changed, tz=UTC))

    def _walk(self, root: Path) -> Iterator[tuple[str, Path]]:
        for folder, subfolders, names in os.walk(root):
            subfolders[:] = sorted(set(subfolders) - _HIDDEN_FOLDERS)
            for name in names:
                path = Path(folder, name)
                if path.is_file() and self._is_inside(path):
                    yield path.relative_to(root).as_posix(), path

    def _is_inside(self, path: Path) -> bool:
        return path.resolve().is_relative_to(self._folder)

    def _describe(self, path: Path, *, name: str) -> HubFile:
        found = path.stat()
        key = (path, found.st_size, found.st_mtime_ns)
        if key not in self._hashes:
            self._hashes[key] = _hash(path, size_bytes=found.st_size, is_lfs=_is_lfs(name, size_bytes=found.st_size))
        git_oid, sha256 = self._hashes[key]
        return HubFile(name=name, path=path, size_bytes=found.st_size, git_oid=git_oid, sha256=sha256)


def count_parameters(repo: HubRepo) -> dict[str, int]:
    """Parameters by dtype over all safetensors files, from their headers. An unreadable header counts as none."""
    counts: dict[str, int] = {}
    for file in repo.files.values():
        for tensor in _read_tensors(file) if file.name.endswith(".safetensors") else ():
            size = 1
            for length in tensor["shape"]:
                size *= length
            counts[tensor["dtype"]] = counts.get(tensor["dtype"], 0) + size
    return counts


def read_config(repo: HubRepo) -> dict[str, Any]:
    """The parts of `config.json` that the Hub repeats; empty when there is none to read."""
    file = repo.files.get("config.json")
    try:
        config = json.loads(file.path.read_bytes()) if file else {}
    except ValueError:
        return {}
    return {key: config[key] for key in ("architectures", "model_type") if key in config}


def _read_tensors(file: HubFile) -> list[dict[str, Any]]:
    with file.path.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        header = stream.read(length) if length <= _LARGEST_HEADER_BYTES else b""
    try:
        tensors = json.loads(header)
    except ValueError:
        return []
    return [tensor for name, tensor in tensors.items() if name != "__metadata__"]


def _is_lfs(name: str, *, size_bytes: int) -> bool:
    return name.endswith(".safetensors") or size_bytes > LFS_FROM_BYTES


def _hash(path: Path, *, size_bytes: int, is_lfs: bool) -> tuple[str, str | None]:
    """(git's sha1, LFS's sha256 or None)"""
    if not is_lfs:
        return _hash_git_blob(path.read_bytes()), None
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_READ_BYTES):
            digest.update(block)
    sha256 = digest.hexdigest()
    return _hash_git_blob(_make_pointer(sha256, size_bytes=size_bytes)), sha256


def _hash_git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _make_pointer(sha256: str, *, size_bytes: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size_bytes}\n".encode()
