"""Measurements that pages show, without a drive."""

from typing import Any

from django.utils import timezone

from cachemgr.models import Cache, CacheSnapshot

GB = 10**9
DISK = {"disk_total_bytes": 100 * GB, "disk_used_bytes": 40 * GB, "disk_free_bytes": 60 * GB, "device": 7}


def measured(cache: Cache, *, slot: int = 10**9, **values: Any) -> CacheSnapshot:
    """The cache's latest one, of a disk of 100 GB. A second one of a slot writes over the first."""
    now = timezone.now()
    found = {"state": "ok", "taken_at": now, "figures_at": now, **DISK, **values}
    snapshot, _ = CacheSnapshot.objects.update_or_create(cache=cache, slot=slot, defaults=found)
    Cache.objects.filter(pk=cache.pk).update(latest=snapshot)
    return snapshot
