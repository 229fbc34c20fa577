"""Drives, as seen from a safe distance: every touch is a child process with a time limit.

One child per filesystem at a time (turns.py): a hung drive costs one stuck process and no thread.
"""

import json
import math
import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

from cachemgr.drive_report import (
    Disk,
    DriveReport,
    Filesystem,
    ProbeRequest,
    known_to_text,
    report_from_answer,
    request_to_json,
)
from cachemgr.mounts import read_mounts
from cachemgr.turns import Turn, turn_on

__all__ = ["Disk", "DriveReport", "Filesystem", "ProbeRequest", "folders_to_make", "lacks_its_drive", "probe_drive"]

MOUNT_ROOTS = (Path("/run/media"), Path("/media"), Path("/mnt"))
_PROJECT = Path(__file__).resolve().parent.parent
_POLL_SECONDS = 0.02
_LAST_QUESTION_SECONDS = 0.5
_killed: list[subprocess.Popen[str]] = []  # children that hang in the kernel; they are collected when it lets them die


def probe_drive(request: ProbeRequest, *, limit_seconds: float, lock_folder: Path) -> DriveReport:
    """What the drive answers within the limit; one that does not is `unresponsive`. A drive's fault is a value.

    Where a drive answers but its scan takes longer than that, all but `contents` is there, and the message says so.
    """
    started = time.monotonic()
    asked = replace(request, bare_root=_bare_root(Path(request.path)))
    turn = turn_on(request.path, device=request.device, folder=lock_folder)
    report = _ask_in_turn(asked, turn=turn, limit_seconds=limit_seconds)
    if report is None:
        message = f"{request.path} did not answer within {limit_seconds:g} s. Is the drive asleep or gone?"
        report = DriveReport("unresponsive", message)
    elif request.scan and report.contents is None and report.state == "ok":
        slow = (
            f"{request.path} answers, but reading all of it takes longer than {limit_seconds:g} s. Its usage is older."
        )
        report = replace(report, message=slow)
    return replace(report, duration_seconds=time.monotonic() - started)


def _ask_in_turn(request: ProbeRequest, *, turn: Turn, limit_seconds: float) -> DriveReport | None:
    """None when the time is over.

    1. Nobody asks this drive: a child of our own does.
    2. A child is there for long: it answers what takes a moment. Long work waits for its turn.
    3. A child is there for a moment, or hangs: the turn is awaited.
    4. The turn of long work does not come: the child that is there says at least whether the drive answers.
    """
    deadline = time.monotonic() + limit_seconds - _kept_seconds(request, limit_seconds)
    while (left_seconds := deadline - time.monotonic()) > 0:
        with turn.claim() as lock:
            if lock is not None:
                return _ask_child(request, turn=turn, lock=lock, limit_seconds=left_seconds)
        report = None if request.is_long else _ask_busy_child(request, turn=turn, limit_seconds=left_seconds)
        if report is not None:
            return report
        time.sleep(_POLL_SECONDS)
    return _ask_busy_child(request, turn=turn, limit_seconds=_kept_seconds(request, limit_seconds))


def _kept_seconds(request: ProbeRequest, limit_seconds: float) -> float:
    """Of the time for long work, what is kept for a last question: is the drive slow, or does it hang?"""
    return min(_LAST_QUESTION_SECONDS, limit_seconds / 4) if request.is_long else 0


def _ask_busy_child(request: ProbeRequest, *, turn: Turn, limit_seconds: float) -> DriveReport | None:
    answer = turn.ask(request_to_json(request.as_question()), limit_seconds=limit_seconds)
    return report_from_answer(answer) if answer else None


def _ask_child(request: ProbeRequest, *, turn: Turn, lock: int, limit_seconds: float) -> DriveReport | None:
    """None when the child did not answer in time; it keeps the turn until the kernel lets it die."""
    _collect_killed()
    with ExitStack() as until_started:
        listener = until_started.enter_context(turn.listen()).fileno() if request.is_long else None
        child = _start_child(request, lock=lock, listener=listener, limit_seconds=limit_seconds)
    try:
        output, errors = child.communicate(known_to_text(request.known), timeout=limit_seconds)
    except subprocess.TimeoutExpired:
        report = _ask_busy_child(request, turn=turn, limit_seconds=_kept_seconds(request, limit_seconds))
        _abandon(child)
        return report
    if child.returncode != 0:
        reason = errors.strip().rpartition("\n")[2] or f"its probe ended with status {child.returncode}"
        return DriveReport("missing", f"{request.path} could not be read: {reason}")
    return report_from_answer(json.loads(output), known=request.known)


def _start_child(
    request: ProbeRequest, *, lock: int, listener: int | None, limit_seconds: float
) -> subprocess.Popen[str]:
    arguments = [json.dumps(request_to_json(request)), str(math.ceil(limit_seconds)), str(listener or "")]
    return subprocess.Popen(
        [*_priority(request), sys.executable, "-m", "cachemgr.probe", *arguments],
        cwd=_PROJECT,
        env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(_PROJECT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(lock,) if listener is None else (lock, listener),
        text=True,
    )


def _priority(request: ProbeRequest) -> list[str]:
    """A measurement of speed must slow nobody down."""
    return ["ionice", "-c3"] if request.speed and shutil.which("ionice") else []


def _abandon(child: subprocess.Popen[str]) -> None:
    child.kill()
    for pipe in (child.stdin, child.stdout, child.stderr):
        assert pipe is not None
        with suppress(BrokenPipeError):  # what it did not read of its input
            pipe.close()
    _killed.append(child)


def _collect_killed() -> None:
    """No zombies: a child that died after all is waited for."""
    for child in list(_killed):
        if child.poll() is not None:
            with suppress(ValueError):  # another thread was faster
                _killed.remove(child)


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
    return bool(_bare_root(path))


def _bare_root(path: Path) -> str:
    root = next((root for root in MOUNT_ROOTS if path.is_relative_to(root)), None)
    return str(root) if root is not None and not is_on_mounted_drive(path, root=root) else ""


def is_on_mounted_drive(path: Path, *, root: Path) -> bool:
    """True when the path, or a folder between it and the mount root, is a mount point. Asks the kernel alone."""
    points = {mount.point for mount in read_mounts() if mount.kind != "autofs"}  # that one waits for a drive to come
    candidates = [path, *path.parents]
    return any(str(each) in points for each in candidates[: candidates.index(root)])
