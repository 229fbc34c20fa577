"""The past of the caches: after a week one snapshot an hour stays, after a year none; a plot gets what it can show."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from django.db import connection
from django.db.models.expressions import RawSQL
from django.utils import timezone

from cachemgr.models import Cache, CacheEvent, CacheSnapshot

EVERY_ROW_FOR = timedelta(days=7)
KEPT_FOR = timedelta(days=365)
PLOT_POINTS = 500
_BATCH = 500  # rows in one transaction: nobody who writes waits long

Row = tuple[int, int, datetime]  # the snapshot's key, its cache's key, when it was taken


def points(
    cache: Cache, *, since: datetime, until: datetime | None = None, limit: int = PLOT_POINTS
) -> list[CacheSnapshot]:
    """At most `limit` snapshots, oldest first, evenly from those of the time; the newest is always among them."""
    if cache.pk is None:  # a custom path that nobody uses yet
        return []
    rows = CacheSnapshot.objects.filter(cache=cache, taken_at__gte=since)
    if until is not None:
        rows = rows.filter(taken_at__lte=until)
    keys = list(rows.order_by("-taken_at", "-pk").values_list("pk", flat=True))
    step = max(1, ceil(len(keys) / limit))
    return list(CacheSnapshot.objects.filter(pk__in=keys[::step]).order_by("taken_at", "pk"))


def samples(
    caches: Sequence[Cache], *, since: datetime, until: datetime, limit: int = PLOT_POINTS
) -> dict[int, list[CacheSnapshot]]:
    """For pictures: the time in `limit` equal spans, and of each cache the newest snapshot of each span, oldest first,
    by the cache's key. One query, which finds its rows by an index: it takes no longer where there are many."""
    keys = [cache.pk for cache in caches]
    found: dict[int, list[CacheSnapshot]] = {key: [] for key in keys}
    if not keys:
        return found
    ends = [since + (until - since) * number / limit for number in range(1, limit + 1)]
    for snapshot in CacheSnapshot.objects.filter(pk__in=_newest_by(ends, since=since, caches=keys)).order_by(
        "taken_at", "pk"
    ):
        found[snapshot.cache_id].append(snapshot)
    return found


def _newest_by(ends: Sequence[datetime], *, since: datetime, caches: Sequence[int]) -> RawSQL:
    """The keys of each cache's newest rows at each of these moments. The ORM cannot say it without reading them all."""
    adapt = connection.ops.adapt_datetimefield_value
    moments: list[Any] = [adapt(each) for each in ends]
    rows = ", ".join(["(%s)"] * len(moments))
    wanted = ", ".join(["%s"] * len(caches))
    statement = (
        f"WITH span(ends_at) AS (VALUES {rows}) "  # noqa: S608  (place-holders and names of ours alone)
        "SELECT (SELECT shot.id FROM cachemgr_cachesnapshot shot WHERE shot.cache_id = owner.id"
        " AND shot.taken_at >= %s AND shot.taken_at <= span.ends_at ORDER BY shot.taken_at DESC LIMIT 1)"
        f" FROM cachemgr_cache owner CROSS JOIN span WHERE owner.id IN ({wanted})"
    )
    return RawSQL(statement, [*moments, adapt(since), *caches])  # noqa: S611  (every value is a parameter)


def thin(*, now: datetime | None = None) -> int:
    """Deletes what is not kept, and answers how many rows. What a cache shows as its latest always stays."""
    now = now or timezone.now()
    CacheEvent.objects.filter(happened_at__lt=now - KEPT_FOR).delete()
    old = CacheSnapshot.objects.filter(taken_at__lt=now - EVERY_ROW_FOR).order_by("taken_at", "pk")
    rows = old.values_list("pk", "cache_id", "taken_at")
    latest = set(Cache.objects.exclude(latest=None).values_list("latest_id", flat=True))
    keys = [key for key in rows_to_drop(rows.iterator(), now=now) if key not in latest]
    for start in range(0, len(keys), _BATCH):
        CacheSnapshot.objects.filter(pk__in=keys[start : start + _BATCH]).delete()
    return len(keys)


def rows_to_drop(rows: Iterable[Row], *, now: datetime) -> Iterator[int]:
    """The keys of rows that are not kept: of those older than a week each hour's first stays, for a year.

    The rows come in the order of their dates. Of what is left a second call drops nothing.
    """
    last_hours: dict[int, datetime] = {}
    for key, cache, taken_at in rows:
        hour = taken_at.replace(minute=0, second=0, microsecond=0)
        age = now - taken_at
        if age > KEPT_FOR or (age > EVERY_ROW_FOR and last_hours.get(cache) == hour):
            yield key
        else:
            last_hours[cache] = hour
