"""What the records say about a model, in seven queries however many there are; and how long they are kept."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta
from math import ceil
from statistics import median

from django.db.models import Count, Max, Sum
from django.utils import timezone

from inference.models import UsageRecord
from registry.models import ModelRegistry

KEPT_FOR = timedelta(days=365)
PERIODS = {"last_24h": timedelta(hours=24), "last_7d": timedelta(days=7), "last_30d": timedelta(days=30)}
_SAMPLE = 500  # requests that speak for how fast a model is now
_LOADS_PER_CACHE = 20
_LOADS = 1000
_BATCH = 500  # rows in one transaction: nobody who writes waits long


@dataclass(frozen=True, slots=True)
class Period:
    """Requests of a time. `uses` were answered, or left by the client before the end; `errors` were not."""

    uses: int = 0
    left: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: "Period") -> "Period":
        return Period(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True, slots=True)
class Spread:
    """Of the latest `count` requests. None where there are none."""

    count: int = 0
    median: float | None = None
    p95: float | None = None


@dataclass(frozen=True, slots=True)
class LoadsFrom:
    """How long loads from one cache took: the median of its latest, twenty at most."""

    cache_location: str
    cache_path: str
    count: int
    median_seconds: float


@dataclass(frozen=True, slots=True)
class ErrorCount:
    code: str
    count: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class UsageStats:
    """`errors` of 30 days, requests and loads, the most frequent first."""

    model_name: str
    last_24h: Period
    last_7d: Period
    last_30d: Period
    first_token_cold: Spread
    first_token_warm: Spread
    tokens_per_second: Spread
    loads: tuple[LoadsFrom, ...]
    errors: tuple[ErrorCount, ...]

    @property
    def last_error(self) -> ErrorCount | None:
        return max(self.errors, key=lambda error: error.last_at, default=None)


def stats_of(model: ModelRegistry, *, now: datetime | None = None) -> UsageStats:
    now = now or timezone.now()
    cold, warm = (_latest_times(model, was_cold=was_cold) for was_cold in (True, False))
    latest = sorted([*cold, *warm], key=lambda row: row[0], reverse=True)[:_SAMPLE]
    return UsageStats(
        model_name=model.model_name,
        **_periods(model, now=now),
        first_token_cold=spread(seconds for _, seconds, _ in cold),
        first_token_warm=spread(seconds for _, seconds, _ in warm),
        tokens_per_second=spread(speed for _, _, speed in latest if speed is not None),
        loads=tuple(loads_of(model)),
        errors=tuple(_errors(model, since=now - PERIODS["last_30d"])),
    )


def spread(numbers: Iterable[float]) -> Spread:
    """The median, and the least number that 95 % of them do not exceed."""
    ordered = sorted(numbers)
    if not ordered:
        return Spread()
    return Spread(len(ordered), round(median(ordered), 3), round(ordered[ceil(0.95 * len(ordered)) - 1], 3))


def _periods(model: ModelRegistry, *, now: datetime) -> dict[str, Period]:
    """Each time has the shorter ones in it, and no row is read twice."""
    found, total, until = {}, Period(), now
    for name, age in PERIODS.items():
        total += _period(model, since=now - age, until=until)
        found[name], until = total, now - age
    return found


def _period(model: ModelRegistry, *, since: datetime, until: datetime) -> Period:
    rows = UsageRecord.objects.of(model).requests().filter(started_at__gte=since, started_at__lt=until)
    sums = (Count("pk"), Sum("prompt_tokens", default=0), Sum("completion_tokens", default=0))
    found = Period()
    for status, count, read, written in rows.order_by().values_list("status").annotate(*sums):
        found += Period(
            uses=0 if status == "error" else count,
            left=count if status == "left" else 0,
            errors=count if status == "error" else 0,
            prompt_tokens=read,
            completion_tokens=written,
        )
    return found


def _latest_times(model: ModelRegistry, *, was_cold: bool) -> Sequence[tuple[datetime, float, float | None]]:
    """When, seconds to the first token, tokens per second. Loads have no first token."""
    rows = UsageRecord.objects.of(model).filter(first_token_seconds__isnull=False)
    rows = rows.filter(was_cold__in=[was_cold])  # of a plain boolean Django makes a condition that no index serves
    times = rows.order_by("-started_at").values_list("started_at", "first_token_seconds", "tokens_per_second")
    return list(times[:_SAMPLE])  # type: ignore[arg-type]  # the filter leaves no None


def loads_of(model: ModelRegistry) -> Iterator[LoadsFrom]:
    """The cache that was used last comes first."""
    rows = UsageRecord.objects.of(model).loads().filter(status=UsageRecord.Status.OK, load_seconds__isnull=False)
    latest = rows.order_by("-started_at").values_list("cache_location", "cache_path", "load_seconds")[:_LOADS]
    by_cache: dict[tuple[str, str], list[float]] = {}
    for location, path, seconds in latest:
        by_cache.setdefault((location, path), []).append(seconds)  # type: ignore[arg-type]
    for (location, path), all_seconds in by_cache.items():
        seconds_of_latest = all_seconds[:_LOADS_PER_CACHE]
        yield LoadsFrom(location, path, len(seconds_of_latest), round(median(seconds_of_latest), 3))


def _errors(model: ModelRegistry, *, since: datetime) -> list[ErrorCount]:
    rows = UsageRecord.objects.of(model).filter(status=UsageRecord.Status.ERROR, started_at__gte=since)
    counted = rows.order_by().values_list("error_code").annotate(count=Count("pk"), last_at=Max("started_at"))
    return [ErrorCount(*row) for row in counted.order_by("-count", "error_code")]


def thin(*, now: datetime | None = None) -> int:
    """Deletes what is older than a year, and answers how many rows."""
    old = UsageRecord.objects.filter(started_at__lt=(now or timezone.now()) - KEPT_FOR).order_by("started_at", "pk")
    deleted = 0
    while keys := list(old.values_list("pk", flat=True)[:_BATCH]):
        deleted += UsageRecord.objects.filter(pk__in=keys).delete()[0]
    return deleted
