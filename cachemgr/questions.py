"""What may be asked about caches, by query, JSON or command line: strict numbers, places and moments."""

import math
import re
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from cachemgr.cleaning import CLASSES
from cachemgr.models import Cache
from cachemgr.units import MB

_NUMBER = re.compile(r"[0-9]{1,10}(\.[0-9]{1,6})?")
_MAX_MEGABYTES = 10**9
_AGO = re.compile(r"([1-9][0-9]{0,2})([hdwy])")
_HOURS = {"h": 1, "d": 24, "w": 24 * 7, "y": 24 * 365}


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
        size_bytes = round(megabytes * MB) if megabytes > 0 else 0
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


@extend_schema_field(OpenApiTypes.STR)
class MomentField(serializers.DateTimeField):
    """A moment in the past: ISO 8601, or how long ago in hours, days, weeks or years, such as 24h, 7d, 2w, 1y."""

    default_error_messages = {
        "not_a_moment": "{value} is no moment: write 24h, 7d, 2w, 1y, or a date such as 2026-01-31T18:00:00Z.",
    }

    def to_internal_value(self, value: Any) -> datetime:
        ago = _AGO.fullmatch(value) if isinstance(value, str) else None
        if ago:
            return timezone.now() - timedelta(hours=int(ago[1]) * _HOURS[ago[2]])
        try:
            return super().to_internal_value(value)
        except serializers.ValidationError:
            self.fail("not_a_moment", value=repr(value)[:40])


def refuse_path_without_custom(location: str | None, *, path: str | None) -> None:
    """Raises ValidationError: primary and secondary have their paths from `.env`; one that is sent would be lost."""
    if path and location not in {Cache.Location.CUSTOM, None}:
        message = f"cache_path is for custom only: the {location} cache has its path from .env."
        raise serializers.ValidationError({"cache_path": message}, code="path_without_custom")


class PlaceSerializer(serializers.Serializer[Any]):
    """Which cache is meant. `cache_path` is for custom."""

    cache_location = serializers.ChoiceField(choices=Cache.Location.choices)
    cache_path = serializers.CharField(required=False, allow_null=True, allow_blank=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        refuse_path_without_custom(attrs["cache_location"], path=attrs.get("cache_path"))
        return attrs


class CacheQuestionSerializer(PlaceSerializer):
    """What `POST /api/cache/check` asks, by query or by JSON."""

    required_space_mb = MegabytesField()


class AdoptionSerializer(PlaceSerializer):
    """What the owner allows: to make a folder where no drive is mounted, to take another drive than before."""

    create = serializers.BooleanField(default=False)  # type: ignore[assignment]  # a field, taken off the class by DRF
    replace = serializers.BooleanField(default=False)


class TrashQuestionSerializer(serializers.Serializer[Any]):
    """With `dry_run` nothing changes: the answer says what would come back, or what would be freed now, exactly."""

    dry_run = serializers.BooleanField(default=False)


class CleanQuestionSerializer(serializers.Serializer[Any]):
    """What is to be cleaned up: one class at least, for nothing goes that was not named."""

    classes = serializers.ListField(child=serializers.ChoiceField(choices=list(CLASSES)), allow_empty=False)
    dry_run = serializers.BooleanField(default=False)


class RecommendQuestionSerializer(serializers.Serializer[Any]):
    estimated_size_mb = MegabytesField()


class HistoryQuestionSerializer(serializers.Serializer[Any]):
    """`since` is a day ago where it is left out."""

    cache = serializers.ChoiceField(choices=Cache.Location.choices, default=Cache.Location.PRIMARY)
    cache_path = serializers.CharField(required=False, help_text="For custom.")
    since = MomentField(required=False, help_text="Such as 24h, 7d, 1y, or 2026-01-31T18:00:00Z.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        refuse_path_without_custom(attrs["cache"], path=attrs.get("cache_path"))
        return attrs

    @property
    def asked_since(self) -> datetime:
        since: datetime | None = self.validated_data.get("since")
        return since or timezone.now() - timedelta(days=1)


class EventsQuestionSerializer(serializers.Serializer[Any]):
    """Without `since` all that is kept."""

    since = MomentField(required=False, help_text="Such as 24h, 7d, 1y, or 2026-01-31T18:00:00Z.")
