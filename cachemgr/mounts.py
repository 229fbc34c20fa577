"""Which filesystem a path leads to, by what the kernel says of its mounts. Asks no drive: /proc alone is read.

Paths are taken as text: a link in one is not followed. Whoever needs the true place of a path with links resolves
it first, in a child process (probe.py), because that asks the drives on the way.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

MOUNTINFO = "/proc/self/mountinfo"
_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """`device` is the filesystem's own number, the same for all its subvolumes and bind mounts. `root` is the folder
    of the filesystem that is seen at `point`."""

    number: int
    parent: int
    device: int
    root: str
    point: str
    kind: str
    source: str


def read_mounts() -> tuple[Mount, ...]:
    with open(MOUNTINFO, encoding="utf-8", errors="surrogateescape") as file:
        return tuple(map(_parse_line, file))


def mount_of(path: str, *, mounts: Sequence[Mount]) -> Mount | None:
    """The mount that a plain absolute path leads to: from the root down, as the kernel walks.

    A mount below a folder that was mounted over later is hidden, and so is the lower one of two on one point.
    """
    on_the_way = [mount for mount in mounts if _is_below(path, mount.point)]
    numbers = {mount.number for mount in on_the_way}
    here = next((mount for mount in on_the_way if mount.parent not in numbers or mount.parent == mount.number), None)
    while here is not None:
        inner = [mount for mount in on_the_way if mount.parent == here.number != mount.number]
        if not inner:
            break
        here = min(inner, key=lambda mount: len(mount.point))
    return here


def inner_path(path: str, *, mount: Mount) -> str:
    """The path inside the mount's filesystem: the same for one folder, by whichever bind mount it is seen."""
    below = path[len(mount.point.rstrip("/")) :]
    return (mount.root.rstrip("/") + below).rstrip("/") or "/"


def true_place(path: str, *, mounts: Sequence[Mount]) -> tuple[int, str]:
    """(device, path inside its filesystem). Two paths overlap when the devices are one and the paths are nested."""
    mount = mount_of(path, mounts=mounts)
    return (mount.device, inner_path(path, mount=mount)) if mount else (0, path)


def do_overlap(one: tuple[int, str], other: tuple[int, str]) -> bool:
    """Of two true places: the same folder, or one inside the other."""
    is_nested = _is_below(one[1], other[1]) or _is_below(other[1], one[1])
    return one[0] == other[0] and is_nested


def _is_below(path: str, folder: str) -> bool:
    """The folder itself included."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _parse_line(line: str) -> Mount:
    """Fields: number, parent, major:minor, root, point, options, optional ones up to a dash, kind, source, options."""
    first, _, second = line.rstrip("\n").partition(" - ")
    number, parent, device, root, point, *_ = first.split(" ")
    kind, source, *_ = second.split(" ")
    major, _, minor = device.partition(":")
    return Mount(
        number=int(number),
        parent=int(parent),
        device=os.makedev(int(major), int(minor)),
        root=_unescaped(root),
        point=_unescaped(point),
        kind=_unescaped(kind),
        source=_unescaped(source),
    )


def _unescaped(field: str) -> str:
    r"""A space is written as \040, a line feed as \012, a backslash as \134; each stands for one byte."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), field)
