"""Why a drive cannot be used as it is, in sentences that end with what its owner can do.

The child writes them, because it met the reason. `manage.py cache_adopt` and the Settings page do what they offer.
"""

import errno
import os
import pwd
import shlex

from cachemgr.drive_report import ProbeRequest
from cachemgr.layout import MARKER_FILE
from cachemgr.mounts import mount_of, read_mounts

_LOOK_AT_DISK = "The disk may be failing: see what dmesg says of it, and copy what you need."
_REMEDIES = {
    errno.EACCES: "Give {user} the right to write there: sudo chown {user} {path}",
    errno.EPERM: "It is forbidden to {user}: look at the folder's owner, and at its flags with lsattr -d {path}",
    errno.EROFS: "It is mounted read-only, which a kernel does by itself after an error of the disk: see what dmesg "
    "says of it. Where the disk is fine: sudo mount -o remount,rw {path}",
}


def explain_missing(request: ProbeRequest, *, error: OSError) -> str:
    """No folder to read: the error is what making or opening it met."""
    path = request.path
    if error.errno == errno.EACCES:
        return f"{path} cannot be used: Permission denied. Give {_our_user()} the right to read, enter and write it."
    if error.errno != errno.ENOENT:
        return f"{path} cannot be used: {error.strerror}. Look at what lies there, or choose another path."
    if request.uuid:
        return f"{path} does not exist. Is the drive plugged in and mounted?" + _or_begin_anew(request)
    if request.bare_root:
        return f"{path} does not exist, and {_without_drive(request)}. Mount the drive" + _or_use_its_disk(request)
    if request.make == "last":
        return f"{path} does not exist, nor does {os.path.dirname(path)}. Mount its drive" + _or_use_its_disk(request)
    return f"{path} does not exist. Is the drive plugged in and mounted?"


def explain_unmounted(request: ProbeRequest, *, found: str | None) -> str:
    """The folder is there, but not the drive that was adopted: nothing is read or written."""
    if found is None:
        problem = f"is not the drive that was adopted: its marker {MARKER_FILE} is missing. Mount the drive."
    else:
        problem = f"holds another drive than the one that was adopted (marker {found[:8]}). Mount the right one."
    return f"{request.path} {problem}" + _or_take_it(request)


def explain_bare(request: ProbeRequest) -> str:
    """An empty folder where a drive should be mounted: what is written to it vanishes under the drive that comes."""
    return f"{request.path} is empty, and {_without_drive(request)}. Mount the drive" + _or_use_its_disk(request)


def explain_not_guarded(request: ProbeRequest) -> str:
    """A folder with something in it, where a drive should be mounted: it is read, but gets no marker."""
    problem = f"{request.path} is used as it is, without a marker, because {_without_drive(request)}"
    way_out = f": {_adopt_command(request, '--create')}" if request.location else ""
    return f"{problem}. If it belongs to the disk that it is on, make it a cache{way_out}"


def explain_read_only(path: str, *, reason: int) -> str:
    remedy = _REMEDIES.get(reason, _LOOK_AT_DISK).format(user=_our_user(), path=shlex.quote(path))
    return f"{path} can be read, but nothing can be written there: {os.strerror(reason)}. {remedy}"


def explain_not_adopted(path: str, *, reason: int) -> str:
    """A drive that is full: what is in it can be used, and it is adopted when there is room for a marker."""
    return f"{path} could not get its marker {MARKER_FILE}: {os.strerror(reason)}. Free some space there."


def _without_drive(request: ProbeRequest) -> str:
    return f"no drive is mounted below {request.bare_root} on the way"


def _or_use_its_disk(request: ProbeRequest) -> str:
    if not request.location:
        return ", or create the folder."
    mount = mount_of(request.path, mounts=read_mounts())
    disk = f"the disk of {mount.point}" if mount else "the disk"
    command = _adopt_command(request, "--create")
    return f"; or, to use {disk} there, create it: {command}, or the button Create Folder on the Settings page."


def _or_take_it(request: ProbeRequest) -> str:
    if not request.location:
        return ""
    command = _adopt_command(request, "--replace")
    return f" Or take this one from now on: {command}, or the button Use This Drive on the Settings page."


def _or_begin_anew(request: ProbeRequest) -> str:
    return f" Or begin anew there: {_adopt_command(request, '--create --replace')}" if request.location else ""


def _adopt_command(request: ProbeRequest, options: str) -> str:
    place = f" --cache-path {shlex.quote(request.path)}" if request.location == "custom" else ""
    return f"manage.py cache_adopt {request.location}{place} {options}"


def _our_user() -> str:
    """The name of the user that the server runs as, else the number."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"user {os.geteuid()}"
