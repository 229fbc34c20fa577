"""Drives, as seen from a safe distance: every touch is a child process with a time limit.

One child per drive: it holds a lock file as long as it lives, so a hung drive costs one stuck process and no thread.
"""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from cachemgr.scan import CacheReport, report_from_json

MOUNT_ROOTS = (Path("/run/media"), Path("/media"), Path("/mnt"))
_PROJECT = Path(__file__).resolve().parent.parent
_POLL_SECONDS = 0.02
_killed: list[subprocess.Popen[str]] = []  # children that hang in the kernel; they are collected when it lets them die


@dataclass(frozen=True)
class Disk:
    """A filesystem's sizes in bytes. `device` tells filesystems apart; two caches on one share its space."""

    total_bytes: int
    used_bytes: int
    free_bytes: int
    inodes_free: int | None
    device: int
    read_only: bool


@dataclass(frozen=True)
class DriveReport:
    """What one probe found. `state`: ok, read_only, missing, unmounted or unresponsive; the message says why."""

    state: str
    message: str = ""
    disk: Disk | None = None
    contents: CacheReport | None = None
    uuid: str | None = None
    duration_seconds: float = 0.0


@dataclass(frozen=True)
class ProbeRequest:
    """What probe.py is asked; its `probe` explains the fields."""

    path: str
    uuid: str | None = None
    adopt: str | None = None
    make: str = "no"
    scan: bool = False
    repo: str | None = None
    root: str | None = None


def probe_drive(request: ProbeRequest, *, limit_seconds: float, lock_folder: Path) -> DriveReport:
    started = time.monotonic()
    hung = DriveReport(
        "unresponsive", f"{request.path} did not answer within {limit_seconds:g} s. Is the drive asleep or gone?"
    )
    with _one_child_per_drive(request.path, lock_folder, limit_seconds) as lock:
        report = hung if lock is None else _ask_child(request, lock, limit_seconds) or hung
    return replace(report, duration_seconds=time.monotonic() - started)


def _ask_child(request: ProbeRequest, lock: int, limit_seconds: float) -> DriveReport | None:
    """None when the child did not answer in time; it keeps the lock until the kernel lets it die."""
    _collect_killed()
    child = subprocess.Popen(
        [sys.executable, "-m", "cachemgr.probe", json.dumps(vars(request))],
        cwd=_PROJECT,
        env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(_PROJECT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(lock,),
        text=True,
    )
    try:
        output, errors = child.communicate(timeout=limit_seconds)
    except subprocess.TimeoutExpired:
        _abandon(child)
        return None
    if child.returncode != 0:
        last_line = errors.strip().rpartition("\n")[2]
        return DriveReport("missing", f"{request.path} could not be read: {last_line}")
    return _parse(json.loads(output))


def _abandon(child: subprocess.Popen[str]) -> None:
    child.kill()
    for pipe in (child.stdout, child.stderr):
        assert pipe is not None
        pipe.close()
    _killed.append(child)


def _collect_killed() -> None:
    """No zombies: a child that died after all is waited for."""
    for child in list(_killed):
        if child.poll() is not None:
            with suppress(ValueError):  # another thread was faster
                _killed.remove(child)


def _parse(answer: dict[str, Any]) -> DriveReport:
    disk, contents = answer.get("disk"), answer.get("scan")
    return DriveReport(
        state=answer["state"],
        message=answer["message"],
        disk=Disk(**disk) if disk else None,
        contents=report_from_json(contents) if contents else None,
        uuid=answer.get("uuid"),
    )


@contextmanager
def _one_child_per_drive(path: str, folder: Path, limit_seconds: float) -> Iterator[int | None]:
    """A locked descriptor for the child to inherit, or None when another child kept it for the whole time."""
    name = sha256(os.fsencode(path)).hexdigest()[:16]
    descriptor = os.open(folder / f"probe-{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor if _lock_in_time(descriptor, limit_seconds) else None
    finally:
        os.close(descriptor)


def _lock_in_time(descriptor: int, limit_seconds: float) -> bool:
    deadline = time.monotonic() + limit_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)


def folders_to_make(path: Path, *, own_folders: tuple[Path, ...]) -> str:
    """Which missing folders of a cache may be made: "all" below our own folders, else "last", or "no".

    Below a mount root nothing is made unless a drive is mounted on the way: an empty mount point takes writes
    that would vanish under the drive when it comes back.
    """
    if any(path.is_relative_to(folder) for folder in own_folders):
        return "all"
    return "no" if lacks_its_drive(path) else "last"


def lacks_its_drive(path: Path) -> bool:
    """True below a mount root while no drive is mounted on the way."""
    root = next((root for root in MOUNT_ROOTS if path.is_relative_to(root)), None)
    return root is not None and not is_on_mounted_drive(path, root=root)


def is_on_mounted_drive(path: Path, *, root: Path) -> bool:
    """True when the path, or a folder between it and the mount root, is a mount point. Asks the kernel alone."""
    mounts = mount_points()
    candidates = [path, *path.parents]
    return any(str(each) in mounts for each in candidates[: candidates.index(root)])


def mount_points() -> frozenset[str]:
    text = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    fields = (line.split(" ")[4] for line in text.splitlines())
    return frozenset(field.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\") for field in fields)
