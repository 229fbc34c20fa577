"""JSON of work on a model's files: what is asked, and plans as they are shown."""

from typing import Any

from rest_framework import serializers

from cachemgr.models import Cache
from cachemgr.questions import MegabytesField, refuse_path_without_custom
from cachemgr.serializers import GigabytesField, VerdictSerializer
from registry.job_serializers import JobSerializer
from registry.moves import Move
from registry.serializers import CachePlaceSerializer, ModelSerializer, NoticeSerializer, TextField


class MoveQuestionSerializer(serializers.Serializer[Any]):
    """Where to, as at registration. `dry_run`: only say what would be done."""

    cache_location = serializers.ChoiceField(choices=Cache.Location.choices)
    cache_path = TextField(required=False, allow_null=True, allow_blank=True)
    dry_run = serializers.BooleanField(default=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        refuse_path_without_custom(attrs["cache_location"], path=attrs.get("cache_path"))
        return attrs

    @property
    def place(self) -> dict[str, Any]:
        return {name: self.validated_data.get(name) for name in ("cache_location", "cache_path")}


class MovePlanSerializer(serializers.Serializer[Any]):
    """A moves.Move. `method`: copy, or link on one filesystem, where no byte is written. `target_exists`: "", same (a
    whole copy lies there, which is verified and taken), or other (it is in the way)."""

    models = serializers.SerializerMethodField(help_text="All that lie in the folder: they go along.")
    source = CachePlaceSerializer()  # type: ignore[assignment]  # DRF takes fields off the class
    target = CachePlaceSerializer()
    method = serializers.CharField(source="plan.method")
    layout = serializers.CharField(source="plan.layout")
    files = serializers.IntegerField(source="plan.file_count")
    size_mb = MegabytesField(source="plan.size_bytes")
    size_bytes = serializers.IntegerField(source="plan.size_bytes")
    bytes_to_write = serializers.IntegerField(source="plan.bytes_to_write")
    seconds = serializers.FloatField(allow_null=True)
    free_after_gb = GigabytesField(source="free_after_bytes")
    free_after_bytes = serializers.IntegerField()
    target_exists = serializers.CharField(source="plan.target_exists")
    skipped = serializers.ListField(child=serializers.CharField(), source="plan.skipped")
    problems = serializers.ListField(child=serializers.CharField(), source="plan.problems")
    verdict = VerdictSerializer()

    def get_models(self, move: Move) -> list[str]:
        return [row.model_name for row in move.rows]


class RegisteredModelSerializer(ModelSerializer):
    """The answer to a registration: the model, what to know about it, and the job if a download was asked for."""

    warnings = NoticeSerializer(many=True, read_only=True)
    job = JobSerializer(read_only=True, allow_null=True)

    class Meta(ModelSerializer.Meta):
        fields = [*ModelSerializer.Meta.fields, "warnings", "job"]


class ChangedModelSerializer(ModelSerializer):
    """The answer to a PATCH: the model, and the job of the move that it began."""

    job = JobSerializer(read_only=True, allow_null=True)

    class Meta(ModelSerializer.Meta):
        fields = [*ModelSerializer.Meta.fields, "job"]
