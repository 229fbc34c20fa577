from typing import Any

from rest_framework import serializers

from access.models import ApiKey


class ApiKeySerializer(serializers.ModelSerializer[ApiKey]):
    """A key as it may be shown: never the key itself."""

    state = serializers.CharField(read_only=True)
    expires_at = serializers.DateTimeField(source="expiry_date")

    class Meta:
        model = ApiKey
        fields = ("prefix", "name", "scope", "state", "created", "expires_at", "last_used_at")


def describe_new_key(key: ApiKey, *, text: str) -> dict[str, Any]:
    """The one time that the key itself is told."""
    return {**ApiKeySerializer(key).data, "key": text}
