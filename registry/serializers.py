"""JSON for models."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.core.validators import RegexValidator
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail

from cachemgr.models import Cache
from cachemgr.questions import MegabytesField, refuse_path_without_custom
from cachemgr.serializers import GigabytesField, VerdictSerializer
from registry import serving
from registry.models import NAME_PATTERN, NAME_RULE, REVISION_PATTERN, REVISION_RULE, ModelRegistry
from registry.placing import Estimate
from registry.presence import presence_of
from registry.services import Wish, cache_path_of

_NAME = RegexValidator(NAME_PATTERN, NAME_RULE, code="invalid_name")
_REVISION = RegexValidator(REVISION_PATTERN, REVISION_RULE, code="invalid_revision")


class TextField(serializers.CharField):
    """A text as it was sent: no number is made into one, and nothing is cut off."""

    def __init__(self, **options: Any) -> None:
        super().__init__(trim_whitespace=False, **options)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class ModelSerializer(serializers.ModelSerializer[ModelRegistry]):
    """`cache_path` is the directory that counts now: for primary and secondary that of `.env`. `read_at`: when all its
    bytes were last read, and none was bad; `verified_at`: when they were all proven, too. `unproven`: files of which
    nobody knows the checksum."""

    cache_path = serializers.SerializerMethodField()
    model_size_mb = serializers.SerializerMethodField()
    estimated_size_mb = serializers.SerializerMethodField()
    size_bytes = serializers.IntegerField(allow_null=True)
    context_length = serializers.IntegerField(allow_null=True)
    unproven = serializers.ListField(child=serializers.CharField())

    class Meta:
        model = ModelRegistry
        fields = [
            "model_name",
            "hf_path",
            "cache_location",
            "cache_path",
            "model_size_mb",
            "estimated_size_mb",
            "size_bytes",
            "status",
            "error",
            "pinned",
            "revision",
            "context_length",
            "metadata",
            "created_at",
            "read_at",
            "verified_at",
            "unproven",
            "last_used_at",
            "use_count",
            "prompt_tokens",
            "completion_tokens",
            *serving.COLUMNS,
        ]

    def get_cache_path(self, model: ModelRegistry) -> str:
        return cache_path_of(model)

    def get_model_size_mb(self, model: ModelRegistry) -> float | None:
        return plain_number(model.model_size_mb)

    def get_estimated_size_mb(self, model: ModelRegistry) -> float | None:
        return plain_number(model.estimated_size_mb)


class PresentModelSerializer(ModelSerializer):
    """One model, with what its engine does now: as in /api/ps, null where no engines run."""

    engine = serializers.SerializerMethodField()

    class Meta(ModelSerializer.Meta):
        fields = [*ModelSerializer.Meta.fields, "engine"]

    def get_engine(self, model: ModelRegistry) -> dict[str, Any] | None:
        return presence_of(model, request=self.context["request"])


def plain_number(number: float | None) -> float | None:
    """14000.0 -> 14000, as it was given."""
    if number is None:
        return None
    return int(number) if number == int(number) else round(number, 1)


def models_body(models: Iterable[ModelRegistry]) -> list[dict[str, Any]]:
    """What ModelSerializer answers, in a fifth of its time: the list may have hundreds, and pages ask for it again and
    again. A test compares the two."""
    names = ModelSerializer.Meta.fields
    return [{name: getattr(model, name) for name in names} | _made_for_people(model) for model in models]


def _made_for_people(model: ModelRegistry) -> dict[str, Any]:
    return {
        "cache_path": cache_path_of(model),
        "model_size_mb": plain_number(model.model_size_mb),
        "estimated_size_mb": plain_number(model.estimated_size_mb),
        "created_at": _moment(model.created_at),
        "read_at": _moment(model.read_at),
        "verified_at": _moment(model.verified_at),
        "last_used_at": _moment(model.last_used_at),
    }


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


class CachePlaceSerializer(serializers.Serializer[Any]):
    cache_location = serializers.CharField(source="location")
    cache_path = serializers.CharField(source="path")


class NoticeSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    message = serializers.CharField()


class WishSerializer(serializers.Serializer[Any]):
    """The body of a registration. Without a location the recommended one is taken; without a size the Hub is asked."""

    model_name = TextField(validators=[_NAME])
    hf_path = TextField(max_length=200)
    cache_location = serializers.ChoiceField(choices=Cache.Location.choices, required=False, allow_null=True)
    cache_path = TextField(required=False, allow_null=True, allow_blank=True)
    estimated_size_mb = MegabytesField(required=False, allow_null=True)
    revision = TextField(validators=[_REVISION], default="main")
    pinned = serializers.BooleanField(default=False)
    download = serializers.BooleanField(default=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        refuse_path_without_custom(attrs.get("cache_location"), path=attrs.get("cache_path"))
        return attrs

    def wish(self) -> Wish:
        data = self.validated_data
        return Wish(
            model_name=data["model_name"],
            hf_path=data["hf_path"],
            cache_location=data.get("cache_location") or ("custom" if data.get("cache_path") else None),
            cache_path=data.get("cache_path"),
            estimated_bytes=data.get("estimated_size_mb"),
            wanted_revision=data["revision"],
            pinned=data["pinned"],
        )


class ModelChangeSerializer(serializers.ModelSerializer[ModelRegistry]):
    """What PATCH may change. Another location is a move, of the files where there are any. How a model is served counts
    from its next load; whatever is wrong with such a field has one code, as in `invalid_keep_alive`."""

    cache_location = serializers.ChoiceField(choices=Cache.Location.choices, required=False)
    cache_path = TextField(required=False, allow_null=True, allow_blank=True)

    class Meta:
        model = ModelRegistry
        fields = ["cache_location", "cache_path", "pinned", *serving.COLUMNS]

    def to_internal_value(self, data: Any) -> Any:
        try:
            return super().to_internal_value(data)
        except serializers.ValidationError as error:
            raise serializers.ValidationError(_in_own_words(error, data)) from error


def _in_own_words(error: serializers.ValidationError, data: dict[str, Any]) -> dict[str, Any]:
    """One code and one sentence for each field that says how a model is served."""
    assert isinstance(error.detail, dict)
    found: dict[str, Any] = error.detail.copy()
    for name in found.keys() & serving.WANTED.keys():
        sentence = f"{name} is {repr(data[name])[:40]}, but {serving.WANTED[name]} is wanted."
        found[name] = [ErrorDetail(sentence, code=f"invalid_{name}")]
    return found


class RemovalQuestionSerializer(serializers.Serializer[Any]):
    """`files` may be left out where there are none. With `row=keep` the files alone go, and the model stays registered.
    With `dry_run` nothing is removed."""

    files = serializers.ChoiceField(choices=["trash", "keep"], required=False)
    row = serializers.ChoiceField(choices=["forget", "keep"], default="forget")
    dry_run = serializers.BooleanField(default=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["row"] == "keep" and attrs.get("files") != "trash":
            message = "With row=keep only files=trash removes anything."
            raise serializers.ValidationError({"row": message}, code="nothing_to_remove")
        return attrs


class RemovalSerializer(serializers.Serializer[Any]):
    """A removal.RemovalPlan. The trash frees nothing: `freed_bytes` come back when it is emptied."""

    model = serializers.CharField(source="model.model_name")
    cache_location = serializers.CharField(source="cache.location")
    cache_path = serializers.CharField(source="cache.path")
    has_files = serializers.BooleanField()
    file_count = serializers.IntegerField(source="weight.file_count")
    size_gb = GigabytesField(source="weight.size_bytes")
    size_bytes = serializers.IntegerField(source="weight.size_bytes")
    freed_gb = GigabytesField(source="weight.freed_bytes")
    freed_bytes = serializers.IntegerField(source="weight.freed_bytes")
    shared_with = serializers.ListField(child=serializers.CharField())
    is_busy = serializers.BooleanField()


class HubFileSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    size_bytes = serializers.IntegerField()


class EstimateQuestionSerializer(serializers.Serializer[Any]):
    hf_path = TextField(max_length=200)
    revision = TextField(validators=[_REVISION], default="main")


class PlaceSerializer(serializers.Serializer[Any]):
    """A placing.Place: what of the model lies in that cache, and whether the rest fits."""

    cache_location = serializers.CharField(source="cache.location")
    cache_path = serializers.CharField(source="cache.path")
    present_mb = MegabytesField(source="need.present_bytes")
    present_bytes = serializers.IntegerField(source="need.present_bytes")
    present_files = serializers.IntegerField(source="need.present_files")
    missing_mb = MegabytesField(source="need.size_bytes")
    missing_bytes = serializers.IntegerField(source="need.size_bytes")
    verdict = VerdictSerializer()


class EstimateSerializer(serializers.Serializer[Any]):
    """A placing.Estimate. `size_source`: hub, name, or unknown; only the Hub tells files and the commit."""

    hf_path = serializers.CharField()
    revision = serializers.CharField(source="size.snapshot.commit", default=None, allow_null=True)
    size_mb = MegabytesField(source="size.size_bytes")
    size_bytes = serializers.IntegerField(source="size.size_bytes")
    size_source = serializers.CharField(source="size.source")
    files = HubFileSerializer(source="size.snapshot.files", many=True, default=())
    file_count = serializers.SerializerMethodField()
    places = PlaceSerializer(many=True)
    recommended_cache = serializers.CharField(source="recommendation.location", allow_null=True)
    reason = serializers.CharField(source="recommendation.reason")
    warnings = NoticeSerializer(source="size.notices", many=True)

    def get_file_count(self, estimate: Estimate) -> int | None:
        return len(estimate.size.snapshot.files) if estimate.size.snapshot else None
