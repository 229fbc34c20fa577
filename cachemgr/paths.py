"""Which custom paths may be a cache. An allow-list, with a code for each reason to refuse. Asks no drive."""

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from cachemgr.errors import InvalidCachePath
from cachemgr.mounts import Mount, do_overlap, mount_of, read_mounts, true_place

_MAX_LENGTH = 1000
_KERNELS_OWN = {"proc", "sysfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "debugfs", "tracefs", "securityfs", "bpf"}


def validate_custom_path(text: str, *, allowed_roots: Sequence[Path], kept_apart: Sequence[Path]) -> Path:
    """The path, absolute and plain. `kept_apart` are folders that it may not lie in or around: other caches, our data.
    Bind mounts are seen through. Links are not: the probe refuses those below an allowed root.

    Raises InvalidCachePath: empty, too_long, control_character, not_absolute, not_plain, outside_allowed_roots,
    not_a_drive, overlaps.
    """
    path = Path(_plain_text(text))
    if not any(path.is_relative_to(root) and path != root for root in allowed_roots):
        roots = ", ".join(map(str, allowed_roots))
        raise InvalidCachePath(
            f"{path} lies below no allowed folder ({roots}). Choose another, or add one to CACHE_ALLOWED_ROOTS.",
            code="outside_allowed_roots",
        )
    mounts = read_mounts()
    _refuse_kernels_own(path, mounts=mounts)
    for other in kept_apart:
        if _overlap(path, other, mounts=mounts):
            raise InvalidCachePath(
                f"{path} lies inside or around {other}. Choose a folder of its own.", code="overlaps"
            )
    return path


def _overlap(path: Path, other: Path, *, mounts: Sequence[Mount]) -> bool:
    """True for one folder under two names as well, as far as mounts tell."""
    if path.is_relative_to(other) or other.is_relative_to(path):
        return True
    return do_overlap(true_place(str(path), mounts=mounts), true_place(str(other), mounts=mounts))


def _refuse_kernels_own(path: Path, *, mounts: Sequence[Mount]) -> None:
    mount = mount_of(str(path), mounts=mounts)
    if mount is not None and mount.kind in _KERNELS_OWN:
        raise InvalidCachePath(
            f"{path} lies on {mount.kind}, which keeps no files. Choose a folder on a drive.", code="not_a_drive"
        )


def _plain_text(text: str) -> str:
    if not text.strip():
        raise InvalidCachePath("cache_path is empty. A custom cache needs the absolute path of a folder.", code="empty")
    if len(text) > _MAX_LENGTH:
        raise InvalidCachePath(
            f"cache_path has {len(text)} characters, at most {_MAX_LENGTH} are allowed.", code="too_long"
        )
    if any(unicodedata.category(character)[0] == "C" for character in text):
        raise InvalidCachePath("cache_path has a control or invisible character.", code="control_character")
    if not text.startswith("/"):
        raise InvalidCachePath(f"cache_path {text!r} is not absolute: it has to begin with /.", code="not_absolute")
    if os.path.normpath(text) != text.rstrip("/"):
        raise InvalidCachePath(
            f"cache_path {text!r} has a part such as . or .. in it. Write it plainly.", code="not_plain"
        )
    return text.rstrip("/")
