"""JSON of the caches: what is answered, with sizes for people and exact ones."""

from collections.abc import Sequence
from typing import Any

from rest_framework import serializers

from cachemgr.models import Cache, CacheEvent, CacheSnapshot, TrashedRepo
from cachemgr.questions import MegabytesField
from cachemgr.stats import CacheLine
from cachemgr.units import GB


class GigabytesField(serializers.FloatField):
    """Bytes -> GB, for people."""

    def to_representation(self, value: Any) -> Any:
        return round(value / GB, 3)


class CandidateSerializer(serializers.Serializer[Any]):
    """A space.Candidate: a model whose leaving would help."""

    name = serializers.CharField()
    cache_location = serializers.CharField(source="location")
    size_gb = GigabytesField(source="size_bytes")
    size_bytes = serializers.IntegerField()
    last_used_at = serializers.DateTimeField(allow_null=True)


class VerdictSerializer(serializers.Serializer[Any]):
    """A space.Verdict. `would_make_room` has models where it does not fit and their leaving would change that."""

    cache_location = serializers.CharField(source="figures.location")
    cache_path = serializers.CharField(source="figures.path")
    required_space_mb = MegabytesField(source="required_bytes")
    sufficient = serializers.BooleanField()
    warning = serializers.BooleanField()
    available_mb = MegabytesField(source="available_bytes")
    available_bytes = serializers.IntegerField()
    projected_usage_gb = GigabytesField(source="projected_bytes")
    usage_percent = serializers.SerializerMethodField()
    limit_gb = GigabytesField(source="figures.limit_bytes", allow_null=True)
    disk_free_gb = GigabytesField(source="figures.disk_free_bytes")
    limiting_factor = serializers.ChoiceField(choices=["limit", "disk", "inodes", "unavailable"])
    message = serializers.CharField()
    would_make_room = CandidateSerializer(many=True)

    def get_usage_percent(self, verdict: Any) -> float:
        return round(float(verdict.projected_usage) * 100, 1)


class RecommendationSerializer(serializers.Serializer[Any]):
    """An advice.Recommendation. `would_make_room` has models only where it fits nowhere."""

    recommended_cache = serializers.ChoiceField(choices=["primary", "secondary"], allow_null=True, source="location")
    reason = serializers.CharField()
    verdicts = VerdictSerializer(many=True)
    would_make_room = CandidateSerializer(many=True)


class CacheLineSerializer(serializers.Serializer[CacheLine]):
    """A stats.CacheLine."""

    cache_location = serializers.CharField(source="cache.location")
    cache_path = serializers.CharField(source="cache.path")
    configured = serializers.BooleanField(source="cache.is_configured")
    status = serializers.CharField()
    message = serializers.CharField(source="figures.state_message")
    level = serializers.ChoiceField(choices=["green", "yellow", "red"])
    warning = serializers.BooleanField()
    used_gb = GigabytesField(source="figures.used_bytes")
    used_bytes = serializers.IntegerField(source="figures.used_bytes")
    physical_gb = GigabytesField(source="snapshot.physical_bytes")
    physical_bytes = serializers.IntegerField(source="snapshot.physical_bytes")
    foreign_gb = GigabytesField(source="snapshot.foreign_bytes")
    foreign_bytes = serializers.IntegerField(source="snapshot.foreign_bytes")
    limit_gb = GigabytesField(source="figures.limit_bytes", allow_null=True)
    limit_bytes = serializers.IntegerField(source="figures.limit_bytes", allow_null=True)
    usage_percent = serializers.FloatField()
    reserved_gb = GigabytesField(source="figures.reserved_bytes")
    reserved_bytes = serializers.IntegerField(source="figures.reserved_bytes")
    available_gb = GigabytesField(source="available_bytes")
    available_bytes = serializers.IntegerField()
    disk_total_gb = GigabytesField(source="figures.disk_total_bytes")
    disk_total_bytes = serializers.IntegerField(source="figures.disk_total_bytes")
    disk_used_gb = GigabytesField(source="figures.disk_used_bytes")
    disk_used_bytes = serializers.IntegerField(source="figures.disk_used_bytes")
    disk_free_gb = GigabytesField(source="figures.disk_free_bytes")
    disk_free_bytes = serializers.IntegerField(source="figures.disk_free_bytes")
    disk_usage_percent = serializers.FloatField()
    pool = serializers.ListField(
        child=serializers.CharField(), help_text="The other caches that fill the same free space."
    )
    filesystem = serializers.CharField(source="cache.filesystem")
    mount_point = serializers.CharField(source="cache.mount_point")
    takes_links = serializers.BooleanField(source="cache.takes_links", allow_null=True)
    read_mb_per_second = serializers.FloatField(allow_null=True)
    model_count = serializers.IntegerField(source="snapshot.model_count")
    updated_at = serializers.DateTimeField(allow_null=True)
    age_seconds = serializers.IntegerField(allow_null=True)


class CacheStatsSerializer(serializers.Serializer[Any]):
    primary = CacheLineSerializer()
    secondary = CacheLineSerializer()
    custom = CacheLineSerializer(many=True)
    warning_threshold = serializers.FloatField()
    updated_at = serializers.DateTimeField(allow_null=True)


class SnapshotSerializer(serializers.ModelSerializer[CacheSnapshot]):
    """Where the drive was away, the sizes are those of `figures_at`."""

    used_gb = GigabytesField(source="used_bytes")
    disk_free_gb = GigabytesField(source="disk_free_bytes")

    class Meta:
        model = CacheSnapshot
        fields = [
            "taken_at",
            "figures_at",
            "state",
            "used_gb",
            "used_bytes",
            "physical_bytes",
            "foreign_bytes",
            "disk_free_gb",
            "disk_free_bytes",
            "disk_total_bytes",
            "model_count",
        ]


class EventSerializer(serializers.ModelSerializer[CacheEvent]):
    """`sent_at` is null as long as no webhook took it."""

    cache_location = serializers.CharField(source="cache.location")
    cache_path = serializers.CharField(source="cache.path")

    class Meta:
        model = CacheEvent
        fields = ["happened_at", "cache_location", "cache_path", "kind", "before", "after", "message", "sent_at"]


class TrashedRepoSerializer(serializers.ModelSerializer[TrashedRepo]):
    """A removed repo. `freed_bytes` is what the disk gets back when it is emptied, as weighed when it was removed; from
    `goes_at` on it is emptied by itself."""

    cache_location = serializers.CharField(source="cache.location")
    cache_path = serializers.CharField(source="cache.path")
    size_gb = GigabytesField(source="size_bytes")
    freed_gb = GigabytesField(source="freed_bytes")
    goes_at = serializers.DateTimeField()

    class Meta:
        model = TrashedRepo
        fields = [
            "id",
            "title",
            "folder",
            "cache_location",
            "cache_path",
            "file_count",
            "size_gb",
            "size_bytes",
            "freed_gb",
            "freed_bytes",
            "removed_at",
            "goes_at",
        ]


class TrashSerializer(serializers.Serializer[Any]):
    """Oldest first."""

    entries = TrashedRepoSerializer(many=True)
    freed_gb = GigabytesField(source="freed_bytes")
    freed_bytes = serializers.IntegerField()


class ItemSerializer(serializers.Serializer[Any]):
    """A cleaning.Item."""

    name = serializers.CharField()
    why = serializers.CharField()
    freed_bytes = serializers.IntegerField()


class ClassFindingsSerializer(serializers.Serializer[Any]):
    """A cleaning.ClassFindings: `items` are the largest, `count` is of all."""

    name = serializers.CharField()
    title = serializers.CharField()
    count = serializers.IntegerField()
    freed_gb = GigabytesField(source="weight.freed_bytes")
    freed_bytes = serializers.IntegerField(source="weight.freed_bytes")
    items = ItemSerializer(many=True)


class CacheFindingsSerializer(serializers.Serializer[Any]):
    """A cleaning.CacheFindings: `skipped` says why a cache was not looked at, `busy` are repos that somebody uses."""

    cache_location = serializers.CharField(source="cache.location")
    cache_path = serializers.CharField(source="cache.path")
    skipped = serializers.CharField()
    problem = serializers.CharField()
    busy = serializers.ListField(child=serializers.CharField())
    classes = ClassFindingsSerializer(many=True)
    freed_bytes = serializers.IntegerField(source="weight.freed_bytes")


class CleanSerializer(serializers.Serializer[Any]):
    """A cleaning.CleanPlan: what could go, or what is gone."""

    classes = serializers.ListField(child=serializers.CharField(), source="names")
    count = serializers.IntegerField()
    freed_gb = GigabytesField(source="freed_bytes")
    freed_bytes = serializers.IntegerField()
    caches = CacheFindingsSerializer(many=True)


def stats_body(lines: list[CacheLine], *, threshold: float) -> dict[str, Any]:
    """`{"primary", "secondary", "custom": [...]}`: a cache that left `.env` is listed with the custom ones."""
    by_location = {line.cache.location: line for line in lines if line.cache.is_configured}
    dates = [line.updated_at for line in lines if line.updated_at]
    return dict(
        CacheStatsSerializer(
            {
                "primary": by_location[Cache.Location.PRIMARY],
                "secondary": by_location[Cache.Location.SECONDARY],
                "custom": [line for line in lines if not line.cache.is_configured],
                "warning_threshold": threshold,
                "updated_at": max(dates, default=None),
            }
        ).data
    )


def trash_body(entries: Sequence[TrashedRepo], *, freed_bytes: int) -> dict[str, Any]:
    return dict(TrashSerializer({"entries": entries, "freed_bytes": freed_bytes}).data)
