"""Who may do more than look, on the pages that are not the admin's own: what counts there counts here."""

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from registry.models import ModelRegistry


def may_change(request: HttpRequest) -> bool:
    return bool(admin.site.get_model_admin(ModelRegistry).has_change_permission(request))


def may_register(request: HttpRequest) -> bool:
    return bool(admin.site.get_model_admin(ModelRegistry).has_add_permission(request))


def refuse_onlookers(request: HttpRequest) -> None:
    """Raises PermissionDenied for an account that may only look."""
    if not may_change(request):
        raise PermissionDenied
