"""Load and Unload beside the registry's buttons. The registry cannot know them: it lies below."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import action, display

from inference.services import load, pool_of, unload
from inference.usage_admin import UsedModelAdmin
from registry.admin import with_sentence
from registry.models import ModelRegistry

_PATIENT_SECONDS = 2.0

admin.site.unregister(ModelRegistry)


@admin.register(ModelRegistry)
class ServedModelAdmin(UsedModelAdmin):
    actions = (*UsedModelAdmin.actions, "load_selected", "unload_selected")
    actions_submit_line = (*UsedModelAdmin.actions_submit_line, "load_now", "unload_now")
    list_display = (*UsedModelAdmin.list_display, "presence")

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        found = super().get_fieldsets(request, obj)
        if obj is None:
            return found
        (title, facts), *others = found
        return [(title, facts | {"fields": _with_presence(facts["fields"])}), *others]

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        found = super().get_readonly_fields(request, obj)
        return found if obj is None else (*found, "presence")

    @display(description="In memory")
    def presence(self, obj: ModelRegistry) -> SafeString:
        """live.js fills it in, and keeps it up to date."""
        return format_html('<span class="hl-presence" data-model="{}"></span>', obj.model_name)

    @action(description="Load", icon="memory")
    def load_now(self, request: HttpRequest, obj: ModelRegistry) -> None:
        self._load(request, obj)

    @action(description="Unload", icon="eject")
    def unload_now(self, request: HttpRequest, obj: ModelRegistry) -> None:
        self._unload(request, obj)

    @admin.action(description="Load")
    def load_selected(self, request: HttpRequest, queryset: QuerySet[ModelRegistry]) -> None:
        for model in queryset:
            self._load(request, model)

    @admin.action(description="Unload")
    def unload_selected(self, request: HttpRequest, queryset: QuerySet[ModelRegistry]) -> None:
        for model in queryset:
            self._unload(request, model)

    def _load(self, request: HttpRequest, model: ModelRegistry) -> None:
        with_sentence(request, lambda: _load(request, model), done=str)

    def _unload(self, request: HttpRequest, model: ModelRegistry) -> None:
        done = f"{model} is not in memory any more."
        with_sentence(request, lambda: unload(model, pool=pool_of(request)), done=done)


def _with_presence(fields: Sequence[str]) -> tuple[str, ...]:
    """Before the work that goes on with it."""
    at = fields.index("progress")
    return *fields[:at], "presence", *fields[at:]


def _load(request: HttpRequest, model: ModelRegistry) -> str:
    """Waits as long as somebody looks at a page that does nothing; the load goes on by itself."""
    try:
        load(model, pool=pool_of(request), wait_seconds=_PATIENT_SECONDS)
    except TimeoutError:
        return f"{model} is being loaded."
    return f"{model} is loaded."
