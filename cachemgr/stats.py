"""Reading what is known of the caches. Nothing here touches a disk."""

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db.models import Sum

from cachemgr import space
from cachemgr.models import Cache, CacheEvent, CacheSnapshot, Reservation
from cachemgr.space import CacheFigures, Pool, Rules
from cachemgr.units import MB

NOT_MEASURED = CacheSnapshot(state="not_measured", message="It has not been measured yet. Refresh the cache stats.")


def current_rules() -> Rules:
    return Rules(settings.CACHE_WARNING_THRESHOLD, settings.DISK_RESERVE_BYTES)


@dataclass(frozen=True)
class CacheLine:
    """One cache with its figures, as `/api/cache/stats` and the Settings page show it. Shares are of 100."""

    cache: Cache
    snapshot: CacheSnapshot
    figures: CacheFigures
    status: str
    level: str
    warning: bool
    available_bytes: int
    pool: tuple[str, ...]  # the other caches that fill the same free space
    updated_at: datetime | None
    age_seconds: int | None

    @property
    def name(self) -> str:
        return name_of(self.cache)

    @property
    def usage_percent(self) -> float:
        return round(self.figures.usage * 100, 1)

    @property
    def reserved_percent(self) -> float:
        return percent(self.figures.reserved_bytes, of=self.figures.size_bytes)

    @property
    def foreign_percent(self) -> float:
        """The part of `usage_percent` that is no models; of a custom cache's disk that is not known."""
        figures = self.figures
        return 0.0 if figures.limit_bytes is None else percent(self.snapshot.foreign_bytes, of=figures.size_bytes)

    @property
    def models_percent(self) -> float:
        return max(0.0, self.usage_percent - self.foreign_percent)

    @property
    def disk_usage_percent(self) -> float:
        return percent(self.figures.disk_used_bytes, of=self.figures.disk_total_bytes)

    @property
    def read_mb_per_second(self) -> float | None:
        """How fast its drive reads; None until that was measured."""
        speed = self.cache.read_bytes_per_second
        return None if speed is None else round(speed / MB, 1)


def percent(part_bytes: int, *, of: int) -> float:
    return round(part_bytes / of * 100, 1) if of else 0.0


def name_of(cache: Cache) -> str:
    """`primary` and `secondary`; of any other cache its path."""
    return cache.location if cache.is_configured else cache.path


def cache_lines() -> list[CacheLine]:
    """The configured caches first, then every other that is still in use. Three queries, whatever their number."""
    caches = list(Cache.objects.listed())
    snapshots = latest_snapshots()
    promised = reserved_by_cache()
    order = {Cache.Location.PRIMARY: 0, Cache.Location.SECONDARY: 1}
    caches.sort(key=lambda cache: (not cache.is_configured, order.get(Cache.Location(cache.location), 2)))
    return [
        _line(
            cache,
            snapshot,
            figures=combine(cache, snapshot, snapshots=snapshots, promised=promised),
            pool=_neighbours(cache, caches=caches, snapshots=snapshots),
        )
        for cache in caches
        for snapshot in [snapshots.get(cache.pk, NOT_MEASURED)]
    ]


def _neighbours(cache: Cache, *, caches: list[Cache], snapshots: dict[int, CacheSnapshot]) -> tuple[str, ...]:
    own = _filesystems(snapshots.get(cache.pk))
    return tuple(name_of(other) for other in caches if other != cache and own & _filesystems(snapshots.get(other.pk)))


def _filesystems(snapshot: CacheSnapshot | None) -> set[int]:
    """The device it lies on; of a disk image with holes also the one that the image lies on."""
    if snapshot is None:
        return set()
    return {device for device in (snapshot.device, snapshot.host_device) if device is not None}


def _line(cache: Cache, snapshot: CacheSnapshot, *, figures: CacheFigures, pool: tuple[str, ...]) -> CacheLine:
    rules = current_rules()
    status = space.status(figures, rules=rules)
    measured_at = snapshot.figures_at
    return CacheLine(
        cache=cache,
        snapshot=snapshot,
        figures=figures,
        status=status,
        level=space.level(figures.usage, rules=rules),
        warning=status != "ok",
        available_bytes=space.room_left(figures, rules=rules)[0],
        pool=pool,
        updated_at=measured_at,
        age_seconds=int(snapshot.age.total_seconds()) if measured_at else None,
    )


def latest_snapshots() -> dict[int, CacheSnapshot]:
    """The newest snapshot of each cache, by the cache's key."""
    newest = CacheSnapshot.objects.filter(pk__in=Cache.objects.values("latest"))
    return {snapshot.cache_id: snapshot for snapshot in newest}


def newest_events(*, since: datetime | None = None, limit: int = 100) -> list[CacheEvent]:
    """The newest first, each with its cache."""
    events = CacheEvent.objects.select_related("cache")
    return list((events if since is None else events.filter(happened_at__gte=since))[:limit])


def reserved_by_cache() -> dict[int, int]:
    rows = Reservation.objects.values("cache").annotate(total=Sum("remaining_bytes"))
    return {row["cache"]: row["total"] for row in rows}


def figures_now(cache: Cache, measured: CacheSnapshot) -> CacheFigures:
    """The measured sizes with the promises that stand at this moment."""
    return combine(cache, measured, snapshots=latest_snapshots(), promised=reserved_by_cache())


def combine(
    cache: Cache, snapshot: CacheSnapshot, *, snapshots: dict[int, CacheSnapshot], promised: dict[int, int]
) -> CacheFigures:
    """`snapshots` are the stored ones, `promised` the promises of the same moment, both by the cache's key.

    Use comes from the stored one: the transaction that stored it shrank the promises by what had landed until then.
    """
    return CacheFigures(
        location=cache.location,
        path=cache.path,
        state=snapshot.state,
        state_message=snapshot.message,
        limit_bytes=cache.limit_bytes,
        used_bytes=snapshots.get(cache.pk, snapshot).used_bytes,
        reserved_bytes=promised.get(cache.pk, 0),
        pools=_pools(cache, snapshot, snapshots=snapshots, promised=promised),
        disk_total_bytes=snapshot.disk_total_bytes,
        disk_used_bytes=snapshot.disk_used_bytes,
        inodes_free=snapshot.inodes_free,
    )


def _pools(
    cache: Cache, snapshot: CacheSnapshot, *, snapshots: dict[int, CacheSnapshot], promised: dict[int, int]
) -> tuple[Pool, ...]:
    """Free space belongs to a filesystem: what is promised to any cache that fills it counts."""
    filled = [(snapshot.device, "the disk")]
    if snapshot.host_device is not None:
        filled.append((snapshot.host_device, "the drive on which its disk image lies"))
    pools = []
    for device, name in filled:
        on_it = {key: other for key, other in snapshots.items() if key != cache.pk and device in _filesystems(other)}
        free_bytes = _free_on(device, measured=snapshot, stored=[*on_it.values(), snapshots.get(cache.pk, snapshot)])
        reserved_bytes = sum(promised.get(key, 0) for key in (cache.pk, *on_it))
        pools.append(Pool(free_bytes, reserved_bytes, name))
    return tuple(pools)


def _free_on(device: int | None, *, measured: CacheSnapshot, stored: list[CacheSnapshot]) -> int:
    """The least of what was seen since `measured`: a later scan shrank promises by bytes that were free before it."""
    later = [other for other in stored if other.taken_at >= measured.taken_at and device in _filesystems(other)]
    return min(_free_of(each, device=device) for each in [measured, *later])


def _free_of(snapshot: CacheSnapshot, *, device: int | None) -> int:
    return snapshot.disk_free_bytes if device == snapshot.device else snapshot.host_free_bytes or 0


def caches_on_disk_of(cache: Cache, snapshot: CacheSnapshot) -> list[Cache]:
    """The other caches that fill the same free space."""
    keys = [key for key, other in latest_snapshots().items() if _filesystems(other) & _filesystems(snapshot)]
    return list(Cache.objects.filter(pk__in=keys).exclude(pk=cache.pk).order_by("pk"))
