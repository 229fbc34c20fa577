"""The admin's pages of models, with what only who stands above all apps can show: the welcome, the outlook of a
registration, and all that is known of a model."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path

from inference.admin import ServedModelAdmin
from registry.models import ModelRegistry
from web.model_files import read_files
from web.model_page import read_page
from web.register_facts import register_facts
from web.welcome import greet

_ONE_SAVE = {"show_save_and_add_another": False, "show_save_and_continue": False}
"""Who saves a model stays on its page."""

admin.site.unregister(ModelRegistry)


@admin.register(ModelRegistry)
class ModelPagesAdmin(ServedModelAdmin):
    class Media:
        css = {"all": ("web/models.css",)}

    def get_urls(self) -> Any:
        view = self.admin_site.admin_view
        return [
            path("add/facts/", view(register_facts), name="registry_modelregistry_facts"),
            path("<int:key>/files/", view(self.files_view), name="registry_modelregistry_files"),
            *super().get_urls(),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        response: HttpResponse = super().changelist_view(request, {"welcome": greet(), **(extra_context or {})})
        return response

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        model = self.get_object(request, object_id)
        page = read_page(model) if isinstance(model, ModelRegistry) else None
        shown = _ONE_SAVE | {"page": page} | (extra_context or {})
        response: HttpResponse = super().change_view(request, object_id, form_url, shown)
        return response

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        response: HttpResponse = super().add_view(request, form_url, _ONE_SAVE | (extra_context or {}))
        return response

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        super().response_change(request, obj)  # says what was done
        return redirect("admin:registry_modelregistry_change", obj.pk)

    def files_view(self, request: HttpRequest, key: int) -> HttpResponse:
        """A part of a model's page: its files, as they lie there now."""
        model = get_object_or_404(ModelRegistry, pk=key)
        if not self.has_view_permission(request, model):
            raise PermissionDenied
        return TemplateResponse(request, "web/model_files.html", {"files": read_files(model)})
