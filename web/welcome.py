"""What somebody sees who comes for the first time: the caches that were found, and the models in them."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Count, Sum

from cachemgr.models import CachedRepo
from cachemgr.stats import CacheLine, cache_lines
from cachemgr.units import MB
from inference.models import UsageRecord
from registry.models import Job, ModelRegistry


@dataclass(frozen=True, slots=True)
class FoundCache:
    """`repo_count` are repos that lie there, also those that no engine can load."""

    line: CacheLine
    repo_count: int

    @property
    def is_measured(self) -> bool:
        return self.line.status != "not_measured"


@dataclass(frozen=True, slots=True)
class Welcome:
    """`model_count` models lie in the caches and were adopted: `size_bytes` together."""

    caches: Sequence[FoundCache]
    model_count: int
    size_bytes: int

    @property
    def is_looking(self) -> bool:
        """The first look at a drive takes a moment."""
        return any(not cache.is_measured for cache in self.caches)

    @property
    def repo_count(self) -> int:
        return sum(cache.repo_count for cache in self.caches)


def is_new() -> bool:
    """Nobody has registered a model, asked one, or begun any work: what was found on the drives is as it was."""
    touched = ModelRegistry.objects.exclude(status=ModelRegistry.Status.READY, last_used_at=None)
    return not (Job.objects.exists() or UsageRecord.objects.exists() or touched.exists())


def greet() -> Welcome | None:
    """None as soon as anything was ever done with a model."""
    if not is_new():
        return None
    found = ModelRegistry.objects.aggregate(count=Count("pk"), megabytes=Sum("model_size_mb", default=0))
    counts = dict(CachedRepo.objects.filter(repo_type="model").order_by().values_list("cache").annotate(Count("pk")))
    caches = [FoundCache(line, counts.get(line.cache.pk, 0)) for line in cache_lines()]
    return Welcome(caches, found["count"], round(found["megabytes"] * MB))
