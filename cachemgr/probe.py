"""The child process that touches a drive: `python -m cachemgr.probe REQUEST LIMIT LISTENER`, JSON in, JSON out.

A drive may hang for ever in any system call, so nobody else touches one: the parent (drives.py) kills this process
when its time is over. While it works long, it answers the others' questions about the drive at LISTENER (turns.py).
Only the standard library is imported, but for the describer that somebody asks for by its name.
"""

import errno
import importlib
import json
import os
import signal
import sys
from dataclasses import replace
from typing import Any

from cachemgr.blockdev import backing_file, disks_of, is_rotational
from cachemgr.drive_report import (
    Disk,
    DriveReport,
    Filesystem,
    ProbeRequest,
    report_to_answer,
    request_from_json,
)
from cachemgr.marker import read_marker, write_marker
from cachemgr.mounts import Mount, inner_path, mount_of, read_mounts
from cachemgr.refusals import (
    explain_bare,
    explain_missing,
    explain_not_adopted,
    explain_not_guarded,
    explain_read_only,
    explain_unmounted,
)
from cachemgr.report import CacheReport
from cachemgr.scan import list_files, scan_cache, scan_one_repo
from cachemgr.trial import FULL, Trial, try_writing, was_tried_lately

_GRACE_SECONDS = 1


def probe(request: ProbeRequest) -> DriveReport:
    """What the drive is, and as much of the rest as was asked for: see ProbeRequest and DriveReport."""
    path = request.path
    if (target := _target_of_links(request)) is not None:
        return DriveReport("missing", f"{path} leads to {target} through a link. Give the real path.")
    try:
        _make_folders(request)
        is_empty = _is_empty(path)
        found = read_marker(path)
    except OSError as error:
        return DriveReport("missing", explain_missing(request, error=error))
    if request.uuid and found != request.uuid and not request.replace:
        return DriveReport("unmounted", explain_unmounted(request, found=found))
    if request.bare_root and is_empty and not request.adopt:
        return DriveReport("unmounted", explain_bare(request))
    return _read(request, _look_at(request, found))


def _look_at(request: ProbeRequest, found: str | None) -> DriveReport:
    """The drive itself: sizes, whether it takes writes, and the marker, which is written where it may be."""
    path = request.path
    mount = _mount_at(path)
    disk, filesystem = read_disk(path, mount=mount), _filesystem(path, mount=mount)
    message = explain_not_guarded(request) if request.bare_root and not (found or request.adopt) else ""
    report = DriveReport("ok", message, disk=disk, filesystem=filesystem, uuid=found)
    if found is None and request.adopt and not disk.read_only:
        report = _adopt(report, path, uuid=request.adopt)
    trial = _try(request, report, mount=mount)
    if report.state == "ok" and trial.problem is not None:
        return _read_only(report, path, reason=trial.problem)
    return replace(report, filesystem=filesystem and replace(filesystem, takes_links=trial.takes_links))


def _try(request: ProbeRequest, report: DriveReport, *, mount: Mount | None) -> Trial:
    """By the mount's flag; then a scan of an adopted cache writes, and all others ask what the modes say.

    A disk that turns, and took writes not long ago, is spared.
    """
    path = request.path
    if report.disk is not None and report.disk.read_only:
        return Trial(problem=errno.EROFS, takes_links=None)
    is_spared = mount and is_rotational(mount.device, source=mount.source) and was_tried_lately(path)
    if request.scan and report.uuid and not is_spared:
        return try_writing(path)
    return Trial(problem=None if os.access(path, os.W_OK | os.X_OK) else errno.EACCES, takes_links=None)


def _adopt(report: DriveReport, path: str, *, uuid: str) -> DriveReport:
    try:
        return replace(report, uuid=write_marker(path, uuid=uuid))
    except OSError as error:
        reason = error.errno or errno.EIO
    if reason in FULL:
        return replace(report, message=explain_not_adopted(path, reason=reason))
    return _read_only(report, path, reason=reason)


def _read_only(report: DriveReport, path: str, *, reason: int) -> DriveReport:
    return replace(report, state="read_only", message=explain_read_only(path, reason=reason))


def _read(request: ProbeRequest, report: DriveReport) -> DriveReport:
    """What lies there, as far as it was asked for."""
    path = request.path
    if request.scan:
        mount = _mount_at(path)
        contents = scan_cache(path, known=request.known, distrust=request.distrust, readers=readers_for(mount))
        # Sizes from after the scan: what it saw landing is no promise any more, and must not count as free space.
        report = replace(report, contents=contents, disk=read_disk(path, mount=mount))
    elif request.repo:
        contents = scan_one_repo(path, folder=request.repo)
        descriptions = _describe(contents, path=path, describer=request.describer) if request.describer else None
        report = replace(report, contents=contents, descriptions=descriptions)
    if request.files:
        report = replace(report, files=list_files(path, folder=request.files))
    if request.speed:
        from cachemgr.reading import measure_reading  # seldom asked for, and its imports cost the others time

        may_write = report.state == "ok" and report.uuid is not None
        report = replace(report, read_bytes_per_second=measure_reading(path, may_write=may_write))
    return report


def _describe(contents: CacheReport, *, path: str, describer: str) -> dict[str, Any]:
    """By commit. What the module imports costs nobody time who does not ask for it."""
    describe = importlib.import_module(describer).describe
    return {
        revision.commit: describe(f"{path}/{repo.folder}/snapshots/{revision.commit}")
        for repo in contents.repos
        for revision in repo.revisions
        if revision.is_loadable
    }


def readers_for(mount: Mount | None) -> int:
    """Two where a local disk that does not turn is below; else one, so that a drive that hangs costs one process."""
    if mount is None or len(os.sched_getaffinity(0)) < 2 or not disks_of(mount.device, source=mount.source):
        return 1
    return 1 if is_rotational(mount.device, source=mount.source) else 2


def read_disk(path: str, *, mount: Mount | None) -> Disk:
    """Sizes of the filesystem in bytes. Free is what our own user may still write (`f_bavail`)."""
    figures = os.statvfs(path)
    device = _device(path, mount=mount)
    host_device, host_free_bytes = _host(device)
    return Disk(
        total_bytes=figures.f_blocks * figures.f_frsize,
        used_bytes=(figures.f_blocks - figures.f_bfree) * figures.f_frsize,
        free_bytes=figures.f_bavail * figures.f_frsize,
        inodes_free=figures.f_favail if figures.f_files else None,
        device=device,
        read_only=bool(figures.f_flag & os.ST_RDONLY),
        host_device=host_device,
        host_free_bytes=host_free_bytes,
    )


def _host(device: int) -> tuple[int | None, int | None]:
    """Device and free bytes of the filesystem that a disk image with holes grows in, as far as we may look."""
    image = backing_file(device)
    if image is None:
        return None, None
    try:
        status = os.stat(image)
        folder = os.path.dirname(image)
        figures = os.statvfs(folder)
    except OSError:
        return None, None  # the image was removed, or lies outside what we see
    if status.st_blocks * 512 >= status.st_size:
        return None, None  # it has all its bytes
    return _device(folder, mount=_mount_at(folder)), figures.f_bavail * figures.f_frsize


def _mount_at(path: str) -> Mount | None:
    return mount_of(os.path.realpath(path), mounts=read_mounts())


def _device(path: str, *, mount: Mount | None) -> int:
    """The filesystem's own number: each subvolume of btrfs has another `st_dev`, though they share their space."""
    device = os.stat(path).st_dev
    return mount.device if mount and os.major(device) == 0 else device


def _filesystem(path: str, *, mount: Mount | None) -> Filesystem | None:
    if mount is None:
        return None
    inner = inner_path(os.path.realpath(path), mount=mount)
    return Filesystem(mount_point=mount.point, kind=mount.kind, source=mount.source, inner_path=inner)


def _target_of_links(request: ProbeRequest) -> str | None:
    """Where the path leads, if a link below the allowed root takes it elsewhere."""
    if request.root is None:
        return None
    target = os.path.realpath(request.path)
    return None if target == os.path.realpath(request.root) + request.path[len(request.root) :] else target


def _make_folders(request: ProbeRequest) -> None:
    """Never where an adopted drive is missing, unless its owner begins anew."""
    if request.make == "no" or (request.uuid and not request.replace):
        return
    if request.make == "all":
        os.makedirs(request.path, exist_ok=True)
    elif not os.path.isdir(request.path):
        os.mkdir(request.path)


def _is_empty(path: str) -> bool:
    with os.scandir(path) as entries:
        return next(entries, None) is None


def main(request_json: str, limit_seconds: str, listener: str) -> None:
    """An alarm ends it soon after its limit, should the parent be gone by then."""
    signal.alarm(int(limit_seconds) + _GRACE_SECONDS)
    if listener:
        from cachemgr.turns import answer_in_background

        answer_in_background(int(listener), lambda question: report_to_answer(probe(request_from_json(question))))
    request = request_from_json(json.loads(request_json), known=sys.stdin.read())
    answer = report_to_answer(probe(request), known=request.known)
    sys.stdout.write(json.dumps(answer))  # many times as fast as json.dump, which writes it in small pieces


if __name__ == "__main__":
    main(*sys.argv[1:])
