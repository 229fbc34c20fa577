"""Load and Unload beside the registry's buttons. The registry cannot know them: it lies below."""

from asgiref.sync import async_to_sync
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.decorators import action

from inference.services import pool_of
from inference.usage_admin import UsedModelAdmin
from registry.admin import with_sentence
from registry.models import ModelRegistry

admin.site.unregister(ModelRegistry)


@admin.register(ModelRegistry)
class ServedModelAdmin(UsedModelAdmin):
    actions = (*UsedModelAdmin.actions, "load_selected", "unload_selected")
    actions_submit_line = (*UsedModelAdmin.actions_submit_line, "load_now", "unload_now")

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
        load = async_to_sync(lambda: pool_of(request).load(model.model_name))
        with_sentence(request, load, done=f"{model} is loaded.")

    def _unload(self, request: HttpRequest, model: ModelRegistry) -> None:
        unload = async_to_sync(lambda: pool_of(request).unload(model.model_name))
        with_sentence(request, unload, done=f"{model} is not in memory any more.")
