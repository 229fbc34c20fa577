"""Reading what is known of the caches. Nothing here touches a disk."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256

from django.conf import settings
from django.db.models import Count, Max, Sum

from cachemgr import space
from cachemgr.models import Cache, CacheEvent, CacheSnapshot, Reservation
from cachemgr.space import CacheFigures, Pool, Rules
from cachemgr.units import MB

NOT_MEASURED = CacheSnapshot(state="not_measured", message="It has not been measured yet. Refresh the cache stats.")


def current_rules() -> Rules:
    return Rules(settings.CACHE_WARNING_THRESHOLD, settings.DISK_RESERVE_BYTES)


@dataclass(frozen=True, slots=True)
class Promised:
    """All that is promised in one cache, or in several."""

    size_bytes: int
    inodes: int


@dataclass(frozen=True, slots=True)
class Books:
    """What is stored of all caches at one moment, by the cache's key: the newest snapshots, and the promises."""

    snapshots: dict[int, CacheSnapshot]
    promised: dict[int, Promised]

    def promised_in(self, caches: Iterable[int]) -> Promised:
        found = [self.promised[key] for key in caches if key in self.promised]
        return Promised(sum(each.size_bytes for each in found), sum(each.inodes for each in found))


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
    books = Books(snapshots, reserved_by_cache())
    order = {Cache.Location.PRIMARY: 0, Cache.Location.SECONDARY: 1}
    caches.sort(key=lambda cache: (not cache.is_configured, order.get(Cache.Location(cache.location), 2)))
    return [
        _line(
            cache,
            snapshot,
            figures=combine(cache, snapshot, books=books),
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


def stamp() -> str:
    """It is another one after each measurement, promise and event: whoever shows the caches asks whether to look again.
    Three queries."""
    measured = list(Cache.objects.order_by("pk").values_list("pk", "path", "limit_bytes", "latest__taken_at"))
    promised = Reservation.objects.aggregate(Count("pk"), Max("pk"), Sum("remaining_bytes"))
    happened = CacheEvent.objects.aggregate(Max("pk"))
    return sha256(repr((measured, promised, happened)).encode()).hexdigest()[:16]


def newest_events(*, since: datetime | None = None, limit: int = 100) -> list[CacheEvent]:
    """The newest first, each with its cache."""
    events = CacheEvent.objects.select_related("cache")
    return list((events if since is None else events.filter(happened_at__gte=since))[:limit])


def reserved_by_cache() -> dict[int, Promised]:
    by_cache = Reservation.objects.values("cache")
    rows = by_cache.annotate(size_bytes=Sum("remaining_bytes"), files=Sum("file_count"), repos=Count("pk"))
    return {
        row["cache"]: Promised(row["size_bytes"], space.inodes_needed(row["files"], repos=row["repos"])) for row in rows
    }


def figures_now(cache: Cache, measured: CacheSnapshot) -> CacheFigures:
    """The measured sizes with the promises that stand at this moment."""
    return combine(cache, measured, books=Books(latest_snapshots(), reserved_by_cache()))


def combine(cache: Cache, snapshot: CacheSnapshot, *, books: Books) -> CacheFigures:
    """Use comes from the stored snapshot: the transaction that stored it shrank the promises by what had landed."""
    return CacheFigures(
        location=cache.location,
        path=cache.path,
        state=snapshot.state,
        state_message=snapshot.message,
        limit_bytes=cache.limit_bytes,
        used_bytes=books.snapshots.get(cache.pk, snapshot).used_bytes,
        reserved_bytes=books.promised_in([cache.pk]).size_bytes,
        pools=_pools(cache, snapshot, books=books),
        disk_total_bytes=snapshot.disk_total_bytes,
        disk_used_bytes=snapshot.disk_used_bytes,
    )


def _pools(cache: Cache, snapshot: CacheSnapshot, *, books: Books) -> tuple[Pool, ...]:
    own = _pool(cache, snapshot, device=snapshot.device, books=books)
    if snapshot.host_device is None:
        return (own,)
    below = _pool(cache, snapshot, device=snapshot.host_device, books=books)
    return own, replace(below, name="the drive on which its disk image lies")


def _pool(cache: Cache, snapshot: CacheSnapshot, *, device: int | None, books: Books) -> Pool:
    """Free space belongs to a filesystem: what is promised to any cache that fills it counts.

    Free is the least that was seen since `snapshot`: a later scan shrank, or ended, promises by what was free before.
    """
    stored = {key: other for key, other in books.snapshots.items() if device in _filesystems(other)}
    seen = [snapshot, *(other for other in stored.values() if other.taken_at >= snapshot.taken_at)]
    counted = [each.inodes_free for each in seen if each.device == device and each.inodes_free is not None]
    on_it = stored | {cache.pk: snapshot}
    return Pool(
        free_bytes=min(_free_of(each, device=device) for each in seen),
        reserved_bytes=books.promised_in(on_it).size_bytes,
        inodes_free=min(counted, default=None),
        inodes_reserved=books.promised_in(key for key, each in on_it.items() if each.device == device).inodes,
    )


def _free_of(snapshot: CacheSnapshot, *, device: int | None) -> int:
    return snapshot.disk_free_bytes if device == snapshot.device else snapshot.host_free_bytes or 0


def caches_on_disk_of(cache: Cache, snapshot: CacheSnapshot) -> list[Cache]:
    """The other caches that fill the same free space."""
    keys = [key for key, other in latest_snapshots().items() if _filesystems(other) & _filesystems(snapshot)]
    return list(Cache.objects.filter(pk__in=keys).exclude(pk=cache.pk).order_by("pk"))
