"""What inference remembers: a row for each request and each load, with figures and never a word of what was said."""

from datetime import datetime
from typing import Self

from django.db import models
from django.db.models import Count, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce

from cachemgr.models import Cache
from registry.models import ModelRegistry


class UsageQuerySet(models.QuerySet["UsageRecord"]):
    def of(self, model: ModelRegistry) -> Self:
        return self.filter(model=model)

    def requests(self) -> Self:
        return self.filter(kind=UsageRecord.Kind.REQUEST)

    def loads(self) -> Self:
        return self.filter(kind=UsageRecord.Kind.LOAD)

    def uses_since(self, moment: datetime) -> Coalesce:
        """How many requests a row of the registry answered since then: an annotation of its queries."""
        answered = self.requests().filter(model=OuterRef("pk"), started_at__gte=moment).exclude(status="error")
        return Coalesce(Subquery(answered.order_by().values("model").annotate(uses=Count("pk")).values("uses")), 0)


class UsageRecord(models.Model):
    """One request, or one load of a model. Prompts and answers are not kept, nor error messages, which may quote them.

    Times are in seconds. `first_token_seconds` counts from `started_at`, so it has the waiting and the load in it;
    `load_seconds` of a request is what it waited for a load.
    """

    class Kind(models.TextChoices):
        REQUEST = "request"
        LOAD = "load"

    class Status(models.TextChoices):
        OK = "ok"
        ERROR = "error"
        LEFT = "left", "client left"

    kind = models.CharField(max_length=8, choices=Kind)
    model = models.ForeignKey(ModelRegistry, models.SET_NULL, null=True, related_name="usage", db_index=False)
    model_name = models.CharField(max_length=96, help_text="As it was called then.")
    cache_location = models.CharField(max_length=16, blank=True, choices=Cache.Location)
    cache_path = models.CharField("cache", max_length=1024, blank=True, help_text="The cache that it was read from.")
    started_at = models.DateTimeField()
    duration_seconds = models.FloatField(help_text="Until the last token, the error, or until the client left.")
    status = models.CharField(max_length=8, choices=Status)
    error_code = models.CharField(max_length=64, blank=True)
    endpoint = models.CharField(max_length=64, blank=True)
    is_streamed = models.BooleanField(default=False)
    was_cold = models.BooleanField(default=False, help_text="It waited for the model to be loaded.")
    prompt_tokens = models.PositiveIntegerField(null=True)
    completion_tokens = models.PositiveIntegerField(null=True)
    first_token_seconds = models.FloatField(null=True)
    tokens_per_second = models.FloatField(null=True, help_text="After the first token.")
    load_seconds = models.FloatField(null=True)
    stage_seconds = models.JSONField(default=dict, help_text="How long it was queued, reading, and so on.")

    objects = UsageQuerySet.as_manager()

    class Meta:
        ordering = ["-started_at", "-pk"]
        indexes = [
            models.Index(fields=["-started_at", "-id"], name="usage_by_time"),
            # Each has all that its query reads: no row is looked up, see stats.py.
            models.Index(
                fields=["model", "kind", "started_at", "status", "prompt_tokens", "completion_tokens"],
                name="usage_sums",
            ),
            models.Index(
                fields=["model", "was_cold", "started_at", "first_token_seconds", "tokens_per_second"],
                condition=Q(first_token_seconds__isnull=False),
                name="usage_times",
            ),
            models.Index(
                fields=["model", "status", "started_at", "error_code"],
                condition=Q(status="error"),
                name="usage_errors",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.model_name}, {self.started_at:%Y-%m-%d %H:%M:%S} UTC"
