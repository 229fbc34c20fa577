"""The two hashes that name a Hub blob: the sha256 of a large file, git's sha1 of a small one."""

import hashlib
import re
from typing import Protocol

DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHA1_DIGITS, _SHA256_DIGITS = 40, 64


def is_sha256(digest: str) -> bool:
    """Of a digest: whether it names a large file, whose content is the same in any repo that has it."""
    return len(digest) == _SHA256_DIGITS


class Hash(Protocol):
    """What hashlib makes."""

    def update(self, data: bytes | memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...


def hash_like(digest: str, *, size_bytes: int) -> Hash:
    """A hash to feed, of the kind that makes such a digest of a file of that size; sha256 where there is none yet."""
    if len(digest) == _SHA1_DIGITS:
        return hashlib.sha1(_git_head(size_bytes), usedforsecurity=False)
    return hashlib.sha256()


def _git_head(size_bytes: int) -> bytes:
    return b"blob %d\0" % size_bytes
