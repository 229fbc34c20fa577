"""Load and Unload beside what the registry can do to models. The registry cannot know them: it lies below."""

from collections.abc import Sequence

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display

from inference.load_acts import load_act, unload_act
from inference.usage_admin import UsedModelAdmin
from registry.acts import Act
from registry.models import ModelRegistry

admin.site.unregister(ModelRegistry)


@admin.register(ModelRegistry)
class ServedModelAdmin(UsedModelAdmin):
    actions = (*UsedModelAdmin.actions, "load_selected", "unload_selected")
    list_display = (
        "model_name",
        "hf_path",
        "location",
        "size",
        "state",
        "presence",
        "last_used",
        "uses",
        "pin",
    )

    def find_act(self, request: HttpRequest, name: str, models: Sequence[ModelRegistry]) -> Act | None:
        if name in {"load", "unload"}:
            return load_act(request, is_patient=len(models) == 1) if name == "load" else unload_act(request)
        return super().find_act(request, name, models)

    @display(description="In memory")
    def presence(self, obj: ModelRegistry) -> SafeString:
        """live.js fills it in, and keeps it up to date."""
        return format_html('<span class="hl-presence" data-model="{}"></span>', obj.model_name)

    @admin.action(description="Load", permissions=["change"])
    def load_selected(self, request: HttpRequest, queryset: QuerySet[ModelRegistry]) -> None:
        self.do_at_once(request, queryset, act=load_act(request, is_patient=queryset.count() == 1))

    @admin.action(description="Unload", permissions=["change"])
    def unload_selected(self, request: HttpRequest, queryset: QuerySet[ModelRegistry]) -> None:
        self.do_at_once(request, queryset, act=unload_act(request))
