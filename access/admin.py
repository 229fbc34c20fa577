"""The admin of API keys. A key is shown once, in the answer to the form that made it, and is kept nowhere."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from rest_framework_api_key.models import APIKey as LibrarysKey
from unfold.decorators import display

from access import services
from access.models import ApiKey
from homelab.admin import AuditedAdmin
from homelab.errors import HomelabError

_COLORS = {"valid": "success", "expired": "warning", "revoked": "danger"}
_FACTS = ("prefix", "scope", "state_label", "created", "last_used_at")

admin.site.unregister(LibrarysKey)


@admin.register(ApiKey)
class ApiKeyAdmin(AuditedAdmin):
    list_display = ("name", "prefix", "scope", "state_label", "created", "expiry_date", "last_used_at")
    list_filter = ("scope", "revoked")
    search_fields = ("name", "prefix")
    actions = ("rotate_selected", "revoke_selected")

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        return ("name", "scope", "expiry_date") if obj is None else ("name", "expiry_date", *_FACTS)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        if obj is None:
            return ()
        return _FACTS if obj.state == "valid" else ("name", "expiry_date", *_FACTS)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """A key is revoked, and its row stays: the history names it."""
        return False

    @display(description="State", label=_COLORS)
    def state_label(self, obj: ApiKey) -> str:
        return obj.state

    # Made, and shown once

    def save_model(self, request: HttpRequest, obj: ApiKey, form: ModelForm[ApiKey], change: bool) -> None:  # noqa: FBT001
        if change:
            services.change(obj, fields=form.changed_data)
        else:
            obj.text = services.keep(obj)  # type: ignore[attr-defined]

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        return self._show(request, [(obj, obj.text)])

    @admin.action(description="Rotate: a new key, the old one is revoked", permissions=["change"])
    def rotate_selected(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> HttpResponse | None:
        made = []
        for key in queryset:
            try:
                made.append(services.rotate(key))
            except HomelabError as error:
                messages.error(request, error.message)
        return self._show(request, made) if made else None

    @admin.action(description="Revoke", permissions=["change"])
    def revoke_selected(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for key in queryset:
            services.revoke(key)
            messages.success(request, f"{key.name} ({key.prefix}) is revoked and opens nothing any more.")

    def _show(self, request: HttpRequest, made: list[tuple[ApiKey, str]]) -> HttpResponse:
        shown = {"title": "New API key" if len(made) == 1 else "New API keys", "made": made}
        return TemplateResponse(request, "access/new_keys.html", self.admin_site.each_context(request) | shown)
