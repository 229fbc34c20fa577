"""The child process that touches a drive: `python -m cachemgr.probe REQUEST`, JSON in, JSON out.

A drive may hang for ever in any system call, so nobody else touches one: the parent (drives.py) kills this process
when its time is over. Only the standard library is imported.
"""

import json
import os
import sys
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from cachemgr.layout import MARKER_FILE
from cachemgr.scan import scan_cache, scan_one_repo


def probe(request: dict[str, Any]) -> dict[str, Any]:
    """Answers `{state, message, disk, scan, uuid}`; `disk` and `scan` are there as far as the drive could be read.

    Request: `path`; `uuid` that the marker must carry, or null; `adopt` a uuid to write where no marker is, or null;
    `make` "no", "last" or "all": which missing folders may be made; `scan` whether sizes are wanted; `repo` the one
    repo folder to scan, or null; `root` the folder below which no part of the path may be a link, or null.
    """
    path = request["path"]
    if (
        request["root"]
        and (real := os.path.realpath(path)) != os.path.realpath(request["root"]) + path[len(request["root"]) :]
    ):
        return {"state": "missing", "message": f"{path} leads to {real} through a link. Give the real path."}
    try:
        _make_folders(path, how=request["make"])
        os.scandir(path).close()
        found = _read_marker(path)
    except FileNotFoundError:
        return {"state": "missing", "message": f"{path} does not exist. Is the drive plugged in and mounted?"}
    except OSError as error:
        return {"state": "missing", "message": f"{path} cannot be used: {error.strerror}."}
    if request["uuid"] and found != request["uuid"]:
        return {"state": "unmounted", "message": _foreign(path, found=found)}
    return _read_drive(request, found)


def _read_drive(request: dict[str, Any], found: str | None) -> dict[str, Any]:
    path = request["path"]
    disk = read_disk(path)
    is_writable = not disk["read_only"] and os.access(path, os.W_OK | os.X_OK)
    if found is None and request["adopt"] and is_writable:
        found = _write_marker(path, uuid=request["adopt"])
    answer: dict[str, Any] = {"state": "ok", "message": "", "disk": disk, "uuid": found}
    if not is_writable:
        answer |= {"state": "read_only", "message": f"{path} can be read, but nothing can be written there."}
    if request["scan"]:
        answer["scan"] = asdict(scan_cache(path))
    elif request["repo"]:
        answer["scan"] = asdict(scan_one_repo(path, folder=request["repo"]))
    return answer


def read_disk(path: str) -> dict[str, Any]:
    """Sizes of the filesystem in bytes. Free is what our own user may still write (`f_bavail`)."""
    figures = os.statvfs(path)
    return {
        "total_bytes": figures.f_blocks * figures.f_frsize,
        "used_bytes": (figures.f_blocks - figures.f_bfree) * figures.f_frsize,
        "free_bytes": figures.f_bavail * figures.f_frsize,
        "inodes_free": figures.f_favail if figures.f_files else None,
        "device": os.stat(path).st_dev,
        "read_only": bool(figures.f_flag & os.ST_RDONLY),
    }


def _make_folders(path: str, *, how: str) -> None:
    if how == "all":
        os.makedirs(path, exist_ok=True)
    elif how == "last" and not os.path.isdir(path):
        os.mkdir(path)


def _foreign(path: str, *, found: str | None) -> str:
    if found is None:
        return f"{path} is not the drive that was adopted: its marker {MARKER_FILE} is missing. Mount the drive."
    return f"{path} holds another drive than the one that was adopted (marker {found[:8]}). Mount the right one."


def _read_marker(path: str) -> str | None:
    try:
        with open(os.path.join(path, MARKER_FILE), encoding="utf-8") as file:
            return str(json.load(file)["uuid"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _write_marker(path: str, *, uuid: str) -> str | None:
    """None where it cannot be written: a full drive is there all the same, and is adopted another day."""
    staged = os.path.join(path, f"{MARKER_FILE}.{os.getpid()}")
    try:
        with open(staged, "w", encoding="utf-8") as file:
            json.dump({"uuid": uuid, "made_by": "Homelab LLM Server: this folder is one of its caches"}, file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(staged, os.path.join(path, MARKER_FILE))
    except OSError:
        with suppress(OSError):
            os.unlink(staged)
        return None
    return uuid


if __name__ == "__main__":
    json.dump(probe(json.loads(sys.argv[1])), sys.stdout)
