"""The marker file that tells an adopted drive from an empty mount point, or from another drive at its place."""

import json
import os
import re
from contextlib import suppress

from cachemgr.layout import MARKER_FILE

_SIZE_LIMIT_BYTES = 4096
_UUID = re.compile(r"[0-9A-Za-z-]{1,36}")


def read_marker(path: str) -> str | None:
    """The uuid in the cache's marker; None where there is no marker that says one. A pipe there is none."""
    try:
        descriptor = os.open(os.path.join(path, MARKER_FILE), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            uuid = json.loads(file.read(_SIZE_LIMIT_BYTES))["uuid"]
            return uuid if _UUID.fullmatch(uuid) else None
    except (FileNotFoundError, IsADirectoryError, ValueError, KeyError, TypeError, RecursionError):
        return None


def write_marker(path: str, *, uuid: str) -> str | None:
    """The uuid that the marker carries now: of two who write at once, the first wins. Raises OSError."""
    staged = os.path.join(path, f"{MARKER_FILE}.{uuid}")
    try:
        with open(staged, "w", encoding="utf-8") as file:
            json.dump({"uuid": uuid, "made_by": "Homelab LLM Server: this folder is one of its caches"}, file)
            file.flush()
            os.fsync(file.fileno())
        _put_in_place(staged, os.path.join(path, MARKER_FILE))
    finally:
        with suppress(OSError):  # a rename took it away, or the drive takes no writes
            os.unlink(staged)
    _settle(path)
    return read_marker(path)


def _put_in_place(staged: str, final: str) -> None:
    """A hard link never replaces a marker that says something; where a drive takes none, or it says nothing, rename."""
    try:
        os.link(staged, final)
    except OSError:
        if read_marker(os.path.dirname(final)) is None:
            os.rename(staged, final)


def _settle(path: str) -> None:
    """So that a power cut does not take the name back. Not every filesystem can be asked."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            os.fsync(folder)
    finally:
        os.close(folder)
