"""The Settings page: a card per cache from the newest snapshots, and the buttons that touch drives."""

import re

from django.conf import settings
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from cachemgr import history, monitor
from cachemgr.cards import PERIODS, Card, make_card
from cachemgr.models import Cache
from cachemgr.stats import cache_lines, name_of, newest_events

_LISTED_EVENTS = 8
_KEY = re.compile(r"[0-9]{1,18}")


@require_http_methods(["GET", "POST"])
def settings_page(request: HttpRequest) -> HttpResponse:
    """GET shows the figures; POST is one of the buttons Refresh Cache Stats, Create Folder and Use This Drive."""
    if request.method == "POST":
        if request.POST.get("action") in {"create", "replace"}:
            _adopt(request)
        else:
            monitor.measure_caches(limit_seconds=monitor.REFRESH_SECONDS)
            messages.success(request, "The caches were measured just now.")
        return redirect("settings-page")
    period = request.GET.get("period", "")
    period = period if period in PERIODS else "day"
    context = {
        **admin.site.each_context(request),
        "title": "Settings",
        "cards": _cards(period),
        "periods": [(name, words, name == period) for name, (words, _) in PERIODS.items()],
        "period_words": PERIODS[period][0],
        "events": newest_events(limit=_LISTED_EVENTS),
        "threshold_percent": settings.CACHE_WARNING_THRESHOLD * 100,
        "interval_seconds": settings.CACHE_MONITOR_INTERVAL_SECONDS,
        "configuration": _configuration(),
    }
    return TemplateResponse(request, "cachemgr/settings.html", context)


def _adopt(request: HttpRequest) -> None:
    """Create Folder and Use This Drive: the owner's word for what the monitor does not dare by itself."""
    key = request.POST.get("cache", "")
    cache = get_object_or_404(Cache, pk=int(key) if _KEY.fullmatch(key) else None)
    action = request.POST["action"]
    snapshot = monitor.adopt_cache(cache, create=action == "create", replace=action == "replace")
    if snapshot.state == "ok":
        messages.success(request, f"The {name_of(cache)} cache uses {cache.path} from now on.")
    else:
        messages.error(request, snapshot.message)


def _cards(period: str) -> list[Card]:
    until = timezone.now()
    since = until - PERIODS[period][1]
    return [
        make_card(line, history=history.points(line.cache, since=since), since=since, until=until)
        for line in cache_lines()
    ]


def _configuration() -> list[tuple[str, str]]:
    """What counts now. Change it in `.env` and start again."""
    return [
        ("PRIMARY_CACHE_PATH", str(settings.PRIMARY_CACHE_PATH)),
        ("PRIMARY_CACHE_LIMIT_GB", f"{settings.PRIMARY_CACHE_LIMIT_BYTES / 10**9:g}"),
        ("SECONDARY_CACHE_PATH", str(settings.SECONDARY_CACHE_PATH)),
        ("SECONDARY_CACHE_LIMIT_GB", f"{settings.SECONDARY_CACHE_LIMIT_BYTES / 10**9:g}"),
        ("CACHE_WARNING_THRESHOLD", f"{settings.CACHE_WARNING_THRESHOLD:g}"),
        ("CACHE_MONITOR_INTERVAL_SECONDS", str(settings.CACHE_MONITOR_INTERVAL_SECONDS)),
        ("DISK_RESERVE_GB", f"{settings.DISK_RESERVE_BYTES / 10**9:g}"),
        ("DATA_DIR", str(settings.DATA_DIR)),
        ("HF_ENDPOINT", settings.HF_ENDPOINT),
    ]
