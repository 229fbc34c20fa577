"""JSON for the caches: strict numbers in, human and exact sizes out."""

import math
import re
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from cachemgr.models import Cache
from cachemgr.stats import CacheLine
from cachemgr.units import GB, MB

_NUMBER = re.compile(r"[0-9]{1,10}(\.[0-9]{1,6})?")
_MAX_MEGABYTES = 10**9


@extend_schema_field(OpenApiTypes.DOUBLE)
class MegabytesField(serializers.Field[int, Any, Any, Any]):
    """A positive number of megabytes -> bytes. A string is taken if it is a plain number, as in a query."""

    default_error_messages = {
        "not_a_number": "{value} is not a number of megabytes, such as 5000.",
        "not_positive": "{value} MB is not a size: it has to be above 0.",
        "too_large": "{value} MB is more than any drive holds (at most 10^9 MB).",
    }

    def to_internal_value(self, data: Any) -> int:
        megabytes = self._number(data)
        if megabytes > _MAX_MEGABYTES:
            self.fail("too_large", value=str(data)[:40])
        size_bytes = round(megabytes * MB)
        if size_bytes <= 0:
            self.fail("not_positive", value=str(data)[:40])
        return size_bytes

    def _number(self, data: Any) -> float:
        text = data if isinstance(data, str) else ""
        if isinstance(data, bool) or not isinstance(data, int | float | str):
            self.fail("not_a_number", value=repr(data)[:40])
        if isinstance(data, int):
            return float(max(-1, min(data, 10 * _MAX_MEGABYTES)))
        if isinstance(data, float) and math.isfinite(data):
            return data
        if not _NUMBER.fullmatch(text):
            is_negative = bool(_NUMBER.fullmatch(text.removeprefix("-")))
            self.fail("not_positive" if is_negative else "not_a_number", value=repr(data)[:40])
        return float(text)

    def to_representation(self, value: float) -> Any:
        return round(value / MB, 1)


class GigabytesField(serializers.FloatField):
    """Bytes -> GB, for people."""

    def to_representation(self, value: Any) -> Any:
        return round(value / GB, 3)


class CacheQuestionSerializer(serializers.Serializer[Any]):
    """What `POST /api/cache/check` asks, by query or by JSON."""

    cache_location = serializers.ChoiceField(choices=Cache.Location.choices)
    required_space_mb = MegabytesField()
    cache_path = serializers.CharField(required=False, allow_null=True, allow_blank=True)


class RecommendQuestionSerializer(serializers.Serializer[Any]):
    estimated_size_mb = MegabytesField()


class HistoryQuestionSerializer(serializers.Serializer[Any]):
    cache = serializers.ChoiceField(choices=Cache.Location.choices, default=Cache.Location.PRIMARY)
    since = serializers.DateTimeField(required=False)


class VerdictSerializer(serializers.Serializer[Any]):
    """A space.Verdict."""

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

    def get_usage_percent(self, verdict: Any) -> float:
        return round(float(verdict.projected_usage) * 100, 1)


class RecommendationSerializer(serializers.Serializer[Any]):
    recommended_cache = serializers.ChoiceField(choices=["primary", "secondary"], allow_null=True)
    reason = serializers.CharField()
    verdicts = VerdictSerializer(many=True)


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
    model_count = serializers.IntegerField()
    updated_at = serializers.DateTimeField(allow_null=True)
    age_seconds = serializers.IntegerField(allow_null=True)


class CacheStatsSerializer(serializers.Serializer[Any]):
    primary = CacheLineSerializer()
    secondary = CacheLineSerializer()
    custom = CacheLineSerializer(many=True)
    warning_threshold = serializers.FloatField()
    updated_at = serializers.DateTimeField(allow_null=True)


class SnapshotSerializer(serializers.Serializer[Any]):
    taken_at = serializers.DateTimeField()
    state = serializers.CharField()
    used_gb = GigabytesField(source="used_bytes")
    used_bytes = serializers.IntegerField()
    disk_free_gb = GigabytesField(source="disk_free_bytes")
    disk_free_bytes = serializers.IntegerField()
    disk_total_bytes = serializers.IntegerField()


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
