"""The disks under a filesystem, and what the kernel counts of them. Reads /sys alone, so a sleeping disk sleeps on.

`device` is a filesystem's number (Mount.device), `source` what was mounted, such as /dev/sdb1.
"""

import os

_SYS = "/sys"
_MAX_DEPTH = 8  # partition on RAID on LVM on crypt, and then some


def disks_of(device: int, *, source: str = "") -> tuple[str, ...]:
    """The whole disks that hold the filesystem, as folders of /sys; none for a network, FUSE or memory."""
    found = [disk for start in _starts(device, source) for disk in _disks_below(start, depth=0)]
    return tuple(dict.fromkeys(found))


def is_rotational(device: int, *, source: str = "") -> bool:
    """True where a disk turns, and so may sleep. False where nothing is known."""
    return any(_read(f"{disk}/queue/rotational") == "1" for disk in disks_of(device, source=source))


def io_mark(device: int, *, source: str = "") -> str:
    """A text that changes with whatever the disks read or write; "" where nobody counts."""
    marks = [f"{os.path.basename(disk)}:{_sectors(disk)}" for disk in disks_of(device, source=source)]
    return " ".join(marks)


def backing_file(device: int) -> str | None:
    """The disk image that a loop device shows, or a partition of it; None for other devices."""
    start = _sys_folder(device)
    whole = os.path.dirname(start) if start and os.path.exists(f"{start}/partition") else start
    return _read(f"{whole}/loop/backing_file") or None if whole else None


def _sectors(disk: str) -> str:
    """Read and written since the disk was plugged in. Not operations: a `sync` of the machine is one for each disk."""
    counters = _read(f"{disk}/stat").split()
    return "-".join(counters[place] for place in (2, 6) if place < len(counters))


def _starts(device: int, source: str) -> list[str]:
    """Block devices of the filesystem. Btrfs has a number of its own: its members are found by what was mounted."""
    start = _sys_folder(device)
    if start is not None:
        return [start]
    if not source.startswith("/dev/"):
        return []
    name = os.path.basename(os.path.realpath(source))
    return [f"{_SYS}/class/block/{member}" for member in _btrfs_members(name) or [name] if _is_block(member)]


def _btrfs_members(name: str) -> list[str]:
    for uuid in _names(f"{_SYS}/fs/btrfs"):
        members = _names(f"{_SYS}/fs/btrfs/{uuid}/devices")
        if name in members:
            return members
    return []


def _is_block(name: str) -> bool:
    return os.path.exists(f"{_SYS}/class/block/{name}")


def _disks_below(start: str, *, depth: int) -> tuple[str, ...]:
    """Down through partitions, RAID, LVM and encryption."""
    folder = os.path.realpath(start)
    if os.path.exists(f"{folder}/partition"):
        folder = os.path.dirname(folder)
    slaves = _names(f"{folder}/slaves")
    if not slaves or depth == _MAX_DEPTH:
        return (folder,)
    return tuple(disk for name in slaves for disk in _disks_below(f"{folder}/slaves/{name}", depth=depth + 1))


def _sys_folder(device: int) -> str | None:
    folder = os.path.realpath(f"{_SYS}/dev/block/{os.major(device)}:{os.minor(device)}")
    return folder if os.path.isdir(folder) else None


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _read(path: str) -> str:
    """The one line of a file of /sys; "" where there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.readline().strip()
    except OSError:
        return ""
