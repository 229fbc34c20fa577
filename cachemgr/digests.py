"""The two hashes that name a Hub blob: the sha256 of a large file, git's sha1 of a small one."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

_BLOCK_BYTES = 1 << 20
_SHA256_DIGITS = 64


def digest_of(path: Path, *, like: str, on_bytes: Callable[[int], object] = int) -> str:
    """The file's hash, of the same kind as `like`. `on_bytes` hears of each block that was read."""
    with open(path, "rb") as file:
        size_bytes = os.fstat(file.fileno()).st_size
        digest = (
            hashlib.sha256()
            if len(like) == _SHA256_DIGITS
            else hashlib.sha1(_git_head(size_bytes), usedforsecurity=False)
        )
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            on_bytes(len(block))
    return digest.hexdigest()


def _git_head(size_bytes: int) -> bytes:
    return b"blob %d\0" % size_bytes
