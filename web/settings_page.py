"""The Settings page: a card per cache from the newest snapshots, buttons that touch drives, and the configuration."""

import re
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from cachemgr import history, monitor, stats
from cachemgr.models import Cache
from cachemgr.stats import cache_lines, name_of, newest_events
from inference.errors import NoPool
from inference.services import list_presences, pool_of
from registry.act_page import is_part
from web.cards import PERIODS, Card, Past, held_models, make_card
from web.configuration import env_file, list_configuration
from web.diagnostics import write_report
from web.parts import Notice, unchanged
from web.rights import may_change, refuse_onlookers

_LISTED_EVENTS = 8
_KEY = re.compile(r"[0-9]{1,18}")


@require_http_methods(["GET", "POST"])
def settings_page(request: HttpRequest) -> HttpResponse:
    """GET shows the figures; POST is one of the buttons Refresh Cache Stats, Create Folder and Use This Drive."""
    if request.method == "POST":
        return _act(request)
    context = {
        **admin.site.each_context(request),
        **_live_context(request),
        "title": "Settings",
        "interval_seconds": settings.CACHE_MONITOR_INTERVAL_SECONDS,
        "configuration": list_configuration(),
        "env_file": env_file(),
    }
    return TemplateResponse(request, "web/settings.html", context)


@require_safe
def settings_live(request: HttpRequest) -> HttpResponse:
    """The part of the page that changes. 204 where it shows already what there is: `seen` is its stamp."""
    if request.GET.get("seen") == stats.stamp():
        return unchanged()
    return TemplateResponse(request, "web/settings_live.html", _live_context(request))


@require_safe
def diagnostics(request: HttpRequest) -> HttpResponse:
    """The report as text. No secret is in it."""
    try:
        presences = list_presences(pool_of(request))
    except NoPool:
        presences = None
    return HttpResponse(write_report(presences=presences), content_type="text/plain; charset=utf-8")


# Buttons


def _act(request: HttpRequest) -> HttpResponse:
    notice = _adopt(request) if request.POST.get("action") in {"create", "replace"} else _refresh()
    if is_part(request):
        context = {**_live_context(request), "notice": notice}
        return TemplateResponse(request, "web/settings_live.html", context)
    messages.add_message(request, notice.level, notice.words)
    return redirect("settings-page")


def _refresh() -> Notice:
    measured = monitor.measure_caches(limit_seconds=monitor.REFRESH_SECONDS)
    silent = [name_of(snapshot.cache) for snapshot in measured if snapshot.state == "unresponsive"]
    if not silent:
        return Notice("The caches were measured just now.")
    words = f"No answer within {monitor.REFRESH_SECONDS:.0f} s from {' and '.join(silent)}: its figures are older."
    return Notice(words, messages.WARNING)


def _adopt(request: HttpRequest) -> Notice:
    """Create Folder and Use This Drive: the owner's word for what the monitor does not dare by itself."""
    refuse_onlookers(request)
    key = request.POST.get("cache", "")
    cache = get_object_or_404(Cache, pk=int(key) if _KEY.fullmatch(key) else None)
    action = request.POST["action"]
    snapshot = monitor.adopt_cache(cache, create=action == "create", replace=action == "replace")
    if snapshot.state != "ok":
        return Notice(snapshot.message, messages.ERROR)
    return Notice(f"The {name_of(cache)} cache uses {cache.path} from now on.")


# What is shown


def _live_context(request: HttpRequest) -> dict[str, Any]:
    asked = request.GET.get("period") or request.POST.get("period", "")
    period = asked if asked in PERIODS else "day"
    threshold = settings.CACHE_WARNING_THRESHOLD
    return {
        "stamp": stats.stamp(),
        "cards": _cards(period, threshold=threshold),
        "period": period,
        "periods": [(name, words, name == period) for name, (words, _) in PERIODS.items()],
        "period_words": PERIODS[period][0],
        "events": newest_events(limit=_LISTED_EVENTS),
        "threshold_percent": threshold * 100,
        "may_change": may_change(request),
    }


def _cards(period: str, *, threshold: float) -> list[Card]:
    until = timezone.now()
    since = until - PERIODS[period][1]
    lines = cache_lines()
    caches = [line.cache for line in lines]
    pasts, models = history.samples(caches, since=since, until=until), held_models(caches)
    return [
        make_card(
            line,
            models=models[line.cache.pk],
            past=Past(pasts[line.cache.pk], since, until),
            threshold=threshold,
        )
        for line in lines
    ]
