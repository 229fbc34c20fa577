"""Which disks may sleep. A disk that turns and did nothing since it was measured holds what it held; reading it
would only wake it.
"""

from datetime import timedelta

from cachemgr import blockdev
from cachemgr.drives import DriveReport
from cachemgr.models import Cache
from cachemgr.mounts import read_mounts

LONGEST = timedelta(hours=1)
SHORTEST = timedelta(minutes=2)  # no disk falls asleep so soon, and the kernel holds writes back for half a minute


def io_mark_of(report: DriveReport) -> str:
    """What the disks of a turning drive have read and written until now; "" for every other drive."""
    if report.disk is None or report.filesystem is None:
        return ""
    device, source = report.disk.device, report.filesystem.source
    return blockdev.io_mark(device, source=source) if blockdev.is_rotational(device, source=source) else ""


def is_asleep(cache: Cache) -> bool:
    """True while the disk of a cache has done nothing for minutes, since its figures were taken; an hour at most.

    Asks the kernel alone, never the drive.
    """
    last = cache.latest
    if last is None or last.state != "ok" or not cache.io_mark or not SHORTEST <= last.age < LONGEST:
        return False
    here = (each for each in read_mounts() if each.device == last.device and each.point == cache.mount_point)
    mount = next(here, None)
    return mount is not None and blockdev.io_mark(mount.device, source=mount.source) == cache.io_mark
