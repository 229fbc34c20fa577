"""JSON of jobs, and which of them are asked for."""

from typing import Any

from django.db.models import Q, QuerySet
from rest_framework import serializers

from registry.job_words import facts_of
from registry.models import Job, ModelRegistry
from registry.serializers import CachePlaceSerializer, TextField
from registry.services import get_model


class JobSerializer(serializers.ModelSerializer[Job]):
    """`model` is a name: of a removed model the one that it had. `committed`: the model is in its new place already.
    `kept`: files that a move left at its source, because they are not what was moved. `trash`: what a removal put into
    the trash, as long as it can come back from there. `not_before`: a queued job waits until then. `summary`: how
    it is, in a line for people."""

    model = serializers.CharField(source="title")
    source = CachePlaceSerializer(allow_null=True)  # type: ignore[assignment]  # DRF takes fields off the class
    target = CachePlaceSerializer(allow_null=True)
    percent = serializers.FloatField()
    eta_seconds = serializers.IntegerField(allow_null=True)
    rate_bytes_per_second = serializers.IntegerField(source="rate")
    kept = serializers.ListField(child=serializers.CharField())
    trash = serializers.IntegerField(allow_null=True)
    summary = serializers.SerializerMethodField()

    class Meta:
        model = Job
        fields = [
            "id",
            "kind",
            "model",
            "hf_path",
            "source",
            "target",
            "state",
            "stage",
            "committed",
            "bytes_done",
            "bytes_total",
            "percent",
            "rate_bytes_per_second",
            "eta_seconds",
            "attempt",
            "not_before",
            "cancel_requested",
            "kept",
            "trash",
            "error_code",
            "error_message",
            "summary",
            "created_at",
            "started_at",
            "finished_at",
            "updated_at",
        ]

    def get_summary(self, job: Job) -> str:
        return facts_of(job)


class JobQuestionSerializer(serializers.Serializer[Any]):
    """Which jobs: of a state (`open` is queued or running), of a kind, of a model."""

    state = serializers.ChoiceField(choices=["open", *Job.State.values], required=False)
    kind = serializers.ChoiceField(choices=Job.Kind.values, required=False)
    model = TextField(required=False, max_length=200)

    def jobs(self) -> QuerySet[Job]:
        """Newest first. Raises ValidationError, UnknownModel."""
        self.is_valid(raise_exception=True)
        asked = self.validated_data
        found = Job.objects.for_display()
        if state := asked.get("state"):
            found = found.open() if state == "open" else found.filter(state=state)
        if kind := asked.get("kind"):
            found = found.filter(kind=kind)
        return _about(found, asked["model"]) if "model" in asked else found


def _about(jobs: QuerySet[Job], name: str) -> QuerySet[Job]:
    """Those of the model, and of removed ones that had its name. Raises UnknownModel for a name that nobody has or
    had."""
    removed = Q(model=None, model_name=name)
    if ModelRegistry.objects.named(name) is None and Job.objects.filter(removed).exists():
        return jobs.filter(removed)
    return jobs.filter(Q(model=get_model(name)) | removed)
