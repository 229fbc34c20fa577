"""The Clean Up page: what nobody needs, class by class, and a button for what is ticked. The drives are asked anew."""

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.views.decorators.http import require_http_methods

from cachemgr.cleaning import CLASSES, CleanPlan, plan_clean
from cachemgr.units import format_bytes
from homelab.errors import InvalidValue
from web.rights import may_change, refuse_onlookers


@require_http_methods(["GET", "POST"])
def clean_page(request: HttpRequest) -> HttpResponse:
    """GET shows everything; POST removes the ticked classes for good."""
    if request.method == "POST":
        _clean(request, request.POST.getlist("classes"))
        return redirect("clean-page")
    context = admin.site.each_context(request) | {
        "title": "Clean up",
        "plan": plan_clean(),
        "titles": CLASSES.items(),
        "may_change": may_change(request),
    }
    return TemplateResponse(request, "web/clean.html", context)


def _clean(request: HttpRequest, names: list[str]) -> None:
    refuse_onlookers(request)
    if not names:
        return messages.warning(request, "Nothing was ticked, so nothing was removed.")
    try:
        done = plan_clean(names).execute()
    except InvalidValue as error:
        return messages.error(request, error.message)
    messages.success(request, _outcome(done))


def _outcome(done: CleanPlan) -> str:
    busy = [folder for each in done.caches for folder in each.busy]
    in_use = f" In use, and left alone: {', '.join(busy)}." if busy else ""
    return f"{done.count} things are gone, and {format_bytes(done.freed_bytes)} are free again.{in_use}"
