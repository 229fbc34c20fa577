"""The admin of usage records: to look at. What they come to stands in the list of models, and on the page of each."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.decorators import display

from homelab.admin import LookOnlyAdmin
from inference.models import UsageRecord
from inference.stats import PERIODS
from registry.admin import ModelRegistryAdmin

_COLORS = {"ok": "success", "error": "danger", "client left": "warning"}


@admin.register(UsageRecord)
class UsageRecordAdmin(LookOnlyAdmin):
    list_display = (
        "started_at",
        "model_name",
        "kind",
        "result",
        "first_token",
        "tokens",
        "speed",
        "load",
        "cache_path",
    )
    list_filter = ("kind", "status", "model", "was_cold", "started_at")
    list_per_page = 50
    show_full_result_count = False
    search_fields = ("model_name", "error_code")

    @display(description="Result", ordering="status", label=_COLORS)
    def result(self, obj: UsageRecord) -> tuple[str, str]:
        status = obj.get_status_display().lower()
        return status, obj.error_code or status

    @display(description="First token", ordering="first_token_seconds")
    def first_token(self, obj: UsageRecord) -> str:
        seconds = _seconds(obj.first_token_seconds)
        return f"{seconds}, with a load" if seconds and obj.was_cold else seconds

    @display(description="Tokens read, written")
    def tokens(self, obj: UsageRecord) -> str:
        if obj.prompt_tokens is None and obj.completion_tokens is None:
            return ""
        return f"{obj.prompt_tokens or 0:,}, {obj.completion_tokens or 0:,}"

    @display(description="Tokens per second", ordering="tokens_per_second")
    def speed(self, obj: UsageRecord) -> str:
        return "" if obj.tokens_per_second is None else f"{obj.tokens_per_second:.1f}"

    @display(description="Load", ordering="load_seconds")
    def load(self, obj: UsageRecord) -> str:
        return _seconds(obj.load_seconds)


class UsedModelAdmin(ModelRegistryAdmin):
    """The list with what each model is used."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        models: QuerySet[Any] = super().get_queryset(request)
        since = timezone.now() - PERIODS["last_30d"]
        counted: QuerySet[Any] = models.annotate(recent_uses=UsageRecord.objects.uses_since(since))
        return counted

    @display(description="30-day uses", ordering="recent_uses")
    def uses(self, obj: Any) -> str:
        return f"{obj.recent_uses:,}"


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.2f} s"
