"""Where files with certain digests lie in a cache: as blobs, or as copies whose digests were written down.

`{"task": "find", "root": {...}, "sizes": {digest: bytes}}`; done: `{"found": {digest: path below the cache}}`. Only
names and sizes are looked at: whoever uses such a file hashes it.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from cachemgr.hands.manifests import read_known
from cachemgr.hands.root import Root, open_root
from cachemgr.hands.telling import pulse
from cachemgr.layout import parse_repo_folder


def run(order: Mapping[str, Any], *, say: Any) -> dict[str, Any]:
    sizes = dict(order["sizes"])
    found: dict[str, str] = {}
    with open_root(order["root"]) as root:
        for folder in _repo_folders(root):
            for digest, path in _in_repo(root, folder, sizes):
                found.setdefault(digest, path)
    return {"found": found}


def _repo_folders(root: Root) -> list[str]:
    with os.scandir(root.descriptor) as entries:
        names = [each.name for each in entries if each.is_dir(follow_symlinks=False)]
    return sorted(name for name in names if parse_repo_folder(name))


def _in_repo(root: Root, folder: str, sizes: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    with suppress(OSError):  # no blobs, or no folder
        yield from _blobs(root, f"{folder}/blobs", sizes)
    for name, (digest, size_bytes) in read_known(root, folder).items():
        path = f"{folder}/snapshots/{name}"
        if sizes.get(digest) == size_bytes and _is_file(root.look_at(path), size_bytes):
            yield digest, path


def _blobs(root: Root, path: str, sizes: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    with root.folder(path) as blobs:
        for digest, size_bytes in sizes.items():
            pulse.beat()
            with suppress(FileNotFoundError):
                if _is_file(os.stat(digest, dir_fd=blobs, follow_symlinks=False), size_bytes):
                    yield digest, f"{path}/{digest}"


def _is_file(found: os.stat_result | None, size_bytes: int) -> bool:
    return found is not None and stat.S_ISREG(found.st_mode) and found.st_size == size_bytes
