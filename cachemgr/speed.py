"""How fast a drive reads: measured once, in the background, and again when the drive is another one."""

import logging
from datetime import timedelta

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from cachemgr.drive_report import ANSWERING
from cachemgr.drives import ProbeRequest, probe_drive
from cachemgr.models import Cache, CachedRepo

logger = logging.getLogger(__name__)

LIMIT_SECONDS = 30.0
_AGAIN_AFTER = timedelta(days=1)  # where it could not be told: an empty drive may have a large file by then


def measure_due() -> list[Cache]:
    """Measures one drive after the other, as far as that is due and the drive is idle. Answers the measured caches."""
    measured: list[Cache] = []
    for cache in due():
        if cache not in measured and not is_busy(cache):
            measured += _measure(cache)
    return measured


def due() -> list[Cache]:
    """Caches on drives that answer, whose speed was not measured since the drive came."""
    is_old = Q(read_bytes_per_second=None, speed_measured_at__lt=timezone.now() - _AGAIN_AFTER)
    wanted = Cache.objects.listed().filter(Q(speed_measured_at=None) | is_old)
    return list(wanted.filter(latest__state__in=ANSWERING, latest__device__isnull=False))


def is_busy(cache: Cache) -> bool:
    """True while a download runs on the drive, as the last scan saw it: it would be slowed, and the figure wrong."""
    assert cache.latest is not None
    here = CachedRepo.objects.filter(cache__latest__device=cache.latest.device).exclude(partials=[])
    return any(partial["is_live"] for partials in here.values_list("partials", flat=True) for partial in partials)


def _measure(cache: Cache) -> list[Cache]:
    """One reading counts for all caches on the device. An attempt counts even where it tells nothing."""
    assert cache.latest is not None
    request = ProbeRequest(path=cache.path, uuid=cache.uuid or None, device=cache.latest.device, speed=True)
    report = probe_drive(request, limit_seconds=LIMIT_SECONDS, lock_folder=settings.RUNTIME_DIR)
    speed = report.read_bytes_per_second
    if speed is not None:
        logger.info("The drive of %s reads %.0f MB a second.", cache.path, speed / 10**6)
    same_drive = Cache.objects.filter(latest__device=cache.latest.device)
    keys = list(same_drive.values_list("pk", flat=True))
    Cache.objects.filter(pk__in=keys).update(read_bytes_per_second=speed, speed_measured_at=timezone.now())
    return list(Cache.objects.filter(pk__in=keys))
