"""Home: the state of the box on one screen, which follows by itself, and a button to take a model out of memory."""

from hashlib import sha256
from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.views.decorators.http import require_http_methods, require_safe

from homelab.errors import HomelabError
from inference.errors import ModelBusy, NoPool
from inference.services import list_presences, pool_of, unload
from registry.act_page import is_part
from registry.services import get_model
from web.box import look
from web.parts import Notice, unchanged
from web.rights import may_change, may_register, refuse_onlookers


@require_http_methods(["GET", "POST"])
def home_page(request: HttpRequest) -> HttpResponse:
    """GET shows the box; POST takes a model out of memory, by force where `force` says so."""
    if request.method == "POST":
        return _act(request)
    context = {**admin.site.each_context(request), "title": "Home", "live": _live(request)}
    return TemplateResponse(request, "web/home.html", context)


@require_safe
def home_live(request: HttpRequest) -> HttpResponse:
    """What changes. 204 where the page shows it already: `seen` is the stamp of what it shows."""
    live = _live(request)
    if request.GET.get("seen") == live["stamp"]:
        return unchanged()
    return TemplateResponse(request, "web/home_live.html", {"live": live})


def _live(request: HttpRequest) -> dict[str, Any]:
    try:
        in_memory = list_presences(pool_of(request))
    except NoPool:
        in_memory = None
    rights = {"may_change": may_change(request), "may_register": may_register(request)}
    html = render_to_string("web/box.html", {"box": look(in_memory=in_memory), **rights})
    return {"html": html, "stamp": sha256(html.encode()).hexdigest()[:16]}


def _act(request: HttpRequest) -> HttpResponse:
    refuse_onlookers(request)
    notice, busy = _unload(request)
    if is_part(request):
        context = {"live": _live(request), "notice": notice, "busy": busy}
        return TemplateResponse(request, "web/home_live.html", context)
    messages.add_message(request, notice.level, notice.words)
    return redirect("home")


def _unload(request: HttpRequest) -> tuple[Notice, str]:
    """What came of it, and the name of the model where it would go by force."""
    name = request.POST.get("model", "")
    try:
        model = get_model(name)
        was_loaded = unload(model, pool=pool_of(request), by_force=request.POST.get("force") == "yes")
    except ModelBusy as error:
        return Notice(error.message, messages.WARNING), name
    except HomelabError as error:
        return Notice(error.message, messages.ERROR), ""
    return Notice(f"{model} has left memory." if was_loaded else f"{model} was not in memory."), ""
