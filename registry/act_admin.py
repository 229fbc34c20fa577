"""The admin's doors to what can be done to models: the list's actions, and the page of an act, which shows its plan."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path

from cachemgr.models import Cache
from homelab.admin import AuditedAdmin
from registry import act_page, act_plans, removal_page
from registry.act_page import with_sentence
from registry.acts import Act
from registry.models import ModelRegistry

_KEY = re.compile(r"[0-9]{1,18}")
_ACTS: dict[str, Callable[[], Act]] = {
    "download": act_plans.download,
    "verify": act_plans.verify,
    "repair": act_plans.repair,
    "pin": partial(act_plans.pin, is_pinned=True),
    "unpin": partial(act_plans.pin, is_pinned=False),
}


class ActingAdmin(AuditedAdmin):
    actions: tuple[str, ...] = (
        "move_to_primary",
        "move_to_secondary",
        "download_selected",
        "verify_selected",
        "pin_selected",
        "unpin_selected",
        "remove_selected",
    )

    def get_urls(self) -> Any:
        acts = path("act/<slug:name>/", self.admin_site.admin_view(self.act_view), name="registry_modelregistry_act")
        return [acts, *super().get_urls()]

    def find_act(self, request: HttpRequest, name: str, models: Sequence[ModelRegistry]) -> Act | None:
        """None for an unknown name."""
        if name == "move":
            to = request.GET.get("to") or act_plans.other_place(models[0])
            return act_plans.move_to(to, path=request.GET.get("path", ""), query=_name(models))
        return _ACTS[name]() if name in _ACTS else None

    def act_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """`?model=` names them, by key. GET is the plan, POST does it."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        keys = [key for key in request.GET.getlist("model") if _KEY.fullmatch(key)]
        models = list(self.get_queryset(request).filter(pk__in=keys))
        if not models:
            raise Http404("None of these models is there any more.")
        context = self.admin_site.each_context(request) | {"opts": self.opts}
        return self._ask_or_do(request, name, models, context=context) or self._leave(request, models)

    def _ask_or_do(
        self, request: HttpRequest, name: str, models: Sequence[ModelRegistry], *, context: dict[str, Any]
    ) -> HttpResponse | None:
        if name == "remove":
            context |= {"back": act_page.page_of(models), "is_bulk": False}
            return removal_page.ask_or_remove(request, models, context=context)
        act = self.find_act(request, name, models)
        if act is None:
            raise Http404(f"Nothing is called {name} here.")
        return act_page.ask_or_do(request, act, models, context=context)

    def _leave(self, request: HttpRequest, models: Sequence[ModelRegistry]) -> HttpResponse:
        """To the model's page, or to the list; a part of another page gets the sentences alone."""
        if act_page.is_part(request):
            return TemplateResponse(request, "registry/act_done.html", {}, headers={"HX-Trigger": "hl-done"})
        left = [model for model in models if ModelRegistry.objects.filter(pk=model.pk).exists()]
        return redirect(act_page.page_of(left))

    def _begin_move(self, request: HttpRequest, models: Sequence[ModelRegistry], *, to: str) -> HttpResponse | None:
        """As `act_view`, of the rows that are ticked in the list."""
        context = self.admin_site.each_context(request) | {"opts": self.opts}
        return act_page.ask_or_do(request, act_plans.move_to(to, query=_name(models)), models, context=context)

    @admin.action(description="Move to the primary cache", permissions=["change"])
    def move_to_primary(self, request: HttpRequest, queryset: QuerySet[ModelRegistry]) -> HttpResponse | None:
        return self._begin_move(request, list(queryset), to=Cache.Location.PRIMARY.value)

    @admin.action(description="Move to the secondary cache", permissions=["change"])
    def move_to_secondary(self, request: HttpRequest, queryset: QuerySet[ModelRegistry]) -> HttpResponse | None:
        return self._begin_move(request, list(queryset), to=Cache.Location.SECONDARY.value)

    @admin.action(description="Verify: read all files again", permissions=["change"])
    def verify_selected(self, request: HttpRequest, queryset: QuerySet[ModelRegistry]) -> None:
        self.do_at_once(request, queryset, act=act_plans.verify())

    @admin.action(description="Download", permissions=["change"])
    def download_selected(self, request: HttpRequest, queryset: QuerySet[ModelRegistry]) -> None:
        self.do_at_once(request, queryset, act=act_plans.download())

    @admin.action(description="Pin", permissions=["change"])
    def pin_selected(self, request: HttpRequest, queryset: QuerySet[ModelRegistry]) -> None:
        self.do_at_once(request, queryset, act=act_plans.pin(is_pinned=True))

    @admin.action(description="Unpin", permissions=["change"])
    def unpin_selected(self, request: HttpRequest, queryset: QuerySet[ModelRegistry]) -> None:
        self.do_at_once(request, queryset, act=act_plans.pin(is_pinned=False))

    @admin.action(description="Remove (asks what becomes of the files)", permissions=["change"])
    def remove_selected(self, request: HttpRequest, queryset: QuerySet[ModelRegistry]) -> HttpResponse | None:
        context = self.admin_site.each_context(request) | {"back": request.get_full_path(), "is_bulk": True}
        return removal_page.ask_or_remove(request, list(queryset), context=context)

    def do_at_once(self, request: HttpRequest, queryset: QuerySet[ModelRegistry], *, act: Act) -> None:
        """What is undone as easily needs no question."""
        for model in queryset:
            with_sentence(request, lambda model=model: act.do(model), done=str)


def _name(models: Sequence[ModelRegistry]) -> str:
    """What an act's page is asked for them."""
    return urlencode([("model", model.pk) for model in models])
