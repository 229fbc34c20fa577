"""The two hashes that name a Hub blob: the sha256 of a large file, git's sha1 of a small one."""

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_BLOCK_BYTES = 1 << 20
_SHA1_DIGITS = 40


class Hash(Protocol):
    """What hashlib makes."""

    def update(self, data: bytes | memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...


def hash_like(digest: str, *, size_bytes: int) -> Hash:
    """A hash to feed, of the kind that makes such a digest of a file of that size; sha256 where there is none yet."""
    if len(digest) == _SHA1_DIGITS:
        return hashlib.sha1(_git_head(size_bytes), usedforsecurity=False)
    return hashlib.sha256()


def digest_of(path: Path, *, like: str, on_bytes: Callable[[int], object] = int) -> str:
    """The file's hash, of the same kind as `like`. `on_bytes` hears of each block that was read."""
    with open(path, "rb") as file:
        digest = hash_like(like, size_bytes=os.fstat(file.fileno()).st_size)
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            on_bytes(len(block))
    return digest.hexdigest()


def _git_head(size_bytes: int) -> bytes:
    return b"blob %d\0" % size_bytes
