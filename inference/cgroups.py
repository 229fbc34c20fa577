"""The memory limits of the container, or of any group, that this process is in: cgroup v1 and v2. Reads small files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_OWN_GROUPS = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")
_NO_LIMIT = 2**60  # v1 writes a number near 2**63 for none


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """`used_bytes` without cached files, which the kernel drops before it refuses anything."""

    limit_bytes: int
    used_bytes: int

    @property
    def free_bytes(self) -> int:
        return max(0, self.limit_bytes - self.used_bytes)


@dataclass(frozen=True, slots=True)
class _Names:
    """What the files of one version are called."""

    limits: tuple[str, ...]
    usage: str
    file_prefix: str


_V1 = _Names(("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_")
_V2 = _Names(("memory.max", "memory.high"), "memory.current", "")


def read_limits(*, own_groups: Path = _OWN_GROUPS, mount: Path = _MOUNT) -> list[MemoryLimit]:
    """Of the group of this process and all above it; [] where there are none. In a container the path that the kernel
    names may not be there: its own group is then mounted at the root."""
    try:
        lines = own_groups.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [limit for line in lines for limit in _read_hierarchy(line, mount=mount)]


def _read_hierarchy(line: str, *, mount: Path) -> Iterator[MemoryLimit]:
    """`0::/a/b` is the second version, `4:memory:/a/b` is the first."""
    _, controllers, path = line.split(":", 2)
    if controllers and "memory" not in controllers.split(","):
        return
    root, names = (mount / "memory", _V1) if controllers else (mount, _V2)
    group = PurePosixPath(path.lstrip("/"))
    for folder in (group, *group.parents):
        for name in names.limits:
            if limit := _read_limit(root / folder, name=name, names=names):
                yield limit


def _read_limit(folder: Path, *, name: str, names: _Names) -> MemoryLimit | None:
    try:
        text = (folder / name).read_text(encoding="ascii").strip()
        if not text.isdecimal() or int(text) >= _NO_LIMIT:
            return None
        used = int((folder / names.usage).read_text(encoding="ascii"))
        statistics = (folder / "memory.stat").read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    return MemoryLimit(int(text), max(0, used - _count_files(statistics, prefix=names.file_prefix)))


def _count_files(statistics: str, *, prefix: str) -> int:
    wanted = {f"{prefix}active_file", f"{prefix}inactive_file"}
    pairs = (line.split() for line in statistics.splitlines())
    return sum(int(pair[1]) for pair in pairs if len(pair) == 2 and pair[0] in wanted)
