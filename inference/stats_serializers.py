"""JSON of what the records say about a model: see stats.UsageStats. Times in seconds; null is not known yet."""

from typing import Any

from rest_framework import serializers


class PeriodSerializer(serializers.Serializer[Any]):
    """`uses` were answered; `left` of them the client left before the end; `errors` were not answered."""

    uses = serializers.IntegerField()
    left = serializers.IntegerField()
    errors = serializers.IntegerField()  # type: ignore[assignment]  # DRF takes fields off the class
    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()


class SpreadSerializer(serializers.Serializer[Any]):
    """Of the latest `count` requests, 500 at most."""

    count = serializers.IntegerField()
    median = serializers.FloatField(allow_null=True)
    p95 = serializers.FloatField(allow_null=True)


class FirstTokenSerializer(serializers.Serializer[Any]):
    """`cold` requests waited for the model to be loaded."""

    cold = SpreadSerializer(source="first_token_cold")
    warm = SpreadSerializer(source="first_token_warm")


class LoadsFromSerializer(serializers.Serializer[Any]):
    """The median of the latest loads from one cache, 20 at most."""

    cache_location = serializers.CharField()
    cache_path = serializers.CharField()
    count = serializers.IntegerField()
    median = serializers.FloatField(source="median_seconds")


class ErrorCountSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    count = serializers.IntegerField()
    last_at = serializers.DateTimeField()


class UsageStatsSerializer(serializers.Serializer[Any]):
    """`errors` of 30 days, the most frequent first."""

    model_name = serializers.CharField()
    last_24h = PeriodSerializer()
    last_7d = PeriodSerializer()
    last_30d = PeriodSerializer()
    first_token_seconds = FirstTokenSerializer(source="*")
    tokens_per_second = SpreadSerializer()
    load_seconds = LoadsFromSerializer(source="loads", many=True)
    errors = ErrorCountSerializer(many=True)  # type: ignore[assignment]
    last_error = ErrorCountSerializer(allow_null=True)
