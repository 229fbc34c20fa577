"""What a probe of a drive is asked and what it answers: values between the child that touches it and everybody else.

Only the standard library is imported, because the child starts in a blink (see probe.py).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from cachemgr.report import CacheReport, FileReport, RepoReport
from cachemgr.report_json import known_from_json, known_to_json, report_from_json, report_to_json

ANSWERING = ("ok", "read_only")  # the states in which what lies on a drive can be read


@dataclass(frozen=True, slots=True)
class Disk:
    """A filesystem's sizes in bytes. `device` tells filesystems apart; two caches on one share its space.

    `host_device` and `host_free_bytes` are those of the filesystem that a disk image with holes lies on, and fills.
    """

    total_bytes: int
    used_bytes: int
    free_bytes: int
    inodes_free: int | None
    device: int
    read_only: bool
    host_device: int | None = None
    host_free_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Filesystem:
    """What a drive is. `takes_links`: symbolic links, None until it was tried. `source` is such as /dev/sdb1.

    `inner_path` is the cache's place in its filesystem: with the device it tells one folder under two names.
    """

    mount_point: str
    kind: str
    source: str
    takes_links: bool | None = None
    inner_path: str = ""


@dataclass(frozen=True, slots=True)
class DriveReport:
    """What one probe found. `state`: ok, read_only, missing, unmounted or unresponsive; the message says why, and
    what to do. `disk` and the rest are there as far as they were asked for and could be read."""

    state: str
    message: str = ""
    disk: Disk | None = None
    filesystem: Filesystem | None = None
    contents: CacheReport | None = None
    files: tuple[FileReport, ...] | None = None
    read_bytes_per_second: int | None = None
    descriptions: Mapping[str, Any] | None = None
    uuid: str | None = None
    duration_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """What a drive is asked.

    `location` names the cache in messages; `uuid` is what its marker must carry; `adopt` the uuid to write where no
    marker is; `make` "no", "last" or "all": which missing folders may be made; `replace`: the owner takes a drive
    without the marker, or with another one. `scan`: sizes are wanted, and whether it takes writes; `known` are the
    repos of the last scan by folder, `distrust` why folder times tell nothing there. `repo` is the one repo folder to
    scan, `files` the one to list, `speed` whether to measure how fast it reads. `describer` names a module whose
    `describe(folder)` is asked, in the child, about each revision of `repo` that can be loaded: `descriptions` has its
    answers, which are JSON, by commit. No part of the path below `root` may be a link. `device` is the filesystem that
    was last seen there. `bare_root` is the mount root below which the path lies without a drive on the way; probe_drive
    fills it.
    """

    path: str
    location: str = ""
    uuid: str | None = None
    adopt: str | None = None
    make: str = "no"
    replace: bool = False
    scan: bool = False
    known: Mapping[str, RepoReport] | None = None
    distrust: str = ""
    repo: str | None = None
    files: str | None = None
    speed: bool = False
    describer: str | None = None
    root: str | None = None
    device: int | None = None
    bare_root: str = ""

    @property
    def is_long(self) -> bool:
        """Work of more than a moment: its child answers the others' questions about that drive meanwhile."""
        return self.scan or self.speed

    def as_question(self) -> Self:
        """The part of it that is answered in a moment, and changes nothing."""
        return replace(self, adopt=None, make="no", scan=False, known=None, speed=False)


def request_to_json(request: ProbeRequest) -> dict[str, Any]:
    """Without `known`, which may be large and travels apart, as text."""
    return asdict(replace(request, known=None))


def known_to_text(known: Mapping[str, RepoReport] | None) -> str:
    return "" if known is None else json.dumps(known_to_json(known))


def request_from_json(data: dict[str, Any], *, known: str = "") -> ProbeRequest:
    return ProbeRequest(**{**data, "known": known_from_json(json.loads(known)) if known else None})


def report_to_answer(report: DriveReport, *, known: Mapping[str, RepoReport] | None = None) -> dict[str, Any]:
    """As JSON. What is in `known` and did not change is named only, so its receiver needs the same `known`."""
    answer = asdict(replace(report, contents=None))
    return answer | {"contents": report.contents and report_to_json(report.contents, known=known)}


def report_from_answer(data: dict[str, Any], *, known: Mapping[str, RepoReport] | None = None) -> DriveReport:
    disk, filesystem, contents, files = (data[name] for name in ("disk", "filesystem", "contents", "files"))
    parts = {
        "disk": disk and Disk(**disk),
        "filesystem": filesystem and Filesystem(**filesystem),
        "contents": contents and report_from_json(contents, known=known),
        "files": None if files is None else tuple(FileReport(**each) for each in files),
    }
    return DriveReport(**{**data, **parts})
