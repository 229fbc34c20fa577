"""Reading what is known of the caches. Nothing here touches a disk."""

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db.models import OuterRef, Subquery, Sum

from cachemgr import space
from cachemgr.models import Cache, CacheSnapshot, Reservation
from cachemgr.space import CacheFigures, Rules

NOT_MEASURED = CacheSnapshot(state="not_measured", message="It has not been measured yet. Refresh the cache stats.")


def current_rules() -> Rules:
    return Rules(settings.CACHE_WARNING_THRESHOLD, settings.DISK_RESERVE_BYTES)


@dataclass(frozen=True)
class CacheLine:
    """One cache with its figures, as `/api/cache/stats` and the Settings page show it. Shares are of 100."""

    cache: Cache
    figures: CacheFigures
    status: str
    level: str
    warning: bool
    available_bytes: int
    model_count: int
    updated_at: datetime | None
    age_seconds: int | None

    @property
    def usage_percent(self) -> float:
        return round(self.figures.usage * 100, 1)

    @property
    def reserved_percent(self) -> float:
        figures = self.figures
        return round(figures.reserved_bytes / figures.size_bytes * 100, 1) if figures.size_bytes else 0.0

    @property
    def disk_usage_percent(self) -> float:
        figures = self.figures
        return round(figures.disk_used_bytes / figures.disk_total_bytes * 100, 1) if figures.disk_total_bytes else 0.0


def cache_lines() -> list[CacheLine]:
    """The configured caches first, then every other that is still in use. Three queries, whatever their number."""
    caches = list(Cache.objects.listed())
    snapshots = latest_snapshots()
    promised = reserved_by_cache()
    order = {Cache.Location.PRIMARY: 0, Cache.Location.SECONDARY: 1}
    caches.sort(key=lambda cache: (not cache.is_configured, order.get(Cache.Location(cache.location), 2)))
    return [
        _line(cache, snapshot, combine(cache, snapshot, snapshots=snapshots, promised=promised))
        for cache in caches
        for snapshot in [snapshots.get(cache.pk, NOT_MEASURED)]
    ]


def _line(cache: Cache, snapshot: CacheSnapshot, figures: CacheFigures) -> CacheLine:
    rules = current_rules()
    status = space.status(figures, rules=rules)
    measured_at = snapshot.figures_at
    return CacheLine(
        cache=cache,
        figures=figures,
        status=status,
        level=space.level(figures.usage, rules=rules),
        warning=status != "ok",
        available_bytes=space.room_left(figures, rules=rules)[0],
        model_count=snapshot.model_count,
        updated_at=measured_at,
        age_seconds=int(snapshot.age.total_seconds()) if measured_at else None,
    )


def latest_snapshots() -> dict[int, CacheSnapshot]:
    """The newest snapshot of each cache, by the cache's key."""
    newest = CacheSnapshot.objects.filter(cache=OuterRef("pk")).order_by("-taken_at").values("pk")[:1]
    keys = Cache.objects.annotate(newest=Subquery(newest)).values("newest")
    return {snapshot.cache_id: snapshot for snapshot in CacheSnapshot.objects.filter(pk__in=keys)}


def reserved_by_cache() -> dict[int, int]:
    rows = Reservation.objects.values("cache").annotate(total=Sum("remaining_bytes"))
    return {row["cache"]: row["total"] for row in rows}


def figures_now(cache: Cache, snapshot: CacheSnapshot) -> CacheFigures:
    """The snapshot's sizes with the promises that stand at this moment."""
    return combine(cache, snapshot, snapshots=latest_snapshots(), promised=reserved_by_cache())


def combine(
    cache: Cache, snapshot: CacheSnapshot, *, snapshots: dict[int, CacheSnapshot], promised: dict[int, int]
) -> CacheFigures:
    """Free space belongs to a filesystem: what is promised to any cache on the same device is counted."""
    pool = [
        key
        for key, other in snapshots.items()
        if key != cache.pk and snapshot.device is not None and other.device == snapshot.device
    ]
    return CacheFigures(
        location=cache.location,
        path=cache.path,
        state=snapshot.state,
        state_message=snapshot.message,
        limit_bytes=cache.limit_bytes,
        used_bytes=snapshot.used_bytes,
        reserved_bytes=promised.get(cache.pk, 0),
        pool_reserved_bytes=sum(promised.get(key, 0) for key in [cache.pk, *pool]),
        disk_total_bytes=snapshot.disk_total_bytes,
        disk_used_bytes=snapshot.disk_used_bytes,
        disk_free_bytes=snapshot.disk_free_bytes,
        inodes_free=snapshot.inodes_free,
    )
